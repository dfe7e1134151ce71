//! The PROXY header, on plain listeners and under TLS.

use crate::support::secure::{Offer, exchange, made};
use crate::support::*;

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n";
const ASK: &[u8] = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Version 2, TCP over IPv4, from 192.0.2.9.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x09\x0a\0\0\x01\x12\x67\x01\xbb";

fn config(listener: &str, trusted: &str, origin: &Origin) -> String {
    format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        proxy_protocol = true
        {listener}[trusted]
        proxies = [{trusted}]
        {}[route.all]
        upstream = "app"
        "#,
        fleet("app", &[origin])
    )
}

#[test]
fn the_client_is_whom_a_trusted_proxy_names() {
    let origin = Origin::start("a");
    let world = World::prepare();
    let tls = made(&["a"]);
    world.write_as("a.crt", tls.cert.as_bytes());
    world.write_as("a.key", tls.key.as_bytes());
    let mut world = world;
    world.boot(&config("", "\"127.0.0.0/8\"", &origin));
    for (header, expected) in [(V1, "192.0.2.7"), (V2, "192.0.2.9"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")] {
        let mut connection = world.connect();
        connection.send(&[header, ASK].concat()).expect("sent");
        assert_eq!(connection.answer(false).expect("an answer").status, 200);
        assert_eq!(origin.last().header("x-forwarded-for"), Some(expected));
    }
    for bytes in [ASK, b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\xff\xff\xff\xff"] {
        let mut connection = world.connect();
        let _ = connection.send(bytes);
        assert!(connection.answer(false).is_err(), "it is no PROXY header");
    }
    world.stop();
    world.boot(&config(
        r#"
        [listener.tls]
        certificates = [{ cert = "a.crt", key = "a.key" }]
        "#,
        "\"127.0.0.1\"",
        &origin,
    ));
    for (header, expected) in [(V1, "192.0.2.7"), (V2, "192.0.2.9")] {
        let got = exchange(world.port, "a", &Offer::default(), header, ASK).expect("an answer");
        assert!(got.text.starts_with("HTTP/1.1 200"), "{got:?}");
        assert_eq!(origin.last().header("x-forwarded-for"), Some(expected));
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    }
}

#[test]
fn from_anybody_else_the_connection_closes() {
    let origin = Origin::start("a");
    let world = World::start(&config("", "\"10.0.0.0/8\"", &origin));
    let mut connection = world.connect();
    let _ = connection.send(&[V1, ASK].concat());
    assert!(connection.answer(false).is_err());
    world.metric_reaches("tollgate_rejected_total", &["reason=\"untrusted_proxy\""], 1.0);
    assert_eq!(origin.hits(), 0);
}
