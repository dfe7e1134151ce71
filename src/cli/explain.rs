//! `tollgate explain`: shows which route takes a request and where it goes, without sending it.
//!
//! It uses the same router and releases as the gateway, so the gateway would do what it says. Releases are in the state
//! that `state_dir` has, or at their first step. The client's address is unknown without `--client`. With it, `allow`
//! and `deny` are judged instead of only named, and the address can be a user key.

mod arm;
mod caller;

use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Serialize;

use base::path::normalise_path;
use base::said;
use config;
use config::access::{self, Refusal, Shown};
use config::model::ledger::UPSTREAM;
use config::model::{Action, Config, HostPattern, PathPattern, Route, Scheme};
use config::router::{Request, Router, host_of, path_of};
use http_guard::head;

/// The request to explain.
#[derive(Args)]
pub struct ExplainArgs {
    /// Method, such as GET.
    method: String,
    /// URL, such as `http://api.example.com/orders?x=1`, or a path with -H 'host: …'.
    url: String,
    /// Header, as 'name: value'; repeatable.
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    headers: Vec<String>,
    /// Address of the client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<IpAddr>,
}

/// Explains a request; 1 if no route takes it.
pub fn explain(path: &Path, asked: &ExplainArgs, json: bool) -> ExitCode {
    let loaded = match config::load(path) {
        Ok(loaded) => loaded,
        Err(findings) => {
            super::check::report(&findings, json);
            return ExitCode::FAILURE;
        }
    };
    let (method, uri, headers) = match parse(asked) {
        Ok(parsed) => parsed,
        Err(message) => return super::fail(true, message),
    };
    let config = &loaded.config;
    let scheme = if uri.scheme_str() == Some("https") { Scheme::Https } else { Scheme::Http };
    let host = said::host(said::authority(&uri, &headers));
    if let Some((why, code)) = before_routes(&method, uri.path()) {
        show(&Explained { why: vec![why], ..Explained::default() }, json);
        return code;
    }
    let path = normalise_path(if uri.path().is_empty() { "/" } else { uri.path() });
    let request = Request { host: &host, path: &path, method: &method, headers: &headers, scheme };
    let Some(found) = Router::new(&config.routes).find(&request) else {
        let why = vec![format!("no route takes {method} {host}{path}: it would be answered 404")];
        show(&Explained { why, ..Explained::default() }, json);
        return ExitCode::FAILURE;
    };
    let route = &config.routes[found];
    let mut explained = Explained { route: Some(route.name.to_string()), ..Explained::default() };
    explained.why = reasons(route, &request);
    let shown = Shown { headers: &headers, path: &path, client: asked.client };
    let refused = access::refusal(route, &access::guarded(config, route), &shown);
    let stable = match route.action {
        Action::Upstream(upstream) => Some(upstream),
        _ => None,
    };
    let given = caller::Given { method: &method, uri: &uri, headers: &headers, scheme };
    let caller = caller::explain(config, route, &given, &mut explained);
    explained.limits = limits_of(config, found, caller.app.as_deref());
    let asked_of = gray::assignment::RequestView {
        headers: &headers,
        client: asked.client,
        app: caller.app.as_deref(),
        claim: caller.claim.as_deref(),
    };
    let upstream = arm::explain(config, found, &asked_of, &mut explained).or(stable);
    explained.user = explained.user.or(caller.claim);
    explained.upstream = match route.action {
        Action::Ledger => Some(UPSTREAM.to_owned()),
        _ => upstream.map(|upstream| config.upstreams[upstream].name.to_string()),
    };
    explained.why.extend(outcome(config, route, &shown, refused, explained.upstream.as_deref()));
    show(&explained, json);
    ExitCode::SUCCESS
}

/// The answer to a request for which no route is looked up.
fn before_routes(method: &Method, path: &str) -> Option<(String, ExitCode)> {
    if path == "*" && method == Method::OPTIONS {
        return Some(("the gateway answers it itself with 204".to_owned(), ExitCode::SUCCESS));
    }
    let fault = head::path(path.as_bytes()).err()?;
    let why = format!("this path is refused before a route is looked for: it would be answered {}", fault.status());
    Some((format!("{why} (`{}`)", fault.word()), ExitCode::FAILURE))
}

/// Names of the limits that are asked together.
fn limits_of(config: &Config, route: usize, app: Option<&str>) -> Option<Vec<String>> {
    let app = config.apps.iter().position(|known| Some(&*known.name) == app);
    let names: Vec<String> = config.limits_of(route, app).map(|limit| config.limits[limit].name.to_string()).collect();
    (!names.is_empty()).then_some(names)
}

