//! `tollgate ledger archive` and `restore`: a day's evidence in a file instead of the store, and back.

use std::path::Path;
use std::process::ExitCode;

use super::{configured, over, unread};
use crate::cli::{Conf, fail, print};
use ledger::archive::{Archive, ArchiveError, Books};
use ledger::audit;
use ledger::query;
use ledger::store::{self, operator};

/// Opens the books for this work.
fn with(
    conf: &Conf,
    json: bool,
    work: impl FnOnce(&mut Books<'_>) -> Result<Archive, ArchiveError>,
) -> Result<Archive, ExitCode> {
    let ledger = configured(&conf.conf, json)?;
    let mut reader = store::reader(&ledger.store).map_err(|e| unread(&e))?;
    let wraps = query::wraps(&mut *reader).map_err(|e| unread(&e))?;
    let (ring, _) = audit::keys::open(&ledger.encryption_keys, &wraps).map_err(|e| {
        fail(false, format!("the encryption key does not open this store: {e}; see `encryption_key_files`"))
    })?;
    let mut operator = operator::open(&ledger.store).map_err(|e| unread(&e))?;
    let mut books = Books { reader: &mut *reader, operator: &mut *operator, key: ring.chain() };
    work(&mut books).map_err(|e| fail(false, e))
}

/// Moves a day's evidence into a file.
pub fn archive(day: &str, file: &Path, conf: &Conf, json: bool) -> Result<ExitCode, ExitCode> {
    let date = over(day)?;
    let done = with(conf, json, |books| books.archive(date, file))?;
    told(&done, json, &format!("{} messages of {} are in {} now", done.rows, done.day, file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Puts an archived day back.
pub fn restore(file: &Path, conf: &Conf, json: bool) -> Result<ExitCode, ExitCode> {
    let done = with(conf, json, |books| books.restore(file))?;
    told(&done, json, &format!("{} messages of {} are back in the store", done.rows, done.day));
    Ok(ExitCode::SUCCESS)
}

fn told(done: &Archive, json: bool, said: &str) {
    if json {
        print(serde_json::json!({ "day": done.day, "rows": done.rows, "digest": done.digest }));
    } else {
        print(said);
    }
}
