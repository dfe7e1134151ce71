//! What must hold of the books after any run: nothing acknowledged is missing, nothing is there twice, and everything
//! adds up, by our own sums, by `ledger verify` and by hledger.
//!
//! Books are read over HTTP while the ledger runs. Of callbacks that were sent and not acknowledged only this is asked:
//! they are there once or not at all.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::support::ledger::{Books, Ledger, merchant_of};
use crate::support::providers::{Callback, Channel};
use crate::support::wait::within;

/// Sums by account and currency: debits, credits.
type Sums = BTreeMap<(String, String), (i64, i64)>;

/// What was read at one time.
pub struct Reading {
    pub transactions: Vec<Value>,
    entries: Vec<Value>,
    accounts: Vec<Value>,
    orders: Vec<Value>,
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_else(|| panic!("no {field} in {row}"))
}

fn number(row: &Value, field: &str) -> i64 {
    row[field].as_i64().unwrap_or_else(|| panic!("no {field} in {row}"))
}

impl Reading {
    /// Reads everything.
    #[track_caller]
    pub fn of(books: Books) -> Reading {
        let accounts = books.all("/v1/accounts");
        let entries = |account: &Value| books.all(&format!("/v1/accounts/{}/entries", text(account, "id")));
        Reading {
            transactions: books.all("/v1/transactions"),
            entries: accounts.iter().flat_map(entries).collect(),
            orders: books.all("/v1/orders"),
            accounts,
        }
    }

    /// Every acknowledged callback is there, once, with what it means.
    #[track_caller]
    pub fn holds(&self, acknowledged: &[Callback]) {
        let mut there: HashMap<(&str, &str, &str), &Value> = HashMap::new();
        for row in self.transactions.iter().filter(|row| row["kind"] != "fee") {
            let key = (text(row, "channel"), text(row, "kind"), text(row, "channel_txn_no"));
            if let Some(other) = there.insert(key, row) {
                assert_ne!(text(other, "id"), text(row, "id"), "a list shows a row twice: {key:?}");
                panic!("twice in the books: {key:?}: {other} and {row}");
            }
        }
        let missing: Vec<&Callback> = acknowledged
            .iter()
            .filter(|callback| !there.contains_key(&(callback.channel.name(), callback.kind(), callback.number())))
            .collect();
        assert!(missing.is_empty(), "{} acknowledged and not there: {:#?}", missing.len(), missing[0]);
        let paid: HashSet<&str> =
            acknowledged.iter().filter(|c| c.refund.is_none()).map(|c| c.payment.as_str()).collect();
        for callback in acknowledged {
            let row = there[&(callback.channel.name(), callback.kind(), callback.number())];
            // A refund of WeChat Pay says no currency: it takes its payment's, once that is there.
            if row["state"] != "parked" || !row["currency"].is_null() {
                assert_eq!(text(row, "currency"), callback.channel.currency(), "{row}");
            }
            assert_eq!(text(row, "merchant"), merchant_of(callback.channel), "{row}");
            // A refund waits for its payment, which may be on its way.
            let state = text(row, "state");
            if paid.contains(callback.payment.as_str()) || callback.refund.is_none() {
                assert_eq!(state, "posted", "{row}");
                assert_eq!(number(row, "amount_minor"), callback.amount(), "{row}");
                // Stripe's refunds do not name the order.
                let unnamed = callback.channel == Channel::Card && row["out_trade_no"].is_null();
                assert!(unnamed || row["out_trade_no"] == callback.out_trade_no.as_str(), "{row}");
            } else {
                assert!(["posted", "parked"].contains(&state), "{row}");
            }
        }
    }

