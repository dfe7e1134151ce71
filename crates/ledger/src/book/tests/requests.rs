//! Orders and refunds by API, before and after the providers' messages.

use serde_json::Value as Json;

use super::*;
use crate::book::orders::NewOrder;
use crate::book::refunds::NewRefund;
use crate::command::Call;
use crate::rows::{Journal, Refund};
use crate::stored_enum::{RefundState, What};
use providers::event::Requested;

fn order(books: &Books, trade: &str, amount: i64) -> Call {
    let channel = books.channel.clone();
    Call::Order(NewOrder { channel, out_trade_no: trade.into(), amount_minor: amount, currency: usd() })
}

fn refund(books: &Books, number: &str, amount: i64) -> Call {
    let order = books.order().id;
    Call::Refund(NewRefund { order, out_refund_no: number.into(), amount_minor: amount, query_after: None })
}

fn ends(number: &str, payment: &str, amount: i64, request: &str) -> ProviderEvent {
    let request = Some(Requested::OutRefundNo(request.into()));
    ProviderEvent { request, ..of(Kind::Refund, number, payment, amount) }
}

fn kind(answer: &(u16, Json)) -> (u16, &str) {
    let label = answer.1["type"].as_str().or(answer.1.as_str()).unwrap_or_default();
    (answer.0, label.rsplit(':').next().unwrap_or_default())
}

#[test]
fn an_order_is_paid_by_its_payment_and_created_once() {
    let mut books = Books::new();
    let asked = order(&books, "A", 1000);
    let (status, made) = books.ask("k1", asked.clone());
    assert_eq!((status, &made["state"], &made["source"]), (201, &Json::from("pending"), &Json::from("api")));
    assert_eq!(books.ask("k1", asked.clone()), (201, "before".into()), "the same call again");
    let other = order(&books, "B", 1000);
    assert_eq!(books.ask("k1", other), (422, "other".into()), "its key for another call");
    assert_eq!(kind(&books.ask("k2", asked.clone())), (409, "order_exists"));
    assert_eq!(books.ask("k2", asked), (409, "before".into()), "a refusal stays, too");
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Posted);
    assert_eq!(
        (books.order().state, books.order().paid_minor, books.all::<Order>().len()),
        (OrderState::Paid, 1000, 1)
    );
}

#[test]
fn an_order_after_its_payment_adopts_what_the_payment_opened() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = order(&books, "A", 1000);
    let (status, made) = books.ask("k1", asked.clone());
    assert_eq!((status, &made["state"], &made["source"]), (201, &Json::from("paid"), &Json::from("callback")));
    assert_eq!(kind(&books.ask("k2", asked)), (409, "order_exists"), "it was adopted");
    assert_eq!((books.balance(OWED), books.anomalies().len()), (-1000, 0));
}

#[test]
fn an_adoption_that_asks_for_another_amount_moves_everything_to_suspense() {
    let fee =
        Some(Fee { percent: "1".parse().unwrap(), fixed_minor: 0, minimum_minor: 0, rounding: Rounding::HalfEven });
    let mut books = Books::with(Channel { fee, ..channel() });
    books.take(&paid("p1", "A", 1000));
    books.take(&of(Kind::Refund, "r1", "p1", 300));
    assert_eq!(books.balance(OWED), -690);
    let asked = order(&books, "A", 900);
    let (status, made) = books.ask("k1", asked);
    assert_eq!((status, &made["state"], &made["amount_minor"]), (201, &Json::from("suspense"), &Json::from(900)));
    assert_eq!((books.balance(OWED), books.balance(SUSPENSE), books.balance("income:fee:card")), (0, -700, 0));
    assert_eq!(books.states(), [("payment", "suspense"), ("fee", "noted"), ("refund", "suspense")]);
    assert_eq!(books.anomalies(), ["amount_mismatch"]);
    let whats: Vec<What> = books.all::<Journal>().iter().map(|journal| journal.what).collect();
    use What::{Post, Reverse, Suspend};
    assert_eq!(whats, [Post, Post, Post, Reverse, Suspend, Reverse, Reverse, Suspend]);
    assert_eq!(books.take(&paid("p2", "A", 900)), Outcome::Posted, "the right payment still pays it");
    assert_eq!((books.order().state, books.balance(OWED)), (OrderState::Paid, -891));
}

