//! Statements that go to the server together: the queries and writes of a batch, with one array for each column.

use std::collections::HashSet;

use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::cells::PgCell;
use super::statements::PgStatements;
use crate::rows::Table;
use crate::store::{Changes, Wanted};
use crate::stored_enum::StoredEnum;

/// One array for each column.
pub(super) type Columns<'a> = Vec<Vec<PgCell<'a>>>;

/// Statements in their order, with their values.
pub(super) type Batch<'a> = Vec<(&'a str, Columns<'a>)>;

/// A batch as prepared statements with bound values.
pub(super) type BoundStatements<'a> = Vec<(Statement, Vec<&'a (dyn ToSql + Sync)>)>;

/// A statement of a batch that updates rows, all of which must exist.
pub(super) struct Updates {
    /// The statement's place in the batch.
    pub(super) at: usize,
    /// The table whose rows it updates.
    pub(super) table: Table,
    /// The number of rows.
    pub(super) rows: u64,
}

/// Adds a statement for these rows, unless there are none.
pub(super) fn push<'a, const N: usize>(
    batch: &mut Batch<'a>,
    sql: &'a str,
    rows: impl Iterator<Item = [PgCell<'a>; N]>,
) {
    let mut columns: Columns<'a> = vec![vec![]; N];
    for row in rows {
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    if columns.first().is_some_and(|column| !column.is_empty()) {
        batch.push((sql, columns));
    }
}

/// The queries for the transactions that are asked for.
pub(super) fn asks<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    let keys = asked.keys.iter();
    let by_key = keys.map(|key| [key.provider, &key.account, key.kind.word(), &key.key].map(PgCell::Text));
    push(&mut batch, &statements.by_key, by_key);
    push(&mut batch, &statements.by_trade, pairs(&asked.trades));
    let numbers = asked.numbers.iter();
    let by_number = numbers.map(|(provider, kind, number)| [number, *provider, kind.word()].map(PgCell::Text));
    push(&mut batch, &statements.by_number, by_number);
    let waiting = asked.waiting.iter().map(|(provider, account, of)| {
        [PgCell::Text(of), PgCell::Text(provider), account.as_deref().map_or(PgCell::Null, PgCell::Text)]
    });
    push(&mut batch, &statements.waiting, waiting);
    push(&mut batch, &statements.of_orders, pairs(&asked.of_orders));
    push(&mut batch, &statements.transactions_of, asked.transactions_of.iter().map(|id| [PgCell::Id(*id)]));
    push(&mut batch, &statements.named_refunds, pairs(&asked.named_refunds));
    batch
}

/// The queries for the orders that are asked for.
pub(super) fn orders<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    push(&mut batch, &statements.orders_by_trade, pairs(&asked.orders));
    push(&mut batch, &statements.orders_by_id, asked.order_ids.iter().map(|id| [PgCell::Id(*id)]));
    batch
}

/// The queries for the requested refunds that are asked for.
pub(super) fn refunds<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    let named = asked.refunds.iter().map(|(order, number)| [PgCell::Id(*order), PgCell::Text(number)]);
    push(&mut batch, &statements.refunds, named);
    push(&mut batch, &statements.refunds_of, pairs(&asked.refunds_of));
    push(&mut batch, &statements.refunds_by_id, asked.refund_ids.iter().map(|id| [PgCell::Id(*id)]));
    push(&mut batch, &statements.refunds_by_txn, asked.refund_txns.iter().map(|number| [PgCell::Text(number)]));
    batch
}

/// The queries for the idempotency keys that are asked for.
pub(super) fn idempotency_keys<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    push(&mut batch, &statements.idempotency_keys, asked.idempotency_keys.iter().map(|key| [PgCell::Text(key)]));
    batch
}

/// The queries for the transfers that are asked for.
pub(super) fn transfers<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    push(&mut batch, &statements.transfers, asked.transfers.iter().map(|id| [PgCell::Id(*id)]));
    batch
}

/// The queries for the reconciliations that are asked for.
pub(super) fn reconciliations<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    push(&mut batch, &statements.reconciliations, pairs(&asked.reconciliations));
    batch
}

