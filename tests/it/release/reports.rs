//! What a release tells when something happened to it: where it is, on which paper, and to whom it is sent.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::support::disk::{Disk, Switch};
use crate::support::origin::Seen;

fn healthy() -> (Origin, Origin) {
    let both = (Origin::start("stable"), Origin::start("canary"));
    both.0.forget();
    both.1.forget();
    both
}

/// The newest report, once there is one.
#[track_caller]
fn report(world: &World) -> Value {
    let newest = || world.admin(get("/api/v1/reports")).json().get(0).cloned();
    within(LONG, newest).unwrap_or_else(|| panic!("there is no report: {}", world.messages()))
}

/// Has a crowd meet the canary as it is until it is taken back.
#[track_caller]
fn until_taken_back(world: &World) {
    let crowd = Users::new(500, 800);
    crowd.while_(world, || becomes(world, "rolled_back"));
    crowd.noticed_nothing();
}

/// Value of a part of the likeliest place.
fn part<'v>(report: &'v Value, dimension: &str) -> Option<&'v str> {
    let parts = report["places"][0]["parts"].as_array()?;
    parts.iter().find(|part| part["dimension"] == dimension)?["value"].as_str()
}

#[test]
fn the_report_names_the_one_server_that_is_bad() {
    let (stable, good) = healthy();
    let bad = Origin::start("bad");
    bad.does(Act::status(503));
    // A bad server that is taken out at once would leave nothing to judge.
    let world = gray(&[stable.address()], &[good.address(), bad.address()])
        .steps(&[(20.0, "1h")])
        .table("[upstream.canary.outlier]\nconsecutive_failures = 0")
        .start();
    until_taken_back(&world);
    let report = report(&world);
    assert_eq!(part(&report, "server"), Some(&*bad.address()), "{report:#}");
    let said = report["places"][0]["text"].as_str().unwrap();
    assert!(said.contains(&bad.address()) && !report["places"].to_string().contains(&good.address()), "{said}");
    assert!(report["next"].as_str().unwrap().contains(&bad.address()), "{report:#}");
}

#[test]
fn a_report_is_there_as_soon_as_its_release_says_so() {
    let (stable, canary) = healthy();
    canary.does(Act::status(503));
    let mut world = World::prepare();
    let disk = Disk::under(&world.path(""));
    world.layered(&disk);
    world.boot(&between(&stable, &canary).steps(&[(20.0, "1h")]).text());
    disk.set(Switch::Slow, 500);
    let crowd = Users::new(500, 800);
    let view = crowd.while_(&world, || becomes(&world, "rolled_back"));
    let named = view["report"].as_str().expect("it names a report");
    let listed = world.admin(get("/api/v1/reports")).json();
    assert_eq!(listed[0]["id"], named, "{listed:#}");
    assert_eq!(world.admin(get(&format!("/api/v1/reports/{named}"))).status, 200);
    disk.set(Switch::Slow, 0);
}

#[test]
fn the_report_names_the_one_route_that_is_bad() {
    let (stable, canary) = healthy();
    canary.script(|seen| if seen.path == "/cart" { Act::status(500) } else { Act::ok() });
    let cart = r#"
    [route.cart]
    paths = ["/cart"]
    upstream = "stable""#;
    let text = between(&stable, &canary).steps(&[(20.0, "1h")]).table(cart).text();
    let world = World::start(&text.replace("routes = [\"shop\"]", "routes = [\"shop\", \"cart\"]"));
    let (shop, cart) = (Users::new(300, 400), Users::new(300, 400).at("/cart"));
    shop.while_(&world, || cart.while_(&world, || becomes(&world, "rolled_back")));
    shop.noticed_nothing();
    cart.noticed_nothing();
    let report = report(&world);
    assert_eq!(part(&report, "route"), Some("cart"), "{report:#}");
    assert_eq!(report["change"]["routes"], serde_json::json!(["shop", "cart"]));
}

