//! Deliveries from a real table of events to real HTTP servers on loopback.

pub(crate) mod outbox;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use self::outbox::{Table, ledger, merchant};
use super::Delivery;
use crate::journal::CommitError;
use crate::stored_enum::EventState;
use config::model::ledger::{Ledger, Merchant};
use http_client::webhook::{signature, signing_key};

const SOON: Duration = Duration::from_secs(10);

/// A request that a merchant got: head lines, names in lower case, and the body.
#[derive(Debug)]
struct Got {
    head: Vec<String>,
    body: String,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        let found: Vec<&str> =
            self.head.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect();
        assert_eq!(found.len(), 1, "{name} in {:?}", self.head);
        found[0]
    }
}

/// A merchant: `answer` says what to answer to the n-th request, from 0; `None`: nothing at all.
struct Shop {
    url: String,
    got: mpsc::UnboundedReceiver<Got>,
    _runtime: tokio::runtime::Runtime,
}

impl Shop {
    fn open(answer: impl Fn(usize, &Got) -> Option<String> + Send + Sync + 'static) -> Shop {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}/payments?token=secret", listener.local_addr().unwrap());
        let (sender, got) = mpsc::unbounded_channel();
        let (answer, count) = (Arc::new(answer), Arc::new(std::sync::atomic::AtomicUsize::new(0)));
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, answer, count) = (sender.clone(), Arc::clone(&answer), Arc::clone(&count));
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    while let Some(got) = request(&mut stream).await {
                        let at = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        let answer = answer(at, &got);
                        let _ = sender.send(got);
                        match answer {
                            Some(text) => stream.write_all(text.as_bytes()).await.unwrap(),
                            None => tokio::time::sleep(SOON * 10).await,
                        }
                    }
                });
            }
        });
        Shop { url, got, _runtime: runtime }
    }

    fn answering(lines: &'static [&'static str]) -> Shop {
        Shop::open(move |at, _| Some(status(lines[at.min(lines.len() - 1)])))
    }

    fn next(&mut self) -> Got {
        self.within(SOON).expect("a request")
    }

    fn within(&mut self, time: Duration) -> Option<Got> {
        let until = base::clock::now().after(time);
        loop {
            if let Ok(got) = self.got.try_recv() {
                return Some(got);
            }
            if base::clock::now() > until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn status(line: &str) -> String {
    format!("HTTP/1.1 {line}\r\ncontent-length: 2\r\n\r\nok")
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<Got> {
    let mut got = Got { head: vec![], body: String::new() };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            line => got.head.push(match line.split_once(": ") {
                Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
                None => line.to_owned(),
            }),
        }
    }
    let mut body = vec![0; got.header("content-length").parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    got.body = String::from_utf8(body).unwrap();
    Some(got)
}

fn start(table: &Arc<Table>, merchants: Vec<Merchant>, backoff: &[u64], timeout: u64) -> Delivery {
    let mut ledger: Ledger = ledger(merchants);
    ledger.delivery_backoff = backoff.iter().copied().map(Duration::from_millis).collect();
    ledger.delivery_timeout = Duration::from_millis(timeout);
    Delivery::start(Arc::new(ArcSwap::from_pointee(ledger)), Arc::clone(table)).unwrap()
}

fn eventually(what: &str, check: impl Fn() -> bool) {
    let until = base::clock::now().after(SOON);
    while !check() {
        assert!(base::clock::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn an_event_goes_out_byte_for_byte_and_signed_and_is_delivered() {
    let mut shop = Shop::answering(&["202 Accepted"]);
    let table = Table::new();
    let body = r#"{"type":"payment.posted", "data":{"n":"ü"}}"#;
    let event = table.add("shop", None, body);
    let delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 2_000);
    let got = shop.next();
    assert_eq!(got.head[0], "POST /payments?token=secret HTTP/1.1");
    assert_eq!(got.body, body);
    assert_eq!(got.header("content-type"), "application/json");
    assert!(got.header("user-agent").starts_with("Tollgate/"));
    assert_eq!(got.header("webhook-id"), event.id.to_string());
    let timestamp: u64 = got.header("webhook-timestamp").parse().unwrap();
    assert!(base::clock::wall_ms().abs_diff(timestamp * 1_000) < 60_000);
    assert_eq!(
        got.header("webhook-signature"),
        signature(&signing_key(b"0123456789abcdef01234567"), &event.id.to_string(), timestamp, body)
    );
    eventually("delivered", || table.event(1).state == EventState::Delivered);
    let event = table.event(1);
    assert_eq!((event.attempts, event.last_status, event.next_attempt_at), (1, Some(202), None));
    assert!(event.delivered_at.is_some());
    assert!(shop.within(Duration::from_millis(300)).is_none(), "once");
    delivery.stop();
}

#[test]
fn events_of_an_order_come_in_order_and_others_do_not_wait_for_them() {
    let mut shop = Shop::open(|at, got| {
        let fails = got.body.contains("first") && at < 4;
        Some(status(if fails { "500 No" } else { "200 OK" }))
    });
    let table = Table::new();
    let order = Some(uuid::Uuid::from_u128(77));
    table.add("shop", order, "first");
    table.add("shop", order, "second");
    table.add("shop", order, "third");
    table.add("shop", Some(uuid::Uuid::from_u128(78)), "another");
    table.add("shop", None, "free");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[200, 200, 200], 2_000);
    let bodies: Vec<String> = (0..7).map(|_| shop.next().body).collect();
    let of_order: Vec<&str> =
        bodies.iter().map(String::as_str).filter(|body| !["another", "free"].contains(body)).collect();
    assert_eq!(of_order, ["first", "first", "first", "second", "third"]);
    assert!(bodies[..3].contains(&"another".to_owned()) && bodies[..3].contains(&"free".to_owned()), "{bodies:?}");
}

#[test]
fn an_order_goes_on_when_an_event_died() {
    let mut shop = Shop::open(|_, got| Some(status(if got.body == "first" { "400 No" } else { "200 OK" })));
    let table = Table::new();
    let order = Some(uuid::Uuid::from_u128(77));
    table.add("shop", order, "first");
    table.add("shop", order, "second");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[50, 50], 2_000);
    let bodies: Vec<String> = (0..4).map(|_| shop.next().body).collect();
    assert_eq!(bodies, ["first", "first", "first", "second"]);
    eventually("dead", || table.event(1).state == EventState::Dead);
    assert_eq!(table.event(1).attempts, 3);
    let raised = table.raised();
    assert_eq!(raised.len(), 1);
    assert_eq!((raised[0].kind, raised[0].merchant.as_str()), (crate::stored_enum::AnomalyKind::Undelivered, "shop"));
    assert_eq!(raised[0].transaction_id, Some(table.event(1).transaction_id));
    assert!(!raised[0].detail.contains("127.0.0.1") && raised[0].detail.contains("status 400"), "{raised:?}");
}

#[test]
fn retry_after_is_waited_for() {
    let mut shop = Shop::answering(&["503 Busy\r\nretry-after: 1", "200 OK"]);
    let table = Table::new();
    table.add("shop", None, "x");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[10], 2_000);
    shop.next();
    let start = base::clock::now();
    shop.next();
    let took = base::clock::now().since(start);
    assert!(took >= Duration::from_millis(950), "{took:?}");
}

#[test]
fn a_redirect_is_a_failure_and_is_not_followed() {
    let mut elsewhere = Shop::answering(&["200 OK"]);
    let line: &'static str = format!("307 Elsewhere\r\nlocation: {}", elsewhere.url).leak();
    let mut shop = Shop::answering(vec![line].leak());
    let table = Table::new();
    table.add("shop", None, "x");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[10], 2_000);
    shop.next();
    shop.next();
    eventually("dead", || table.event(1).state == EventState::Dead);
    assert_eq!(table.event(1).last_status, Some(307));
    assert!(elsewhere.within(Duration::from_millis(200)).is_none());
}

