//! TLS at the listener: names, versions, protocols, client certificates, and certificates that are swapped.

use crate::support::secure::{Made, Offer, authority, exchange, made};
use crate::support::*;

const ASK: &[u8] = b"GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// A gateway that shows `a` for a.example and `b` for *.b.example.
fn world(more: &str, a: &Made, b: &Made) -> (World, String) {
    let mut world = World::prepare();
    for (name, made) in [("a", a), ("b", b)] {
        world.write_as(&format!("{name}.crt"), made.cert.as_bytes());
        world.write_as(&format!("{name}.key"), made.key.as_bytes());
    }
    let config = format!(
        "[[listener]]\naddress = \"$LISTEN\"\n[listener.tls]\n\
         certificates = [{{ cert = \"a.crt\", key = \"a.key\" }}, {{ cert = \"b.crt\", key = \"b.key\" }}]\n{more}\n\
         [route.all]\nrespond = {{ body = \"plain\" }}\n[route.secure]\nscheme = \"https\"\nrespond = {{ body = \"secure\" }}\n"
    );
    world.boot(&config);
    (world, config)
}

#[test]
fn the_certificate_is_that_of_the_name_and_both_versions_are_spoken() {
    let (a, b) = (made(&["a.example"]), made(&["*.b.example"]));
    let (world, _) = world("", &a, &b);
    for (name, expected) in [("a.example", &a), ("x.b.example", &b), ("x.y.b.example", &a), ("other", &a)] {
        for tls12 in [false, true] {
            let offer = Offer { tls12, ..Offer::default() };
            let got = exchange(world.port, name, &offer, b"", ASK).unwrap();
            assert_eq!(got.certificate, expected.der, "{name}");
            assert!(got.text.ends_with("secure"), "{got:?}");
            assert_eq!(got.protocol, None);
        }
    }
    let offer = Offer { protocols: &["http/1.1"], ..Offer::default() };
    assert_eq!(exchange(world.port, "a.example", &offer, b"", ASK).unwrap().protocol.as_deref(), Some("http/1.1"));
    assert!(
        exchange(world.port, "a.example", &Offer { protocols: &["spdy/3"], ..Offer::default() }, b"", ASK).is_err()
    );
    // Who speaks in the clear gets no answer, and hurts nobody.
    let mut clear = world.connect();
    let _ = clear.send(ASK);
    assert!(clear.answer(false).is_err());
    assert!(exchange(world.port, "a.example", &Offer::default(), b"", ASK).is_ok());
}

#[test]
fn certificates_are_swapped_with_the_configuration_and_a_bad_one_is_not() {
    let (a, b) = (made(&["a.example"]), made(&["*.b.example"]));
    let (world, _) = world("", &a, &b);
    let shown = || exchange(world.port, "a.example", &Offer::default(), b"", ASK).unwrap().certificate;
    assert_eq!(shown(), a.der);
    world.write_as("a.crt", b.cert.as_bytes());
    let refused = world.admin(post("/api/v1/config/reload", ""));
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("the private key does not fit the certificate"), "{}", refused.text());
    assert_eq!(shown(), a.der, "what runs goes on");
    let next = made(&["a.example"]);
    world.write_as("a.key", next.key.as_bytes());
    world.write_as("a.crt", next.cert.as_bytes());
    eventually("the new certificate is shown", || (shown() == next.der).then_some(()));
}

#[test]
fn a_client_must_show_a_certificate_and_stay_with_the_name_it_came_by() {
    let (a, b) = (made(&["a.example"]), made(&["*.b.example"]));
    let (ca, client) = authority();
    let (_, stranger) = authority();
    let mut world = World::prepare();
    world.write_as("clients.crt", ca.cert.as_bytes());
    for (name, made) in [("a", &a), ("b", &b)] {
        world.write_as(&format!("{name}.crt"), made.cert.as_bytes());
        world.write_as(&format!("{name}.key"), made.key.as_bytes());
    }
    world.boot(
        "[[listener]]\naddress = \"$LISTEN\"\n[listener.tls]\ncertificates = [{ cert = \"a.crt\", key = \"a.key\" }, \
         { cert = \"b.crt\", key = \"b.key\" }]\nclient_ca = \"clients.crt\"\n[route.all]\nrespond = { body = \"in\" }\n",
    );
    let ask = |name: &str, certificate: Option<&Made>, bytes: &[u8]| {
        exchange(world.port, name, &Offer { certificate, ..Offer::default() }, b"", bytes)
    };
    assert!(ask("a.example", None, ASK).is_err(), "without a certificate");
    assert!(ask("a.example", Some(&stranger), ASK).is_err(), "with a stranger's");
    let got = ask("a.example", Some(&client), ASK).unwrap();
    assert!(got.text.ends_with("in"), "{got:?}");
    let got = ask("x.b.example", Some(&client), ASK).unwrap();
    assert!(got.text.starts_with("HTTP/1.1 421 "), "{got:?}");
    world.metric_reaches("tollgate_rejected_total", &["reason=\"misdirected\""], 1.0);
}
