//! The diff of a listener, by key. Certificates are compared by their content, not by the names of their files.

use super::differing;
use crate::model::Listener;

pub(super) fn listener_keys(old: &Listener, new: &Listener) -> Vec<&'static str> {
    let Listener {
        address: _,
        h2c,
        proxy_protocol,
        header_timeout,
        idle_timeout,
        body_min_rate,
        head_max,
        headers_max,
        uri_max,
        max_connections_per_ip,
        tls,
        place: _,
    } = new;
    differing([
        ("h2c", old.h2c != *h2c),
        ("proxy_protocol", old.proxy_protocol != *proxy_protocol),
        ("header_timeout", old.header_timeout != *header_timeout),
        ("idle_timeout", old.idle_timeout != *idle_timeout),
        ("body_min_rate", old.body_min_rate != *body_min_rate),
        ("head_max", old.head_max != *head_max),
        ("headers_max", old.headers_max != *headers_max),
        ("uri_max", old.uri_max != *uri_max),
        ("max_connections_per_ip", old.max_connections_per_ip != *max_connections_per_ip),
        ("tls", old.tls != *tls),
    ])
}
