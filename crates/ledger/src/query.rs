//! Reads of the books: rows by id, lists, accounts, keys, and the head of the chain.
//!
//! Every query is SQL that both engines take, through a [`Reader`]; nothing here changes anything. Of two rows the one
//! written later comes first. A merchant's reads are bound to its name by a condition of the query itself (`scope`), so
//! that foreign and missing rows give the same answer.

pub mod accounts;
pub mod deliveries;
pub mod list;
pub mod pay;
pub mod views;

#[cfg(test)]
pub(crate) mod tests;

use uuid::Uuid;

use super::rows::{self, Type, Typed, Value, Wrap};
use super::store::{Reader, StoreError};
use list::{ListQuery, Where};
use views::{Entry, Page, TransactionDetail, View};

/// Types of a row's columns, in the table's order.
fn types<T: Typed>() -> Vec<Type> {
    T::TABLE.columns().map(|column| column.ty).collect()
}

/// The SELECT of a table's rows; `tail` follows its name.
pub fn select(table: rows::Table, tail: &str) -> String {
    let columns: Vec<_> = table.columns().map(|column| format!("\"{}\"", column.name)).collect();
    format!("SELECT {} FROM {}{tail}", columns.join(", "), table.source())
}

/// The rows of a SELECT; `tail` follows the table's name.
pub fn rows<T: Typed>(reader: &mut dyn Reader, tail: &str, values: &[Value]) -> Result<Vec<T>, StoreError> {
    let cells = reader.select(&select(T::TABLE, tail), values, &types::<T>())?;
    cells.into_iter().map(|cells| T::from_cells(cells).ok_or_else(|| unreadable(T::TABLE.name()))).collect()
}

/// The condition that a row is a merchant's: it is filed with it, or moves its money.
fn of_merchant(table: rows::Table) -> &'static str {
    match table {
        rows::Table::Transfer => "(merchant = ? OR credit_account = 'liabilities:merchant:' || ?)",
        rows::Table::Transaction => {
            "(merchant = ? OR EXISTS (SELECT 1 FROM entries WHERE entries.transaction_id = transactions.id \
             AND entries.account = 'liabilities:merchant:' || ?))"
        }
        _ => "merchant = ?",
    }
}

/// A row by its id; with `scope`, of that merchant only.
pub fn one<T: Typed>(reader: &mut dyn Reader, id: Uuid, scope: Option<&str>) -> Result<Option<T>, StoreError> {
    let mut filter = Where::default();
    filter.and("id = ?", rows::Cell::put(&id));
    if let Some(merchant) = scope {
        filter.and(of_merchant(T::TABLE), Value::Text(merchant.to_owned()));
    }
    Ok(rows(reader, &filter.sql(), &filter.values)?.pop())
}

/// A list's rows, newest first; with `scope`, of that merchant only.
pub fn list<V: View>(reader: &mut dyn Reader, asked: ListQuery, scope: Option<&str>) -> Result<Page<V>, StoreError> {
    let (rows, next) = page::<V::Row>(reader, asked, scope)?;
    Ok(Page { data: rows.into_iter().map(V::of).collect(), next })
}

/// The rows of a list's page, and the cursor of the next one.
fn page<T: Typed>(
    reader: &mut dyn Reader,
    mut asked: ListQuery,
    scope: Option<&str>,
) -> Result<(Vec<T>, Option<String>), StoreError> {
    scope.iter().for_each(|merchant| asked.of(merchant));
    let (time, from, to) = asked.span();
    for (bound, condition) in [(from, "seq >= ?"), (to, "seq < ?")] {
        if let Some(at) = bound {
            let seq = first_at(reader, T::TABLE, time, at)?;
            asked.filter.and(condition, Value::Int(seq));
        }
    }
    let limit = asked.limit;
    let (tail, values) = asked.sql();
    let mut rows: Vec<T> = rows(reader, &tail, &values)?;
    let more = rows.len() as i64 > limit;
    rows.truncate(limit as usize);
    let next = rows.last().filter(|_| more).map(|row| list::sealed(&row.row().seq.to_string()));
    Ok((rows, next))
}

