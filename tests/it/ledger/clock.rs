//! A wall clock that is hours ahead, and set back: merchants hear of what comes afterwards at once.

use std::time::Duration;

use crate::support::client::post;
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::ledger::{Ledger, Process};
use crate::support::providers::Callback;
use crate::support::wait::within;

const HOURS: i64 = 6 * 3_600;
/// Far less than any step of the clock.
const AT_ONCE: Duration = Duration::from_secs(5);

#[track_caller]
fn is_told_at_once(ledger: &Ledger, process: &Process, name: &str) {
    let payment = Callback::generic(name);
    let answer = process.ask(&payment.request()).unwrap();
    assert!(payment.channel.is_acknowledged(&answer), "{}", answer.text());
    let heard = || ledger.merchants.heard().values().any(|heard| heard.data["channel_txn_no"] == *payment.payment);
    let told = within(AT_ONCE, || heard().then_some(()));
    assert!(told.is_some(), "nobody heard of {name}: {}", process.books(&ledger.token).get("/v1/events"));
}

#[test]
fn after_a_start_with_a_clock_that_was_ahead_the_next_event_is_sent_at_once() {
    let mut ledger = Ledger::prepare();
    let clock = Clock::within(&ledger.path(""));
    clock.ahead(HOURS);
    let mut process = ledger.run_by(&clock);
    is_told_at_once(&ledger, &process, "ahead");
    process.kill9();
    clock.ahead(0);
    process.run(&ledger.disk);
    is_told_at_once(&ledger, &process, "right");
    let event = eventually("it is marked", || {
        let event = process.books(&ledger.token).get("/v1/events")["data"][0].clone();
        (event["state"] == "delivered").then_some(event)
    });
    let redeliver = format!("/v1/events/{}/redeliver", event["id"].as_str().unwrap());
    let again = process.ask(&post(&redeliver, "").header("authorization", format!("Bearer {}", ledger.token)));
    assert_eq!(again.unwrap().status, 200);
    let twice = within(AT_ONCE, || ledger.merchants.heard().values().any(|heard| heard.times == 2).then_some(()));
    assert!(twice.is_some(), "it was not sent again");
    let said = within(AT_ONCE, || process.messages().contains("alarm clock_ahead").then_some(()));
    assert!(said.is_some(), "nobody is told that the books are ahead: {}", process.messages());
}

#[test]
fn what_was_not_sent_while_the_clock_was_ahead_is_sent_once_it_is_right() {
    let mut ledger = Ledger::prepare();
    let clock = Clock::within(&ledger.path(""));
    clock.ahead(HOURS);
    let mut process = ledger.run_by(&clock);
    // It ends before the merchant hears.
    ledger.merchants.deaf(true);
    let answer = process.ask(&Callback::generic("kept").request()).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    process.kill9();
    clock.ahead(0);
    ledger.merchants.deaf(false);
    process.run(&ledger.disk);
    let heard = within(AT_ONCE, || (!ledger.merchants.heard().is_empty()).then_some(()));
    assert!(heard.is_some(), "{}", process.books(&ledger.token).get("/v1/events"));
}

#[test]
fn events_are_sent_at_once_while_the_clock_is_set_ahead_and_back() {
    let mut ledger = Ledger::prepare();
    let clock = Clock::within(&ledger.path(""));
    let process = ledger.run_by(&clock);
    for (at, ahead) in [0, HOURS, 0, -HOURS, 0].into_iter().enumerate() {
        clock.ahead(ahead);
        for n in 0..3 {
            is_told_at_once(&ledger, &process, &format!("{at}-{n}"));
        }
    }
    assert!(ledger.merchants.wrong().is_empty(), "{:?}", ledger.merchants.wrong());
}
