//! A payment that a typo of the configuration kept out of the books is booked once the typo is mended.

use std::fs;

use ledger::audit::{self, Mark};
use ledger::{query, store};
use serde_json::{Value, json};

use crate::support::client::{Answer, post};
use crate::support::eventually;
use crate::support::ledger::{Ledger, Process};
use crate::support::postgres::Postgres;
use crate::support::providers::{APP_ID, Callback, Channel, Refund, SELLER_ID};

const TYPO: &str = "2021000000000009";
const OWN: &str = "a-token-of-the-merchants-own-32-chars";

struct Scene {
    ledger: Ledger,
    process: Process,
}

impl Scene {
    /// A channel `typo` of Alipay whose app_id is not ours, of a merchant with a token.
    fn on(store: &str) -> Scene {
        let mut ledger = Ledger::on(store);
        fs::write(ledger.path("secrets/own.token"), OWN).unwrap();
        ledger.more = format!(
            r#"
            [ledger.merchant.own]
            url = "http://{}/shop"
            secret_file = "secrets/shop.whsec"
            token_file = "secrets/own.token"
            allow_private = true
            [ledger.channel.typo]
            provider = "alipay"
            merchant = "own"
            app_id = "{TYPO}"
            seller_id = "{SELLER_ID}"
            public_key_files = ["secrets/alipay.pem"]
            "#,
            ledger.merchants.address()
        );
        let process = ledger.run();
        Scene { ledger, process }
    }

    #[track_caller]
    fn tells(&self, callback: &Callback) {
        let answer = self.process.ask(&callback.request().target("/callbacks/typo")).unwrap();
        assert_eq!(answer.body, b"success", "{}", answer.text());
    }

    fn one(&self, path: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let all = self.process.books(&self.ledger.token).all(path);
        all.into_iter().find(fits).unwrap_or_else(|| panic!("{path} has none"))
    }

    fn transaction(&self, number: &str) -> Value {
        self.one("/v1/transactions", |row| row["channel_txn_no"] == number)
    }

    fn anomaly_of(&self, transaction: &Value) -> String {
        let anomaly = self.one("/v1/anomalies", |row| row["transaction_id"] == transaction["id"]);
        anomaly["id"].as_str().unwrap().to_owned()
    }

    fn resolve(&self, anomaly: &str, token: &str, body: &Value) -> Answer {
        let path = format!("/v1/anomalies/{anomaly}/resolve");
        self.process.ask(&post(&path, body.to_string()).header("authorization", format!("Bearer {token}"))).unwrap()
    }

    /// The typo is mended, and `pay-1` is accepted by it.
    fn is_mended(&self) {
        let file = self.ledger.path("ledger1.toml");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace(TYPO, APP_ID)).unwrap();
        let first = self.anomaly_of(&self.transaction("pay-1"));
        eventually("the configuration is taken over", || {
            (self.resolve(&first, &self.ledger.token, &accept()).status == 200).then_some(())
        });
    }

    fn owed(&self) -> i64 {
        let accounts = self.process.books(&self.ledger.token).all("/v1/accounts");
        let owed = accounts.iter().find(|account| account["id"] == "liabilities:merchant:own");
        owed.map_or(0, |account| account["balances"][0]["balance_minor"].as_i64().unwrap())
    }

    /// What a running ledger verifies each hour: what is new since a mark finds the books whole.
    #[track_caller]
    fn since(&self, mark: Option<&Mark>) -> Mark {
        let ledger = config::load(&self.ledger.path("ledger1.toml")).unwrap().config.ledger.unwrap();
        let mut reader = store::reader(&ledger.store).unwrap();
        let wraps = query::wraps(&mut *reader).unwrap();
        let (ring, keys) = audit::keys::open(&ledger.encryption_keys, &wraps).unwrap();
        let (report, mark) = audit::since(&mut *reader, ring.chain(), keys, None, mark).unwrap();
        mark.unwrap_or_else(|| panic!("{report:?}"))
    }

    /// Anomalies that the merchant's own list has by this question.
    fn lists(&self, question: &str) -> usize {
        self.process.books(OWN).get(&format!("/v1/anomalies?{question}"))["data"].as_array().unwrap().len()
    }

    #[track_caller]
    fn is_whole(&self, whole: bool) {
        let said = self.ledger.cli(&["verify"]);
        assert_eq!(said.status.success(), whole, "{}", String::from_utf8_lossy(&said.stdout));
    }
}

fn payment() -> Callback {
    let (payment, out_trade_no) = ("pay-1".to_owned(), "order-1".to_owned());
    Callback { channel: Channel::Alipay, refund: None, payment, out_trade_no, total: 1_000 }
}

