//! What only PostgreSQL does: it is killed, its sessions are cut, another takes the books over.

use std::thread;
use std::time::Duration;

use config::model::ledger::Store as Place;
use ledger::rows::{Evidence, Transaction, Typed};
use ledger::store::{self, Changes, MeaningKey, Store, StoreError, Wanted};
use providers::event::Kind;
use rustix::process::Signal;

use super::alike::{CHECKS, keep_callback, open, rows};
use super::rows::callback;
use crate::ledger::parties::note;
use crate::support::eventually;
use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres;
use crate::support::wait::within;

fn place(url: String) -> Place {
    Place::Postgres { url, password: None }
}

fn lost<T>(answer: Result<T, StoreError>) {
    match answer {
        Err(StoreError::Lost(_)) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it went well"),
    }
}

/// Begins a transaction, by the question that it begins with.
fn begun(store: &mut dyn Store) -> Result<(), StoreError> {
    store.begin()?;
    store.load(&Wanted::default()).map(drop)
}

#[test]
fn postgresql_does_what_every_store_does() {
    let server = Postgres::start();
    for (at, (name, check)) in CHECKS.iter().enumerate() {
        eprintln!("{name}");
        check(&place(server.create(&format!("books{at}"))));
    }
}

#[test]
fn after_a_kill_of_the_server_what_was_committed_is_there() {
    let mut server = Postgres::start();
    let place = place(server.url());
    let mut store = open(&place);
    let a = keep_callback(&mut *store, 1, "a");
    store.begin().unwrap();
    store.write(&callback(a.last() + 1, "b").changes()).unwrap();
    server.kill9();
    lost(store.commit());
    store.rollback();
    lost(begun(&mut *store));
    lost(store.idle());
    assert!(matches!(store::open(&place), Err(StoreError::Lost(_))), "there is no server");
    server.again();
    let mut store = open(&place);
    assert_eq!(store.heads().unwrap().seq, a.last());
    keep_callback(&mut *store, a.last() + 1, "b");
    assert_eq!(rows::<Transaction>(&mut *store::reader(&place).unwrap()).len(), 2);

    server.stop_fast();
    lost(begun(&mut *store));
    server.again();
    assert_eq!(open(&place).heads().unwrap().seq, 2 * a.last());
}

#[test]
fn a_writer_that_was_replaced_stops_before_it_writes() {
    let server = Postgres::start();
    let place = place(server.url());
    let mut store = open(&place);
    let a = keep_callback(&mut *store, 1, "a");
    store.idle().unwrap();
    Postgres::client(&server.url()).batch_execute("UPDATE writer SET epoch = epoch + 1").unwrap();
    lost(store.idle());
    lost(begun(&mut *store));
    assert!(store.write(&callback(a.last() + 1, "b").changes()).is_err());
    assert!(store.commit().is_err());
    store.rollback();
    assert_eq!(rows::<Evidence>(&mut *store::reader(&place).unwrap()), [a.evidence]);
}

#[test]
fn a_commit_leaves_no_version_of_the_writers_row_and_holds_off_who_takes_over() {
    let server = Postgres::start();
    let place = place(server.url());
    let mut store = open(&place);
    let mut client = Postgres::client(&server.url());
    let mut version = || client.query_one("SELECT ctid::text FROM writer", &[]).unwrap().get::<_, String>(0);
    let (before, mut last) = (version(), 0);
    for name in ["a", "b", "c"] {
        last = keep_callback(&mut *store, last + 1, name).last();
    }
    assert_eq!(version(), before);
    // Within a transaction nobody raises the epoch; after it nothing is begun any more.
    begun(&mut *store).unwrap();
    let url = server.url();
    let raise = "SET lock_timeout = '300ms'; UPDATE writer SET epoch = epoch + 1";
    let held = Postgres::client(&url).batch_execute(raise).unwrap_err();
    assert_eq!(held.code().map(|code| code.code()), Some("55P03"), "{held}");
    store.write(&callback(last + 1, "d").changes()).unwrap();
    store.commit().unwrap();
    Postgres::client(&url).batch_execute(raise).unwrap();
    lost(begun(&mut *store));
}

#[test]
fn a_writer_whose_session_is_cut_loses_the_books_to_the_next() {
    let server = Postgres::start();
    let place = place(server.url());
    let mut store = open(&place);
    let a = keep_callback(&mut *store, 1, "a");
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tollgate-ledger'";
    Postgres::client(&server.url()).batch_execute(cut).unwrap();
    let mut next = eventually("the next one has the lock", || store::open(&place).unwrap());
    keep_callback(&mut *next, a.last() + 1, "b");
    lost(begun(&mut *store));
    assert!(store::open(&place).unwrap().is_none());
}

