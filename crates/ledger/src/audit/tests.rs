//! Whole books are whole, and each thing that may be done to them is named.

mod beside;
mod later;

use super::*;
use crate::query::tests::book::{Book, full, sample};
use crate::rows::{Table, Type};

fn checked(book: &Book, anchor: Option<&Anchor>) -> Report {
    verify(&mut book.reader(), &book.key, vec![], anchor).unwrap()
}

fn anchor((sequence, head): (i64, Vec<u8>)) -> Anchor {
    Anchor::new(sequence, &head, 0)
}

/// Places and ids of a table's rows.
fn rows_of(book: &Book, table: &str) -> Vec<(i64, String)> {
    let mut statement = book.store.prepare(&format!("SELECT seq, id FROM {table} ORDER BY seq")).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// What is found after `harm` was done to one row of a table, which is put back then.
fn after(book: &Book, table: &str, harm: &str) -> Report {
    let keep = format!("CREATE TEMP TABLE before AS SELECT * FROM {table}; ");
    book.store.execute_batch(&(keep + harm)).unwrap_or_else(|e| panic!("{harm}: {e}"));
    let report = checked(book, None);
    let back = format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM before; DROP TABLE before");
    book.store.execute_batch(&back).unwrap();
    report
}

fn has(report: &Report, kind: DiscrepancyKind, table: &str, id: Option<&str>, sequence: Option<i64>) -> bool {
    assert_eq!(report.ok, report.problems.is_empty());
    report.problems.iter().any(|problem| {
        problem.kind == kind && problem.table == table && problem.id.as_deref() == id && problem.sequence == sequence
    })
}

/// Problems of the chain and its rows alone.
fn of_rows(report: &Report) -> Vec<&Discrepancy> {
    report.problems.iter().filter(|problem| problem.kind != DiscrepancyKind::Balance).collect()
}

#[test]
fn whole_books_are_whole() {
    let book = full();
    let (sequence, head) = book.head();
    let report = checked(&book, Some(&anchor((sequence, head.clone()))));
    assert_eq!(report, Report { ok: true, sequence, head: base::hex::encode(&head), problems: vec![] });
    let report = checked(&Book::empty(), None);
    assert_eq!(report, Report { ok: true, sequence: 0, head: String::new(), problems: vec![] });
}

#[test]
fn a_change_of_any_frozen_column_is_named_by_table_and_id() {
    let book = full();
    for table in Table::ALL {
        let (seq, id) = rows_of(&book, table.name()).pop().unwrap();
        for column in table.frozen() {
            let value = match column.ty {
                Type::Int => format!("COALESCE(\"{}\", 0) + 1", column.name),
                Type::Text => format!("COALESCE(\"{}\", '') || 'x'", column.name),
                Type::Blob => "X'00'".to_owned(),
            };
            let harm = format!("UPDATE {} SET \"{}\" = {value} WHERE seq = {seq}", table.name(), column.name);
            let report = after(&book, table.name(), &harm);
            assert!(has(&report, DiscrepancyKind::Changed, table.name(), Some(&id), Some(seq)), "{harm}: {report:?}");
            assert_eq!(of_rows(&report).len(), 1, "{harm}: {report:?}");
        }
    }
    assert!(checked(&book, None).ok, "everything was put back");
}

#[test]
fn a_changed_id_or_type_is_named_by_the_id_the_chain_holds() {
    let book = full();
    for table in Table::ALL {
        let (seq, id) = rows_of(&book, table.name()).remove(0);
        let name = table.name();
        let column = table.frozen()[0].name;
        for set in ["id = upper(id) || 'x'", "id = X'01'", "id = '00000000-0000-7000-8000-000000000000'"] {
            let report = after(&book, name, &format!("UPDATE {name} SET {set} WHERE seq = {seq}"));
            assert!(has(&report, DiscrepancyKind::Changed, name, Some(&id), Some(seq)), "{name} {set}: {report:?}");
        }
        let harm = format!("UPDATE {name} SET \"{column}\" = X'FF' WHERE seq = {seq}");
        let report = after(&book, name, &harm);
        assert!(has(&report, DiscrepancyKind::Changed, name, Some(&id), Some(seq)), "{harm}: {report:?}");
        assert_eq!(of_rows(&report).len(), 1, "only that row: {report:?}");
    }
}

#[test]
fn every_removed_row_is_named() {
    let book = full();
    for table in Table::ALL {
        for (seq, id) in rows_of(&book, table.name()) {
            let harm = format!("DELETE FROM {} WHERE seq = {seq}", table.name());
            let report = after(&book, table.name(), &harm);
            assert!(has(&report, DiscrepancyKind::Removed, table.name(), Some(&id), Some(seq)), "{harm}: {report:?}");
            assert_eq!(of_rows(&report).len(), 1, "{harm}: {report:?}");
        }
    }
}

#[test]
fn a_row_that_no_link_names_is_named() {
    let book = full();
    for seq in [-1, 0, 1_000_000] {
        let id = "0190aaaa-0000-7000-8000-000000000000";
        let harm = format!(
            "INSERT INTO anomalies SELECT {seq}, '{id}', kind, channel, merchant, transaction_id, evidence_id, detail, \
             opened_at, state FROM anomalies LIMIT 1"
        );
        let report = after(&book, "anomalies", &harm);
        assert!(has(&report, DiscrepancyKind::Changed, "anomalies", Some(id), Some(seq)), "{report:?}");
        assert_eq!(report.problems.len(), 1);
    }
    let (seq, id) = rows_of(&book, "evidence").remove(1);
    let report = after(&book, "evidence", &format!("UPDATE evidence SET seq = 5000 WHERE seq = {seq}"));
    assert!(has(&report, DiscrepancyKind::Removed, "evidence", Some(&id), Some(seq)), "{report:?}");
    assert!(has(&report, DiscrepancyKind::Changed, "evidence", Some(&id), Some(5_000)), "{report:?}");
}

#[test]
fn a_changed_link_is_named_and_its_followers_are_not() {
    let book = full();
    let last = book.head().0;
    let mut statement = book.store.prepare("SELECT seq FROM chain ORDER BY seq").unwrap();
    let links: Vec<i64> = statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert!(links.len() > 5);
    let mut before = 0;
    for seq in links {
        for set in ["link = zeroblob(32)", "link = 'text'"] {
            let report = after(&book, "chain", &format!("UPDATE chain SET {set} WHERE seq = {seq}"));
            assert!(has(&report, DiscrepancyKind::Changed, "chain", None, Some(seq)), "{report:?}");
            assert_eq!(report.problems.len(), 1, "{set} at {seq}: {report:?}");
        }
        let mut rows: Vec<u8> =
            book.store.query_row("SELECT rows FROM chain WHERE seq = ?", [seq], |row| row.get(0)).unwrap();
        *rows.last_mut().unwrap() ^= 1;
        let rows = format!("UPDATE chain SET rows = X'{}' WHERE seq = {seq}", base::hex::encode(&rows));
        let report = after(&book, "chain", &rows);
        assert!(has(&report, DiscrepancyKind::Changed, "chain", None, Some(seq)), "{report:?}");
        let chain: Vec<_> = report.problems.iter().filter(|problem| problem.table == "chain").collect();
        assert_eq!(chain.len(), 1, "{report:?}");
        let report = after(&book, "chain", &format!("DELETE FROM chain WHERE seq = {seq}"));
        if seq == last {
            let rows = report.problems.iter().filter(|problem| problem.kind == DiscrepancyKind::Changed).count() as i64;
            assert_eq!(rows, last - before, "rows that nothing vouches for: {report:?}");
        } else {
            assert_eq!(of_rows(&report).len(), 1, "{report:?}");
            assert!(has(&report, DiscrepancyKind::Removed, "chain", None, Some(seq)), "{report:?}");
        }
        before = seq;
    }
}

#[test]
fn a_link_made_without_the_key_is_found() {
    let mut book = full();
    let right = std::mem::replace(&mut book.key, ChainKey::new(&[8; 32]));
    book.evidence("card");
    book.commit();
    book.key = right;
    let report = checked(&book, None);
    assert!(has(&report, DiscrepancyKind::Changed, "chain", None, Some(book.head().0)), "{report:?}");
    assert_eq!(report.problems.len(), 1);
    let other = verify(&mut book.reader(), &ChainKey::new(&[9; 32]), vec![], None).unwrap();
    assert!(has(&other, DiscrepancyKind::Changed, "chain", None, Some(rows_of(&book, "events")[0].0)), "{other:?}");
}

#[test]
fn a_cut_tail_is_found_by_the_anchor_and_only_by_it() {
    let book = sample();
    let whole = anchor(book.head());
    let cut = "SELECT MAX(seq) FROM chain WHERE seq < (SELECT MAX(seq) FROM chain)";
    let to: i64 = book.store.query_row(cut, [], |row| row.get(0)).unwrap();
    // The last callback made an order, and no entry.
    let sql = format!("DELETE FROM orders WHERE seq > {to}; DELETE FROM chain WHERE seq > {to}");
    book.store.execute_batch(&sql).unwrap();
    let report = checked(&book, None);
    assert!(report.ok && report.sequence == to, "nothing else tells: {report:?}");
    let report = checked(&book, Some(&whole));
    assert_eq!(report.problems.len(), 1, "{report:?}");
    assert!(has(&report, DiscrepancyKind::Cut, "chain", None, Some(whole.sequence)));
    let head: Vec<u8> = book.store.query_row("SELECT link FROM chain WHERE seq = ?", [to], |row| row.get(0)).unwrap();
    assert!(checked(&book, Some(&anchor((to, head.clone())))).ok);
    assert!(has(&checked(&book, Some(&anchor((to, vec![1; 32])))), DiscrepancyKind::Cut, "chain", None, Some(to)));
    assert!(has(&checked(&book, Some(&anchor((to - 1, head)))), DiscrepancyKind::Cut, "chain", None, Some(to - 1)));
}

#[test]
fn a_balance_that_does_not_follow_from_the_entries_is_named() {
    let book = full();
    let card = "assets:channel:card";
    for (harm, account) in [
        ("UPDATE balances SET debit = '11001' WHERE account = 'assets:channel:card' AND currency = 'CNY'", card),
        ("UPDATE balances SET credit = 'much' WHERE account = 'assets:channel:card' AND currency = 'JPY'", card),
        ("UPDATE balances SET debit = 5.5 WHERE account = 'assets:channel:card' AND currency = 'JPY'", card),
        (
            "UPDATE balances SET pending_debit = '0' WHERE account = 'liabilities:merchant:shop'",
            "liabilities:merchant:shop",
        ),
        ("UPDATE balances SET pending_credit = '101' WHERE account = 'assets:channel:card' AND currency = 'CNY'", card),
        ("DELETE FROM balances WHERE account = 'income:fee:card'", "income:fee:card"),
        ("INSERT INTO balances VALUES ('assets:bank', 'CNY', '0', '0', '0', '0')", "assets:bank"),
    ] {
        let report = after(&book, "balances", harm);
        assert_eq!(report.problems.len(), 1, "{harm}: {report:?}");
        assert!(has(&report, DiscrepancyKind::Balance, "balances", Some(account), None), "{harm}: {report:?}");
    }
    let report = after(&book, "balances", "UPDATE balances SET debit = X'FF' WHERE account = 'income:fee:card'");
    assert!(has(&report, DiscrepancyKind::Balance, "balances", None, None), "one that cannot be read: {report:?}");
    assert!(has(&report, DiscrepancyKind::Balance, "balances", Some("income:fee:card"), None), "{report:?}");
    assert_eq!(report.problems.len(), 2);
}

#[test]
fn state_that_does_not_follow_from_the_journals_is_named() {
    let book = full();
    let name = |table: &str, condition: &str| -> (i64, String) {
        let sql = format!("SELECT seq, id FROM {table} WHERE {condition}");
        book.store.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    for (table, row, set) in [
        ("transactions", "channel_txn_no = 'pi_1'", "state = 'suspense'"),
        ("transactions", "channel_txn_no = 'pi_1'", "state = 'gone'"),
        ("transactions", "channel_txn_no = 'pi_1'", "order_id = NULL"),
        ("transactions", "channel_txn_no = 'pi_1'", "fee_minor = 61"),
        ("transactions", "channel_txn_no = 'pi_1'", "fee_minor = NULL"),
        ("transactions", "channel_txn_no = 'pi_1'", "refunded_minor = 0"),
        ("transactions", "channel_txn_no = 'pi_1'", "held_minor = 0"),
        ("transactions", "channel_txn_no = 're_3000'", "payment_txn_no = 'pi_2'"),
        ("transactions", "channel_txn_no = 're_3000'", "refunded_minor = 1"),
        ("transactions", "kind = 'fee'", "state = 'noted'"),
        ("transactions", "state = 'parked'", "state = 'posted'"),
        ("refunds", "out_refund_no = 'R-1'", "state = 'succeeded'"),
        ("transfers", "amount_minor = 50", "state = 'posted'"),
        ("orders", "out_trade_no = 'T-adopted'", "refund_pending_minor = 0"),
        ("orders", "out_trade_no = 'T-adopted'", "asked_minor = 1"),
        ("orders", "out_trade_no = 'T-adopted'", "asked_currency = 'EUR'"),
        ("transactions", "state = 'noted'", "state = 'parked'"),
        ("orders", "out_trade_no = 'T-1'", "state = 'paid'"),
        ("orders", "out_trade_no = 'T-1'", "paid_minor = 9999"),
        ("orders", "out_trade_no = 'T-1'", "refunded_minor = 3000"),
        ("orders", "out_trade_no = 'T-1'", "paid_at = NULL"),
        ("orders", "out_trade_no = 'T-1'", "paid_at = paid_at + 1"),
        ("orders", "out_trade_no = 'T-1'", "refund_pending_minor = 1"),
        ("transactions", "channel_txn_no = 'pi_1'", "out_trade_no = 'T-2'"),
        ("transactions", "channel_txn_no = 'pi_1'", "currency = 'JPY'"),
        ("orders", "out_trade_no = 'A-1'", "state = 'paid'"),
        ("orders", "out_trade_no = 'J-1'", "state = 'refunded'"),
        ("orders", "out_trade_no = 'T-api'", "state = 'paid'"),
    ] {
        let (seq, id) = name(table, row);
        let report = after(&book, table, &format!("UPDATE {table} SET {set} WHERE seq = {seq}"));
        assert!(has(&report, DiscrepancyKind::Balance, table, Some(&id), Some(seq)), "{table} {row} {set}: {report:?}");
        assert!(of_rows(&report).is_empty(), "{set}: {report:?}");
    }
    let report = after(&book, "orders", "UPDATE orders SET state = 'closed' WHERE out_trade_no = 'T-api'");
    assert!(report.ok, "an order may be closed: {report:?}");
}

#[test]
fn an_event_that_lost_its_state_is_named() {
    let book = full();
    for (seq, id) in rows_of(&book, "events") {
        let report = after(&book, "outbox", &format!("DELETE FROM outbox WHERE seq = {seq}"));
        assert!(has(&report, DiscrepancyKind::Removed, "outbox", Some(&id), Some(seq)), "{report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?}");
    }
}

#[test]
fn state_of_no_event_or_of_another_merchant_is_named() {
    let book = full();
    for (seq, id) in rows_of(&book, "events") {
        let harm = format!("UPDATE outbox SET merchant = merchant || 'x' WHERE seq = {seq}");
        let report = after(&book, "outbox", &harm);
        assert!(has(&report, DiscrepancyKind::Balance, "outbox", Some(&id), Some(seq)), "{report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?}");
    }
    let (between, end) = (rows_of(&book, "evidence")[0].0, book.head().0);
    for seq in [-1, between, end + 1, end + 1_000] {
        let report = after(
            &book,
            "outbox",
            &format!(
                "INSERT INTO outbox SELECT {seq}, merchant, state, attempts, round, next_attempt_at, last_status, \
                 delivered_at FROM outbox LIMIT 1"
            ),
        );
        assert!(has(&report, DiscrepancyKind::Balance, "outbox", None, Some(seq)), "{seq}: {report:?}");
        assert_eq!(report.problems.len(), 1, "{report:?}");
    }
}

#[test]
fn rows_that_the_key_holder_wrote_wrongly_are_found_too() {
    let mut book = Book::empty();
    let fact = book.fact(|_| ());
    book.commit();
    let report = checked(&book, None);
    assert!(
        has(&report, DiscrepancyKind::Balance, "transactions", Some(&fact.id.to_string()), Some(1)),
        "no journal: {report:?}"
    );
}

#[test]
fn many_pages_are_verified_as_one() {
    let mut book = Book::empty();
    for at in 0..1_200 {
        let evidence_id = Some(book.evidence("card"));
        let fact = book.fact(|t| (t.evidence_id, t.channel_txn_no) = (evidence_id, Some(format!("pi_{at}"))));
        book.journal(&fact, crate::stored_enum::What::Post, "assets:channel:card", "liabilities:merchant:shop");
        book.commit();
    }
    let report = checked(&book, Some(&anchor(book.head())));
    assert!(report.ok, "{:?}", report.problems.first());
    let (seq, id) = rows_of(&book, "entries").remove(2_001);
    let report = after(&book, "entries", &format!("UPDATE entries SET currency = 'USD' WHERE seq = {seq}"));
    assert!(has(&report, DiscrepancyKind::Changed, "entries", Some(&id), Some(seq)), "{report:?}");
    assert_eq!(of_rows(&report).len(), 1);
}
