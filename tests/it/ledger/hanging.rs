//! Merchants that hang, are frozen, or cannot be marked: the others hear as fast as ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::client::{Request, post};
use crate::support::disk::{Count, Switch};
use crate::support::ledger::{Ledger, Process};
use crate::support::nginx::Nginx;
use crate::support::origin::{Act, Origin};
use crate::support::providers::{hex, keys, mac};
use crate::support::wait::{stays, within};
use crate::support::{Connection, eventually};

/// A merchant at `url`, with a channel of its own and of the same name.
fn with_merchant(ledger: &mut Ledger, name: &str, url: &str) {
    ledger.more += &format!(
        r#"
        [ledger.merchant.{name}]
        url = {url:?}
        secret_file = "secrets/shop.whsec"
        allow_private = true
        [ledger.channel.{name}]
        provider = "hmac"
        merchant = {name:?}
        secret_files = ["secrets/generic.key"]
        header = "x-signature"
        "#
    );
}

/// The n-th payment of a channel.
fn payment(channel: &str, n: usize) -> Request {
    let body = json!({"id": format!("{channel}-{n}"), "out_trade_no": format!("{channel}-{n}"), "kind": "payment",
        "amount_minor": 100, "currency": "CNY"})
    .to_string();
    let signature = hex(&mac(keys().generic.as_bytes(), body.as_bytes()));
    post(&format!("/callbacks/{channel}"), body)
        .header("content-type", "application/json")
        .header("x-signature", signature)
}

/// So many payments of each channel are taken.
fn pay(process: &Process, channels: &[String], count: usize) {
    let port = process.port;
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                let mut connection = Connection::to(port).unwrap();
                for n in (part..count).step_by(8) {
                    for channel in channels {
                        let answer = connection.ask(&payment(channel, n)).unwrap();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                    }
                }
            });
        }
    });
}

/// A merchant who takes 50 ms for each event.
fn slow_but_sure() -> (Origin, Arc<AtomicUsize>) {
    let (origin, heard) = (Origin::start("quick"), Arc::new(AtomicUsize::new(0)));
    origin.forget();
    let count = heard.clone();
    origin.script(move |_| {
        thread::sleep(Duration::from_millis(50));
        count.fetch_add(1, SeqCst);
        Act::ok()
    });
    (origin, heard)
}

#[test]
fn twenty_merchants_that_hang_do_not_slow_one_that_answers() {
    let mut ledger = Ledger::prepare();
    let silent = Origin::start("silent");
    silent.does(Act::hang());
    let hanging: Vec<String> = (0..20).map(|n| format!("hang{n}")).collect();
    hanging.iter().for_each(|name| with_merchant(&mut ledger, name, &format!("http://{}/", silent.address())));
    let (quick, heard) = slow_but_sure();
    with_merchant(&mut ledger, "quick", &format!("http://{}/", quick.address()));
    let process = ledger.run();
    pay(&process, &hanging, 20);
    eventually("they hang", || (silent.hits() >= 256).then_some(()));
    let begun = Instant::now();
    pay(&process, &["quick".to_owned()], 200);
    // One after the other they take ten seconds.
    let all = within(Duration::from_secs(5), || (heard.load(SeqCst) >= 200).then_some(()));
    assert!(all.is_some(), "{} of 200 in {:?}", heard.load(SeqCst), begun.elapsed());
    eventually("all of it is marked", || {
        let events = process.books(&ledger.token).all("/v1/events");
        let quick = events.iter().filter(|event| event["merchant"] == "quick");
        (quick.filter(|event| event["state"] == "delivered").count() == 200).then_some(())
    });
}

#[test]
fn a_frozen_merchant_delays_no_other_and_hears_all_when_it_wakes() {
    let mut ledger = Ledger::prepare();
    let frozen = Nginx::start("taken");
    with_merchant(&mut ledger, "frozen", &format!("http://{}/", frozen.address()));
    let (quick, heard) = slow_but_sure();
    with_merchant(&mut ledger, "quick", &format!("http://{}/", quick.address()));
    let process = ledger.run();
    pay(&process, &["frozen".to_owned()], 1);
    let states = |name: &str, state: &str| {
        let events = process.books(&ledger.token).all("/v1/events");
        events.iter().filter(|event| event["merchant"] == name && event["state"] == state).count()
    };
    eventually("it answers while it can", || (states("frozen", "delivered") == 1).then_some(()));
    frozen.signal(Signal::STOP);
    pay(&process, &["frozen".to_owned(), "quick".to_owned()], 100);
    let all = within(Duration::from_secs(3), || (heard.load(SeqCst) >= 100).then_some(()));
    assert!(all.is_some(), "{} of 100", heard.load(SeqCst));
    assert_eq!(states("frozen", "delivered"), 1);
    frozen.signal(Signal::CONT);
    eventually("it hears all of it", || (states("frozen", "delivered") == 100).then_some(()));
}

#[test]
fn while_marks_cannot_be_written_events_are_sent_once() {
    let mut ledger = Ledger::prepare();
    let (quick, heard) = slow_but_sure();
    with_merchant(&mut ledger, "quick", &format!("http://{}/", quick.address()));
    let process = ledger.run();
    pay(&process, &["quick".to_owned()], 2);
    eventually("all is well", || (heard.load(SeqCst) == 2).then_some(()));
    pay(&process, &["quick".to_owned()], 60);
    ledger.disk.set(Switch::Full, 1);
    eventually("nothing can be written", || (ledger.disk.count(Count::Refused) > 0).then_some(()));
    // Those under way are answered; then no more go out, and none once more, however long it takes.
    thread::sleep(Duration::from_secs(2));
    let sent = heard.load(SeqCst);
    assert!(stays(Duration::from_secs(12), || heard.load(SeqCst) == sent), "{sent}, then {}", heard.load(SeqCst));
    ledger.disk.well();
    eventually("they go on", || {
        let events = process.books(&ledger.token).all("/v1/events");
        events.iter().all(|event| event["state"] == "delivered").then_some(())
    });
    assert_eq!(heard.load(SeqCst), 60, "each once");
}
