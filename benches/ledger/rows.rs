//! The rows that a ledger has written, and their bare insert into SQLite.
//!
//! Rows are grouped as the chain has them: what one callback wrote, with its link. The insert has the ledger's schema,
//! indexes and pragmas, one prepared statement for each table, a transaction for each batch with the balances that it
//! touches, and nothing else. Not covered: keys, which are one row a day; updates of delivery.

use std::collections::BTreeSet;
use std::path::Path;

use ledger::rows::{Column, Part, Table, Type};
use ledger::store::schema::{INDEXES, SqlDialect};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::base::BATCH;
use super::cpu_ns;

/// A row and its table.
pub struct Row {
    pub table: usize,
    pub cells: Vec<Value>,
}

/// What one callback wrote.
pub struct Callback {
    pub rows: Vec<Row>,
    /// `seq`, `rows`, `link`
    pub link: Vec<Value>,
}

/// All that was written.
pub struct All {
    pub callbacks: Vec<Callback>,
    pub balances: Vec<[String; 4]>,
}

impl All {
    /// Without links and balances.
    pub fn rows(&self) -> usize {
        self.callbacks.iter().map(|callback| callback.rows.len()).sum()
    }

    /// The balances of the accounts that these callbacks have entries on.
    pub fn touched<'a>(&'a self, callbacks: &[Callback]) -> Vec<&'a [String; 4]> {
        let entries = Table::ALL.iter().position(|table| *table == Table::Entry).unwrap_or_default();
        let at = Table::Entry.columns().position(|column| column.name == "account").unwrap_or_default();
        let rows = callbacks.iter().flat_map(|callback| &callback.rows).filter(|row| row.table == entries);
        let accounts: BTreeSet<&str> =
            rows.filter_map(|row| if let Value::Text(text) = &row.cells[at] { Some(&**text) } else { None }).collect();
        self.balances.iter().filter(|balance| accounts.contains(&*balance[0])).collect()
    }
}

/// `"seq", "id", …`
pub fn names(columns: impl Iterator<Item = Column>) -> String {
    columns.map(|column| format!("\"{}\"", column.name)).collect::<Vec<_>>().join(", ")
}

/// Reads a ledger's file.
pub fn read(file: &Path) -> Result<All, String> {
    let read = || -> rusqlite::Result<All> {
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let all = |sql: &str| -> rusqlite::Result<Vec<Vec<Value>>> {
            let mut statement = connection.prepare(sql)?;
            let count = statement.column_count();
            let rows = statement.query_map([], |row| (0..count).map(|at| row.get(at)).collect())?;
            rows.collect()
        };
        let mut rows = vec![];
        for (at, table) in Table::ALL.iter().enumerate() {
            let cells = all(&format!("SELECT {} FROM {}", names(table.columns()), table.source()))?;
            rows.extend(cells.into_iter().map(|cells| Row { table: at, cells }));
        }
        rows.sort_by_key(|row| integer(&row.cells[0]));
        let mut rows = rows.into_iter().peekable();
        let mut callbacks = vec![];
        for link in all("SELECT seq, rows, link FROM chain ORDER BY seq")? {
            let mut own = vec![];
            while let Some(row) = rows.next_if(|row| integer(&row.cells[0]) <= integer(&link[0])) {
                own.push(row);
            }
            callbacks.push(Callback { rows: own, link });
        }
        let mut balances = connection.prepare("SELECT account, currency, debit, credit FROM balances")?;
        let balance = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
        let balances = balances.query_map([], balance)?.collect::<rusqlite::Result<_>>()?;
        Ok(All { callbacks, balances })
    };
    let all = read().map_err(|e| format!("{}: {e}", file.display()))?;
    if all.callbacks.is_empty() { Err(format!("{} has no rows", file.display())) } else { Ok(all) }
}

fn integer(value: &Value) -> i64 {
    if let Value::Integer(number) = value { *number } else { 0 }
}

/// Inserts all into a new file; nanoseconds of CPU.
pub fn insert(path: &Path, all: &All) -> Result<u64, String> {
    let made = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        let _: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        connection.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -65536; \
             PRAGMA foreign_keys = OFF;",
        )?;
        let _: i64 = connection.query_row("PRAGMA wal_autocheckpoint = 2000", [], |row| row.get(0))?;
        for statement in SqlDialect::Sqlite.tables().iter().map(String::as_str).chain(INDEXES.iter().copied()) {
            connection.execute_batch(statement)?;
        }
        connection.set_prepared_statement_cache_capacity(64);
        Ok(connection)
    };
    let connection = made().map_err(|e| e.to_string())?;
    let parts = |table: &Table| table.parts().into_iter().map(Insert::into).collect();
    let inserts: Vec<Vec<Insert>> = Table::ALL.iter().map(parts).collect();
    let began = cpu_ns()?;
    for batch in all.callbacks.chunks(BATCH) {
        write(&connection, &inserts, all, batch).map_err(|e| e.to_string())?;
    }
    Ok(cpu_ns()? - began)
}

/// Inserts these cells of a row into a stored table.
struct Insert {
    sql: String,
    cells: Vec<usize>,
}

impl Insert {
    fn into(part: Part) -> Insert {
        let marks: Vec<String> = (1..=part.columns.len()).map(|at| format!("?{at}")).collect();
        let sql = format!("INSERT INTO {} ({}) VALUES ({})", part.name, names(part.columns()), marks.join(", "));
        Insert { sql, cells: part.columns.iter().map(|(at, _)| *at).collect() }
    }
}

fn write(connection: &Connection, inserts: &[Vec<Insert>], all: &All, batch: &[Callback]) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    for callback in batch {
        for row in &callback.rows {
            for insert in &inserts[row.table] {
                let cells = insert.cells.iter().map(|at| &row.cells[*at]);
                bind(&mut *connection.prepare_cached(&insert.sql)?, cells)?;
            }
        }
        let link = "INSERT INTO chain (seq, rows, link) VALUES (?1, ?2, ?3)";
        bind(&mut *connection.prepare_cached(link)?, callback.link.iter())?;
    }
    for balance in all.touched(batch) {
        let put = "INSERT INTO balances (account, currency, debit, credit) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (account, currency) DO UPDATE SET debit = excluded.debit, credit = excluded.credit";
        connection.prepare_cached(put)?.execute(rusqlite::params_from_iter(balance))?;
    }
    connection.prepare_cached("COMMIT")?.execute([])?;
    Ok(())
}

fn bind<'a>(
    statement: &mut rusqlite::Statement<'_>,
    cells: impl Iterator<Item = &'a Value>,
) -> rusqlite::Result<usize> {
    for (at, cell) in cells.enumerate() {
        statement.raw_bind_parameter(at + 1, cell)?;
    }
    statement.raw_execute()
}

/// The array's type of a column in PostgreSQL.
pub fn array(ty: Type) -> &'static str {
    match ty {
        Type::Int => "BIGINT[]",
        Type::Text => "TEXT[]",
        Type::Blob => "BYTEA[]",
    }
}