#[test]
fn a_parked_payment_is_booked_once_its_order_is_named() {
    let mut books = Books::with(Channel { require_order: true, ..channel() });
    assert_eq!(books.take(&paid("p1", "A", 1000)), Outcome::Parked);
    assert_eq!(books.take(&of(Kind::Refund, "r1", "p1", 400)), Outcome::Parked);
    let asked = order(&books, "A", 1000);
    let (status, made) = books.ask("k1", asked);
    assert_eq!(
        (status, &made["state"], &made["paid_minor"]),
        (201, &Json::from("partially_refunded"), &Json::from(1000))
    );
    assert_eq!(books.balance(OWED), -600);
    let asked = order(&books, "B", 5);
    assert_eq!(books.take(&paid("p2", "B", 6)), Outcome::Parked);
    assert_eq!(books.ask("k2", asked).1["state"], "suspense", "another amount than the order's");
}

#[test]
fn a_refund_is_held_until_the_providers_message_ends_it() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 600);
    let (status, made) = books.ask("k1", asked.clone());
    assert_eq!((status, &made["state"], &made["currency"]), (201, &Json::from("pending"), &Json::from("USD")));
    assert_eq!((books.order().refund_pending_minor, books.held[OWED].pending_debit), (600, 600));
    assert_eq!((books.held[ASSETS].pending_credit, books.balance(OWED)), (600, -1000));
    assert_eq!(kind(&books.ask("k2", asked)), (409, "refund_exists"));
    let more = refund(&books, "R2", 401);
    assert_eq!(kind(&books.ask("k3", more)), (422, "over_refund"));
    assert_eq!(books.take(&ends("r1", "p1", 600, "R1")), Outcome::Posted);
    let ended = books.all::<Refund>().remove(0);
    assert_eq!((ended.state, ended.transaction_id.is_some()), (RefundState::Succeeded, true));
    assert_eq!((books.order().refund_pending_minor, books.order().refunded_minor), (0, 600));
    assert_eq!((books.held[OWED].pending_debit, books.balance(OWED)), (0, -400));
}

#[test]
fn a_refund_that_fails_gives_back_what_it_held() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 600);
    books.ask("k1", asked);
    let request = Some(Requested::OutRefundNo("R1".into()));
    let of = Some(Of::Number("p1".into()));
    let failed = ProviderEvent { kind: Kind::Other, effect: Effect::Fail, request, of, ..paid("r1:CLOSED", "A", 600) };
    assert_eq!(books.take(&failed), Outcome::Noted);
    assert_eq!(books.all::<Refund>()[0].state, RefundState::Failed);
    assert_eq!((books.order().refund_pending_minor, books.held[OWED].pending_debit), (0, 0));
    assert_eq!(books.take(&ends("r1", "p1", 600, "R1")), Outcome::Posted, "it went through after all");
    assert_eq!((books.all::<Refund>()[0].state, books.held[OWED].pending_debit), (RefundState::Succeeded, 0));
}

#[test]
fn a_refund_that_failed_before_it_was_asked_for_has_failed() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let request = Some(Requested::OutRefundNo("R1".into()));
    let fails = |of: &str, key: &str| ProviderEvent {
        kind: Kind::Other,
        effect: Effect::Fail,
        request: request.clone(),
        of: Some(Of::Number(of.into())),
        ..paid(key, "A", 600)
    };
    books.take(&fails("p2", "r0:CLOSED"));
    let asked = refund(&books, "R1", 600);
    assert_eq!(books.ask("k1", asked).1["state"], "pending", "another payment's refund failed");
    books.take(&fails("p1", "r1:CLOSED"));
    assert_eq!(books.all::<Refund>()[0].state, RefundState::Failed);
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    books.take(&fails("p1", "r1:CLOSED"));
    let asked = refund(&books, "R1", 600);
    let (status, told) = books.ask("k1", asked);
    assert_eq!((status, &told["state"]), (201, &"failed".into()));
    assert_eq!((books.order().refund_pending_minor, books.held.get(OWED).map_or(0, |held| held.pending_debit)), (0, 0));
    assert_eq!(books.take(&ends("r1", "p1", 600, "R1")), Outcome::Posted, "it went through after all");
    assert_eq!(books.all::<Refund>()[0].state, RefundState::Succeeded);
}

#[test]
fn a_batch_knows_the_refund_whose_payment_it_brings() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let order = books.order().id;
    let (payment, refund) = (paid("p2", "A", 1000), ends("r2", "p2", 1000, "R1"));
    let channel = books.channel.clone();
    let evidence = Evidence {
        seq: 0,
        id: Uuid::nil(),
        channel: "card".into(),
        key_id: Uuid::nil(),
        received_at: 0,
        headers: vec![],
        body: vec![],
    };
    let of = |event| Callback { provider: books.provider, channel: &channel, event, evidence: &evidence };
    let batch = [of(&payment), of(&refund)];
    let mut asked = Wanted::default();
    batch.iter().for_each(|callback| asks(callback, &mut asked));
    let facts = Facts::new(books.load(&asked));
    let mut more = Wanted::default();
    asks_together(&batch, &facts, &mut more);
    assert_eq!(more.refunds, [(order, "R1".to_owned())]);
}

