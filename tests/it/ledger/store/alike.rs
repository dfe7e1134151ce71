//! What both stores do alike. Each check gets a store that is not there yet.

use config::model::ledger::Store as Place;
use ledger::rows::{Anomaly, Entry, Evidence, Journal, Order, Outgoing, Transaction, Type, Typed, Value};
use ledger::store::{self, Changes, Grouping, Heads, Loaded, MeaningKey, Reader, Store, StoreError, Wanted};
use ledger::stored_enum::{EventState, OrderState, TxState};
use providers::event::Kind;

use super::rows::{Callback, balance, callback, id, wrap};
use crate::support::eventually;

/// What is checked, by name.
type Check = (&'static str, fn(&Place));

/// Every check.
pub const CHECKS: &[Check] = &[
    ("an empty store", an_empty_store),
    ("every table", every_table_gives_back_what_it_was_given),
    ("heads", heads_are_where_the_books_end),
    ("load", load_answers_what_is_asked),
    ("updates", of_two_updates_the_later_one_counts),
    ("constraint", a_row_that_is_refused_leaves_the_others),
    ("rollback", a_rollback_leaves_nothing),
    ("lock", only_one_has_the_lock),
    ("snapshot", a_snapshot_stays_as_it_was),
    ("events", events_are_found_by_id),
    ("reader", a_reader_takes_parameters_and_changes_nothing),
    ("plans", super::plans::every_list_is_answered_by_an_index),
    ("due", super::plans::what_is_due_is_found_by_an_index),
    ("slow", super::plans::a_read_that_takes_too_long_is_ended),
    ("indexes", super::plans::an_index_that_is_missing_is_made_again),
];

pub fn open(place: &Place) -> Box<dyn Store> {
    store::open(place).unwrap().expect("nobody else has the lock")
}

/// Writes and commits.
pub fn keep(store: &mut dyn Store, changes: &Changes) {
    store.begin().unwrap();
    store.write(changes).unwrap();
    store.commit().unwrap();
}

/// Writes a callback and commits.
pub fn keep_callback(store: &mut dyn Store, seq: i64, name: &str) -> Callback {
    let callback = callback(seq, name);
    keep(store, &callback.changes());
    callback
}

pub fn rows<T: Typed>(reader: &mut dyn Reader) -> Vec<T> {
    let columns: Vec<_> = T::TABLE.columns().collect();
    let names: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    let types: Vec<Type> = columns.iter().map(|column| column.ty).collect();
    let sql = format!("SELECT {} FROM {} ORDER BY seq", names.join(", "), T::TABLE.source());
    let found = reader.select(&sql, &[], &types).unwrap();
    found.into_iter().map(|cells| T::from_cells(cells).expect("it reads as it was written")).collect()
}

pub fn count(reader: &mut dyn Reader, table: &str) -> i64 {
    let rows = reader.select(&format!("SELECT COUNT(*) FROM {table}"), &[], &[Type::Int]).unwrap();
    let Value::Int(count) = rows[0][0] else { panic!("{rows:?}") };
    count
}

fn an_empty_store(place: &Place) {
    let Err(StoreError::Row(why)) = store::reader(place) else { panic!("there is nothing to read yet") };
    assert!(why.contains("there is no ledger"), "{why}");
    let mut store = open(place);
    assert_eq!(store.heads().unwrap(), Heads::default());
    assert_eq!(store.wraps().unwrap(), []);
    store.idle().unwrap();
    assert_eq!(count(&mut *store::reader(place).unwrap(), "transactions"), 0);
}

fn every_table_gives_back_what_it_was_given(place: &Place) {
    let mut store = open(place);
    let written = callback(1, "a");
    let mut changes = written.changes();
    changes.wraps = vec![wrap("one"), wrap("two")];
    keep(&mut *store, &changes);
    let mut wraps = store.wraps().unwrap();
    wraps.sort_by(|a, b| a.by.cmp(&b.by));
    assert_eq!(wraps, changes.wraps);
    drop(store);

    let mut reader = store::reader(place).unwrap();
    assert_eq!(rows::<Evidence>(&mut *reader), [written.evidence]);
    assert_eq!(rows::<Order>(&mut *reader), [written.order]);
    assert_eq!(rows::<Transaction>(&mut *reader), [written.transaction]);
    assert_eq!(rows::<Journal>(&mut *reader), [written.journal]);
    assert_eq!(rows::<Entry>(&mut *reader), written.entries);
    assert_eq!(rows::<Outgoing>(&mut *reader), [written.event]);
    assert_eq!(rows::<Anomaly>(&mut *reader), [written.anomaly]);
    let sql = "SELECT seq, rows, link FROM chain";
    let links = reader.select(sql, &[], &[Type::Int, Type::Blob, Type::Blob]).unwrap();
    let link = changes.links.remove(0);
    assert_eq!(links, [[Value::Int(link.seq), Value::Blob(link.rows), Value::Blob(link.link)]]);
}

fn heads_are_where_the_books_end(place: &Place) {
    let mut store = open(place);
    let first = callback(1, "a");
    let mut changes = first.changes();
    let beyond = i128::from(i64::MAX) * 1000;
    changes.balances = vec![balance("assets:bank", 1), balance("assets:channel:card", 2), balance("assets:bank", 3)];
    keep(&mut *store, &changes);
    let second = callback(first.last() + 1, "b");
    let mut changes = second.changes();
    changes.balances = vec![balance("assets:bank", beyond)];
    keep(&mut *store, &changes);
    let check = |store: &mut dyn Store| {
        let mut heads = store.heads().unwrap();
        heads.balances.sort_by(|a, b| a.account.cmp(&b.account));
        assert_eq!((heads.seq, heads.link), (second.last(), vec![second.last() as u8; 32]));
        assert_eq!(heads.recorded_at, second.transaction.recorded_at);
        assert_eq!(heads.balances, [balance("assets:bank", beyond), balance("assets:channel:card", 2)]);
    };
    check(&mut *store);
    drop(store);
    check(&mut *eventually("the lock is given back", || store::open(place).unwrap()));
}

fn key(name: &str) -> MeaningKey {
    MeaningKey { provider: "alipay", account: "app".into(), kind: Kind::Payment, key: format!("txn-{name}") }
}

fn load_answers_what_is_asked(place: &Place) {
    let mut store = open(place);
    let a = keep_callback(&mut *store, 1, "a");
    let mut parked = callback(a.last() + 1, "p");
    parked.transaction.kind = Kind::Refund;
    parked.transaction.of = Some("n:txn-a".into());
    parked.transaction.order_id = None;
    parked.transaction.state = TxState::Parked;
    keep(&mut *store, &parked.changes());
    assert_eq!(store.heads().unwrap().waited, ["n:txn-a"]);

    store.begin().unwrap();
    assert_eq!(store.load(&Wanted::default()).unwrap(), Loaded::default());
    let asked = Wanted { keys: vec![key("a"), key("unknown")], ..Wanted::default() };
    let loaded = store.load(&asked).unwrap();
    assert_eq!((loaded.transactions, loaded.orders), (vec![a.transaction.clone()], vec![a.order.clone()]));

    // By number or by what is waited for, in any account.
    let numbers = vec![("alipay", Kind::Payment, "txn-a".into()), ("alipay", Kind::Refund, "txn-a".into())];
    let loaded = store.load(&Wanted { numbers, ..Wanted::default() }).unwrap();
    assert_eq!(loaded.transactions, std::slice::from_ref(&a.transaction));
    let waiting = vec![("alipay", None, "n:txn-a".into()), ("alipay", Some("other".into()), "n:txn-a".into())];
    let loaded = store.load(&Wanted { waiting, ..Wanted::default() }).unwrap();
    assert_eq!(loaded.transactions, std::slice::from_ref(&parked.transaction));

    // What is written in this transaction is seen in it; an order comes by its number and by its payment.
    let c = callback(parked.last() + 1, "c");
    store.write(&c.changes()).unwrap();
    let asked = Wanted {
        keys: vec![key("a")],
        orders: vec![("card".into(), "order-c".into()), ("other".into(), "order-a".into())],
        trades: vec![("card".into(), "order-c".into())],
        waiting: vec![("alipay", Some("app".into()), "n:txn-a".into()), ("stripe", None, "n:txn-a".into())],
        ..Wanted::default()
    };
    let mut loaded = store.load(&asked).unwrap();
    loaded.transactions.sort_by_key(|found| found.seq);
    loaded.transactions.dedup();
    loaded.orders.sort_by_key(|found| found.seq);
    loaded.orders.dedup();
    assert_eq!(loaded.transactions, [a.transaction, parked.transaction, c.transaction]);
    assert_eq!(loaded.orders, [a.order, c.order]);
    store.rollback();
}

fn of_two_updates_the_later_one_counts(place: &Place) {
    let mut store = open(place);
    let mut written = keep_callback(&mut *store, 1, "a");
    let mut changes = Changes::default();
    for (state, refunded) in [(OrderState::PartiallyRefunded, 34), (OrderState::Refunded, 1234)] {
        (written.order.state, written.order.refunded_minor, written.order.paid_at) = (state, refunded, None);
        changes.updates.push(written.order.update());
    }
    written.event.state = EventState::Delivered;
    written.event.next_attempt_at = None;
    changes.updates.push(written.event.update());
    keep(&mut *store, &changes);
    let mut reader = store::reader(place).unwrap();
    assert_eq!(rows::<Order>(&mut *reader), [written.order.clone()]);
    assert_eq!(rows::<Outgoing>(&mut *reader), [written.event]);

    written.order.seq = 999;
    store.begin().unwrap();
    let gone = store.write(&Changes { updates: vec![written.order.update()], ..Changes::default() });
    assert!(matches!(&gone, Err(StoreError::Row(why)) if why.contains("orders")), "{gone:?}");
    store.rollback();
}

fn refused(answer: Result<(), StoreError>) {
    assert!(matches!(answer, Err(StoreError::Row(_))), "{answer:?}");
}

fn a_row_that_is_refused_leaves_the_others(place: &Place) {
    let mut store = open(place);
    let a = callback(1, "a");
    let mut again = callback(a.last() + 1, "again");
    again.transaction.key = a.transaction.key.clone();
    let b = callback(a.last() + 1, "b");
    store.begin().unwrap();
    if store.grouping() == Grouping::Each {
        for (callback, good) in [(&a, true), (&again, false), (&b, true)] {
            store.savepoint().unwrap();
            let answer = store.write(&callback.changes());
            assert_eq!(answer.is_ok(), good, "{answer:?}");
            if !good {
                refused(answer);
            }
            store.release(good).unwrap();
        }
        store.commit().unwrap();
    } else {
        store.write(&a.changes()).unwrap();
        refused(store.write(&again.changes()));
        assert!(store.commit().is_err(), "a transaction that failed must not look committed");
        store.rollback();
        assert_eq!(store.heads().unwrap(), Heads::default());
        keep(&mut *store, &a.changes());
        store.begin().unwrap();
        refused(store.write(&again.changes()));
        store.rollback();
        keep(&mut *store, &b.changes());
    }
    let mut reader = store::reader(place).unwrap();
    assert_eq!(rows::<Transaction>(&mut *reader), [a.transaction, b.transaction]);
    assert_eq!(rows::<Evidence>(&mut *reader), [a.evidence, b.evidence]);
}

fn a_rollback_leaves_nothing(place: &Place) {
    let mut store = open(place);
    let a = callback(1, "a");
    store.begin().unwrap();
    store.write(&a.changes()).unwrap();
    store.rollback();
    store.rollback();
    assert_eq!(store.heads().unwrap(), Heads::default());
    keep(&mut *store, &a.changes());
    assert_eq!(count(&mut *store::reader(place).unwrap(), "evidence"), 1);
}

fn only_one_has_the_lock(place: &Place) {
    let mut store = open(place);
    assert!(store::open(place).unwrap().is_none(), "two writers");
    keep_callback(&mut *store, 1, "a");
    assert!(store::open(place).unwrap().is_none(), "two writers");
    drop(store);
    let second = eventually("the lock is given back", || store::open(place).unwrap());
    assert!(store::open(place).unwrap().is_none(), "two writers");
    drop(second);
}

fn a_snapshot_stays_as_it_was(place: &Place) {
    let mut store = open(place);
    let a = keep_callback(&mut *store, 1, "a");
    let mut reader = store::reader(place).unwrap();
    reader.snapshot().unwrap();
    keep_callback(&mut *store, a.last() + 1, "b");
    store.idle().unwrap();
    assert_eq!(count(&mut *reader, "transactions"), 1);
    reader.end();
    assert_eq!(count(&mut *reader, "transactions"), 2);
}

fn events_are_found_by_id(place: &Place) {
    let mut store = open(place);
    let a = keep_callback(&mut *store, 1, "a");
    let b = keep_callback(&mut *store, a.last() + 1, "b");
    assert_eq!(store.events(&[]).unwrap(), []);
    assert_eq!(store.events(&[id(), b.event.id]).unwrap(), [b.event]);
}

fn a_reader_takes_parameters_and_changes_nothing(place: &Place) {
    let mut store = open(place);
    let a = keep_callback(&mut *store, 1, "a");
    let b = keep_callback(&mut *store, a.last() + 1, "b");
    let mut reader = store::reader(place).unwrap();
    let sql = "SELECT id, seq FROM transactions WHERE seq > $1 AND out_trade_no = $2 \
               AND \"of\" IS NOT DISTINCT FROM $3 AND seq > $1 ORDER BY seq DESC LIMIT $4";
    let mut values = [Value::Int(1), Value::Text("order-b".into()), Value::Null, Value::Int(10)];
    let found = reader.select(sql, &values, &[Type::Text, Type::Int]).unwrap();
    assert_eq!(found, [[Value::Text(b.transaction.id.to_string()), Value::Int(b.transaction.seq)]]);
    values[2] = Value::Text("n:1".into());
    assert!(reader.select(sql, &values, &[Type::Text, Type::Int]).unwrap().is_empty());
    assert!(reader.select("DELETE FROM entries", &[], &[]).is_err(), "a reader has written");
    assert!(reader.select("SELECT nothing FROM nowhere", &[], &[]).is_err());
    let mut reader = store::reader(place).unwrap();
    assert_eq!(count(&mut *reader, "entries"), 4);
}

#[test]
fn sqlite_does_what_every_store_does() {
    for (name, check) in CHECKS {
        eprintln!("{name}");
        let folder = tempfile::tempdir().unwrap();
        check(&Place::Sqlite(folder.path().join("books/ledger.db")));
    }
}
