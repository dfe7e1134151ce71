//! Messages sent to real HTTP servers on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use serde_json::{Value, json};

use super::retry::Pace;
use super::*;
use base::finding::Place;
use base::secret::Secret;
use config::model::{Notify, NotifyFormat};
use gray::report::{Action, Apart, Arms, Change, Evidence, IncidentFacts, Kind, PlaceView, Report};
use http_client::webhook::{signature, signing_key};

/// `MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw`, decoded.
const SECRET: [u8; 24] =
    [49, 242, 144, 246, 191, 6, 41, 138, 171, 79, 8, 212, 60, 63, 8, 44, 246, 72, 163, 98, 218, 45, 164, 176];
const SOON: Duration = Duration::from_secs(10);

/// Facts about a canary with one bad server.
pub(super) fn facts() -> IncidentFacts {
    IncidentFacts {
        release: "orders-v2".into(),
        at: "2026-11-21T15:30:12.123Z".into(),
        kind: Kind::Worse,
        action: Action::RolledBack,
        reason: String::new(),
        change: Change { canary: "orders-v2".into(), stable: vec!["orders".into()], ..Change::default() },
        since: Some("2026-11-21T15:30:09.000Z".into()),
        evidence: Evidence { errors: f64::INFINITY, ..Evidence::default() },
        threshold: 1_000.0,
        trajectory: vec![],
        users_harmed: 1,
        rescued: 419,
        not_rescued: 1,
        arms: Arms::default(),
        include: Apart::default(),
        places: vec![PlaceView {
            text: "server 127.0.0.1:9002, status 5xx: 412 of 420 failures".into(),
            parts: vec![],
            llr: 301.5,
            explains: 0.981,
            bad: 412,
            of: 420,
            requests: 1_204,
        }],
        outside: None,
    }
}

/// A request that a server received: head lines in lower case, and the body.
struct Got {
    head: Vec<String>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

/// A server that gives these answers in turn, then always the last one, each on a connection of its own.
fn server(answers: &'static [&'static str]) -> (String, Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/alerts", listener.local_addr().unwrap());
    let (sender, got) = channel();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().flatten().enumerate() {
            answer(stream, answers[at.min(answers.len() - 1)], &sender);
        }
    });
    (url, got)
}

fn answer(stream: TcpStream, answer: &str, sender: &Sender<Got>) {
    let mut reader = BufReader::new(&stream);
    let lines = std::iter::from_fn(|| {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|_| !line.trim().is_empty())?;
        Some(line.trim().to_owned())
    });
    // Values keep their case.
    let lower = |line: String| match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
        None => line,
    };
    let mut got = Got { head: lines.map(lower).collect(), body: String::new() };
    let length = got.header("content-length").map_or(0, |length| length.parse().unwrap());
    reader.take(length).read_to_string(&mut got.body).unwrap();
    let _ = sender.send(got);
    let _ =
        (&stream).write_all(format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").as_bytes());
}

fn target(name: &str, url: &str, format: NotifyFormat, secret: bool) -> Notify {
    let place = Place { file: "a.toml".into(), line: 1, column: 1, text: "".into() };
    let secret = secret.then(|| Secret(Arc::from(SECRET)));
    Notify { name: name.into(), url: url.into(), format, secret, place }
}

fn quick(targets: Vec<Notify>) -> Notifier {
    let first = Duration::from_millis(20);
    Notifier::at_pace(targets, Pace { attempts: 4, first, longest: Duration::from_millis(900), timeout: SOON / 10 })
}

fn message(n: u32) -> Message {
    let mut facts = facts();
    facts.at = format!("2026-11-21T15:30:{n:02}.123Z");
    Message::of_report(&Report::new(facts))
}

#[test]
fn a_signature_is_the_one_of_the_reference_implementation() {
    // Made by the Python package standardwebhooks, 1.0.
    let body = r#"{"type":"release.rolled_back","data":{"release":"orders-v2 ü"}}"#;
    let signature = signature(&signing_key(&SECRET), "msg_20261121T153012_123Z-orders-v2", 1_795_275_012, body);
    assert_eq!(signature, "v1,BubnoMIQDNFpuPpFl55i7p+Pd7n07YIMoP4s8FOmpOg=");
}

