//! An outbox that is a real table in SQLite's memory, asked with the SQL of the store.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::deliver::Outbox;
use crate::deliver::due::{self, DueEvents, Question};
use crate::endpoints::settings::Settings;
use crate::journal::{CommitError, Marks, OutboxNews, Raised};
use crate::keys::DataKey;
use crate::rows::{Endpoint, Outgoing, Row, Table as Tables, Type, Typed, Update, Value};
use crate::store::schema::{INDEXES, SqlDialect};
use crate::store::{Reader, StoreError};
use crate::stored_enum::EventState;
use base::finding::Place;
use base::secret::Secret;
use config::model::ledger::{Ledger, Merchant, Store};

pub fn merchant(name: &str, url: &str, allow_private: bool) -> Merchant {
    let secret = Secret(Arc::from(*b"0123456789abcdef01234567"));
    Merchant { name: name.into(), url: url.into(), secret, token: None, allow_private }
}

pub fn ledger(merchants: Vec<Merchant>) -> Ledger {
    Ledger {
        address: "127.0.0.1:0".parse().unwrap(),
        embedded: true,
        store: Store::Sqlite(PathBuf::new()),
        encryption_keys: vec![],
        token: None,
        batch_max: 1,
        delivery_backoff: vec![],
        delivery_timeout: Duration::from_secs(1),
        channels: vec![],
        merchants,
        state_dir: PathBuf::new(),
        place: Place { file: "a.toml".into(), line: 1, column: 1, text: "".into() },
    }
}

struct Cell(Value);

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match &self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(blob) => ValueRef::Blob(blob),
        }))
    }
}

/// A reader of a connection.
pub struct Memory(pub Connection);

impl Memory {
    pub fn new() -> Memory {
        let connection = Connection::open_in_memory().unwrap();
        for sql in SqlDialect::Sqlite.tables() {
            connection.execute(&sql, []).unwrap();
        }
        for sql in INDEXES {
            connection.execute(sql, []).unwrap();
        }
        Memory(connection)
    }

    pub fn insert(&mut self, row: Row) {
        let mut cells = vec![Value::Int(row.seq), Value::Text(row.id.to_string())];
        cells.extend(row.values);
        for part in row.table.parts() {
            let names: Vec<String> = part.columns().map(|column| format!("\"{}\"", column.name)).collect();
            let places: Vec<String> = (1..=names.len()).map(|number| format!("?{number}")).collect();
            let (names, places) = (names.join(", "), places.join(", "));
            let sql = format!("INSERT OR REPLACE INTO {} ({names}) VALUES ({places})", part.name);
            let own = part.columns.iter().map(|(at, _)| Cell(cells[*at].clone()));
            self.0.prepare_cached(&sql).unwrap().execute(rusqlite::params_from_iter(own)).unwrap();
        }
    }
}

impl Memory {
    fn update(&mut self, update: Update) {
        let columns = update.table.state().iter().enumerate();
        let set: Vec<String> = columns.map(|(at, column)| format!("\"{}\" = ?{}", column.name, at + 2)).collect();
        let sql = format!("UPDATE {} SET {} WHERE seq = ?1", update.table.state_name(), set.join(", "));
        let cells = [Value::Int(update.seq)].into_iter().chain(update.state).map(Cell);
        self.0.prepare_cached(&sql).unwrap().execute(rusqlite::params_from_iter(cells)).unwrap();
    }
}

impl Reader for Memory {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        let fail = |e: rusqlite::Error| StoreError::Row(e.to_string());
        let mut statement = self.0.prepare_cached(sql).map_err(fail)?;
        let cells = values.iter().cloned().map(Cell);
        let mut rows = statement.query(rusqlite::params_from_iter(cells)).map_err(fail)?;
        let mut found = vec![];
        while let Some(row) = rows.next().map_err(fail)? {
            let cell = |at| match row.get_ref_unwrap(at) {
                ValueRef::Integer(number) => Value::Int(number),
                ValueRef::Text(text) => Value::Text(String::from_utf8(text.to_vec()).unwrap()),
                ValueRef::Blob(blob) => Value::Blob(blob.to_vec()),
                _ => Value::Null,
            };
            found.push((0..types.len()).map(cell).collect());
        }
        Ok(found)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    fn end(&mut self) {}
}

