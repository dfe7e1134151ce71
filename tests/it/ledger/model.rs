//! The books beside a model of them, a few lines of plain code: the same answers, the same orders, the same balances,
//! on both engines, for the same seeded operations, with the writer killed between.
//!
//! One merchant, one channel without a fee, one currency. `scripts/test --long` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Value, json};

use super::orders::{Scene, id};
use crate::support::client::{Answer, Connection, post};
use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres;
use crate::support::providers::{hex, keys, mac};

const OWED: &str = "liabilities:merchant:shop";
const STALL: &str = "liabilities:merchant:stall";
const AMOUNTS: [i64; 3] = [500, 900, 1_000];

/// A payment as the model has it.
#[derive(Clone, Debug, PartialEq)]
struct Payment {
    number: String,
    amount: i64,
    is_posted: bool,
    refunded: i64,
    held: i64,
}

/// An order, by its number.
#[derive(Clone, Debug, Default)]
struct Order {
    asked: i64,
    is_created: bool,
    is_suspended: bool,
    payments: Vec<Payment>,
    /// By out_refund_no: the amount and whether it is pending, succeeded or failed.
    requests: BTreeMap<String, (i64, &'static str)>,
}

impl Order {
    fn paid(&self) -> i64 {
        self.payments.iter().filter(|payment| payment.is_posted).map(|payment| payment.amount).sum()
    }

    fn refunded(&self) -> i64 {
        self.payments.iter().filter(|payment| payment.is_posted).map(|payment| payment.refunded).sum()
    }

    fn pending(&self) -> i64 {
        self.requests.values().filter(|(_, state)| *state == "pending").map(|(amount, _)| amount).sum()
    }

    fn state(&self) -> &'static str {
        match (self.paid(), self.refunded()) {
            (0, _) if self.is_suspended => "suspense",
            (0, _) => "pending",
            (_, 0) => "paid",
            (paid, refunded) if refunded >= paid => "refunded",
            _ => "partially_refunded",
        }
    }
}

/// A refund's message that waits for its payment.
#[derive(Clone, Debug)]
struct Waiting {
    trade: String,
    amount: i64,
    request: Option<String>,
}

/// The books.
#[derive(Debug, Default)]
struct Model {
    orders: BTreeMap<String, Order>,
    /// The numbers that were told: what each said.
    told: BTreeMap<String, String>,
    waiting: Vec<Waiting>,
    /// Transfers to the other merchant, by id.
    transfers: BTreeMap<String, (i64, &'static str)>,
    moved: i64,
}

impl Model {
    fn owed(&self) -> i64 {
        let orders = self.orders.values().map(|order| order.paid() - order.refunded()).sum::<i64>();
        orders - self.moved
    }

    fn pending(&self) -> i64 {
        let transfers = self.transfers.values().filter(|(_, state)| *state == "pending").map(|(amount, _)| amount);
        self.orders.values().map(Order::pending).sum::<i64>() + transfers.sum::<i64>()
    }

    fn suspense(&self) -> i64 {
        let payments = self.orders.values().flat_map(|order| &order.payments);
        payments.map(|payment| if payment.is_posted { -payment.held } else { payment.amount - payment.held }).sum()
    }

    /// The status of a creation.
    fn create(&mut self, trade: &str, amount: i64) -> u16 {
        let order = self.orders.entry(trade.to_owned()).or_default();
        if order.is_created {
            return 409;
        }
        let had = order.payments.iter().any(|payment| payment.is_posted);
        (order.is_created, order.asked) = (true, amount);
        if had && order.payments[0].amount != amount {
            for payment in order.payments.iter_mut().filter(|payment| payment.is_posted) {
                payment.is_posted = false;
                payment.held += std::mem::take(&mut payment.refunded);
            }
            order.is_suspended = true;
            order.requests.values_mut().filter(|request| request.1 == "pending").for_each(|one| one.1 = "failed");
        }
        201
    }

