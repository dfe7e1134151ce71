//! Deletes wraps of keys by a session of its own, and writes their table anew, so that its file holds none of them.

use super::connect;
use crate::config::model::Secret;
use crate::ledger::store::Failure;
use crate::ledger::store::erase::{Erased, Which};

/// Deletes them.
pub fn erase(url: &str, password: Option<&Secret>, which: Which<'_>) -> Result<Erased, Failure> {
    let mut client = connect::operator(url, password)?;
    let (condition, value) = which.sql();
    let wraps = client
        .execute(&format!("DELETE FROM keys WHERE {condition}"), &[&value])
        .map_err(|e| super::cells::failure(&e))?;
    let rest = client.batch_execute("VACUUM FULL keys").err().map(|e| {
        let why = e.as_db_error().map_or_else(|| e.to_string(), |error| error.message().to_owned());
        format!("the table could not be written anew ({why}) and may hold them; run `VACUUM FULL keys` later")
    });
    Ok(Erased { wraps, rest })
}
