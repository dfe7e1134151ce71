//! The commands of `tollgate`, each a function that ends in an exit code: 0 done, 1 the answer is no, 2 wrong use.
//!
//! Answers go to stdout, errors to stderr; a reader that closes its end early is no error. `--json` prints JSON
//! everywhere. Commands for a running gateway talk to its admin address.

pub mod check;
pub mod config;
#[cfg(feature = "ledger")]
pub mod demo;
pub mod diff;
pub mod explain;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod release;
pub mod remote;
pub mod run;
pub mod schema;
pub mod upgrade;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// A layer-7 gateway that balances, checks health, and swaps its configuration without dropping a request.
#[derive(Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Arguments {
    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serves everything the configuration names, in one process.
    Run(Conf),
    /// Prints every finding of a configuration, and what is unwise in it, and runs nothing.
    Check {
        #[command(flatten)]
        conf: Conf,
        /// Ends with 1 where something is unwise, too.
        #[arg(long)]
        strict: bool,
    },
    /// Says which route takes a request, and why.
    Explain {
        #[command(flatten)]
        conf: Conf,
        /// The request.
        #[command(flatten)]
        request: explain::ExplainArgs,
    },
    /// Says what a change of configuration moves.
    Diff {
        /// File or folder.
        old: PathBuf,
        /// File or folder.
        new: PathBuf,
    },
    /// Prints the JSON Schema of the configuration, for editors.
    Schema,
    /// Shows and changes which revision a running gateway serves.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
        #[command(flatten)]
        target: remote::GatewayTarget,
    },
    /// Shows releases of a running gateway, and stops, promotes or takes them back.
    Release {
        #[command(subcommand)]
        command: release::ReleaseCommand,
        #[command(flatten)]
        target: remote::GatewayTarget,
    },
    /// Serves the payment ledger alone, or verifies and prints its books.
    #[cfg(feature = "ledger")]
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Hands the sockets and the state of a running gateway to a new process: no connection is refused, no request lost.
    ///
    /// The new process checks the configuration on the disk and prepares everything first; the old one drains only after
    /// that. If the new one fails before it serves, the old one goes on as before, and this ends with 1 and the reason.
    Upgrade(upgrade::UpgradeArgs),
    /// Starts backends, a gateway and a load, and tells what happens as backends die, configurations change and versions
    /// are released.
    #[cfg(feature = "ledger")]
    Demo,
}

/// Which configuration.
#[derive(Args)]
pub struct Conf {
    /// A file, or a folder whose *.toml are merged.
    #[arg(short = 'c', long = "conf", value_name = "PATH")]
    conf: PathBuf,
}

/// Parses the arguments and runs what they say.
pub fn main() -> ExitCode {
    let Arguments { json, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // A reader that is gone needs no help text.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    match command {
        Command::Run(conf) => run::run(&conf.conf, json),
        Command::Check { conf, strict } => check::check(&conf.conf, strict, json),
        Command::Explain { conf, request } => explain::explain(&conf.conf, &request, json),
        Command::Diff { old, new } => diff::diff(&old, &new, json),
        Command::Schema => schema::schema(),
        Command::Config { command, target } => config::run(&command, &target, json),
        Command::Release { command, target } => release::run(&command, &target, json),
        #[cfg(feature = "ledger")]
        Command::Ledger { command } => ledger::run(&command, json),
        Command::Upgrade(asked) => upgrade::run(&asked, json),
        #[cfg(feature = "ledger")]
        Command::Demo => demo::run(json),
    }
}

/// Prints to stdout; a reader that is gone is no error.
fn print(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Says on stderr what is wrong, and ends with 2 where the command was used wrongly, else with 1.
fn fail(wrong_use: bool, message: impl std::fmt::Display) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tollgate: {message}");
    ExitCode::from(if wrong_use { 2 } else { 1 })
}
