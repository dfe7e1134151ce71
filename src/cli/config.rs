//! `tollgate config`: which revision a running gateway serves, through its admin address.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::config;

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Lists the revisions kept: when, who, and what they changed.
    History,
    /// Goes back to a revision; without one, to the one before.
    Rollback {
        /// Its number, from `config history`.
        revision: Option<u64>,
    },
    /// Makes a staged revision good.
    Confirm,
}

/// Which gateway.
#[derive(Args)]
pub struct Target {
    /// The gateway's configuration; its admin address and token are taken from it.
    #[arg(short = 'c', long = "conf", value_name = "PATH", global = true)]
    conf: Option<PathBuf>,
    /// The admin address, such as http://127.0.0.1:9900.
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    /// A file with the admin token, beside --admin.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// A running gateway's admin listener.
struct Gateway {
    url: String,
    token: Option<String>,
}

/// Runs the command.
pub fn run(command: &Command, target: &Target, json: bool) -> ExitCode {
    let gateway = match gateway(target) {
        Ok(gateway) => gateway,
        Err(message) => return super::fail(true, message),
    };
    let answer = match command {
        Command::History => gateway.call("GET", "/api/v1/config"),
        Command::Rollback { revision: None } => gateway.call("POST", "/api/v1/config/rollback"),
        Command::Rollback { revision: Some(n) } => {
            gateway.call("POST", &format!("/api/v1/config/rollback?revision={n}"))
        }
        Command::Confirm => gateway.call("POST", "/api/v1/config/confirm"),
    };
    let (done, body) = match answer {
        Ok(answer) => answer,
        Err(message) => return super::fail(false, message),
    };
    if !done {
        return refused(&body, json);
    }
    match command {
        Command::History if json => super::print(format!("{:#}", body["history"])),
        _ if json => super::print(format!("{body:#}")),
        Command::History => history(&body),
        _ => super::print(format!("revision {} is served", body["revision"])),
    }
    ExitCode::SUCCESS
}

fn gateway(target: &Target) -> Result<Gateway, String> {
    let token = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, String>(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    };
    let named = target.token_file.as_ref().map(token).transpose()?;
    if let Some(url) = &target.admin {
        return Ok(Gateway { url: url.trim_end_matches('/').to_owned(), token: named });
    }
    let Some(path) = &target.conf else {
        return Err("say which gateway: -c CONF, or --admin http://ADDRESS".into());
    };
    // A broken file is just when a rollback is wanted: its [admin] table will do.
    let (address, secret) = match config::load(path) {
        Ok(loaded) => {
            let admin = loaded.config.admin.ok_or_else(|| no_admin(path))?;
            (admin.address, admin.token.map(|token| String::from_utf8_lossy(&token.0).into_owned()))
        }
        Err(_) => {
            let (address, file) = admin_of_broken(path).ok_or_else(|| no_admin(path))?;
            (address, file.as_ref().map(token).transpose()?)
        }
    };
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    Ok(Gateway { url: format!("http://{address}"), token: named.or(secret) })
}

fn no_admin(path: &Path) -> String {
    format!("{} has no [admin] address that can be read; name the gateway with --admin", path.display())
}

/// Address and token file of a configuration that has findings.
fn admin_of_broken(path: &Path) -> Option<(SocketAddr, Option<PathBuf>)> {
    let source = config::source::Source::read(path).ok()?;
    source.files.iter().find_map(|file| {
        let (document, _) = toml::de::DeTable::parse_recoverable(&file.text);
        let admin = document.get_ref().get("admin")?.get_ref().as_table()?;
        let text = |key: &str| admin.get(key)?.get_ref().as_str().map(str::to_owned);
        let token_file = text("token_file").map(|file| source.root.join(file));
        Some((text("address")?.parse().ok()?, token_file))
    })
}

impl Gateway {
    /// Whether the gateway did it, and what it said.
    fn call(&self, method: &str, path: &str) -> Result<(bool, Value), String> {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("x-tollgate-user", std::env::var("USER").unwrap_or_else(|_| "unknown".into()));
        let request = match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        };
        let request = request.body(()).map_err(|e| format!("{}: {e}", self.url))?;
        let mut answer = agent.run(request).map_err(|e| format!("{}: {e}; is the gateway running?", self.url))?;
        let done = answer.status().is_success();
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|e| e.to_string())?;
        let body =
            serde_json::from_str(&text).map_err(|_| format!("{} answered {}: {text}", self.url, answer.status()))?;
        Ok((done, body))
    }
}

fn refused(body: &Value, json: bool) -> ExitCode {
    if json {
        super::print(format!("{body:#}"));
        return ExitCode::FAILURE;
    }
    let findings = body["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let lines = findings.iter().map(|finding| {
        let text = |key: &str| finding[key].as_str().unwrap_or_default();
        format!("\n  {}:{}: {} ({})", text("file"), finding["line"], text("message"), text("hint"))
    });
    super::fail(false, format!("{}{}", body["detail"].as_str().unwrap_or("refused"), lines.collect::<String>()))
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
