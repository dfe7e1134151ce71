//! Orders and refunds whose providers are called: what payers get, what a silent or lying provider changes, and what is
//! found without a callback.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::orders::id;
use crate::support::api::Apis;
use crate::support::client::{Answer, post};
use crate::support::ledger::{Ledger, Process};
use crate::support::postgres::Postgres;
use crate::support::providers::{APP_ID, Callback, Channel, MCHID, Refund, SELLER_ID, SERIAL};
use crate::support::wait::eventually;

/// A channel that is called: its name, its provider, what callbacks about it look like, its currency, and the beginning
/// of its payments' numbers.
type Called = (&'static str, &'static str, Channel, &'static str, &'static str);
const CALLED: [Called; 3] = [
    ("ali", "alipay", Channel::Alipay, "CNY", "pay-"),
    ("wx", "wechatpay", Channel::Wechat, "CNY", "pay-"),
    ("st", "stripe", Channel::Card, "USD", "pi_"),
];

struct Scene {
    apis: Apis,
    ledger: Ledger,
    process: Process,
}

impl Scene {
    fn on(store: &str, query_after: &str) -> Scene {
        let (apis, mut ledger) = (Apis::start(), Ledger::on(store));
        for (name, text) in [
            ("ours.key", &apis.bare),
            ("ours.pem", &apis.pem),
            ("its.pem", &apis.public),
            ("stripe.key", &"sk_test_ours\n".to_owned()),
        ] {
            fs::write(ledger.path("secrets").join(name), text).unwrap();
        }
        let (url, calls) = (format!("http://127.0.0.1:{}", apis.port), format!("query_after = {query_after}\n"));
        ledger.more = format!(
            "[ledger.channel.ali]\nprovider = \"alipay\"\nmerchant = \"shop\"\napp_id = \"{APP_ID}\"\n\
             seller_id = \"{SELLER_ID}\"\npublic_key_files = [\"secrets/alipay.pem\", \"secrets/its.pem\"]\n\
             api_url = \"{url}/gateway.do\"\nprivate_key_file = \"secrets/ours.key\"\n\
             notify_url = \"https://pay.example.com/callbacks/ali\"\n{calls}\
             [ledger.channel.wx]\nprovider = \"wechatpay\"\nmerchant = \"shop\"\nmchid = \"{MCHID}\"\n\
             api_v3_key_file = \"secrets/apiv3.key\"\napi_url = \"{url}\"\n\
             platform_keys = [{{ serial = \"{SERIAL}\", file = \"secrets/wechat.pem\" }}, \
             {{ serial = \"STAND_IN\", file = \"secrets/its.pem\" }}]\n\
             private_key_file = \"secrets/ours.pem\"\nnotify_url = \"https://pay.example.com/callbacks/wx\"\n\
             serial = \"5157F09EFDC096DE15EBE81A47057A72\"\napp_id = \"wx0000000000000001\"\n{calls}\
             [ledger.channel.st]\nprovider = \"stripe\"\nmerchant = \"shop\"\n\
             secret_files = [\"secrets/stripe.whsec\"]\napi_url = \"{url}/\"\napi_key_file = \"secrets/stripe.key\"\n{calls}"
        );
        let process = ledger.run();
        Scene { apis, ledger, process }
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        let request = post(path, body.to_string()).header("authorization", format!("Bearer {}", self.ledger.token));
        self.process.ask(&request.header("idempotency-key", key)).unwrap()
    }

    fn order(&self, (channel, _, _, currency, _): Called, trade: &str) -> Answer {
        let body = json!({"merchant": "shop", "channel": channel, "out_trade_no": trade, "amount_minor": 1_000,
            "currency": currency});
        self.post("/v1/orders", &format!("{channel}-{trade}"), &body)
    }

    fn refund(&self, order: &str, number: &str, amount: i64) -> Answer {
        let body = json!({"out_refund_no": number, "amount_minor": amount});
        self.post(&format!("/v1/orders/{order}/refunds"), number, &body)
    }

    fn get(&self, path: &str) -> Value {
        self.process.books(&self.ledger.token).get(path)
    }

    #[track_caller]
    fn order_becomes(&self, order: &str, state: &str) {
        eventually(state, || (self.get(&format!("/v1/orders/{order}"))["state"] == *state).then_some(()));
    }

