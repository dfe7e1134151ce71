//! A blocking connection that can send several queries in one round trip: tokio-postgres, driven by the calling thread.
//!
//! Between calls nothing moves; messages that the server sent meanwhile are read with the next query.

use std::fmt::{Debug, Formatter};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::error::DbError;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Config, Error, Row, SimpleQueryMessage, Statement, ToStatement};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::batch::BoundStatements;

/// The values of a statement.
pub(super) type SqlParams<'a> = [&'a (dyn ToSql + Sync)];

/// The rows of several queries, or the first error.
type Answers = Result<Vec<Vec<Row>>, Error>;

/// Messages that the server sends by itself, or the end of the connection.
type Said = Box<dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, Error>>> + Send>;

/// A blocking connection.
pub(super) struct Client {
    client: tokio_postgres::Client,
    connection: Said,
    notice: Box<dyn Fn(DbError) + Send>,
    /// Present until the drop.
    runtime: Option<Runtime>,
}

impl Drop for Client {
    fn drop(&mut self) {
        // A runtime must not be dropped where nothing may block, such as at the end of a task.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Debug for Client {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Connects; `notice` receives the server's notices. An error of the runtime is the outer one.
    pub(super) fn connect(
        config: &Config,
        tls: MakeRustlsConnect,
        notice: impl Fn(DbError) + Send + 'static,
    ) -> std::io::Result<Result<Client, Error>> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let connected = runtime.block_on(config.connect(tls));
        Ok(connected.map(|(client, mut connection)| Client {
            client,
            connection: Box::new(move |cx| connection.poll_message(cx)),
            notice: Box::new(notice),
            runtime: Some(runtime),
        }))
    }

    /// Drives the connection until there is an answer.
    fn wait<'c, T, F>(&'c mut self, ask: impl FnOnce(&'c tokio_postgres::Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let (connection, notice) = (&mut self.connection, &self.notice);
        let mut answer = pin!(ask(&self.client));
        let runtime = self.runtime.as_ref().expect("a runtime until the end");
        runtime.block_on(poll_fn(|cx| {
            loop {
                match connection(cx) {
                    Poll::Ready(Some(Ok(AsyncMessage::Notice(said)))) => notice(said),
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) | Poll::Pending => break,
                }
            }
            answer.as_mut().poll(cx)
        }))
    }

    pub(super) fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.wait(|client| client.prepare(sql))
    }

    pub(super) fn prepare_typed(&mut self, sql: &str, types: &[Type]) -> Result<Statement, Error> {
        self.wait(|client| client.prepare_typed(sql, types))
    }

    pub(super) fn query(&mut self, of: &Statement, params: &SqlParams<'_>) -> Result<Vec<Row>, Error> {
        self.wait(|client| client.query(of, params))
    }

    pub(super) fn query_one(
        &mut self,
        sql: &(impl ToStatement + ?Sized),
        params: &SqlParams<'_>,
    ) -> Result<Row, Error> {
        self.wait(|client| client.query_one(sql, params))
    }

    pub(super) fn execute(&mut self, sql: &str, params: &SqlParams<'_>) -> Result<u64, Error> {
        self.wait(|client| client.execute(sql, params))
    }

    pub(super) fn batch_execute(&mut self, sql: &str) -> Result<(), Error> {
        self.wait(|client| client.batch_execute(sql))
    }

    pub(super) fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        self.wait(|client| client.simple_query(sql))
    }

    /// Runs statements in their order, in one round trip; returns the number of rows that each changed. The first error
    /// is returned, since all later ones follow from it.
    pub(super) fn execute_all(&mut self, all: &BoundStatements<'_>) -> Result<Vec<u64>, Error> {
        self.wait(|client| async move {
            let each = all.iter().map(|(statement, params)| client.execute(statement, params));
            join_all(each).await.into_iter().collect()
        })
    }

    /// Sends `first`, and then the queries for rows, in one round trip.
    pub(super) fn query_all(
        &mut self,
        first: Option<&str>,
        all: &BoundStatements<'_>,
    ) -> Result<(Vec<SimpleQueryMessage>, Answers), Error> {
        self.wait(|client| async move {
            let first = async {
                match first {
                    Some(sql) => client.simple_query(sql).await,
                    None => Ok(vec![]),
                }
            };
            let each = all.iter().map(|(statement, params)| client.query(statement, params));
            let (first, rows) = tokio::join!(biased; first, join_all(each));
            Ok((first?, rows.into_iter().collect()))
        })
    }

    /// Whether the server answers within this time.
    pub(super) fn answers(&mut self, within: Duration) -> bool {
        self.wait(|client| async move {
            Ok(tokio::time::timeout(within, client.simple_query("")).await.is_ok_and(|answer| answer.is_ok()))
        })
        .unwrap_or(false)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}
