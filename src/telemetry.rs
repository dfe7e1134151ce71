//! What the gateway tells: metrics, the access log and its own messages.
//!
//! `names` is the one table of metrics, `series` what routes,
//! upstreams and servers count, `registry` keeps series alive across configurations and prints them, `access_log`
//! writes a line a request without ever making one wait.

pub mod access_log;
pub mod line;
pub mod names;
pub mod registry;
pub mod series;

pub use registry::Registry;

/// Sends the gateway's own messages to stderr: `info` and worse, `TOLLGATE_LOG` (in `env_logger`'s syntax) for more.
/// Pingora reports each failed request by itself; those are in the access log already and stay silent here.
pub fn init_messages() {
    let filter =
        env_logger::Env::new().filter_or("TOLLGATE_LOG", "info,pingora=off,pingora_core=off,pingora_proxy=off");
    let _ = env_logger::Builder::from_env(filter).format_target(false).format_timestamp_millis().try_init();
}
