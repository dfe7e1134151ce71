//! The books in PostgreSQL (15 or newer).
//!
//! One connection writes, by one statement for each table. A batch takes three round trips: begin and load, write, and
//! the commit, which waits until the others have succeeded.
//!
//! The writer holds an advisory lock (one ledger for each database) and the **epoch**: a number that each takeover
//! raises and each transaction names. The server disconnects a frozen process after ten seconds, which frees its lock;
//! when the process wakes, its next call fails with [`StoreError::Lost`]. Ties: of two updates, or balances, of one row
//! in one call the later one counts, and only that one is sent. A failed statement spoils its whole transaction, so
//! callbacks are kept apart by [`Grouping::Whole`]. A commit without an answer, or with a warning, is lost: its rows
//! may be there or not.

mod batch;
mod cells;
mod client;
mod connect;
mod erase;
mod indexes;
mod operator;
mod reader;
mod statements;
mod tls;

use std::collections::HashMap;
use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, SimpleQueryMessage, Statement};
use uuid::Uuid;

use super::sql;
use super::{Changes, Grouping, Heads, Loaded, Store, StoreError, Wanted};
use crate::rows::{Anomaly, Delivery, Outgoing, Typed, Value, Wrap};
use base::clock;
use base::secret::Secret;
use base::units::Nanos;
use batch::{Batch, BoundStatements, Columns};
use cells::{PgCell, cells, failure};
use client::Client;
use connect::Warnings;
use statements::PgStatements;

pub use erase::erase;
pub use operator::PostgresOperator;
pub use reader::PostgresReader;

/// Time between two checks that the server keeps what it commits.
const ASK: Duration = Duration::from_secs(1);

/// A writer's connection.
pub struct Postgres {
    session: Session,
    statements: PgStatements,
    warnings: Warnings,
    begin: String,
    ours: String,
    within: bool,
    /// When the next check is due that the server keeps what it commits.
    ask_at: Nanos,
}

/// A connection and its prepared statements.
struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
    /// A statement failed, so the transaction can only be rolled back. A COMMIT would do just that, without an error.
    failed: bool,
    /// The statement that begins the transaction, until it is sent.
    unbegun: Option<String>,
}

impl Session {
    fn statement(&mut self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let made = self.client.prepare(sql)?;
        self.prepared.insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    /// Remembers that the transaction is spoilt.
    fn heed<T>(&mut self, answer: Result<T, tokio_postgres::Error>) -> Result<T, StoreError> {
        self.failed |= answer.is_err();
        answer.map_err(|e| failure(&e))
    }

    /// Checks that the transaction has begun under the writer's epoch.
    fn begun(&mut self, answers: &[SimpleQueryMessage]) -> Result<(), StoreError> {
        if connect::is_ours(answers) {
            return Ok(());
        }
        self.failed = true;
        Err(StoreError::Lost(connect::TAKEN_OVER.into()))
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        let Some(sql) = self.unbegun.take() else { return Ok(()) };
        let answer = self.client.simple_query(&sql);
        let answers = self.heed(answer)?;
        self.begun(&answers)
    }

    fn query(&mut self, sql: &str, columns: &Columns<'_>) -> Result<Vec<Row>, StoreError> {
        self.begin()?;
        let answer = self.statement(sql).and_then(|statement| self.client.query(&statement, &params(columns)));
        self.heed(answer)
    }

    fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, StoreError> {
        self.begin()?;
        let answer = self.client.simple_query(sql);
        self.heed(answer)
    }

    fn bound<'a>(&mut self, batch: &'a Batch<'_>) -> Result<BoundStatements<'a>, StoreError> {
        let bound = batch.iter().map(|(sql, columns)| Ok((self.statement(sql)?, params(columns))));
        let bound = bound.collect();
        self.heed(bound)
    }

    /// Runs all queries at once, after beginning the transaction if that is pending.
    fn query_all(&mut self, batch: &Batch<'_>) -> Result<Vec<Vec<Row>>, StoreError> {
        let bound = self.bound(batch)?;
        let begin = self.unbegun.take();
        let answer = self.client.query_all(begin.as_deref(), &bound);
        let (answers, rows) = self.heed(answer)?;
        if begin.is_some() {
            self.begun(&answers)?;
        }
        self.heed(rows)
    }

    /// Runs all statements at once; returns the number of rows that each changed.
    fn execute_all(&mut self, batch: &Batch<'_>) -> Result<Vec<u64>, StoreError> {
        self.begin()?;
        let bound = self.bound(batch)?;
        let answer = self.client.execute_all(&bound);
        self.heed(answer)
    }

    fn select<T: Typed>(&mut self, sql: &str, asked: Columns<'_>, found: &mut Vec<T>) -> Result<(), StoreError> {
        if asked.first().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        read(&self.query(sql, &asked)?, found)
    }
}

fn read<T: Typed>(rows: &[Row], found: &mut Vec<T>) -> Result<(), StoreError> {
    for row in rows {
        found.push(sql::typed(cells(row)?)?);
    }
    Ok(())
}

fn params<'a>(columns: &'a Columns<'_>) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as _).collect()
}

