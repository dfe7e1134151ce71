//! A stored row that no longer reads: who asks about it fails alone.

use std::thread;

use crate::support::Connection;
use crate::support::disk::{STALL_ALL, Switch};
use crate::support::ledger::Ledger;
use crate::support::providers::Callback;

#[test]
fn one_row_that_does_not_read_keeps_nobody_else_from_being_booked() {
    let (ledger, process) = Ledger::start();
    let bad = Callback::generic("bad");
    assert_eq!(process.ask(&bad.request()).unwrap().status, 200);
    let store = rusqlite::Connection::open(ledger.path("state/ledger.db")).unwrap();
    let changed = store.execute("UPDATE orders SET currency = 'ZZZ' WHERE out_trade_no = 'obad'", []).unwrap();
    assert_eq!(changed, 1);
    drop(store);
    // What comes while the disk hangs is one batch afterwards.
    let port = process.port;
    ledger.disk.set(Switch::Stall, STALL_ALL);
    let send = |callback: Callback| {
        thread::spawn(move || Connection::to(port).unwrap().ask(&callback.request()).unwrap().status)
    };
    let first = send(Callback::generic("first"));
    ledger.disk.holds_a_call();
    let others: Vec<_> = (0..50).map(|n| send(Callback::generic(&format!("good{n}")))).collect();
    let again = send(bad);
    thread::sleep(std::time::Duration::from_millis(700));
    ledger.disk.well();
    assert_eq!(first.join().unwrap(), 200);
    let others: Vec<u16> = others.into_iter().map(|sent| sent.join().unwrap()).collect();
    assert_eq!(others, [200; 50], "they asked nothing of that row");
    assert_eq!(again.join().unwrap(), 503);
}
