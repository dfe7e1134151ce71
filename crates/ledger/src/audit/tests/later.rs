//! What was kept without an entry, verified, and booked by a decision since.

use uuid::Uuid;

use super::*;
use crate::resolve;
use crate::rows::Transaction;
use crate::stored_enum::{AnomalyKind, EventState, OrderState, TxState, What};

const CARD: &str = "assets:channel:card";
const SHOP: &str = "liabilities:merchant:shop";

/// A payment that was not ours by a typo, and its anomaly.
fn noted(book: &mut Book, number: &str) -> (Transaction, Uuid) {
    let evidence_id = Some(book.evidence("card"));
    let payment = book.fact(|t| {
        (t.evidence_id, t.state, t.first_state) = (evidence_id, TxState::Noted, TxState::Noted);
        (t.channel_txn_no, t.out_trade_no) = (Some(format!("pi_{number}")), Some(number.to_owned()));
    });
    let anomaly = book.anomaly(AnomalyKind::ForeignRecipient, "card", "shop", Some(payment.id));
    book.commit();
    (payment, anomaly)
}

/// Books it, as a resolution does.
fn accept(book: &mut Book, (payment, anomaly): &(Transaction, Uuid)) {
    let order_id = book.order(|order| {
        order.out_trade_no = payment.out_trade_no.clone().unwrap();
        (order.state, order.paid_minor, order.paid_at) = (OrderState::Paid, 10_000, Some(0));
    });
    let payment = Transaction { state: TxState::Posted, order_id: Some(order_id), ..payment.clone() };
    book.journal(&payment, What::Post, CARD, SHOP);
    book.event(&payment, EventState::Delivered);
    book.resolution(*anomaly, "card");
    book.commit();
    let (seq, at) = (payment.seq, payment.recorded_at);
    let sql = format!(
        "UPDATE transactions SET state = 'posted', order_id = '{order_id}' WHERE seq = {seq};
         UPDATE orders SET paid_at = {at} WHERE id = '{order_id}';
         UPDATE anomalies SET state = 'resolved' WHERE id = '{anomaly}'"
    );
    book.store.execute_batch(&sql).unwrap();
}

/// Books that were verified whole, with two such payments.
struct Scene {
    book: Book,
    mark: Mark,
    one: (Transaction, Uuid),
    other: (Transaction, Uuid),
}

impl Scene {
    fn new() -> Scene {
        let mut book = full();
        let (one, other) = (noted(&mut book, "N-1"), noted(&mut book, "N-2"));
        let (report, mark) = since(&mut book.reader(), &book.key, vec![], None, None).unwrap();
        assert!(report.ok, "{report:?}");
        Scene { book, mark: mark.unwrap(), one, other }
    }

    fn increment(&mut self) -> Report {
        let (report, mark) = since(&mut self.book.reader(), &self.book.key, vec![], None, Some(&self.mark)).unwrap();
        mark.into_iter().for_each(|mark| self.mark = mark);
        report
    }
}

#[test]
fn what_is_accepted_later_is_verified_with_the_decision() {
    let mut scene = Scene::new();
    accept(&mut scene.book, &scene.one.clone());
    for _ in 0..2 {
        let report = scene.increment();
        assert_eq!(report, Report { problems: vec![], ok: true, ..checked(&scene.book, None) }, "as the whole has it");
        assert_eq!(report.sequence, scene.book.head().0);
    }
    // What is summed since the first mark stays right.
    accept(&mut scene.book, &scene.other.clone());
    assert!(scene.increment().ok && checked(&scene.book, None).ok);
}

#[test]
fn what_does_not_follow_from_the_decision_is_found_by_the_increment() {
    let ((payment, anomaly), resolution) = {
        let scene = Scene::new();
        let resolution = resolve::id_of(scene.one.1);
        (scene.one, resolution)
    };
    let id = payment.id;
    for (table, harm) in [
        ("transactions", format!("UPDATE transactions SET state = 'noted' WHERE id = '{id}'")),
        ("transactions", format!("UPDATE transactions SET order_id = NULL WHERE id = '{id}'")),
        ("transactions", format!("UPDATE transactions SET fee_minor = 5 WHERE id = '{id}'")),
        ("transactions", format!("UPDATE transactions SET refunded_minor = 5 WHERE id = '{id}'")),
        ("orders", "UPDATE orders SET paid_minor = 9999 WHERE out_trade_no = 'N-1'".to_owned()),
        ("orders", "UPDATE orders SET paid_at = paid_at + 1 WHERE out_trade_no = 'N-1'".to_owned()),
        ("anomalies", format!("UPDATE anomalies SET state = 'open' WHERE id = '{anomaly}'")),
        ("anomalies", format!("UPDATE anomalies SET state = X'01' WHERE id = '{anomaly}'")),
        ("anomalies", format!("DELETE FROM evidence WHERE id = '{resolution}'")),
        ("evidence", format!("UPDATE evidence SET body = X'07' WHERE id = '{resolution}'")),
        ("balances", format!("UPDATE balances SET debit = '5' WHERE account = '{CARD}' AND currency = 'CNY'")),
    ] {
        let mut scene = Scene::new();
        accept(&mut scene.book, &scene.one.clone());
        scene.book.store.execute_batch(&harm).unwrap();
        let (increment, whole) = (scene.increment(), checked(&scene.book, None));
        for report in [increment, whole] {
            assert!(report.problems.iter().any(|problem| problem.table == table), "{harm}: {report:?}");
        }
    }
}

#[test]
fn a_posting_without_a_decision_is_found() {
    // An anomaly that was closed by hand, old as it is, by the next increment.
    let mut scene = Scene::new();
    let (payment, anomaly) = scene.one.clone();
    let closed = format!("UPDATE anomalies SET state = 'resolved' WHERE id = '{anomaly}'");
    scene.book.store.execute_batch(&closed).unwrap();
    let report = scene.increment();
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let seq = rows_of(&scene.book, "anomalies").into_iter().find(|(_, id)| *id == anomaly.to_string()).unwrap().0;
    assert!(has(&report, DiscrepancyKind::Balance, "anomalies", Some(&anomaly.to_string()), Some(seq)), "{report:?}");

    // A state alone, by the next verification of everything.
    let mut scene = Scene::new();
    let posted = format!("UPDATE transactions SET state = 'posted' WHERE id = '{}'", payment.id);
    scene.book.store.execute_batch(&posted).unwrap();
    assert!(scene.increment().ok, "old rows are not read each hour");
    let report = checked(&scene.book, None);
    assert!(
        has(&report, DiscrepancyKind::Balance, "transactions", Some(&payment.id.to_string()), Some(payment.seq)),
        "{report:?}"
    );

    // With a journal and entries that nobody linked, by the next increment.
    let mut scene = Scene::new();
    let head = scene.book.head().0;
    accept(&mut scene.book, &scene.one.clone());
    scene.book.store.execute_batch(&format!("DELETE FROM chain WHERE seq > {head}")).unwrap();
    let report = scene.increment();
    assert!(report.problems.iter().any(|p| p.kind == DiscrepancyKind::Changed && p.table == "journals"), "{report:?}");
}
