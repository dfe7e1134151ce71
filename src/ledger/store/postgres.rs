//! The books in PostgreSQL (15 or newer): one connection writes, by one statement for each table.
//!
//! Who writes holds an advisory lock (one ledger for each database) and the **epoch**: a number that each takeover
//! raises and each transaction names. A process that froze is disconnected by the server after ten seconds, by which its
//! lock is free; when it wakes, its next call says [`Failure::Lost`]. Ties: of two updates, or balances, of one row in one
//! call the later one counts, and only that one is sent. A statement that fails spoils its whole transaction: callbacks
//! are kept apart by [`Grouping::Whole`]. A commit whose answer did not come, or came with a warning, is lost: its rows
//! may be there or not.

mod cells;
mod connect;
mod erase;
mod indexes;
mod reader;
mod statements;
mod tls;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postgres::types::ToSql;
use postgres::{Client, SimpleQueryMessage, Statement};
use uuid::Uuid;

use super::sql;
use super::{Asked, Changes, Failure, Grouping, Heads, Loaded, Store};
use crate::clock;
use crate::config::model::Secret;
use crate::ledger::rows::{Anomaly, Outgoing, Table, Typed, Value, Wrap};
use crate::ledger::words::Word;
use crate::units::Nanos;
use cells::{Cell, cells, failure};
use connect::Warnings;
use statements::Statements;

pub use erase::erase;
pub use reader::PostgresReader;

/// Time between two questions whether the server keeps what it commits.
const ASK: Duration = Duration::from_secs(1);

/// A writer's connection.
pub struct Postgres {
    session: Session,
    statements: Statements,
    warnings: Warnings,
    begin: String,
    ours: String,
    within: bool,
    /// When the server is asked again whether it keeps what it commits.
    ask_at: Nanos,
}

/// A connection and what is prepared on it.
struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
    /// A statement failed: the transaction can only be taken back. A COMMIT would do just that, without an error.
    failed: bool,
}

/// One array for each column.
type Columns<'a> = Vec<Vec<Cell<'a>>>;

impl Session {
    fn statement(&mut self, sql: &str) -> Result<Statement, postgres::Error> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let made = self.client.prepare(sql)?;
        self.prepared.insert(sql.to_owned(), made.clone());
        Ok(made)
    }

    /// Remembers that the transaction is spoilt.
    fn heed<T>(&mut self, answer: Result<T, postgres::Error>) -> Result<T, Failure> {
        self.failed |= answer.is_err();
        answer.map_err(|e| failure(&e))
    }

    fn query(&mut self, sql: &str, columns: &Columns<'_>) -> Result<Vec<postgres::Row>, Failure> {
        let answer = self.statement(sql).and_then(|statement| self.client.query(&statement, &params(columns)));
        self.heed(answer)
    }

    fn execute(&mut self, sql: &str, columns: &Columns<'_>) -> Result<u64, Failure> {
        let answer = self.statement(sql).and_then(|statement| self.client.execute(&statement, &params(columns)));
        self.heed(answer)
    }

    fn simple(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Failure> {
        let answer = self.client.simple_query(sql);
        self.heed(answer)
    }

    fn select<T: Typed>(&mut self, sql: &str, asked: Columns<'_>, found: &mut Vec<T>) -> Result<(), Failure> {
        if asked.first().is_some_and(Vec::is_empty) {
            return Ok(());
        }
        for row in self.query(sql, &asked)? {
            found.push(sql::typed(cells(&row)?)?);
        }
        Ok(())
    }
}

fn params<'a>(columns: &'a Columns<'_>) -> Vec<&'a (dyn ToSql + Sync)> {
    columns.iter().map(|column| column as _).collect()
}

fn text(cell: Option<Value>) -> Option<String> {
    if let Some(Value::Text(text)) = cell { Some(text) } else { None }
}

impl Postgres {
    /// Opens it; `None` while another process holds the lock.
    pub fn open(url: &str, password: Option<&Secret>) -> Result<Option<Box<dyn Store>>, Failure> {
        let Some(opened) = connect::writer(url, password)? else { return Ok(None) };
        let connect::Opened { mut client, warnings, epoch } = opened;
        indexes::complete(&mut client, url, password)?;
        Ok(Some(Box::new(Postgres {
            session: Session { client, prepared: HashMap::new(), failed: false },
            statements: Statements::new(),
            warnings,
            begin: connect::begin(epoch),
            ours: connect::ours(epoch),
            within: false,
            ask_at: Nanos(0),
        })))
    }

    /// The server's settings follow a reload: they are asked for before each second's first batch.
    fn is_durable(&mut self) -> Result<(), Failure> {
        let now = clock::now();
        if now < self.ask_at {
            return Ok(());
        }
        self.ask_at = now.after(ASK);
        connect::durable(&self.session.simple(&connect::is_durable())?)
    }