/// The queries for their findings.
pub(super) fn findings<'a>(statements: &'a PgStatements, asked: &'a Wanted) -> Batch<'a> {
    let mut batch = vec![];
    push(&mut batch, &statements.findings, pairs(&asked.reconciliations));
    batch
}

fn pairs<'a>(pairs: &'a [(String, String)]) -> impl Iterator<Item = [PgCell<'a>; 2]> {
    pairs.iter().map(|(one, other)| [PgCell::Text(one), PgCell::Text(other)])
}

/// The writes, with new rows before updates.
pub(super) fn written<'a>(statements: &'a PgStatements, changes: &'a Changes) -> (Batch<'a>, Vec<Updates>) {
    let mut batch = inserts(statements, changes);
    let links = changes.links.iter().map(|it| [PgCell::Int(it.seq), PgCell::Blob(&it.rows), PgCell::Blob(&it.link)]);
    push(&mut batch, &statements.links, links);
    let updates = update(&mut batch, statements, changes);
    let mut seen = HashSet::new();
    let latest = changes.balances.iter().rev().filter(|it| seen.insert((it.account.as_str(), it.currency)));
    let balances = latest.map(|it| {
        let [debit, credit, pending_debit, pending_credit] =
            [it.debit, it.credit, it.pending_debit, it.pending_credit].map(PgCell::Sum);
        [PgCell::Text(&it.account), PgCell::Text(it.currency.code()), debit, credit, pending_debit, pending_credit]
    });
    push(&mut batch, &statements.put_balances, balances);
    let wraps = changes.wraps.iter().map(|it| {
        let text = [&it.by, &it.purpose, &it.day].map(|text| PgCell::Text(text));
        let [by, purpose, day] = text;
        [PgCell::Id(it.id), by, purpose, day, PgCell::Blob(&it.wrapped), PgCell::Int(it.created_at)]
    });
    push(&mut batch, &statements.put_wraps, wraps);
    let attempts = changes.attempts.iter().map(|it| {
        let (key, body) = match &it.body {
            Some((key, body)) => (PgCell::Id(*key), PgCell::Blob(body)),
            None => (PgCell::Null, PgCell::Null),
        };
        let status = it.status.map_or(PgCell::Null, PgCell::Int);
        let [seq, at, latency] = [it.event_seq, it.at, it.latency_ms].map(PgCell::Int);
        [seq, at, PgCell::Id(it.endpoint_id), status, latency, key, body]
    });
    push(&mut batch, &statements.put_attempts, attempts);
    (batch, updates)
}

fn inserts<'a>(statements: &'a PgStatements, changes: &'a Changes) -> Batch<'a> {
    let mut batch = vec![];
    for (parts, table) in statements.insert.iter().zip(Table::ALL) {
        let rows = || changes.rows.iter().filter(|row| row.table == *table);
        let count = rows().count();
        if count == 0 {
            continue;
        }
        for part in parts {
            let mut columns: Columns<'_> = part.cells.iter().map(|_| Vec::with_capacity(count)).collect();
            for row in rows() {
                for (column, cell) in columns.iter_mut().zip(&part.cells) {
                    column.push(match cell {
                        0 => PgCell::Int(row.seq),
                        1 => PgCell::Id(row.id),
                        value => (&row.values[value - 2]).into(),
                    });
                }
            }
            batch.push((part.sql.as_str(), columns));
        }
    }
    batch
}

fn update<'a>(batch: &mut Batch<'a>, statements: &'a PgStatements, changes: &'a Changes) -> Vec<Updates> {
    let mut updates = vec![];
    for (sql, table) in statements.update.iter().zip(Table::ALL) {
        let mut columns: Columns<'_> = vec![vec![]; table.state().len() + 1];
        let mut seen = HashSet::new();
        // Of two updates of a row the later one counts.
        for update in changes.updates.iter().rev().filter(|update| update.table == *table) {
            if seen.insert(update.seq) {
                columns[0].push(PgCell::Int(update.seq));
                for (column, value) in columns[1..].iter_mut().zip(&update.state) {
                    column.push(value.into());
                }
            }
        }
        if !seen.is_empty() {
            updates.push(Updates { at: batch.len(), table: *table, rows: seen.len() as u64 });
            batch.push((sql.as_str(), columns));
        }
    }
    updates
}