    #[track_caller]
    fn refund_becomes(&self, refund: &str, state: &str) {
        eventually(state, || (self.get(&format!("/v1/refunds/{refund}"))["state"] == *state).then_some(()));
    }

    /// The provider's callback about a payment or its only refund.
    #[track_caller]
    fn tells(&self, (channel, _, kind, _, number): Called, trade: &str, refund: Option<Refund>) {
        let (payment, out_trade_no) = (format!("{number}{trade}"), trade.to_owned());
        let callback = Callback { channel: kind, refund, payment, out_trade_no, total: 1_000 };
        let answer = self.process.ask(&callback.request().target(&format!("/callbacks/{channel}"))).unwrap();
        assert!(kind.is_acknowledged(&answer), "{}", answer.text());
    }

    fn outcomes(&self, channel: &str) -> String {
        let text = self.process.ask(&crate::support::get("/metrics")).unwrap().text();
        let of = format!("callbacks_total{{channel=\"{channel}\"");
        text.lines().filter(|line| line.contains(&of)).collect::<Vec<_>>().join("\n")
    }

    fn pending(&self) -> i64 {
        let account = self.get("/v1/accounts/liabilities:merchant:shop");
        let of = account["balances"].as_array().unwrap().iter().map(|it| it["pending_debit_minor"].as_i64().unwrap());
        of.sum()
    }

