//! The writer's SQLite statements.

use crate::rows::{Part, Table};
use crate::store::sql;

/// Statements that are made of the tables' columns, in the order of [`Table::ALL`].
pub(super) struct SqliteStatements {
    pub(super) insert: Vec<Vec<SqliteInsert>>,
    pub(super) update: Vec<String>,
    pub(super) by_key: String,
    pub(super) by_number: String,
    pub(super) by_trade: String,
    pub(super) waiting: String,
    pub(super) order_by_trade: String,
    pub(super) order_by_id: String,
    pub(super) of_order: String,
    pub(super) refund: String,
    pub(super) refunds_of: String,
    pub(super) transactions_of: String,
    pub(super) named_refunds: String,
    pub(super) refund_by_id: String,
    pub(super) refund_by_txn: String,
    pub(super) idempotency_key: String,
    pub(super) transfer: String,
    pub(super) reconciliation: String,
    pub(super) findings: String,
    pub(super) event: String,
    pub(super) delivery: String,
    pub(super) endpoints: String,
    pub(super) attempt: String,
    pub(super) anomaly: String,
    pub(super) last_time: String,
    pub(super) waited: String,
}

/// The insert of a row into a stored table.
pub(super) struct SqliteInsert {
    pub(super) sql: String,
    /// The cells of the row that it takes: 0 is `seq`, 1 is `id`.
    pub(super) cells: Vec<usize>,
}

impl SqliteInsert {
    fn into(part: &Part) -> SqliteInsert {
        let marks: Vec<String> = (1..=part.columns.len()).map(|at| format!("?{at}")).collect();
        let columns = sql::columns(part.columns(), "");
        let sql = format!("INSERT INTO {} ({columns}) VALUES ({})", part.name, marks.join(", "));
        SqliteInsert { sql, cells: part.columns.iter().map(|(at, _)| *at).collect() }
    }
}

impl SqliteStatements {
    pub(super) fn new() -> SqliteStatements {
        let insert = |table: &Table| table.parts().iter().map(SqliteInsert::into).collect();
        let update = |table: &Table| {
            let set: Vec<String> =
                table.state().iter().enumerate().map(|(at, c)| format!("\"{}\" = ?{}", c.name, at + 2)).collect();
            format!("UPDATE {} SET {} WHERE seq = ?1", table.state_name(), set.join(", "))
        };
        let select = |table: Table, rest: &str| {
            format!("SELECT {} FROM {} WHERE {rest}", sql::columns(table.columns(), ""), table.source())
        };
        // The condition of a partial index must be repeated to the letter, or the index is not used.
        SqliteStatements {
            insert: Table::ALL.iter().map(insert).collect(),
            update: Table::ALL.iter().map(update).collect(),
            by_key: select(
                Table::Transaction,
                "provider = ?1 AND account = ?2 AND kind = ?3 AND \"key\" = ?4 AND provider <> ''",
            ),
            by_number: select(
                Table::Transaction,
                "channel_txn_no = ?1 AND provider = ?2 AND kind = ?3 AND channel_txn_no IS NOT NULL",
            ),
            by_trade: select(Table::Transaction, "channel = ?1 AND out_trade_no = ?2 AND kind = 'payment'"),
            waiting: select(
                Table::Transaction,
                "\"of\" = ?1 AND provider = ?2 AND (?3 IS NULL OR account = ?3) AND state = 'parked' AND \"of\" IS NOT NULL",
            ),
            order_by_trade: select(Table::Order, "channel = ?1 AND out_trade_no = ?2"),
            order_by_id: select(Table::Order, "id = ?1"),
            of_order: select(
                Table::Transaction,
                "order_id = (SELECT id FROM orders WHERE channel = ?1 AND out_trade_no = ?2) AND order_id IS NOT NULL",
            ),
            refund: select(Table::Refund, "order_id = ?1 AND out_refund_no = ?2"),
            refunds_of: select(
                Table::Refund,
                "order_id = (SELECT id FROM orders WHERE channel = ?1 AND out_trade_no = ?2)",
            ),
            transactions_of: select(Table::Transaction, "order_id = ?1 AND order_id IS NOT NULL"),
            named_refunds: select(
                Table::Transaction,
                "channel = ?1 AND out_refund_no = ?2 AND out_refund_no IS NOT NULL",
            ),
            refund_by_id: select(Table::Refund, "id = ?1"),
            refund_by_txn: select(Table::Refund, "refund_txn_no = ?1 AND refund_txn_no IS NOT NULL"),
            idempotency_key: select(Table::IdempotencyKey, "\"key\" = ?1"),
            transfer: select(Table::Transfer, "id = ?1"),
            reconciliation: select(Table::Reconciliation, "channel = ?1 AND day = ?2"),
            findings: select(
                Table::Finding,
                "reconciliation_id = (SELECT id FROM reconciliations WHERE channel = ?1 AND day = ?2)",
            ),
            event: select(Table::Outgoing, "id = ?1"),
            delivery: select(Table::Delivery, "id = ?1"),
            endpoints: select(Table::Endpoint, "deleted_at IS NULL ORDER BY seq"),
            attempt: format!("INSERT OR IGNORE INTO attempts {} VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)", sql::ATTEMPT),
            anomaly: select(Table::Anomaly, "id = ?1"),
            last_time: sql::last_time(),
            waited: sql::waited(),
        }
    }
}
