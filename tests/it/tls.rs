//! TLS at the listener: names, versions, protocols, client certificates, and certificates that are swapped.

use std::io::{Read, Write};
use std::time::Duration;

use rustls::HandshakeKind;

use crate::support::caller::now_s;
use crate::support::secure::{Made, Offer, Secure, authority, authority_until, client, connect, exchange, made};
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
        r#"
        [[listener]]
        address = "$LISTEN"
        [listener.tls]
        certificates = [{{ cert = "a.crt", key = "a.key" }}, {{ cert = "b.crt", key = "b.key" }}]
        {more}
        [route.all]
        respond = {{ body = "plain" }}
        [route.secure]
        scheme = "https"
        respond = {{ body = "secure" }}
        "#
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

/// A gateway that lets in clients of this authority.
fn asking(ca: &Made) -> World {
    let mut world = World::prepare();
    world.write_as("clients.crt", ca.cert.as_bytes());
    for (name, made) in [("a", made(&["a.example"])), ("b", made(&["*.b.example"]))] {
        world.write_as(&format!("{name}.crt"), made.cert.as_bytes());
        world.write_as(&format!("{name}.key"), made.key.as_bytes());
    }
    world.boot(
        r#"
        [[listener]]
        address = "$LISTEN"
        [listener.tls]
        certificates = [{ cert = "a.crt", key = "a.key" }, { cert = "b.crt", key = "b.key" }]
        client_ca = "clients.crt"
        [route.all]
        respond = { body = "in" }
        "#,
    );
    world
}

/// Asks over a connection that may stay: the head of the answer.
fn ask(stream: &mut Secure) -> std::io::Result<String> {
    stream.write_all(b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n")?;
    let (mut head, mut byte) = (vec![], [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split_once("content-length: ").unwrap().1.split("\r\n").next().unwrap();
    stream.read_exact(&mut vec![0; length.parse().unwrap()])?;
    Ok(head)
}

/// The type of the next frame of HTTP/2.
fn frame(stream: &mut Secure) -> std::io::Result<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    stream.read_exact(&mut vec![0; length as usize])?;
    Ok(head[3])
}

#[test]
fn a_connection_does_not_outlive_the_authority_of_its_client() {
    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;
    let (ca, member) = authority();
    let (next_ca, next) = authority();
    let world = asking(&ca);
    let offer = Offer { certificate: Some(&member), ..Offer::default() };
    let open = |offer: &Offer<'_>| connect(world.port, "a.example", client(offer), b"").unwrap();
    let mut kept = open(&offer);
    assert!(ask(&mut kept).unwrap().starts_with("http/1.1 200 "));
    let mut h2 = open(&Offer { protocols: &["h2"], ..offer.clone() });
    let head =
        |stream| [&[0, 0, 14, HEADERS, 5, 0, 0, 0, stream, 0x82, 0x87, 0x84, 0x41, 9][..], b"a.example"].concat();
    h2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    h2.write_all(&head(1)).unwrap();
    while frame(&mut h2).unwrap() != HEADERS {}
    // Another certificate of ours changes nothing for clients.
    let renewed = made(&["a.example"]);
    world.write_as("a.key", renewed.key.as_bytes());
    world.write_as("a.crt", renewed.cert.as_bytes());
    let shown = || exchange(world.port, "a.example", &offer, b"", ASK).map(|got| got.certificate);
    eventually("the new certificate is shown", || shown().is_ok_and(|der| der == renewed.der).then_some(()));
    assert!(ask(&mut kept).unwrap().starts_with("http/1.1 200 "));
    // Another authority does.
    world.write_as("clients.crt", next_ca.cert.as_bytes());
    eventually("the member is kept out", || shown().is_err().then_some(()));
    let refused = ask(&mut kept).unwrap();
    assert!(refused.starts_with("http/1.1 421 ") && refused.contains("connection: close"), "{refused}");
    assert!(ask(&mut kept).is_err(), "it is closed");
    h2.write_all(&head(3)).unwrap();
    while frame(&mut h2).unwrap() != GOAWAY {}
    let offer = Offer { certificate: Some(&next), ..Offer::default() };
    assert!(ask(&mut open(&offer)).unwrap().starts_with("http/1.1 200 "));
}

#[test]
fn a_connection_does_not_outlive_its_clients_certificate() {
    let ends = now_s() + 4;
    let (ca, member) = authority_until(ends);
    let world = asking(&ca);
    let config = client(&Offer { certificate: Some(&member), ..Offer::default() });
    let open = || connect(world.port, "a.example", config.clone(), b"").unwrap();
    let mut kept = open();
    assert!(ask(&mut kept).unwrap().starts_with("http/1.1 200 "));
    // A ticket would show the certificate of before, whatever became of it.
    let mut again = open();
    assert!(ask(&mut again).unwrap().starts_with("http/1.1 200 "));
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Full));
    std::thread::sleep(Duration::from_secs((ends + 1).saturating_sub(now_s()) + 1));
    assert!(ask(&mut kept).unwrap().starts_with("http/1.1 421 "));
    assert!(ask(&mut open()).is_err());
}

#[test]
fn where_no_client_certificate_is_asked_for_sessions_are_resumed() {
    let (world, _) = world("", &made(&["a.example"]), &made(&["*.b.example"]));
    let config = client(&Offer::default());
    let mut kinds = (0..2).map(|_| {
        let mut stream = connect(world.port, "a.example", config.clone(), b"").unwrap();
        ask(&mut stream).unwrap();
        stream.conn.handshake_kind()
    });
    assert_eq!((kinds.next(), kinds.next()), (Some(Some(HandshakeKind::Full)), Some(Some(HandshakeKind::Resumed))));
}

#[test]
fn a_client_must_show_a_certificate_and_stay_with_the_name_it_came_by() {
    let (ca, client) = authority();
    let (_, stranger) = authority();
    let world = asking(&ca);
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