fn text(cell: Option<Value>) -> Option<String> {
    if let Some(Value::Text(text)) = cell { Some(text) } else { None }
}

impl Postgres {
    /// Opens the database; `None` while another process holds the lock. A large database of an older ledger is brought
    /// up to date only if there is `time`.
    pub fn open(url: &str, password: Option<&Secret>, time: bool) -> Result<Option<Box<dyn Store>>, StoreError> {
        let Some(opened) = connect::writer(url, password, time)? else { return Ok(None) };
        let connect::Opened { mut client, warnings, epoch } = opened;
        indexes::complete(&mut client, url, password)?;
        Ok(Some(Box::new(Postgres {
            session: Session { client, prepared: HashMap::new(), failed: false, unbegun: None },
            statements: PgStatements::new(),
            warnings,
            begin: connect::begin(epoch),
            ours: connect::ours(epoch),
            within: false,
            ask_at: Nanos(0),
        })))
    }

    /// Checks the server's settings, which follow a reload, before each second's first batch.
    fn is_durable(&mut self) -> Result<(), StoreError> {
        let now = clock::now();
        if now < self.ask_at {
            return Ok(());
        }
        self.ask_at = now.after(ASK);
        connect::durable(&self.session.simple(&connect::is_durable())?)
    }

    /// Checks that there is a transaction that can be committed.
    fn sound(&self) -> Result<(), StoreError> {
        match (self.within, self.session.failed) {
            (true, false) => Ok(()),
            (false, _) => Err(StoreError::Row("no transaction was begun".into())),
            (true, true) => Err(StoreError::Row("a statement of this transaction failed".into())),
        }
    }
}

impl Store for Postgres {
    fn grouping(&self) -> Grouping {
        Grouping::Whole
    }

    fn heads(&mut self) -> Result<Heads, StoreError> {
        let mut heads = Heads::default();
        let none = vec![];
        if let Some(row) = self.session.query(&self.statements.last_link, &none)?.first() {
            let read = row.try_get(0).and_then(|seq| Ok((seq, row.try_get(1)?)));
            (heads.seq, heads.link) = read.map_err(|e| failure(&e))?;
        }
        let time = self.session.query(&self.statements.last_time, &none)?;
        heads.recorded_at = time.first().map_or(Ok(0), |row| row.try_get(0)).map_err(|e| failure(&e))?;
        for row in self.session.query(&self.statements.balances, &none)? {
            let mut found = cells(&row)?.into_iter();
            heads.balances.push(sql::balance(std::array::from_fn(|_| text(found.next())))?);
        }
        for row in self.session.query(&self.statements.waited, &none)? {
            heads.waited.push(row.try_get(0).map_err(|e| failure(&e))?);
        }
        self.session.select(&self.statements.endpoints, none, &mut heads.endpoints)?;
        Ok(heads)
    }

