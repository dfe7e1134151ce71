//! What waits for its payment: the writer knows of it, also what another process parked.

use crate::support::ledger::Ledger;
use crate::support::postgres::Postgres;
use crate::support::providers::{Callback, Refund};

fn a_refund_that_was_parked_before_a_restart_follows_its_payment(store: &str) {
    let mut ledger = Ledger::on(store);
    let mut process = ledger.run();
    let payment = Callback::generic("1");
    let refund = Refund { number: "r1".to_owned(), amount: 400, cumulative: 400 };
    let refund = Callback { refund: Some(refund), ..payment.clone() };
    let state = |process: &crate::support::ledger::Process, kind: &str| {
        let all = process.books(&ledger.token).all("/v1/transactions");
        all.into_iter().find(|row| row["kind"] == kind).map(|row| row["state"].clone())
    };
    assert_eq!(process.ask(&refund.request()).unwrap().status, 200);
    assert_eq!(state(&process, "refund").unwrap(), "parked");
    process.kill9();
    process.run(&ledger.disk);
    assert_eq!(process.ask(&payment.request()).unwrap().status, 200);
    assert_eq!(state(&process, "payment").unwrap(), "posted");
    assert_eq!(state(&process, "refund").unwrap(), "posted");
}

#[test]
fn a_parked_refund_is_known_after_a_restart() {
    a_refund_that_was_parked_before_a_restart_follows_its_payment("sqlite:ledger.db");
}

#[test]
fn a_parked_refund_is_known_after_a_restart_on_postgresql() {
    let server = Postgres::start();
    a_refund_that_was_parked_before_a_restart_follows_its_payment(&server.url());
}
