//! The books in an SQLite file: one connection writes, in WAL mode, with a sync at each commit.
//!
//! Ties: of two updates of one row the later one counts. After a disk error SQLite may have rolled the whole
//! transaction back by itself; then the end of a savepoint reports it, since there is nothing to roll back to. After an
//! error that leaves open what is on the disk (see `cells`) the store is poisoned for good: no call touches the file
//! again, and closing it does not checkpoint. A copier beside the writer copies the write-ahead log into the file. The
//! writer copies only the rest, before a transaction, so no acknowledgement waits for a log that a reader's view made
//! long.

mod cells;
mod copier;
mod erase;
mod forward;
mod indexes;
mod open;
mod operator;
mod reader;
mod statements;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, Params};
use uuid::Uuid;

use super::sql;
use super::{Changes, Grouping, Heads, Loaded, Store, StoreError, Wanted};
use crate::rows::{Anomaly, Attempt, BalanceRow, Delivery, Link, Outgoing, Row, Typed, Update, Wrap};
use crate::stored_enum::StoredEnum;
use base::clock;
use cells::{BoundValue, Id, failure};
use copier::Copier;
use statements::{SqliteInsert, SqliteStatements};

pub use erase::erase;
pub use operator::SqliteOperator;
pub use reader::SqliteReader;

/// Pages of the log not yet copied, above which they are copied: 8 MiB.
const COPY_ABOVE: i64 = 2_000;

/// Pages in the log above which the writer waits for readers so that the log can be reused: 32 MiB. Views that follow
/// one another, as a verification's do, would otherwise prevent that: a batch seldom begins between two of them.
const RESET_ABOVE: i64 = 8_000;

/// The longest such wait, once each time the log has doubled; a verification's view is shorter.
const RESET_WAIT: Duration = Duration::from_millis(50);

/// Time between two looks, shorter than the pause between two views ([`Reader::pause`](super::Reader::pause)).
const RESET_LOOK: Duration = Duration::from_micros(500);

/// Pages that the writer copies itself, for a log of this many: the longer the log, the more it matters to finish.
fn rest(log: i64) -> i64 {
    COPY_ABOVE.max(log / 4)
}

/// Pages in the log above which a warning is logged: a reader that never ends keeps the log from being reused.
const TELL_ABOVE: i64 = 64 * 1024;

/// A writer's connection.
pub struct Sqlite {
    // First, so that the connection is the last one to close.
    copier: Copier,
    connection: Connection,
    statements: SqliteStatements,
    /// Why nothing may be written any more.
    poisoned: Option<String>,
    /// Size of the log for the next try to copy: a reader may keep a part of it from being copied.
    copy_at: i64,
    /// Size of the log at which the writer waits for readers.
    reset_at: i64,
    /// The copier was asked; the writer takes the rest.
    draining: bool,
    told: bool,
    /// The file and its lock, as they were opened.
    files: open::Files,
    // Last, so that the lock is released after the connection is closed.
    _lock: File,
}

const LINK: &str = "INSERT INTO chain (seq, rows, link) VALUES (?1, ?2, ?3)";
const WRAP: &str = "INSERT INTO keys (id, wrapped_by, purpose, day, wrapped, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
    ON CONFLICT DO NOTHING";
const BALANCE: &str = "INSERT INTO balances (account, currency, debit, credit, pending_debit, pending_credit) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (account, currency) DO UPDATE SET debit = excluded.debit, \
    credit = excluded.credit, pending_debit = excluded.pending_debit, pending_credit = excluded.pending_credit";