    fn insert(&mut self, changes: &Changes) -> Result<(), Failure> {
        for (at, table) in Table::ALL.iter().enumerate() {
            let rows = || changes.rows.iter().filter(|row| row.table == *table);
            let count = rows().count();
            if count == 0 {
                continue;
            }
            let mut columns: Columns<'_> = table.columns().map(|_| Vec::with_capacity(count)).collect();
            for row in rows() {
                columns[0].push(Cell::Int(row.seq));
                columns[1].push(Cell::Id(row.id));
                for (column, value) in columns[2..].iter_mut().zip(&row.values) {
                    column.push(value.into());
                }
            }
            self.session.execute(&self.statements.insert[at], &columns)?;
        }
        Ok(())
    }

    fn update(&mut self, changes: &Changes) -> Result<(), Failure> {
        for (at, table) in Table::ALL.iter().enumerate() {
            let mut columns: Columns<'_> = vec![vec![]; table.state().len() + 1];
            let mut seen = HashSet::new();
            // The later one of two counts.
            for update in changes.updates.iter().rev().filter(|update| update.table == *table) {
                if seen.insert(update.seq) {
                    columns[0].push(Cell::Int(update.seq));
                    for (column, value) in columns[1..].iter_mut().zip(&update.state) {
                        column.push(value.into());
                    }
                }
            }
            if seen.is_empty() {
                continue;
            }
            let changed = self.session.execute(&self.statements.update[at], &columns)?;
            if changed != seen.len() as u64 {
                self.session.failed = true;
                let gone = seen.len() as u64 - changed;
                return Err(Failure::Row(format!("{gone} rows of {} are gone", table.name())));
            }
        }
        Ok(())
    }

    fn put_links(&mut self, changes: &Changes) -> Result<(), Failure> {
        if changes.links.is_empty() {
            return Ok(());
        }
        let links = || changes.links.iter();
        let columns = vec![
            links().map(|link| Cell::Int(link.seq)).collect(),
            links().map(|link| Cell::Blob(&link.rows)).collect(),
            links().map(|link| Cell::Blob(&link.link)).collect(),
        ];
        self.session.execute(&self.statements.links, &columns).map(drop)
    }

    fn put_balances(&mut self, changes: &Changes) -> Result<(), Failure> {
        let mut seen = HashSet::new();
        let latest = changes.balances.iter().rev().filter(|b| seen.insert((b.account.as_str(), b.currency)));
        let latest: Vec<_> = latest.map(|b| (b, b.debit.to_string(), b.credit.to_string())).collect();
        if latest.is_empty() {
            return Ok(());
        }
        let columns = vec![
            latest.iter().map(|(b, ..)| Cell::Text(&b.account)).collect(),
            latest.iter().map(|(b, ..)| Cell::Text(b.currency.code())).collect(),
            latest.iter().map(|(_, debit, _)| Cell::Text(debit)).collect(),
            latest.iter().map(|(.., credit)| Cell::Text(credit)).collect(),
        ];
        self.session.execute(&self.statements.put_balances, &columns).map(drop)
    }

    fn put_wraps(&mut self, changes: &Changes) -> Result<(), Failure> {
        if changes.wraps.is_empty() {
            return Ok(());
        }
        let wraps = || changes.wraps.iter();
        let columns = vec![
            wraps().map(|wrap| Cell::Id(wrap.id)).collect(),
            wraps().map(|wrap| Cell::Text(&wrap.by)).collect(),
            wraps().map(|wrap| Cell::Text(&wrap.purpose)).collect(),
            wraps().map(|wrap| Cell::Text(&wrap.day)).collect(),
            wraps().map(|wrap| Cell::Blob(&wrap.wrapped)).collect(),
            wraps().map(|wrap| Cell::Int(wrap.created_at)).collect(),
        ];
        self.session.execute(&self.statements.put_wraps, &columns).map(drop)
    }

    /// There is a transaction, and it can be kept.
    fn sound(&self) -> Result<(), Failure> {
        match (self.within, self.session.failed) {
            (true, false) => Ok(()),
            (false, _) => Err(Failure::Row("no transaction was begun".into())),
            (true, true) => Err(Failure::Row("a statement of this transaction failed".into())),
        }
    }
}

impl Store for Postgres {
    fn grouping(&self) -> Grouping {
        Grouping::Whole
    }

    fn heads(&mut self) -> Result<Heads, Failure> {
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
        Ok(heads)
    }

