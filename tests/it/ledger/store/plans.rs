//! Questions to a store of many rows: each is answered by an index, and none takes longer than it may.

use std::time::Duration;

use base::units::Currency;
use config::model::ledger::Store as Place;
use ledger::deliver::due::{self, Question, Scan};
use ledger::deliver::parcel::{Parcel, To};
use ledger::monitor::queries;
use ledger::query::{
    self,
    list::{self, List},
};
use ledger::rows::{Link, Refund, Transfer, Type, Typed, Value};
use ledger::store::{self, Changes, Reader, Readers, StoreError};
use ledger::stored_enum::{RefundState, TransferState};
use uuid::Uuid;

use super::alike::{keep, open};
use super::rows::{Callback, callback, id};
use crate::support::eventually;
use crate::support::postgres::Postgres;

/// The steps by which a statement is answered.
fn plan(place: &Place, reader: &mut dyn Reader, sql: &str, values: &[Value]) -> String {
    let (explain, types): (&str, &[Type]) = match place {
        Place::Sqlite(_) => ("EXPLAIN QUERY PLAN", &[Type::Int, Type::Int, Type::Int, Type::Text]),
        Place::Postgres { .. } => ("EXPLAIN", &[Type::Text]),
    };
    let rows = reader.select(&format!("{explain} {sql}"), values, types).unwrap();
    let step = |row: Vec<Value>| if let Some(Value::Text(step)) = row.last() { step.clone() } else { String::new() };
    rows.into_iter().map(step).collect::<Vec<_>>().join("\n")
}

/// Runs a statement on the store as nobody of the ledger would.
fn by_hand(place: &Place, sql: &str) {
    match place {
        Place::Sqlite(path) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
        Place::Postgres { url, .. } => Postgres::client(url).batch_execute(sql).unwrap(),
    }
}

/// Many callbacks of two merchants, one of whom has few, without statistics; the first of them.
fn fill_untold(place: &Place) -> Callback {
    let mut store = open(place);
    let mut first = None;
    for batch in 0..10 {
        let mut all = Changes::default();
        for at in batch * 200..batch * 200 + 200 {
            let mut one = callback(1 + at * 8, &at.to_string());
            let merchant = if at % 500 == 0 { "corner" } else { "shop" };
            one.order.merchant = merchant.into();
            one.transaction.merchant = merchant.into();
            one.event.merchant = merchant.into();
            one.anomaly.merchant = merchant.into();
            let Changes { rows, links, .. } = one.changes();
            first.get_or_insert(one);
            all.rows.extend(rows);
            all.links.extend(links);
        }
        keep(&mut *store, &all);
    }
    first.expect("a callback")
}

/// What merchants asked for by API.
fn fill_requests(place: &Place) {
    let mut store = open(place);
    let mut all = Changes::default();
    for at in 0..1_000 {
        let merchant = if at % 500 == 0 { "corner" } else { "shop" }.to_owned();
        let refund = Refund {
            seq: 20_001 + at * 2,
            id: Uuid::now_v7(),
            order_id: Uuid::now_v7(),
            merchant: merchant.clone(),
            channel: "card".into(),
            out_refund_no: format!("refund-{at}"),
            amount_minor: 1,
            currency: Currency::CNY,
            created_at: at,
            state: RefundState::Succeeded,
            transaction_id: None,
            refund_txn_no: None,
            query_at: None,
        };
        let transfer = Transfer {
            seq: refund.seq + 1,
            id: Uuid::now_v7(),
            merchant,
            debit_account: "assets:bank".into(),
            credit_account: "equity:own".into(),
            amount_minor: 1,
            currency: Currency::CNY,
            created_at: at,
            expires_at: None,
            state: TransferState::Posted,
            transaction_id: None,
            check_at: None,
        };
        all.rows.extend([refund.row(), transfer.row()]);
    }
    all.links.push(Link { seq: 22_000, rows: vec![], link: vec![1] });
    keep(&mut *store, &all);
}

/// The same, which the engine has looked at.
fn fill(place: &Place) {
    fill_untold(place);
    fill_requests(place);
    by_hand(place, "ANALYZE");
    if let Place::Sqlite(_) = place {
        // A ledger's file has no statistics: nobody asks for them.
        by_hand(place, "DROP TABLE sqlite_stat1");
    }
}

/// A list, what it is asked for, a scope, and the index that answers.
type Case = (&'static List, &'static [(&'static str, &'static str)], Option<&'static str>, &'static str);

const NUMBER: &[(&str, &str)] = &[("out_trade_no", "order-7")];
const BOTH: &[(&str, &str)] = &[("merchant", "shop"), ("out_trade_no", "order-7")];
const OF_SHOP: &[(&str, &str)] = &[("merchant", "shop")];
const OF_CORNER: &[(&str, &str)] = &[("merchant", "corner")];
const REFUND: &[(&str, &str)] = &[("out_refund_no", "refund-7")];
const TXN: &[(&str, &str)] = &[("channel_txn_no", "txn-7")];