    #[track_caller]
    fn is_whole(&self) {
        self.apis.all_genuine();
        let said = self.ledger.cli(&["verify"]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
        assert_eq!(self.get("/v1/anomalies")["data"], json!([]));
    }
}

/// The field of `pay`, and its text.
fn pay(provider: &str, trade: &str) -> Value {
    match provider {
        "alipay" => json!({"qr": format!("https://qr.alipay.com/{trade}")}),
        "wechatpay" => json!({"qr": format!("weixin://wxpay/bizpayurl?pr={trade}")}),
        _ => json!({"client_secret": format!("pi_{trade}_secret_x")}),
    }
}

fn on_both(query_after: &str, check: fn(&mut Scene)) {
    check(&mut Scene::on("sqlite:ledger.db", query_after));
    let server = Postgres::start();
    check(&mut Scene::on(&server.url(), query_after));
}

#[test]
fn an_order_is_created_there_found_paid_without_a_callback_and_refunded() {
    on_both("[\"1s\", \"2s\", \"3s\", \"4s\"]", |scene| {
        for called in CALLED {
            let (channel, provider, kind, ..) = called;
            let (paid, unpaid) = (format!("paid-{channel}"), format!("closed-{channel}"));
            let made = scene.order(called, &paid);
            assert_eq!((made.status, &made.json()["pay"]), (201, &pay(provider, &paid)), "{}", made.text());
            let (order, again) = (id(&made), scene.order(called, &paid));
            assert_eq!((again.status, &again.body), (201, &made.body));
            assert_eq!(scene.apis.count(&format!("{provider}.create"), &paid), 1);
            assert_eq!(scene.get(&format!("/v1/orders/{order}"))["pay"], pay(provider, &paid));
            let closed = id(&scene.order(called, &unpaid));
            scene.apis.told(&json!({"paid": paid}));
            scene.apis.told(&json!({"closed": unpaid}));
            scene.order_becomes(&order, "paid");
            scene.order_becomes(&closed, "closed");
            eventually("the merchant's event", || {
                scene.ledger.merchants.heard().values().any(|heard| heard.data["order_id"] == order).then_some(())
            });
            scene.tells(called, &paid, None);
            assert!(scene.outcomes(channel).contains("duplicate"), "{}", scene.outcomes(channel));

            // A refund that is done at once, and one that is found done later.
            let now = scene.refund(&order, &format!("now-{channel}"), 300);
            assert_eq!((now.status, &now.json()["state"]), (201, &json!("succeeded")), "{}", now.text());
            scene.apis.mode(&format!("{provider}.refund"), "processing");
            scene.apis.mode(&format!("{provider}.query_refund"), "processing");
            let number = format!("later-{channel}");
            let later = scene.refund(&order, &number, 700);
            assert_eq!((later.status, &later.json()["state"]), (201, &json!("pending")), "{}", later.text());
            assert_eq!(scene.pending(), 700);
            scene.apis.told(&json!({"refunded": number, "mode": {format!("{provider}.query_refund"): "ok"}}));
            scene.refund_becomes(&id(&later), "succeeded");
            scene.order_becomes(&order, "refunded");
            if kind == Channel::Alipay {
                // Its callback states all refunds so far.
                scene.tells(called, &paid, Some(Refund { number, amount: 700, cumulative: 1_000 }));
            }
            assert_eq!((scene.refund(&order, &format!("now-{channel}"), 300).body, scene.pending()), (now.body, 0));
            scene.apis.mode(&format!("{provider}.refund"), "ok");
        }
        scene.is_whole();
    });
}

#[test]
fn what_a_provider_does_not_say_or_nobody_signed_changes_nothing() {
    let scene = Scene::on("sqlite:ledger.db", "[\"2s\", \"3s\", \"4s\", \"5s\"]");
    for called in CALLED {
        let (channel, provider, ..) = called;
        let create = format!("{provider}.create");
        let unsigned = provider == "stripe";
        for mode in ["down", "garbage", "other", "forged", "old"] {
            let is_seen = match mode {
                "forged" => !unsigned,
                "old" => provider == "wechatpay",
                // Its answer to a creation names nothing but the code.
                "other" => provider != "wechatpay",
                _ => true,
            };
            if !is_seen {
                continue;
            }
            let trade = format!("{mode}-{channel}");
            scene.apis.mode(&create, mode);
            let answer = scene.order(called, &trade);
            answer.is_problem(503, "provider_unavailable");
            assert!(answer.header("retry-after").is_some());
            let listed = scene.get(&format!("/v1/orders?out_trade_no={trade}"))["data"][0].clone();
            assert_eq!((&listed["state"], listed.get("pay")), (&json!("pending"), None), "{listed}");
            scene.apis.mode(&create, "ok");
            let again = scene.order(called, &trade);
            assert_eq!((again.status, &again.json()["pay"]), (201, &pay(provider, &trade)), "{}", again.text());
            assert_eq!(again.json()["id"], listed["id"]);
        }
        // The watch creates it, too, and the caller's next try gets what the watch got.
        let trade = format!("watched-{channel}");
        scene.apis.mode(&create, "down");
        scene.order(called, &trade).is_problem(503, "provider_unavailable");
        scene.apis.mode(&create, "ok");
        let order = scene.get(&format!("/v1/orders?out_trade_no={trade}"))["data"][0]["id"].clone();
        let path = format!("/v1/orders/{}", order.as_str().unwrap());
        eventually("pay", || (scene.get(&path)["pay"] == pay(provider, &trade)).then_some(()));
        assert_eq!(scene.order(called, &trade).json()["pay"], pay(provider, &trade));
        assert_eq!(scene.apis.count(&create, &trade), 2);

        // A query that lies.
        let trade = format!("lied-{channel}");
        let lie = if unsigned { "other" } else { "forged" };
        scene.apis.mode(&format!("{provider}.query"), lie);
        let order = id(&scene.order(called, &trade));
        scene.apis.told(&json!({"paid": trade}));
        eventually("a query", || (scene.apis.count(&format!("{provider}.query"), &trade) > 0).then_some(()));
        assert_eq!(scene.get(&format!("/v1/orders/{order}"))["state"], "pending");
        scene.apis.mode(&format!("{provider}.query"), "ok");
        scene.order_becomes(&order, "paid");
    }
    scene.is_whole();
}

#[test]
fn a_refusal_closes_the_order_and_gives_back_what_a_refund_held() {
    on_both("[\"1s\", \"2s\", \"3s\"]", |scene| {
        for called in CALLED {
            let (channel, provider, ..) = called;
            scene.apis.mode(&format!("{provider}.create"), "refuse");
            let refused = scene.order(called, &format!("no-{channel}"));
            refused.is_problem(422, "provider_refused");
            let again = scene.order(called, &format!("no-{channel}"));
            assert_eq!((again.status, &again.body), (422, &refused.body));
            let listed = scene.get(&format!("/v1/orders?out_trade_no=no-{channel}"))["data"][0].clone();
            assert_eq!(listed["state"], "closed");
            scene.apis.mode(&format!("{provider}.create"), "ok");

            // A callback comes before the answer does: what it tells holds.
            scene.apis.mode(&format!("{provider}.create"), "down");
            let trade = format!("early-{channel}");
            scene.order(called, &trade).is_problem(503, "provider_unavailable");
            scene.tells(called, &trade, None);
            let order = scene.order(called, &trade);
            assert_eq!((order.status, &order.json()["state"]), (201, &json!("paid")), "{}", order.text());

            // A refund that does not come through is asked for again.
            scene.apis.mode(&format!("{provider}.refund"), "down");
            let number = format!("r-{channel}");
            let asked = scene.refund(&id(&order), &number, 400);
            assert_eq!((asked.status, &asked.json()["state"]), (201, &json!("pending")), "{}", asked.text());
            scene.apis.mode(&format!("{provider}.refund"), "ok");
            scene.refund_becomes(&id(&asked), "succeeded");

            scene.apis.mode(&format!("{provider}.refund"), "refuse");
            let refused = scene.refund(&id(&order), &format!("n-{channel}"), 600);
            assert_eq!((refused.status, &refused.json()["state"]), (201, &json!("failed")), "{}", refused.text());
            assert_eq!(scene.pending(), 0);
            scene.apis.mode(&format!("{provider}.refund"), "ok");
            let rest = scene.refund(&id(&order), &format!("m-{channel}"), 600);
            assert_eq!(rest.json()["state"], "succeeded", "{}", rest.text());
        }
        scene.is_whole();
    });
}

#[test]
fn a_process_that_dies_in_a_call_goes_on_where_it_stopped() {
    on_both("[\"1h\"]", |scene| {
        for called in CALLED {
            let (channel, provider, ..) = called;
            let (create, trade) = (format!("{provider}.create"), format!("killed-{channel}"));
            scene.apis.mode(&create, "hang");
            std::thread::scope(|threads| {
                let (process, token) = (&scene.process, &scene.ledger.token);
                let body = json!({"merchant": "shop", "channel": channel, "out_trade_no": trade, "amount_minor": 1_000,
                    "currency": called.3});
                let request = post("/v1/orders", body.to_string()).header("authorization", format!("Bearer {token}"));
                let request = request.header("idempotency-key", format!("{channel}-{trade}"));
                let call = threads.spawn(move || process.ask(&request).map(|answer| answer.status));
                eventually("the call", || (scene.apis.count(&create, &trade) == 1).then_some(()));
                // Meanwhile the same call is told to wait, and another channel is not kept waiting.
                scene.order(called, &trade).is_problem(409, "idempotency_key_running");
                let (other, began) = (CALLED[usize::from(channel == "ali")], Instant::now());
                let free = scene.order(other, &format!("free-{trade}"));
                assert_eq!((free.status, began.elapsed() < Duration::from_secs(5)), (201, true), "{}", free.text());
                scene.process.signal(rustix::process::Signal::KILL);
                assert!(call.join().unwrap().is_err(), "it has died");
            });
            scene.process.ended();
            scene.apis.mode(&create, "ok");
            scene.process.run(&scene.ledger.disk);
            let made = scene.order(called, &trade);
            assert_eq!((made.status, &made.json()["pay"]), (201, &pay(provider, &trade)), "{}", made.text());
            assert_eq!(scene.order(called, &trade).body, made.body);
            assert_eq!(scene.apis.count(&create, &trade), 2);
        }
        scene.is_whole();
    });
}

#[test]
fn a_provider_that_hangs_keeps_its_caller_ten_seconds_at_most() {
    let scene = Scene::on("sqlite:ledger.db", "[\"1h\"]");
    scene.apis.mode("stripe.create", "hang");
    let began = Instant::now();
    scene.order(CALLED[2], "slow").is_problem(503, "provider_unavailable");
    assert!((9..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let yen =
        json!({"merchant": "shop", "channel": "ali", "out_trade_no": "yen", "amount_minor": 1, "currency": "JPY"});
    scene.post("/v1/orders", "yen", &yen).is_problem(422, "unprocessable");
    scene.is_whole();
}