#[test]
fn a_webhook_is_signed_and_tried_again_under_the_same_id() {
    let (url, got) = server(&["503 Busy", "429 Slow\r\nretry-after: 0", "200 OK"]);
    let notifier = quick(vec![target("ops", &url, NotifyFormat::Webhook, true)]);
    notifier.send(message(1));
    for attempt in 0..3 {
        let got = got.recv_timeout(SOON).expect("an attempt");
        assert_eq!(got.head[0], "POST /alerts HTTP/1.1", "attempt {attempt}");
        assert_eq!(got.header("content-type"), Some("application/json"));
        assert_eq!(got.header("webhook-id"), Some("msg_20261121T153001_123Z-orders-v2"), "attempt {attempt}");
        let timestamp: u64 = got.header("webhook-timestamp").unwrap().parse().unwrap();
        assert!(base::clock::wall_ms().abs_diff(timestamp * 1_000) < 60_000);
        let wanted = signature(&signing_key(&SECRET), &message(1).id, timestamp, &got.body);
        assert_eq!(got.header("webhook-signature"), Some(wanted.as_str()));
        let body: Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(body["type"], "release.rolled_back");
        assert_eq!(body["timestamp"], "2026-11-21T15:30:01.123Z");
        assert_eq!(body["data"]["places"][0]["bad"], 412);
        assert_eq!(body["data"]["id"], "20261121T153001.123Z-orders-v2");
    }
    assert!(got.recv_timeout(Duration::from_millis(300)).is_err(), "delivered is delivered");
}

#[test]
fn without_a_secret_there_is_no_signature() {
    let (url, got) = server(&["204 No Content"]);
    quick(vec![target("ops", &url, NotifyFormat::Webhook, false)]).send_and(|| {
        let got = got.recv_timeout(SOON).expect("a message");
        assert!(got.header("webhook-id").is_some() && got.header("webhook-signature").is_none(), "{:?}", got.head);
    });
}

impl Notifier {
    /// Sends a message and lives until the check is done.
    fn send_and(self, check: impl FnOnce()) {
        self.send(message(1));
        check();
    }
}

#[test]
fn alertmanager_gets_an_alert() {
    let (url, got) = server(&["200 OK"]);
    quick(vec![target("ops", &url, NotifyFormat::Alertmanager, true)]).send_and(|| {
        let got = got.recv_timeout(SOON).expect("an alert");
        assert!(got.header("webhook-id").is_none() && got.header("webhook-signature").is_none());
        let alerts: Value = serde_json::from_str(&got.body).unwrap();
        let labels = json!({"alertname": "TollgateRelease", "release": "orders-v2", "kind": "worse",
            "action": "rolled_back", "severity": "warning"});
        assert_eq!(alerts.as_array().map(Vec::len), Some(1));
        assert_eq!(alerts[0]["labels"], labels);
        assert_eq!(alerts[0]["startsAt"], "2026-11-21T15:30:09.000Z");
        let description = alerts[0]["annotations"]["description"].as_str().unwrap();
        assert!(description.contains("server 127.0.0.1:9002, status 5xx: 412 of 420 failures"), "{description}");
    });
}

#[test]
fn users_who_are_still_harmed_are_critical() {
    let severity = |kind, action| {
        let message = Message::of_report(&Report::new(IncidentFacts { kind, action, ..facts() }));
        message.alert.labels.last().unwrap().1.clone()
    };
    assert_eq!(severity(Kind::Worse, Action::RolledBack), "warning");
    assert_eq!(severity(Kind::Worse, Action::Reported), "critical");
    assert_eq!(severity(Kind::Outside, Action::Reported), "critical");
    assert_eq!(severity(Kind::Untrusted, Action::Held), "warning");
    assert_eq!(severity(Kind::NoEvidence, Action::Held), "info");
}

#[test]
fn a_refusal_and_a_redirect_are_final() {
    static REFUSALS: [&[&str]; 2] =
        [&["400 Bad Request", "200 OK"], &["307 Elsewhere\r\nlocation: /elsewhere", "200 OK"]];
    for answers in REFUSALS {
        let (url, got) = server(answers);
        let notifier = quick(vec![target("ops", &url, NotifyFormat::Webhook, false)]);
        notifier.send(message(1));
        notifier.send(message(2));
        let ids: Vec<String> =
            (0..2).map(|_| got.recv_timeout(SOON).unwrap().header("webhook-id").unwrap().to_owned()).collect();
        assert_eq!(ids, [message(1).id, message(2).id], "{}: not tried again, and the next one goes out", answers[0]);
    }
}