/// The place of the first row whose time is not before `at`, or one behind the last. Times never decrease from row to
/// row, so a binary search reads a few rows; a condition on the time alone would read all later ones.
fn first_at(reader: &mut dyn Reader, table: rows::Table, time: &str, at: i64) -> Result<i64, StoreError> {
    let row = |reader: &mut dyn Reader, rest: &str, seq: i64| {
        let sql = format!("SELECT seq, \"{time}\" FROM {} WHERE {rest} LIMIT 1", table.name());
        let cells = reader.select(&sql, &[Value::Int(seq)], &[Type::Int, Type::Int])?.into_iter().flatten();
        let cells: Vec<i64> = cells.filter_map(rows::Cell::take).collect();
        Ok::<_, StoreError>(<[i64; 2]>::try_from(cells).ok())
    };
    let Some([last, _]) = row(reader, "seq <= $1 ORDER BY seq DESC", i64::MAX)? else { return Ok(0) };
    let (mut low, mut high) = (0, last + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match row(reader, "seq >= $1 ORDER BY seq", middle)? {
            Some([seq, time]) if time < at => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Entries of an account, newest first; `None` if there is no such account.
pub fn entries(
    reader: &mut dyn Reader,
    account: &str,
    mut asked: ListQuery,
) -> Result<Option<Page<Entry>>, StoreError> {
    if accounts::one(reader, account)?.is_none() {
        return Ok(None);
    }
    asked.filter.and("account = ?", Value::Text(account.to_owned()));
    list(reader, asked, None).map(Some)
}

/// A transaction with its entries.
pub fn transaction(
    reader: &mut dyn Reader,
    id: Uuid,
    scope: Option<&str>,
) -> Result<Option<TransactionDetail>, StoreError> {
    let Some(found) = one::<rows::Transaction>(reader, id, scope)? else { return Ok(None) };
    let entries: Vec<rows::Entry> =
        rows(reader, " WHERE transaction_id = $1 ORDER BY seq", &[rows::Cell::put(&found.id)])?;
    let entries = entries.into_iter().map(Entry::of).collect();
    Ok(Some(TransactionDetail { transaction: View::of(found), entries }))
}

/// The place and the link at the end of the chain; 0 and empty in empty books.
pub fn head(reader: &mut dyn Reader) -> Result<(i64, Vec<u8>), StoreError> {
    let sql = "SELECT seq, link FROM chain ORDER BY seq DESC LIMIT 1";
    let Some(row) = reader.select(sql, &[], &[Type::Int, Type::Blob])?.pop() else { return Ok((0, vec![])) };
    match <[Value; 2]>::try_from(row) {
        Ok([Value::Int(seq), Value::Blob(link)]) => Ok((seq, link)),
        _ => Err(unreadable("chain")),
    }
}

/// All wraps of all keys.
pub fn wraps(reader: &mut dyn Reader) -> Result<Vec<Wrap>, StoreError> {
    let sql = "SELECT id, wrapped_by, purpose, day, wrapped, created_at FROM keys ORDER BY created_at, id, wrapped_by";
    let types = [Type::Text, Type::Text, Type::Text, Type::Text, Type::Blob, Type::Int];
    let wrap = |cells: Vec<Value>| match <[Value; 6]>::try_from(cells) {
        Ok(
            [id, Value::Text(by), Value::Text(purpose), Value::Text(day), Value::Blob(wrapped), Value::Int(created_at)],
        ) => Some(Wrap { id: rows::Cell::take(id)?, by, purpose, day, wrapped, created_at }),
        _ => None,
    };
    let rows = reader.select(sql, &[], &types)?;
    rows.into_iter().map(|cells| wrap(cells).ok_or_else(|| unreadable("keys"))).collect()
}

/// A condition that the column is one of these ids, of which there are at most `room`. Its text depends on `room`
/// alone, so that an engine prepares it once.
pub fn among(column: &str, ids: impl Iterator<Item = Uuid>, room: usize) -> (String, Vec<Value>) {
    let mut ids: Vec<Uuid> = ids.collect();
    ids.sort();
    ids.dedup();
    ids.resize(room.max(ids.len()), ids.last().copied().unwrap_or_default());
    let marks: Vec<_> = (1..=ids.len()).map(|at| format!("${at}")).collect();
    (format!(" WHERE {column} IN ({})", marks.join(", ")), ids.iter().map(rows::Cell::put).collect())
}

/// Runs a read within one snapshot.
pub fn snapshot<T>(
    reader: &mut dyn Reader,
    read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    reader.snapshot()?;
    let answer = read(reader);
    reader.end();
    answer
}

/// The error for a row with cells that no ledger writes.
pub(super) fn unreadable(table: &str) -> StoreError {
    StoreError::Row(format!("a row of {table} cannot be read; run `tollgate ledger verify`"))
}

fn text(cell: Option<Value>) -> Result<String, StoreError> {
    cell.and_then(rows::Cell::take).ok_or_else(|| unreadable("balances or entries"))
}

fn int(cell: Option<Value>) -> Result<i64, StoreError> {
    cell.and_then(rows::Cell::take).ok_or_else(|| unreadable("entries"))
}

fn decimal(cell: Option<Value>) -> Result<i128, StoreError> {
    text(cell)?.parse().map_err(|_| unreadable("balances"))
}
