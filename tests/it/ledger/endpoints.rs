//! Endpoints of merchants from outside: filters, bounds, secrets, templates, deaths between commit and delivery.

mod bounds;
mod many;
mod templates;

use std::fs;

use serde_json::{Value, json};

use super::orders::{OWN, Scene, id, on_both};
use crate::support::client::{Answer, request};
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::ledger::{Ledger, files};
use crate::support::origin::{Act, Origin, Seen};
use crate::support::signer::{self, is_genuine};
use crate::support::wait::stays;

const QUIET: std::time::Duration = std::time::Duration::from_millis(400);

impl Scene {
    /// A call with a token and without an idempotency key.
    fn call_as(&self, token: &str, method: &str, path: &str, body: &Value) -> Answer {
        let call = request(method, path).with_body(body.to_string());
        self.process.ask(&call.header("authorization", format!("Bearer {token}"))).unwrap()
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call_as(&self.ledger.token, method, path, body)
    }

    /// An endpoint of `shop` at a backend, with further settings.
    #[track_caller]
    fn endpoint(&self, at: &Origin, more: Value) -> Value {
        let mut body = json!({"url": format!("http://{}/hook", at.address())});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.call("POST", "/v1/merchants/shop/endpoints", &body);
        assert_eq!(made.status, 201, "{}", made.text());
        made.json()
    }

    /// Waits until the last event is in this state, and returns it.
    #[track_caller]
    fn event_is(&self, state: &str) -> Value {
        eventually(&format!("the event is {state}"), || {
            let event = self.get("/v1/events?limit=1")["data"][0].clone();
            (event["state"] == state).then_some(event)
        })
    }
}

/// A backend that answers and remembers.
fn receiver(name: &str) -> Origin {
    let origin = Origin::start(name);
    origin.does(Act::body(&format!("{name} took it")));
    origin
}

fn ids(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.header("webhook-id").unwrap().to_owned()).collect()
}

fn verified(seen: &Seen, secret: &Value) -> bool {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = seen.header(name).unwrap().parse().unwrap();
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
    }
    let callback = signer::Callback { headers, body: seen.body.clone().into() };
    is_genuine("standardwebhooks", json!({"version": "v1", "secret": secret}), &callback)
}

