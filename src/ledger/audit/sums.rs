//! What follows from several transactions: a payment's refunds and fee, and an order's state.
//!
//! The engine joins and sums, so that nothing of it is held here; only what does not fit comes back. The states it sums
//! by were verified against the journals before. Chargebacks leave an order as it is.

use super::{Found, Harm};
use crate::ledger::rows::{Cell, Type};
use crate::ledger::store::{Failure, Reader};

/// Refunds of a payment, less their reversals: posted, and in suspense.
const REFUNDS: &str = "
    SELECT p.seq, p.id FROM transactions p LEFT JOIN (
        SELECT provider, account, payment_txn_no,
            CAST(SUM(CASE WHEN state <> 'posted' THEN 0 WHEN kind = 'refund' THEN amount_minor
                ELSE -amount_minor END) AS BIGINT) AS posted,
            CAST(SUM(CASE WHEN state <> 'suspense' THEN 0 WHEN kind = 'refund' THEN amount_minor
                ELSE -amount_minor END) AS BIGINT) AS held
        FROM transactions
        WHERE kind IN ('refund', 'refund_reversal') AND state IN ('posted', 'suspense') AND payment_txn_no IS NOT NULL
        GROUP BY provider, account, payment_txn_no
    ) r ON r.provider = p.provider AND r.account = p.account AND r.payment_txn_no = p.channel_txn_no
    WHERE p.kind = 'payment'
        AND (p.refunded_minor <> COALESCE(r.posted, 0) OR p.held_minor <> COALESCE(r.held, 0))
    ORDER BY p.seq LIMIT 1000";

/// The fee of a payment.
const FEES: &str = "
    SELECT p.seq, p.id FROM transactions p LEFT JOIN (
        SELECT channel, payment_txn_no, CAST(SUM(amount_minor) AS BIGINT) AS fee
        FROM transactions WHERE kind = 'fee' AND provider = '' AND state = 'posted' AND payment_txn_no IS NOT NULL
        GROUP BY channel, payment_txn_no
    ) f ON f.channel = p.channel AND f.payment_txn_no = p.channel_txn_no
    WHERE p.kind = 'payment' AND p.channel_txn_no IS NOT NULL AND COALESCE(p.fee_minor, 0) <> COALESCE(f.fee, 0)
    ORDER BY p.seq LIMIT 1000";

/// What an order's payments make of it.
const ORDERS: &str = "
    SELECT o.seq, o.id FROM orders o LEFT JOIN (
        SELECT order_id,
            CAST(SUM(CASE WHEN state = 'posted' THEN amount_minor ELSE 0 END) AS BIGINT) AS paid,
            CAST(SUM(CASE WHEN state = 'posted' THEN refunded_minor ELSE 0 END) AS BIGINT) AS refunded,
            CAST(SUM(CASE WHEN state = 'suspense' THEN 1 ELSE 0 END) AS BIGINT) AS held,
            MIN(CASE WHEN state = 'posted' THEN recorded_at END) AS at
        FROM transactions WHERE kind = 'payment' AND order_id IS NOT NULL GROUP BY order_id
    ) t ON t.order_id = o.id
    WHERE o.paid_minor <> COALESCE(t.paid, 0)
        OR o.refunded_minor <> COALESCE(t.refunded, 0)
        OR o.refund_pending_minor <> 0
        OR COALESCE(o.paid_at, -1) <> COALESCE(t.at, -1)
        OR CASE
            WHEN COALESCE(t.paid, 0) > 0 AND t.refunded >= t.paid THEN o.state <> 'refunded'
            WHEN COALESCE(t.paid, 0) > 0 AND t.refunded > 0 THEN o.state <> 'partially_refunded'
            WHEN COALESCE(t.paid, 0) > 0 THEN o.state <> 'paid'
            WHEN COALESCE(t.held, 0) > 0 THEN o.state NOT IN ('suspense', 'closed')
            ELSE o.state NOT IN ('pending', 'closed') END
    ORDER BY o.seq LIMIT 1000";

/// Verifies payments, orders and anomalies.
pub fn verify(reader: &mut dyn Reader, found: &mut Found) -> Result<(), Failure> {
    name(reader, REFUNDS, "transactions", found)?;
    name(reader, FEES, "transactions", found)?;
    name(reader, ORDERS, "orders", found)?;
    super::resolved::verify(reader, found)
}

/// Tells each row that a query names, once.
pub fn name(reader: &mut dyn Reader, sql: &str, table: &'static str, found: &mut Found) -> Result<(), Failure> {
    let rows = match reader.select(sql, &[], &[Type::Int, Type::Text]) {
        // An id that is no text: the chain told its own; here the place must do.
        Err(Failure::Row(_)) => reader.select(&format!("SELECT q.seq FROM ({sql}) q"), &[], &[Type::Int])?,
        rows => rows?,
    };
    for row in rows {
        let mut cells = row.into_iter();
        let seq = cells.next().and_then(i64::take);
        let id = cells.next().and_then(String::take);
        let told = found.0.iter().any(|problem| {
            problem.kind == Harm::Balance && problem.table == table && problem.sequence == seq && problem.id == id
        });
        if !told {
            found.add(Harm::Balance, table, id, seq);
        }
    }
    Ok(())
}
