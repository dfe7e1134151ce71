//! `tollgate ledger keys`: the data keys of evidence, and the encryption keys that wrap them.
//!
//! `list` changes nothing. `rotate` deletes the wraps by older encryption keys once every key has a durable one by the
//! first of `encryption_key_files`. A ledger that was started with that key first has written them; if none runs, this
//! command does, but it leaves a store of an older version to a ledger. `erase` deletes the wraps of a day. Each
//! reports what an older copy could still read.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::{configured, opened, over, unread};
use crate::cli::{Conf, fail, print};
use base::clock;
use config::model::ledger::Ledger;
use ledger::audit;
use ledger::keys::{Ring, fingerprint};
use ledger::query;
use ledger::rows::Wrap;
use ledger::store::erase::{Erased, Which, erase};
use ledger::store::{self, Changes};

/// The subcommands.
#[derive(Subcommand)]
pub enum KeysCommand {
    /// List all keys and the encryption keys that wrap them.
    List(Conf),
    /// Delete the wraps by older encryption keys; the first of `encryption_key_files` is the new one.
    Rotate(Conf),
    /// Erase what was received on a day, by deleting the wraps of its keys.
    Erase {
        /// Day in UTC, such as 2026-11-21.
        #[arg(value_name = "DAY")]
        day: String,
        /// The configuration.
        #[command(flatten)]
        conf: Conf,
    },
}

/// Runs the command.
pub fn run(command: &KeysCommand, json: bool) -> Result<ExitCode, ExitCode> {
    match command {
        KeysCommand::List(conf) => list(conf, json),
        KeysCommand::Rotate(conf) => rotate(conf, json),
        KeysCommand::Erase { day, conf } => erased(day, conf, json),
    }
}

/// What backups and logs keep, whatever these commands do.
const COPIES: &str = "copies that were made before (backups, archived write-ahead logs, snapshots of the disk) still hold the \
                      wraps: destroy them, or the encryption keys that wrap them";

/// A key in the list.
#[derive(Debug, PartialEq, Serialize)]
struct Key {
    id: String,
    purpose: String,
    day: Option<String>,
    created_at: String,
    /// Fingerprints of encryption keys.
    wrapped_by: Vec<String>,
}

fn keys(wraps: &[Wrap]) -> Vec<Key> {
    let mut by_id: BTreeMap<_, Vec<&Wrap>> = BTreeMap::new();
    wraps.iter().for_each(|wrap| by_id.entry(wrap.id).or_default().push(wrap));
    let key = |wraps: Vec<&Wrap>| {
        let first = wraps.iter().min_by_key(|wrap| wrap.created_at)?;
        Some(Key {
            id: first.id.to_string(),
            purpose: first.purpose.clone(),
            day: Some(first.day.clone()).filter(|day| !day.is_empty()),
            created_at: clock::rfc3339(u64::try_from(first.created_at).unwrap_or_default()),
            wrapped_by: wraps.iter().map(|wrap| wrap.by.clone()).collect(),
        })
    };
    by_id.into_values().filter_map(key).collect()
}

/// The fingerprint of the key that encrypts.
fn first(ledger: &Ledger) -> Result<String, ExitCode> {
    let key = ledger.encryption_keys.first().map(|key| fingerprint(&key.0));
    key.ok_or_else(|| fail(false, "there is no encryption key; see `encryption_key_files`"))
}

