//! The gateway's metrics in one table: a metric is exposed only if it is here or in the ledger's table.
//!
//! Names are fixed, because dashboards and alerts depend on them. Labels come from the configuration only, never from a
//! request.

use base::metric::Name;

base::metric_names! {
    REQUESTS Counter "requests_total" ["route", "arm", "status_class"]
        "Requests answered, by route (empty: none matched), arm (stable, canary; none on routes without a release) and status class.";
    DURATION Histogram "request_duration_seconds" ["route", "arm"]
        "Seconds from a request's head to the end of its answer.";
    UPSTREAM_REQUESTS Counter "upstream_requests_total" ["upstream", "server", "outcome"]
        "Attempts at a server, by outcome: success, failure (a 5xx answer, or one that is tried again), connect, reset, timeout, canceled.";
    UPSTREAM_HEALTHY Gauge "upstream_healthy" ["upstream", "server"]
        "1 while a server is healthy and not ejected, else 0.";
    UPSTREAM_PANIC Gauge "upstream_panic" ["upstream"]
        "1 while no server of an upstream is healthy and all are tried, else 0.";
    RETRIES Counter "retries_total" ["upstream", "reason"]
        "Retries, by reason: connect, reset, timeout, status, or pooled (a dead pooled connection).";
    REJECTED Counter "rejected_total" ["reason"]
        "Requests and connections that the gateway itself answered or ended, by reason: a type of docs/errors.md.";
    LIMITED Counter "limited_total" ["limit"]
        "Requests that a limit refused, by limit.";
    RESCUES Counter "rescues_total" ["release", "outcome"]
        "Failed requests of a canary, by outcome: rescued (stable answered), failed (stable failed too), unprotected (it could not be repeated) or budget.";
    RELEASE_UNKEYED Counter "release_unkeyed_total" ["release"]
        "Requests of a release's routes without a user key.";
    RELEASE_PERCENT Gauge "release_percent" ["release"]
        "Percent of all users on the canary.";
    RELEASE_EVIDENCE Gauge "release_evidence" ["release", "signal"]
        "Evidence against the canary as an e-value, by signal: errors, refusals, latency or feedback.";
    RELEASE_STATE Gauge "release_state" ["release", "state"]
        "1 for the state of a release, else 0: running, paused, held, rolled_back, promoted, aborted.";
    CONNECTIONS Gauge "connections" ["listener"]
        "Open client connections of a listener.";
    MEMORY Gauge "memory_bytes" ["kind"]
        "Bytes held for clients, bounded together, by kind: requests, bodies, encoders, header_lists.";
    CONFIG_REVISION Gauge "config_revision_info" ["revision"]
        "1 for the revision that is served.";
    CONFIG_RELOADS Counter "config_reloads_total" ["result"]
        "Configurations offered, by result: applied, unchanged or refused.";
    STUCK Counter "stuck_requests_total" []
        "Requests ended by the last resort, as nothing moved for longer than their limits allow; must stay 0.";
    LOG_DROPPED Counter "log_dropped_total" []
        "Access-log lines dropped because the writer could not keep up.";
}
