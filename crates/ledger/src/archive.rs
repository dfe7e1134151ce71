//! A day's evidence in a file instead of the store, and back.
//!
//! What a store holds of a day are mostly the messages themselves. An archived day's are in a file ([`mod@file`]), as they
//! were stored: encrypted. Their rows stay, without headers and body, and so do all entries, balances and links. The
//! chain names what each row was, so what comes back is compared with it. A row without content counts as archived only
//! on a day that has a mark, which the chain's key signs: whoever can only write to the store cannot make one.
//!
//! **Order.** The file is durable before the mark is, and the mark before a row loses its content; the mark goes once
//! all rows have theirs again. So a command that is killed is run again. Both work beside a writing ledger, in short
//! transactions.
//!
//! Evidence of what merchants asked for by API stays: their idempotency keys have no end.

pub mod file;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::chain::{self, ChainKey};
use crate::query;
use crate::rows::{Evidence, Type, Typed, Value};
use crate::store::operator::Operator;
use crate::store::{Reader, StoreError};

/// Places that one look for rows of the day covers.
const WINDOW: i64 = 20_000;
/// Rows of one look, and of one transaction.
const PAGE: usize = 200;

/// An archived day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The day in UTC, such as `2026-11-21`.
    pub day: String,
    /// The number of rows of evidence.
    pub rows: i64,
    /// The digest of its rows, in hex.
    pub digest: String,
    /// The HMAC of the three by the chain's key.
    pub mac: Vec<u8>,
}

/// Why a day is not archived, or does not come back.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed.
    #[error("the books: {0}")]
    Store(#[from] StoreError),
    /// The file failed.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, io::Error),
    /// It would not be right.
    #[error("{0}")]
    Refused(String),
}

/// The archived days of a store whose marks the chain's key has signed.
pub fn days(reader: &mut dyn Reader, key: &ChainKey) -> Result<HashMap<String, Archive>, StoreError> {
    let types = [Type::Text, Type::Int, Type::Text, Type::Blob];
    let rows = reader.select("SELECT day, rows, digest, mac FROM archives", &[], &types)?;
    let mark = |row: Vec<Value>| match <[Value; 4]>::try_from(row) {
        Ok([Value::Text(day), Value::Int(rows), Value::Text(digest), Value::Blob(mac)]) => {
            Some(Archive { day, rows, digest, mac })
        }
        _ => None,
    };
    let genuine = |mark: &Archive| mark.mac == key.seal_archive(&mark.day, mark.rows, &mark.digest);
    Ok(rows.into_iter().filter_map(mark).filter(genuine).map(|mark| (mark.day.clone(), mark)).collect())
}

/// The day in UTC of a time in milliseconds since 1970.
pub fn day_of(ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    at.to_zoned(TimeZone::UTC).date().to_string()
}

/// The first millisecond of a day in UTC, and that of the next.
fn span(day: Date) -> Option<(i64, i64)> {
    let start = |day: Date| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    Some((start(day)?, start(day.tomorrow().ok()?)?))
}

/// The books of a store, and the key of their chain.
pub struct Books<'a> {
    /// Reads.
    pub reader: &'a mut dyn Reader,
    /// Writes.
    pub operator: &'a mut dyn Operator,
    /// The chain's key.
    pub key: &'a ChainKey,
}