#[test]
fn each_endpoint_gets_what_its_filter_takes_under_one_id_and_its_own_signature() {
    on_both(|scene| {
        let (all, refunds) = (receiver("all"), receiver("refunds"));
        let first = scene.endpoint(&all, json!({"headers": {"X-Tenant": "blue"}}));
        let second = scene.endpoint(&refunds, json!({"events": ["refund.*"]}));
        scene.tells("A", None);
        let payment = scene.event_is("delivered");
        scene.tells("A", Some(("R1", 400, 400)));
        let refund = scene.event_is("delivered");
        assert_eq!(ids(&all.seen()), [&payment["id"], &refund["id"]].map(|id| id.as_str().unwrap()));
        assert_eq!(ids(&refunds.seen()), [refund["id"].as_str().unwrap()]);
        assert!(scene.ledger.merchants.heard().contains_key(refund["id"].as_str().unwrap()), "the configuration's");
        assert!(verified(&all.seen()[0], &first["secret"]) && verified(&refunds.seen()[0], &second["secret"]));
        assert!(!verified(&all.seen()[0], &second["secret"]));
        assert_eq!(all.seen()[0].header("x-tenant"), Some("blue"));
        assert_eq!((&payment["attempts"], &refund["attempts"]), (&json!(2), &json!(3)));
        let attempts = scene.get(&format!("/v1/events/{}/attempts", payment["id"].as_str().unwrap()));
        let attempts = attempts["data"].as_array().unwrap().clone();
        assert_eq!(attempts.len(), 2);
        let own = attempts.iter().find(|attempt| attempt["endpoint"] == first["id"]).unwrap();
        assert_eq!((&own["status"], &own["body"]), (&json!(200), &json!("all took it")));
        assert!(own["latency_ms"].as_i64().unwrap() < 5_000 && own["at"].as_str().unwrap().ends_with('Z'));
        let listed = scene.get("/v1/merchants/shop/endpoints");
        let listed: Vec<&Value> = listed["data"].as_array().unwrap().iter().collect();
        assert_eq!(
            listed.iter().map(|it| it["configured"].as_bool().unwrap()).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert_eq!((&listed[0]["id"], &listed[0]["events"]), (&second["id"], &json!(["refund.*"])));
        assert!(attempts.iter().any(|attempt| attempt["endpoint"] == listed[2]["id"]));
        scene.is_whole();
    });
}

#[test]
fn an_endpoint_is_paused_changed_and_deleted_and_only_a_deleted_one_loses_events() {
    on_both(|scene| {
        let (one, other) = (receiver("one"), receiver("other"));
        let endpoint = scene.endpoint(&one, json!({"paused": true}));
        let path = format!("/v1/merchants/shop/endpoints/{}", endpoint["id"].as_str().unwrap());
        scene.tells("A", None);
        assert!(stays(QUIET, || one.hits() == 0), "it is paused");
        assert_eq!(scene.event_is("pending")["last_status"], 200);
        // What waits goes to the new address, with the new secret.
        let secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
        let patch =
            json!({"paused": false, "url": format!("http://{}/new", other.address()), "secret": secret, "rate": 50});
        let changed = scene.call("PATCH", &path, &patch);
        assert_eq!((changed.status, &changed.json()["rate"]), (200, &json!(50)), "{}", changed.text());
        assert_eq!((&changed.json()["paused"], changed.json().get("secret")), (&json!(false), None));
        scene.event_is("delivered");
        assert_eq!((one.hits(), other.hits(), other.last().path.as_str()), (0, 1, "/new"));
        assert!(verified(&other.last(), &json!(secret)));
        assert_eq!(scene.call("PATCH", &path, &json!({"rate": null})).json()["rate"], Value::Null);
        // Deleted with an event on its way.
        other.does(Act::status(500));
        scene.tells("B", None);
        eventually("it was tried", || (other.hits() > 1).then_some(()));
        assert_eq!(scene.call("DELETE", &path, &Value::Null).status, 204);
        scene.event_is("delivered");
        scene.call("DELETE", &path, &Value::Null).is_problem(404, "not_found");
        let hits = eventually("attempts end", || {
            let hits = other.hits();
            stays(QUIET, || other.hits() == hits).then_some(hits)
        });
        scene.tells("C", None);
        scene.event_is("delivered");
        assert_eq!(other.hits(), hits);
        scene.is_whole();
    });
}

#[test]
fn what_was_committed_reaches_every_endpoint_under_one_id_though_the_process_dies() {
    on_both(|scene| {
        let (one, other) = (receiver("one"), receiver("other"));
        [&one, &other].iter().for_each(|origin| origin.does(Act::hang()));
        scene.endpoint(&one, json!({}));
        scene.endpoint(&other, json!({"events": ["payment.posted"]}));
        for trade in ["A", "B", "C"] {
            scene.tells(trade, None);
        }
        scene.process.kill9();
        [&one, &other].iter().for_each(|origin| origin.does(Act::ok()));
        let (before, disk) = ([one.hits(), other.hits()], &scene.ledger.disk);
        scene.process.run(disk);
        eventually("all are delivered", || {
            let events = scene.get("/v1/events?state=delivered");
            (events["data"].as_array().unwrap().len() == 3).then_some(())
        });
        for (origin, before) in [(&one, before[0]), (&other, before[1])] {
            let mut heard = ids(&origin.seen()[before..]);
            heard.sort();
            heard.dedup();
            let mut events: Vec<Value> = scene.get("/v1/events")["data"].as_array().unwrap().clone();
            events.sort_by_key(|event| event["id"].to_string());
            assert_eq!(heard, events.iter().map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>());
        }
        scene.is_whole();
    });
}

#[test]
fn events_are_sent_again_by_time_state_kind_and_endpoint() {
    on_both(|scene| {
        let one = receiver("one");
        let endpoint = scene.endpoint(&one, json!({"events": ["payment.*", "refund.*"]}));
        for trade in ["A", "B", "C"] {
            scene.tells(trade, None);
        }
        scene.tells("A", Some(("R1", 100, 100)));
        scene.event_is("delivered");
        eventually("all came", || (one.hits() == 4).then_some(()));
        let first = ids(&one.seen());
        let told = |scene: &Scene| scene.ledger.merchants.heard().values().map(|heard| heard.times).sum::<usize>();
        assert_eq!(told(scene), 4);
        let again = |more: Value| {
            let mut body = json!({"merchant": "shop", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let answer = scene.call("POST", "/v1/events/redeliver", &body);
            assert_eq!(answer.status, 202, "{}", answer.text());
            answer.json()["count"].as_i64().unwrap()
        };
        assert_eq!(again(json!({"endpoint": endpoint["id"]})), 4);
        eventually("the endpoint hears again", || (one.hits() == 8).then_some(()));
        let mut twice = ids(&one.seen()[4..]);
        let mut once = first.clone();
        twice.sort();
        once.sort();
        assert_eq!((twice, told(scene)), (once, 4));
        // What is under way while it is put back is not sent twice: its answers are marked first.
        let pending = || scene.get("/v1/events?state=pending")["data"].as_array().unwrap().len();
        eventually("the answers are marked", || (pending() == 0).then_some(()));
        assert_eq!(again(json!({"kind": "refund"})), 1);
        eventually("both hear of the refund", || (one.hits() == 9 && told(scene) == 5).then_some(()));
        assert_eq!(one.last().header("webhook-id"), first.last().map(String::as_str));
        eventually("all are delivered", || (again(json!({"state": "pending"})) == 0).then_some(()));
        assert_eq!(again(json!({"state": "dead"})), 0);
        let middle = scene.get("/v1/events")["data"][1]["created_at"].clone();
        assert_eq!(again(json!({"to": middle})), 2);
        assert_eq!(again(json!({"from": middle})), 2);
        let bad = |body: Value| scene.call("POST", "/v1/events/redeliver", &body);
        bad(json!({"merchant": "nobody", "from": middle, "to": middle})).is_problem(404, "not_found");
        bad(json!({"merchant": "shop", "from": middle, "to": middle})).is_problem(422, "unprocessable");
        bad(json!({"merchant": "shop"})).is_problem(400, "bad_body");
        scene.is_whole();
    });
}

#[test]
fn secrets_and_headers_stand_nowhere_in_clear() {
    let (mut ledger, mark) = (Ledger::prepare(), "TOKEN-OF-A-RECEIVER-7c1f");
    let process = ledger.run();
    let scene = Scene { ledger, process };
    let origin = receiver("one");
    origin.does(Act::body("THE-PAYER-IS-ZHANG-SAN-7c1f"));
    let made = scene.endpoint(&origin, json!({"headers": {"authorization": format!("Bearer {mark}")}}));
    let secret = made["secret"].as_str().unwrap().to_owned();
    scene.tells("A", None);
    let event = scene.event_is("delivered");
    assert_eq!(origin.last().header("authorization"), Some(&*format!("Bearer {mark}")));
    let listed = scene.get("/v1/merchants/shop/endpoints").to_string();
    assert!(!listed.contains(mark) && !listed.contains(&secret) && listed.contains("authorization"));
    let attempts = scene.get(&format!("/v1/events/{}/attempts", event["id"].as_str().unwrap()));
    assert!(attempts.to_string().contains("ZHANG-SAN"), "{attempts}");
    let bare = secret.trim_start_matches("whsec_").to_owned();
    for file in files(&scene.ledger.path("state")) {
        let content = fs::read(&file).unwrap();
        for hidden in [mark, &bare, "ZHANG-SAN", "/hook"] {
            let found = content.windows(hidden.len()).any(|window| window == hidden.as_bytes());
            assert!(!found, "{hidden} stands in {}", file.display());
        }
    }
    assert!(!scene.process.messages().contains(mark) && !scene.process.messages().contains(&bare));
}

#[test]
fn a_merchants_token_has_its_own_endpoints_and_no_private_ones_without_leave() {
    let mut ledger = Ledger::prepare();
    fs::write(ledger.path("secrets/own.token"), OWN).unwrap();
    ledger.more = "[ledger.merchant.own]\nurl = \"https://own.example/\"\nsecret_file = \"secrets/shop.whsec\"\n\
                   token_file = \"secrets/own.token\"\n"
        .to_owned();
    let process = ledger.run();
    let scene = Scene { ledger, process };
    let call = |method: &str, path: &str, body: Value| scene.call_as(OWN, method, path, &body);
    let own = "/v1/merchants/own/endpoints";
    for private in ["http://127.0.0.1:9/", "http://[::1]/", "http://10.0.0.1/", "http://169.254.169.254/latest"] {
        call("POST", own, json!({"url": private})).is_problem(422, "unprocessable");
    }
    let made = call("POST", own, json!({"url": "https://hooks.own.example/a?token=1"}));
    assert_eq!(made.status, 201, "{}", made.text());
    for (method, foreign) in [("GET", "shop"), ("POST", "shop"), ("GET", "nobody"), ("POST", "nobody")] {
        let body = json!({"url": "https://a.example/"});
        call(method, &format!("/v1/merchants/{foreign}/endpoints"), body).is_problem(404, "not_found");
    }
    let path = format!("{own}/{}", id(&made));
    call("PATCH", &path, json!({"url": "http://localhost/"})).is_problem(422, "unprocessable");
    let foreign = format!("/v1/merchants/shop/endpoints/{}", id(&made));
    scene.call("PATCH", &foreign, &json!({"paused": true})).is_problem(404, "not_found");
    scene.call("DELETE", &foreign, &Value::Null).is_problem(404, "not_found");
    let span = json!({"merchant": "shop", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z"});
    call("POST", "/v1/events/redeliver", span).is_problem(404, "not_found");
    let configured = call("GET", own, Value::Null).json()["data"][1].clone();
    let configured = format!("{own}/{}", configured["id"].as_str().unwrap());
    call("PATCH", &configured, json!({"rate": 1})).is_problem(409, "configured_endpoint");
    call("DELETE", &configured, Value::Null).is_problem(409, "configured_endpoint");
    for wrong in [
        json!({"events": ["payment"]}),
        json!({"rate": 0}),
        json!({"concurrency": 65}),
        json!({"secret": "x"}),
        json!({"headers": {"webhook-id": "1"}}),
        json!({"headers": {"host": "a"}}),
        json!({"template": "{"}),
    ] {
        call("PATCH", &path, wrong).is_problem(422, "unprocessable");
    }
    call("PATCH", &path, json!({"nothing": 1})).is_problem(400, "bad_body");
    assert_eq!(call("DELETE", &path, Value::Null).status, 204);
}

#[test]
fn an_endpoint_that_failed_for_a_day_is_reported_and_one_that_is_gone_is_paused() {
    let mut ledger = Ledger::prepare();
    let clock = Clock::within(&ledger.path(""));
    let process = ledger.run_by(&clock);
    let scene = Scene { ledger, process };
    let (failing, gone) = (receiver("failing"), receiver("gone"));
    failing.does(Act::status(500));
    gone.does(Act::status(410));
    let endpoint = scene.endpoint(&failing, json!({}));
    scene.endpoint(&gone, json!({}));
    scene.tells("A", None);
    let paused = eventually("both are noted", || {
        let listed = scene.get("/v1/merchants/shop/endpoints")["data"].clone();
        (listed[0]["paused"] == true && listed[1]["failing_since"].is_string()).then_some(listed)
    });
    assert_eq!(paused[1]["paused"], false);
    let hits = gone.hits();
    assert!(stays(QUIET, || gone.hits() == hits) && !scene.process.messages().contains("endpoint_failing"));
    clock.ahead(25 * 3_600);
    let alarm = format!("alarm endpoint_failing: endpoint {}", endpoint["id"].as_str().unwrap());
    eventually("the alarm", || scene.process.messages().contains(&alarm).then_some(()));
    failing.does(Act::ok());
    eventually("it works again", || {
        let listed = scene.get("/v1/merchants/shop/endpoints")["data"].clone();
        listed[1]["failing_since"].is_null().then_some(())
    });
}
