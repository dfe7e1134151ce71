//! `tollgate ledger archive` and `restore`: the messages of a day leave the store and come back, and the books are whole
//! all the while.

use std::fs;

use config::model::ledger::Store as Place;
use ledger::archive::Books;
use ledger::store::operator::{self, Operator, Statement};
use ledger::store::{self, StoreError};
use ledger::{audit, query};
use serde_json::Value;

use super::parties::note;
use crate::support::clock::Clock;
use crate::support::ledger::{Ledger, Process};
use crate::support::postgres::Postgres;

const DAY: i64 = 86_400;
const YESTERDAY: &str = "yesterday.archive";

struct Scene {
    ledger: Ledger,
    process: Process,
    place: Place,
    day: String,
}

/// A ledger that took 300 payments yesterday, and one today.
fn scene(store: &str) -> Scene {
    let mut ledger = Ledger::on(store);
    let place = match store.strip_prefix("sqlite:") {
        Some(name) => Place::Sqlite(ledger.path("state").join(name)),
        None => Place::Postgres { url: store.to_owned(), password: None },
    };
    let clock = Clock::within(&ledger.path(""));
    clock.ahead(-DAY);
    let mut process = ledger.run_by(&clock);
    (0..300).for_each(|n| assert_eq!(process.ask(&note(n, 100)).unwrap().status, 200));
    let day = last_day(&process, &ledger);
    clock.ahead(0);
    process.kill9();
    process.run(&ledger.disk);
    assert_eq!(process.ask(&note(300, 100)).unwrap().status, 200);
    Scene { ledger, process, place, day }
}

/// The day on which the last transaction was recorded.
fn last_day(process: &Process, ledger: &Ledger) -> String {
    let rows = process.books(&ledger.token).all("/v1/transactions");
    rows[0]["recorded_at"].as_str().unwrap()[..10].to_owned()
}

impl Scene {
    #[track_caller]
    fn does(&self, words: &[&str]) -> Value {
        let done = self.ledger.cli(&[words, &["--json"]].concat());
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_str(&said).unwrap()
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], why: &str) {
        let done = self.ledger.cli(words);
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(why), "{said}");
    }

    fn verified(&self) -> bool {
        self.ledger.cli(&["verify"]).status.success()
    }

    /// What an attacker does who can write to the store only.
    fn by_hand(&self, sql: &str) {
        match &self.place {
            Place::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            Place::Postgres { url, .. } => Postgres::client(url).batch_execute(sql).unwrap(),
        }
    }
}

fn a_day_leaves_and_comes_back(store: &str) {
    let scene = scene(store);
    let (ledger, day) = (&scene.ledger, &*scene.day);
    let archive = |file: &str| ledger.cli(&["archive", day, file]);
    scene.refuses(&["archive", "2999-01-01", YESTERDAY], "is not over");
    scene.refuses(&["archive", "2020-01-01", YESTERDAY], "nothing was received");
    scene.refuses(&["archive", day, "secrets/ledger.key"], "it exists");
    let done = scene.does(&["archive", day, YESTERDAY]);
    assert_eq!((&done["rows"], done["day"].as_str()), (&Value::from(300), Some(day)));
    assert!(scene.verified(), "its rows are where the mark says");
    let whole = fs::read_to_string(ledger.path(YESTERDAY)).unwrap();
    assert!(whole.lines().count() == 302 && !whole.contains("o-"), "it is encrypted as before");
    // It goes on: callbacks, reads and duplicates of that day.
    assert_eq!(scene.process.ask(&note(301, 100)).unwrap().status, 200);
    assert_eq!(scene.process.ask(&note(7, 100)).unwrap().status, 200);
    assert_eq!(scene.process.books(&ledger.token).all("/v1/transactions").len(), 302);
    assert!(archive(YESTERDAY).status.success(), "again is as once");
    scene.refuses(&["archive", day, "other"], "is archived already");

    // Whoever can only write to the store hides nothing behind it.
    scene.by_hand("UPDATE evidence SET headers = substr(headers, 1, 0), body = substr(body, 1, 0) WHERE seq = (SELECT MAX(seq) FROM evidence)");
    assert!(!scene.verified(), "a row of a day that is not archived");
    scene.by_hand(&format!(
        "INSERT INTO archives SELECT '{}', rows, digest, mac FROM archives",
        last_day(&scene.process, ledger)
    ));
    assert!(!scene.verified(), "a mark that the key did not make");
}