fn accept() -> Value {
    json!({"action": "accept", "note": "the app_id was mistyped"})
}

fn booked_once_the_cause_is_mended(store: &str) {
    let scene = Scene::on(store);
    let refund = Refund { number: "back-1".to_owned(), amount: 300, cumulative: 300 };
    let refund = Callback { refund: Some(refund), ..payment() };
    scene.tells(&payment());
    scene.tells(&refund);
    let (paid, back) = (scene.transaction("pay-1"), scene.transaction("back-1"));
    assert_eq!((&paid["state"], &back["state"]), (&json!("noted"), &json!("noted")));
    let (of_paid, of_back) = (scene.anomaly_of(&paid), scene.anomaly_of(&back));
    let mark = scene.since(None);
    let token = &scene.ledger.token;
    scene.resolve(&of_paid, token, &accept()).is_problem(422, "not_acceptable");
    scene.resolve(&of_paid, token, &json!({"action": "agree"})).is_problem(400, "bad_body");
    scene.resolve(&of_paid, "nobody", &accept()).is_problem(401, "no_token");
    scene.resolve("01900000-0000-7000-8000-000000000003", token, &accept()).is_problem(404, "not_found");

    let file = scene.ledger.path("ledger1.toml");
    let mended = fs::read_to_string(&file).unwrap().replace(TYPO, APP_ID);
    fs::write(&file, mended).unwrap();
    let answer = eventually("the configuration is taken over", || {
        // A refund waits for its payment, whatever the configuration.
        scene.resolve(&of_back, token, &accept()).is_problem(422, "not_acceptable");
        Some(scene.resolve(&of_paid, OWN, &accept())).filter(|answer| answer.status == 200)
    });
    assert_eq!(answer.json()["state"], "resolved");
    for (question, count) in [("merchant=own", 2), ("state=open", 1), ("state=resolved&out_trade_no=order-1", 1)] {
        assert_eq!(scene.lists(question), count, "{question}");
    }
    let mark = scene.since(Some(&mark));
    let now = scene.transaction("pay-1");
    assert_eq!((&now["state"], &now["id"], &now["sequence"]), (&json!("posted"), &paid["id"], &paid["sequence"]));
    assert_eq!(scene.one("/v1/orders", |order| order["out_trade_no"] == "order-1")["state"], "paid");
    assert_eq!(scene.owed(), -1_000);
    eventually("the merchant hears of it", || {
        scene.ledger.merchants.heard().values().any(|heard| heard.data["channel_txn_no"] == "pay-1").then_some(())
    });

    // The same again is the same, another decision is none, and its message is known.
    assert_eq!(scene.resolve(&of_paid, token, &accept()).json()["state"], "resolved");
    scene.resolve(&of_paid, token, &json!({"action": "dismiss"})).is_problem(409, "already_resolved");
    scene.tells(&payment());
    assert_eq!(scene.owed(), -1_000);
    assert_eq!(scene.resolve(&of_back, token, &accept()).status, 200);
    assert_eq!(scene.owed(), -700);
    scene.since(Some(&mark));
    scene.is_whole(true);
}

#[test]
fn what_a_typo_kept_out_of_the_books_is_accepted_once_it_is_mended() {
    booked_once_the_cause_is_mended("sqlite:ledger.db");
}

#[test]
fn what_a_typo_kept_out_of_the_books_is_accepted_once_it_is_mended_on_postgresql() {
    let server = Postgres::start();
    booked_once_the_cause_is_mended(&server.url());
}

/// Of two refunds that were noted the last one states both, and is accepted for both.
fn the_last_of_two_refunds_is_accepted(scene: &Scene) {
    let (token, owed) = (&scene.ledger.token, scene.owed());
    let [paid, first, last] =
        ["pay-4", "back-4a", "back-4b"].map(|number| scene.anomaly_of(&scene.transaction(number)));
    assert_eq!(scene.resolve(&paid, token, &accept()).status, 200);
    let contained = |why: &str| {
        let answer = scene.resolve(&first, token, &accept());
        answer.is_problem(422, "not_acceptable");
        assert!(answer.text().contains(&format!("contained in the refund back-4b, {why}")), "{}", answer.text());
    };
    contained("since");
    assert_eq!(scene.resolve(&last, token, &accept()).status, 200);
    assert_eq!(scene.owed(), owed - 500);
    contained("which is booked");
    assert_eq!(scene.resolve(&first, token, &json!({"action": "dismiss"})).status, 200);
}

