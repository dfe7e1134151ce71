//! Books that are verified while they are written, and what is verified when.

use std::time::Duration;

use super::*;
use crate::audit::rounds::Rounds;
use crate::query::tests::book::TestReader;
use crate::rows::{Transaction, Value};
use crate::stored_enum::{EventState, OrderState, What};
use base::units::Nanos;
use providers::event::Kind;

const CARD: &str = "assets:channel:card";
const SHOP: &str = "liabilities:merchant:shop";

fn pay(book: &mut Book) -> Transaction {
    let evidence_id = Some(book.evidence("card"));
    let mut number = None;
    let order_id = Some(book.order(|order| {
        (order.state, order.paid_minor, order.paid_at) = (OrderState::Paid, 10_000, Some(0));
        number = Some(order.out_trade_no.clone());
    }));
    let payment = book.fact(|t| {
        (t.evidence_id, t.order_id, t.out_trade_no) = (evidence_id, order_id, number.clone());
        t.channel_txn_no = number.map(|number| format!("pi_{number}"));
    });
    book.journal(&payment, What::Post, CARD, SHOP);
    book.event(&payment, EventState::Delivered);
    book.commit();
    payment
}

fn refund(book: &mut Book, payment: &Transaction, amount: i64) {
    let evidence_id = Some(book.evidence("card"));
    let fact = book.fact(|t| {
        (t.evidence_id, t.order_id, t.out_trade_no) = (evidence_id, payment.order_id, payment.out_trade_no.clone());
        (t.kind, t.amount_minor, t.payment_txn_no) = (Kind::Refund, Some(amount), payment.channel_txn_no.clone());
    });
    book.journal(&fact, What::Post, SHOP, CARD);
    book.event(&fact, EventState::Delivered);
    book.commit();
    let sql = format!(
        "UPDATE transactions SET refunded_minor = refunded_minor + {amount} WHERE seq = {};
         UPDATE orders SET refunded_minor = refunded_minor + {amount}, state = 'partially_refunded'
         WHERE out_trade_no = '{}'",
        payment.seq,
        payment.out_trade_no.as_deref().unwrap(),
    );
    book.store.execute_batch(&sql).unwrap();
}

/// A reader beside which somebody writes whenever no view is open.
struct Beside {
    reader: TestReader,
    book: Book,
    first: Transaction,
    views: Vec<usize>,
    open: bool,
}

impl Reader for Beside {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        let rows = self.reader.select(sql, values, types)?;
        match self.open {
            true => *self.views.last_mut().unwrap() += rows.len(),
            false if self.views.len() < 20 => {
                let payment = pay(&mut self.book);
                refund(&mut self.book, &payment, 1_000);
                refund(&mut self.book, &self.first.clone(), 1);
            }
            false => {}
        }
        Ok(rows)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        (self.open, _) = (true, self.views.push(0));
        self.reader.snapshot()
    }

    fn end(&mut self) {
        self.reader.end();
        self.open = false;
        let payment = pay(&mut self.book);
        refund(&mut self.book, &payment, 1_000);
        refund(&mut self.book, &self.first.clone(), 1);
    }
}

fn beside(callbacks: usize) -> Beside {
    let mut book = Book::empty();
    let first = pay(&mut book);
    for _ in 1..callbacks {
        pay(&mut book);
    }
    Beside { reader: book.reader(), book, first, views: vec![], open: false }
}

#[test]
fn books_are_verified_in_short_views_while_they_are_written() {
    let mut beside = beside(3_000);
    let (head, key) = (beside.book.head(), beside.book.key.clone());
    let report = verify(&mut beside, &key, vec![], Some(&anchor(head.clone()))).unwrap();
    assert_eq!(report, Report { ok: true, sequence: head.0, head: base::hex::encode(&head.1), problems: vec![] });
    assert!(beside.views.len() >= 8 && beside.views.iter().all(|rows| *rows < 8_000), "{:?}", beside.views);
}