    fn wraps(&mut self) -> Result<Vec<Wrap>, Failure> {
        let wrap = |row: &postgres::Row| {
            let read = || Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?));
            let (id, by, purpose, day, wrapped) = read().map_err(|e| failure(&e))?;
            sql::wrap(id, by, purpose, day, (wrapped, row.try_get(5).map_err(|e| failure(&e))?))
        };
        self.session.query(&self.statements.wraps, &vec![])?.iter().map(wrap).collect()
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.session.failed = false;
        self.is_durable()?;
        self.within = true;
        let answers = self.session.simple(&self.begin)?;
        // BEGIN, then how many rows have our epoch.
        match answers.last() {
            Some(SimpleQueryMessage::CommandComplete(1)) => Ok(()),
            _ => {
                self.session.failed = true;
                Err(Failure::Lost("another writer has taken over".into()))
            }
        }
    }

    fn savepoint(&mut self) -> Result<(), Failure> {
        self.sound()?;
        self.session.simple("SAVEPOINT callback").map(drop)
    }

    fn release(&mut self, keep: bool) -> Result<(), Failure> {
        let back = if keep { "" } else { "ROLLBACK TO callback; " };
        self.session.simple(&format!("{back}RELEASE callback"))?;
        self.session.failed &= keep;
        Ok(())
    }

    fn load(&mut self, asked: &Asked) -> Result<Loaded, Failure> {
        let mut loaded = Loaded::default();
        let (session, statements, found) = (&mut self.session, &self.statements, &mut loaded.transactions);
        let keys = || asked.keys.iter();
        let by_key = vec![
            keys().map(|key| Cell::Text(key.provider)).collect(),
            keys().map(|key| Cell::Text(&key.account)).collect(),
            keys().map(|key| Cell::Text(key.kind.word())).collect(),
            keys().map(|key| Cell::Text(&key.key)).collect(),
        ];
        session.select(&statements.by_key, by_key, found)?;
        let trades = || asked.trades.iter();
        let by_trade: Columns<'_> = vec![
            trades().map(|(channel, _)| Cell::Text(channel)).collect(),
            trades().map(|(_, number)| Cell::Text(number)).collect(),
        ];
        session.select(&statements.by_trade, by_trade, found)?;
        let orders = || asked.orders.iter();
        let by_trade: Columns<'_> = vec![
            orders().map(|(channel, _)| Cell::Text(channel)).collect(),
            orders().map(|(_, number)| Cell::Text(number)).collect(),
        ];
        session.select(&statements.orders_by_trade, by_trade, &mut loaded.orders)?;
        let numbers = || asked.numbers.iter();
        let by_number = vec![
            numbers().map(|(.., number)| Cell::Text(number)).collect(),
            numbers().map(|(provider, ..)| Cell::Text(provider)).collect(),
            numbers().map(|(_, kind, _)| Cell::Text(kind.word())).collect(),
        ];
        session.select(&statements.by_number, by_number, found)?;
        let waiting = || asked.waiting.iter();
        let by_payment = vec![
            waiting().map(|(.., of)| Cell::Text(of)).collect(),
            waiting().map(|(provider, ..)| Cell::Text(provider)).collect(),
            waiting().map(|(_, account, _)| account.as_deref().map_or(Cell::Null, Cell::Text)).collect(),
        ];
        session.select(&statements.waiting, by_payment, found)?;
        let known: HashSet<Uuid> = loaded.orders.iter().map(|order| order.id).collect();
        let unknown = sql::unknown_orders(found, |id| known.contains(&id));
        let by_id = vec![unknown.into_iter().map(Cell::Id).collect()];
        session.select(&statements.orders_by_id, by_id, &mut loaded.orders)?;
        Ok(loaded)
    }

    fn write(&mut self, changes: &Changes) -> Result<(), Failure> {
        // Else each statement would commit by itself.
        self.sound()?;
        self.insert(changes)?;
        self.put_links(changes)?;
        self.update(changes)?;
        self.put_balances(changes)?;
        self.put_wraps(changes)
    }

    fn commit(&mut self) -> Result<(), Failure> {
        self.sound()?;
        self.warnings.lock().take();
        let lost = |why: String| Failure::Lost(format!("in a commit: {why}"));
        match self.session.simple("COMMIT") {
            Ok(_) => self.within = false,
            // Whether it is kept is known only where the server says that it is not.
            Err(Failure::Row(why)) => return Err(Failure::Row(why)),
            Err(Failure::Full(why) | Failure::Slow(why)) => return Err(Failure::Full(why)),
            Err(Failure::Lost(why) | Failure::Poisoned(why)) => return Err(lost(why)),
        }
        // Kept here, but not as durably as the server was told to: a standby does not have it.
        self.warnings.lock().take().map_or(Ok(()), |warning| Err(lost(warning)))
    }

    fn rollback(&mut self) {
        if std::mem::take(&mut self.within)
            && !self.session.client.is_closed()
            && let Err(e) = self.session.simple("ROLLBACK")
        {
            log::warn!("ledger: a transaction could not be taken back: {e}");
        }
        self.session.failed = false;
    }

    fn events(&mut self, ids: &[Uuid]) -> Result<Vec<Outgoing>, Failure> {
        let mut found = vec![];
        let by_id = vec![ids.iter().map(|id| Cell::Id(*id)).collect()];
        self.session.select(&self.statements.events, by_id, &mut found)?;
        Ok(found)
    }

    fn anomalies(&mut self, ids: &[Uuid]) -> Result<Vec<Anomaly>, Failure> {
        let mut found = vec![];
        let by_id = vec![ids.iter().map(|id| Cell::Id(*id)).collect()];
        self.session.select(&self.statements.anomalies, by_id, &mut found)?;
        Ok(found)
    }

    fn idle(&mut self) -> Result<(), Failure> {
        self.is_durable()?;
        let answers = self.session.simple(&self.ours)?;
        let ours = answers.iter().any(|answer| matches!(answer, SimpleQueryMessage::Row(_)));
        if ours { Ok(()) } else { Err(Failure::Lost("another writer has taken over".into())) }
    }
}
