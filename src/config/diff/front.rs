//! What a change does to listeners, and to who may call and how often.
//!
//! Proofs and limits are compared by name where an app or a route lists them, since their indices move when another one
//! comes or goes. Certificates are compared by what they are, not by the names of their files.

use std::sync::Arc;

use super::{Changes, changes, differing};
use crate::auth::apps::App;
use crate::config::model::{Auth, Config, Limit, Listener};

pub(super) fn listener_keys(old: &Listener, new: &Listener) -> Vec<&'static str> {
    differing([
        ("h2c", old.h2c != new.h2c),
        ("proxy_protocol", old.proxy_protocol != new.proxy_protocol),
        ("header_timeout", old.header_timeout != new.header_timeout),
        ("idle_timeout", old.idle_timeout != new.idle_timeout),
        ("body_min_rate", old.body_min_rate != new.body_min_rate),
        ("head_max", old.head_max != new.head_max),
        ("headers_max", old.headers_max != new.headers_max),
        ("uri_max", old.uri_max != new.uri_max),
        ("max_connections_per_ip", old.max_connections_per_ip != new.max_connections_per_ip),
        ("tls", old.tls != new.tls),
    ])
}

pub(super) fn auths(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Auth)> {
        config.auths.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| differing([("kind", old.kind != new.kind)]))
}

pub(super) fn apps(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, App)> {
        config.apps.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |one, other| {
        differing([
            ("status", one.status != other.status),
            ("keys", one.keys != other.keys),
            ("limits", limit_names(old, &one.limits) != limit_names(new, &other.limits)),
        ])
    })
}

pub(super) fn limits(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Limit)> {
        config.limits.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let (was, is) = (old.rate, new.rate);
        differing([
            ("key", old.key != new.key),
            ("rate", was.map(|rate| (rate.count, rate.per)) != is.map(|rate| (rate.count, rate.per))),
            ("burst", was.map(|rate| rate.burst) != is.map(|rate| rate.burst)),
            ("concurrency", old.concurrency != new.concurrency),
        ])
    })
}

pub(super) fn auth_names<'c>(config: &'c Config, indices: &[usize]) -> Vec<&'c Arc<str>> {
    indices.iter().filter_map(|&index| config.auths.get(index)).map(|it| &it.name).collect()
}

pub(super) fn limit_names<'c>(config: &'c Config, indices: &[usize]) -> Vec<&'c Arc<str>> {
    indices.iter().filter_map(|&index| config.limits.get(index)).map(|it| &it.name).collect()
}
