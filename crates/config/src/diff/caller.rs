//! The diff of proofs, apps and limits.
//!
//! Proofs and limits that an app or a route lists are compared by name, since their indices move when
//! another one comes or goes.

use std::sync::Arc;

use super::{Changes, changes, differing};
use crate::model::{Auth, AuthKind, Config, Limit, Rate};
use client_auth::apps::App;

pub(super) fn auths(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Auth)> {
        config.auths.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Auth { name: _, kind, place: _ } = new;
        auth_keys(&old.kind, kind)
    })
}

fn auth_keys(old: &AuthKind, new: &AuthKind) -> Vec<&'static str> {
    match (old, new) {
        (AuthKind::ApiKey { header: old }, AuthKind::ApiKey { header }) => differing([("header", old != header)]),
        (AuthKind::Hmac { clock_skew: old }, AuthKind::Hmac { clock_skew }) => {
            differing([("clock_skew", old != clock_skew)])
        }
        (
            AuthKind::Jwt { issuer: iss, audience: aud, keys: set, user_claim: claim },
            AuthKind::Jwt { issuer, audience, keys, user_claim },
        ) => differing([
            ("jwks_file", set != keys),
            ("issuer", iss != issuer),
            ("audience", aud != audience),
            ("user_claim", claim != user_claim),
        ]),
        _ => vec!["kind"],
    }
}

pub(super) fn apps(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, App)> {
        config.apps.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |one, other| {
        let App { name: _, status, keys, limits, place: _ } = other;
        differing([
            ("status", one.status != *status),
            ("keys", one.keys != *keys),
            ("limits", limit_names(old, &one.limits) != limit_names(new, limits)),
        ])
    })
}

pub(super) fn limits(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Limit)> {
        config.limits.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Limit { name: _, key, rate: is, concurrency, place: _ } = new;
        let count = |rate: Rate| {
            let Rate { count, per, burst: _ } = rate;
            (count, per)
        };
        differing([
            ("key", old.key != *key),
            ("rate", old.rate.map(count) != is.map(count)),
            ("burst", old.rate.map(|rate| rate.burst) != is.map(|rate| rate.burst)),
            ("concurrency", old.concurrency != *concurrency),
        ])
    })
}

pub(super) fn auth_names<'c>(config: &'c Config, indices: &[usize]) -> Vec<&'c Arc<str>> {
    indices.iter().filter_map(|&index| config.auths.get(index)).map(|it| &it.name).collect()
}

pub(super) fn limit_names<'c>(config: &'c Config, indices: &[usize]) -> Vec<&'c Arc<str>> {
    indices.iter().filter_map(|&index| config.limits.get(index)).map(|it| &it.name).collect()
}
