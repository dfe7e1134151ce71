//! The commands of `tollgate`, each a function that returns an exit code: 0 done, 1 the answer is no, 2 wrong use.
//!
//! Answers go to stdout, errors to stderr; a reader that closes its end early is not an error. `--json` prints answers as
//! JSON. Commands for a running gateway use its admin address.

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

/// A layer-7 gateway that balances load, checks health, and changes its configuration without dropping a request.
#[derive(Parser)]
#[command(name = "tollgate", version, arg_required_else_help = true)]
struct Arguments {
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve everything that the configuration names, in one process.
    Run(Conf),
    /// Check a configuration and print all findings and warnings, without running it.
    Check {
        #[command(flatten)]
        conf: Conf,
        /// Exit with 1 on warnings, too.
        #[arg(long)]
        strict: bool,
    },
    /// Show which route takes a request, and why.
    Explain {
        #[command(flatten)]
        conf: Conf,
        /// The request.
        #[command(flatten)]
        request: explain::ExplainArgs,
    },
    /// Show what changes between two configurations.
    Diff {
        /// Old file or folder.
        old: PathBuf,
        /// New file or folder.
        new: PathBuf,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
    /// Show or change the revision that a running gateway serves.
    Config {
        #[command(subcommand)]
        command: config::ConfigCommand,
        #[command(flatten)]
        target: remote::GatewayTarget,
    },
    /// Show, pause, promote or abort the releases of a running gateway.
    Release {
        #[command(subcommand)]
        command: release::ReleaseCommand,
        #[command(flatten)]
        target: remote::GatewayTarget,
    },
    /// Serve the payment ledger alone, or verify and print its books.
    #[cfg(feature = "ledger")]
    Ledger {
        #[command(subcommand)]
        command: ledger::LedgerCommand,
    },
    /// Hand the sockets and state of a running gateway to a new process, without refusing a connection or losing a
    /// request.
    ///
    /// The new process first checks the configuration on the disk and prepares everything; only then does the old one
    /// drain. If the new one fails before it serves, the old one goes on as before, and this command exits with 1 and
    /// the reason.
    Upgrade(upgrade::UpgradeArgs),
    /// Start backends, a gateway and a load, and report what happens while backends fail, configurations change and
    /// versions are released.
    #[cfg(feature = "ledger")]
    Demo,
}

/// The configuration.
#[derive(Args)]
pub struct Conf {
    /// Configuration: a file, or a folder whose *.toml are merged.
    #[arg(short = 'c', long = "conf", value_name = "PATH")]
    conf: PathBuf,
}

/// Parses the arguments and runs the command.
pub fn main() -> ExitCode {
    let Arguments { json, command } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // A reader that has left needs no help text.
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

/// Prints to stdout; a reader that has left is not an error.
fn print(text: impl std::fmt::Display) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints an error on stderr, and returns 2 for wrong use, otherwise 1.
fn fail(wrong_use: bool, message: impl std::fmt::Display) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "tollgate: {message}");
    ExitCode::from(if wrong_use { 2 } else { 1 })
}