/// The outbox.
pub struct Table {
    memory: Mutex<Memory>,
    endpoints: Mutex<Vec<(Endpoint, Settings)>>,
    raised: Mutex<Vec<Raised>>,
    standby: AtomicBool,
    refuse: Mutex<(usize, CommitError)>,
    asked: AtomicUsize,
    last: AtomicUsize,
    look: AtomicBool,
    notify: Notify,
}

impl Table {
    pub fn new() -> Arc<Table> {
        Arc::new(Table {
            memory: Mutex::new(Memory::new()),
            endpoints: Mutex::default(),
            raised: Mutex::default(),
            standby: AtomicBool::default(),
            refuse: Mutex::new((0, CommitError::Failed)),
            asked: AtomicUsize::default(),
            last: AtomicUsize::default(),
            look: AtomicBool::default(),
            notify: Notify::new(),
        })
    }

    pub fn add(&self, merchant: &str, order_id: Option<Uuid>, body: &str) -> Outgoing {
        let now = base::clock::wall_ms() as i64;
        let event = Outgoing {
            seq: 1 + self.last.fetch_add(1, Ordering::SeqCst) as i64,
            id: Uuid::now_v7(),
            kind: "payment.posted".into(),
            transaction_id: Uuid::now_v7(),
            order_id,
            merchant: merchant.into(),
            body: body.into(),
            created_at: now,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(now),
            last_status: None,
            delivered_at: None,
        };
        self.memory.lock().insert(event.row());
        event
    }

    pub fn event(&self, seq: i64) -> Outgoing {
        let columns: Vec<String> = Tables::Outgoing.columns().map(|column| format!("\"{}\"", column.name)).collect();
        let types: Vec<Type> = Tables::Outgoing.columns().map(|column| column.ty).collect();
        let sql = format!("SELECT {} FROM outgoing WHERE seq = $1", columns.join(", "));
        let rows = self.memory.lock().select(&sql, &[Value::Int(seq)], &types).unwrap();
        Outgoing::from_cells(rows.into_iter().next().expect("an event")).expect("its cells")
    }

    pub fn raised(&self) -> Vec<Raised> {
        self.raised.lock().clone()
    }

    pub fn wake(&self) {
        self.look.store(true, Ordering::SeqCst);
        self.notify.notify_one();
    }

    pub fn standby(&self, is: bool) {
        self.standby.store(is, Ordering::SeqCst);
    }

    pub fn refuse(&self, marks: usize, why: CommitError) {
        *self.refuse.lock() = (marks, why);
    }

    pub fn refused(&self) -> bool {
        self.refuse.lock().0 != usize::MAX
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Outbox for Arc<Table> {
    fn active(&self) -> bool {
        !self.standby.load(Ordering::SeqCst)
    }

    fn ask(&self, question: &Question) -> Result<DueEvents, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        due::ask(&mut *self.memory.lock(), question)
    }

    fn endpoints(&self) -> Result<Vec<(Endpoint, Settings)>, StoreError> {
        Ok(self.endpoints.lock().clone())
    }

    fn sealing(&self) -> Option<Arc<DataKey>> {
        None
    }

    async fn mark(&self, Marks { updates: marks, raised, .. }: Marks) -> Result<(), CommitError> {
        {
            let mut refuse = self.refuse.lock();
            if refuse.0 > 0 {
                refuse.0 -= 1;
                return Err(refuse.1);
            }
        }
        let mut memory = self.memory.lock();
        marks.into_iter().for_each(|mark| memory.update(mark));
        self.raised.lock().extend(raised);
        Ok(())
    }

    async fn woken(&self) {
        self.notify.notified().await;
    }

    fn news(&self) -> OutboxNews {
        OutboxNews { look: self.look.swap(false, Ordering::SeqCst), ..OutboxNews::default() }
    }
}