#[test]
fn a_writer_that_froze_is_disconnected_in_ten_seconds() {
    let server = Postgres::start();
    let place = place(server.url());
    // Nothing is called for a while, between transactions or within one: as a stopped process.
    for within_one in [false, true] {
        let mut store = eventually("the lock is free", || store::open(&place).unwrap());
        let last = store.heads().unwrap().seq;
        if within_one {
            store.begin().unwrap();
            store.write(&callback(last + 1, "frozen").changes()).unwrap();
        }
        let mut next = within(Duration::from_secs(18), || store::open(&place).unwrap()).expect("it takes over");
        assert_eq!(next.heads().unwrap().seq, last);
        lost(if within_one { store.commit() } else { begun(&mut *store) });
        keep_callback(&mut *next, last + 1, if within_one { "b" } else { "a" });
    }
}

#[test]
fn a_server_that_does_not_sync_is_refused() {
    for setting in ["fsync", "full_page_writes"] {
        let server = Postgres::with(&[(setting, "off")]);
        match store::open(&place(server.url())) {
            Err(StoreError::Row(why)) => assert!(why.contains(&format!("{setting} = off")), "{why}"),
            other => panic!("{:?}", other.map(|opened| opened.is_some())),
        }
    }
}

/// Sets it under whoever is connected.
fn set(server: &Postgres, setting: &str, value: &str) {
    let mut operator = Postgres::client(&server.url());
    operator.batch_execute(&format!("ALTER SYSTEM SET {setting} = {value}")).unwrap();
    operator.batch_execute("SELECT pg_reload_conf()").unwrap();
    eventually("the server follows", || {
        let row = Postgres::client(&server.url()).query_one(&format!("SHOW {setting}"), &[]).unwrap();
        (row.get::<_, String>(0) == value).then_some(())
    });
}

#[test]
fn a_server_that_no_longer_syncs_is_written_to_no_more() {
    for (setting, busy) in [("fsync", true), ("full_page_writes", false)] {
        let server = Postgres::start();
        let place = place(server.url());
        let mut store = open(&place);
        keep_callback(&mut *store, 1, "a");
        set(&server, setting, "off");
        let poisoned = eventually("the writer sees it", || {
            thread::sleep(Duration::from_millis(100));
            if busy {
                let last = store.heads().unwrap().seq;
                let kept = store.begin().and_then(|()| store.write(&callback(last + 1, &last.to_string()).changes()));
                kept.and_then(|()| store.commit()).err()
            } else {
                store.idle().err()
            }
        });
        assert!(matches!(&poisoned, StoreError::Poisoned(why) if why.contains(setting)), "{poisoned:?}");
    }
}

#[test]
fn a_writers_commits_wait_whatever_the_servers_files_say_later() {
    let server = Postgres::start();
    let mut store = open(&place(server.url()));
    keep_callback(&mut *store, 1, "a");
    set(&server, "synchronous_commit", "off");
    // No session may look into another's settings: what its commits wait for shows whether it waits.
    set(&server, "synchronous_standby_names", "nobody");
    let writer = thread::spawn(move || {
        eventually("a commit is cancelled", || {
            let last = store.heads().unwrap().seq;
            store.begin().unwrap();
            store.write(&callback(last + 1, &format!("{last}")).changes()).unwrap();
            store.commit().err()
        })
    });
    let mut operator = Postgres::client(&server.url());
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waits = within(Duration::from_secs(10), || (!operator.query(cancel, &[]).unwrap().is_empty()).then_some(()));
    assert!(waits.is_some(), "commits are acknowledged without waiting");
    assert!(matches!(writer.join().unwrap(), StoreError::Lost(_)));
}

