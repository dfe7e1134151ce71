//! `tollgate release`: the state of releases, and orders for them, through the admin address of a running gateway.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::remote::{self, GatewayTarget};

/// The subcommands.
#[derive(Subcommand)]
pub enum ReleaseCommand {
    /// List all releases.
    List,
    /// Show a release: its step, both arms, the evidence, and what it waits for.
    Show {
        /// Its name.
        name: String,
    },
    /// Pause the steps, but not the judge.
    Pause {
        /// Its name.
        name: String,
    },
    /// Resume the steps; a release that was taken back starts again at the first step.
    Resume {
        /// Its name.
        name: String,
    },
    /// Promote to the next step at once; after the last one the release is done.
    Promote {
        /// Its name.
        name: String,
    },
    /// Take the release back at once: no user stays on the canary.
    Abort {
        /// Its name.
        name: String,
    },
}

/// Runs the command.
pub fn run(command: &ReleaseCommand, target: &GatewayTarget, json: bool) -> ExitCode {
    let gateway = match remote::gateway(target) {
        Ok(gateway) => gateway,
        Err(message) => return super::fail(true, message),
    };
    let at = |name: &str| format!("/api/v1/releases/{}", encoded(name));
    let answer = match command {
        ReleaseCommand::List => gateway.call(Method::GET, "/api/v1/releases"),
        ReleaseCommand::Show { name } => gateway.call(Method::GET, &at(name)),
        ReleaseCommand::Pause { name } => gateway.call(Method::POST, &(at(name) + "/pause")),
        ReleaseCommand::Resume { name } => gateway.call(Method::POST, &(at(name) + "/resume")),
        ReleaseCommand::Promote { name } => gateway.call(Method::POST, &(at(name) + "/promote")),
        ReleaseCommand::Abort { name } => gateway.call(Method::POST, &(at(name) + "/abort")),
    };
    let (done, body) = match answer {
        Ok(answer) => answer,
        Err(message) => return super::fail(false, message),
    };
    if !done {
        return remote::refused(&body, json);
    }
    match command {
        _ if json => super::print(format!("{body:#}")),
        ReleaseCommand::List => list(&body),
        ReleaseCommand::Show { .. } => show(&body),
        _ => super::print(stands(&body)),
    }
    ExitCode::SUCCESS
}

/// A name as a path segment.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn stands(release: &Value) -> String {
    format!(
        "release {} is {}: step {} of {}, {} % of users on {}",
        text(release, "name"),
        text(release, "state"),
        release["step"],
        release["steps"],
        release["percent"],
        text(release, "canary"),
    )
}

fn list(releases: &Value) {
    let releases = releases.as_array().map(Vec::as_slice).unwrap_or_default();
    if releases.is_empty() {
        return super::print("there is no release");
    }
    super::print("  name                      state        step   percent  users   errors  rescued  waits for");
    for release in releases {
        let canary = &release["arms"]["canary"];
        super::print(format!(
            "  {:<24}  {:<11}  {:<5}  {:>6}%  {:<6}  {:<6}  {:<7}  {}",
            text(release, "name"),
            text(release, "state"),
            format!("{}/{}", release["step"], release["steps"]),
            release["percent"].to_string(),
            canary["users"].to_string(),
            canary["errors"].to_string(),
            release["rescued"].to_string(),
            text(release, "waits_for"),
        ));
    }
}

fn show(release: &Value) {
    super::print(stands(release));
    for arm in ["stable", "canary"] {
        let seen = &release["arms"][arm];
        let ms = |key: &str| seen[key].as_f64().map_or("-".to_owned(), |ms| format!("{ms:.1} ms"));
        super::print(format!(
            "  {arm:<8} {} requests, {} users, {} errors, p50 {}, p99 {}",
            seen["requests"],
            seen["users"],
            seen["errors"],
            ms("p50_ms"),
            ms("p99_ms"),
        ));
    }
    let evidence = &release["evidence"];
    let e = |key: &str| evidence[key].as_f64().map_or("-".to_owned(), |e| format!("{e:.3}"));
    super::print(format!(
        "  evidence against it: errors {}, refusals {}, latency {}, feedback {}",
        e("errors"),
        e("refusals"),
        e("latency"),
        e("feedback")
    ));
    super::print(format!(
        "  rescued {}, not rescued {}, without a user key {}",
        release["rescued"], release["not_rescued"], release["unkeyed"]
    ));
    if !text(release, "waits_for").is_empty() {
        super::print(format!("  waits for {}", text(release, "waits_for")));
    }
    if !text(release, "report").is_empty() {
        super::print(format!("  last report {}", text(release, "report")));
    }
}
