//! Lists, filters, cursors and accounts, over a small book.

pub(crate) mod book;

use serde_json::Value as Json;

use self::book::{Book, START, TestReader, sample};
use super::list::{ANOMALIES, EVENTS, List, ORDERS, Pairs, TRANSACTIONS};
use super::*;

fn pairs(text: &str) -> Pairs {
    let pair = |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap();
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

fn ask<V: View>(reader: &mut TestReader, of: &List, query: &str) -> Page<V> {
    list(reader, of.asked(&pairs(query)).unwrap(), None).unwrap()
}

fn numbers(page: &Page<views::Transaction>) -> Vec<i64> {
    page.data.iter().map(|transaction| transaction.sequence).collect()
}

#[test]
fn a_list_is_newest_first_and_its_cursor_goes_on_without_gap_or_repeat() {
    let book = sample();
    let mut reader = book.reader();
    let all = ask::<views::Transaction>(&mut reader, &TRANSACTIONS, "");
    assert_eq!((all.data.len(), &all.next), (10, &None));
    assert!(numbers(&all).is_sorted_by(|a, b| a > b));
    let (mut seen, mut cursor) = (vec![], String::new());
    loop {
        let page = ask::<views::Transaction>(&mut reader, &TRANSACTIONS, &format!("limit=3{cursor}"));
        assert!(page.data.len() <= 3);
        seen.extend(numbers(&page));
        let Some(next) = page.next else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, numbers(&all));
    let exact = ask::<views::Transaction>(&mut reader, &TRANSACTIONS, "limit=10");
    assert_eq!(exact.next, None, "no empty part follows a full one");
}

#[test]
fn every_filter_takes_what_it_names_and_nothing_else() {
    let book = sample();
    let mut reader = book.reader();
    let mut count = |query: &str| ask::<views::Transaction>(&mut reader, &TRANSACTIONS, query).data.len();
    for (query, expected) in [
        ("merchant=bazaar", 1),
        ("merchant=nobody", 0),
        ("channel=card", 9),
        ("state=parked", 1),
        ("kind=refund", 3),
        ("kind=refund&state=suspense", 1),
        ("out_trade_no=T-1", 4),
        ("channel_txn_no=pi_1", 1),
        ("from=2026-11-21T03:38:00.120Z&to=2026-11-21T03:38:01.120Z", 2),
        ("from=2026-11-21T03:38:00.1205Z&to=2026-11-21T03:38:01.1201Z", 1),
        ("to=2026-11-21T03:38:00.120Z", 0),
        ("from=2026-11-21T11:38:01.120%2B08:00", 8),
    ] {
        assert_eq!(count(&query.replace("%2B", "+")), expected, "{query}");
    }
    let mut reader = book.reader();
    assert_eq!(ask::<views::Order>(&mut reader, &ORDERS, "state=paid&out_trade_no=J-1").data.len(), 1);
    assert_eq!(ask::<views::Event>(&mut reader, &EVENTS, "kind=payment.posted").data.len(), 2);
    assert_eq!(ask::<views::Event>(&mut reader, &EVENTS, "channel=ali&state=pending").data.len(), 1);
    assert_eq!(ask::<views::Event>(&mut reader, &EVENTS, "out_trade_no=T-1").data.len(), 4);
    assert_eq!(
        ask::<views::Anomaly>(&mut reader, &ANOMALIES, "kind=amount_mismatch&channel_txn_no=2026").data.len(),
        1
    );
    assert_eq!(ask::<views::Anomaly>(&mut reader, &ANOMALIES, "state=resolved").data.len(), 0);
}

#[test]
fn what_a_list_does_not_know_is_refused_by_name() {
    for (query, named) in [
        ("colour=red", "`colour`"),
        ("limit=0", "`limit`"),
        ("limit=1001", "`limit`"),
        ("limit=ten", "`limit`"),
        ("cursor=!", "`cursor`"),
        ("cursor=MA", "`cursor`"),
        ("state=gone", "`state`"),
        ("kind=gift", "`kind`"),
        ("from=yesterday", "`from`"),
        ("to=2026-11-21", "`to`"),
        ("state=posted&state=parked", "`state`"),
        ("merchant=a\0b", "`merchant`"),
    ] {
        let refused = TRANSACTIONS.asked(&pairs(query)).unwrap_err();
        assert!(refused.0.contains(named), "{query}: {refused}");
    }
    assert!(ORDERS.asked(&pairs("kind=payment")).is_err(), "an order has no kind");
    assert!(TRANSACTIONS.asked(&pairs("limit=1000")).is_ok());
}

#[test]
fn a_merchant_finds_only_its_own() {
    let book = sample();
    let mut reader = book.reader();
    let foreign = ask::<views::Transaction>(&mut reader, &TRANSACTIONS, "merchant=bazaar").data.remove(0);
    let id = foreign.id.parse().unwrap();
    assert!(transaction(&mut reader, id, Some("bazaar")).unwrap().is_some());
    assert!(transaction(&mut reader, id, Some("shop")).unwrap().is_none());
    let asked = TRANSACTIONS.asked(&pairs("merchant=bazaar")).unwrap();
    assert!(list::<views::Transaction>(&mut reader, asked, Some("shop")).unwrap().data.is_empty());
}

#[test]
fn balances_are_debits_less_credits_by_account_and_currency() {
    let book = sample();
    let mut reader = book.reader();
    let card = accounts::one(&mut reader, "assets:channel:card").unwrap().unwrap();
    let expected =
        [views::Balance::new("CNY".to_owned(), 11_000, 3_500), views::Balance::new("JPY".to_owned(), 1_200, 1_200)];
    assert_eq!(card.balances, expected);
    assert_eq!(card.balances[0].balance_minor, 7_500);
    assert!(accounts::one(&mut reader, "assets:nothing").unwrap().is_none());
    let sums = accounts::sums(&mut reader).unwrap();
    assert_eq!(sums.iter().map(|sum| &*sum.currency).collect::<Vec<_>>(), ["CNY", "JPY"]);
    assert!(sums.iter().all(|sum| sum.debit_minor == sum.credit_minor && sum.debit_minor > 0));
    let ids: Vec<_> = accounts::all(&mut reader).unwrap().into_iter().map(|account| account.id).collect();
    let asked = |query: &str| accounts::AccountsQuery::read(&pairs(query)).unwrap();
    let first = accounts::list(&mut reader, &asked("limit=2"), None).unwrap();
    let query = format!("cursor={}", first.next.unwrap());
    let rest = accounts::list(&mut reader, &asked(&query), None).unwrap();
    let paged: Vec<_> = first.data.into_iter().chain(rest.data).map(|account| account.id).collect();
    assert_eq!((paged, rest.next), (ids, None));
    let own = accounts::list(&mut reader, &asked(""), Some("liabilities:merchant:shop")).unwrap();
    assert_eq!(own.data.len(), 1);
}

#[test]
fn as_of_sums_what_was_recorded_until_then() {
    let book = sample();
    let mut reader = book.reader();
    let mut at = |ms| {
        let account = accounts::as_of(&mut reader, "assets:channel:card", ms).unwrap().unwrap();
        (account.balances[0].balance_minor, account.balances[1].balance_minor)
    };
    assert_eq!(at(START - 1), (0, 0));
    assert_eq!(at(START), (10_000, 0), "the moment itself counts");
    assert_eq!(at(START + 999), (10_000, 0));
    assert_eq!(at(START + 1_000), (7_000, 0));
    assert_eq!(at(i64::MAX), (7_500, 0));
    let now = accounts::one(&mut reader, "liabilities:merchant:shop").unwrap();
    assert_eq!(accounts::as_of(&mut reader, "liabilities:merchant:shop", i64::MAX).unwrap(), now);
    assert!(accounts::as_of(&mut reader, "assets:nothing", START).unwrap().is_none());
}

#[test]
fn sums_beyond_64_bits_are_exact_and_shown_as_numbers() {
    let mut book = Book::empty();
    let most = providers::event::AMOUNT_MAX;
    let fact = book.fact(|transaction| transaction.amount_minor = Some(most));
    for _ in 0..1_100 {
        book.journal(&fact, crate::stored_enum::What::Post, "assets:channel:card", "liabilities:merchant:shop");
    }
    book.commit();
    let expected = i128::from(most) * 1_100;
    assert!(expected > i128::from(i64::MAX));
    let mut reader = book.reader();
    let now = accounts::one(&mut reader, "assets:channel:card").unwrap().unwrap();
    assert_eq!(now.balances[0].debit_minor, expected);
    assert_eq!(accounts::as_of(&mut reader, "assets:channel:card", START).unwrap().as_ref(), Some(&now));
    assert!(serde_json::to_string(&now).unwrap().contains(&format!(r#""debit_minor":{expected},"#)));
}

#[test]
fn objects_have_their_fields_in_their_fixed_order() {
    fn names(object: &impl serde::Serialize) -> String {
        let text = serde_json::to_string(object).unwrap();
        let Json::Object(fields) = serde_json::from_str(&text).unwrap() else { panic!("no object") };
        fields.keys().cloned().collect::<Vec<_>>().join(" ")
    }
    let book = sample();
    let mut reader = book.reader();
    assert_eq!(
        names(&ask::<views::Order>(&mut reader, &ORDERS, "").data[0]),
        "id merchant channel out_trade_no amount_minor currency source state paid_minor refunded_minor \
         refund_pending_minor created_at paid_at"
    );
    let shown = ask::<views::Transaction>(&mut reader, &TRANSACTIONS, "state=noted").data.remove(0);
    let fields = "id sequence kind state merchant channel order_id out_trade_no channel_txn_no payment_txn_no \
                  amount_minor currency fee_minor occurred_at recorded_at";
    assert_eq!(names(&shown), fields);
    let detail = transaction(&mut reader, shown.id.parse().unwrap(), None).unwrap().unwrap();
    assert_eq!(names(&detail), format!("{fields} entries"));
    assert_eq!(
        names(&ask::<views::Event>(&mut reader, &EVENTS, "").data[0]),
        "id type order_id merchant state attempts next_attempt_at last_status created_at delivered_at"
    );
    let anomaly = ask::<views::Anomaly>(&mut reader, &ANOMALIES, "").data.remove(0);
    assert_eq!(names(&anomaly), "id kind state channel transaction_id detail opened_at");
    let account = accounts::one(&mut reader, "income:fee:card").unwrap().unwrap();
    assert_eq!(
        serde_json::to_string(&account).unwrap(),
        r#"{"id":"income:fee:card","balances":[{"currency":"CNY","debit_minor":0,"credit_minor":60,"balance_minor":-60,"pending_debit_minor":0,"pending_credit_minor":0}]}"#
    );
}

/// A reader that counts what it is given.
struct Counting(super::tests::book::TestReader, usize);

impl Reader for Counting {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        self.1 += 1;
        self.0.select(sql, values, types)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.0.snapshot()
    }

    fn end(&mut self) {
        self.0.end();
    }
}

#[test]
fn a_span_of_time_is_found_by_place() {
    let mut book = book::Book::empty();
    for _ in 0..300 {
        book.order(|_| ());
        book.evidence("card");
        book.commit();
    }
    let mut reader = Counting(book.reader(), 0);
    let all: Vec<rows::Order> = rows(&mut reader, " ORDER BY seq", &[]).unwrap();
    let time = |at: usize| views::time(all[at].created_at);
    for (from, to, wanted) in [
        (Some(0), Some(300), 0..300),
        (Some(100), Some(103), 100..103),
        (Some(299), None, 299..300),
        (None, Some(1), 0..1),
        (None, Some(0), 0..0),
        (Some(300), None, 300..300),
    ] {
        let at = |at: usize| if at < 300 { time(at) } else { views::time(all[299].created_at + 1) };
        let mut pairs = vec![("limit".to_owned(), "1000".to_owned())];
        pairs.extend(from.map(|from| ("from".to_owned(), at(from))));
        pairs.extend(to.map(|to| ("to".to_owned(), at(to))));
        let asked = list::ORDERS.asked(&pairs).unwrap();
        let found: Page<views::Order> = super::list(&mut reader, asked, Some("shop")).unwrap();
        let places: Vec<String> = found.data.iter().rev().map(|order| order.id.to_string()).collect();
        let wanted: Vec<String> = all[wanted].iter().map(|order| order.id.to_string()).collect();
        assert_eq!(places, wanted, "{from:?} {to:?}");
    }
    assert!(reader.1 < 150, "{} questions", reader.1);
    let asked = list::ORDERS.asked(&vec![("from".to_owned(), time(100)), ("to".to_owned(), time(103))]).unwrap();
    assert_eq!(
        first_at(&mut reader, rows::Table::Order, asked.span().0, all[100].created_at).unwrap(),
        all[99].seq + 1
    );
}
