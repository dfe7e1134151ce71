//! One endpoint's slowness, rate and bound of attempts under way, measured at the receivers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use super::{Scene, receiver};
use crate::support::eventually;
use crate::support::ledger::Ledger;
use crate::support::origin::Act;

fn scene() -> Scene {
    let mut ledger = Ledger::prepare();
    let process = ledger.run();
    Scene { ledger, process }
}

#[test]
fn an_endpoint_that_hangs_and_one_that_fails_slow_no_other() {
    let scene = scene();
    let (hangs, fails, fast) = (receiver("hangs"), receiver("fails"), receiver("fast"));
    hangs.does(Act::hang());
    fails.does(Act::status(500));
    for origin in [&hangs, &fails, &fast] {
        scene.endpoint(origin, json!({}));
    }
    for n in 1..=60 {
        let told = Instant::now();
        scene.tells(&format!("T-{n}"), None);
        eventually("the fast one hears", || (fast.hits() == n).then_some(()));
        assert!(told.elapsed() < Duration::from_secs(1), "{:?} for event {n}", told.elapsed());
    }
    assert!(hangs.hits() >= 1 && fails.hits() >= 1);
}

#[test]
fn a_rate_is_held_at_the_receiver() {
    let scene = scene();
    let (slow, times) = (receiver("slow"), Arc::new(Mutex::new(vec![])));
    let seen = times.clone();
    slow.script(move |_| {
        seen.lock().push(Instant::now());
        Act::ok()
    });
    scene.endpoint(&slow, json!({"rate": 20}));
    for n in 0..60 {
        scene.tells(&format!("T-{n}"), None);
    }
    eventually("all came", || (times.lock().len() == 60).then_some(()));
    let times = times.lock().clone();
    for (at, first) in times.iter().enumerate() {
        let within = times[at..].iter().take_while(|time| **time - *first < Duration::from_secs(1)).count();
        // The rate, a tenth, one, and what the network delays.
        assert!(within <= 20 + 2 + 1 + 2, "{within} within a second");
    }
    let took = times[59] - times[0];
    assert!((Duration::from_millis(2_500)..Duration::from_secs(6)).contains(&took), "{took:?}");
}

#[test]
fn no_more_are_under_way_than_an_endpoint_allows() {
    let scene = scene();
    let (slow, under_way, most) = (receiver("slow"), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, high) = (under_way, most.clone());
    slow.script(move |_| {
        high.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(Duration::from_millis(30));
        now.fetch_sub(1, SeqCst);
        Act::ok()
    });
    scene.endpoint(&slow, json!({"concurrency": 2}));
    for n in 0..30 {
        scene.tells(&format!("T-{n}"), None);
    }
    eventually("all came", || (slow.hits() == 30).then_some(()));
    assert_eq!(most.load(SeqCst), 2);
}
