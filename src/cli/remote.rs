//! Calls to a running gateway's admin listener.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Builder;

/// The running gateway.
#[derive(Args)]
pub struct GatewayTarget {
    /// The gateway's configuration, for its admin address and token.
    #[arg(short = 'c', long = "conf", value_name = "PATH", global = true)]
    conf: Option<PathBuf>,
    /// Admin address, such as http://127.0.0.1:9900.
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    /// File with the admin token, for --admin.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// A running gateway's admin listener.
pub struct RemoteGateway {
    url: String,
    token: Option<String>,
}

/// Finds the gateway.
pub fn gateway(target: &GatewayTarget) -> Result<RemoteGateway, String> {
    let token = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<_, String>(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    };
    let named = target.token_file.as_ref().map(token).transpose()?;
    if let Some(url) = &target.admin {
        return Ok(RemoteGateway { url: url.trim_end_matches('/').to_owned(), token: named });
    }
    let Some(path) = &target.conf else {
        return Err("say which gateway: -c CONF, or --admin http://ADDRESS".into());
    };
    // A rollback is wanted just when a file is broken: its [admin] table is enough.
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
    Ok(RemoteGateway { url: format!("http://{}", reachable(address)), token: named.or(secret) })
}

/// The address by which a listener is reached from its own machine.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
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

/// The most bytes of an answer; the longest ones tell every server, or a change of the configuration.
const ANSWER_MAX: usize = 32 << 20;

/// The time for a whole answer. A gateway that is frozen never gives one.
const ANSWER_TIME: Duration = Duration::from_secs(10);

impl RemoteGateway {
    /// Whether the gateway did it, and its answer.
    pub fn call(&self, method: Method, path: &str) -> Result<(bool, Value), String> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        let (status, text) = runtime.block_on(self.ask(method, path))?;
        let body = serde_json::from_str(&text).map_err(|_| {
            let begin: String = text.chars().take(200).collect();
            format!("{} answered {status}, and no JSON: {begin}", self.url)
        })?;
        Ok((status.is_success(), body))
    }

    async fn ask(&self, method: Method, path: &str) -> Result<(StatusCode, String), String> {
        let client = http_client::builder()?.timeout(ANSWER_TIME).build().map_err(|e| e.to_string())?;
        let user = std::env::var("USER").unwrap_or_else(|_| "unknown".into());
        let mut request = client.request(method, format!("{}{path}", self.url)).header("x-tollgate-user", user);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let request = request.build().map_err(|e| format!("{}: {}", self.url, causes(&e)))?;
        let mut answer = client.execute(request).await.map_err(|e| self.failed(&e))?;
        let status = answer.status();
        let mut bytes = vec![];
        while let Some(part) = answer.chunk().await.map_err(|e| self.failed(&e))? {
            if bytes.len() + part.len() > ANSWER_MAX {
                let mib = ANSWER_MAX >> 20;
                return Err(format!(
                    "{}: its answer is longer than {mib} MiB; is it a gateway's [admin] address?",
                    self.url
                ));
            }
            bytes.extend_from_slice(&part);
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn failed(&self, error: &http_client::Error) -> String {
        match error.is_timeout() {
            true => {
                let seconds = ANSWER_TIME.as_secs();
                format!("{}: no whole answer within {seconds} s; what was asked may still be done", self.url)
            }
            false => format!("{}: {}; is the gateway running?", self.url, causes(error)),
        }
    }
}

/// An error's innermost cause, without the URL.
fn causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source()).map(ToString::to_string);
    causes.last().unwrap_or_else(|| error.to_string())
}

/// Prints why the gateway refused.
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
