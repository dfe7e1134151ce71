//! `tollgate-demo`, which `tollgate demo` runs: a story in acts that shows Tollgate at work.
//!
//! The acts are backends, load, a front door, a death, pushes, a way back, releases, payments and their books. The demo
//! starts real processes: a gateway with `tollgate run`, a ledger with `tollgate ledger run`, and of this program the
//! backends and the merchant. Its clients speak HTTP/2 over TLS to the gateway, with a certificate made for this run.
//! They count what it reports, and nothing is assumed. Every broken promise is named at the end; exit code 0 means that
//! all were kept. Latencies are shown and never judged, since a busy machine is not the gateway's fault.
//!
//! Nothing outlives the demo: guards own the processes and the temporary folder, for Ctrl-C and failures too, and every
//! wait has a deadline. All traffic stays on the loopback address.

mod admin;
mod backend;
mod book;
mod client;
mod conf;
mod door;
mod identity;
mod ledger;
mod load;
mod merchant;
mod payment;
mod sender;
mod stage;
mod story;
mod tell;

use std::ffi::OsString;
use std::fmt::Display;
use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use stage::Tollgate;
use tell::Tell;

/// Starts backends, a gateway and a load, and tells what happens as backends die, configurations change and versions
/// are released.
#[derive(Parser)]
#[command(version, disable_help_subcommand = true)]
struct Arguments {
    /// Prints JSON at the end, and nothing before.
    #[arg(long)]
    json: bool,
    /// The gateway's program; without it the one beside this program.
    #[arg(long, value_name = "PATH")]
    tollgate: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// The processes that a demo starts.
#[derive(Subcommand)]
enum Part {
    /// A small backend.
    #[command(hide = true)]
    Backend {
        /// What it calls itself.
        name: String,
        /// Where it listens.
        address: SocketAddr,
    },
    /// A command of `tollgate`, which ends when the demo does.
    #[command(hide = true)]
    Tollgate {
        /// The program.
        program: PathBuf,
        /// The command.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
    /// A merchant that receives the events of payments.
    #[command(hide = true)]
    Merchant {
        /// Where it listens.
        address: SocketAddr,
        /// The file with the secret that its events are signed by.
        secret: PathBuf,
    },
}

/// Runs the demo, or one of its parts; 0 if every promise was kept.
fn main() -> ExitCode {
    let Arguments { json, tollgate, part } = Arguments::parse();
    match part {
        Some(Part::Backend { name, address }) => backend::serve(&name, address),
        Some(Part::Tollgate { program, command }) => stage::turn_into(&program, &command),
        Some(Part::Merchant { address, secret }) => merchant::serve(address, &secret),
        None => demo(tollgate, json),
    }
}

fn demo(tollgate: Option<PathBuf>, json: bool) -> ExitCode {
    let tollgate = match Tollgate::find(tollgate) {
        Ok(tollgate) => tollgate,
        Err(why) => return fail(why),
    };
    let runtime = match Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(format!("a runtime cannot be started: {e}")),
    };
    let tell = Tell::new(json);
    // On this thread: started processes end with the thread that started them.
    let told = runtime.block_on(async {
        let interrupted = interrupted();
        tokio::select! {
            biased;
            signal = interrupted => Err(format!("{signal}: everything that was started is stopped and removed")),
            told = story::tell(&tell, tollgate) => told,
        }
    });
    runtime.shutdown_background();
    match told {
        Ok(outcome) => outcome.conclude(&tell),
        Err(message) => {
            if json {
                tell::print(serde_json::json!({ "ok": false, "error": message }));
            }
            fail(message)
        }
    }
}

/// Prints an error on stderr; returns 1.
fn fail(message: impl Display) -> ExitCode {
    // Its terminal may be gone.
    let _ = writeln!(std::io::stderr(), "tollgate-demo: {message}");
    ExitCode::FAILURE
}

/// Returns at a signal that ends the demo, with its meaning.
fn interrupted() -> impl Future<Output = &'static str> {
    // Listening starts now, not with the first poll: there is no moment in which a signal ends the process unguarded.
    let listen = |kind| signal(kind).ok();
    let (mut int, mut term, mut hup) =
        (listen(SignalKind::interrupt()), listen(SignalKind::terminate()), listen(SignalKind::hangup()));
    async move {
        tokio::select! {
            Some(()) = heard(&mut int) => "interrupted",
            Some(()) = heard(&mut term) => "told to end",
            Some(()) = heard(&mut hup) => "the terminal is gone",
        }
    }
}

async fn heard(signal: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}