impl Sqlite {
    /// Opens the file; `None` while another process holds the lock. Slow work on an older file is done only if there is
    /// `time`.
    pub fn open(path: &Path, time: bool) -> Result<Option<Box<dyn Store>>, StoreError> {
        let Some(lock) = open::lock(path)? else { return Ok(None) };
        let connection = open::writer(path, time)?;
        Ok(Some(Box::new(Sqlite {
            copier: Copier::start(path)?,
            connection,
            statements: SqliteStatements::new(),
            poisoned: None,
            copy_at: COPY_ABOVE,
            reset_at: RESET_ABOVE,
            draining: false,
            told: false,
            files: open::Files::now(path)?,
            _lock: lock,
        })))
    }

    /// Checks that the file is in its place. Writes to a removed file are lost, so then nothing is written or
    /// acknowledged.
    fn there(&mut self) -> Result<(), StoreError> {
        let there = self.files.are_there();
        self.heed(there)?;
        self.copied()
    }

    /// The copier's error, if any.
    fn copied(&mut self) -> Result<(), StoreError> {
        let failed = self.copier.failed().map_or(Ok(()), Err);
        self.heed(failed)
    }

    /// Refuses every call once the store is poisoned.
    fn well(&self) -> Result<(), StoreError> {
        self.poisoned.as_ref().map_or(Ok(()), |why| Err(StoreError::Poisoned(why.clone())))
    }