    /// Nothing else is there: where everything that was sent was acknowledged.
    #[track_caller]
    pub fn holds_only(&self, acknowledged: &[Callback]) {
        let count = self.transactions.iter().filter(|row| row["kind"] != "fee").count();
        assert_eq!(count, acknowledged.len(), "transactions of callbacks, and callbacks");
        let odd: Vec<&Value> = self.transactions.iter().filter(|row| row["state"] != "posted").collect();
        assert!(odd.is_empty(), "not posted: {odd:#?}");
        let payments: Vec<&Callback> = acknowledged.iter().filter(|callback| callback.refund.is_none()).collect();
        let fees = payments.iter().filter(|callback| callback.channel == Channel::Card).count();
        assert_eq!(self.transactions.iter().filter(|row| row["kind"] == "fee").count(), fees, "fees");
        let mut refunded: HashMap<&str, i64> = HashMap::new();
        for callback in acknowledged {
            *refunded.entry(&callback.out_trade_no).or_default() += callback.refund.as_ref().map_or(0, |r| r.amount);
        }
        let orders: HashMap<&str, &Value> = self.orders.iter().map(|row| (text(row, "out_trade_no"), row)).collect();
        assert_eq!((self.orders.len(), orders.len()), (payments.len(), payments.len()), "orders, and payments");
        for payment in payments {
            let (row, back) = (orders[payment.out_trade_no.as_str()], refunded[payment.out_trade_no.as_str()]);
            let state = match back {
                0 => "paid",
                back if back == payment.total => "refunded",
                _ => "partially_refunded",
            };
            assert_eq!(text(row, "state"), state, "{row}");
            assert_eq!((number(row, "paid_minor"), number(row, "refunded_minor")), (payment.total, back), "{row}");
        }
    }

    /// Debits are credits, in each transaction and currency, and balances are the sums of entries.
    #[track_caller]
    pub fn adds_up(&self) {
        let (mut journals, mut sums): (HashMap<(&str, &str), i64>, Sums) = (HashMap::new(), Sums::new());
        let mut ids = HashSet::new();
        for entry in &self.entries {
            assert!(ids.insert(text(entry, "id")), "an entry twice: {entry}");
            let (amount, currency) = (number(entry, "amount_minor"), text(entry, "currency"));
            assert!(amount > 0, "{entry}");
            let sum = sums.entry((text(entry, "account").to_owned(), currency.to_owned())).or_default();
            let side = if entry["side"] == "debit" { (amount, 0) } else { (0, amount) };
            *sum = (sum.0 + side.0, sum.1 + side.1);
            *journals.entry((text(entry, "transaction_id"), currency)).or_default() += side.0 - side.1;
        }
        let odd: Vec<_> = journals.iter().filter(|(_, sum)| **sum != 0).collect();
        assert!(odd.is_empty(), "debits are not credits: {odd:#?}");
        assert_eq!(self.balances(), sums, "balances, and sums of entries");
        let journals: HashSet<&str> = journals.keys().map(|(id, _)| *id).collect();
        let posted = self.transactions.iter().filter(|row| row["state"] == "posted");
        let posted: HashSet<&str> = posted.map(|row| text(row, "id")).collect();
        assert_eq!(journals, posted, "transactions with entries, and posted ones");
    }

    fn balances(&self) -> Sums {
        let mut sums = Sums::new();
        for account in &self.accounts {
            for row in account["balances"].as_array().expect("balances") {
                let (debit, credit) = (number(row, "debit_minor"), number(row, "credit_minor"));
                assert_eq!(number(row, "balance_minor"), debit - credit, "{account}");
                let key = (text(account, "id").to_owned(), text(row, "currency").to_owned());
                sums.insert(key, (debit, credit));
            }
        }
        sums.retain(|_, sum| *sum != (0, 0));
        sums
    }

    /// Merchants heard of each posted callback, under one id, in the order of its order; and of nothing else.
    #[track_caller]
    pub fn was_told(&self, ledger: &Ledger, books: Books) {
        let posted = self.transactions.iter().filter(|row| row["state"] == "posted" && row["kind"] != "fee");
        let posted: HashMap<&str, &Value> = posted.map(|row| (text(row, "id"), row)).collect();
        let told = within(std::time::Duration::from_secs(60), || {
            (books.all("/v1/events").iter().all(|event| event["state"] == "delivered")).then_some(())
        });
        let events = books.all("/v1/events");
        let waiting: Vec<&Value> = events.iter().filter(|event| event["state"] != "delivered").take(3).collect();
        assert!(told.is_some(), "not delivered, {} heard: {waiting:#?}", ledger.merchants.heard().len());
        let (heard, wrong) = (ledger.merchants.heard(), ledger.merchants.wrong());
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert_eq!(events.len(), posted.len(), "events, and posted transactions");
        let mut of: HashMap<&str, &str> = HashMap::new();
        for (id, event) in &heard {
            let transaction = text(&event.data, "id");
            let row = posted.get(transaction).unwrap_or_else(|| panic!("told and not in the books: {event:?}"));
            assert_eq!(of.insert(transaction, id), None, "two events of {transaction}");
            assert_eq!(event.kind, format!("{}.posted", text(row, "kind")));
            assert_eq!(event.merchant, text(row, "merchant"));
            assert_eq!(event.data["amount_minor"], row["amount_minor"]);
        }
        assert_eq!(of.len(), posted.len(), "transactions that merchants heard of, and posted ones");
        // The list is the newest first.
        let mut last: HashMap<&str, usize> = HashMap::new();
        for event in events.iter().rev() {
            let place = heard[text(event, "id")].place;
            if let Some(before) = last.insert(text(event, "order_id"), place) {
                assert!(before < place, "heard before an earlier event of its order: {event}");
            }
        }
    }

