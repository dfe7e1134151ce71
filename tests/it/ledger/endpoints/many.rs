//! Thousands of endpoints of which some hang or fail, and the redelivery of a hundred thousand events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;

use super::{Scene, receiver};
use crate::support::client::Connection;
use crate::support::ledger::Ledger;
use crate::support::origin::{Act, Seen};
use crate::support::providers::Callback;
use crate::support::wait::within;

/// What a path has heard: each id with when it came first and how often.
type Heard = Arc<Mutex<HashMap<(String, String), (Instant, usize)>>>;

fn scene() -> Scene {
    let mut ledger = Ledger::prepare();
    let process = ledger.run();
    Scene { ledger, process }
}

fn hear(heard: &Heard, seen: &Seen) {
    let id = seen.header("webhook-id").unwrap_or_default().to_owned();
    heard.lock().entry((seen.path.clone(), id)).or_insert((Instant::now(), 0)).1 += 1;
}

#[test]
#[ignore = "minutes"]
fn of_two_thousand_endpoints_a_tenth_that_hangs_or_fails_slows_no_other() {
    let scene = scene();
    let (origin, heard) = (receiver("many"), Heard::default());
    origin.forget();
    let hears = heard.clone();
    origin.script(move |seen| {
        let number: usize = seen.path.trim_start_matches("/hook/").parse().unwrap();
        match number {
            0..100 => Act::hang(),
            100..200 => Act::status(500),
            _ => {
                hear(&hears, seen);
                Act::ok()
            }
        }
    });
    for n in 0..2_000 {
        let body = json!({"url": format!("http://{}/hook/{n}", origin.address())});
        let made = scene.call("POST", "/v1/merchants/shop/endpoints", &body);
        assert_eq!(made.status, 201, "{}", made.text());
    }
    // Each event goes to all of them. The backend keeps its connections, so there are few events.
    let mut late = vec![];
    for n in 0..4 {
        let begun = Instant::now();
        scene.tells(&format!("T-{n}"), None);
        let id = scene.get("/v1/events?limit=1")["data"][0]["id"].as_str().unwrap().to_owned();
        let all = within(Duration::from_secs(30), || {
            let heard = heard.lock();
            let times = heard.iter().filter(|((_, of), _)| *of == id).map(|(_, (at, _))| *at);
            let times: Vec<Instant> = times.collect();
            (times.len() == 1_800).then_some(times)
        });
        late.extend(all.expect("the healthy ones hear").into_iter().map(|at| at - begun));
        std::thread::sleep(Duration::from_secs(1));
    }
    late.sort();
    let p99 = late[late.len() * 99 / 100];
    println!("healthy endpoints: p50 {:?}, p99 {p99:?}, max {:?}", late[late.len() / 2], late[late.len() - 1]);
    assert!(p99 < Duration::from_secs(1), "{p99:?}");
}

#[test]
#[ignore = "minutes"]
fn a_hundred_thousand_events_are_sent_again_under_their_ids_at_the_rate() {
    let scene = scene();
    let (origin, heard) = (receiver("again"), Heard::default());
    origin.forget();
    let hears = heard.clone();
    origin.script(move |seen| {
        hear(&hears, seen);
        Act::ok()
    });
    let endpoint = scene.endpoint(&origin, json!({}));
    let (each, threads) = (12_500, 8);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let port = scene.process.port;
            scope.spawn(move || {
                let mut connection = Connection::to(port).unwrap();
                for n in 0..each {
                    let told = connection.ask(&Callback::generic(&format!("{thread}-{n}")).request()).unwrap();
                    assert_eq!(told.status, 200);
                }
            });
        }
    });
    let count = each * threads;
    let all = |times: usize| move |heard: &Heard| heard.lock().values().filter(|(_, heard)| *heard >= times).count();
    let first = within(Duration::from_secs(600), || (all(1)(&heard) == count).then_some(()));
    assert!(first.is_some(), "{} of {count} came", all(1)(&heard));
    let rate = 5_000;
    let path = format!("/v1/merchants/shop/endpoints/{}", endpoint["id"].as_str().unwrap());
    assert_eq!(scene.call("PATCH", &path, &json!({"rate": rate})).status, 200);
    let begun = Instant::now();
    let span = json!({"merchant": "shop", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "endpoint": endpoint["id"], "state": "delivered"});
    let answer = scene.call("POST", "/v1/events/redeliver", &span);
    println!("put back {} after {:?}", answer.text(), begun.elapsed());
    assert_eq!(answer.json()["count"].as_u64().unwrap() as usize, count);
    let again = within(Duration::from_secs(600), || (all(2)(&heard) == count).then_some(()));
    println!("all came again after {:?}", begun.elapsed());
    assert!(again.is_some(), "{} of {count} came again", all(2)(&heard));
    assert_eq!(heard.lock().len(), count, "one id each");
    assert!(begun.elapsed().as_secs_f64() > count as f64 / (f64::from(rate) * 1.1) - 1.0, "faster than the rate");
}