    fn pays(&mut self, number: &str, trade: &str, amount: i64) {
        if !self.is_new(number, trade, amount) {
            return;
        }
        let order = self.orders.entry(trade.to_owned()).or_default();
        if order.asked == 0 {
            order.asked = amount;
        }
        let is_posted = order.paid() == 0 && order.asked == amount;
        order.is_suspended |= !is_posted && order.paid() == 0;
        order.payments.push(Payment { number: number.to_owned(), amount, is_posted, refunded: 0, held: 0 });
        let waiting = std::mem::take(&mut self.waiting);
        let (now, later) = waiting.into_iter().partition(|waiting| waiting.trade == trade);
        self.waiting = later;
        for Waiting { amount, request, .. } in now {
            self.refunds_of(trade, number, amount, request.as_deref());
        }
    }

    fn is_new(&mut self, number: &str, trade: &str, amount: i64) -> bool {
        self.told.insert(number.to_owned(), format!("{trade} {amount}")).is_none()
    }

    fn refund_comes(&mut self, number: &str, trade: &str, amount: i64, request: Option<&str>) {
        if !self.is_new(number, trade, amount) {
            return;
        }
        let payments = self.orders.get(trade).map(|order| order.payments.clone()).unwrap_or_default();
        let posted = payments.iter().find(|payment| payment.is_posted);
        match posted.or(payments.first()).map(|payment| payment.number.clone()) {
            Some(payment) => self.refunds_of(trade, &payment, amount, request),
            None => {
                let request = request.map(str::to_owned);
                self.waiting.push(Waiting { trade: trade.to_owned(), amount, request });
            }
        }
    }

    fn refunds_of(&mut self, trade: &str, payment: &str, amount: i64, request: Option<&str>) {
        let order = self.orders.get_mut(trade).unwrap();
        let payment = order.payments.iter_mut().find(|known| known.number == payment).unwrap();
        if payment.is_posted && amount <= payment.amount - payment.refunded {
            payment.refunded += amount;
        } else {
            payment.held += amount;
        }
        if let Some(request) = request.and_then(|number| order.requests.get_mut(number)) {
            request.1 = "succeeded";
        }
    }

