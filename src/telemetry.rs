//! What the gateway reports: metrics, the access log and its own messages.
//!
//! `names` is the table of the gateway's metrics (the ledger has its own), `series` the counters of routes, upstreams and servers. `registry` keeps series
//! alive across configurations and prints them. `access_log` writes one line for each request without making any wait.

pub mod access_log;
pub mod line;
pub mod names;
pub mod registry;
pub mod series;

pub use registry::Registry;

/// Sends the gateway's own messages to stderr: `info` and worse, `TOLLGATE_LOG` (in `env_logger`'s syntax) for more.
/// Pingora's own message for each failed request is suppressed, because the access log has it already.
pub fn init_messages() {
    let filter =
        env_logger::Env::new().filter_or("TOLLGATE_LOG", "info,pingora=off,pingora_core=off,pingora_proxy=off");
    let _ = env_logger::Builder::from_env(filter).format_target(false).format_timestamp_millis().try_init();
}
