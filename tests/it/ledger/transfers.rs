//! Transfers from outside: held, decided by one of many, expired, asked about, and bounded by what a merchant is owed.

use std::thread;

use serde_json::{Value, json};

use super::orders::{OWN, Scene, id, on_both};
use crate::support::client::Answer;
use crate::support::eventually;

const SHOP: &str = "liabilities:merchant:shop";
const STALL: &str = "liabilities:merchant:stall";

fn body(debit: &str, credit: &str, amount: i64, more: Value) -> Value {
    let mut body = json!({"debit_account": debit, "credit_account": credit, "amount_minor": amount, "currency": "CNY"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

impl Scene {
    fn transfer(&self, key: &str, debit: &str, credit: &str, (amount, more): (i64, Value)) -> Answer {
        self.post("/v1/transfers", key, &body(debit, credit, amount, more))
    }

    fn decide(&self, key: &str, id: &str, what: &str) -> Answer {
        self.post(&format!("/v1/transfers/{id}/{what}"), key, &Value::Null)
    }

    fn balance(&self, account: &str) -> (i64, i64, i64) {
        let balance = &self.get(&format!("/v1/accounts/{account}"))["balances"][0];
        let minor = |name: &str| balance[name].as_i64().unwrap();
        (minor("balance_minor"), minor("pending_debit_minor"), minor("pending_credit_minor"))
    }
}

#[test]
fn a_transfer_is_held_and_posted_and_payouts_never_take_a_merchant_to_debit() {
    on_both(|scene| {
        scene.tells("A", None);
        let held = scene.transfer("k1", SHOP, STALL, (700, json!({"pending": true})));
        assert_eq!((held.status, &held.json()["state"]), (201, &json!("pending")), "{}", held.text());
        assert_eq!((scene.balance(SHOP), scene.balance(STALL)), ((-1_000, 700, 0), (0, 0, 700)));
        scene.is_whole();
        scene.transfer("k2", SHOP, "assets:bank", (301, json!({}))).is_problem(422, "insufficient_balance");
        let paid_out = scene.transfer("k3", SHOP, "assets:bank", (300, json!({})));
        assert_eq!(paid_out.json()["state"], "posted");
        let posted = scene.decide("k4", &id(&held), "post");
        assert_eq!((posted.status, &posted.json()["state"]), (200, &json!("posted")), "{}", posted.text());
        scene.decide("k5", &id(&held), "void").is_problem(409, "already_decided");
        assert_eq!((scene.balance(SHOP), scene.balance(STALL)), ((0, 0, 0), (-700, 0, 0)));
        let kinds: Vec<Value> = scene.get("/v1/transactions")["data"].as_array().unwrap().clone();
        let kinds: Vec<&str> = kinds.iter().map(|row| row["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["transfer", "payout", "payment"]);
        scene.is_whole();
    });
}

#[test]
fn of_concurrent_posts_and_voids_of_one_hold_one_wins() {
    on_both(|scene| {
        scene.tells("A", None);
        let held = id(&scene.transfer("k1", SHOP, STALL, (1_000, json!({"pending": true}))));
        let scene = &*scene;
        let decide = |client: usize| {
            let what = if client.is_multiple_of(2) { "post" } else { "void" };
            (what, scene.decide(&format!("c{client}"), &held, what).status)
        };
        let told: Vec<(&str, u16)> = thread::scope(|scope| {
            let clients: Vec<_> = (0..64).map(|client| scope.spawn(move || decide(client))).collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        let won: Vec<&str> = told.iter().filter(|(_, status)| *status == 200).map(|(what, _)| *what).collect();
        assert_eq!((won.len(), told.iter().filter(|(_, status)| *status == 409).count()), (1, 63), "{told:?}");
        let owed = if won == ["post"] { 0 } else { -1_000 };
        assert_eq!(scene.balance(SHOP), (owed, 0, 0));
        scene.is_whole();
    });
}

#[test]
fn a_hold_expires_and_silence_before_that_is_asked_about() {
    on_both(|scene| {
        scene.tells("A", None);
        let hold = json!({"pending": true, "expires_in": "2s", "check_after": "100ms"});
        let held = id(&scene.transfer("k1", SHOP, STALL, (1_000, hold)));
        let path = format!("/v1/transfers/{held}");
        eventually("the merchant is asked", || {
            let events = scene.get("/v1/events?state=delivered")["data"].clone();
            let is_check = |event: &&Value| event["type"] == "transfer.check" && event["merchant"] == "shop";
            events.as_array().unwrap().iter().find(is_check).map(|_| ())
        });
        assert_eq!(scene.get(&path)["state"], "pending");
        eventually("it expires", || (scene.get(&path)["state"] == "expired").then_some(()));
        assert_eq!((scene.balance(SHOP), scene.balance(STALL)), ((-1_000, 0, 0), (0, 0, 0)));
        scene.decide("k2", &held, "post").is_problem(409, "already_decided");
        scene.is_whole();
    });
}

#[test]
fn who_may_move_what_is_checked() {
    let scene = Scene::with_own();
    let own = OWN;
    let none = json!({});
    for (debit, credit, more, status, label) in [
        (SHOP, SHOP, none.clone(), 422, "unprocessable"),
        ("cash", SHOP, none.clone(), 422, "unprocessable"),
        ("liabilities:merchant:nobody", "assets:bank", none.clone(), 422, "unprocessable"),
        ("assets:bank", "assets:channel:nothing", none.clone(), 422, "unprocessable"),
        ("assets:bank", SHOP, json!({"expires_in": "1m"}), 422, "unprocessable"),
        ("assets:bank", "equity:own", json!({"pending": true, "check_after": "1m"}), 422, "unprocessable"),
        ("assets:bank", SHOP, json!({"pending": true, "expires_in": "1m", "check_after": "1m"}), 422, "unprocessable"),
        ("assets:bank", SHOP, json!({"pending": true, "expires_in": "soon"}), 422, "unprocessable"),
        ("assets:bank", SHOP, json!({"amount": 1}), 400, "bad_body"),
    ] {
        scene.post("/v1/transfers", "k", &body(debit, credit, 1, more)).is_problem(status, label);
    }
    let mine = "liabilities:merchant:own";
    let given = scene.post("/v1/transfers", "k", &body("assets:bank", mine, 50, none.clone()));
    assert_eq!(given.status, 201, "{}", given.text());
    let hold = json!({"pending": true});
    for (debit, credit) in [(SHOP, mine), (mine, "assets:bank"), ("assets:bank", mine)] {
        let asked = body(debit, credit, 1, hold.clone());
        scene.post_as(own, "/v1/transfers", "k", &asked).is_problem(403, "platform_only");
    }
    let held = scene.post_as(own, "/v1/transfers", "k", &body(mine, SHOP, 30, hold));
    assert_eq!(held.status, 201, "{}", held.text());
    let books = scene.process.books(own);
    assert_eq!(books.get(&format!("/v1/transfers/{}", id(&held)))["state"], "pending");
    let path = format!("/v1/transfers/{}/post", id(&held));
    assert_eq!(scene.post_as(own, &path, "k2", &Value::Null).status, 200);
    // What it is credited it sees: the transfer, and the transaction that its entry names.
    let got = scene.transfer("k6", SHOP, mine, (20, none.clone()));
    assert_eq!(books.get(&format!("/v1/transfers/{}", id(&got)))["state"], "posted");
    let entries = books.get(&format!("/v1/accounts/{mine}/entries"));
    let transaction = entries["data"][0]["transaction_id"].as_str().unwrap();
    assert_eq!(books.get(&format!("/v1/transactions/{transaction}"))["amount_minor"], 20);
    let paid_out = scene.transfer("k7", mine, "assets:bank", (1, json!({"pending": true})));
    for what in ["post", "void"] {
        let path = format!("/v1/transfers/{}/{what}", id(&paid_out));
        scene.post_as(own, &path, &format!("k7 {what}"), &Value::Null).is_problem(403, "platform_only");
    }
    let mine_alone = books.get("/v1/transfers?state=posted");
    let listed: Vec<_> = mine_alone["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(listed, [&*id(&held), &*id(&given)], "another's is seen by id only");
    let foreign = scene.transfer("k4", "assets:bank", SHOP, (1, none));
    let path = format!("/v1/transfers/{}/void", id(&foreign));
    scene.post_as(own, &path, "k5", &Value::Null).is_problem(404, "not_found");
    scene.is_whole();
}
