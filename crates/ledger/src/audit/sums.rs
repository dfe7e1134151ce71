//! Verifies what follows from several rows: a payment's refunds and fee, an order's state, and the state of what was
//! asked for.
//!
//! The engine joins and sums, for a range of rows or for named ones, so that this process holds none of it; only
//! mismatches come back. A payment, its refunds and its fee have one order, by whose index they are found. The states
//! by which it sums are verified against the journals. Chargebacks leave an order as it is.

use super::derived::Touched;
use super::{Collected, DiscrepancyKind, Range};
use crate::rows::{Cell, Type, Value};
use crate::store::{Reader, StoreError};

/// The most ids in one statement.
const NAMES: usize = 500;

/// Payments whose refunds less their reversals (posted, and in suspense) or fee do not match.
const PAYMENTS: &str = "
    SELECT p.seq, p.id FROM transactions p
    LEFT JOIN transactions r ON r.order_id = p.order_id AND r.payment_txn_no = p.channel_txn_no
    WHERE p.kind = 'payment' AND {}
    GROUP BY p.seq
    HAVING p.refunded_minor <> COALESCE(CAST(SUM(CASE
            WHEN r.state <> 'posted' OR r.provider <> p.provider OR r.account <> p.account THEN 0
            WHEN r.kind = 'refund' THEN r.amount_minor
            WHEN r.kind = 'refund_reversal' THEN -r.amount_minor ELSE 0 END) AS BIGINT), 0)
        OR p.held_minor <> COALESCE(CAST(SUM(CASE
            WHEN r.state <> 'suspense' OR r.provider <> p.provider OR r.account <> p.account THEN 0
            WHEN r.kind = 'refund' THEN r.amount_minor
            WHEN r.kind = 'refund_reversal' THEN -r.amount_minor ELSE 0 END) AS BIGINT), 0)
        OR p.channel_txn_no IS NOT NULL AND COALESCE(p.fee_minor, 0) <> COALESCE(CAST(SUM(CASE
            WHEN r.kind = 'fee' AND r.provider = '' AND r.state = 'posted' AND r.channel = p.channel
            THEN r.amount_minor ELSE 0 END) AS BIGINT), 0)
    ORDER BY p.seq LIMIT 1000";

/// Orders whose amounts or state do not follow from their payments.
const ORDERS: &str = "
    SELECT o.seq, o.id FROM orders o LEFT JOIN transactions t ON t.order_id = o.id AND t.kind = 'payment'
    WHERE {}
    GROUP BY o.seq
    HAVING o.paid_minor <> COALESCE(CAST(SUM(CASE WHEN t.state = 'posted' THEN t.amount_minor ELSE 0 END) AS BIGINT), 0)
        OR o.refunded_minor
            <> COALESCE(CAST(SUM(CASE WHEN t.state = 'posted' THEN t.refunded_minor ELSE 0 END) AS BIGINT), 0)
        OR o.refund_pending_minor <> COALESCE((SELECT CAST(SUM(r.amount_minor) AS BIGINT) FROM refunds r
            WHERE r.order_id = o.id AND r.state = 'pending'), 0)
        OR COALESCE(o.asked_minor, -1) <> COALESCE((SELECT a.amount_minor FROM adoptions a WHERE a.order_id = o.id), -1)
        OR COALESCE(o.asked_currency, '') <> COALESCE((SELECT a.currency FROM adoptions a WHERE a.order_id = o.id), '')
        OR COALESCE(o.paid_at, -1) <> COALESCE(MIN(CASE WHEN t.state = 'posted' THEN t.recorded_at END), -1)
        OR CASE
            WHEN o.paid_minor > 0 AND o.refunded_minor >= o.paid_minor THEN o.state <> 'refunded'
            WHEN o.paid_minor > 0 AND o.refunded_minor > 0 THEN o.state <> 'partially_refunded'
            WHEN o.paid_minor > 0 THEN o.state <> 'paid'
            WHEN SUM(CASE WHEN t.state = 'suspense' THEN 1 ELSE 0 END) > 0 THEN o.state NOT IN ('suspense', 'closed')
            ELSE o.state NOT IN ('pending', 'closed') END
    ORDER BY o.seq LIMIT 1000";

/// Requested refunds that succeeded without a refund in the books.
const REFUNDS: &str = "
    SELECT f.seq, f.id FROM refunds f
    WHERE {} AND f.state = 'succeeded'
        AND NOT EXISTS (SELECT 1 FROM transactions t WHERE t.id = f.transaction_id AND t.kind = 'refund')
    ORDER BY f.seq LIMIT 1000";

