//! The tables of meaning, row by row, over books in memory that answer exactly what is asked.

mod books;
mod parties;
mod release;
mod requests;
mod transfers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use self::books::*;
use super::*;
use crate::rows::{Anomaly, Entry, Order, Outgoing, Row, Table, Typed, Value};
use crate::store::Loaded;
use crate::stored_enum::{Side, Source, StoredEnum};
use config::model::ledger::{Fee, Rounding};
use providers::configured::{Configured, KeyValue, Values};
use providers::{alipay, stripe};

#[test]
fn a_payment_opens_its_order_and_posts_once() {
    let mut books = Books::new();
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Posted);
    let later = ProviderEvent { occurred_ms: Some(99), ..paid("p1", "A", 1000) };
    assert_eq!(books.take(&later), Outcome::Duplicate);
    let order = books.order();
    assert_eq!((order.state, order.paid_minor, order.source), (OrderState::Paid, 1000, Source::Callback));
    assert_eq!((books.balance(ASSETS), books.balance(OWED)), (1000, -1000));
    let event = &books.all::<Outgoing>()[0];
    assert_eq!(event.kind, "payment.posted");
    let body: serde_json::Value = serde_json::from_str(&event.body).unwrap();
    assert_eq!(body["data"]["channel_txn_no"], "p1");
    assert_eq!(body["data"]["order_id"], order.id.to_string());
}

#[test]
fn the_same_key_with_other_content_is_a_conflict_without_an_entry() {
    let unlike = [
        paid("p1", "A", 1001),
        paid("p1", "B", 1000),
        ProviderEvent { currency: Some(Currency::CNY), ..paid("p1", "A", 1000) },
    ];
    for event in unlike {
        let mut books = Books::new();
        books.take(&paid("p1", "A", 1000));
        assert_eq!(books.take(&event), Outcome::Conflict, "{event:?}");
        assert_eq!((books.balance(ASSETS), books.anomalies()), (1000, vec!["content_conflict"]));
        assert_eq!(books.all::<Evidence>().len(), 2);
        let anomaly = &books.all::<Anomaly>()[0];
        assert!(anomaly.transaction_id.is_some() && anomaly.evidence_id.is_some());
    }
}

#[test]
fn a_refund_before_its_payment_is_parked_and_posted_in_the_payments_commit() {
    let mut books = Books::new();
    assert_eq!(books.take(&of(Kind::Chargeback, "d1", "p1", 200)), Outcome::Parked);
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 300)), Outcome::Parked);
    assert_eq!(books.balance(ASSETS), 0);
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 300)), Outcome::Duplicate);
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Posted);
    assert_eq!(books.balance(ASSETS), 500);
    let order = books.order();
    assert_eq!(
        (order.state, order.refunded_minor),
        (OrderState::PartiallyRefunded, 300),
        "chargebacks leave the order"
    );
    let refund = books.all::<Transaction>().into_iter().find(|t| t.kind == Kind::Refund).unwrap();
    assert_eq!((refund.state, refund.first_state), (TxState::Posted, TxState::Parked));
    assert_eq!((refund.order_id, refund.payment_txn_no.as_deref()), (Some(order.id), Some("p1")));
    assert_eq!((refund.out_trade_no.as_deref(), refund.stated_trade_no), (Some("A"), None));
    let told: Vec<String> = books.all::<Outgoing>().into_iter().map(|event| event.kind).collect();
    assert_eq!(told, ["payment.posted", "chargeback.posted", "refund.posted"]);
}

#[test]
fn a_refund_without_a_currency_takes_its_payments() {
    for refund_first in [false, true] {
        let mut books = Books::new();
        let mut events = [paid("p1", "A", 1000), ProviderEvent { currency: None, ..of(Kind::Refund, "r1", "p1", 300) }];
        if refund_first {
            events.reverse();
        }
        events.iter().for_each(|event| _ = books.take(event));
        let refund = books.all::<Transaction>().into_iter().find(|t| t.kind == Kind::Refund).unwrap();
        assert_eq!((refund.state, refund.currency, refund.stated_currency), (TxState::Posted, Some(usd()), None));
        assert_eq!(books.balance(OWED), -700);
    }
}

