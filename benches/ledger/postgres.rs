//! Rows into a database of PostgreSQL in which a ledger has made its tables: by COPY.

use std::fmt::Write as _;
use std::io::Write as _;

use ledger::rows::{Table, Value};
use ledger::store::schema::{INDEXES, index_name};
use postgres::{Client, NoTls};

use super::super::fill::{Chunk, End};
use super::Sink;

/// A database, without its indexes meanwhile.
pub struct Postgres {
    client: Client,
}

fn said(error: postgres::Error) -> String {
    format!("{error}: {:?}", std::error::Error::source(&error))
}

impl Postgres {
    /// Of a database that a ledger has opened, and is empty.
    pub fn open(url: &str) -> Result<Postgres, String> {
        let mut client = Client::connect(url, NoTls).map_err(said)?;
        client.batch_execute("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'").map_err(said)?;
        for sql in INDEXES {
            client.batch_execute(&format!("DROP INDEX {}", index_name(sql))).map_err(said)?;
        }
        Ok(Postgres { client })
    }

    fn copy(&mut self, table: &str, names: &str, lines: &str) -> Result<(), String> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut writer = self.client.copy_in(&format!("COPY {table} ({names}) FROM STDIN")).map_err(said)?;
        writer.write_all(lines.as_bytes()).map_err(|e| e.to_string())?;
        writer.finish().map(drop).map_err(said)
    }
}

/// A cell as COPY reads it.
fn cell(line: &mut String, value: &Value) {
    match value {
        Value::Null => line.push_str("\\N"),
        Value::Int(number) => drop(write!(line, "{number}")),
        Value::Text(text) => {
            for c in text.chars() {
                match c {
                    '\\' => line.push_str("\\\\"),
                    '\t' => line.push_str("\\t"),
                    '\n' => line.push_str("\\n"),
                    '\r' => line.push_str("\\r"),
                    c => line.push(c),
                }
            }
        }
        Value::Blob(bytes) => {
            line.push_str("\\\\x");
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            for byte in bytes {
                line.push(DIGITS[usize::from(byte >> 4)] as char);
                line.push(DIGITS[usize::from(byte & 15)] as char);
            }
        }
    }
}

fn line<'a>(lines: &mut String, values: impl Iterator<Item = &'a Value>) {
    for (at, value) in values.enumerate() {
        if at > 0 {
            lines.push('\t');
        }
        cell(lines, value);
    }
    lines.push('\n');
}

impl Sink for Postgres {
    fn put(&mut self, chunk: &Chunk) -> Result<(), String> {
        self.client.batch_execute("BEGIN").map_err(said)?;
        for table in Table::ALL {
            for part in table.parts() {
                let mut lines = String::new();
                for row in chunk.rows.iter().filter(|row| row.table == *table) {
                    let head = [Value::Int(row.seq), Value::Text(row.id.to_string())];
                    let value = |(at, _): &(usize, _)| if *at < 2 { &head[*at] } else { &row.values[at - 2] };
                    line(&mut lines, part.columns.iter().map(value));
                }
                let names: Vec<_> = part.columns().map(|column| format!("\"{}\"", column.name)).collect();
                self.copy(part.name, &names.join(", "), &lines)?;
            }
        }
        let mut lines = String::new();
        for link in &chunk.links {
            let cells = [Value::Int(link.seq), Value::Blob(link.rows.clone()), Value::Blob(link.link.clone())];
            line(&mut lines, cells.iter());
        }
        self.copy("chain", "seq, rows, link", &lines)?;
        self.client.batch_execute("COMMIT").map_err(said)
    }

    fn end(&mut self, end: &End) -> Result<(), String> {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut lines = String::new();
        for balance in &end.balances {
            let cells = [
                text(&balance.account),
                text(balance.currency.code()),
                text(&balance.debit.to_string()),
                text(&balance.credit.to_string()),
            ];
            line(&mut lines, cells.iter());
        }
        self.copy("balances", "account, currency, debit, credit", &lines)?;
        let mut lines = String::new();
        for wrap in &end.wraps {
            let cells = [
                text(&wrap.id.to_string()),
                text(&wrap.by),
                text(&wrap.purpose),
                text(&wrap.day),
                Value::Blob(wrap.wrapped.clone()),
                Value::Int(wrap.created_at),
            ];
            line(&mut lines, cells.iter());
        }
        self.copy("keys", "id, wrapped_by, purpose, day, wrapped, created_at", &lines)?;
        for sql in INDEXES {
            eprintln!("fill: {}", index_name(sql));
            self.client.batch_execute(sql).map_err(said)?;
        }
        // Each by itself: two in one call would be a transaction.
        for sql in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
            eprintln!("fill: {sql}");
            self.client.batch_execute(sql).map_err(said)?;
        }
        Ok(())
    }
}
