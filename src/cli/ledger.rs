//! `tollgate ledger`: serves a ledger alone, or reads its store, whether or not a ledger runs on it.
//!
//! Commands that read change nothing and need no lock; only `keys`, `archive` and `restore` change data, outside of the
//! chain. These and `verify` need the encryption keys, the others do not. A store with a problem gives exit code 1, as does one that
//! cannot be read.

mod archive;
mod keys;
mod reconcile;

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde::Serialize;

use super::Conf;
use super::check::report;
use base::clock;
use config;
use config::model::ledger::Ledger;
use ledger::anchor;
use ledger::audit::{self, Report};
use ledger::chain::ChainKey;
use ledger::export::{self, ExportError, Format};
use ledger::query::{self, views::Account};
use ledger::store::{self, Reader, StoreError};

/// The subcommands.
#[derive(Subcommand)]
pub enum LedgerCommand {
    /// Serve the ledger of a configuration, without the gateway.
    Run(Conf),
    /// Verify the books: every row, the chain, the anchor, and what follows from the rows.
    Verify(Conf),
    /// Print the balance of every account.
    Balances(Conf),
    /// List, rotate or erase the keys that encrypt evidence.
    Keys {
        /// The subcommand.
        #[command(subcommand)]
        what: keys::KeysCommand,
    },
    /// Hold a provider's statement against the books of the running ledger; 1 where anomalies are open.
    Reconcile {
        /// The channel whose statement it is.
        #[arg(value_name = "CHANNEL")]
        channel: String,
        /// The provider's file, as it is.
        #[arg(value_name = "STATEMENT")]
        statement: PathBuf,
        /// Its day in the provider's time zone, such as 2026-11-21; else as the file shows it.
        #[arg(long, value_name = "DAY")]
        date: Option<String>,
        /// The configuration.
        #[command(flatten)]
        conf: Conf,
    },
    /// Move what was received on a day out of the store into a file; the books stay whole.
    Archive {
        /// Day in UTC, such as 2026-11-21.
        #[arg(value_name = "DAY")]
        day: String,
        /// The file to write.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The configuration.
        #[command(flatten)]
        conf: Conf,
    },
    /// Put an archived day back into the store.
    Restore {
        /// The archive's file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// The configuration.
        #[command(flatten)]
        conf: Conf,
    },
    /// Print all entries.
    Export {
        /// The configuration.
        #[command(flatten)]
        conf: Conf,
        /// Format.
        #[arg(long, value_enum)]
        format: Format,
    },
}

/// Runs the command.
pub fn run(command: &LedgerCommand, json: bool) -> ExitCode {
    crate::telemetry::init_messages();
    let done = match command {
        LedgerCommand::Run(conf) => return super::run::ended(crate::app::standalone_ledger::run(&conf.conf), json),
        LedgerCommand::Verify(conf) => {
            opened(&conf.conf, json).and_then(|(ledger, reader)| verify(&ledger, reader, json))
        }
        LedgerCommand::Balances(conf) => opened(&conf.conf, json).and_then(|(_, reader)| balances(reader, json)),
        LedgerCommand::Keys { what } => keys::run(what, json),
        LedgerCommand::Reconcile { channel, statement, date, conf } => {
            reconcile::reconcile((channel, statement, date.as_deref()), conf, json)
        }
        LedgerCommand::Archive { day, file, conf } => archive::archive(day, file, conf, json),
        LedgerCommand::Restore { file, conf } => archive::restore(file, conf, json),
        LedgerCommand::Export { conf, format } => {
            opened(&conf.conf, json).and_then(|(_, reader)| printed(reader, *format))
        }
    };
    done.unwrap_or_else(|code| code)
}

/// The ledger of a configuration, and its store.
fn opened(path: &Path, json: bool) -> Result<(Ledger, Box<dyn Reader>), ExitCode> {
    let ledger = configured(path, json)?;
    match store::reader(&ledger.store) {
        Ok(reader) => Ok((ledger, reader)),
        Err(e) => Err(unread(&e)),
    }
}

/// The ledger of a configuration.
fn configured(path: &Path, json: bool) -> Result<Ledger, ExitCode> {
    let loaded = config::load(path).map_err(|findings| {
        report(&findings, json);
        ExitCode::FAILURE
    })?;
    let Some(ledger) = loaded.config.ledger else {
        let hint = "add one with `address`, `store`, `encryption_key_files` and a channel";
        return Err(super::fail(false, format!("{} has no table [ledger]: {hint}", path.display())));
    };
    Ok(ledger)
}

/// A day in UTC that is over.
fn over(day: &str) -> Result<jiff::civil::Date, ExitCode> {
    let date: jiff::civil::Date =
        day.parse().map_err(|_| super::fail(false, format!("`{day}` is no day, such as 2026-11-21")))?;
    let today = clock::rfc3339(clock::wall_ms());
    if *date.to_string() >= today[..10] {
        return Err(super::fail(false, format!("{date} is not over, in UTC: wait until tomorrow")));
    }
    Ok(date)
}