fn list(conf: &Conf, json: bool) -> Result<ExitCode, ExitCode> {
    let (ledger, mut reader) = opened(&conf.conf, json)?;
    let (found, first) = (keys(&query::wraps(&mut *reader).map_err(|e| unread(&e))?), first(&ledger)?);
    if json {
        print(serde_json::json!({ "encrypts": first, "data": found }));
        return Ok(ExitCode::SUCCESS);
    }
    for key in &found {
        let what = key.day.as_deref().unwrap_or("chain");
        print(format!("{what:<10}  {}  made {}  wrapped by {}", key.id, key.created_at, key.wrapped_by.join(", ")));
    }
    print(format!("{first} encrypts, the first of `encryption_key_files`"));
    let older = found.iter().filter(|key| key.wrapped_by.iter().any(|by| *by != first)).count();
    if older > 0 {
        print(format!("{older} keys are wrapped by others too, who could read them from this store: `keys rotate`"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a wrap by the first encryption key for each key, and a new data key, if no ledger runs.
fn rewrap(ledger: &Ledger) -> Result<(), ExitCode> {
    let told = |e: &dyn std::fmt::Display| fail(false, format!("the keys cannot be rotated: {e}"));
    let Some(mut store) = store::open(&ledger.store).map_err(|e| told(&e))? else { return Ok(()) };
    let now = clock::wall_ms();
    // A concurrent erasure of a day waits until all is written, or came first.
    store.begin().map_err(|e| told(&e))?;
    let stored = store.wraps().map_err(|e| told(&e))?;
    if stored.is_empty() {
        return Ok(());
    }
    let (_, wraps) = Ring::open(&ledger.encryption_keys, &stored, now).map_err(|e| told(&e))?;
    if wraps.is_empty() {
        return Ok(());
    }
    let written = store.write(&Changes { wraps, ..Changes::default() });
    written.and_then(|()| store.commit()).map_err(|e| told(&e))
}

fn rotate(conf: &Conf, json: bool) -> Result<ExitCode, ExitCode> {
    let ledger = configured(&conf.conf, json)?;
    let first = first(&ledger)?;
    // A writer migrates an older store, which was not requested here: a reader refuses it.
    store::reader(&ledger.store).map(drop).map_err(|e| unread(&e))?;
    rewrap(&ledger)?;
    let wraps =
        store::reader(&ledger.store).and_then(|mut reader| query::wraps(&mut *reader)).map_err(|e| unread(&e))?;
    let found = keys(&wraps);
    let only = &ledger.encryption_keys[..1];
    let ours: Vec<Wrap> = wraps.iter().filter(|wrap| wrap.by == first).cloned().collect();
    // Each must open with the new key alone before another wrap is deleted.
    let opens = found.is_empty() || audit::keys::open(only, &ours).is_ok_and(|(_, problems)| problems.is_empty());
    if !opens || found.iter().any(|key| !key.wrapped_by.contains(&first)) {
        let why = "not every key has a wrap by the first of `encryption_key_files`: a ledger runs with other keys; start it \
                   again with the new key before the old one, then run this again";
        return Err(fail(false, why));
    }
    let done = erase(&ledger.store, Which::NotBy(&first)).map_err(|e| fail(false, e))?;
    let said = format!("{first} alone wraps the {} keys now; {} wraps by others are deleted", found.len(), done.wraps);
    let rest = "the files of older keys may leave `encryption_key_files`. Who has one of those keys";
    told(
        &done,
        json,
        &said,
        &format!("{rest}, and a copy of the store from before, reads what that copy holds; {COPIES}"),
    )
}

fn erased(day: &str, conf: &Conf, json: bool) -> Result<ExitCode, ExitCode> {
    let day = over(day)?.to_string();
    let ledger = configured(&conf.conf, json)?;
    let done = erase(&ledger.store, Which::Day(&day)).map_err(|e| fail(false, e))?;
    let said = match done.wraps {
        0 => format!("{day} has no key: nothing was received then, or it is erased already"),
        wraps => {
            format!("{wraps} wraps of the keys of {day} are deleted: what was received then can be decrypted no more")
        }
    };
    let running = "a ledger that runs has its keys in memory until it is started again";
    told(&done, json, &said, &format!("{running}; {COPIES}"))
}

/// Prints what was done, and what it did not reach.
fn told(done: &Erased, json: bool, said: &str, beyond: &str) -> Result<ExitCode, ExitCode> {
    if json {
        print(serde_json::json!({ "wraps": done.wraps, "left": done.rest, "beyond": beyond }));
    } else {
        print(said);
        done.rest.iter().for_each(|rest| print(format!("but {rest}")));
        print(format!("beyond this store: {beyond}"));
    }
    Ok(if done.rest.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn keys_are_listed_with_all_that_wrap_them() {
        let wrap = |id: u128, by: &str, day: &str, created_at| Wrap {
            id: Uuid::from_u128(id),
            by: by.to_owned(),
            purpose: if day.is_empty() { "chain" } else { "data" }.to_owned(),
            day: day.to_owned(),
            wrapped: vec![],
            created_at,
        };
        let found = keys(&[wrap(2, "b", "2026-11-21", 5), wrap(1, "a", "", 0), wrap(2, "a", "2026-11-21", 3)]);
        assert_eq!((found[0].day.clone(), found[0].wrapped_by.clone()), (None, vec!["a".to_owned()]));
        assert_eq!((found[1].created_at.as_str(), found[1].wrapped_by.len()), ("1970-01-01T00:00:00.003Z", 2));
    }
}
