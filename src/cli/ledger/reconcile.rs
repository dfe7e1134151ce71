//! `tollgate ledger reconcile`: sends a provider's statement to the running ledger, and prints what it found.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;
use tokio::runtime::Builder;

use super::configured;
use crate::cli::remote::reachable;
use crate::cli::{Conf, fail, print};
use config::model::ledger::Ledger;

/// The time for a whole answer: of a million rows it comes after a minute.
const ANSWER_TIME: Duration = Duration::from_secs(1_800);
/// Anomalies that are printed; the report has all.
const SHOWN: usize = 100;

/// Sends the statement; 1 where anomalies are open.
pub fn reconcile(
    (channel, statement, date): (&str, &Path, Option<&str>),
    conf: &Conf,
    json: bool,
) -> Result<ExitCode, ExitCode> {
    let ledger = configured(&conf.conf, json)?;
    if !ledger.channels.iter().any(|known| *known.name == *channel) {
        let names: Vec<&str> = ledger.channels.iter().map(|known| &*known.name).collect();
        return Err(fail(false, format!("there is no channel {channel}; there are {}", names.join(", "))));
    }
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|e| fail(false, e))?;
    let answered = runtime.block_on(send(&ledger, (channel, statement, date)));
    let (status, report) = answered.map_err(|why| fail(false, why))?;
    if status != StatusCode::CREATED {
        let detail = report["detail"].as_str().unwrap_or("it gave no reason");
        return Err(fail(json, format!("{}: {detail}", statement.display())));
    }
    let anomalies = report["anomalies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let open: Vec<&Value> = anomalies.iter().filter(|one| one["state"] == "open").collect();
    if json {
        print(format!("{report:#}"));
    } else {
        told(&report, &open);
    }
    Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn told(report: &Value, open: &[&Value]) {
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    print(format!(
        "{} of {}: {} rows, {} of them in the books as the statement has them; {} anomalies are open",
        text(report, "channel"),
        text(report, "date"),
        report["rows"],
        report["matched"],
        open.len()
    ));
    for one in open.iter().take(SHOWN) {
        print(format!("  {}  {:<22}  {}", text(one, "id"), text(one, "kind"), text(one, "detail")));
    }
    if open.len() > SHOWN {
        print(format!("  and {} more: GET /v1/reconciliations/{}", open.len() - SHOWN, text(report, "id")));
    }
}

async fn send(
    ledger: &Ledger,
    (channel, statement, date): (&str, &Path, Option<&str>),
) -> Result<(StatusCode, Value), String> {
    let file = tokio::fs::File::open(statement).await.map_err(|e| format!("{}: {e}", statement.display()))?;
    let length = file.metadata().await.map_err(|e| format!("{}: {e}", statement.display()))?.len();
    let address = reachable(ledger.address);
    let mut query = vec![("channel", channel)];
    query.extend(date.map(|date| ("date", date)));
    let url = format!("http://{address}/v1/reconciliations?{}", encoded(&query));
    let client = http_client::builder()?.timeout(ANSWER_TIME).build().map_err(|e| e.to_string())?;
    let mut request = client.post(url).header(http::header::CONTENT_LENGTH, length).body(file);
    if let Some(token) = &ledger.token {
        request = request.bearer_auth(String::from_utf8_lossy(&token.0));
    }
    let unreached = |e: http_client::Error| format!("http://{address}: {e}; is the ledger running?");
    let answer = request.send().await.map_err(unreached)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreached)?;
    let told = serde_json::from_slice(&body).map_err(|_| format!("http://{address} answered {status}, and no JSON"))?;
    Ok((status, told))
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs.iter().map(|(name, value)| {
        let value = percent_encoding::utf8_percent_encode(value, percent_encoding::NON_ALPHANUMERIC);
        format!("{name}={value}")
    });
    pairs.collect::<Vec<_>>().join("&")
}