fn a_changed_file_does_not_come_back(store: &str) {
    let scene = scene(store);
    let (ledger, day) = (&scene.ledger, &*scene.day);
    scene.does(&["archive", day, YESTERDAY]);
    let whole = fs::read_to_string(ledger.path(YESTERDAY)).unwrap();
    let changed = whole.replacen("\"body\":\"", "\"body\":\"AAAA", 1);
    let short: Vec<&str> = whole.lines().take(200).collect();
    let less: Vec<&str> = whole.lines().enumerate().filter(|(at, _)| *at != 5).map(|(_, line)| line).collect();
    for (text, why) in [
        (changed, "was changed"),
        (short.join("\n"), "ends early"),
        (less.join("\n") + "\n", "was changed"),
        ("{}".to_owned(), "no archive"),
        (whole.clone() + "more", "was changed"),
    ] {
        fs::write(ledger.path("wrong"), text).unwrap();
        scene.refuses(&["restore", "wrong"], why);
    }
    scene.refuses(&["restore", "missing"], "No such file");
    assert!(scene.verified());
    assert_eq!(scene.does(&["restore", YESTERDAY])["rows"], 300);
    assert!(scene.verified());
    scene.refuses(&["restore", YESTERDAY], "is not archived");
}

/// An operator that dies after so many transactions.
struct Dying(Box<dyn Operator>, usize);

impl Operator for Dying {
    fn run(&mut self, statements: &[Statement<'_>]) -> Result<(), StoreError> {
        self.1 = self.1.checked_sub(1).ok_or_else(|| StoreError::Lost("it died".to_owned()))?;
        self.0.run(statements)
    }
}

fn killed_it_is_run_again(store: &str) {
    let scene = scene(store);
    let conf = config::load(&scene.ledger.path("ledger1.toml")).unwrap().config.ledger.unwrap();
    let mut reader = store::reader(&scene.place).unwrap();
    let wraps = query::wraps(&mut *reader).unwrap();
    let (ring, _) = audit::keys::open(&conf.encryption_keys, &wraps).unwrap();
    let file = scene.ledger.path(YESTERDAY);
    let date = scene.day.parse().unwrap();
    // Before the mark, behind it, and with half of the rows.
    for lives in [0, 1, 1] {
        let mut operator = Dying(operator::open(&scene.place).unwrap(), lives);
        let mut books = Books { reader: &mut *reader, operator: &mut operator, key: ring.chain() };
        assert!(books.archive(date, &file).is_err());
        assert!(scene.verified(), "archived, and dead after {lives}");
        if lives == 0 {
            // There is a file, and no mark: it is nobody's.
            fs::remove_file(&file).unwrap();
        }
    }
    assert_eq!(scene.does(&["archive", &scene.day, YESTERDAY])["rows"], 300);
    for lives in 0..3 {
        let mut operator = Dying(operator::open(&scene.place).unwrap(), lives);
        let mut books = Books { reader: &mut *reader, operator: &mut operator, key: ring.chain() };
        assert!(books.restore(&file).is_err());
        assert!(scene.verified(), "restored, and dead after {lives}");
    }
    assert_eq!(scene.does(&["restore", YESTERDAY])["rows"], 300);
    assert!(scene.verified());
}

#[test]
fn a_day_is_archived_and_put_back() {
    a_day_leaves_and_comes_back("sqlite:ledger.db");
    a_changed_file_does_not_come_back("sqlite:ledger.db");
    killed_it_is_run_again("sqlite:ledger.db");
}

#[test]
fn a_day_is_archived_and_put_back_on_postgresql() {
    let server = Postgres::start();
    a_day_leaves_and_comes_back(&server.create("one"));
    a_changed_file_does_not_come_back(&server.create("two"));
    killed_it_is_run_again(&server.create("three"));
}
