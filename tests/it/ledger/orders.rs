//! The pay interface from outside: orders and refunds by API, each once for its key, matched with callbacks.

use std::fs;
use std::thread;

use serde_json::{Value, json};

use crate::support::client::{Answer, post};
use crate::support::ledger::{Ledger, Process};
use crate::support::postgres::Postgres;
use crate::support::providers::{Callback, Channel, Refund};

/// The token of the merchant `own`.
pub const OWN: &str = "a-token-of-the-merchants-own-32-chars";

/// A ledger with an order, and the platform's token.
pub struct Scene {
    pub ledger: Ledger,
    pub process: Process,
}

impl Scene {
    fn on(store: &str) -> Scene {
        let mut ledger = Ledger::on(store);
        let process = ledger.run();
        Scene { ledger, process }
    }

    /// With a merchant `own` that has a token.
    pub fn with_own() -> Scene {
        let mut ledger = Ledger::prepare();
        fs::write(ledger.path("secrets/own.token"), OWN).unwrap();
        ledger.more = format!(
            "[ledger.merchant.own]\nurl = \"http://{}/shop\"\nsecret_file = \"secrets/shop.whsec\"\n\
             token_file = \"secrets/own.token\"\nallow_private = true\n",
            ledger.merchants.address()
        );
        let process = ledger.run();
        Scene { ledger, process }
    }

    pub fn post(&self, path: &str, key: &str, body: &Value) -> Answer {
        self.post_as(&self.ledger.token, path, key, body)
    }

    pub fn post_as(&self, token: &str, path: &str, key: &str, body: &Value) -> Answer {
        let request = post(path, body.to_string()).header("authorization", format!("Bearer {token}"));
        self.process.ask(&request.header("idempotency-key", key)).unwrap()
    }

    fn order(&self, key: &str, trade: &str, amount: i64) -> Answer {
        let body = json!({"merchant": "shop", "channel": "alipay", "out_trade_no": trade, "amount_minor": amount,
            "currency": "CNY"});
        self.post("/v1/orders", key, &body)
    }

    fn refund(&self, key: &str, order: &str, number: &str, amount: i64) -> Answer {
        let body = json!({"out_refund_no": number, "amount_minor": amount});
        self.post(&format!("/v1/orders/{order}/refunds"), key, &body)
    }

    #[track_caller]
    pub fn tells(&self, trade: &str, refund: Option<(&str, i64, i64)>) {
        let refund =
            refund.map(|(number, amount, cumulative)| Refund { number: number.to_owned(), amount, cumulative });
        let (payment, out_trade_no) = (format!("pay-{trade}"), trade.to_owned());
        let callback = Callback { channel: Channel::Alipay, refund, payment, out_trade_no, total: 1_000 };
        let answer = self.process.ask(&callback.request()).unwrap();
        assert_eq!(answer.body, b"success", "{}", answer.text());
    }

    pub fn get(&self, path: &str) -> Value {
        self.process.books(&self.ledger.token).get(path)
    }

    fn pending_of_shop(&self) -> Value {
        self.get("/v1/accounts/liabilities:merchant:shop")["balances"][0]["pending_debit_minor"].clone()
    }

