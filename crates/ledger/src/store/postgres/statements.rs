//! The writer's PostgreSQL statements: one for each table and each kind of query, whatever the number of rows.
//!
//! They repeat the conditions of partial indexes to the letter, since otherwise PostgreSQL does not use those indexes.

use crate::rows::{Column, Part, Table, Type};
use crate::store::sql;

/// SQL texts, in the order of [`Table::ALL`] where there is one for each table.
pub(super) struct PgStatements {
    /// Inserts for each stored table, in order.
    pub(super) insert: Vec<Vec<PgInsert>>,
    pub(super) update: Vec<String>,
    pub(super) by_key: String,
    pub(super) by_number: String,
    pub(super) by_trade: String,
    pub(super) waiting: String,
    pub(super) orders_by_trade: String,
    pub(super) orders_by_id: String,
    pub(super) of_orders: String,
    pub(super) refunds: String,
    pub(super) refunds_of: String,
    pub(super) transactions_of: String,
    pub(super) named_refunds: String,
    pub(super) refunds_by_id: String,
    pub(super) refunds_by_txn: String,
    pub(super) idempotency_keys: String,
    pub(super) transfers: String,
    pub(super) reconciliations: String,
    pub(super) findings: String,
    pub(super) events: String,
    pub(super) deliveries: String,
    pub(super) endpoints: String,
    pub(super) put_attempts: String,
    pub(super) anomalies: String,
    pub(super) last_time: String,
    pub(super) last_link: String,
    pub(super) balances: String,
    pub(super) waited: String,
    pub(super) wraps: String,
    pub(super) links: String,
    pub(super) put_balances: String,
    pub(super) put_wraps: String,
}

fn array(ty: Type) -> &'static str {
    match ty {
        Type::Int => "BIGINT[]",
        Type::Text => "TEXT[]",
        Type::Blob => "BYTEA[]",
    }
}

/// `UNNEST($1::BIGINT[], …)`
fn unnest(types: impl Iterator<Item = Type>) -> String {
    let arrays: Vec<String> = types.enumerate().map(|(at, ty)| format!("${}::{}", at + 1, array(ty))).collect();
    format!("UNNEST({})", arrays.join(", "))
}

/// The insert of rows into a stored table.
pub(super) struct PgInsert {
    pub(super) sql: String,
    /// The cells of a row that it takes: 0 is `seq`, 1 is `id`.
    pub(super) cells: Vec<usize>,
}

impl PgInsert {
    fn into(part: &Part) -> PgInsert {
        let from = unnest(part.columns().map(|column| column.ty));
        let sql = format!("INSERT INTO {} ({}) SELECT * FROM {from}", part.name, sql::columns(part.columns(), ""));
        PgInsert { sql, cells: part.columns.iter().map(|(at, _)| *at).collect() }
    }
}

fn update(table: &Table) -> String {
    let seq = Column { name: "seq", ty: Type::Int, optional: false };
    let given = || std::iter::once(seq).chain(table.state().iter().copied());
    let set: Vec<String> = table.state().iter().map(|column| format!("\"{0}\" = n.\"{0}\"", column.name)).collect();
    let from = unnest(given().map(|column| column.ty));
    let names = sql::columns(given(), "");
    let name = table.state_name();
    format!("UPDATE {name} AS t SET {} FROM {from} AS n ({names}) WHERE t.seq = n.seq", set.join(", "))
}

/// Rows of a table for each of many questions. `OFFSET 0` keeps the planner from turning this into a join, which would
/// read all rows of an index once for each batch; so it is one index search for each question.
fn joined(table: Table, asked: usize, on: &str) -> String {
    let names = ["a", "b", "c", "d"][..asked].join(", ");
    let from = unnest(std::iter::repeat_n(Type::Text, asked));
    let columns = sql::columns(table.columns(), "f.");
    let name = table.source();
    format!(
        "SELECT {columns} FROM {from} AS q ({names}) \
         CROSS JOIN LATERAL (SELECT * FROM {name} AS t WHERE {on} OFFSET 0) AS f"
    )
}

fn by_ids(table: Table) -> String {
    format!("SELECT {} FROM {} WHERE id = ANY ($1::TEXT[])", sql::columns(table.columns(), ""), table.source())
}

const LINKS: &str = "INSERT INTO chain (seq, rows, link) SELECT * FROM UNNEST($1::BIGINT[], $2::BYTEA[], $3::BYTEA[])";

