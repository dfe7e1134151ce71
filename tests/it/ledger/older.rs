//! Stores of older versions of the schema, which this ledger brings up to date. In version 1 events had their state in
//! their own row; version 2 knew nothing that merchants ask for by API; version 3 called no provider.
//!
//! Such a store is made of one of this version: rows go into tables of the frozen text.

mod held;
mod killed;
mod moved;

use std::path::Path;

use config::model::ledger::Store as Place;
use rusqlite::Connection;

use crate::support::postgres::Postgres;

/// A version of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The first one.
    One = 1,
    /// With the outbox beside the events.
    Two = 2,
    /// With what merchants ask for by API.
    Three = 3,
}

impl Version {
    /// Its schema, as SQLite has it.
    fn schema(self) -> &'static str {
        match self {
            Version::One => include_str!("older/version1.sql"),
            Version::Two => include_str!("older/version2.sql"),
            Version::Three => include_str!("older/version3.sql"),
        }
    }

    /// Statements that copy all rows out of the schema `rest`.
    fn copies(self) -> String {
        let tables = self.schema().lines().filter_map(|line| line.strip_prefix("CREATE TABLE "));
        let copy = |table: &str| {
            let (name, rest) = table.split_once(" (").unwrap();
            let rest = rest.split(", PRIMARY KEY (").next().unwrap();
            let columns: Vec<&str> = rest.split(", ").map(|column| column.split(' ').next().unwrap()).collect();
            let columns = columns.join(", ");
            // The columns of a whole event stand in the view.
            let source = if self == Version::One && name == "events" { "outgoing" } else { name };
            format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM rest.{source};")
        };
        tables.map(copy).collect()
    }
}

/// Makes a store that nobody has open what a ledger of version 1 would have left.
pub fn to_version_1(place: &Place) {
    to_version(place, Version::One);
}

/// Makes a store that nobody has open what a ledger of this version would have left.
pub fn to_version(place: &Place, version: Version) {
    match place {
        Place::Sqlite(path) => sqlite(path, version),
        Place::Postgres { url, .. } => postgres(url, version),
    }
}

fn sqlite(path: &Path, version: Version) {
    let rest = path.with_extension("rest");
    // What a killed ledger left in its log goes into the file first.
    let closed = Connection::open(path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    closed.unwrap();
    std::fs::rename(path, &rest).unwrap();
    let made = Connection::open(path).unwrap();
    let begin = "PRAGMA journal_mode = WAL; PRAGMA application_id = 1953459308;";
    let (number, schema) = (version as i64, version.schema());
    made.execute_batch(&format!("{begin} PRAGMA user_version = {number}; BEGIN; {schema} COMMIT;")).unwrap();
    made.execute("ATTACH ?1 AS rest", [rest.to_str().unwrap()]).unwrap();
    made.execute_batch(&version.copies()).unwrap();
    drop(made);
    std::fs::remove_file(rest).unwrap();
}

fn postgres(url: &str, version: Version) {
    let spelled = version.schema().replace(" STRICT, WITHOUT ROWID", "").replace(" STRICT", "");
    let spelled = [(" INTEGER", " BIGINT"), (" TEXT", " TEXT COLLATE \"C\""), (" BLOB", " BYTEA")]
        .iter()
        .fold(spelled, |sql, (word, theirs)| sql.replace(word, theirs));
    let own = "CREATE TABLE writer (one BOOL PRIMARY KEY CHECK (one), epoch BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL); \
               CREATE TABLE tollgate_meta (one BOOL PRIMARY KEY CHECK (one), version BIGINT NOT NULL); \
               INSERT INTO writer SELECT * FROM rest.writer;";
    let moved = "ALTER SCHEMA public RENAME TO rest; CREATE SCHEMA public;";
    let (number, copied) = (version as i64, version.copies());
    let numbered = format!("INSERT INTO tollgate_meta VALUES (TRUE, {number});");
    let all = format!("BEGIN; {moved} {spelled} {own} {numbered} {copied} DROP SCHEMA rest CASCADE; COMMIT");
    Postgres::client(url).batch_execute(&all).unwrap();
}
