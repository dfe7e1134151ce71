//! Transfers by API: at once, held, decided, expired and asked about.

use serde_json::Value as Json;

use super::*;
use crate::book::transfers::{Account, Hold, NewTransfer};
use crate::command::Call;
use crate::rows::Transfer;
use crate::stored_enum::TransferState;

const CORNER: &str = "liabilities:merchant:corner";

fn transfer(debit: &str, credit: &str, amount: i64, hold: Option<Hold>) -> Call {
    let [debit, credit] = [debit, credit].map(|id| Account::read(id).unwrap());
    Call::Transfer(NewTransfer { debit, credit, amount_minor: amount, currency: usd(), hold })
}

fn held(expires: u64, check: u64) -> Option<Hold> {
    let after = |ms| (ms > 0).then(|| Duration::from_millis(ms));
    Some(Hold { expires_in: after(expires), check_after: after(check) })
}

fn paid_books() -> Books {
    let mut books = Books::new();
    books.take(&paid("p1", "A", 1000));
    books
}

fn last(books: &Books) -> Transfer {
    books.all::<Transfer>().pop().unwrap()
}

#[test]
fn a_transfer_at_once_is_posted_and_its_kind_follows_from_its_accounts() {
    let mut books = paid_books();
    for (debit, credit, kind) in [
        (OWED, "assets:bank", "payout"),
        ("assets:bank", ASSETS, "settlement"),
        (OWED, CORNER, "transfer"),
        ("expenses:rent", "equity:own", "transfer"),
    ] {
        let (status, made) = books.ask(&format!("{debit}{credit}"), transfer(debit, credit, 100, None));
        assert_eq!((status, &made["state"]), (201, &Json::from("posted")), "{made}");
        assert_eq!(books.states().pop().unwrap(), (kind, "posted"));
        assert!(last(&books).transaction_id.is_some());
    }
    assert_eq!((books.balance(OWED), books.balance(CORNER), books.balance("assets:bank")), (-800, -100, 0));
}

#[test]
fn what_is_held_is_not_there_for_another_transfer_and_is_posted_or_given_back_once() {
    let mut books = paid_books();
    books.ask("k1", transfer(OWED, CORNER, 700, held(0, 0)));
    let id = last(&books).id;
    assert_eq!(
        (books.held[OWED].pending_debit, books.held[CORNER].pending_credit, books.balance(OWED)),
        (700, 700, -1000)
    );
    let (status, told) = books.ask("k2", transfer(OWED, CORNER, 301, None));
    assert_eq!((status, &told["type"]), (422, &Json::from("urn:tollgate:problem:insufficient_balance")));
    assert_eq!(books.ask("k3", Call::Post(id)).0, 200);
    assert_eq!((books.held[OWED].pending_debit, books.held[CORNER].pending_credit, books.balance(OWED)), (0, 0, -300));
    for (key, call) in [("k4", Call::Void(id)), ("k5", Call::Post(id))] {
        let (status, told) = books.ask(key, call);
        assert_eq!((status, &told["type"]), (409, &Json::from("urn:tollgate:problem:already_decided")));
    }
    books.ask("k6", transfer(OWED, CORNER, 300, held(0, 0)));
    let id = last(&books).id;
    assert_eq!(books.ask("k7", Call::Void(id)).1["state"], "voided");
    assert_eq!((books.held[OWED].pending_debit, books.balance(OWED)), (0, -300));
    assert_eq!(books.ask("k8", Call::Post(Uuid::now_v7())).0, 404);
}

#[test]
fn a_transfer_expires_by_itself_or_at_the_decision_that_comes_too_late() {
    let mut books = paid_books();
    books.ask("k1", transfer(OWED, CORNER, 700, held(1, 0)));
    let id = last(&books).id;
    books.passes(10);
    assert_eq!(books.ask("k2", Call::Post(id)).0, 409);
    assert_eq!((last(&books).state, books.held[OWED].pending_debit), (TransferState::Expired, 0));
    books.ask("k3", transfer(OWED, CORNER, 700, held(1, 0)));
    books.passes(10);
    let id = last(&books).id;
    books.due(id);
    books.due(id);
    assert_eq!((last(&books).state, books.held[OWED].pending_debit), (TransferState::Expired, 0));
}

#[test]
fn silence_is_asked_about_once() {
    let mut books = paid_books();
    books.ask("k1", transfer(OWED, CORNER, 700, held(100, 5)));
    let id = last(&books).id;
    books.due(id);
    let checks = |books: &Books| {
        books.all::<Outgoing>().into_iter().filter(|event| event.kind == "transfer.check").collect::<Vec<_>>()
    };
    assert_eq!(checks(&books).len(), 0, "it is not late yet");
    books.passes(10);
    books.due(id);
    books.due(id);
    let asked = checks(&books);
    let body: Json = serde_json::from_str(&asked[0].body).unwrap();
    assert_eq!((asked.len(), &*asked[0].merchant, &body["data"]["id"]), (1, "shop", &Json::from(id.to_string())));
    assert_eq!((last(&books).state, &body["type"]), (TransferState::Pending, &Json::from("transfer.check")));
    assert_eq!(books.ask("k2", Call::Post(id)).1["state"], "posted");
}

#[test]
fn a_merchant_decides_what_it_may_move_itself_and_nothing_of_the_platforms() {
    let mut books = paid_books();
    for (debit, credit) in [("assets:bank", OWED), (OWED, "assets:bank")] {
        books.ask(&format!("hold {debit}"), transfer(debit, credit, 100, held(0, 0)));
        let id = last(&books).id;
        for call in [Call::Post(id), Call::Void(id)] {
            let (status, told) = books.ask(&format!("{call:?}"), call);
            assert_eq!((status, &told["type"]), (403, &Json::from("urn:tollgate:problem:platform_only")));
        }
    }
}

#[test]
fn a_hold_that_a_chargeback_has_taken_is_not_posted() {
    let mut books = paid_books();
    books.ask("k1", transfer(OWED, CORNER, 1000, held(0, 0)));
    let id = last(&books).id;
    books.take(&of(Kind::Chargeback, "c1", "p1", 1000));
    assert_eq!(books.ask("k2", Call::Post(id)).0, 422);
    assert_eq!((last(&books).state, books.balance(OWED)), (TransferState::Pending, 0));
    assert_eq!(books.ask("k3", Call::Void(id)).1["state"], "voided");
}

#[test]
fn a_merchant_is_asked_also_where_the_hold_is_over_at_once() {
    let mut books = paid_books();
    books.ask("k1", transfer(OWED, CORNER, 700, held(6, 5)));
    let id = last(&books).id;
    books.passes(10);
    books.due(id);
    let asked = books.all::<Outgoing>().iter().filter(|event| event.kind == "transfer.check").count();
    assert_eq!((asked, last(&books).state), (1, TransferState::Expired));
}
