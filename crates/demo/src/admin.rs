//! The gateway's admin API, as the demo reads it.

use std::net::SocketAddr;

use http::header;
use serde_json::Value;

use crate::client;

/// A gateway's admin listener.
#[derive(Clone, Copy)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// Whether the gateway serves.
    pub async fn is_ready(self) -> bool {
        client::once(self.0, "GET", "/readyz").await.is_ok_and(|answer| answer.status.is_success())
    }

    /// Reads `GET /api/v1/config`.
    pub async fn config(self) -> Result<Value, String> {
        self.json("/api/v1/config").await
    }

    /// The number of the served revision.
    pub async fn revision(self) -> Result<u64, String> {
        self.config().await?["revision"].as_u64().ok_or_else(|| "/api/v1/config names no revision".to_owned())
    }

    /// A server of the one upstream, as `GET /api/v1/upstreams` shows it.
    pub async fn server(self, address: SocketAddr) -> Result<Value, String> {
        let upstreams = self.json("/api/v1/upstreams").await?;
        let servers = upstreams[0]["servers"].as_array().into_iter().flatten();
        let found = servers.into_iter().find(|server| server["server"] == address.to_string());
        found.cloned().ok_or_else(|| format!("/api/v1/upstreams does not name {address}"))
    }

    /// Reads `GET /api/v1/releases/NAME`.
    pub async fn release(self, name: &str) -> Result<Value, String> {
        self.json(&format!("/api/v1/releases/{name}")).await
    }

    /// Reads `GET /api/v1/reports/ID` as a page; `None` if there is no such report.
    pub async fn report(self, id: &str) -> Option<String> {
        let page = [(header::ACCEPT, "text/markdown")];
        let answer = client::once_with(self.0, "GET", &format!("/api/v1/reports/{id}"), &page, "").await.ok()?;
        answer.status.is_success().then_some(answer.body)
    }

    /// Reads `GET /metrics`.
    pub async fn metrics(self) -> Result<Metrics, String> {
        let answer = client::once(self.0, "GET", "/metrics").await?;
        if !answer.status.is_success() {
            return Err(format!("/metrics answered {}", answer.status));
        }
        Ok(Metrics(answer.body))
    }

    async fn json(self, path: &str) -> Result<Value, String> {
        let answer = client::once(self.0, "GET", path).await?;
        let parsed = serde_json::from_str(&answer.body).ok().filter(|_| answer.status.is_success());
        parsed.ok_or_else(|| format!("{path} answered {}: {}", answer.status, answer.body))
    }
}

/// Whether a server of the API's answer gets requests.
pub fn is_in(server: &Value) -> bool {
    server["healthy"] == true && server["ejected_until"].is_null()
}

/// Metrics in Prometheus text format.
pub struct Metrics(String);

impl Metrics {
    /// The lines of a metric whose labels contain all of these.
    pub fn lines<'a>(&'a self, name: &'a str, labels: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.lines().filter(move |line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
        })
    }

    /// The sum of these lines.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let values = self.lines(name, labels).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// Retries of all kinds.
    pub fn retries(&self) -> u64 {
        self.sum("tollgate_retries_total", &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_name_and_label() {
        let text =
            "# HELP a_total x\na_total{u=\"s\",r=\"reset\"} 2\na_total{u=\"s\",r=\"status\"} 3\na_total_x 9\nb 1\n";
        let metrics = Metrics(text.to_owned());
        assert_eq!((metrics.sum("a_total", &[]), metrics.sum("a_total", &["r=\"status\""])), (5, 3));
        assert_eq!((metrics.sum("b", &[]), metrics.sum("c", &[])), (1, 0));
    }
}
