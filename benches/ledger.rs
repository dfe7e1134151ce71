//! The load of `scripts/bench --ledger`, and the base that the ledger's CPU time is compared to.
//!
//! `ledger load` is the payment providers and the one merchant in a process: it signs callbacks before they are needed,
//! sends them (closed loop, or open loop at a fixed rate), and takes the merchant's deliveries. It is told what to do by
//! lines of JSON on standard input, and answers each by one on standard output. `ledger base` does, in one thread, what
//! no ledger could leave out: verify, encrypt, insert.
//!
//! `ledger fill` fills a store with as many transactions as it is told, `ledger plans` prints how the API's first pages are
//! answered on it; `scripts/bench --ledger-scale` measures a ledger on such a store.
//!
//! `cargo build --release --bench ledger` builds it under the profile that the gateway is shipped with. Not covered: TLS,
//! other providers than the three of the requirement, refunds.

#![allow(clippy::disallowed_methods)]

#[path = "ledger/base.rs"]
mod base;
#[path = "ledger/corpus.rs"]
mod corpus;
#[path = "ledger/fill.rs"]
mod fill;
#[path = "ledger/into.rs"]
mod into;
#[path = "ledger/load.rs"]
mod load;
#[path = "ledger/merchant.rs"]
mod merchant;
#[path = "ledger/plans.rs"]
mod plans;
#[path = "ledger/rows.rs"]
mod rows;
#[path = "ledger/unnest.rs"]
mod unnest;

use std::path::{Path, PathBuf};

use clap::{ArgAction, Parser, Subcommand};
use config::model::ledger::Store;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What `scripts/bench --ledger` starts.
#[derive(Parser)]
#[command(name = "ledger")]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// What `cargo bench` passes to every bench; there is nothing to measure without a ledger.
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    bench: bool,
}

#[derive(Subcommand)]
enum Part {
    /// Senders and a merchant, told what to do on standard input.
    Load {
        /// Has `alipay.key`, `wechat.key` (PKCS#8 in PEM), `apiv3.key` and `stripe.whsec`.
        secrets: PathBuf,
    },
    /// Verify, encrypt and insert, and nothing else.
    Base {
        /// As for `load`.
        secrets: PathBuf,
        /// The SQLite file of a ledger that has taken such callbacks: its rows are inserted.
        rows: PathBuf,
        /// Where to: `sqlite:PATH` or `postgres://…`, empty.
        store: String,
        /// Callbacks that are verified and encrypted.
        #[arg(long, default_value_t = 6_000)]
        callbacks: usize,
    },
    /// Fills an empty store with transactions.
    Fill {
        /// Where to: `sqlite:PATH` or `postgres://…`.
        store: String,
        /// 64 hex digits: the ledger's first encryption key.
        key: PathBuf,
        /// Rows of the table `transactions`.
        #[arg(long, default_value_t = 10_000_000)]
        transactions: usize,
        /// Bytes of a callback's body; its headers have a quarter of that.
        #[arg(long, default_value_t = 400)]
        body: usize,
    },
    /// Prints the plans of the API's first pages.
    Plans {
        /// `sqlite:PATH` or `postgres://…`.
        store: String,
        /// Whose.
        #[arg(long, default_value = "corner")]
        merchant: String,
        /// Of an order.
        #[arg(long, default_value = "order-0000001003")]
        number: String,
    },
}

/// A store by its name.
fn place(name: &str) -> Store {
    match name.strip_prefix("sqlite:") {
        Some(path) => Store::Sqlite(path.into()),
        None => Store::Postgres { url: name.to_owned(), password: None },
    }
}

fn key(path: &Path) -> Result<[u8; 32], String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let digits = text.trim();
    let byte = |at: usize| digits.get(2 * at..2 * at + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let bytes: Option<Vec<u8>> = (0..32).map(byte).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or_else(|| format!("{}: not 64 hex digits", path.display()))
}

fn main() {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::Load { secrets }) => load::serve(&secrets),
        Some(Part::Base { secrets, rows, store, callbacks }) => base::run(&secrets, &rows, &store, callbacks),
        Some(Part::Fill { store, key: file, transactions, body }) => {
            key(&file).and_then(|key| fill::run(&place(&store), key, transactions, body))
        }
        Some(Part::Plans { store, merchant, number }) => plans::run(&place(&store), &merchant, &number),
        None => {
            println!("ledger: the load and the base of scripts/bench --ledger, which starts it");
            std::process::exit(if arguments.bench { 0 } else { 2 });
        }
    };
    if let Err(why) = done {
        eprintln!("ledger: {why}");
        std::process::exit(1);
    }
}

/// CPU nanoseconds of this thread.
fn cpu_ns() -> Result<u64, String> {
    // The kernel brings the figure up to date when the thread is switched.
    std::thread::sleep(std::time::Duration::from_millis(1));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").map_err(|e| format!("schedstat: {e}"))?;
    text.split(' ').next().and_then(|ns| ns.parse().ok()).ok_or_else(|| "schedstat does not read".to_owned())
}