#[test]
fn a_second_payment_of_a_paid_order_and_its_refund_are_in_suspense() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    assert_eq!(books.take(&paid("p2", "A", 1000)), Outcome::Suspense);
    assert_eq!(books.anomalies(), ["duplicate_payment"]);
    assert_eq!((books.balance(ASSETS), books.balance(OWED), books.balance(SUSPENSE)), (2000, -1000, -1000));
    assert_eq!(books.take(&of(Kind::Refund, "r2", "p2", 1000)), Outcome::Suspense);
    assert_eq!((books.balance(ASSETS), books.balance(OWED), books.balance(SUSPENSE)), (1000, -1000, 0));
    assert_eq!((books.order().state, books.order().refunded_minor), (OrderState::Paid, 0));
    assert_eq!(books.take(&of(Kind::RefundReversal, "r2", "p2", 1000)), Outcome::Suspense);
    assert_eq!(books.balance(SUSPENSE), -1000);
}

#[test]
fn a_refund_above_what_is_left_or_in_another_currency_is_in_suspense_as_a_whole() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 600)), Outcome::Posted);
    assert_eq!(books.take(&of(Kind::Refund, "r2", "p1", 401)), Outcome::Suspense);
    assert_eq!(books.take(&of(Kind::Refund, "r3", "p1", 400)), Outcome::Posted);
    let foreign = ProviderEvent { currency: Some(Currency::CNY), ..of(Kind::Refund, "r4", "p1", 1) };
    assert_eq!(books.take(&foreign), Outcome::Suspense);
    assert_eq!(books.anomalies(), ["over_refund", "currency_mismatch"]);
    assert_eq!((books.balance(OWED), books.balance(SUSPENSE)), (0, 402));
    assert_eq!(books.order().state, OrderState::Refunded);
}

#[test]
fn cumulative_refunds_post_what_they_add_and_never_less_than_nothing() {
    let mut books = Books::new();
    assert_eq!(books.take(&cumulative("r1", "p1", 100)), Outcome::Parked);
    assert_eq!(books.take(&cumulative("r2", "p1", 250)), Outcome::Parked);
    books.take(&paid("p1", "A", 1000));
    assert_eq!(books.balance(OWED), -750);
    assert_eq!(books.take(&cumulative("r4", "p1", 600)), Outcome::Posted, "the third one's message is late");
    assert_eq!(books.take(&cumulative("r3", "p1", 400)), Outcome::Noted, "explained by the fourth");
    assert_eq!(books.take(&cumulative("r4", "p1", 600)), Outcome::Duplicate);
    assert_eq!(books.take(&cumulative("r4", "p1", 601)), Outcome::Conflict);
    assert_eq!(books.take(&cumulative("r5", "p1", 1200)), Outcome::Suspense);
    assert_eq!(books.take(&cumulative("r6", "p1", 1201)), Outcome::Posted, "what is in suspense counts as known");
    assert_eq!((books.balance(OWED), books.balance(SUSPENSE), books.balance(ASSETS)), (-399, 600, -201));
}

#[test]
fn a_refund_that_failed_is_reversed_if_it_was_posted_and_else_never_posted() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    books.take(&of(Kind::Refund, "r1", "p1", 1000));
    assert_eq!(books.order().state, OrderState::Refunded);
    assert_eq!(books.take(&of(Kind::RefundReversal, "r1", "p1", 1000)), Outcome::Posted);
    assert_eq!((books.order().state, books.balance(OWED)), (OrderState::Paid, -1000));
    assert_eq!(books.take(&of(Kind::RefundReversal, "r2", "p1", 300)), Outcome::Noted, "it was never posted");
    assert_eq!(books.take(&of(Kind::Refund, "r2", "p1", 300)), Outcome::Noted, "and it failed already");
    assert_eq!(books.balance(OWED), -1000);

    let mut books = Books::new();
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 300)), Outcome::Parked);
    assert_eq!(books.take(&of(Kind::RefundReversal, "r1", "p1", 300)), Outcome::Parked);
    books.take(&paid("p1", "A", 1000));
    assert_eq!((books.balance(OWED), books.order().refunded_minor), (-1000, 0));
    let posted = [("refund", "posted"), ("refund_reversal", "posted"), ("payment", "posted")];
    assert_eq!(books.states(), posted);
}

