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
    LIMITED COUNTER "limited_total" ["limit"]
        "Requests that a limit refused, by limit.";
    RESCUES COUNTER "rescues_total" ["release", "outcome"]
        "Failed requests of a canary, by outcome: rescued, failed (stable too), unprotected or budget.";
    RELEASE_UNKEYED COUNTER "release_unkeyed_total" ["release"]
        "Requests of a release's routes without a user key.";
    RELEASE_PERCENT GAUGE "release_percent" ["release"]
        "Percent of all users on the canary.";
    RELEASE_EVIDENCE GAUGE "release_evidence" ["release", "signal"]
        "Evidence against the canary as an e-value, by signal: errors, refusals, latency or feedback.";
    RELEASE_STATE GAUGE "release_state" ["release", "state"]
        "1 for the state of a release, else 0: running, paused, held, rolled_back, promoted, aborted.";
    CONNECTIONS GAUGE "connections" ["listener"]
        "Open client connections of a listener.";
    MEMORY GAUGE "memory_bytes" ["kind"]
        "Bytes held for clients, bounded together, by kind: requests, bodies, encoders, header_lists.";
    CONFIG_REVISION GAUGE "config_revision_info" ["revision"]
        "1 for the revision that is served.";
    CONFIG_RELOADS COUNTER "config_reloads_total" ["result"]
        "Configurations offered, by result: applied, unchanged or refused.";
    STUCK COUNTER "stuck_requests_total" []
        "Requests ended by the last resort, as nothing moved for longer than their limits allow; must stay 0.";
    LOG_DROPPED COUNTER "log_dropped_total" []
        "Access-log lines dropped because the writer could not keep up.";
    LEDGER_CALLBACKS COUNTER "ledger_callbacks_total" ["channel", "outcome"]
        "Payment callbacks, by channel and outcome.";
    LEDGER_COMMIT HISTOGRAM "ledger_commit_seconds" []
        "Seconds a batch took, from its first row to its commit.";
    LEDGER_BATCH HISTOGRAM "ledger_batch_callbacks" []
        "Callbacks a commit held.";
    LEDGER_OUTBOX GAUGE "ledger_outbox_pending" []
        "Events that merchants have not taken yet.";
    LEDGER_OUTBOX_OLDEST GAUGE "ledger_outbox_oldest_seconds" []
        "Age of the oldest of them.";
    LEDGER_ANOMALIES GAUGE "ledger_anomalies_open" []
        "Anomalies that nobody has resolved.";
    LEDGER_PARKED_OLDEST GAUGE "ledger_parked_oldest_seconds" []
        "Age of the oldest callback that is parked.";
    LEDGER_SKEW GAUGE "ledger_clock_skew_seconds" []
        "How far ahead of this clock genuine messages are, at the median of the last ones; far from 0: a clock is wrong.";
    LEDGER_DISK GAUGE "ledger_disk_free_bytes" []
        "Room left where the ledger keeps its files.";
    LEDGER_STATE GAUGE "ledger_state" ["state"]
        "1 for the state of the ledger, else 0: active, standby, failed.";
}