    fn wraps(&mut self) -> Result<Vec<Wrap>, StoreError> {
        let wrap = |row: &Row| {
            let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?));
            let (id, by, purpose, day, wrapped) = read().map_err(|e| failure(&e))?;
            sql::wrap(id, by, purpose, day, (wrapped, row.try_get(5).map_err(|e| failure(&e))?))
        };
        self.session.query(&self.statements.wraps, &vec![])?.iter().map(wrap).collect()
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.session.failed = false;
        self.is_durable()?;
        self.within = true;
        // It is sent with the first query, or before anything else.
        self.session.unbegun = Some(self.begin.clone());
        Ok(())
    }

    fn savepoint(&mut self) -> Result<(), StoreError> {
        self.sound()?;
        self.session.simple("SAVEPOINT callback").map(drop)
    }

    fn release(&mut self, keep: bool) -> Result<(), StoreError> {
        let back = if keep { "" } else { "ROLLBACK TO callback; " };
        self.session.simple(&format!("{back}RELEASE callback"))?;
        self.session.failed &= keep;
        Ok(())
    }

    fn load(&mut self, asked: &Wanted) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let (session, statements) = (&mut self.session, &self.statements);
        let mut questions = batch::asks(statements, asked);
        let mut parts = vec![questions.len()];
        for more in [
            batch::orders(statements, asked),
            batch::refunds(statements, asked),
            batch::idempotency_keys(statements, asked),
            batch::transfers(statements, asked),
            batch::reconciliations(statements, asked),
            batch::findings(statements, asked),
        ] {
            parts.push(more.len());
            questions.extend(more);
        }
        let mut answers = session.query_all(&questions)?.into_iter();
        let mut next = parts.into_iter().map(|count| answers.by_ref().take(count).flatten().collect::<Vec<Row>>());
        let mut part = || next.next().unwrap_or_default();
        read(&part(), &mut loaded.transactions)?;
        read(&part(), &mut loaded.orders)?;
        read(&part(), &mut loaded.refunds)?;
        read(&part(), &mut loaded.idempotency_keys)?;
        read(&part(), &mut loaded.transfers)?;
        read(&part(), &mut loaded.reconciliations)?;
        read(&part(), &mut loaded.findings)?;
        let by_id = vec![sql::unknown_orders(&loaded).into_iter().map(PgCell::Id).collect()];
        session.select(&statements.orders_by_id, by_id, &mut loaded.orders)?;
        Ok(loaded)
    }

    fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        // Otherwise each statement would commit by itself.
        self.sound()?;
        let (written, updates) = batch::written(&self.statements, changes);
        let changed = self.session.execute_all(&written)?;
        for batch::Updates { at, table, rows } in updates {
            if changed[at] != rows {
                self.session.failed = true;
                return Err(StoreError::Row(format!("{} rows of {} are gone", rows - changed[at], table.state_name())));
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.sound()?;
        self.warnings.lock().take();
        let lost = |why: String| StoreError::Lost(format!("in a commit: {why}"));
        match self.session.simple("COMMIT") {
            Ok(_) => self.within = false,
            // A failed commit is certain only if the server says so.
            Err(StoreError::Row(why)) => return Err(StoreError::Row(why)),
            Err(StoreError::Full(why) | StoreError::Slow(why) | StoreError::Held(why)) => {
                return Err(StoreError::Full(why));
            }
            Err(StoreError::Lost(why) | StoreError::Poisoned(why)) => return Err(lost(why)),
        }
        // Committed here, but not as durably as the server is configured: a standby does not have it.
        self.warnings.lock().take().map_or(Ok(()), |warning| Err(lost(warning)))
    }

    fn rollback(&mut self) {
        let is_begun = self.session.unbegun.take().is_none();
        if std::mem::take(&mut self.within)
            && is_begun
            && !self.session.client.is_closed()
            && let Err(e) = self.session.simple("ROLLBACK")
        {
            log::warn!("ledger: a transaction could not be taken back: {e}");
        }
        self.session.failed = false;
    }

    fn events(&mut self, ids: &[Uuid]) -> Result<Vec<Outgoing>, StoreError> {
        let mut found = vec![];
        let by_id = vec![ids.iter().map(|id| PgCell::Id(*id)).collect()];
        self.session.select(&self.statements.events, by_id, &mut found)?;
        Ok(found)
    }

    fn deliveries(&mut self, ids: &[Uuid]) -> Result<Vec<Delivery>, StoreError> {
        let mut found = vec![];
        let by_id = vec![ids.iter().map(|id| PgCell::Id(*id)).collect()];
        self.session.select(&self.statements.deliveries, by_id, &mut found)?;
        Ok(found)
    }

    fn anomalies(&mut self, ids: &[Uuid]) -> Result<Vec<Anomaly>, StoreError> {
        let mut found = vec![];
        let by_id = vec![ids.iter().map(|id| PgCell::Id(*id)).collect()];
        self.session.select(&self.statements.anomalies, by_id, &mut found)?;
        Ok(found)
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        self.is_durable()?;
        let answers = self.session.simple(&self.ours)?;
        let ours = answers.iter().any(|answer| matches!(answer, SimpleQueryMessage::Row(_)));
        if ours { Ok(()) } else { Err(StoreError::Lost(connect::TAKEN_OVER.into())) }
    }
}
