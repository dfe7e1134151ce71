//! Conversion of cells to and from SQLite, and the meaning of its errors.
//!
//! | SQLite says | is |
//! |---|---|
//! | FULL | [`StoreError::Full`] |
//! | BUSY, LOCKED, NOMEM | [`StoreError::Full`]: nothing of the batch is kept, the next one may be |
//! | INTERRUPT | [`StoreError::Slow`] |
//! | IOERR (any), CORRUPT, NOTADB, PROTOCOL | [`StoreError::Poisoned`] |
//! | anything else (CONSTRAINT, TOOBIG, MISMATCH …) | [`StoreError::Row`] |
//!
//! A full disk that shows at an fsync comes as IOERR_FSYNC. What the disk then holds is unknown, so it poisons the
//! store.

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Error, ffi};
use uuid::Uuid;

use crate::rows::Value;
use crate::store::StoreError;

/// A cell as it is bound: borrowed, so that only SQLite copies it.
pub(super) struct BoundValue<'a>(pub(super) &'a Value);

impl ToSql for BoundValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Int(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// An id as text, without an allocation.
pub(super) struct Id([u8; uuid::fmt::Hyphenated::LENGTH]);

impl Id {
    /// The text of this id.
    pub(super) fn new(id: Uuid) -> Id {
        let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
        id.hyphenated().encode_lower(&mut text);
        Id(text)
    }
}

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// A cell of the file. A value that none of our columns can hold (it was written by hand) becomes a similar one, so
/// that a verification reports a change and does not fail.
pub(super) fn cell(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Text(number.to_string()),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(text.to_owned()),
            Err(_) => Value::Blob(text.to_vec()),
        },
        ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
    }
}

/// The first `count` cells of a row.
pub(super) fn cells(row: &rusqlite::Row<'_>, count: usize) -> rusqlite::Result<Vec<Value>> {
    let mut cells = Vec::with_capacity(count);
    for at in 0..count {
        cells.push(cell(row.get_ref(at)?));
    }
    Ok(cells)
}

/// Converts an error of SQLite.
pub(super) fn failure(error: &Error) -> StoreError {
    let text = error.to_string();
    match error.sqlite_extended_error_code().map_or(0, |code| code & 0xff) {
        ffi::SQLITE_FULL | ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED | ffi::SQLITE_NOMEM => StoreError::Full(text),
        ffi::SQLITE_INTERRUPT => StoreError::Slow(text),
        ffi::SQLITE_IOERR | ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB | ffi::SQLITE_PROTOCOL => {
            StoreError::Poisoned(text)
        }
        _ => StoreError::Row(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn means(code: i32) -> StoreError {
        failure(&Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn an_error_of_the_disk_poisons_and_a_full_one_does_not() {
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC, ffi::SQLITE_IOERR_WRITE] {
            assert!(matches!(means(code), StoreError::Poisoned(_)), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_TRUNCATE, ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB, ffi::SQLITE_PROTOCOL] {
            assert!(matches!(means(code), StoreError::Poisoned(_)), "{code}");
        }
        assert!(matches!(means(ffi::SQLITE_FULL), StoreError::Full(_)));
        assert!(matches!(means(ffi::SQLITE_BUSY_SNAPSHOT), StoreError::Full(_)));
        assert!(matches!(means(ffi::SQLITE_CONSTRAINT_UNIQUE), StoreError::Row(_)));
    }
}