const CASES: &[Case] = &[
    (&list::ORDERS, OF_CORNER, None, "orders_merchant"),
    (&list::ORDERS, &[], Some("corner"), "orders_merchant"),
    (&list::ORDERS, NUMBER, None, "orders_out_trade_no"),
    (&list::ORDERS, NUMBER, Some("shop"), "orders_out_trade_no"),
    (&list::ORDERS, BOTH, Some("shop"), "orders_out_trade_no"),
    (&list::TRANSACTIONS, OF_CORNER, None, "transactions_merchant"),
    (&list::TRANSACTIONS, &[], Some("corner"), "transactions_merchant"),
    (&list::TRANSACTIONS, NUMBER, None, "transactions_out_trade_no"),
    (&list::TRANSACTIONS, BOTH, Some("shop"), "transactions_out_trade_no"),
    (&list::TRANSACTIONS, TXN, Some("shop"), "transactions_number"),
    (&list::EVENTS, OF_CORNER, None, "events_merchant"),
    (&list::EVENTS, &[], Some("corner"), "events_merchant"),
    (&list::EVENTS, NUMBER, None, "events_order"),
    (&list::EVENTS, BOTH, Some("shop"), "events_order"),
    (&list::EVENTS, TXN, Some("shop"), "events_order"),
    (&list::REFUNDS, OF_CORNER, None, "refunds_merchant"),
    (&list::REFUNDS, &[], Some("corner"), "refunds_merchant"),
    (&list::REFUNDS, NUMBER, Some("shop"), "refunds_order"),
    (&list::REFUNDS, REFUND, Some("shop"), "refunds_number"),
    (&list::TRANSFERS, OF_CORNER, None, "transfers_merchant"),
    (&list::TRANSFERS, &[], Some("corner"), "transfers_merchant"),
    (&list::ANOMALIES, OF_CORNER, None, "anomalies_merchant"),
    (&list::ANOMALIES, &[], Some("corner"), "anomalies_merchant"),
    (&list::ANOMALIES, NUMBER, Some("shop"), "anomalies_transaction"),
    (&list::ANOMALIES, TXN, None, "anomalies_transaction"),
];

pub fn every_list_is_answered_by_an_index(place: &Place) {
    fill(place);
    let readers = Readers::limited(place.clone(), Duration::from_secs(60));
    let shown = |(list, pairs, scope, index): &Case| {
        let pairs = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut asked = list.asked(&pairs).unwrap();
        scope.iter().for_each(|merchant| asked.of(merchant));
        let (tail, values) = asked.sql();
        let sql = query::select(list.table, &tail);
        let plan = readers.with(|reader| Ok(plan(place, reader, &sql, &values))).unwrap();
        assert!(plan.contains(index), "{sql}: {plan}");
        assert!(!plan.contains("SCAN ") && !plan.contains("Seq Scan"), "{sql}: {plan}");
    };
    CASES.iter().for_each(shown);
    // Whoever has much is read from his newest rows on, by whichever index has their order.
    for list in [&list::ORDERS, &list::TRANSACTIONS, &list::EVENTS, &list::REFUNDS, &list::TRANSFERS] {
        let pairs = OF_SHOP.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let (tail, values) = list.asked(&pairs).unwrap().sql();
        let sql = query::select(list.table, &tail);
        let plan = readers.with(|reader| Ok(plan(place, reader, &sql, &values))).unwrap();
        assert!(!plan.to_lowercase().contains("sort") && !plan.contains("B-TREE"), "{sql}: {plan}");
    }
}

/// Asks for the plan of each question before it asks the question.
struct Explaining<'a> {
    place: &'a Place,
    reader: &'a mut dyn Reader,
    plans: Vec<(String, String)>,
}

impl Reader for Explaining<'_> {
    fn select(&mut self, sql: &str, values: &[Value], types: &[Type]) -> Result<Vec<Vec<Value>>, StoreError> {
        self.plans.push((sql.to_owned(), plan(self.place, self.reader, sql, values)));
        self.reader.select(sql, values, types)
    }

    fn snapshot(&mut self) -> Result<(), StoreError> {
        self.reader.snapshot()
    }

    fn end(&mut self) {
        self.reader.end();
    }
}

/// Whether each table is searched by an index for the rows that are asked for; of what is pending all may be read.
fn is_by_index(plan: &str) -> bool {
    let steps: Vec<&str> = plan.lines().filter(|step| !step.contains("outbox_due")).collect();
    let found = |(at, step): (usize, &&str)| match *step {
        // The rows of a question within the question.
        "SCAN e" => steps.contains(&"CO-ROUTINE e"),
        step if step.contains("SCAN ") || step.contains("Seq Scan") => false,
        // PostgreSQL names the condition below the index; without one it reads all of it.
        step if step.contains("Index") && step.contains(" on ") => steps[at + 1].contains("Index Cond"),
        _ => true,
    };
    plan.contains("outbox") && steps.iter().enumerate().all(found)
}

