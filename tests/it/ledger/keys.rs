//! `tollgate ledger keys`: what is rotated or erased is gone from the store, and nothing else is.

use std::fs;
use std::path::{Path, PathBuf};

use config::model::ledger::Store as Place;
use ledger::query;
use ledger::rows::Wrap;
use ledger::store::erase::{Which, erase};
use ledger::store::{self, Changes};
use serde_json::Value;
use uuid::Uuid;

use super::older::to_version_1;
use crate::support::clock::Clock;
use crate::support::eventually;
use crate::support::ledger::{Ledger, Process, files};
use crate::support::postgres::Postgres;
use crate::support::providers::{Callback, Channel, hex, random};

const DAY: i64 = 86_400;

/// Which of these stand in files below the folder.
fn held<'w>(folder: &Path, wraps: &'w [Wrap]) -> Vec<&'w Wrap> {
    let all: Vec<Vec<u8>> = files(folder).iter().map(|file| fs::read(file).unwrap()).collect();
    let holds =
        |wrap: &&Wrap| all.iter().any(|bytes| bytes.windows(wrap.wrapped.len()).any(|part| part == wrap.wrapped));
    wraps.iter().filter(holds).collect()
}

/// Of very many keys, which made the engine split pages, none is left of a day that is erased, whoever reads meanwhile.
fn nothing_is_left(place: &Place, folder: &Path, written: impl Fn()) {
    let wrap = |n: i64| Wrap {
        id: Uuid::now_v7(),
        by: "a fingerprint".to_owned(),
        purpose: "data".to_owned(),
        day: ["2026-11-20", "2026-11-21"][n as usize % 2].to_owned(),
        wrapped: random::<60>().to_vec(),
        created_at: n,
    };
    let all: Vec<Wrap> = (0..60).map(wrap).collect();
    let mut store = store::open(place).unwrap().unwrap();
    for wrap in &all {
        store.begin().unwrap();
        store.write(&Changes { wraps: vec![wrap.clone()], ..Changes::default() }).unwrap();
        store.commit().unwrap();
    }
    drop(store);
    written();
    assert_eq!(held(folder, &all).len(), 60);
    let done = erase(place, Which::Day("2026-11-20")).unwrap();
    assert_eq!((done.wraps, done.rest), (30, None));
    written();
    let left = held(folder, &all);
    assert_eq!(left.iter().filter(|wrap| wrap.day == "2026-11-20").count(), 0);
    assert_eq!((left.len(), query::wraps(&mut *store::reader(place).unwrap()).unwrap().len()), (30, 30));
}

#[test]
fn nothing_is_left_of_sixty_keys() {
    let folder = tempfile::tempdir().unwrap();
    nothing_is_left(&Place::Sqlite(folder.path().join("ledger.db")), folder.path(), || {});
}

#[test]
fn nothing_is_left_of_sixty_keys_on_postgresql_while_somebody_reads() {
    let server = Postgres::start();
    let place = Place::Postgres { url: server.url(), password: None };
    drop(store::open(&place).unwrap());
    // A view that is as old as the keys.
    let mut reader = Postgres::client(&server.url());
    let mut view =
        reader.build_transaction().isolation_level(postgres::IsolationLevel::RepeatableRead).start().unwrap();
    view.query_one("SELECT COUNT(*) FROM chain", &[]).unwrap();
    nothing_is_left(&place, &server.tables(), || {
        Postgres::client(&server.url()).batch_execute("CHECKPOINT").unwrap();
    });
    view.query_one("SELECT COUNT(*) FROM chain", &[]).unwrap();
}

struct Scene {
    ledger: Ledger,
    process: Process,
    place: Place,
    /// Where its store has its files.
    folder: PathBuf,
    clock: Clock,
}

impl Scene {
    /// A ledger that took a payment yesterday, and one today.
    fn on(store: &str, tables: Option<PathBuf>) -> Scene {
        let mut ledger = Ledger::on(store);
        let place = match store.strip_prefix("sqlite:") {
            Some(name) => Place::Sqlite(ledger.path("state").join(name)),
            None => Place::Postgres { url: store.to_owned(), password: None },
        };
        let folder = tables.unwrap_or_else(|| ledger.path("state"));
        let clock = Clock::within(&ledger.path(""));
        clock.ahead(-DAY);
        let process = ledger.run_by(&clock);
        let mut scene = Scene { ledger, process, place, folder, clock };
        scene.pays("yesterday");
        scene.clock.ahead(0);
        scene.again();
        scene.pays("today");
        scene
    }

    fn pays(&self, name: &str) {
        let (payment, out_trade_no) = (format!("p-{name}"), format!("o-{name}"));
        let callback = Callback { channel: Channel::Generic, refund: None, payment, out_trade_no, total: 100 };
        assert_eq!(self.process.ask(&callback.request()).unwrap().status, 200);
    }

    fn again(&mut self) {
        self.process.kill9();
        self.process.run(&self.ledger.disk);
    }