    #[track_caller]
    pub fn is_whole(&self) {
        let said = self.ledger.cli(&["verify"]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }
}

pub fn id(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// On each engine.
pub fn on_both(check: fn(&mut Scene)) {
    check(&mut Scene::on("sqlite:ledger.db"));
    let server = Postgres::start();
    check(&mut Scene::on(&server.url()));
}

#[test]
fn an_order_is_created_paid_refunded_and_stays_answered() {
    on_both(|scene| {
        let made = scene.order("k1", "A", 1_000);
        assert_eq!(made.status, 201, "{}", made.text());
        let order = id(&made);
        let shown = json!({"merchant": "shop", "channel": "alipay", "out_trade_no": "A", "amount_minor": 1_000,
            "currency": "CNY", "source": "api", "state": "pending", "paid_minor": 0, "refunded_minor": 0,
            "refund_pending_minor": 0, "paid_at": null});
        shown.as_object().unwrap().iter().for_each(|(name, value)| assert_eq!(&made.json()[name], value, "{name}"));
        scene.tells("A", None);
        assert_eq!(scene.get(&format!("/v1/orders/{order}"))["state"], "paid");

        let asked = scene.refund("\"k2\"", &order, "R1", 600);
        assert_eq!((asked.status, &asked.json()["state"]), (201, &json!("pending")), "{}", asked.text());
        assert_eq!((scene.pending_of_shop(), scene.refund("k3", &order, "R2", 401).status), (json!(600), 422));
        scene.refund("k4", &order, "R1", 1).is_problem(409, "refund_exists");
        scene.tells("A", Some(("R1", 600, 600)));
        let ended = scene.get(&format!("/v1/refunds/{}", id(&asked)));
        assert_eq!((&ended["state"], &ended["order_id"]), (&json!("succeeded"), &json!(order)));
        let paid = scene.get(&format!("/v1/orders/{order}"));
        assert_eq!((&paid["state"], &paid["refund_pending_minor"]), (&json!("partially_refunded"), &json!(0)));
        assert_eq!(scene.pending_of_shop(), 0);

        // The first answers stay, also after the process has died.
        scene.process.kill9();
        let disk = &scene.ledger.disk;
        scene.process.run(disk);
        for (again, first) in
            [(scene.order("\"k1\"", "A", 1_000), &made), (scene.refund("k2", &order, "R1", 600), &asked)]
        {
            assert_eq!((again.status, &again.body), (first.status, &first.body));
            assert_eq!(again.header("idempotent-replayed"), Some("true"));
        }
        scene.order("k1", "B", 1_000).is_problem(422, "idempotency_key_reused");
        scene.order("k5", "A", 1_000).is_problem(409, "order_exists");
        scene.is_whole();
    });
}

#[test]
fn an_order_after_its_payment_adopts_it_and_another_amount_is_suspense() {
    on_both(|scene| {
        scene.tells("A", None);
        scene.tells("B", None);
        let alike = scene.order("k1", "A", 1_000);
        assert_eq!((alike.status, &alike.json()["state"]), (201, &json!("paid")));
        assert_eq!(alike.json()["source"], "callback");
        let other = scene.order("k2", "B", 900);
        assert_eq!((other.status, &other.json()["state"]), (201, &json!("suspense")));
        let open = scene.get("/v1/anomalies")["data"].clone();
        assert_eq!((open.as_array().unwrap().len(), &open[0]["kind"]), (1, &json!("amount_mismatch")));
        let suspense = scene.get("/v1/accounts/liabilities:suspense:alipay");
        assert_eq!(suspense["balances"][0]["balance_minor"], -1_000);
        scene.is_whole();
        // A person accepts what was paid.
        let accept = json!({"action": "accept", "note": "the buyer had a voucher"});
        let path = format!("/v1/anomalies/{}/resolve", open[0]["id"].as_str().unwrap());
        let resolved = scene.post(&path, "none", &accept);
        assert_eq!(resolved.status, 200, "{}", resolved.text());
        let paid = scene.get(&format!("/v1/orders/{}", id(&other)));
        assert_eq!(
            (&paid["state"], &paid["paid_minor"], &paid["amount_minor"]),
            (&json!("paid"), &json!(1_000), &json!(900))
        );
        let suspense = scene.get("/v1/accounts/liabilities:suspense:alipay");
        assert_eq!(suspense["balances"][0]["balance_minor"], 0);
        scene.is_whole();
    });
}

#[test]
fn a_payment_that_needs_an_order_waits_for_its_creation() {
    let mut ledger = Ledger::prepare();
    ledger.more = "[ledger.channel.strict]\nprovider = \"hmac\"\nmerchant = \"shop\"\nrequire_order = true\n\
                   secret_files = [\"secrets/generic.key\"]\nheader = \"x-signature\"\nencoding = \"hex\"\n"
        .to_owned();
    let process = ledger.run();
    let scene = Scene { ledger, process };
    let callback = Callback::generic("1");
    let answer = scene.process.ask(&callback.request().target("/callbacks/strict")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(scene.get("/v1/transactions")["data"][0]["state"], "parked");
    let (currency, trade) = (callback.channel.currency(), &callback.out_trade_no);
    let body = json!({"merchant": "shop", "channel": "strict", "out_trade_no": trade, "amount_minor": 1_000,
        "currency": currency});
    let made = scene.post("/v1/orders", "k1", &body);
    assert_eq!((made.status, &made.json()["state"]), (201, &json!("paid")), "{}", made.text());
    assert_eq!(scene.get("/v1/transactions")["data"][0]["state"], "posted");
    scene.is_whole();
}

#[test]
fn sixty_four_clients_never_refund_more_than_was_paid() {
    on_both(|scene| {
        let order = id(&scene.order("k1", "A", 1_000));
        scene.tells("A", None);
        let scene = &*scene;
        let ask = |client: usize| scene.refund(&format!("r{client}"), &order, &format!("R{client}"), 100).status;
        let statuses: Vec<u16> = thread::scope(|scope| {
            let clients: Vec<_> = (0..64).map(|client| scope.spawn(move || ask(client))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let of = |status: u16| statuses.iter().filter(|seen| **seen == status).count();
        assert_eq!((of(201), of(422)), (10, 54), "{statuses:?}");
        assert_eq!(scene.get(&format!("/v1/orders/{order}"))["refund_pending_minor"], 1_000);

        // One call that is sent by all of them is done once.
        let bodies: Vec<Vec<u8>> = thread::scope(|scope| {
            let clients: Vec<_> = (0..64).map(|_| scope.spawn(|| scene.order("same", "B", 5))).collect();
            clients.into_iter().map(|client| client.join().unwrap().body).collect()
        });
        assert!(bodies.iter().all(|body| *body == bodies[0]), "one order");
        scene.is_whole();
    });
}

#[test]
fn a_call_without_a_key_with_a_wrong_body_or_for_another_merchant_is_refused() {
    let scene = Scene::with_own();
    let own = OWN;
    let token = scene.ledger.token.clone();
    let body =
        json!({"merchant": "shop", "channel": "alipay", "out_trade_no": "A", "amount_minor": 1, "currency": "CNY"});
    let bare = post("/v1/orders", body.to_string()).header("authorization", format!("Bearer {token}"));
    scene.process.ask(&bare).unwrap().is_problem(400, "idempotency_key");
    for (change, label, status) in [
        (json!({"amount_minor": 0}), "unprocessable", 422),
        (json!({"amount_minor": 9_007_199_254_740_992_i64}), "unprocessable", 422),
        (json!({"amount_minor": 1.5}), "bad_body", 400),
        (json!({"currency": "cny"}), "unprocessable", 422),
        (json!({"channel": "wechat"}), "unprocessable", 422),
        (json!({"merchant": "nobody"}), "unprocessable", 422),
        (json!({"out_trade_no": ""}), "unprocessable", 422),
        (json!({"paid": true}), "bad_body", 400),
    ] {
        let mut sent = body.clone();
        sent.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        scene.post("/v1/orders", "k1", &sent).is_problem(status, label);
    }
    let made = scene.post("/v1/orders", "k1", &body);
    assert_eq!(made.status, 201, "what was refused before it was decided used no key: {}", made.text());
    scene.post_as(own, "/v1/orders", "k1", &body).is_problem(422, "unprocessable");
    let refund = json!({"out_refund_no": "R", "amount_minor": 1});
    let path = format!("/v1/orders/{}/refunds", id(&made));
    scene.post_as(own, &path, "k2", &refund).is_problem(404, "not_found");
    scene.post(&path, "k2", &refund).is_problem(422, "not_paid");
    scene.post("/v1/orders/nothing/refunds", "k3", &refund).is_problem(404, "not_found");
    let long = json!({"out_refund_no": "R".repeat(70_000), "amount_minor": 1});
    scene.post(&path, "k4", &long).is_problem(413, "body_too_large");
}

#[test]
fn a_fee_and_an_adoption_that_come_at_once_leave_whole_books() {
    on_both(|scene| {
        let scene = &*scene;
        thread::scope(|scope| {
            for at in 0..20 {
                let trade = format!("F{at}");
                let callback = Callback {
                    channel: Channel::Card,
                    refund: None,
                    payment: format!("pay-{trade}"),
                    out_trade_no: trade.clone(),
                    total: 1_000,
                };
                scope.spawn(move || assert_eq!(scene.process.ask(&callback.request()).unwrap().status, 200));
                let currency = Channel::Card.currency();
                let body = json!({"merchant": "shop", "channel": "card", "out_trade_no": trade, "amount_minor": 900,
                    "currency": currency});
                scope.spawn(move || assert_eq!(scene.post("/v1/orders", &format!("k{at}"), &body).status / 100, 2));
            }
        });
        scene.is_whole();
    });
}

#[test]
fn a_first_answer_stays_when_its_channel_is_gone() {
    let mut ledger = Ledger::prepare();
    let gone = "[ledger.channel.gone]\nprovider = \"hmac\"\nmerchant = \"shop\"\nsecret_files = [\"secrets/generic.key\"]\n\
                header = \"x-signature\"\n";
    ledger.more = gone.to_owned();
    let process = ledger.run();
    let mut scene = Scene { ledger, process };
    let body =
        json!({"merchant": "shop", "channel": "gone", "out_trade_no": "A", "amount_minor": 1, "currency": "CNY"});
    let made = scene.post("/v1/orders", "k1", &body);
    assert_eq!(made.status, 201, "{}", made.text());
    scene.process.kill9();
    let file = scene.ledger.path("ledger1.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap().replace(gone, "")).unwrap();
    scene.process.run(&scene.ledger.disk);
    assert_eq!(scene.post("/v1/orders", "k1", &body).body, made.body);
    scene.post("/v1/orders", "k2", &body).is_problem(422, "unprocessable");
}
