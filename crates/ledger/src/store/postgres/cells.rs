//! Conversion of cells to and from PostgreSQL, and the meaning of its errors.
//!
//! | PostgreSQL says | is |
//! |---|---|
//! | nothing (the connection is gone), FATAL, PANIC, classes 08 and 57 | [`StoreError::Lost`] |
//! | class 53 (disk full, no memory), 40 (deadlock), 55 (a lock) | [`StoreError::Full`] |
//! | a cancelled statement, or one that took too long (57014) | [`StoreError::Slow`] |
//! | class 58 (system error), XX001, XX002 (corrupted) | [`StoreError::Poisoned`] |
//! | anything else (22, 23, 42 …) | [`StoreError::Row`] |
//!
//! A server whose fsync fails panics and recovers from its log: the connection is lost and opened anew. The details of
//! an error, which quote values, are left out.

use std::error::Error as _;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use uuid::Uuid;

use crate::rows::Value;
use crate::store::StoreError;

type Any = Box<dyn std::error::Error + Sync + Send>;

/// A cell as it is sent, borrowed.
#[derive(Clone, Copy, Debug)]
pub(super) enum PgCell<'a> {
    Null,
    Int(i64),
    Text(&'a str),
    Blob(&'a [u8]),
    Id(Uuid),
    /// A sum, as decimal text.
    Sum(i128),
}

impl<'a> From<&'a Value> for PgCell<'a> {
    fn from(value: &'a Value) -> PgCell<'a> {
        match value {
            Value::Null => PgCell::Null,
            Value::Int(number) => PgCell::Int(*number),
            Value::Text(text) => PgCell::Text(text),
            Value::Blob(bytes) => PgCell::Blob(bytes),
        }
    }
}

impl ToSql for PgCell<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Any> {
        let fits = match self {
            PgCell::Null => return Ok(IsNull::Yes),
            PgCell::Int(_) => *ty == Type::INT8,
            PgCell::Text(_) | PgCell::Id(_) | PgCell::Sum(_) => *ty == Type::TEXT || *ty == Type::VARCHAR,
            PgCell::Blob(_) => *ty == Type::BYTEA,
        };
        if !fits {
            return Err(format!("a cell that is no {ty}").into());
        }
        match self {
            PgCell::Null => {}
            PgCell::Int(number) => out.extend_from_slice(&number.to_be_bytes()),
            PgCell::Text(text) => out.extend_from_slice(text.as_bytes()),
            PgCell::Blob(bytes) => out.extend_from_slice(bytes),
            PgCell::Id(id) => {
                let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
                out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
            }
            PgCell::Sum(sum) => out.extend_from_slice(itoa::Buffer::new().format(*sum).as_bytes()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

struct Got(Value);

impl<'a> FromSql<'a> for Got {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Got, Any> {
        let number = |number: i64| Got(Value::Int(number));
        match *ty {
            Type::INT8 => i64::from_sql(ty, raw).map(number),
            Type::INT4 => i32::from_sql(ty, raw).map(i64::from).map(number),
            Type::INT2 => i16::from_sql(ty, raw).map(i64::from).map(number),
            Type::BOOL => bool::from_sql(ty, raw).map(i64::from).map(number),
            Type::BYTEA => Ok(Got(Value::Blob(raw.to_vec()))),
            _ => String::from_sql(ty, raw).map(|text| Got(Value::Text(text))),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Got, Any> {
        Ok(Got(Value::Null))
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::INT2, Type::BOOL, Type::BYTEA].contains(ty) || <String as FromSql>::accepts(ty)
    }
}

/// The cells of a row.
pub(super) fn cells(row: &tokio_postgres::Row) -> Result<Vec<Value>, StoreError> {
    let cell = |at| row.try_get::<_, Got>(at).map(|got| got.0).map_err(|e| failure(&e));
    (0..row.len()).map(cell).collect()
}

/// Converts an error of the server or the connection.
pub(super) fn failure(error: &tokio_postgres::Error) -> StoreError {
    use tokio_postgres::error::Severity;
    let Some(said) = error.as_db_error() else {
        let why = error.source().map_or(String::new(), |source| format!(": {source}"));
        // A value that cannot be encoded or decoded is the fault of its cell; any other error is the connection's.
        let text = format!("{error}{why}");
        let cell = text.starts_with("error serializing") || text.starts_with("error deserializing");
        return if cell { StoreError::Row(text) } else { StoreError::Lost(text) };
    };
    let code = said.code().code();
    let text = format!("{} ({code})", said.message());
    if matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic)) {
        return StoreError::Lost(text);
    }
    meaning(code, text)
}

fn meaning(code: &str, text: String) -> StoreError {
    match (code, code.get(..2).unwrap_or_default()) {
        ("57014", _) => StoreError::Slow(text),
        (_, "53" | "40" | "55") => StoreError::Full(text),
        (_, "08" | "57") => StoreError::Lost(text),
        ("XX001" | "XX002", _) | (_, "58") => StoreError::Poisoned(text),
        _ => StoreError::Row(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_code_means() {
        let means = |code: &str| meaning(code, String::new());
        assert!(matches!(means("23505"), StoreError::Row(_)));
        assert!(matches!(means("22021"), StoreError::Row(_)));
        assert!(matches!(means("53100"), StoreError::Full(_)));
        assert!(matches!(means("40P01"), StoreError::Full(_)));
        assert!(matches!(means("57014"), StoreError::Slow(_)));
        assert!(matches!(means("57P01"), StoreError::Lost(_)));
        assert!(matches!(means("08006"), StoreError::Lost(_)));
        assert!(matches!(means("58030"), StoreError::Poisoned(_)));
        assert!(matches!(means("XX001"), StoreError::Poisoned(_)));
    }
}
