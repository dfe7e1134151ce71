//! Pages of rows by `seq`, even with cells that no ledger writes.
//!
//! A page that cannot be read is read row by row, and the unreadable rows are returned without cells.

use super::Range;
use crate::rows::{Table, Type, Value};
use crate::store::{Reader, StoreError};

/// A table, and the columns that are read of it after `seq`.
pub struct Source {
    sql: String,
    name: &'static str,
    types: Vec<Type>,
}

/// The `seq` of a row, and its other cells; `None` if they cannot be read.
pub type PageRow = (i64, Option<Vec<Value>>);

impl Source {
    /// A table's id and frozen columns; with `state`, also those of state.
    pub fn of(table: Table, state: bool) -> Source {
        let count = 2 + table.frozen().len() + if state { table.state().len() } else { 0 };
        let columns: Vec<_> = table.columns().take(count).collect();
        let names: Vec<_> = columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
        let name = if state { table.source() } else { table.name() };
        Source {
            sql: format!("SELECT {} FROM {name}", names.join(", ")),
            name,
            types: columns.iter().map(|column| column.ty).collect(),
        }
    }

    /// The links of the chain, with the rows that they name.
    pub fn chain() -> Source {
        let types = vec![Type::Int, Type::Blob, Type::Blob];
        Source { sql: "SELECT seq, rows, link FROM chain".to_owned(), name: "chain", types }
    }

    /// At most `limit` rows of a range.
    pub fn page(&self, reader: &mut dyn Reader, (after, last): Range, limit: i64) -> Result<Vec<PageRow>, StoreError> {
        let bounds = [Value::Int(after), Value::Int(last), Value::Int(limit)];
        self.rows(reader, " WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3", &bounds)
    }

    /// The rows that `tail` selects.
    pub fn rows(&self, reader: &mut dyn Reader, tail: &str, values: &[Value]) -> Result<Vec<PageRow>, StoreError> {
        match reader.select(&format!("{}{tail}", self.sql), values, &self.types) {
            Ok(rows) => Ok(rows.into_iter().filter_map(split).collect()),
            Err(StoreError::Row(_)) => {
                let places = format!("SELECT seq FROM {}{tail}", self.name);
                let places = reader.select(&places, values, &[Type::Int])?;
                let places = places.into_iter().filter_map(split);
                places.map(|(seq, _)| Ok((seq, self.one(reader, seq)?))).collect()
            }
            Err(e) => Err(e),
        }
    }

    fn one(&self, reader: &mut dyn Reader, seq: i64) -> Result<Option<Vec<Value>>, StoreError> {
        match reader.select(&format!("{} WHERE seq = $1", self.sql), &[Value::Int(seq)], &self.types) {
            Ok(rows) => Ok(rows.into_iter().find_map(split).and_then(|(_, cells)| cells)),
            Err(StoreError::Row(_)) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

fn split(mut cells: Vec<Value>) -> Option<PageRow> {
    if cells.is_empty() {
        return None;
    }
    let rest = cells.split_off(1);
    if let Value::Int(seq) = cells[0] { Some((seq, Some(rest))) } else { None }
}
