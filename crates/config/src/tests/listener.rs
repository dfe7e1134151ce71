//! Listeners, proofs, apps and limits: what they mean, and what is said of those that mean nothing.

use std::time::Duration;

use super::*;
use crate::model::{AuthKind, KeyPart, Rate};
use client_auth::apps::{AppStatus, KeySecret};

fn reference() -> model::Config {
    load(&conf().join("reference.toml")).expect("it loads").config
}

/// Checks every text against all of its findings.
fn golden(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(found(text), *expected, "\n{text}");
    }
}

#[test]
fn a_bare_listener_has_the_defaults_of_the_reference() {
    let (bare, reference) = (meant(""), reference());
    let (mut bare, mut written) = (bare.listeners[0].clone(), reference.listeners[0].clone());
    (bare.place, written.place) = Default::default();
    assert_eq!(bare, written);
    assert_eq!((bare.head_max, bare.headers_max, bare.uri_max, bare.body_min_rate), (65_536, 100, 16_384, 500));
    let tls = reference.listeners[1].tls.clone().expect("TLS");
    assert_eq!(tls.certificates[0].names, ["localhost", "api.example.com", "*.example.org"]);
    assert!(tls.client_ca.is_some_and(|ca| ca.authorities.len() == 1));
}

#[test]
fn the_reference_knows_its_callers() {
    let config = reference();
    let kinds: Vec<_> = config.auths.iter().map(|auth| &auth.kind).collect();
    assert!(matches!(kinds[0], AuthKind::ApiKey { header } if header == "x-api-key"));
    assert!(matches!(kinds[1], AuthKind::Hmac { clock_skew } if *clock_skew == Duration::from_secs(300)));
    assert!(matches!(kinds[2], AuthKind::Jwt { user_claim: Some(claim), .. } if claim == "sub"));
    let app = &config.apps[0];
    assert_eq!((&*app.name, app.status, &app.limits[..]), ("acme", AppStatus::Approved, &[1][..]));
    assert!(matches!(&app.keys[0].secret, KeySecret::Plain(key) if &*key.0 == b"example-key-of-acme-do-not-use"));
    assert_eq!(config.limits[0].key, [KeyPart::App]);
    let second = Duration::from_secs(1);
    assert_eq!(config.limits[0].rate, Some(Rate { count: 100, per: second, burst: 200 }));
    assert_eq!(config.limits[1].rate, Some(Rate { count: 1000, per: second, burst: 1000 }));
    let route = &config.routes[0];
    assert_eq!((&route.auths[..], &route.limits[..]), (&[0][..], &[0][..]));
}

#[test]
fn a_burst_that_is_not_written_is_that_of_a_second() {
    for (rate, burst) in [("10/s", 10), ("600/m", 10), ("30/m", 1), ("7200/h", 2)] {
        let config = meant(&format!("[limit.a]\nrate = \"{rate}\""));
        assert_eq!(config.limits[0].rate.map(|rate| rate.burst), Some(burst), "{rate}");
    }
}

#[test]
fn listeners_are_told_what_cannot_be() {
    let listener = |lines: &str| format!("[[listener]]\naddress = \"127.0.0.1:1\"\n{lines}");
    let tls =
        "tls = { certificates = [{ cert = \"secrets-example/gateway.crt\", key = \"secrets-example/ledger.key\" }] }";
    for (lines, expected) in [
        (
            "header_timeout = \"0s\"",
            "3:18 `header_timeout` must be longer than nothing: every connection would close at once -> such as \"10s\"",
        ),
        ("head_max = \"1MiB\"", "3:12 the size is out of range -> from \"1KiB\" to \"512KiB\""),
        ("uri_max = \"1B\"", "3:11 the size is out of range -> from \"64B\" to \"60KiB\""),
        ("headers_max = 257", "3:15 `257` is out of range -> a whole number from 1 to 256"),
        (
            "proxy_protocol = true",
            "3:18 `proxy_protocol` without `trusted.proxies` closes every connection -> add `[trusted] proxies = [\"10.0.0.0/8\"]`: from anyone else the connection closes",
        ),
        (
            "tls = {}",
            "3:7 `certificates` is missing -> add it: certificates = [{ cert = \"tls/a.crt\", key = \"tls/a.key\" }]",
        ),
        (
            "tls = { certificates = [] }",
            "3:24 `certificates` is empty -> such as certificates = [{ cert = \"tls/a.crt\", key = \"tls/a.key\" }]",
        ),
        (
            "tls = { certificates = [{ cert = \"secrets-example/gateway.crt\" }] }",
            "3:25 `key` is missing -> add it: { cert = \"tls/a.crt\", key = \"tls/a.key\" }",
        ),
        (
            tls,
            "3:71 the file holds no private key: no items found -> a PEM file with `-----BEGIN PRIVATE KEY-----`, not encrypted: RSA, ECDSA P-256 or P-384, or Ed25519",
        ),
    ] {
        assert_eq!(found(&listener(lines)), [expected], "{lines}");
    }
    let both = "h2c = true\ntls = { certificates = [{ cert = \"secrets-example/gateway.crt\", key = \"secrets-example/gateway.key\" }] }";
    assert_eq!(
        found(&listener(both)),
        ["3:7 `h2c` is HTTP/2 without TLS -> remove it: with `tls`, HTTP/2 is agreed on in the handshake (ALPN)"]
    );
}