fn parse(asked: &ExplainArgs) -> Result<(Method, Uri, HeaderMap), String> {
    let method = asked.method.parse().map_err(|_| format!("`{}` is no method", asked.method))?;
    let uri: Uri = asked.url.parse().map_err(|e| format!("`{}` is no URL: {e}", asked.url))?;
    let mut headers = HeaderMap::new();
    for header in &asked.headers {
        let parsed = header.split_once(':').and_then(|(name, value)| {
            Some((name.trim().parse::<HeaderName>().ok()?, value.trim().parse::<HeaderValue>().ok()?))
        });
        let (name, value) = parsed.ok_or_else(|| format!("`{header}` is no header; write -H 'name: value'"))?;
        headers.append(name, value);
    }
    Ok((method, uri, headers))
}

/// The route's conditions that hold, and how.
fn reasons(route: &Route, request: &Request<'_>) -> Vec<String> {
    let host = match host_of(route, request.host) {
        None => "any host".to_owned(),
        Some(HostPattern::Exact(host)) => format!("host {host}, exactly"),
        Some(HostPattern::Suffix(suffix)) => format!("host {} fits *{suffix}", request.host),
    };
    let path = match path_of(route, request.path) {
        None => "any path".to_owned(),
        Some(PathPattern::Exact(path)) => format!("path {path}, exactly"),
        Some(PathPattern::Prefix(prefix)) => format!("path {} lies in {prefix}*", request.path),
        Some(PathPattern::Regex(regex)) => format!("path {} matches ~{regex}", request.path),
    };
    let mut why = vec![host, path];
    if !route.methods.is_empty() {
        why.push(format!("method {}", request.method));
    }
    why.extend(route.headers.iter().map(|(name, value)| format!("header {name} is {}", value.to_str().unwrap_or("…"))));
    if let Some(scheme) = route.scheme {
        why.push(format!("scheme {}", if scheme == Scheme::Https { "https" } else { "http" }));
    }
    why
}

/// What the route does with the request; if it refuses it, only why.
fn outcome(
    config: &Config,
    route: &Route,
    shown: &Shown<'_>,
    refused: Option<Refusal>,
    upstream: Option<&str>,
) -> Vec<String> {
    let forwarded = route.filters.prefix.forwarded(shown.path);
    let mut why = vec![];
    match (refused, shown.client) {
        (Some(Refusal::LookalikeName), _) => {
            let names = "a header is spelt like one that the route sets, removes or judges";
            return vec![format!("{names}: it would be answered 400")];
        }
        (Some(Refusal::KeptOut), client) => {
            let client = client.map(|client| client.to_string()).unwrap_or_default();
            return vec![format!("client {client} is kept out: it would be answered 403")];
        }
        (Some(Refusal::NotACallback), _) => {
            return vec![format!("{forwarded} is no path of a callback: it would be answered 404")];
        }
        (None, _) if route.filters.access.is_open() => {}
        (None, None) => {
            why.push("allow and deny are judged by the client's address: say it with --client".to_owned());
        }
        (None, Some(client)) => why.push(format!("client {client} may use it")),
    }
    why.push(match &route.action {
        Action::Upstream(_) => format!("forwarded to upstream {} as {forwarded}", upstream.unwrap_or_default()),
        Action::Ledger => {
            let address = config.ledger.as_ref().map(|ledger| ledger.address.to_string()).unwrap_or_default();
            format!("handed to the ledger at {address} as {forwarded}")
        }
        Action::Redirect { status, .. } => format!("answered by the gateway with a redirect, {}", status.as_u16()),
        Action::Respond { status, .. } => format!("answered by the gateway with {}", status.as_u16()),
    });
    why.extend(route.filters.explain(matches!(route.action, Action::Upstream(_) | Action::Ledger)));
    why
}

/// The facts about the request, in the order of the output.
#[derive(Default, Serialize)]
struct Explained {
    route: Option<String>,
    app: Option<String>,
    limits: Option<Vec<String>>,
    user: Option<String>,
    release: Option<String>,
    bucket: Option<u16>,
    cohorts: Option<Vec<String>>,
    arm: Option<&'static str>,
    upstream: Option<String>,
    why: Vec<String>,
}

fn show(explained: &Explained, json: bool) {
    if json {
        return super::print(serde_json::to_string(explained).unwrap_or_default());
    }
    let cohorts = explained.cohorts.as_ref().filter(|cohorts| !cohorts.is_empty());
    for (name, value) in [
        ("route", Some(explained.route.clone().unwrap_or("none".to_owned()))),
        ("limits", explained.limits.as_ref().map(|limits| limits.join(", "))),
        ("app", explained.app.clone()),
        ("user", explained.user.clone()),
        ("release", explained.release.clone()),
        ("bucket", explained.bucket.map(|bucket| bucket.to_string())),
        ("cohorts", cohorts.map(|cohorts| cohorts.join(", "))),
        ("arm", explained.arm.map(str::to_owned)),
        ("upstream", explained.upstream.clone()),
    ] {
        if let Some(value) = value {
            super::print(format!("{name:<8}  {value}"));
        }
    }
    explained.why.iter().for_each(|why| super::print(format!("  - {why}")));
}
