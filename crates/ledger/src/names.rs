//! The ledger's metrics in one table.

use base::metric::Name;

base::metric_names! {
    CALLBACKS Counter "ledger_callbacks_total" ["channel", "outcome"]
        "Payment callbacks, by channel and outcome: posted, duplicate, parked, suspense, noted, conflict, forged, expired, probe, malformed, overloaded, failed.";
    PROVIDER_CALLS Counter "ledger_provider_calls_total" ["channel", "call", "outcome"]
        "Calls to payment providers, by channel, call (create, query, refund, query_refund) and outcome: answered, refused, failed.";
    COMMIT Histogram "ledger_commit_seconds" []
        "Seconds a batch took, from its first row to its commit.";
    BATCH Histogram "ledger_batch_callbacks" []
        "Callbacks a commit held.";
    OUTBOX Gauge "ledger_outbox_pending" []
        "Events that merchants have not taken yet.";
    OUTBOX_OLDEST Gauge "ledger_outbox_oldest_seconds" []
        "Age of the oldest event that its merchant has not taken.";
    ANOMALIES Gauge "ledger_anomalies_open" []
        "Anomalies that are not resolved.";
    PARKED_OLDEST Gauge "ledger_parked_oldest_seconds" []
        "Age of the oldest callback that is parked.";
    SKEW Gauge "ledger_clock_skew_seconds" []
        "How far ahead of this clock genuine messages are, at the median of the last ones; far from 0: a clock is wrong.";
    DISK Gauge "ledger_disk_free_bytes" []
        "Room left where the ledger keeps its files.";
    STATE Gauge "ledger_state" ["state"]
        "1 for the state of the ledger, else 0: active, standby, failed.";
}