/// Whether a merchant's due events are read from the index of what is pending as they stand there: his alone, unsorted.
fn is_in_order(plan: &str) -> bool {
    let steps: Vec<&str> = plan.lines().collect();
    let of_merchant = steps.iter().enumerate().any(|(at, step)| {
        // PostgreSQL names the condition below the index.
        step.contains("outbox_due")
            && [Some(step), steps.get(at + 1)].iter().flatten().any(|step| step.contains("(merchant ="))
            || step.contains("outbox_due (merchant=? AND next_attempt_at>? AND next_attempt_at<?)")
    });
    of_merchant && !plan.contains("Sort") && !plan.contains("B-TREE")
}

pub fn what_is_due_is_found_by_an_index(place: &Place) {
    let event = fill_untold(place).event;
    let readers = Readers::of_points(place.clone());
    for with_statistics in [false, true] {
        if with_statistics {
            by_hand(place, "ANALYZE");
        }
        let to = [To::Merchant("shop".into()), To::Endpoint(id())];
        let scans = to.clone().map(|to| Scan { to, behind: (0, 0), limit: 50 }).to_vec();
        // As many as come together: an engine expects many events of them.
        let orders = event.order_id.into_iter().chain(std::iter::repeat_with(id).take(150));
        let freed = orders.flat_map(|order| to.clone().map(|to| (to, order))).collect();
        let question = Question { now_ms: i64::MAX, tail: Some(8), freed, scans, names: true, endpoints: true };
        let (found, plans) = readers
            .with(|reader| {
                let mut reader = Explaining { place, reader, plans: vec![] };
                let found = due::ask(&mut reader, &question)?;
                queries::look(&mut reader)?;
                Ok((found, reader.plans))
            })
            .unwrap();
        assert_eq!((found.new.len(), found.scans[0].len(), found.names.len()), (due::TAIL, 50, 2));
        assert_eq!(found.freed, [Parcel::from(event.clone())]);
        let of_outbox: Vec<_> = plans.iter().filter(|(sql, _)| sql.contains("out")).collect();
        assert_eq!(of_outbox.len(), 5, "tail, freed, scan, names, pending: {of_outbox:#?}");
        let of_deliveries: Vec<_> = plans.iter().filter(|(sql, _)| sql.contains("deliveries AS o")).collect();
        assert_eq!(of_deliveries.len(), 3, "tail, freed, scan: {of_deliveries:#?}");
        for (sql, plan) in of_deliveries {
            let reads_all = ["SCAN o", "SCAN e", "Seq Scan on deliveries", "Seq Scan on events"];
            assert!(!reads_all.iter().any(|all| plan.contains(all)), "{sql}: {plan}");
        }
        let wrong: Vec<_> = of_outbox.iter().filter(|(_, plan)| !is_by_index(plan)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let scan = plans.iter().find(|(sql, _)| sql.contains("o.merchant = ")).expect("a scan");
        assert!(is_in_order(&scan.1), "{}: {}", scan.0, scan.1);
    }
}

pub fn a_read_that_takes_too_long_is_ended(place: &Place) {
    drop(open(place));
    let readers = Readers::limited(place.clone(), Duration::from_millis(100));
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT (i + 1) % 1000 FROM n) SELECT COUNT(*) FROM n";
    for _ in 0..2 {
        let answer = readers.with(|reader| reader.select(endless, &[], &[Type::Int]));
        assert!(matches!(answer, Err(StoreError::Slow(_))), "{answer:?}");
        let one = readers.with(|reader| reader.select("SELECT COUNT(*) FROM orders", &[], &[Type::Int]));
        assert_eq!(one.unwrap(), [[Value::Int(0)]], "the next one has its own time");
    }
}

pub fn an_index_that_is_missing_is_made_again(place: &Place) {
    keep(&mut *open(place), &callback(1, "a").changes());
    by_hand(place, "DROP INDEX orders_merchant; DROP INDEX transactions_meaning");
    if let Place::Postgres { .. } = place {
        // As one that was broken off is left behind.
        by_hand(place, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'events_merchant'::regclass");
    }
    let _store = open(place);
    let there = match place {
        Place::Sqlite(_) => "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'index' AND name = $1",
        Place::Postgres { .. } => "SELECT COUNT(*) FROM pg_index WHERE indexrelid = to_regclass($1) AND indisvalid",
    };
    let mut reader = store::reader(place).unwrap();
    for name in ["orders_merchant", "transactions_meaning", "events_merchant"] {
        eventually("the index", || {
            let count = reader.select(there, &[Value::Text(name.into())], &[Type::Int]).unwrap();
            (count == [[Value::Int(1)]]).then_some(())
        });
    }
}