#[test]
fn another_amount_than_asked_for_is_booked_and_an_anomaly() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 600);
    books.ask("k1", asked);
    assert_eq!(books.take(&ends("r1", "p1", 500, "R1")), Outcome::Posted);
    assert_eq!((books.order().refund_pending_minor, books.balance(OWED)), (0, -500));
    assert_eq!(books.anomalies(), ["amount_mismatch"]);
}

#[test]
fn what_the_merchant_is_not_owed_and_what_is_unpaid_or_foreign_is_not_refunded() {
    let fee =
        Some(Fee { percent: "1".parse().unwrap(), fixed_minor: 0, minimum_minor: 0, rounding: Rounding::HalfEven });
    let mut books = Books::with(Channel { fee, ..channel() });
    books.take(&paid("p1", "A", 1000));
    let all = refund(&books, "R1", 1000);
    assert_eq!(kind(&books.ask("k1", all)), (422, "insufficient_balance"), "the fee is kept");
    let asked = order(&books, "B", 5);
    books.ask("k2", asked);
    let unpaid = books.all::<Order>().remove(1).id;
    let call = |order| Call::Refund(NewRefund { order, out_refund_no: "R".into(), amount_minor: 1, query_after: None });
    assert_eq!(kind(&books.ask("k3", call(unpaid))), (422, "not_paid"));
    assert_eq!(kind(&books.ask("k4", call(Uuid::now_v7()))), (404, "not_found"));
    books
        .rows
        .values_mut()
        .filter(|row| row.table == Table::Order)
        .for_each(|row| row.values[0] = Value::Text("x".into()));
    assert_eq!(kind(&books.ask("k5", call(unpaid))), (404, "not_found"), "another merchant's");
}

#[test]
fn a_fee_of_the_same_batch_is_taken_back_with_its_payment() {
    let fee =
        Some(Fee { percent: "10".parse().unwrap(), fixed_minor: 0, minimum_minor: 0, rounding: Rounding::HalfEven });
    let mut books = Books::with(Channel { fee, ..channel() });
    let (event, asked) = (paid("p1", "A", 1000), order(&books, "A", 900));
    books.batch(&event, asked);
    assert_eq!(books.states(), [("payment", "suspense"), ("fee", "noted")]);
    assert_eq!((books.balance(OWED), books.balance("income:fee:card"), books.balance(SUSPENSE)), (0, 0, -1000));
}

#[test]
fn a_refund_whose_message_came_first_is_what_was_booked() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    books.take(&ends("r1", "p1", 300, "R1"));
    let asked = refund(&books, "R1", 300);
    let (status, made) = books.ask("k1", asked);
    assert_eq!((status, &made["state"]), (201, &Json::from("succeeded")), "{made}");
    assert_eq!((books.order().refund_pending_minor, books.balance(OWED)), (0, -700));
    assert!(books.held.values().all(|balance| balance.pending_debit == 0), "nothing is held");
    let again = refund(&books, "R1", 300);
    assert_eq!(kind(&books.ask("k2", again)), (409, "refund_exists"));
}

#[test]
fn a_refund_that_was_parked_ends_its_request_once_it_is_booked() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 300);
    books.ask("k1", asked);
    assert_eq!(books.take(&ends("r1", "p2", 300, "R1")), Outcome::Parked);
    assert_eq!(books.take(&paid("p2", "A", 1000)), Outcome::Suspense, "a second payment");
    assert_eq!((books.all::<Refund>()[0].state, books.held[OWED].pending_debit), (RefundState::Succeeded, 0));
}

#[test]
fn a_refund_that_a_cumulative_amount_covers_is_no_more_pending() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    for (key, number) in [("k1", "R1"), ("k2", "R2")] {
        let asked = refund(&books, number, 100);
        books.ask(key, asked);
    }
    for (number, all, outcome) in [("R2", 200, Outcome::Posted), ("R1", 100, Outcome::Noted)] {
        let request = Some(Requested::OutRefundNo(number.into()));
        assert_eq!(books.take(&ProviderEvent { request, ..cumulative(number, "p1", all) }), outcome);
    }
    assert!(books.all::<Refund>().iter().all(|refund| refund.state == RefundState::Succeeded));
    assert_eq!((books.held[OWED].pending_debit, books.balance(OWED), books.anomalies().len()), (0, -800, 0));
}

