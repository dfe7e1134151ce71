//! Readers of the PostgreSQL store: connections of their own, on which the server allows no writes.

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::Statement;
use tokio_postgres::types::{ToSql, Type as Oid};

use super::cells::{PgCell, cells, failure};
use super::client::Client;
use super::connect;
use crate::rows::{Type, Value};
use crate::store::{Reader, StoreError};
use base::clock;
use base::secret::Secret;
use base::units::Nanos;

/// Prepared statements that a connection keeps: the filters of lists make many.
const STATEMENTS: usize = 256;

/// The time that a server has to show that it is alive.
const ASK: Duration = Duration::from_secs(1);

/// A reader's connection.
pub struct PostgresReader {
    client: Client,
    prepared: HashMap<(String, Vec<Oid>), Statement>,
    within: bool,
    limit: Option<Duration>,
    /// When the last view began, and how long it was open.
    began: Nanos,
    took: Duration,
}

impl PostgresReader {
    /// Opens a connection.
    pub fn open(url: &str, password: Option<&Secret>) -> Result<Box<dyn Reader>, StoreError> {
        let client = connect::reader(url, password)?;
        let (began, took) = (Nanos(0), Duration::ZERO);
        Ok(Box::new(PostgresReader { client, prepared: HashMap::new(), within: false, limit: None, began, took }))
    }

    fn statement(&mut self, sql: &str, types: Vec<Oid>) -> Result<Statement, StoreError> {
        let key = (sql.to_owned(), types);
        if let Some(known) = self.prepared.get(&key) {
            return Ok(known.clone());
        }
        let made = self.client.prepare_typed(sql, &key.1).map_err(|e| failure(&e))?;
        if self.prepared.len() >= STATEMENTS {
            self.prepared.clear();
        }
        self.prepared.insert(key, made.clone());
        Ok(made)
    }
}

impl Reader for PostgresReader {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        let oid = |value: &Value| match value {
            Value::Null => Oid::UNKNOWN,
            Value::Int(_) => Oid::INT8,
            Value::Text(_) => Oid::TEXT,
            Value::Blob(_) => Oid::BYTEA,
        };
        let statement = self.statement(sql, values.iter().map(oid).collect())?;
        if statement.columns().len() != types.len() {
            return Err(StoreError::Row(format!("{} columns instead of {}", statement.columns().len(), types.len())));
        }
        let bound: Vec<PgCell<'_>> = values.iter().map(PgCell::from).collect();
        let bound: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|cell| cell as _).collect();
        let found = self.client.query(&statement, &bound).map_err(|e| failure(&e))?;
        found.iter().map(cells).collect()
    }

    fn points(&mut self) -> Result<(), StoreError> {
        self.client.batch_execute(connect::POINTS).map_err(|e| failure(&e))
    }

    fn limit(&mut self, at_most: Duration) -> Result<(), StoreError> {
        if self.limit != Some(at_most) {
            // Planned for the values at hand, so that rare values are found by their index, however common the others
            // are.
            let sql =
                format!("SET statement_timeout = {}; SET plan_cache_mode = force_custom_plan", at_most.as_millis());
            self.client.batch_execute(&sql).map_err(|e| failure(&e))?;
            self.limit = Some(at_most);
        }
        Ok(())
    }

    fn lives(&mut self) -> bool {
        self.client.answers(ASK)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.end();
        // The view begins with the first read.
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";
        self.client.batch_execute(begin).map_err(|e| failure(&e))?;
        (self.within, self.began) = (true, clock::now());
        Ok(())
    }

    /// The server's process cannot lower its own priority, so the reader rests for as long as it worked.
    fn pause(&mut self) {
        std::thread::sleep(self.took);
    }

    fn end(&mut self) {
        self.took = clock::now().since(self.began);
        if std::mem::take(&mut self.within)
            && let Err(e) = self.client.batch_execute("COMMIT")
        {
            log::debug!("ledger: a reader's view could not be ended: {}", failure(&e));
        }
    }
}
