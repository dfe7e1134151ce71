//! SQL that both engines share: lists of columns, the end of the books, and typed rows from cells.
//!
//! It knows no engine; each connection of an engine builds its statements of these parts once.

use std::collections::HashSet;

use crate::rows::{BalanceRow, Column, Table, Typed, Value, Wrap};
use crate::store::{Heads, Loaded, StoreError};
use base::units::Currency;

use uuid::Uuid;

/// All balances. Sums are exact decimal text, since an account's sum may exceed 64 bits.
pub(super) const BALANCES: &str =
    "SELECT account, currency, debit, credit, pending_debit, pending_credit FROM balances";

/// All wraps of all keys.
pub(super) const WRAPS: &str = "SELECT id, wrapped_by, purpose, day, wrapped, created_at FROM keys";

/// The last link.
pub(super) const LAST_LINK: &str = "SELECT seq, link FROM chain ORDER BY seq DESC LIMIT 1";

/// A new attempt. A mark that is repeated after a lost answer brings it once more.
pub(super) const ATTEMPT: &str = "(event_seq, at, endpoint_id, status, latency_ms, key_id, body)";

/// The number of rows of all tables together.
pub(super) const ROWS: &str = "SELECT COALESCE(MAX(seq), 0) FROM chain";

/// What parked transactions wait for, read from an index.
pub(super) fn waited() -> String {
    let limit = Heads::WAITED_MAX + 1;
    format!(
        "SELECT \"of\" FROM transactions WHERE state = 'parked' AND \"of\" IS NOT NULL \
         ORDER BY \"of\" LIMIT {limit}"
    )
}

/// Columns that never decrease, whose last values bound the time of the next row.
const CLOCKS: [&str; 3] = ["recorded_at", "opened_at", "created_at"];

/// The place of a table in [`Table::ALL`]; statements are kept in that order.
pub(super) fn place(table: Table) -> usize {
    Table::ALL.iter().position(|known| *known == table).unwrap_or_default()
}

/// A list of columns, `"seq", "id", …`, each after `before`.
pub(super) fn columns(columns: impl Iterator<Item = Column>, before: &str) -> String {
    let named: Vec<String> = columns.map(|column| format!("{before}\"{}\"", column.name)).collect();
    named.join(", ")
}

/// The largest time of the last row of each table, found by `seq` without a scan.
pub(super) fn last_time() -> String {
    let mut parts = vec![];
    for table in Table::ALL {
        let clock = table.frozen().iter().find(|column| CLOCKS.contains(&column.name));
        parts.extend(clock.map(|column| {
            format!("SELECT (SELECT {} FROM {} ORDER BY seq DESC LIMIT 1) AS t", column.name, table.name())
        }));
    }
    format!("SELECT COALESCE(MAX(t), 0) FROM ({}) AS last", parts.join(" UNION ALL "))
}

/// A typed row; an error means that the store was changed by hand.
pub(super) fn typed<T: Typed>(cells: Vec<Value>) -> Result<T, StoreError> {
    let seq = cells.first().cloned();
    T::from_cells(cells).ok_or_else(|| unreadable(T::TABLE.name(), seq))
}

fn unreadable(table: &str, seq: Option<Value>) -> StoreError {
    let seq = if let Some(Value::Int(seq)) = seq { seq } else { 0 };
    StoreError::Row(format!("row {seq} of {table} does not read; ask `tollgate ledger verify`"))
}

/// A balance from the cells of [`BALANCES`].
pub(super) fn balance(cells: [Option<String>; 6]) -> Result<BalanceRow, StoreError> {
    let made = || {
        let [account, currency, sums @ ..] = cells;
        let currency = Currency::parse(&currency?)?;
        let [debit, credit, pending_debit, pending_credit] = sums.map(|sum| sum?.parse().ok());
        Some(BalanceRow {
            account: account?,
            currency,
            debit: debit?,
            credit: credit?,
            pending_debit: pending_debit?,
            pending_credit: pending_credit?,
        })
    };
    made().ok_or_else(|| unreadable("balances", None))
}

/// A wrap from the cells of [`WRAPS`].
pub(super) fn wrap(
    id: &str,
    by: String,
    purpose: String,
    day: String,
    rest: (Vec<u8>, i64),
) -> Result<Wrap, StoreError> {
    let id = Uuid::try_parse(id).map_err(|_| unreadable("keys", None))?;
    Ok(Wrap { id, by, purpose, day, wrapped: rest.0, created_at: rest.1 })
}

/// The orders of these rows that are not known yet.
pub(super) fn unknown_orders(loaded: &Loaded) -> Vec<Uuid> {
    let known: HashSet<Uuid> = loaded.orders.iter().map(|order| order.id).collect();
    let of_transactions = loaded.transactions.iter().filter_map(|found| found.order_id);
    let of_refunds = loaded.refunds.iter().map(|refund| refund.order_id);
    let mut ids: Vec<Uuid> = of_transactions.chain(of_refunds).filter(|id| !known.contains(id)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}
