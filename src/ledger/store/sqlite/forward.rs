//! A file of an older ledger is brought up to date, in one transaction: a kill leaves it as it was.
//!
//! The holder of the lock does it before it takes the books. It takes about a second for each million events. So a large
//! file waits until there is time for it, as for [`indexes`](super::indexes).

use rusqlite::Connection;

use super::cells::failure;
use super::indexes::rows;
use crate::clock;
use crate::ledger::store::schema::{Dialect, FEW, VERSION};
use crate::ledger::store::{Failure, later};

/// Brings it up to date; where that takes long and there is no `time`, only says so.
pub(super) fn bring(connection: &Connection, time: bool) -> Result<(), Failure> {
    let rows = rows(connection)?;
    if rows > FEW && !time {
        return Err(later(rows));
    }
    let began = clock::now();
    log::warn!("ledger: bringing the store of an older tollgate up to date (schema {VERSION}), over {rows} rows");
    connection.execute_batch(&statements()).map_err(|e| failure(&e))?;
    log::warn!("ledger: the store is up to date after {:.1} s", clock::now().since(began).as_secs_f64());
    Ok(())
}

fn statements() -> String {
    let steps: String = Dialect::Sqlite.forward().iter().map(|step| format!("{step};")).collect();
    format!("BEGIN IMMEDIATE;{steps}PRAGMA user_version = {VERSION}; COMMIT;")
}
