//! Apps and keys in run form: every app's keys, indexed, and what the proofs of one configuration have in common.
//!
//! With a million keys the index takes most of a second to build, so the previous snapshot's is reused while the apps
//! are the same. Apps have numbers for the judge only if there is a release.

use std::sync::Arc;

use crate::telemetry::Registry;
use client_auth::keys::Keys;
use config::model::{AuthKind, Config};

/// The apps of a snapshot.
#[derive(Clone, Debug)]
pub struct Callers {
    /// Their keys.
    pub keys: Arc<Keys>,
    /// The longest `clock_skew` of all proofs, in seconds: nonces are kept that long.
    pub keep_s: u64,
    /// By the numbers of `config.apps`; empty without a release.
    numbers: Arc<[u32]>,
}

impl Callers {
    /// The callers of this configuration; `previous` is what was served before, and its configuration.
    pub fn new(config: &Config, previous: Option<(&Callers, &Config)>, registry: &Registry) -> Callers {
        let kept = previous.filter(|(_, before)| before.apps == config.apps).map(|(callers, _)| callers);
        let keys = kept.map_or_else(|| Arc::new(Keys::new(&config.apps)), |callers| callers.keys.clone());
        let skews = config.auths.iter().filter_map(|auth| match auth.kind {
            AuthKind::Hmac { clock_skew } => Some(clock_skew.as_secs()),
            AuthKind::ApiKey { .. } | AuthKind::Jwt { .. } => None,
        });
        let number = || match config.releases.is_empty() {
            true => Arc::default(),
            false => config.apps.iter().map(|app| registry.app_number(&app.name)).collect(),
        };
        let numbered = kept.filter(|callers| callers.numbers.is_empty() == config.releases.is_empty());
        Callers {
            keys,
            keep_s: skews.max().unwrap_or_default(),
            numbers: numbered.map_or_else(number, |callers| callers.numbers.clone()),
        }
    }

    /// The judge's number of an app; 0 without one.
    pub fn number(&self, app: Option<u32>) -> u32 {
        app.and_then(|app| self.numbers.get(app as usize)).copied().unwrap_or_default()
    }
}
