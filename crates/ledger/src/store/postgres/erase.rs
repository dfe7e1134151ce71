//! Deletes wraps of keys in PostgreSQL, and rewrites their table so that its file holds none of them.
//!
//! It works in a session of its own. `VACUUM FULL` would copy deleted rows, too, as long as an older view is open. So
//! the remaining rows are written into a new file (`TRUNCATE` begins one), and the commit empties the old one.

use super::connect;
use crate::store::StoreError;
use crate::store::erase::{Erased, Which};
use base::secret::Secret;

/// Deletes these wraps.
pub fn erase(url: &str, password: Option<&Secret>, which: Which<'_>) -> Result<Erased, StoreError> {
    let mut client = connect::operator(url, password)?;
    let (condition, value) = which.sql();
    let mut run = || {
        // An uncommitted transaction ends with the connection.
        client.batch_execute("BEGIN; LOCK TABLE keys IN ACCESS EXCLUSIVE MODE")?;
        let wraps = client.execute(&format!("DELETE FROM keys WHERE {condition}"), &[&value])?;
        client.batch_execute(
            "CREATE TEMP TABLE rest ON COMMIT DROP AS SELECT * FROM keys; TRUNCATE keys; \
             INSERT INTO keys SELECT * FROM rest",
        )?;
        client.batch_execute("COMMIT")?;
        Ok(wraps)
    };
    let wraps = run().map_err(|e: tokio_postgres::Error| super::cells::failure(&e))?;
    Ok(Erased { wraps, rest: None })
}
