//! Makes indexes that a database of an older ledger lacks, or whose creation was interrupted.
//!
//! They are made beside the writer (`CREATE INDEX CONCURRENTLY`), on a connection and a thread of their own: callbacks
//! are taken meanwhile, and reads that need a missing index are slow until then. A second advisory lock keeps two
//! processes from making the same one. The server finishes what it has begun, whatever becomes of this process.

use std::time::Duration;

use super::client::Client;
use super::connect::{LOCK, connect, said};
use crate::store::StoreError;
use crate::store::schema::{INDEXES, index_name};
use base::clock;
use base::secret::Secret;

/// Time between two tries for the lock. A session that waited for it would hold a view, for which the other would wait.
const AGAIN: Duration = Duration::from_secs(1);

/// Starts making the missing indexes, in the background.
pub(super) fn complete(client: &mut Client, url: &str, password: Option<&Secret>) -> Result<(), StoreError> {
    let missing = missing(client)?;
    if missing.is_empty() {
        return Ok(());
    }
    log::warn!("ledger: {} indexes are missing; they are made beside the writer", missing.len());
    let (url, password) = (url.to_owned(), password.cloned());
    let work = move || {
        if let Err(e) = make(&url, password.as_ref()) {
            log::error!("ledger: an index could not be made, the next start tries again: {e}");
        }
    };
    let thread = std::thread::Builder::new().name("ledger-indexes".into()).spawn(work);
    thread.map(drop).map_err(|e| StoreError::Full(format!("a thread for indexes: {e}")))
}

fn missing(client: &mut Client) -> Result<Vec<&'static str>, StoreError> {
    let mut missing = vec![];
    for sql in INDEXES {
        let valid = "SELECT EXISTS (SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid)";
        let row = client.query_one(valid, &[&index_name(sql)]).map_err(|e| said(&e))?;
        if !row.try_get(0).map_err(|e| said(&e))? {
            missing.push(*sql);
        }
    }
    Ok(missing)
}

fn make(url: &str, password: Option<&Secret>) -> Result<(), StoreError> {
    let (mut client, _) = connect(url, password, "tollgate-ledger-indexes")?;
    client.batch_execute("SET statement_timeout = 0; SET lock_timeout = 0").map_err(|e| said(&e))?;
    loop {
        let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&(LOCK + 1)]).map_err(|e| said(&e))?;
        if row.try_get(0).map_err(|e| said(&e))? {
            break;
        }
        std::thread::sleep(AGAIN);
    }
    for sql in missing(&mut client)? {
        let (name, began) = (index_name(sql), clock::now());
        log::warn!("ledger: making the index {name}");
        // An interrupted index exists, but cannot be used.
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {name}")).map_err(|e| said(&e))?;
        let sql = sql.replace("INDEX IF NOT EXISTS", "INDEX CONCURRENTLY IF NOT EXISTS");
        client.batch_execute(&sql).map_err(|e| said(&e))?;
        log::warn!("ledger: the index {name} is there after {:.1} s", clock::now().since(began).as_secs_f64());
    }
    Ok(())
}
