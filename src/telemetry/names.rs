//! The one table of metric names: what is not here is not exposed.
//!
//! Names are fixed (design, section 7). Labels come from the configuration only, never from a request.

use prometheus::proto::MetricType;

/// A metric's name, labels and help.
#[derive(Debug)]
pub struct Name {
    /// Full name.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricType,
    /// Label names, in the order of the values.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

macro_rules! names {
    ($($id:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub const $id: Name = Name {
            name: concat!("tollgate_", $name), kind: MetricType::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// Every metric.
        pub const ALL: &[&Name] = &[$(&$id),*];
    };
}

names! {
    REQUESTS COUNTER "requests_total" ["route", "arm", "status_class"]
        "Requests answered, by route (empty: none matched), arm and status class.";
    DURATION HISTOGRAM "request_duration_seconds" ["route", "arm"]
        "Seconds from a request's head to the end of its answer.";
    UPSTREAM_REQUESTS COUNTER "upstream_requests_total" ["upstream", "server", "outcome"]
        "Attempts at a server, by outcome: success, failure (a 5xx answer), connect, reset, timeout, canceled.";
    UPSTREAM_HEALTHY GAUGE "upstream_healthy" ["upstream", "server"]
        "1 while a server is healthy and not ejected, else 0.";
    UPSTREAM_PANIC GAUGE "upstream_panic" ["upstream"]
        "1 while no server of an upstream is healthy and all are tried, else 0.";
    RETRIES COUNTER "retries_total" ["upstream", "reason"]
        "Retries, by reason: connect, reset, timeout, status, or pooled (a dead pooled connection).";
    REJECTED COUNTER "rejected_total" ["reason"]
        "Requests the gateway itself refused, by reason.";
    RESCUES COUNTER "rescues_total" ["release", "outcome"]
        "Failed requests of a canary, by outcome: rescued, failed (stable too), unprotected or budget.";
    RELEASE_UNKEYED COUNTER "release_unkeyed_total" ["release"]
        "Requests of a release's routes without a user key.";
    RELEASE_PERCENT GAUGE "release_percent" ["release"]
        "Percent of all users on the canary.";
    RELEASE_EVIDENCE GAUGE "release_evidence" ["release", "signal"]
        "Evidence against the canary as an e-value, by signal: errors, latency or feedback.";
    RELEASE_STATE GAUGE "release_state" ["release", "state"]
        "1 for the state of a release, else 0: running, paused, held, rolled_back, promoted, aborted.";
    CONNECTIONS GAUGE "connections" ["listener"]
        "Open client connections of a listener.";
    CONFIG_REVISION GAUGE "config_revision_info" ["revision"]
        "1 for the revision that is served.";
    CONFIG_RELOADS COUNTER "config_reloads_total" ["result"]
        "Configurations offered, by result: applied, unchanged or refused.";
    LOG_DROPPED COUNTER "log_dropped_total" []
        "Access-log lines dropped because the writer could not keep up.";
}
