//! Rows into an SQLite file that a ledger has made.

use std::path::Path;

use ledger::rows::{Part, Row, Table, Value};
use ledger::store::schema::{INDEXES, index_name};
use rusqlite::Connection;

use super::super::fill::{Chunk, End};
use super::Sink;

/// A file, without its indexes meanwhile.
pub struct Sqlite {
    connection: Connection,
    /// For each table, and each part of it.
    inserts: Vec<Vec<(String, Part)>>,
}

fn said(error: rusqlite::Error) -> String {
    error.to_string()
}

impl Sqlite {
    /// Of a file that is there, and empty.
    pub fn open(path: &Path) -> Result<Sqlite, String> {
        let open = || {
            let connection = Connection::open(path)?;
            let _: String = connection.query_row("PRAGMA journal_mode = OFF", [], |row| row.get(0))?;
            connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -262144")?;
            connection.set_prepared_statement_cache_capacity(32);
            for sql in INDEXES {
                connection.execute_batch(&format!("DROP INDEX {}", index_name(sql)))?;
            }
            Ok(connection)
        };
        let insert = |part: Part| {
            let names: Vec<_> = part.columns().map(|column| format!("\"{}\"", column.name)).collect();
            let marks = vec!["?"; names.len()].join(", ");
            (format!("INSERT INTO {} ({}) VALUES ({marks})", part.name, names.join(", ")), part)
        };
        let inserts = Table::ALL.iter().map(|table| table.parts().into_iter().map(insert).collect());
        Ok(Sqlite { connection: open().map_err(said)?, inserts: inserts.collect() })
    }

    fn insert(&self, row: &Row) -> rusqlite::Result<()> {
        let at = Table::ALL.iter().position(|table| *table == row.table).unwrap_or_default();
        for (sql, part) in &self.inserts[at] {
            let mut statement = self.connection.prepare_cached(sql)?;
            for (to, (at, _)) in part.columns.iter().enumerate() {
                match (at, at.checked_sub(2).map(|at| &row.values[at])) {
                    (0, _) => statement.raw_bind_parameter(to + 1, row.seq)?,
                    (_, None) => {
                        let mut id = uuid::Uuid::encode_buffer();
                        statement.raw_bind_parameter(to + 1, row.id.hyphenated().encode_lower(&mut id) as &str)?;
                    }
                    (_, Some(Value::Null)) => statement.raw_bind_parameter(to + 1, rusqlite::types::Null)?,
                    (_, Some(Value::Int(number))) => statement.raw_bind_parameter(to + 1, number)?,
                    (_, Some(Value::Text(text))) => statement.raw_bind_parameter(to + 1, text)?,
                    (_, Some(Value::Blob(bytes))) => statement.raw_bind_parameter(to + 1, bytes)?,
                }
            }
            statement.raw_execute()?;
        }
        Ok(())
    }
}

impl Sink for Sqlite {
    fn put(&mut self, chunk: &Chunk) -> Result<(), String> {
        let put = || {
            self.connection.execute_batch("BEGIN")?;
            chunk.rows.iter().try_for_each(|row| self.insert(row))?;
            let mut statement =
                self.connection.prepare_cached("INSERT INTO chain (seq, rows, link) VALUES (?, ?, ?)")?;
            for link in &chunk.links {
                statement.execute((link.seq, &link.rows, &link.link))?;
            }
            drop(statement);
            self.connection.execute_batch("COMMIT")
        };
        put().map_err(said)
    }

    fn end(&mut self, end: &End) -> Result<(), String> {
        let write = || {
            for balance in &end.balances {
                let sql = "INSERT INTO balances (account, currency, debit, credit) VALUES (?, ?, ?, ?)";
                let (debit, credit) = (balance.debit.to_string(), balance.credit.to_string());
                self.connection.execute(sql, (&balance.account, balance.currency.code(), debit, credit))?;
            }
            for wrap in &end.wraps {
                let sql =
                    "INSERT INTO keys (id, wrapped_by, purpose, day, wrapped, created_at) VALUES (?, ?, ?, ?, ?, ?)";
                let id = wrap.id.to_string();
                let values = (id, &wrap.by, &wrap.purpose, &wrap.day, &wrap.wrapped, wrap.created_at);
                self.connection.execute(sql, values)?;
            }
            for sql in INDEXES {
                eprintln!("fill: {}", index_name(sql));
                self.connection.execute_batch(sql)?;
            }
            Ok(())
        };
        write().map_err(said)
    }
}