#[test]
fn chargebacks_and_their_reversals_have_no_bound() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    assert_eq!(books.take(&of(Kind::Chargeback, "d1", "p1", 1000)), Outcome::Posted);
    assert_eq!(books.take(&of(Kind::Chargeback, "d2", "p1", 1000)), Outcome::Posted);
    assert_eq!(books.take(&of(Kind::ChargebackReversal, "d1", "p1", 1000)), Outcome::Posted);
    assert_eq!((books.balance(OWED), books.order().state), (0, OrderState::Paid));
}

#[test]
fn what_no_order_names_is_parked_where_orders_are_required() {
    let mut books = Books::with(Channel { require_order: true, ..channel() });
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Parked);
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 10)), Outcome::Parked);
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Duplicate);
    assert_eq!((books.all::<Order>().len(), books.all::<Entry>().len(), books.anomalies().len()), (0, 0, 0));
}

#[test]
fn another_amount_or_currency_than_the_orders_is_in_suspense() {
    for (event, kind) in [
        (paid("p1", "A", 999), "amount_mismatch"),
        (ProviderEvent { currency: Some(Currency::CNY), ..paid("p1", "A", 1000) }, "currency_mismatch"),
    ] {
        let mut books = Books::new();
        let order = Order {
            seq: 1,
            id: Uuid::now_v7(),
            merchant: "shop".into(),
            channel: "card".into(),
            out_trade_no: "A".into(),
            amount_minor: 1000,
            currency: usd(),
            source: Source::Api,
            created_at: 0,
            state: OrderState::Pending,
            paid_minor: 0,
            refunded_minor: 0,
            refund_pending_minor: 0,
            paid_at: None,
            asked_minor: None,
            asked_currency: None,
            query_at: None,
            provider_no: None,
            pay_id: None,
        };
        books.rows.insert(1, order.row());
        assert_eq!(books.take(&event), Outcome::Suspense);
        assert_eq!((books.order().state, books.anomalies()), (OrderState::Suspense, vec![kind]));
        assert_eq!(books.take(&paid("p2", "A", 1000)), Outcome::Posted, "the right one still pays it");
        assert_eq!((books.order().state, books.balance(OWED)), (OrderState::Paid, -1000));
    }
}

#[test]
fn what_is_foreign_unreadable_or_needless_makes_no_entry() {
    let mut books = Books::new();
    let foreign = ProviderEvent { effect: Effect::Foreign("app_id"), account: "theirs".into(), ..paid("p1", "A", 5) };
    assert_eq!(books.take(&foreign), Outcome::Noted);
    assert_eq!(books.take(&foreign), Outcome::Duplicate);
    let unreadable = ProviderEvent { effect: Effect::Unreadable("no amount"), amount: None, ..paid("p2", "B", 0) };
    assert_eq!(books.take(&unreadable), Outcome::Parked);
    assert_eq!(books.take(&unreadable), Outcome::Duplicate);
    assert_eq!(books.take(&paid("p2", "B", 7)), Outcome::Conflict, "now it says an amount");
    let refund =
        ProviderEvent { effect: Effect::Unreadable("no amount"), amount: None, ..of(Kind::Refund, "r1", "p9", 0) };
    assert_eq!(books.take(&refund), Outcome::Parked);
    let refund = books.all::<Transaction>().into_iter().find(|t| t.kind == Kind::Refund).unwrap();
    assert_eq!((refund.of, refund.payment_txn_no), (None, None), "it waits for nobody");
    let note =
        ProviderEvent { kind: Kind::Other, effect: Effect::Note, amount: None, currency: None, ..paid("n1", "A", 0) };
    assert_eq!(books.take(&note), Outcome::Noted);
    let closed = ProviderEvent { effect: Effect::Close, key: "n2".into(), ..note };
    assert_eq!(books.take(&closed), Outcome::Noted);
    assert_eq!(books.anomalies(), ["foreign_recipient", "unreadable", "content_conflict", "unreadable"]);
    assert_eq!(books.all::<Entry>().len(), 0);
    assert_eq!(books.take(&paid("p3", "A", 5)), Outcome::Posted, "the foreign one took no order's place");
}