    /// Passes a failure on. One that poisons is remembered, and the connection's end must not touch the file.
    fn heed<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Poisoned(why)) = &answer {
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            self.poisoned = Some(why.clone());
        }
        answer
    }

    fn run(&mut self, sql: &str) -> Result<(), StoreError> {
        self.well()?;
        let answer = execute(&self.connection, sql, []).map(drop);
        self.heed(answer)
    }

    fn heads_now(&self) -> Result<Heads, StoreError> {
        let said = |e: rusqlite::Error| failure(&e);
        let mut heads = Heads::default();
        let mut last = prepared(&self.connection, sql::LAST_LINK)?;
        let mut rows = last.query([]).map_err(said)?;
        if let Some(row) = rows.next().map_err(said)? {
            (heads.seq, heads.link) = (row.get(0).map_err(said)?, row.get(1).map_err(said)?);
        }
        let mut time = prepared(&self.connection, &self.statements.last_time)?;
        heads.recorded_at = time.query_row([], |row| row.get(0)).map_err(said)?;
        let mut balances = prepared(&self.connection, sql::BALANCES)?;
        let mut rows = balances.query([]).map_err(said)?;
        while let Some(row) = rows.next().map_err(said)? {
            heads.balances.push(sql::balance(std::array::from_fn(|at| row.get(at).ok()))?);
        }
        let mut waited = prepared(&self.connection, &self.statements.waited)?;
        let names = waited.query_map([], |row| row.get(0)).map_err(said)?;
        heads.waited = names.collect::<Result<_, _>>().map_err(said)?;
        self.select(&self.statements.endpoints, [], &mut heads.endpoints)?;
        Ok(heads)
    }

    fn wraps_now(&self) -> Result<Vec<Wrap>, StoreError> {
        let mut wraps = prepared(&self.connection, sql::WRAPS)?;
        let read = |row: &rusqlite::Row<'_>| {
            let (id, by, purpose): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(sql::wrap(&id, by, purpose, row.get(3)?, (row.get(4)?, row.get(5)?)))
        };
        let rows = wraps.query_map([], read).map_err(|e| failure(&e))?;
        rows.map(|row| row.map_err(|e| failure(&e))?).collect()
    }

    fn load_now(&self, asked: &Wanted) -> Result<Loaded, StoreError> {
        let mut loaded = Loaded::default();
        let (statements, found) = (&self.statements, &mut loaded.transactions);
        for key in &asked.keys {
            self.select(&statements.by_key, (key.provider, &key.account, key.kind.word(), &key.key), found)?;
        }
        for (channel, number) in &asked.trades {
            self.select(&statements.by_trade, (channel, number), found)?;
        }
        for (channel, number) in &asked.orders {
            self.select(&statements.order_by_trade, (channel, number), &mut loaded.orders)?;
        }
        for (provider, kind, number) in &asked.numbers {
            self.select(&statements.by_number, (number, provider, kind.word()), found)?;
        }
        for (provider, account, of) in &asked.waiting {
            self.select(&statements.waiting, (of, provider, account), found)?;
        }
        for (channel, number) in &asked.of_orders {
            self.select(&statements.of_order, (channel, number), found)?;
        }
        for order in &asked.transactions_of {
            self.select(&statements.transactions_of, [Id::new(*order)], found)?;
        }
        for (channel, number) in &asked.named_refunds {
            self.select(&statements.named_refunds, (channel, number), found)?;
        }
        for id in &asked.order_ids {
            self.select(&statements.order_by_id, [Id::new(*id)], &mut loaded.orders)?;
        }
        for (order, number) in &asked.refunds {
            self.select(&statements.refund, (Id::new(*order), number), &mut loaded.refunds)?;
        }
        for (channel, number) in &asked.refunds_of {
            self.select(&statements.refunds_of, (channel, number), &mut loaded.refunds)?;
        }
        for id in &asked.refund_ids {
            self.select(&statements.refund_by_id, [Id::new(*id)], &mut loaded.refunds)?;
        }
        for number in &asked.refund_txns {
            self.select(&statements.refund_by_txn, [number], &mut loaded.refunds)?;
        }
        for key in &asked.idempotency_keys {
            self.select(&statements.idempotency_key, [key], &mut loaded.idempotency_keys)?;
        }
        for id in &asked.transfers {
            self.select(&statements.transfer, [Id::new(*id)], &mut loaded.transfers)?;
        }
        for (channel, day) in &asked.reconciliations {
            self.select(&statements.reconciliation, (channel, day), &mut loaded.reconciliations)?;
            self.select(&statements.findings, (channel, day), &mut loaded.findings)?;
        }
        for id in sql::unknown_orders(&loaded) {
            self.select(&statements.order_by_id, [Id::new(id)], &mut loaded.orders)?;
        }
        Ok(loaded)
    }

    fn select<T: Typed>(&self, sql: &str, params: impl Params, found: &mut Vec<T>) -> Result<(), StoreError> {
        let mut statement = prepared(&self.connection, sql)?;
        let count = statement.column_count();
        let mut rows = statement.query(params).map_err(|e| failure(&e))?;
        while let Some(row) = rows.next().map_err(|e| failure(&e))? {
            found.push(sql::typed(cells::cells(row, count).map_err(|e| failure(&e))?)?);
        }
        Ok(())
    }

    fn write_now(&self, changes: &Changes) -> Result<(), StoreError> {
        changes.rows.iter().try_for_each(|row| self.insert(row))?;
        for Link { seq, rows, link } in &changes.links {
            execute(&self.connection, LINK, (seq, rows, link))?;
        }
        changes.updates.iter().try_for_each(|update| self.update(update))?;
        for BalanceRow { account, currency, debit, credit, pending_debit, pending_credit } in &changes.balances {
            let [debit, credit, pending_debit, pending_credit] =
                [debit, credit, pending_debit, pending_credit].map(i128::to_string);
            let values = (account, currency.code(), debit, credit, pending_debit, pending_credit);
            execute(&self.connection, BALANCE, values)?;
        }
        for wrap in &changes.wraps {
            let values = (Id::new(wrap.id), &wrap.by, &wrap.purpose, &wrap.day, &wrap.wrapped, wrap.created_at);
            execute(&self.connection, WRAP, values)?;
        }
        for Attempt { event_seq, at, endpoint_id, status, latency_ms, body } in &changes.attempts {
            let (key, body) = body.as_ref().map(|(key, body)| (Id::new(*key), body)).unzip();
            let values = (event_seq, at, Id::new(*endpoint_id), status, latency_ms, key, body);
            execute(&self.connection, &self.statements.attempt, values)?;
        }
        Ok(())
    }

    fn insert(&self, row: &Row) -> Result<(), StoreError> {
        let bind = |insert: &SqliteInsert| {
            let mut statement = self.connection.prepare_cached(&insert.sql)?;
            for (at, cell) in insert.cells.iter().enumerate() {
                match cell {
                    0 => statement.raw_bind_parameter(at + 1, row.seq)?,
                    1 => statement.raw_bind_parameter(at + 1, Id::new(row.id))?,
                    value => statement.raw_bind_parameter(at + 1, BoundValue(&row.values[value - 2]))?,
                }
            }
            statement.raw_execute().map(drop)
        };
        self.statements.insert[sql::place(row.table)].iter().try_for_each(bind).map_err(|e| failure(&e))
    }

    fn update(&self, update: &Update) -> Result<(), StoreError> {
        let bind = || {
            let mut statement = self.connection.prepare_cached(&self.statements.update[sql::place(update.table)])?;
            statement.raw_bind_parameter(1, update.seq)?;
            for (at, value) in update.state.iter().enumerate() {
                statement.raw_bind_parameter(at + 2, BoundValue(value))?;
            }
            statement.raw_execute()
        };
        match bind().map_err(|e| failure(&e))? {
            0 => Err(StoreError::Row(format!("row {} of {} is gone", update.seq, update.table.state_name()))),
            _ => Ok(()),
        }
    }

    /// Copies the log into the file as far as readers let it, if more than `above` of its pages are not copied.
    fn copy(&mut self, above: i64) -> Result<(), StoreError> {
        self.well()?;
        let answer = self.copy_now(above);
        self.heed(answer)
    }

    fn copy_now(&mut self, above: i64) -> Result<(), StoreError> {
        if self.copier.is_busy() {
            return Ok(());
        }
        let (log, copied) = self.checkpoint("NOOP")?;
        let left = log - copied;
        if left <= above && !self.draining {
            self.copy_at = COPY_ABOVE;
            return Ok(());
        }
        // An open view keeps the log from being copied: the next try comes when the log has grown.
        if above > 0 && !self.draining && log < self.copy_at {
            return Ok(());
        }
        if left <= rest(log) && (self.draining || above == 0) {
            self.draining = false;
            self.copy_rest(log)?;
        } else if !self.draining || log >= self.copy_at {
            (self.draining, self.copy_at) = (true, log + COPY_ABOVE);
            self.copier.copy();
        }
        if log > TELL_ABOVE && !self.told {
            log::warn!("ledger: the write-ahead log has {log} pages: a reader's view keeps it from being used anew");
        }
        self.told = log > TELL_ABOVE;
        Ok(())
    }

    fn copy_rest(&mut self, log: i64) -> Result<(), StoreError> {
        let copied = if log > self.reset_at { self.copy_all() } else { self.checkpoint("PASSIVE") };
        match copied {
            Ok((log, copied)) => self.copy_at = if log == copied { COPY_ABOVE } else { log + COPY_ABOVE },
            // Commits are durable in the log: a full disk only keeps them from being copied.
            Err(StoreError::Full(why)) => {
                self.copy_at += COPY_ABOVE;
                log::warn!("ledger: the log cannot be copied into the database: {why}");
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Copies all of the log and waits a while for readers to leave it, so that the next batch begins it anew.
    fn copy_all(&mut self) -> Result<(i64, i64), StoreError> {
        let until = clock::now().after(RESET_WAIT);
        self.connection.busy_timeout(Duration::ZERO).map_err(|e| failure(&e))?;
        let copied = loop {
            match open::restart(&self.connection) {
                Ok((false, ..)) if clock::now() < until => std::thread::sleep(RESET_LOOK),
                copied => break copied.map_err(|e| failure(&e)),
            }
        };
        self.connection.busy_timeout(open::BUSY).map_err(|e| failure(&e))?;
        let (left, log, copied) = copied?;
        self.reset_at = if left { RESET_ABOVE } else { RESET_ABOVE.max(2 * log) };
        Ok((log, copied))
    }

    fn checkpoint(&self, mode: &str) -> Result<(i64, i64), StoreError> {
        open::checkpoint(&self.connection, mode).map_err(|e| failure(&e))
    }
}

impl Store for Sqlite {
    fn grouping(&self) -> Grouping {
        Grouping::Each
    }

    fn heads(&mut self) -> Result<Heads, StoreError> {
        self.well()?;
        let answer = self.heads_now();
        self.heed(answer)
    }

    fn wraps(&mut self) -> Result<Vec<Wrap>, StoreError> {
        self.well()?;
        let answer = self.wraps_now();
        self.heed(answer)
    }

    fn begin(&mut self) -> Result<(), StoreError> {
        self.there()?;
        self.copy(COPY_ABOVE)?;
        self.run("BEGIN IMMEDIATE")
    }

    fn savepoint(&mut self) -> Result<(), StoreError> {
        self.well()?;
        if self.connection.is_autocommit() {
            return Err(gone());
        }
        self.run("SAVEPOINT callback")
    }

    fn release(&mut self, keep: bool) -> Result<(), StoreError> {
        self.well()?;
        // On a full disk SQLite rolls the whole transaction back, and the savepoints before this one with it.
        if self.connection.is_autocommit() {
            return Err(gone());
        }
        if !keep {
            self.run("ROLLBACK TO callback")?;
        }
        self.run("RELEASE callback")
    }

    fn load(&mut self, asked: &Wanted) -> Result<Loaded, StoreError> {
        self.well()?;
        let answer = self.load_now(asked);
        self.heed(answer)
    }

    fn write(&mut self, changes: &Changes) -> Result<(), StoreError> {
        self.well()?;
        // Otherwise each statement would commit by itself.
        if self.connection.is_autocommit() {
            return Err(gone());
        }
        let answer = self.write_now(changes);
        self.heed(answer)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.well()?;
        self.copied()?;
        if self.connection.is_autocommit() {
            return Err(gone());
        }
        self.run("COMMIT")
    }

    fn rollback(&mut self) {
        if self.poisoned.is_none()
            && !self.connection.is_autocommit()
            && let Err(e) = self.run("ROLLBACK")
        {
            log::error!("ledger: a transaction could not be taken back: {e}");
        }
    }

    fn events(&mut self, ids: &[Uuid]) -> Result<Vec<Outgoing>, StoreError> {
        self.well()?;
        let mut found = vec![];
        let answer = ids.iter().try_for_each(|id| self.select(&self.statements.event, [Id::new(*id)], &mut found));
        self.heed(answer).map(|()| found)
    }

    fn deliveries(&mut self, ids: &[Uuid]) -> Result<Vec<Delivery>, StoreError> {
        self.well()?;
        let mut found = vec![];
        let answer = ids.iter().try_for_each(|id| self.select(&self.statements.delivery, [Id::new(*id)], &mut found));
        self.heed(answer).map(|()| found)
    }

    fn anomalies(&mut self, ids: &[Uuid]) -> Result<Vec<Anomaly>, StoreError> {
        self.well()?;
        let mut found = vec![];
        let answer = ids.iter().try_for_each(|id| self.select(&self.statements.anomaly, [Id::new(*id)], &mut found));
        self.heed(answer).map(|()| found)
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        self.there()?;
        self.copy(0)
    }
}

/// The error after SQLite rolled the transaction back by itself.
fn gone() -> StoreError {
    StoreError::Full("the transaction was taken back".into())
}

fn prepared<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
    connection.prepare_cached(sql).map_err(|e| failure(&e))
}

fn execute(connection: &Connection, sql: &str, params: impl Params) -> Result<usize, StoreError> {
    let run = || connection.prepare_cached(sql)?.execute(params);
    run().map_err(|e| failure(&e))
}