#[test]
fn a_silent_merchant_times_out_and_delays_no_other() {
    let silent = Shop::open(|_, _| None);
    let mut shop = Shop::answering(&["200 OK"]);
    let table = Table::new();
    for _ in 0..40 {
        table.add("silent", None, "x");
    }
    let merchants = vec![merchant("silent", &silent.url, true), merchant("shop", &shop.url, true)];
    let _delivery = start(&table, merchants, &[60_000], 500);
    for _ in 0..40 {
        let start = base::clock::now();
        table.add("shop", None, "y");
        table.wake();
        shop.next();
        let took = base::clock::now().since(start);
        assert!(took < Duration::from_millis(400), "{took:?}");
    }
    eventually("timed out", || table.event(1).attempts == 1);
    let event = table.event(1);
    assert_eq!((event.state, event.last_status), (EventState::Pending, None));
}

#[test]
fn private_addresses_are_refused_by_name_and_by_number_unless_they_are_allowed() {
    let mut shop = Shop::answering(&["200 OK"]);
    let port = shop.url.split(['/', ':']).nth(4).unwrap().to_owned();
    for host in ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"] {
        let url = format!("http://{host}:{port}/");
        let table = Table::new();
        table.add("shop", None, "x");
        let delivery = start(&table, vec![merchant("shop", &url, false)], &[60_000], 2_000);
        eventually("tried", || table.event(1).attempts == 1);
        assert_eq!((table.event(1).state, table.event(1).last_status), (EventState::Pending, None), "{host}");
        delivery.stop();
    }
    assert!(shop.within(Duration::from_millis(100)).is_none());
    let table = Table::new();
    table.add("shop", None, "x");
    let url = format!("http://localhost:{port}/");
    let _delivery = start(&table, vec![merchant("shop", &url, true)], &[60_000], 2_000);
    shop.next();
    eventually("delivered", || table.event(1).state == EventState::Delivered);
}