#[test]
fn a_report_says_what_happened_and_what_was_done() {
    let (stable, canary) = healthy();
    canary.does(Act::status(500));
    let mut world = between(&stable, &canary).steps(&[(10.0, "1h"), (50.0, "1h")]).start();
    until_taken_back(&world);
    let told = report(&world);
    let id = told["id"].as_str().unwrap().to_owned();
    assert_eq!(view(&world)["report"], *id);
    for (key, expected) in [("release", "v2"), ("kind", "worse"), ("action", "rolled_back")] {
        assert_eq!(told[key], expected, "{told:#}");
    }
    let change = &told["change"];
    assert_eq!((&change["canary"], &change["stable"]), (&"canary".into(), &serde_json::json!(["stable"])));
    assert_eq!((&change["step"], &change["steps"], &change["percent"]), (&1.into(), &2.into(), &10.0.into()));
    assert_eq!(change["hash"], "xxh3");
    let salt = change["salt"].as_str().unwrap();
    assert!(salt.starts_with("v2\0") && salt.len() == 19, "{salt:?}");
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    assert_eq!(number(&told["threshold"]), 1000.0);
    assert!(number(&told["evidence"]["errors"]) >= 1000.0, "{told:#}");
    assert!((1.0..=60.0).contains(&number(&told["users_harmed"])), "{told:#}");
    assert!(number(&told["rescued"]) > 0.0 && number(&told["not_rescued"]) == 0.0, "{told:#}");
    assert_eq!(told["arms"]["canary"]["errors"], told["arms"]["canary"]["requests"]);
    assert!(!told["trajectory"].as_array().unwrap().is_empty());
    let (since, at) = (told["since"].as_str().unwrap(), told["at"].as_str().unwrap());
    assert!(change["started_at"].as_str().unwrap() <= since && since <= at, "{told:#}");
    assert!(told["verdict"].as_str().unwrap().contains("canary is worse than stable"), "{told:#}");
    // The same by its id, as a page, and on the disk.
    let by_id = get(&format!("/api/v1/reports/{id}"));
    assert_eq!(world.admin(by_id.clone()).json(), told);
    let page = world.admin(by_id.clone().header("accept", "text/markdown"));
    assert!(page.header("content-type").is_some_and(|kind| kind.starts_with("text/markdown")), "{:?}", page.headers);
    assert!(page.text().contains(&id) && page.text().contains("canary is worse than stable"), "{}", page.text());
    let on_disk = |ending: &str| {
        eventually("the report on the disk", || {
            fs::read_to_string(world.path(&format!("state/reports/{id}.{ending}"))).ok()
        })
    };
    assert_eq!(serde_json::from_str::<Value>(&on_disk("json")).unwrap(), told);
    assert_eq!(on_disk("md"), page.text());
    world.stop();
    assert!(world.run());
    assert_eq!(world.admin(by_id).json(), told, "it survives a restart");
    // The newest comes first.
    order(&world, "resume");
    until_taken_back(&world);
    let both = eventually("a second report", || {
        let list = world.admin(get("/api/v1/reports")).json();
        (list.as_array().map(Vec::len) == Some(2)).then_some(list)
    });
    assert_eq!(both[1]["id"], *id);
    assert!(both[0]["at"].as_str() > both[1]["at"].as_str());
}

#[test]
fn an_outside_cause_is_named_in_its_report() {
    let (stable, canary) = healthy();
    let world = long_after_its_step(&between(&stable, &canary).steps(&[(20.0, "1h")]));
    let crowd = Users::new(400, 800);
    crowd.while_(&world, || {
        (0..3).for_each(|_| crowd.goes_round());
        stable.does(Act::status(503));
        canary.does(Act::status(503));
        let told = report(&world);
        assert_eq!((&told["kind"], &told["action"]), (&"outside".into(), &"reported".into()), "{told:#}");
        let outside = &told["outside"];
        assert_eq!(
            (&outside["upstream"], &outside["route"], &outside["status"]),
            (&"stable".into(), &"shop".into(), &"503".into())
        );
        assert!(
            outside["stable_share"].as_f64() > Some(0.1) && outside["canary_share"].as_f64() > Some(0.1),
            "{outside}"
        );
    });
    assert_eq!(stands(&world), ("running".into(), 1, 20.0));
}

#[test]
fn a_step_without_evidence_has_a_report() {
    let (stable, canary) = healthy();
    let wait = "[release.v2.judge]\nmax_wait = \"100ms\"";
    let world = between(&stable, &canary).steps(&[(10.0, "0s"), (100.0, "1h")]).table(wait).start();
    let told = report(&world);
    assert_eq!((&told["kind"], &told["action"]), (&"no_evidence".into(), &"held".into()), "{told:#}");
    assert_eq!(view(&world)["report"], told["id"]);
}

