//! Statements against the books: every kind of difference planted, all found, none invented, and nothing new when the same
//! is run again; on both engines.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::orders::{Scene, on_both};
use crate::support::client::{Answer, post};
use crate::support::providers::{Callback, Channel, Refund};

mod files;

use files::{Alipay, Wechat};

/// The day of the callbacks' payments in Shanghai, and that of their refunds.
const PAID: &str = "2026-01-02";
const REFUNDED: &str = "2026-01-03";

impl Scene {
    fn pays(&self, channel: Channel, name: &str, total: i64) {
        let (payment, out_trade_no) = (format!("{name}-pay"), format!("{name}-order"));
        self.takes(&Callback { channel, refund: None, payment, out_trade_no, total });
    }

    fn gives_back(&self, channel: Channel, name: &str, (amount, total): (i64, i64)) {
        let refund = Some(Refund { number: format!("{name}-back"), amount, cumulative: amount });
        let (payment, out_trade_no) = (format!("{name}-pay"), format!("{name}-order"));
        self.takes(&Callback { channel, refund, payment, out_trade_no, total });
    }

    #[track_caller]
    fn takes(&self, callback: &Callback) {
        let answer = self.process.ask(&callback.request()).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.ledger.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// By the command: its exit code, and the report.
    #[track_caller]
    fn reconciles(&self, channel: &str, bytes: &[u8], more: &[&str]) -> (i32, Value) {
        let path = self.file("statement", bytes);
        let words = [&["reconcile", channel, path.to_str().unwrap(), "--json"], more].concat();
        let done = self.ledger.cli(&words);
        let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        let report = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
        (done.status.code().unwrap(), report)
    }

    #[track_caller]
    fn refuses(&self, channel: &str, bytes: &[u8], more: &[&str], why: &str) {
        let path = self.file("statement", bytes);
        let done = self.ledger.cli(&[&["reconcile", channel, path.to_str().unwrap()], more].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(why), "{said}");
    }

    fn send(&self, token: &str, query: &str, bytes: &[u8]) -> Answer {
        let request =
            post(&format!("/v1/reconciliations?{query}"), bytes).header("authorization", format!("Bearer {token}"));
        self.process.ask(&request).unwrap()
    }

    fn dismiss(&self, anomaly: &Value) {
        let path = format!("/v1/anomalies/{}/resolve", anomaly["id"].as_str().unwrap());
        let answer = self.post(&path, "", &json!({"action": "dismiss", "note": "seen"}));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn minor(&self, account: &str) -> i64 {
        self.get(&format!("/v1/accounts/{account}"))["balances"][0]["balance_minor"].as_i64().unwrap()
    }
}

/// The kinds of a report's anomalies with the names that they are about.
fn kinds(report: &Value) -> BTreeSet<String> {
    let shown = |one: &Value| {
        let name = one["detail"].as_str().unwrap().split(['-', ':']).next().unwrap().to_owned();
        format!("{} {name}", one["kind"].as_str().unwrap())
    };
    report["anomalies"].as_array().unwrap().iter().map(shown).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The channel charges a fee from now on.
fn with_fee(scene: &mut Scene, channel: &str, fee: &str) {
    let file = scene.ledger.path("ledger1.toml");
    let table = format!("[ledger.channel.{channel}]\n");
    let text = fs::read_to_string(&file).unwrap().replace(&table, &format!("{table}fee = {fee}\n"));
    fs::write(&file, text).unwrap();
    scene.process.kill9();
    scene.process.run(&scene.ledger.disk);
}

#[test]
fn a_statement_of_wechat_pay_tells_all_that_differs() {
    on_both(|scene| {
        with_fee(scene, "wechat", "{ percent = 0.6 }");
        for name in ["fine", "less", "absent", "twice", "later", "dear"] {
            scene.pays(Channel::Wechat, name, 10_000);
        }
        let mut file = Wechat::default();
        file.pays("fine", 10_000, (PAID, "0.60000"));
        file.pays("less", 9_000, (PAID, "0.54000"));
        file.pays("twice", 10_000, (PAID, "0.60000"));
        file.pays("twice", 10_000, (PAID, "0.60000"));
        file.pays("later", 10_000, (REFUNDED, "0.60000"));
        file.pays("dear", 10_000, (PAID, "0.71000"));
        file.pays("lost", 500, (PAID, "0.03000"));
        let (code, report) = scene.reconciles("wechat", &file.bytes(), &["--date", PAID]);
        assert_eq!(
            (code, &report["state"], &report["rows"], &report["matched"]),
            (1, &json!("done"), &json!(7), &json!(2))
        );
        let planted = [
            "amount_differs less",
            "missing_in_statement absent",
            "duplicate_number twice",
            "wrong_day later",
            "fee_differs dear",
            "missing_in_ledger lost",
        ];
        assert_eq!(kinds(&report), set(&planted));

        // The refunds of the day after.
        scene.gives_back(Channel::Wechat, "fine", (1_000, 10_000));
        scene.gives_back(Channel::Wechat, "absent", (2_000, 10_000));
        scene.gives_back(Channel::Wechat, "early", (500, 500));
        let mut refunds = Wechat::default();
        refunds.gives_back("fine", (1_000, 10_000), (REFUNDED, "SUCCESS"));
        refunds.gives_back("absent", (2_000, 10_000), (REFUNDED, "CHANGE"));
        refunds.gives_back("early", (500, 500), (REFUNDED, "SUCCESS"));
        refunds.gives_back("never", (500, 500), (REFUNDED, "CLOSED"));
        let (code, other) = scene.reconciles("wechat", &refunds.zipped(), &[]);
        assert_eq!((code, &other["date"], &other["matched"]), (1, &json!(REFUNDED), &json!(2)));
        assert_eq!(kinds(&other), set(&["status_differs absent", "refund_without_payment early"]));

        // Again: nothing new. What is resolved stays so, and what is mended is resolved with its reason.
        let before = scene.get("/v1/integrity")["sequence"].clone();
        let (code, again) = scene.reconciles("wechat", &file.bytes(), &["--date", PAID]);
        assert_eq!((code, &again), (1, &report));
        assert_eq!(scene.get("/v1/integrity")["sequence"], before, "nothing is written");
        report["anomalies"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["kind"] != "missing_in_ledger")
            .for_each(|one| scene.dismiss(one));
        let (code, _) = scene.reconciles("wechat", &file.bytes(), &["--date", PAID]);
        assert_eq!(code, 1, "the lost one is open");
        scene.pays(Channel::Wechat, "lost", 500);
        let (code, mended) = scene.reconciles("wechat", &file.bytes(), &["--date", PAID]);
        assert_eq!((code, mended["anomalies"].as_array().unwrap().len()), (0, planted.len()), "{mended}");
        scene.is_whole();
    });
}

#[test]
fn a_statement_of_alipay_books_the_fees_once() {
    on_both(|scene| {
        for name in ["fine", "absent"] {
            scene.pays(Channel::Alipay, name, 10_000);
        }
        scene.gives_back(Channel::Alipay, "fine", (1_000, 10_000));
        let mut file = Alipay::of(PAID);
        file.pays("fine", 10_000, "-0.60");
        file.pays("lost", 100, "-0.01");
        let (code, report) = scene.reconciles("alipay", &file.zipped(&scene.ledger.path("")), &[]);
        assert_eq!(
            (code, &report["date"], &report["rows"], &report["matched"]),
            (1, &json!(PAID), &json!(2), &json!(1))
        );
        assert_eq!(kinds(&report), set(&["missing_in_statement absent", "missing_in_ledger lost"]));
        assert_eq!((scene.minor("expenses:fee:alipay"), scene.minor("assets:channel:alipay")), (61, 19_000 - 61));
        let mut corrected = Alipay::of(PAID);
        corrected.pays("fine", 10_000, "-0.60");
        corrected.pays("absent", 10_000, "-0.60");
        let (code, report) = scene.reconciles("alipay", &corrected.zipped(&scene.ledger.path("")), &["--date", PAID]);
        let open: Vec<&Value> =
            report["anomalies"].as_array().unwrap().iter().filter(|one| one["state"] == "open").collect();
        assert_eq!((code, open.len(), &open[0]["kind"]), (1, 1, &json!("fee_differs")), "{report}");
        assert_eq!(scene.minor("expenses:fee:alipay"), 61, "once for a statement");
        // The refund, by its request's number, on its own day.
        let mut refunds = Alipay::of(REFUNDED);
        refunds.gives_back("fine", 1_000, "0.06");
        let (code, report) = scene.reconciles("alipay", &refunds.zipped(&scene.ledger.path("")), &[]);
        assert_eq!((code, &report["anomalies"]), (0, &json!([])), "{report}");
        assert_eq!(scene.minor("expenses:fee:alipay"), 61 - 6);
        scene.is_whole();
        let exported = scene.ledger.cli(&["export", "--format", "hledger"]);
        let file = scene.file("books.journal", &exported.stdout);
        let checked = Command::new("hledger").arg("-f").arg(file).args(["check", "-s", "ordereddates"]).output();
        let checked = checked.expect("hledger is missing; install it: sudo apt-get install hledger");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    });
}

#[test]
fn what_is_no_statement_of_that_day_changes_nothing() {
    let scene = Scene::with_own();
    scene.pays(Channel::Wechat, "fine", 10_000);
    let mut file = Wechat::default();
    file.pays("fine", 10_000, (PAID, "0.60000"));
    let whole = file.bytes();
    let before = scene.get("/v1/integrity")["sequence"].clone();
    scene.refuses("wechat", &whole[..whole.len() - 60], &[], "");
    scene.refuses("wechat", b"hello", &[], "");
    scene.refuses("wechat", b"", &[], "");
    scene.refuses("wechat", &whole, &["--date", "2026-01-05"], "no row of 2026-01-05");
    scene.refuses("alipay", &whole, &[], "");
    scene.refuses("nobody", &whole, &[], "there is no channel nobody");
    let zipped = Alipay::of(PAID).zipped(&scene.ledger.path(""));
    scene.refuses("alipay", &zipped, &["--date", REFUNDED], "is the statement of 2026-01-02");
    scene.refuses("alipay", &zipped[..zipped.len() / 2], &[], "");
    let broken = String::from_utf8(whole.clone()).unwrap().replace("`100.00", "`1x0.00");
    scene.refuses("wechat", broken.as_bytes(), &[], "line 2");
    assert_eq!(scene.get("/v1/integrity")["sequence"], before, "nothing is written");
    let token = scene.ledger.token.clone();
    scene.send(super::orders::OWN, "channel=wechat", &whole).is_problem(403, "platform_only");
    scene.send(&token, "channel=nobody", &whole).is_problem(404, "not_found");
    scene.send(&token, "channel=wechat&date=yesterday", &whole).is_problem(400, "bad_query");
    scene.send(&token, "channel=wechat&date=2026-01-05", &whole).is_problem(422, "wrong_date");
    let done = scene.send(&token, "channel=wechat", &whole);
    assert_eq!(done.status, 201, "{}", done.text());
    let path = format!("/v1/reconciliations/{}", done.json()["id"].as_str().unwrap());
    let books = scene.process.books(&token);
    assert_eq!(books.get(&path), done.json());
    assert_eq!(done.json()["anomalies"], json!([]));
}