#[test]
fn a_failure_ends_the_refund_of_its_payment_alone_and_none_that_was_booked() {
    let mut books = Books::new();
    let orders = ["A", "B"].map(|trade| {
        books.take(&paid(&format!("p-{trade}"), trade, 1000));
        books.all::<Order>().pop().unwrap().id
    });
    for (key, order) in orders.into_iter().enumerate() {
        let call = Call::Refund(NewRefund { order, out_refund_no: "R1".into(), amount_minor: 100, query_after: None });
        books.ask(&key.to_string(), call);
    }
    let fails = |payment: &str| {
        let (request, of) = (Some(Requested::OutRefundNo("R1".into())), Some(Of::Number(payment.into())));
        ProviderEvent { kind: Kind::Other, effect: Effect::Fail, request, of, ..paid(&format!("f-{payment}"), "", 1) }
    };
    books.take(&fails("p-B"));
    let states = |books: &Books| books.all::<Refund>().iter().map(|refund| refund.state).collect::<Vec<_>>();
    assert_eq!(states(&books), [RefundState::Pending, RefundState::Failed]);
    books.take(&ends("r1", "p-A", 100, "R1"));
    books.take(&fails("p-A"));
    assert_eq!((states(&books)[0], books.anomalies()), (RefundState::Succeeded, vec!["content_conflict"]));
    books.take(&ends("r2", "p-A", 100, "R1"));
    assert_eq!(books.anomalies(), ["content_conflict"; 2], "a second refund of one number");
}

#[test]
fn a_refund_is_given_up_where_its_order_goes_to_suspense() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 600);
    books.ask("k1", asked);
    let other = order(&books, "A", 900);
    books.ask("k2", other);
    assert_eq!((books.all::<Refund>()[0].state, books.held[OWED].pending_debit), (RefundState::Failed, 0));
    assert_eq!(books.order().refund_pending_minor, 0);
    assert_eq!(books.take(&ends("r1", "p1", 600, "R1")), Outcome::Suspense);
    assert_eq!(books.all::<Refund>()[0].state, RefundState::Succeeded);
}

#[test]
fn the_parked_payment_that_fits_comes_first_and_an_unreadable_one_needs_a_decision() {
    let mut books = Books::with(Channel { require_order: true, ..channel() });
    books.take(&paid("p1", "A", 100));
    books.take(&paid("p2", "A", 101));
    let unreadable = ProviderEvent { effect: Effect::Unreadable("out_trade_no is no name"), ..paid("p3", "B", 5) };
    books.take(&unreadable);
    let asked = order(&books, "A", 101);
    assert_eq!(books.ask("k1", asked).1["state"], "paid");
    let states: Vec<_> = books.states();
    assert_eq!(states, [("payment", "suspense"), ("payment", "posted"), ("payment", "parked")]);
    let asked = order(&books, "B", 5);
    assert_eq!(books.ask("k2", asked).1["state"], "pending");
}

#[test]
fn an_order_of_another_merchant_is_not_adopted() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    books.channel = Arc::new(Channel { merchant: "other".into(), ..channel() });
    let asked = order(&books, "A", 1);
    assert_eq!(kind(&books.ask("k1", asked)), (409, "order_exists"));
    assert_eq!(books.balance(OWED), -1000);
}

#[test]
fn the_failure_of_another_try_leaves_a_refund_that_went_through() {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    let asked = refund(&books, "R1", 400);
    books.ask("k1", asked);
    books.take(&ends("re_2", "p1", 400, "R1"));
    let request = || Some(Requested::OutRefundNo("R1".into()));
    let fails = |number: &str| ProviderEvent { request: request(), ..of(Kind::RefundReversal, number, "p1", 400) };
    books.take(&fails("re_1"));
    assert_eq!(books.all::<Refund>()[0].state, RefundState::Succeeded, "re_1 was never booked");
    books.take(&fails("re_2"));
    assert_eq!((books.all::<Refund>()[0].state, books.order().refunded_minor), (RefundState::Failed, 0));
    let late = refund(&books, "R2", 100);
    books.take(&ends("re_3", "p1", 100, "R2"));
    books.take(&ProviderEvent { request: Some(Requested::OutRefundNo("R2".into())), ..fails("re_3") });
    assert_eq!(books.ask("k2", late).1["state"], "failed", "it was taken back before it was asked for");
}