    /// An outside bookkeeper agrees.
    #[track_caller]
    pub fn agrees_with_hledger(&self, ledger: &Ledger) {
        let output = ledger.cli(&["export", "--format", "hledger"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = ledger.path("books.journal");
        fs::write(&path, output.stdout).unwrap();
        let hledger = |arguments: &[&str]| {
            let output = Command::new("hledger").arg("-f").arg(&path).args(arguments).output();
            let output = output.expect("hledger is missing; install it: sudo apt-get install hledger");
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        hledger(&["check", "-s", "ordereddates"]);
        let print = hledger(&["print", "-O", "csv"]);
        let mut rows = csv::Reader::from_reader(print.as_bytes());
        let journals: HashSet<String> = rows.records().map(|row| row.unwrap()[0].to_owned()).collect();
        let posted = self.transactions.iter().filter(|row| row["state"] == "posted").count();
        assert_eq!(journals.len(), posted, "journals by hledger, and posted transactions");
        let said = hledger(&["balance", "--flat", "--no-total", "--empty", "--layout", "bare", "-O", "csv"]);
        let theirs: BTreeMap<(String, String), String> = csv::Reader::from_reader(said.as_bytes())
            .records()
            .map(|row| row.unwrap())
            .map(|row| ((row[0].to_owned(), row[1].to_owned()), row[2].to_owned()))
            .filter(|(_, sum)| sum.chars().any(|c| ('1'..='9').contains(&c)))
            .collect();
        let ours = self.balances().into_iter().filter(|(_, (debit, credit))| debit != credit);
        let ours = ours.map(|(key, (debit, credit))| {
            let sum = major(debit - credit, &key.1);
            (key, sum)
        });
        assert_eq!(theirs, ours.collect(), "balances by hledger, and ours");
    }
}

/// `-1234` fen is `-12.34`.
fn major(minor: i64, currency: &str) -> String {
    let digits = if currency == "JPY" { 0 } else { 2 };
    let text = format!("{:0>width$}", minor.unsigned_abs(), width = digits + 1);
    let (whole, part) = text.split_at(text.len() - digits);
    format!("{}{whole}{}{part}", if minor < 0 { "-" } else { "" }, if digits == 0 { "" } else { "." })
}

/// What `ledger verify` says, which must be well.
#[track_caller]
pub fn verified(ledger: &Ledger) {
    let output = ledger.cli(&["verify", "--json"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(&said).unwrap();
    assert!(said["ok"] == true && said["problems"].as_array().is_some_and(Vec::is_empty), "{said:#}");
}

/// Everything, while more is coming: of one reading only what cannot change between its pages.
#[track_caller]
pub fn nothing_is_lost(ledger: &Ledger, books: Books, acknowledged: &[Callback]) {
    let transactions = books.all("/v1/transactions");
    let reading = Reading { transactions, entries: vec![], accounts: vec![], orders: vec![] };
    reading.holds(acknowledged);
    verified(ledger);
}

/// Everything, where all that was sent is acknowledged and nothing more comes.
#[track_caller]
pub fn all_is_well(ledger: &Ledger, books: Books, acknowledged: &[Callback]) {
    let reading = Reading::of(books);
    reading.holds(acknowledged);
    reading.holds_only(acknowledged);
    reading.adds_up();
    let integrity = books.get("/v1/integrity");
    for sum in integrity["sums"].as_array().expect("sums") {
        assert_eq!(sum["debit_minor"], sum["credit_minor"], "{integrity}");
    }
    let anomalies = books.all("/v1/anomalies");
    assert!(anomalies.is_empty(), "{anomalies:#?}");
    reading.was_told(ledger, books);
    verified(ledger);
    reading.agrees_with_hledger(ledger);
}

#[test]
fn minor_units_are_written_as_hledger_writes_them() {
    let written = [(-1234, "CNY"), (5, "USD"), (-100, "EUR"), (77, "JPY")].map(|(n, code)| major(n, code));
    assert_eq!(written, ["-12.34", "0.05", "-1.00", "77"]);
}
