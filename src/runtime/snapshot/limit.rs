//! The run form of limits: each with its rule, the description for clients, and its counter.
//!
//! Counts pass from snapshot to snapshot, by the limits' names and keys. `check` finds rates that cannot be kept; a
//! limit is never left out.

use std::sync::Arc;

use ahash::RandomState;
use http::HeaderValue;

use crate::telemetry::Registry;
use base::shard::Counter;
use config::model::{Config, Limit as Model};
use rate_limit::{Limiter, Rule, field};

/// All limits.
pub struct Limits {
    limiter: Arc<Limiter>,
    /// By the numbers of `config.limits`.
    all: Vec<Limit>,
}

/// A limit.
pub struct Limit {
    /// Its rule.
    pub rule: Rule,
    /// The value of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// Requests it refused.
    pub refused: Arc<Counter>,
}

impl Limits {
    /// The limits of a configuration; those that `previous` has too keep their counts.
    pub fn new(config: &Config, previous: Option<&Limits>, registry: &Registry) -> Limits {
        let fresh = || Arc::new(Limiter::new(RandomState::new()));
        let limiter = previous.map_or_else(fresh, |previous| Arc::clone(&previous.limiter));
        let all = config.limits.iter().map(|limit| Limit::new(limit, &limiter, registry)).collect();
        Limits { limiter, all }
    }

    /// A limit, by its number in `config.limits`.
    pub fn get(&self, limit: usize) -> &Limit {
        &self.all[limit]
    }
}

impl Limit {
    fn new(model: &Model, limiter: &Limiter, registry: &Registry) -> Limit {
        // `check` has refused whatever is an error here.
        let rate = model.rate.and_then(|rate| rate.as_kept().ok());
        let rule = limiter.rule(&model.name, &format!("{:?}", model.key), rate, model.concurrency);
        // The value of `policy` is ASCII.
        let policy = HeaderValue::try_from(field::policy(&model.name, &rule));
        Limit { rule, policy: policy.unwrap_or(HeaderValue::from_static("")), refused: registry.limit(&model.name) }
    }
}
