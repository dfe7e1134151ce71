//! Stores of version 1 of the schema, whose events had their state in their own row: this ledger brings them up to date.
//!
//! Such a store is made of one of this version: rows go into tables of the frozen text.

mod held;
mod killed;
mod moved;

use std::path::Path;

use config::model::ledger::Store as Place;
use rusqlite::Connection;

use crate::support::postgres::Postgres;

/// Every table of version 1.
const TABLES: [&str; 10] =
    ["evidence", "orders", "transactions", "journals", "entries", "events", "anomalies", "chain", "balances", "keys"];

const SCHEMA: &str = include_str!("older/version1.sql");

/// Makes a store that nobody has open what a ledger of version 1 would have left.
pub fn to_version_1(place: &Place) {
    match place {
        Place::Sqlite(path) => sqlite(path),
        Place::Postgres { url, .. } => postgres(url),
    }
}

/// Copies all rows out of the schema `rest`; the columns of a whole event are in the order they had.
fn copies() -> String {
    let source = |table: &str| if table == "events" { "outgoing".to_owned() } else { table.to_owned() };
    TABLES.map(|table| format!("INSERT INTO {table} SELECT * FROM rest.{};", source(table))).concat()
}

fn sqlite(path: &Path) {
    let rest = path.with_extension("rest");
    // What a killed ledger left in its log goes into the file first.
    let closed = Connection::open(path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    closed.unwrap();
    std::fs::rename(path, &rest).unwrap();
    let made = Connection::open(path).unwrap();
    let begin = "PRAGMA journal_mode = WAL; PRAGMA application_id = 1953459308; PRAGMA user_version = 1;";
    made.execute_batch(&format!("{begin} BEGIN; {SCHEMA} COMMIT;")).unwrap();
    made.execute("ATTACH ?1 AS rest", [rest.to_str().unwrap()]).unwrap();
    made.execute_batch(&copies()).unwrap();
    drop(made);
    std::fs::remove_file(rest).unwrap();
}

fn postgres(url: &str) {
    let spelled = SCHEMA.replace(" STRICT, WITHOUT ROWID", "").replace(" STRICT", "");
    let spelled = [(" INTEGER", " BIGINT"), (" TEXT", " TEXT COLLATE \"C\""), (" BLOB", " BYTEA")]
        .iter()
        .fold(spelled, |sql, (word, theirs)| sql.replace(word, theirs));
    let own = "CREATE TABLE writer (one BOOL PRIMARY KEY CHECK (one), epoch BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL); \
               CREATE TABLE tollgate_meta (one BOOL PRIMARY KEY CHECK (one), version BIGINT NOT NULL); \
               INSERT INTO writer SELECT * FROM rest.writer; INSERT INTO tollgate_meta VALUES (TRUE, 1);";
    let moved = "ALTER SCHEMA public RENAME TO rest; CREATE SCHEMA public;";
    let copied = copies();
    let all = format!("BEGIN; {moved} {spelled} {own} {copied} DROP SCHEMA rest CASCADE; COMMIT");
    Postgres::client(url).batch_execute(&all).unwrap();
}
