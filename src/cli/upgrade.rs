//! `tollgate upgrade`: asks the running gateway to hand over to a new process, and prints the steps.
//!
//! The gateway is found by its `state_dir`: the present one of the configuration at `-c`, even if its files have
//! findings, or that of `--state-dir` if the configuration no longer names the one with which the gateway was started.
//! The gateway itself decides what is started, and as which user: this command only asks.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::app::startup_config;
use crate::upgrade::UpgradeError;
use crate::upgrade::control::{Question, Told, ask};

/// The arguments of an upgrade.
#[derive(Args)]
pub struct UpgradeArgs {
    /// New executable; by default the file from which the gateway was started, as it is now.
    binary: Option<PathBuf>,
    /// The gateway's configuration, whose state_dir leads to the gateway.
    #[arg(short = 'c', long = "conf", value_name = "PATH", required_unless_present = "state_dir")]
    conf: Option<PathBuf>,
    /// The state_dir with which the gateway was started, if the configuration now names another.
    #[arg(long, value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Seconds that each step of the new process may take before the old one goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// Asks, and waits for the end.
pub fn run(asked: &UpgradeArgs, json: bool) -> ExitCode {
    let state_dir = match (&asked.state_dir, &asked.conf) {
        (Some(folder), _) => folder.clone(),
        (None, Some(conf)) if !conf.exists() => {
            return super::fail(true, format!("{}: there is no such file or folder", conf.display()));
        }
        (None, Some(conf)) => startup_config::state_dir_of(conf),
        (None, None) => return super::fail(true, "say which gateway: -c CONF, or --state-dir FOLDER"),
    };
    let binary = match asked.binary.as_deref().map(absolute).transpose() {
        Ok(binary) => binary,
        Err(message) => return super::fail(true, message),
    };
    let question = Question::Upgrade { binary, timeout_s: asked.timeout };
    let mut steps = vec![];
    let end = ask(&state_dir, &question, |step| {
        if !json {
            super::print(&step);
        }
        steps.push(step);
    });
    match end {
        Ok(Told::Done { pid, version }) => {
            match json {
                true => super::print(format!(
                    "{:#}",
                    json!({ "result": "done", "pid": pid, "version": version, "steps": steps })
                )),
                false => super::print(format!("done: Tollgate {version} serves as process {pid}")),
            }
            ExitCode::SUCCESS
        }
        Ok(Told::Failed(failed)) | Err(failed) => refused(&failed, &steps, json),
        Ok(Told::Step(_)) => {
            refused(&UpgradeError::new("the running process ended before the upgrade did"), &steps, json)
        }
    }
}

/// An absolute file name, because the gateway's working directory may differ.
fn absolute(binary: &Path) -> Result<PathBuf, String> {
    std::path::absolute(binary).map_err(|e| format!("{}: {e}", binary.display()))
}

fn refused(failed: &UpgradeError, steps: &[String], json: bool) -> ExitCode {
    let UpgradeError { reason, findings } = failed;
    if json {
        let said = json!({ "result": "failed", "reason": reason, "findings": findings, "steps": steps });
        super::print(format!("{said:#}"));
        return ExitCode::FAILURE;
    }
    let findings: String = findings.iter().map(|finding| format!("\n{finding}")).collect();
    super::fail(false, format!("no upgrade: {reason}{findings}"))
}