    /// These files hold the encryption keys from the next start on.
    fn keys_are(&self, names: &str) {
        let file = self.ledger.path("ledger1.toml");
        let text = fs::read_to_string(&file).unwrap();
        let line = text.lines().find(|line| line.starts_with("encryption_key_files")).unwrap();
        fs::write(&file, text.replace(line, &format!("encryption_key_files = [{names}]"))).unwrap();
    }

    fn wraps(&self) -> Vec<Wrap> {
        query::wraps(&mut *store::reader(&self.place).unwrap()).unwrap()
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let done = self.ledger.cli(&[&["keys"], words].concat());
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        said
    }

    #[track_caller]
    fn refuses(&self, words: &[&str], why: &str) {
        let done = self.ledger.cli(&[&["keys"], words].concat());
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success() && said.contains(why), "{said}");
    }

    /// The store's files hold none of these.
    #[track_caller]
    fn holds_none(&self, wraps: &[Wrap]) {
        assert!(!wraps.is_empty() && self.wraps().iter().all(|wrap| !wraps.contains(wrap)));
        if let Place::Postgres { url, .. } = &self.place {
            Postgres::client(url).batch_execute("CHECKPOINT").unwrap();
        }
        assert_eq!(held(&self.folder, wraps), [] as [&Wrap; 0]);
    }

    #[track_caller]
    fn is_whole(&self) {
        let said = self.ledger.cli(&["verify"]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }
}

fn rotated_and_erased(store: &str, tables: Option<PathBuf>) {
    let mut scene = Scene::on(store, tables);
    let days =
        |wraps: &[Wrap]| wraps.iter().map(|wrap| wrap.day.clone()).filter(|day| !day.is_empty()).collect::<Vec<_>>();
    let [yesterday, today] = <[String; 2]>::try_from(days(&scene.wraps())).unwrap();

    // A day that is over.
    let old: Vec<Wrap> = scene.wraps().into_iter().filter(|wrap| wrap.day == yesterday).collect();
    scene.refuses(&["erase", &today], "not over");
    scene.refuses(&["erase", "2026-02-31"], "is no day");
    let said = scene.does(&["erase", &yesterday]);
    assert!(said.contains("can be decrypted no more") && said.contains("archived write-ahead logs"), "{said}");
    scene.holds_none(&old);
    assert!(scene.does(&["erase", &yesterday]).contains("has no key"));
    scene.is_whole();

    // A new encryption key: the ledger that runs must have it before the old wraps go.
    let before = scene.wraps();
    fs::write(scene.ledger.path("secrets/new.key"), hex(&random::<32>())).unwrap();
    scene.keys_are("\"secrets/new.key\", \"secrets/ledger.key\"");
    scene.refuses(&["rotate"], "a ledger runs with other keys");
    assert_eq!(scene.wraps(), before);
    scene.again();
    scene.pays("after");
    assert_eq!(days(&scene.wraps()).iter().filter(|day| **day == today).count(), 3, "a new data key is begun");
    assert!(scene.does(&["list"]).contains("`keys rotate`"));
    let said = scene.does(&["rotate"]);
    assert!(said.contains("alone wraps the 3 keys now") && said.contains("backups"), "{said}");
    scene.holds_none(&before);
    let listed: Value = serde_json::from_str(&scene.does(&["list", "--json"])).unwrap();
    let by: Vec<&Value> = listed["data"].as_array().unwrap().iter().map(|key| &key["wrapped_by"]).collect();
    assert!(by.iter().all(|by| **by == serde_json::json!([listed["encrypts"]])), "{listed}");

    // The old key may go.
    scene.keys_are("\"secrets/new.key\"");
    scene.again();
    scene.pays("last");
    scene.is_whole();

    // Where no ledger runs, the command writes the new wraps itself.
    scene.process.kill9();
    fs::write(scene.ledger.path("secrets/next.key"), hex(&random::<32>())).unwrap();
    scene.keys_are("\"secrets/next.key\", \"secrets/new.key\"");
    let before = scene.wraps();
    scene.does(&["rotate"]);
    scene.holds_none(&before);
    let known: Vec<_> = before.iter().map(|wrap| wrap.id).collect();
    assert!(scene.wraps().iter().any(|wrap| wrap.day == today && !known.contains(&wrap.id)), "and a new data key");
    scene.keys_are("\"secrets/next.key\"");
    scene.process.run(&scene.ledger.disk);
    scene.pays("in the end");
    scene.is_whole();

    // It leaves an older build's store to a ledger.
    scene.process.kill9();
    drop(eventually("the lock is free", || store::open(&scene.place).unwrap()));
    to_version_1(&scene.place);
    scene.refuses(&["rotate"], "of an older tollgate");
    let read = store::reader(&scene.place).map(drop).unwrap_err().to_string();
    assert!(read.contains("of an older tollgate"), "{read}");
}

#[test]
fn keys_are_rotated_and_erased_and_the_store_holds_none_of_them() {
    rotated_and_erased("sqlite:ledger.db", None);
}

#[test]
fn keys_are_rotated_and_erased_on_postgresql() {
    let server = Postgres::start();
    rotated_and_erased(&server.url(), Some(server.tables()));
}