#[test]
fn the_fee_is_a_journal_of_its_own_and_stays_at_a_refund() {
    let fee = Fee { percent: "1".parse().unwrap(), fixed_minor: 30, minimum_minor: 0, rounding: Rounding::HalfEven };
    let mut books = Books::with(Channel { fee: Some(fee), ..channel() });
    books.take(&paid("p1", "A", 1000));
    assert_eq!((books.balance("income:fee:card"), books.balance(OWED)), (-40, -960));
    books.take(&of(Kind::Refund, "r1", "p1", 1000));
    assert_eq!((books.balance("income:fee:card"), books.balance(OWED)), (-40, 40));
    let transactions: Vec<Transaction> = books.all();
    assert_eq!(transactions[0].fee_minor, Some(40));
    assert_eq!((transactions[1].kind, transactions[1].amount_minor), (Kind::Fee, Some(40)));
    assert_eq!(books.all::<Outgoing>().len(), 2, "a fee has no event");
    let _ = Table::ALL;
}

#[test]
fn a_batch_that_is_decided_together_is_the_same_as_one_by_one() {
    let events = [
        cumulative("r1", "p1", 100),
        paid("p1", "A", 1000),
        paid("p1", "A", 1000),
        of(Kind::RefundReversal, "r1", "p1", 100),
        paid("p2", "A", 1000),
        of(Kind::Refund, "r2", "p2", 10),
        of(Kind::Refund, "r3", "p1", 2000),
    ];
    let mut one_by_one = Books::new();
    let outcomes: Vec<Outcome> = events.iter().map(|event| one_by_one.take(event)).collect();

    let channel = Arc::new(channel());
    let (mut facts, mut seq, mut together) = (Facts::new(Loaded::default()), 0, vec![]);
    let mut rows = BTreeMap::<i64, Row>::new();
    for (n, event) in events.iter().enumerate() {
        let evidence = Evidence {
            seq: 0,
            id: Uuid::now_v7(),
            channel: "card".into(),
            key_id: Uuid::nil(),
            received_at: 1_001 + n as i64,
            headers: vec![],
            body: vec![],
        };
        let callback = Callback { provider: &stripe::PROVIDER, channel: &channel, event, evidence: &evidence };
        let mut ids = Uuid::now_v7;
        let mut scribe = PostingBuilder::new(seq, at(1_001 + n as i64), &mut ids);
        together.push(decide(&callback, &mut facts, &mut scribe));
        let plan = scribe.done();
        seq += plan.rows.len() as i64;
        rows.extend(plan.rows.into_iter().map(|row| (row.seq, row)));
        for ((table, seq), update) in plan.updates {
            rows.get_mut(&seq).unwrap().values.splice(table.frozen().len().., update.state);
        }
    }
    assert_eq!(together, outcomes);
    let told = |rows: &BTreeMap<i64, Row>| -> Vec<(i64, Table, Vec<Value>)> {
        let same = |value: &Value| match value {
            // Ids differ, and with them what holds one.
            Value::Text(text) if Uuid::try_parse(text).is_ok() || text.starts_with('{') => Value::Null,
            other => other.clone(),
        };
        rows.values().map(|row| (row.seq, row.table, row.values.iter().map(same).collect())).collect()
    };
    assert_eq!(told(&rows), told(&one_by_one.rows));
}
