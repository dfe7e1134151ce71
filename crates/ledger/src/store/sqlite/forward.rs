//! Brings a file of an older ledger up to date, in one transaction: a kill leaves it as it was.
//!
//! The holder of the lock does it before it opens the books. From version 1 it takes about a second for each million events,
//! so a large file waits until there is time for it, as for [`indexes`](super::indexes).

use rusqlite::{Connection, OptionalExtension};

use super::cells::failure;
use super::indexes::rows;
use crate::store::schema::{FEW, SqlDialect, VERSION};
use crate::store::{StoreError, later};
use base::clock;

/// Whether this version of SQLite has `ALTER COLUMN … DROP NOT NULL`.
fn alters(version: i32) -> bool {
    version >= 3_053_000
}

/// Brings the file up to date from version `from`. If that takes long and there is no `time`, it only returns an error.
pub(super) fn bring(connection: &Connection, from: i64, time: bool) -> Result<(), StoreError> {
    let rows = rows(connection)?;
    if from < 2 && !alters(rusqlite::version_number()) {
        return Err(StoreError::Row(format!(
            "SQLite {} cannot bring the file of an older tollgate up to date; link 3.53.0 or newer",
            rusqlite::version()
        )));
    }
    free(connection, from)?;
    if from < 2 && rows > FEW && !time {
        return Err(later(rows));
    }
    let began = clock::now();
    log::warn!("ledger: bringing the store of an older tollgate up to date (schema {VERSION}), over {rows} rows");
    connection.execute_batch(&statements(from)).map_err(|e| failure(&e))?;
    log::warn!("ledger: the store is up to date after {:.1} s", clock::now().since(began).as_secs_f64());
    Ok(())
}

/// Checks that the file has none of the names that are needed now: another program's tables are left alone.
fn free(connection: &Connection, from: i64) -> Result<(), StoreError> {
    let kind = "SELECT type FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    for name in SqlDialect::new_names(from) {
        let found = connection.query_row(kind, [name], |row| row.get::<_, String>(0)).optional();
        if let Some(kind) = found.map_err(|e| failure(&e))? {
            let path = connection.path().unwrap_or_default();
            return Err(StoreError::Row(format!("{path}: it has a {kind} {name} that is not the ledger's: rename it")));
        }
    }
    Ok(())
}

fn statements(from: i64) -> String {
    let steps: String = SqlDialect::Sqlite.forward(from).iter().map(|step| format!("{step};")).collect();
    format!("BEGIN IMMEDIATE;{steps}PRAGMA user_version = {VERSION}; COMMIT;")
}

#[cfg(test)]
mod tests {
    use super::alters;

    #[test]
    fn libraries_that_cannot_drop_a_constraint_are_known() {
        assert!(!alters(3_051_003) && !alters(3_052_000) && alters(3_053_000));
        assert!(alters(rusqlite::version_number()));
    }
}
