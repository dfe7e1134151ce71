//! The ledger's metrics, in a registry of their own, exposed at its address and, if it is embedded, with the gateway's.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, Opts, Registry, TextEncoder};

use super::names;
use base::metric::Name;

/// All series of the ledger.
#[derive(Debug)]
pub struct LedgerSeries {
    registry: Registry,
    /// Callbacks by channel and outcome.
    pub callbacks: IntCounterVec,
    /// Calls to providers by channel, call and outcome.
    pub provider_calls: IntCounterVec,
    /// Seconds of a commit.
    pub commit: Histogram,
    /// Callbacks in a commit.
    pub batch: Histogram,
    /// Events that wait for their merchants.
    pub outbox: Gauge,
    /// Age of the oldest of them, in seconds.
    pub outbox_oldest: Gauge,
    /// Open anomalies.
    pub anomalies: Gauge,
    /// Age of the oldest parked callback, in seconds.
    pub parked_oldest: Gauge,
    /// How far genuine messages are ahead of this clock, in seconds.
    pub skew: Gauge,
    /// Free room on the disk, in bytes.
    pub disk: Gauge,
    state: GaugeVec,
}

impl Default for LedgerSeries {
    fn default() -> LedgerSeries {
        let registry = Registry::new();
        let plain = |name: &Name| Gauge::with_opts(options(name)).expect("a valid name");
        let series = LedgerSeries {
            callbacks: IntCounterVec::new(options(&names::CALLBACKS), names::CALLBACKS.labels).expect("valid names"),
            provider_calls: IntCounterVec::new(options(&names::PROVIDER_CALLS), names::PROVIDER_CALLS.labels)
                .expect("valid names"),
            commit: histogram(
                &names::COMMIT,
                &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
            ),
            batch: histogram(&names::BATCH, &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]),
            outbox: plain(&names::OUTBOX),
            outbox_oldest: plain(&names::OUTBOX_OLDEST),
            anomalies: plain(&names::ANOMALIES),
            parked_oldest: plain(&names::PARKED_OLDEST),
            skew: plain(&names::SKEW),
            disk: plain(&names::DISK),
            state: GaugeVec::new(options(&names::STATE), names::STATE.labels).expect("valid names"),
            registry,
        };
        let all: [Box<dyn Collector>; 11] = [
            Box::new(series.callbacks.clone()),
            Box::new(series.provider_calls.clone()),
            Box::new(series.commit.clone()),
            Box::new(series.batch.clone()),
            Box::new(series.outbox.clone()),
            Box::new(series.outbox_oldest.clone()),
            Box::new(series.anomalies.clone()),
            Box::new(series.parked_oldest.clone()),
            Box::new(series.skew.clone()),
            Box::new(series.disk.clone()),
            Box::new(series.state.clone()),
        ];
        all.into_iter().for_each(|collector| series.registry.register(collector).expect("each name once"));
        series
    }
}

impl LedgerSeries {
    /// Shows the state of the writer: `active`, `standby` or `failed`.
    pub fn state(&self, now: &str) {
        for state in ["active", "standby", "failed"] {
            self.state.with_label_values(&[state]).set(f64::from(state == now));
        }
    }

    /// The registry, to be exposed together with others.
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// All metrics.
    pub fn families(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// The metrics in Prometheus text format 0.0.4.
    pub fn expose(&self) -> String {
        let mut text = Vec::new();
        // Encoding into memory cannot fail.
        let _ = TextEncoder::new().encode(&self.families(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}

fn options(name: &Name) -> Opts {
    Opts::new(name.name, name.help)
}

fn histogram(name: &Name, buckets: &[f64]) -> Histogram {
    let options = HistogramOpts::from(options(name)).buckets(buckets.to_vec());
    Histogram::with_opts(options).expect("a valid name and rising bounds")
}

#[cfg(test)]
mod tests {
    use super::LedgerSeries;

    #[test]
    fn the_series_have_their_fixed_names() {
        let series = LedgerSeries::default();
        series.callbacks.with_label_values(&["card", "posted"]).inc();
        series.state("active");
        let text = series.expose();
        for line in [
            r#"tollgate_ledger_callbacks_total{channel="card",outcome="posted"} 1"#,
            "tollgate_ledger_commit_seconds_count 0",
            "tollgate_ledger_outbox_pending 0",
            r#"tollgate_ledger_state{state="active"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