impl Books<'_> {
    /// Moves a day's evidence into a file that is not there yet. If the day is archived already, the file must be its
    /// archive, and what is left of it in the store goes.
    pub fn archive(&mut self, day: Date, path: &Path) -> Result<Archive, ArchiveError> {
        let name = day.to_string();
        let mut places = vec![];
        if let Some(mark) = days(self.reader, self.key)?.remove(&name) {
            let told = |e: ArchiveError| ArchiveError::Refused(format!("{name} is archived already: {e}"));
            let read = file::read(path, self.key, |evidence| {
                places.push(evidence.seq);
                Ok(())
            });
            if read.map_err(told)? != mark {
                return Err(ArchiveError::Refused(format!("{name} is archived already, in another file")));
            }
            self.empty(&places)?;
            return Ok(mark);
        }
        let archive = self.write(day, path, &mut places)?;
        let mark = [
            Value::Text(archive.day.clone()),
            Value::Int(archive.rows),
            Value::Text(archive.digest.clone()),
            Value::Blob(archive.mac.clone()),
        ];
        self.operator.run(&[("INSERT INTO archives (day, rows, digest, mac) VALUES ($1, $2, $3, $4)", &mark)])?;
        self.empty(&places)?;
        Ok(archive)
    }

    /// Writes the day's rows into the file.
    fn write(&mut self, day: Date, path: &Path, places: &mut Vec<i64>) -> Result<Archive, ArchiveError> {
        let io = |e: io::Error| ArchiveError::Io(path.to_owned(), e);
        let (from, to) = span(day).ok_or_else(|| ArchiveError::Refused(format!("{day} is no day that can be kept")))?;
        let mut file = file::Writer::begin(path, &day.to_string()).map_err(io)?;
        let (mut after, end) = (0, query::head(self.reader)?.0);
        let tail = " WHERE seq > $1 AND seq <= $2 AND received_at >= $3 AND received_at < $4 AND channel <> '' \
                    ORDER BY seq";
        while after < end {
            let upto = after.saturating_add(WINDOW);
            let values = [after, upto, from, to].map(Value::Int);
            let rows: Vec<Evidence> = query::rows(self.reader, &format!("{tail} LIMIT {PAGE}"), &values)?;
            for evidence in &rows {
                if !self.is_named(evidence)? {
                    let why = "is not what the chain says: see `tollgate ledger verify`, and archive nothing meanwhile";
                    return Err(ArchiveError::Refused(format!("evidence {} {why}", evidence.id)));
                }
                file.row(evidence).map_err(io)?;
                places.push(evidence.seq);
            }
            after = if rows.len() < PAGE { upto } else { rows.last().map_or(upto, |last| last.seq) };
            self.reader.pause();
        }
        if places.is_empty() {
            return Err(ArchiveError::Refused(format!("nothing was received on {day}")));
        }
        file.end(self.key).map_err(io)
    }

    /// Whether the chain names the row as it is.
    fn is_named(&mut self, evidence: &Evidence) -> Result<bool, StoreError> {
        let link = "SELECT seq, rows FROM chain WHERE seq >= $1 ORDER BY seq LIMIT 1";
        let found = self.reader.select(link, &[Value::Int(evidence.seq)], &[Type::Int, Type::Blob])?.pop();
        Ok(match found.map(<[Value; 2]>::try_from) {
            Some(Ok([Value::Int(seq), Value::Blob(rows)])) => chain::names(seq, &rows, &evidence.row()),
            _ => false,
        })
    }

    /// Takes the content out of rows.
    fn empty(&mut self, places: &[i64]) -> Result<(), StoreError> {
        for page in places.chunks(PAGE) {
            let listed: Vec<String> = page.iter().map(i64::to_string).collect();
            let sql = format!("UPDATE evidence SET headers = $1, body = $2 WHERE seq IN ({})", listed.join(", "));
            self.operator.run(&[(&sql, &[Value::Blob(vec![]), Value::Blob(vec![])])])?;
        }
        Ok(())
    }

    /// Puts the evidence of an archived day back.
    pub fn restore(&mut self, path: &Path) -> Result<Archive, ArchiveError> {
        let archive = file::read(path, self.key, |_| Ok(()))?;
        if days(self.reader, self.key)?.get(&archive.day) != Some(&archive) {
            let why = format!("{} is not archived, or in another file: nothing is to be put back", archive.day);
            return Err(ArchiveError::Refused(why));
        }
        let mut page = vec![];
        file::read(path, self.key, |evidence| {
            page.push(evidence);
            if page.len() < PAGE { Ok(()) } else { self.fill(&mut page) }
        })?;
        self.fill(&mut page)?;
        self.operator.run(&[("DELETE FROM archives WHERE day = $1", &[Value::Text(archive.day.clone())])])?;
        Ok(archive)
    }

    fn fill(&mut self, page: &mut Vec<Evidence>) -> Result<(), ArchiveError> {
        let values = |evidence: Evidence| {
            [
                Value::Blob(evidence.headers),
                Value::Blob(evidence.body),
                Value::Int(evidence.seq),
                Value::Text(evidence.id.hyphenated().to_string()),
            ]
        };
        let rows: Vec<[Value; 4]> = page.drain(..).map(values).collect();
        let sql = "UPDATE evidence SET headers = $1, body = $2 WHERE seq = $3 AND id = $4";
        let statements: Vec<_> = rows.iter().map(|row| (sql, row.as_slice())).collect();
        Ok(self.operator.run(&statements)?)
    }
}