    /// The status of a refund that is asked for.
    fn asks_refund(&mut self, trade: &str, number: &str, amount: i64) -> u16 {
        let free = self.owed() - self.pending();
        let order = self.orders.get_mut(trade).unwrap();
        if order.requests.contains_key(number) {
            return 409;
        }
        let left = order.paid() - order.refunded() - order.pending();
        if order.paid() == 0 || amount > left || amount > free {
            return 422;
        }
        order.requests.insert(number.to_owned(), (amount, "pending"));
        201
    }
}

/// The real books beside the model.
struct Beside {
    scene: Scene,
    model: Model,
    connection: Option<Connection>,
    rng: Rng,
    calls: usize,
    ids: BTreeMap<String, String>,
    /// What was seen, and how often.
    seen: BTreeMap<String, usize>,
}

impl Beside {
    fn on(store: &str, seed: u64) -> Beside {
        let mut ledger = Ledger::on(store);
        let process = ledger.run();
        let scene = Scene { ledger, process };
        let rng = Rng::with_seed(seed);
        Beside {
            scene,
            model: Model::default(),
            connection: None,
            rng,
            calls: 0,
            ids: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    fn send(&mut self, request: &crate::support::client::Request) -> Answer {
        for _ in 0..2 {
            let connection = match self.connection.take() {
                Some(connection) => Ok(connection),
                None => Connection::to(self.scene.process.port),
            };
            if let Ok(mut connection) = connection
                && let Ok(answer) = connection.ask(request)
            {
                self.connection = Some(connection);
                return answer;
            }
        }
        panic!("the ledger does not answer: {}", self.scene.process.messages());
    }

    fn call(&mut self, path: &str, body: &Value) -> Answer {
        self.calls += 1;
        let token = format!("Bearer {}", self.scene.ledger.token);
        let key = format!("call-{}", self.calls);
        let request = post(path, body.to_string()).header("authorization", token).header("idempotency-key", key);
        let answer = self.send(&request);
        let kind = path.split('/').filter(|word| !word.contains('-')).collect::<Vec<_>>().join("/");
        *self.seen.entry(format!("{kind} {}", answer.status)).or_default() += 1;
        if self.rng.u8(..8) == 0 {
            let again = self.send(&request);
            assert_eq!((again.status, &again.body), (answer.status, &answer.body), "the first answer stays");
        }
        answer
    }

    fn tell(&mut self, body: &Value) {
        let body = body.to_string();
        let signature = hex(&mac(keys().generic.as_bytes(), body.as_bytes()));
        let request = post("/callbacks/generic", body).header("x-signature", signature);
        let answer = self.send(&request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn get(&self, path: &str) -> Value {
        self.scene.process.books(&self.scene.ledger.token).get(path)
    }

    /// An order's id; none before it is there.
    fn id_of(&mut self, trade: &str) -> Option<String> {
        if !self.ids.contains_key(trade) {
            let found = self.get(&format!("/v1/orders?out_trade_no={trade}"))["data"][0]["id"].clone();
            self.ids.insert(trade.to_owned(), found.as_str()?.to_owned());
        }
        self.ids.get(trade).cloned()
    }

    fn step(&mut self, at: usize) {
        // Few numbers, so that they meet again.
        let trade = format!("T{}", self.rng.usize(..1 + at / 12));
        let amount = AMOUNTS[self.rng.usize(..3)];
        match self.rng.u8(..22) {
            0..5 => self.creates(&trade, amount),
            5..10 => {
                let number = format!("p{}", self.rng.usize(..1 + at / 6));
                self.model.pays(&number, &trade, amount);
                self.tell(&json!({"id": number, "out_trade_no": trade, "kind": "payment", "amount_minor": amount,
                    "currency": "JPY"}));
            }
            10..13 => self.asks_refund(&trade, amount / 2),
            13..16 => {
                let number = format!("r{}", self.rng.usize(..1 + at / 3));
                self.tells_refund(&number, &trade, amount / 2);
            }
            16..18 => self.moves(amount),
            18 => self.decides(),
            19 => self.expires(amount),
            20 => self.looks(&trade),
            _ if self.rng.u8(..20) == 0 => {
                *self.seen.entry("kill -9".to_owned()).or_default() += 1;
                self.connection = None;
                self.scene.process.kill9();
                self.scene.process.run(&self.scene.ledger.disk);
            }
            _ => {}
        }
    }

    fn creates(&mut self, trade: &str, amount: i64) {
        let body = json!({"merchant": "shop", "channel": "generic", "out_trade_no": trade, "amount_minor": amount,
            "currency": "JPY"});
        let answer = self.call("/v1/orders", &body);
        assert_eq!(answer.status, self.model.create(trade, amount), "{trade} {}", answer.text());
    }

    fn asks_refund(&mut self, trade: &str, amount: i64) {
        let number = format!("R{}", self.rng.u8(..3));
        let Some(order) = self.id_of(trade) else { return };
        let body = json!({"out_refund_no": number, "amount_minor": amount});
        let answer = self.call(&format!("/v1/orders/{order}/refunds"), &body);
        let expected = self.model.asks_refund(trade, &number, amount);
        assert_eq!(answer.status, expected, "{trade} {number} {amount} {}", answer.text());
    }

    /// Ends a refund that is pending, if the order has one; else it was made at the provider.
    fn tells_refund(&mut self, number: &str, trade: &str, amount: i64) {
        let requests = self.model.orders.get(trade).map(|order| order.requests.clone()).unwrap_or_default();
        let pending = requests.into_iter().find(|(_, (_, state))| *state == "pending");
        let (request, amount) = pending.map_or((None, amount), |(number, (amount, _))| (Some(number), amount));
        self.model.refund_comes(number, trade, amount, request.as_deref());
        self.tell(&json!({"id": number, "out_trade_no": trade, "kind": "refund", "amount_minor": amount,
            "currency": "JPY", "out_refund_no": request}));
    }

    fn moves(&mut self, amount: i64) {
        let pending = self.rng.bool();
        let body = json!({"debit_account": OWED, "credit_account": STALL, "amount_minor": amount, "currency": "JPY",
            "pending": pending});
        let free = self.model.owed() - self.model.pending();
        let answer = self.call("/v1/transfers", &body);
        assert_eq!(answer.status, if amount <= free { 201 } else { 422 }, "{amount} of {free} {}", answer.text());
        if answer.status == 201 {
            self.model.moved += if pending { 0 } else { amount };
            let state = if pending { "pending" } else { "posted" };
            self.model.transfers.insert(id(&answer), (amount, state));
        }
    }

    fn decides(&mut self) {
        let known: Vec<String> = self.model.transfers.keys().cloned().collect();
        let Some(transfer) = self.rng.choice(&known).cloned() else { return };
        let what = if self.rng.bool() { "post" } else { "void" };
        let answer = self.call(&format!("/v1/transfers/{transfer}/{what}"), &Value::Null);
        let (amount, state) = self.model.transfers[&transfer];
        let expected = match (state, what) {
            ("pending", "post") if self.model.owed() < amount => 422,
            ("pending", _) => 200,
            _ => 409,
        };
        assert_eq!(answer.status, expected, "{}", answer.text());
        if expected == 200 {
            self.model.moved += if what == "post" { amount } else { 0 };
            let state = if what == "post" { "posted" } else { "voided" };
            self.model.transfers.insert(transfer, (amount, state));
        }
    }

    /// A hold that is over before anybody decides it.
    fn expires(&mut self, amount: i64) {
        let body = json!({"debit_account": OWED, "credit_account": STALL, "amount_minor": amount, "currency": "JPY",
            "pending": true, "expires_in": "1ms"});
        let free = self.model.owed() - self.model.pending();
        let answer = self.call("/v1/transfers", &body);
        assert_eq!(answer.status, if amount <= free { 201 } else { 422 }, "{amount} of {free} {}", answer.text());
        if answer.status == 201 {
            let transfer = id(&answer);
            std::thread::sleep(Duration::from_millis(3));
            let late = self.call(&format!("/v1/transfers/{transfer}/post"), &Value::Null);
            assert_eq!(late.status, 409, "{}", late.text());
            self.model.transfers.insert(transfer, (amount, "expired"));
        }
    }

    /// What anybody may ask, at any time.
    fn looks(&mut self, trade: &str) {
        self.is_alike_in(trade);
        let known: Vec<String> = self.model.transfers.keys().cloned().collect();
        if let Some(transfer) = self.rng.choice(&known) {
            let shown = self.get(&format!("/v1/transfers/{transfer}"));
            let (amount, state) = self.model.transfers[transfer];
            assert_eq!((shown["amount_minor"].as_i64(), shown["state"].as_str()), (Some(amount), Some(state)));
        }
        // An account is there from its first entry on.
        if self.model.owed() != 0 {
            let shown = self.get(&format!("/v1/accounts/{OWED}?as_of=2999-01-01T00:00:00Z"));
            assert_eq!(shown["balances"][0]["balance_minor"], -self.model.owed());
        }
        let listed = self.get(&format!("/v1/refunds?out_trade_no={trade}"));
        let listed: BTreeMap<&str, &str> = listed["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|refund| (refund["out_refund_no"].as_str().unwrap(), refund["state"].as_str().unwrap()))
            .collect();
        let requests = self.model.orders.get(trade).map(|order| order.requests.clone()).unwrap_or_default();
        let expected = requests.iter().map(|(number, (_, state))| (&**number, *state)).collect();
        assert_eq!(listed, expected, "{trade}");
        *self.seen.entry("looks".to_owned()).or_default() += 1;
    }

    /// The order, if there is one.
    fn is_alike_in(&mut self, trade: &str) {
        let shown = self.get(&format!("/v1/orders?out_trade_no={trade}"))["data"][0].clone();
        let Some(order) = self.model.orders.get(trade) else { return assert_eq!(shown, Value::Null) };
        let expected = (order.state(), order.paid(), order.refunded(), order.pending(), order.asked);
        let minor = |name: &str| shown[name].as_i64().unwrap();
        let seen = (
            shown["state"].as_str().unwrap(),
            minor("paid_minor"),
            minor("refunded_minor"),
            minor("refund_pending_minor"),
            minor("amount_minor"),
        );
        assert_eq!(seen, expected, "{trade}: {order:?}");
    }

    fn is_alike(&mut self) {
        let trades: Vec<String> = self.model.orders.keys().cloned().collect();
        trades.iter().for_each(|trade| self.is_alike_in(trade));
        let balance = |account: &str, name: &str| -> i64 {
            let accounts = self.scene.process.books(&self.scene.ledger.token).all("/v1/accounts");
            let found = accounts.iter().find(|shown| shown["id"] == account);
            found.map_or(0, |shown| shown["balances"][0][name].as_i64().unwrap())
        };
        assert_eq!(balance(OWED, "balance_minor"), -self.model.owed());
        assert_eq!(balance(OWED, "pending_debit_minor"), self.model.pending());
        assert_eq!(balance("liabilities:suspense:generic", "balance_minor"), -self.model.suspense());
        assert_eq!(balance(STALL, "balance_minor"), -self.model.moved);
        let all = ["assets:channel:generic", OWED, STALL, "liabilities:suspense:generic"];
        assert_eq!(all.iter().map(|account| balance(account, "balance_minor")).sum::<i64>(), 0);
    }
}

/// What was seen of so many operations.
fn beside_the_model(store: &str, seed: u64, steps: usize) -> BTreeSet<String> {
    let mut books = Beside::on(store, seed);
    for at in 0..steps {
        books.step(at);
        if at % (steps / 3) == steps / 3 - 1 {
            books.is_alike();
        }
    }
    books.is_alike();
    books.scene.is_whole();
    for order in books.model.orders.values() {
        *books.seen.entry(format!("order {}", order.state())).or_default() += 1;
        for (_, state) in order.requests.values() {
            *books.seen.entry(format!("refund {state}")).or_default() += 1;
        }
    }
    for (_, state) in books.model.transfers.values() {
        *books.seen.entry(format!("transfer {state}")).or_default() += 1;
    }
    println!("{store} {seed}: {:?}, {} messages wait", books.seen, books.model.waiting.len());
    books.seen.into_keys().collect()
}

/// The operations must come to all of these.
fn come_to_all(seen: &BTreeSet<String>) {
    let all = "order paid,order suspense,order refunded,refund pending,refund succeeded,refund failed,transfer posted,\
               transfer voided,transfer expired,kill -9,looks";
    let missing: Vec<&str> = all.split(',').filter(|one| !seen.contains(*one)).collect();
    assert!(missing.is_empty(), "the operations never came to {missing:?}");
}

#[test]
fn the_books_do_what_the_model_does_on_sqlite() {
    come_to_all(&(0..3).flat_map(|seed| beside_the_model("sqlite:ledger.db", seed, 3_000)).collect());
}

#[test]
fn the_books_do_what_the_model_does_on_postgresql() {
    let server = Postgres::start();
    come_to_all(&beside_the_model(&server.url(), 7, 4_000));
}

/// `TOLLGATE_MODEL_RUNS` books of 20,000 operations, a third of them on PostgreSQL (15 without it).
#[test]
#[ignore = "minutes; scripts/test --long"]
fn long_the_books_do_what_the_model_does() {
    let runs = std::env::var("TOLLGATE_MODEL_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(15);
    for seed in 100..100 + runs {
        let server = (seed % 3 == 0).then(Postgres::start);
        let store = server.as_ref().map_or("sqlite:ledger.db".to_owned(), Postgres::url);
        come_to_all(&beside_the_model(&store, seed, 20_000));
    }
}