#[test]
fn a_report_that_is_not_there_is_said() {
    let (stable, canary) = healthy();
    let world = between(&stable, &canary).start();
    assert_eq!(world.admin(get("/api/v1/reports")).text(), "[]");
    for id in ["x", "20260101T000000.000Z-v2", "..%2Freleases", "..%2F..%2Ftollgate", "%00"] {
        let answer = world.admin(get(&format!("/api/v1/reports/{id}")));
        assert_eq!(answer.status, 404, "{id}: {}", answer.text());
        assert_eq!(answer.json()["type"], "urn:tollgate:problem:no_report", "{id}");
    }
}

/// A receiver, and a release that tells it, in this format, with this secret.
fn told(format: &str, secret: Option<&[u8]>) -> (Origin, Origin, Origin, World) {
    let ((stable, canary), receiver) = (healthy(), Origin::start("receiver"));
    canary.does(Act::status(500));
    let mut world = World::prepare();
    let signed = secret.map_or_else(String::new, |secret| {
        world.write_as("notify.whsec", format!("whsec_{}\n", STANDARD.encode(secret)).as_bytes());
        "secret_file = \"notify.whsec\"\n".to_owned()
    });
    let notify = format!(
        r#"
        [notify.ops]
        url = "http://{}/alerts?token=t0ken"
        format = {format:?}
        {signed}"#,
        receiver.address()
    );
    world.boot(&between(&stable, &canary).table(&notify).text());
    (stable, canary, receiver, world)
}

/// The first message that a receiver got.
#[track_caller]
fn received(receiver: &Origin) -> Seen {
    eventually("a message", || (receiver.hits() > 0).then_some(()));
    eventually("the whole message", || Some(receiver.last()))
}

#[test]
fn a_webhook_gets_the_report_and_can_tell_that_it_is_ours() {
    let secret = b"0123456789abcdef0123456789abcdef";
    let (_stable, _canary, receiver, world) = told("webhook", Some(secret));
    until_taken_back(&world);
    let message = received(&receiver);
    assert_eq!((message.method.as_str(), message.path.as_str()), ("POST", "/alerts?token=t0ken"));
    assert_eq!(message.header("content-type"), Some("application/json"));
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!((&body["type"], &body["data"]["id"]), (&"release.rolled_back".into(), &view(&world)["report"]));
    assert_eq!(body["data"], report(&world));
    let header = |name: &str| message.header(name).unwrap_or_else(|| panic!("no {name}")).to_owned();
    let signed =
        format!("{}.{}.{}", header("webhook-id"), header("webhook-timestamp"), String::from_utf8_lossy(&message.body));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let expected = format!("v1,{}", STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(header("webhook-signature"), expected);
    assert!(!world.messages().contains("t0ken"), "a URL may hold a secret");
    assert_eq!(receiver.hits(), 1, "it is told once");
}

#[test]
fn an_alertmanager_gets_an_alert() {
    let (_stable, _canary, receiver, world) = told("alertmanager", None);
    until_taken_back(&world);
    let body: Value = serde_json::from_slice(&received(&receiver).body).unwrap();
    let labels = &body[0]["labels"];
    assert_eq!((&labels["release"], &labels["action"]), (&"v2".into(), &"rolled_back".into()), "{body:#}");
    assert!(labels["alertname"].is_string() && body[0]["startsAt"].is_string(), "{body:#}");
    assert!(body[0]["annotations"]["summary"].as_str().is_some_and(|text| text.contains("canary")), "{body:#}");
}

#[test]
fn a_receiver_that_fails_is_told_again_and_holds_nothing_up() {
    let (_stable, _canary, receiver, world) = told("webhook", None);
    let ids = std::sync::Arc::new(std::sync::Mutex::new(vec![]));
    let seen = ids.clone();
    receiver.script(move |message| {
        let mut ids = seen.lock().unwrap();
        ids.push(message.header("webhook-id").unwrap_or_default().to_owned());
        assert_eq!(message.header("webhook-signature"), None, "there is no secret");
        if ids.len() == 1 { Act::status(503) } else { Act::ok() }
    });
    until_taken_back(&world);
    eventually("another try", || (receiver.hits() == 2).then_some(()));
    let ids = ids.lock().unwrap();
    assert!(ids[0] == ids[1] && !ids[0].is_empty(), "a repetition can be told by its id: {ids:?}");
}
