//! Channels of different parties: who knows one channel's secret moves nothing of another merchant's.

use serde_json::{Value, json};

use crate::support::client::{Answer, Request, post};
use crate::support::ledger::{Books, Ledger, Process};
use crate::support::postgres::Postgres;
use crate::support::providers::{hex, keys, mac, seconds, secret};

/// A message that is kept and books nothing, of about so many bytes.
pub fn note(n: usize, size: usize) -> Request {
    let body = json!({"id": format!("n{n}"), "kind": "note", "memo": "x".repeat(size)}).to_string();
    let signature = hex(&mac(keys().generic.as_bytes(), body.as_bytes()));
    post("/callbacks/generic", body).header("content-type", "application/json").header("x-signature", signature)
}

/// A ledger with a second channel of Stripe's, `evil`, of the other merchant.
struct Scene {
    ledger: Ledger,
    process: Process,
    /// Of `evil`.
    secret: String,
}

impl Scene {
    fn on(store: &str) -> Scene {
        let (mut ledger, secret) = (Ledger::on(store), secret());
        std::fs::write(ledger.path("secrets/evil.whsec"), &secret).unwrap();
        ledger.more = r#"
        [ledger.channel.evil]
        provider = "stripe"
        merchant = "stall"
        secret_files = ["secrets/evil.whsec"]
        "#
        .to_owned();
        let process = ledger.run();
        Scene { ledger, process, secret }
    }

    fn books(&self) -> Books<'_> {
        self.process.books(&self.ledger.token)
    }

    /// An event to `channel`, signed by its secret, is taken.
    #[track_caller]
    fn tells(&self, channel: &str, kind: &str, object: Value) -> Answer {
        let secret = if channel == "evil" { &self.secret } else { &keys().stripe };
        let (now, id) = (seconds(), format!("evt_{channel}_{kind}"));
        let body = json!({"id": id, "object": "event", "type": kind, "created": now, "data": {"object": object}});
        let body = body.to_string();
        let signature = hex(&mac(secret.as_bytes(), format!("{now}.{body}").as_bytes()));
        let request = post(&format!("/callbacks/{channel}"), body)
            .header("content-type", "application/json")
            .header("stripe-signature", format!("t={now},v1={signature}"));
        let answer = self.process.ask(&request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// What is owed to a merchant, in cents.
    fn owed(&self, merchant: &str) -> i64 {
        let accounts = self.books().all("/v1/accounts");
        let name = format!("liabilities:merchant:{merchant}");
        let account = accounts.iter().find(|account| account["id"] == *name);
        account.map_or(0, |account| -account["balances"][0]["balance_minor"].as_i64().unwrap())
    }

    fn anomalies(&self) -> Vec<String> {
        let all = self.books().all("/v1/anomalies");
        all.iter().map(|anomaly| format!("{} {}", anomaly["kind"].as_str().unwrap(), anomaly["channel"])).collect()
    }
}

impl Scene {
    #[track_caller]
    fn is_whole(&self) {
        let whole = self.ledger.cli(&["verify", "--json"]);
        assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stdout));
    }
}

fn payment() -> Value {
    json!({"id": "pi_1", "object": "payment_intent", "amount_received": 1_000, "currency": "usd",
        "status": "succeeded", "metadata": {"out_trade_no": "o1"}})
}

fn refund() -> Value {
    json!({"id": "re_1", "object": "refund", "amount": 1_000, "currency": "usd", "payment_intent": "pi_1",
        "status": "succeeded"})
}

/// Fees are not the matter: 0.6 % and 3 cents of 1000 are 9.
const PAID: i64 = 1_000 - 9;

/// (a): a refund of another merchant's payment; (b): another merchant's payment, before it comes.
fn nothing_of_another_merchant_is_moved(store: &str, again: &str) {
    let scene = Scene::on(store);
    scene.tells("card", "payment_intent.succeeded", payment());
    scene.tells("evil", "refund.created", refund());
    assert_eq!((scene.owed("shop"), scene.owed("stall")), (PAID, 0));
    assert_eq!(scene.books().all("/v1/orders")[0]["state"], "paid");
    let told = scene.ledger.merchants.heard().values().any(|heard| heard.kind.starts_with("refund"));
    assert!(!told, "a merchant hears of a refund that is none");
    assert_eq!(scene.anomalies(), [] as [&str; 0], "it waits for a payment of its own");
    scene.is_whole();
    drop(scene);

    let scene = Scene::on(again);
    scene.tells("evil", "payment_intent.succeeded", payment());
    scene.tells("card", "payment_intent.succeeded", payment());
    assert_eq!(scene.owed("shop"), PAID, "the genuine one is booked");
    scene.tells("card", "refund.created", refund());
    assert_eq!(scene.owed("shop"), PAID - 1_000);
    scene.is_whole();
}

#[test]
fn who_knows_one_channels_secret_moves_nothing_of_another_merchant() {
    nothing_of_another_merchant_is_moved("sqlite:ledger.db", "sqlite:ledger.db");
}

#[test]
fn who_knows_one_channels_secret_moves_nothing_of_another_merchant_on_postgresql() {
    let server = Postgres::start();
    nothing_of_another_merchant_is_moved(&server.create("a"), &server.create("b"));
}

#[test]
fn channels_of_one_account_and_different_merchants_are_in_conflict_and_it_is_told() {
    let (mut ledger, secret) = (Ledger::prepare(), secret());
    std::fs::write(ledger.path("secrets/evil.whsec"), &secret).unwrap();
    for (name, merchant, file) in [("mine", "shop", "stripe"), ("evil", "stall", "evil")] {
        ledger.more += &format!(
            r#"
            [ledger.channel.{name}]
            provider = "stripe"
            merchant = {merchant:?}
            account = "acct_1"
            secret_files = ["secrets/{file}.whsec"]
            "#
        );
    }
    let process = ledger.run();
    let scene = Scene { ledger, process, secret };
    scene.tells("evil", "payment_intent.succeeded", payment());
    scene.tells("mine", "payment_intent.succeeded", payment());
    scene.tells("mine", "refund.created", refund());
    assert_eq!((scene.owed("shop"), scene.owed("stall")), (0, 1_000), "nothing is booked for two");
    assert_eq!(scene.anomalies(), ["content_conflict \"mine\"", "content_conflict \"mine\""]);
    scene.is_whole();
}
