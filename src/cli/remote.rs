//! A running gateway's admin listener, as commands reach it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use config;

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
pub struct Gateway {
    url: String,
    token: Option<String>,
}

/// Finds the gateway.
pub fn gateway(target: &Target) -> Result<Gateway, String> {
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
    pub fn call(&self, method: &str, path: &str) -> Result<(bool, Value), String> {
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

/// Says why the gateway did not do it.
pub fn refused(body: &Value, json: bool) -> ExitCode {
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