#[test]
fn a_key_of_another_certificate_is_found_and_a_bad_one_never_panics() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    let (one, other) = (made(), made());
    let tls = "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = { certificates = [{ cert = \"crt\", key = \"key\" }], client_ca = \"ca\" }";
    let said = |cert: &str, key: &str, ca: &str| {
        for (name, text) in [("crt", cert), ("key", key), ("ca", ca)] {
            write(name, text);
        }
        let source = Source::from_parts(folder.path().to_owned(), vec![("a.toml".into(), tls.to_owned())]);
        load_source(source).map(|_| ()).map_err(|findings| findings[0].message.clone())
    };
    assert_eq!(said(&one.0, &one.1, &one.0), Ok(()));
    let foreign = said(&one.0, &other.1, &one.0).expect_err("it is refused");
    assert_eq!(foreign, "the private key does not fit the certificate");
    assert!(said(&one.0, &one.1, "no PEM").is_err());
    for cut in (0..one.0.len()).step_by(37) {
        let _ = said(&one.0[..cut], &one.1, &one.0);
        let _ = said(&one.0, &one.1[..cut.min(one.1.len())], &one.0);
    }
}

/// A certificate and its key.
fn made() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).expect("it is made");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn callers_and_limits_are_told_what_cannot_be() {
    golden(&[
        ("[auth.a]", &["1:1 `kind` is missing -> add it: kind = \"api_key\"; or \"hmac\", \"jwt\""]),
        (
            "[auth.a]\nkind = \"hmac\"\nheader = \"x-a\"",
            &["3:10 `header` means nothing where kind = \"hmac\" -> remove it: it belongs to kind = \"api_key\""],
        ),
        ("[auth.a]\nkind = \"jwt\"", &["1:1 `jwks_file` is missing -> add it: jwks_file = \"secrets/users.jwks\""]),
        (
            "[route.a]\nrespond = {}\nauth = [\"kes\"]\nlimits = [\"x\", \"x\"]\n[auth.keys]\nkind = \"api_key\"",
            &[
                "3:9 there is no auth `kes` -> did you mean `keys`? auths: keys",
                "4:11 there is no limit `x` -> add it: [limit.x] rate = \"100/s\"",
                "4:16 there is no limit `x` -> add it: [limit.x] rate = \"100/s\"",
                "4:16 this limit is listed twice -> the other one is at a.toml:4; keep one",
            ],
        ),
        ("[limit.a]", &["1:1 the limit limits nothing -> add `rate = \"100/s\"`, `concurrency = 50`, or both"]),
        (
            "[limit.a]\nconcurrency = 1\nburst = 2",
            &["3:9 `burst` means nothing without `rate` -> add `rate = \"100/s\"`"],
        ),
        ("[limit.a]\nrate = \"5/d\"", &["2:8 `5/d` is not a rate -> such as \"100/s\", \"600/m\" or \"5000/h\""]),
        (
            "[limit.a]\nrate = \"1/h\"\nburst = 100000",
            &["3:9 a burst this large takes years to come back at this rate -> a smaller `burst`, or a higher `rate`"],
        ),
        (
            "[limit.a]\nrate = \"0/s\"\nkey = [\"ip\", \"ip\"]",
            &[
                "2:8 `0/s` is out of range -> from 1 to 1000000000 requests, such as \"100/s\", \"600/m\" or \"5000/h\"",
                "3:14 this part of the key is listed twice -> the other one is at a.toml:3; keep one",
            ],
        ),
        (
            "[app.a]\nkeys = [{ id = \"k\", secret_file = \"secrets-example/acme.k1\" }, { id = \"k\", secret_file = \
             \"secrets-example/acme.k1\" }]",
            &[
                "2:71 this app has a key of this id already -> the other one is at a.toml:2; keep one",
                "2:90 another key is the same: no two may be -> the other one is at a.toml:2; keep one",
            ],
        ),
    ]);
}