#[test]
fn tries_come_to_an_end_and_retry_after_is_waited_for() {
    let (url, got) = server(&["503 Busy\r\nretry-after: 3600"]);
    let notifier = quick(vec![target("ops", &url, NotifyFormat::Webhook, false)]);
    let start = base::clock::now();
    notifier.send(message(1));
    (0..4).for_each(|_| drop(got.recv_timeout(SOON).expect("a try")));
    let took = base::clock::now().since(start);
    assert!(took >= Duration::from_millis(3 * 900), "each wait is as long as the limit: {took:?}");
    assert!(got.recv_timeout(Duration::from_millis(1_500)).is_err(), "four tries and no more");
}

#[test]
fn a_silent_receiver_delays_neither_another_nor_the_caller() {
    // It accepts connections, up to the backlog, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, got) = server(&["200 OK"]);
    let silent_url = format!("http://{}/", silent.local_addr().unwrap());
    let notifier = quick(vec![
        target("silent", &silent_url, NotifyFormat::Webhook, false),
        target("ops", &url, NotifyFormat::Webhook, false),
    ]);
    let start = base::clock::now();
    // More than a queue holds: the excess is dropped.
    (0..50).for_each(|n| notifier.send(message(n)));
    assert!(base::clock::now().since(start) < Duration::from_millis(500), "the caller waited");
    for n in 0..50 {
        let got = got.recv_timeout(SOON).expect("a message");
        assert_eq!(got.header("webhook-id"), Some(message(n).id.as_str()), "in order");
    }
    assert!(base::clock::now().since(start) < SOON, "the other one waited");
}

#[test]
fn a_full_queue_drops_the_newest() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let notifier = quick(vec![target("silent", &url, NotifyFormat::Webhook, false)]);
    (0..1_000).for_each(|n| notifier.send(message(n % 60)));
    let receivers = notifier.receivers.lock();
    let queue = &receivers.targets[0].queue;
    // One may be under way.
    assert!((queue.max_capacity(), queue.capacity()) <= (64, 1), "{queue:?}");
}

#[test]
fn a_reload_keeps_what_is_the_same_and_ends_what_is_gone() {
    let (old_url, old) = server(&["503 Busy"]);
    let (new_url, new) = server(&["200 OK"]);
    let (kept_url, kept) = server(&["503 Busy", "200 OK"]);
    let format = NotifyFormat::Webhook;
    let first = |name, url: &str| target(name, url, format, true);
    let notifier = quick(vec![first("ops", &old_url), first("kept", &kept_url)]);
    notifier.send(message(1));
    drop((old.recv_timeout(SOON).unwrap(), kept.recv_timeout(SOON).unwrap()));
    let mut moved = first("kept", &kept_url);
    moved.place = Place { file: "b.toml".into(), line: 7, column: 1, text: "".into() };
    notifier.targets(vec![moved, first("ops", &new_url)]);
    let again = kept.recv_timeout(SOON).expect("the one that stays goes on with its tries");
    assert_eq!(again.header("webhook-id"), Some(message(1).id.as_str()));
    while old.recv_timeout(Duration::from_millis(300)).is_ok() {}
    notifier.send(message(2));
    assert_eq!(new.recv_timeout(SOON).unwrap().header("webhook-id"), Some(message(2).id.as_str()), "not the first one");
    assert!(old.recv_timeout(Duration::from_millis(300)).is_err(), "the one that is gone gets no more");
}

#[test]
fn https_is_spoken_and_a_peer_that_does_not_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let notifier = quick(vec![target("ops", &url, NotifyFormat::Webhook, false)]);
    notifier.send(message(1));
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().unwrap();
        let mut first = [0; 3];
        stream.read_exact(&mut first).unwrap();
        assert_eq!(first[..2], [0x16, 0x03], "a TLS handshake");
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
    }
}

#[test]
fn an_alarm_of_the_ledger_has_labels_and_an_id_without_a_full_stop() {
    let at = "2026-11-21T15:30:12.123Z";
    let message = Message::of_alarm("store_failed", "critical", "it failed", at, at);
    assert_eq!(message.event, "ledger.store_failed");
    assert_eq!(message.alert.labels[0], ("alertname", "TollgateLedger".to_owned()));
    assert_eq!(message.alert.labels[1], ("kind", "store_failed".to_owned()));
    assert!(!message.id.contains('.'), "{}", message.id);
}