fn booked_and_not_booked_beside_the_mend(store: &str) {
    let scene = Scene::on(store);
    let of = |n: usize, refund| {
        let (payment, out_trade_no) = (format!("pay-{n}"), format!("order-{n}"));
        Callback { payment, out_trade_no, refund, ..self::payment() }
    };
    let back = |number: &str, amount, cumulative| Some(Refund { number: number.to_owned(), amount, cumulative });
    scene.tells(&of(1, None));
    scene.tells(&of(2, None));
    for refund in [None, back("back-4a", 300, 300), back("back-4b", 200, 500)] {
        scene.tells(&of(4, refund));
    }
    scene.is_mended();

    // A refund that comes after the cause is mended, and before its payment is accepted, follows its payment.
    let token = &scene.ledger.token;
    scene.tells(&of(2, back("back-2", 200, 200)));
    assert_eq!(scene.transaction("back-2")["state"], "parked");
    let of_paid = scene.anomaly_of(&scene.transaction("pay-2"));
    assert_eq!(scene.resolve(&of_paid, token, &accept()).status, 200);
    assert_eq!((&scene.transaction("back-2")["state"], scene.owed()), (&json!("posted"), -1_800));

    the_last_of_two_refunds_is_accepted(&scene);

    // Another merchant's channel has this payment: the platform alone decides.
    assert_eq!(scene.process.ask(&of(3, None).request()).unwrap().body, b"success");
    scene.tells(&of(3, None));
    let conflict = scene.one("/v1/anomalies", |row| row["kind"] == "content_conflict" && row["channel"] == "typo");
    let (conflict, dismiss) = (conflict["id"].as_str().unwrap(), json!({"action": "dismiss"}));
    for decision in [&accept(), &dismiss] {
        scene.resolve(conflict, OWN, decision).is_problem(403, "platform_only");
    }
    scene.resolve(conflict, token, &accept()).is_problem(422, "not_acceptable");
    assert_eq!(scene.resolve(conflict, token, &dismiss).status, 200);
    scene.is_whole(true);
}

#[test]
fn what_comes_beside_the_mend_is_booked_where_it_belongs() {
    booked_and_not_booked_beside_the_mend("sqlite:ledger.db");
}

#[test]
fn what_comes_beside_the_mend_is_booked_where_it_belongs_on_postgresql() {
    let server = Postgres::start();
    booked_and_not_booked_beside_the_mend(&server.url());
}

#[test]
fn a_decision_is_a_row_of_its_own_and_an_anomaly_that_was_closed_by_hand_is_found() {
    let scene = Scene::on("sqlite:ledger.db");
    scene.tells(&payment());
    scene.tells(&Callback { payment: "pay-2".to_owned(), out_trade_no: "order-2".to_owned(), ..payment() });
    let (one, other) = (scene.transaction("pay-1"), scene.transaction("pay-2"));
    let dismiss = json!({"action": "dismiss", "note": "payer-note-in-clear"});
    assert_eq!(scene.resolve(&scene.anomaly_of(&one), OWN, &dismiss).json()["state"], "resolved");
    assert_eq!(scene.transaction("pay-1")["state"], "noted");
    scene.is_whole(true);
    // What is written is encrypted.
    let store = scene.ledger.path("state");
    for file in crate::support::ledger::files(&store) {
        let bytes = fs::read(&file).unwrap();
        assert!(!bytes.windows(10).any(|part| part == b"payer-note"), "{}", file.display());
    }
    let closed = "UPDATE anomalies SET state = 'resolved' WHERE id = ?1";
    let store = rusqlite::Connection::open(store.join("ledger.db")).unwrap();
    assert_eq!(store.execute(closed, [scene.anomaly_of(&other)]).unwrap(), 1);
    scene.is_whole(false);
    // A merchant's token reaches nobody else's.
    let elsewhere = Callback { channel: Channel::Generic, ..payment() };
    assert_eq!(scene.process.ask(&elsewhere.request()).unwrap().status, 200);
    let unlike = Callback { total: 1_001, ..elsewhere };
    assert_eq!(scene.process.ask(&unlike.request()).unwrap().status, 200);
    let foreign =
        scene.one("/v1/anomalies", |row| row["kind"] == "content_conflict")["id"].as_str().unwrap().to_owned();
    scene.resolve(&foreign, OWN, &dismiss).is_problem(404, "not_found");
    scene.resolve(&foreign, &scene.ledger.token, &accept()).is_problem(422, "not_acceptable");
    assert_eq!(scene.resolve(&foreign, &scene.ledger.token, &dismiss).status, 200);
}
