//! `tollgate config`: shows or changes the revision of a running gateway, through its admin address.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::remote::{self, GatewayTarget};

/// The subcommands.
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// List the revisions kept: when, who, and what they changed.
    History,
    /// Roll back to a revision, or to the one before.
    Rollback {
        /// Number from `config history`.
        revision: Option<u64>,
    },
    /// Confirm a staged revision.
    Confirm,
}

/// Runs the command.
pub fn run(command: &ConfigCommand, target: &GatewayTarget, json: bool) -> ExitCode {
    let gateway = match remote::gateway(target) {
        Ok(gateway) => gateway,
        Err(message) => return super::fail(true, message),
    };
    let answer = match command {
        ConfigCommand::History => gateway.call(Method::GET, "/api/v1/config"),
        ConfigCommand::Rollback { revision: None } => gateway.call(Method::POST, "/api/v1/config/rollback"),
        ConfigCommand::Rollback { revision: Some(n) } => {
            gateway.call(Method::POST, &format!("/api/v1/config/rollback?revision={n}"))
        }
        ConfigCommand::Confirm => gateway.call(Method::POST, "/api/v1/config/confirm"),
    };
    let (done, body) = match answer {
        Ok(answer) => answer,
        Err(message) => return super::fail(false, message),
    };
    if !done {
        return remote::refused(&body, json);
    }
    match command {
        ConfigCommand::History if json => super::print(format!("{:#}", body["history"])),
        _ if json => super::print(format!("{body:#}")),
        ConfigCommand::History => history(&body),
        _ => super::print(format!("revision {} is served", body["revision"])),
    }
    ExitCode::SUCCESS
}

fn history(body: &Value) {
    let active = &body["revision"];
    super::print("  revision  at                        by        changed   who");
    for entry in body["history"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        let lines = |sign: char, header: &str| {
            text("diff").lines().filter(|line| line.starts_with(sign) && !line.starts_with(header)).count()
        };
        super::print(format!(
            "{} {:<8}  {:<24}  {:<8}  {:<8}  {}",
            if entry["revision"] == *active { '*' } else { ' ' },
            entry["revision"].to_string(),
            text("at"),
            text("trigger"),
            format!("+{} -{}", lines('+', "+++"), lines('-', "---")),
            text("who"),
        ));
    }
}