#[test]
fn nothing_is_sent_on_standby_and_all_of_it_afterwards() {
    let mut shop = Shop::answering(&["200 OK"]);
    let table = Table::new();
    table.standby(true);
    table.add("shop", None, "x");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 2_000);
    assert!(shop.within(Duration::from_millis(300)).is_none());
    table.standby(false);
    table.wake();
    shop.next();
    eventually("delivered", || table.event(1).state == EventState::Delivered);
}

#[test]
fn a_mark_that_fails_is_tried_again_and_nothing_is_sent_meanwhile() {
    let mut shop = Shop::answering(&["200 OK"]);
    let table = Table::new();
    table.refuse(2, CommitError::Failed);
    table.add("shop", None, "x");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 2_000);
    shop.next();
    eventually("delivered", || table.event(1).state == EventState::Delivered);
    assert!(shop.within(Duration::from_millis(100)).is_none());
}

#[test]
fn a_mark_that_finds_the_queue_full_keeps_no_other_event() {
    let mut shop = Shop::answering(&["200 OK"]);
    let table = Table::new();
    table.refuse(usize::MAX, CommitError::Overloaded);
    table.add("shop", None, "x");
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 2_000);
    shop.next();
    eventually("it was refused", || table.refused());
    table.add("shop", None, "y");
    table.wake();
    shop.next();
    table.refuse(0, CommitError::Failed);
    eventually("delivered", || [1, 2].iter().all(|seq| table.event(*seq).state == EventState::Delivered));
}

#[test]
fn what_is_under_way_at_the_end_is_marked() {
    let mut shop = Shop::open(|_, _| {
        std::thread::sleep(Duration::from_millis(300));
        Some(status("200 OK"))
    });
    let table = Table::new();
    table.add("shop", None, "x");
    let delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 2_000);
    eventually("it is under way", || table.asked() > 1);
    std::thread::sleep(Duration::from_millis(100));
    delivery.stop();
    shop.next();
    assert_eq!(table.event(1).state, EventState::Delivered);
}

#[test]
fn thousands_go_out_in_seconds_over_kept_connections() {
    let mut shop = Shop::answering(&["200 OK"]);
    let table = Table::new();
    for n in 0..4_000 {
        table.add("shop", Some(uuid::Uuid::from_u128(n / 2)), "x");
    }
    let start_at = base::clock::now();
    let _delivery = start(&table, vec![merchant("shop", &shop.url, true)], &[1_000], 5_000);
    for _ in 0..4_000 {
        shop.next();
    }
    let took = base::clock::now().since(start_at);
    println!("4000 events in {took:?}, {} questions", table.asked());
    assert!(took < SOON, "{took:?}");
}

#[test]
fn a_merchant_that_is_down_costs_few_questions() {
    let table = Table::new();
    for n in 0..5_000 {
        table.add("down", Some(uuid::Uuid::from_u128(n / 2)), "x");
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let _delivery = start(&table, vec![merchant("down", &url, true)], &[300_000], 2_000);
    eventually("tried", || (1..=20).all(|seq| table.event(seq * 2 - 1).attempts == 1));
    let before = table.asked();
    std::thread::sleep(Duration::from_secs(2));
    let asked = table.asked() - before;
    assert!(asked < 60, "{asked} questions in two seconds");
}