fn unread(e: &StoreError) -> ExitCode {
    super::fail(false, format!("the books cannot be read: {e}"))
}

fn verify(ledger: &Ledger, mut reader: Box<dyn Reader>, json: bool) -> Result<ExitCode, ExitCode> {
    // The anchor comes first: a running ledger writes after it.
    let place = anchor::path(&ledger.state_dir);
    let anchor = anchor::read(&place)
        .map_err(|e| super::fail(false, format!("the anchor {} cannot be read: {e}", place.display())))?;
    let wraps = query::wraps(&mut *reader).map_err(|e| unread(&e))?;
    let begun = !wraps.is_empty() || query::head(&mut *reader).map_err(|e| unread(&e))?.0 != 0;
    let (chain, keys) = if begun {
        let (ring, keys) = audit::keys::open(&ledger.encryption_keys, &wraps).map_err(|e| {
            super::fail(false, format!("the encryption key does not open this store: {e}; see `encryption_key_files`"))
        })?;
        (ring.chain().clone(), keys)
    } else {
        // No ledger has written to it yet: there is no link, and any key will do.
        (ChainKey::new(&[0; 32]), vec![])
    };
    let report = audit::verify(&mut *reader, &chain, keys, anchor.as_ref()).map_err(|e| unread(&e))?;
    Ok(told(&report, anchor.is_some(), json))
}

/// Prints the result.
fn told(report: &Report, anchored: bool, json: bool) -> ExitCode {
    if json {
        super::print(serde_json::to_string_pretty(report).unwrap_or_default());
    } else {
        super::print(sentence(report, anchored));
    }
    if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sentence(report: &Report, anchored: bool) -> String {
    let mut text = match (report.ok, report.problems.len()) {
        (true, _) => format!("the books are whole up to sequence {}", report.sequence),
        (false, 1) => format!("the books are not whole: 1 problem up to sequence {}", report.sequence),
        (false, n) => format!("the books are not whole: {n} problems up to sequence {}", report.sequence),
    };
    if !anchored && report.sequence > 0 {
        text.push_str("; there is no anchor, so a cut tail would not be found");
    }
    for problem in &report.problems {
        text.push_str(&format!("\n  {:<8} {}", problem.kind.label(), problem.table));
        if let Some(id) = &problem.id {
            text.push_str(&format!(" {id}"));
        }
        if let Some(sequence) = problem.sequence {
            text.push_str(&format!(" (sequence {sequence})"));
        }
    }
    text
}

#[derive(Serialize)]
struct Balances {
    data: Vec<Account>,
}

fn balances(mut reader: Box<dyn Reader>, json: bool) -> Result<ExitCode, ExitCode> {
    let data = query::accounts::all(&mut *reader).map_err(|e| unread(&e))?;
    if json {
        super::print(serde_json::to_string_pretty(&Balances { data }).unwrap_or_default());
        return Ok(ExitCode::SUCCESS);
    }
    if data.is_empty() {
        super::print("no account has a balance");
    }
    for account in data {
        for balance in &account.balances {
            let (id, currency, minor) = (&account.id, &balance.currency, balance.balance_minor);
            super::print(format!("{id:<40}  {currency}  {minor:>20}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn printed(mut reader: Box<dyn Reader>, format: Format) -> Result<ExitCode, ExitCode> {
    let mut out = BufWriter::new(io::stdout().lock());
    match export::export(&mut *reader, format, &mut out) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // A reader that has left is not an error.
        Err(ExportError::Io(e)) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => {
            // The output so far comes before the reason.
            let _ = out.flush();
            Err(super::fail(false, e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::audit::{Discrepancy, DiscrepancyKind};

    #[test]
    fn every_problem_is_named_with_table_and_id() {
        let problem = Discrepancy {
            kind: DiscrepancyKind::Removed,
            table: "entries",
            id: Some("abc".to_owned()),
            sequence: Some(7),
        };
        let report = Report { ok: false, sequence: 9, head: "00".to_owned(), problems: vec![problem] };
        let text = sentence(&report, true);
        assert_eq!(text, "the books are not whole: 1 problem up to sequence 9\n  removed  entries abc (sequence 7)");
        let whole = Report { ok: true, problems: vec![], ..report };
        assert!(sentence(&whole, false).contains("there is no anchor"));
        assert_eq!(sentence(&whole, true), "the books are whole up to sequence 9");
    }

    #[test]
    fn a_report_has_its_fixed_words() {
        let problem = Discrepancy {
            kind: DiscrepancyKind::Balance,
            table: "balances",
            id: Some("a:b".to_owned()),
            sequence: None,
        };
        let report = Report { ok: false, sequence: 9, head: "00ff".to_owned(), problems: vec![problem] };
        assert_eq!(
            serde_json::to_string(&report).unwrap(),
            r#"{"ok":false,"sequence":9,"head":"00ff","problems":[{"kind":"balance","table":"balances","id":"a:b","sequence":null}]}"#
        );
    }
}