/// Transfers that are posted without entries between their accounts, or have a transaction without being posted.
const TRANSFERS: &str = "
    SELECT f.seq, f.id FROM transfers f
    WHERE {} AND CASE WHEN f.state = 'posted' THEN 2 ELSE 0 END
        <> (SELECT COUNT(*) FROM entries e WHERE e.transaction_id = f.transaction_id
            AND e.amount_minor = f.amount_minor AND e.currency = f.currency
            AND (e.side = 'debit' AND e.account = f.debit_account OR e.side = 'credit' AND e.account = f.credit_account))
    ORDER BY f.seq LIMIT 1000";

/// Verifies payments, orders, requested refunds and transfers of a range.
pub fn verify(reader: &mut dyn Reader, range: Range, found: &mut Collected) -> Result<(), StoreError> {
    let bounds = [Value::Int(range.0), Value::Int(range.1)];
    for (sql, row, table) in [
        (PAYMENTS, "p.", "transactions"),
        (ORDERS, "o.", "orders"),
        (REFUNDS, "f.", "refunds"),
        (TRANSFERS, "f.", "transfers"),
    ] {
        let sql = sql.replace("{}", &format!("{row}seq > $1 AND {row}seq <= $2"));
        name(reader, (&sql, &bounds), (DiscrepancyKind::Balance, table), found)?;
    }
    Ok(())
}

/// Verifies payments and orders up to `old` that newer rows have touched.
pub fn verify_old(
    reader: &mut dyn Reader,
    touched: &Touched,
    old: i64,
    found: &mut Collected,
) -> Result<(), StoreError> {
    let payments: Vec<Value> = touched.payments.iter().map(Cell::put).collect();
    among(reader, PAYMENTS, ("p.channel_txn_no", "p.seq"), (&payments, old), "transactions", found)?;
    let booked: Vec<Value> = touched.booked.iter().map(Cell::put).collect();
    among(reader, PAYMENTS, ("p.id", "p.seq"), (&booked, old), "transactions", found)?;
    let orders: Vec<Value> = touched.orders.iter().map(Cell::put).collect();
    among(reader, ORDERS, ("o.id", "o.seq"), (&orders, old), "orders", found)
}

fn among(
    reader: &mut dyn Reader,
    sql: &str,
    (column, place): (&str, &str),
    (names, old): (&[Value], i64),
    table: &'static str,
    found: &mut Collected,
) -> Result<(), StoreError> {
    for names in names.chunks(NAMES) {
        let mut values = names.to_vec();
        // One text for any number of names, so that an engine prepares it once.
        values.resize(NAMES, names[0].clone());
        let marks: Vec<String> = (1..=NAMES).map(|at| format!("${at}")).collect();
        values.push(Value::Int(old));
        let condition = format!("{column} IN ({}) AND {place} <= ${}", marks.join(", "), values.len());
        name(reader, (&sql.replace("{}", &condition), &values), (DiscrepancyKind::Balance, table), found)?;
    }
    Ok(())
}

/// Reports each row that a query returns.
pub fn name(
    reader: &mut dyn Reader,
    (sql, values): (&str, &[Value]),
    (harm, table): (DiscrepancyKind, &'static str),
    found: &mut Collected,
) -> Result<(), StoreError> {
    let rows = match reader.select(sql, values, &[Type::Int, Type::Text]) {
        // An id that is not text: the check of the chain reports it; here the place must do.
        Err(StoreError::Row(_)) => reader.select(&format!("SELECT q.seq FROM ({sql}) q"), values, &[Type::Int])?,
        rows => rows?,
    };
    for row in rows {
        let mut cells = row.into_iter();
        let seq = cells.next().and_then(i64::take);
        let id = cells.next().and_then(String::take);
        found.add(harm, table, id, seq);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::book::Book;

    #[test]
    fn payments_and_orders_are_joined_by_index() {
        let (book, text) = (Book::empty(), Type::Text);
        for (sql, row) in [(PAYMENTS, "p."), (ORDERS, "o.")] {
            let sql = sql.replace("{}", &format!("{row}seq > 1 AND {row}seq <= 2"));
            let types = [Type::Int, Type::Int, Type::Int, text];
            let plan = book.reader().select(&format!("EXPLAIN QUERY PLAN {sql}"), &[], &types).unwrap();
            let plan = format!("{plan:?}");
            assert!(!plan.contains("SCAN") && !plan.contains("B-TREE") && !plan.contains("AUTOMATIC"), "{sql}: {plan}");
            assert!(plan.contains("transactions_order"), "{sql}: {plan}");
        }
        for sql in [REFUNDS, TRANSFERS] {
            let sql = sql.replace("{}", "f.seq > 1 AND f.seq <= 2");
            let types = [Type::Int, Type::Int, Type::Int, text];
            let plan = book.reader().select(&format!("EXPLAIN QUERY PLAN {sql}"), &[], &types).unwrap();
            assert!(!format!("{plan:?}").contains("SCAN"), "{sql}: {plan:?}");
        }
    }
}