const PUT_BALANCES: &str = "INSERT INTO balances (account, currency, debit, credit, pending_debit, pending_credit) \
    SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::TEXT[], $6::TEXT[]) \
    ON CONFLICT (account, currency) DO UPDATE SET debit = excluded.debit, credit = excluded.credit, \
    pending_debit = excluded.pending_debit, pending_credit = excluded.pending_credit";

const PUT_WRAPS: &str = "INSERT INTO keys (id, wrapped_by, purpose, day, wrapped, created_at) \
    SELECT * FROM UNNEST($1::TEXT[], $2::TEXT[], $3::TEXT[], $4::TEXT[], $5::BYTEA[], $6::BIGINT[]) \
    ON CONFLICT DO NOTHING";

fn live_endpoints() -> String {
    let columns = sql::columns(Table::Endpoint.columns(), "");
    format!("SELECT {columns} FROM endpoints WHERE deleted_at IS NULL ORDER BY seq")
}

fn put_attempts() -> String {
    format!(
        "INSERT INTO attempts {} SELECT * FROM UNNEST($1::BIGINT[], $2::BIGINT[], $3::TEXT[], $4::BIGINT[], \
         $5::BIGINT[], $6::TEXT[], $7::BYTEA[]) ON CONFLICT DO NOTHING",
        sql::ATTEMPT
    )
}

impl PgStatements {
    pub(super) fn new() -> PgStatements {
        let text = |sql: &str| sql.to_owned();
        PgStatements {
            insert: Table::ALL.iter().map(|table| table.parts().iter().map(PgInsert::into).collect()).collect(),
            // A table without state is never updated.
            update: Table::ALL.iter().map(update).collect(),
            by_key: joined(
                Table::Transaction,
                4,
                "t.provider = q.a AND t.account = q.b AND t.kind = q.c AND t.\"key\" = q.d AND t.provider <> ''",
            ),
            by_number: joined(
                Table::Transaction,
                3,
                "t.channel_txn_no = q.a AND t.provider = q.b AND t.kind = q.c AND t.channel_txn_no IS NOT NULL",
            ),
            by_trade: joined(Table::Transaction, 2, "t.channel = q.a AND t.out_trade_no = q.b AND t.kind = 'payment'"),
            waiting: joined(
                Table::Transaction,
                3,
                "t.\"of\" = q.a AND t.provider = q.b AND (q.c IS NULL OR t.account = q.c) AND t.state = 'parked' \
                 AND t.\"of\" IS NOT NULL",
            ),
            orders_by_trade: joined(Table::Order, 2, "t.channel = q.a AND t.out_trade_no = q.b"),
            orders_by_id: by_ids(Table::Order),
            of_orders: joined(
                Table::Transaction,
                2,
                "t.order_id = (SELECT id FROM orders WHERE channel = q.a AND out_trade_no = q.b) \
                 AND t.order_id IS NOT NULL",
            ),
            refunds: joined(Table::Refund, 2, "t.order_id = q.a AND t.out_refund_no = q.b"),
            refunds_of: joined(
                Table::Refund,
                2,
                "t.order_id = (SELECT id FROM orders WHERE channel = q.a AND out_trade_no = q.b)",
            ),
            transactions_of: joined(Table::Transaction, 1, "t.order_id = q.a AND t.order_id IS NOT NULL"),
            named_refunds: joined(
                Table::Transaction,
                2,
                "t.channel = q.a AND t.out_refund_no = q.b AND t.out_refund_no IS NOT NULL",
            ),
            refunds_by_id: by_ids(Table::Refund),
            refunds_by_txn: joined(Table::Refund, 1, "t.refund_txn_no = q.a AND t.refund_txn_no IS NOT NULL"),
            transfers: by_ids(Table::Transfer),
            reconciliations: joined(Table::Reconciliation, 2, "t.channel = q.a AND t.day = q.b"),
            findings: joined(
                Table::Finding,
                2,
                "t.reconciliation_id = (SELECT id FROM reconciliations WHERE channel = q.a AND day = q.b)",
            ),
            idempotency_keys: joined(Table::IdempotencyKey, 1, "t.\"key\" = q.a"),
            events: by_ids(Table::Outgoing),
            deliveries: by_ids(Table::Delivery),
            endpoints: live_endpoints(),
            put_attempts: put_attempts(),
            anomalies: by_ids(Table::Anomaly),
            last_time: sql::last_time(),
            last_link: text(sql::LAST_LINK),
            balances: text(sql::BALANCES),
            waited: sql::waited(),
            wraps: text(sql::WRAPS),
            links: text(LINKS),
            put_balances: text(PUT_BALANCES),
            put_wraps: text(PUT_WRAPS),
        }
    }
}