#[test]
fn what_is_new_is_verified_and_what_it_changed() {
    let mut beside = beside(10);
    let key = beside.book.key.clone();
    let round = |beside: &mut Beside, mark: Option<Mark>| since(beside, &key, vec![], None, mark.as_ref()).unwrap();
    let (report, mut mark) = round(&mut beside, None);
    assert!(report.ok, "{report:?}");
    let mut sequence = report.sequence;
    for _ in 0..3 {
        let (report, next) = round(&mut beside, mark.take());
        assert!(report.ok && report.sequence > sequence, "{report:?}");
        (sequence, mark) = (report.sequence, next);
    }
    // The first payment is refunded again and again: what does not fit with it is found, though it is old.
    let (id, seq) = (beside.first.id.to_string(), beside.first.seq);
    beside.book.store.execute_batch(&format!("UPDATE transactions SET refunded_minor = 0 WHERE seq = {seq}")).unwrap();
    let (report, next) = round(&mut beside, mark);
    assert!(
        next.is_none() && has(&report, DiscrepancyKind::Balance, "transactions", Some(&id), Some(seq)),
        "{report:?}"
    );
}

#[test]
fn a_mark_of_another_chain_is_no_mark() {
    let (mut book, mut other) = (Book::empty(), Book::empty());
    let payment = pay(&mut book);
    pay(&mut other);
    book.evidence("other");
    book.commit();
    let key = book.key.clone();
    let (_, mark) = since(&mut book.reader(), &key, vec![], None, None).unwrap();
    pay(&mut other);
    pay(&mut other);
    let sql = format!("UPDATE entries SET amount_minor = 1 WHERE transaction_id = '{}'", payment.id);
    other.store.execute_batch(&sql).unwrap();
    let (report, _) = since(&mut other.reader(), &key, vec![], None, mark.as_ref()).unwrap();
    assert!(of_rows(&report).len() == 2, "everything was read: {report:?}");
}

#[test]
fn everything_is_verified_once_a_day_and_after_a_finding() {
    let mut book = Book::empty();
    let payment = pay(&mut book);
    pay(&mut book);
    let hours = |n: u64| Nanos(0).after(Duration::from_secs(3_600 * (100 + n)));
    let mut rounds = Rounds::default();
    let mut round = |book: &Book, n| rounds.verify(&mut book.reader(), &book.key, vec![], None, hours(n)).unwrap();
    assert!(round(&book, 0).ok);
    let harm = |book: &Book, amount: i64| {
        let sql = format!("UPDATE transactions SET amount_minor = {amount} WHERE seq = {}", payment.seq);
        book.store.execute_batch(&sql).unwrap();
    };
    harm(&book, 1);
    assert!(round(&book, 1).ok, "old rows are not read each hour");
    let newer = pay(&mut book);
    book.store.execute_batch(&format!("UPDATE transactions SET merchant = 'x' WHERE seq = {}", newer.seq)).unwrap();
    let found = round(&book, 2);
    assert!(
        has(&found, DiscrepancyKind::Changed, "transactions", Some(&newer.id.to_string()), Some(newer.seq)),
        "{found:?}"
    );
    book.store.execute_batch(&format!("UPDATE transactions SET merchant = 'shop' WHERE seq = {}", newer.seq)).unwrap();
    let found = round(&book, 3);
    assert!(
        has(&found, DiscrepancyKind::Changed, "transactions", Some(&payment.id.to_string()), Some(payment.seq)),
        "{found:?}"
    );
    harm(&book, 10_000);
    assert!(round(&book, 4).ok);
    harm(&book, 1);
    assert!(round(&book, 27).ok);
    assert!(!round(&book, 28).ok, "a day after everything was read");
    harm(&book, 10_000);
    assert!(round(&book, 29).ok);
    // All balances are compared each time.
    book.store.execute_batch("UPDATE balances SET debit = '1' WHERE account = 'assets:channel:card'").unwrap();
    assert!(has(&round(&book, 30), DiscrepancyKind::Balance, "balances", Some(CARD), None));
}