#[test]
fn a_commit_that_no_standby_confirmed_is_lost() {
    // Of a server that tells its sessions not to wait, too: the writer's session waits all the same.
    let server = Postgres::with(&[("synchronous_commit", "off")]);
    // Nor does a role that hides warnings hide that one.
    let mut role = Postgres::client(&server.url());
    role.batch_execute("ALTER ROLE tollgate SET client_min_messages = error").unwrap();
    let place = place(server.url());
    let mut store = open(&place);
    let a = keep_callback(&mut *store, 1, "a");
    let mut operator = Postgres::client(&server.url());
    operator.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").unwrap();
    operator.batch_execute("SELECT pg_reload_conf()").unwrap();
    eventually("the server waits for its standby", || {
        let row = operator.query_one("SHOW synchronous_standby_names", &[]).unwrap();
        (row.get::<_, String>(0) == "nobody").then_some(())
    });
    let writer = thread::spawn(move || {
        // The setting reaches this session with its next command or the one after.
        eventually("a commit is cancelled", || {
            let last = store.heads().unwrap().seq;
            store.begin().unwrap();
            store.write(&callback(last + 1, &format!("{last}")).changes()).unwrap();
            store.commit().err()
        })
    });
    let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually("the commit waits", || (!operator.query(cancel, &[]).unwrap().is_empty()).then_some(()));
    let failure = writer.join().unwrap();
    assert!(matches!(&failure, StoreError::Lost(why) if why.contains("synchronous replication")), "{failure:?}");
    // It is here all the same: the next writer finds it.
    operator.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").unwrap();
    operator.batch_execute("SELECT pg_reload_conf()").unwrap();
    let mut next = eventually("the lock is free", || store::open(&place).unwrap());
    assert!(next.heads().unwrap().seq > a.last());
}

#[test]
fn a_table_of_somebody_else_is_left_alone() {
    let server = Postgres::start();
    Postgres::client(&server.url()).batch_execute("CREATE TABLE orders (theirs INT)").unwrap();
    match store::open(&place(server.url())) {
        Err(StoreError::Row(why)) => assert!(why.contains("table orders"), "{why}"),
        other => panic!("{:?}", other.map(|opened| opened.is_some())),
    }
    let mut client = Postgres::client(&server.url());
    let found = client.query_one("SELECT to_regclass('transactions') IS NULL", &[]).unwrap();
    assert!(found.get::<_, bool>(0));
}

#[test]
fn the_writer_asks_and_changes_by_index_only() {
    let server = Postgres::start();
    let place = place(server.url());
    let mut client = Postgres::client(&server.url());
    // The server counts a session's scans when it ends.
    let mut ended = |store: Box<dyn Store>| {
        drop(store);
        let sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'tollgate-ledger'";
        eventually("the session ended", || {
            (client.query_one(sessions, &[]).unwrap().get::<_, i64>(0) == 0).then_some(())
        });
        let scans = "SELECT SUM(seq_scan)::BIGINT, SUM(idx_scan)::BIGINT FROM pg_stat_user_tables \
                     WHERE relname IN ('transactions', 'orders', 'events', 'outbox', 'chain', 'refunds', 'idempotency_keys', 'transfers')";
        let row = client.query_one(scans, &[]).unwrap();
        (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1).unwrap_or(0))
    };
    let before = ended(open(&place));
    let mut store = open(&place);
    let mut a = keep_callback(&mut *store, 1, "a");
    a.order.refunded_minor = 1;
    let asked = Wanted {
        refund_ids: vec![],
        keys: vec![MeaningKey { provider: "alipay", account: "app".into(), kind: Kind::Payment, key: "txn-a".into() }],
        orders: vec![("card".into(), "order-a".into())],
        trades: vec![("card".into(), "order-a".into())],
        numbers: vec![("alipay", Kind::Payment, "txn-a".into())],
        waiting: vec![("alipay", Some("app".into()), "n:txn-a".into())],
        order_ids: vec![a.order.id],
        of_orders: vec![("card".into(), "order-a".into())],
        refunds: vec![(a.order.id, "R1".into())],
        refunds_of: vec![("card".into(), "order-a".into())],
        transactions_of: vec![a.order.id],
        named_refunds: vec![("card".into(), "R1".into())],
        refund_txns: vec!["re_1".into()],
        idempotency_keys: vec!["k1".into()],
        transfers: vec![a.order.id],
        reconciliations: vec![("card".into(), "2026-11-21".into())],
    };
    store.begin().unwrap();
    assert_eq!(store.load(&asked).unwrap().transactions.len(), 5, "each answers");
    store.write(&Changes { updates: vec![a.order.update(), a.event.update()], ..Changes::default() }).unwrap();
    store.commit().unwrap();
    store.events(&[a.event.id]).unwrap();
    store.heads().unwrap();
    let after = ended(store);
    assert_eq!(after.0, before.0, "a table was read from end to end");
    assert!(after.1 >= before.1 + 10, "{before:?} {after:?}");
}

#[test]
fn a_ledger_that_is_told_to_end_ends_without_a_fault() {
    let server = Postgres::start();
    let mut ledger = Ledger::on(&server.url());
    let mut process = ledger.run();
    assert_eq!(process.ask(&note(1, 10)).unwrap().status, 200);
    process.books(&ledger.token).all("/v1/transactions");
    process.signal(Signal::TERM);
    assert!(process.ended().success(), "{}", process.messages());
    assert!(!process.messages().contains("panicked"), "{}", process.messages());
}
