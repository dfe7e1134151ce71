//! Verifies the chain: every link is recomputed, and every row compared with the link that names it.
//!
//! A changed link is told apart from its successor: the successor is right if it was made over either the stored link
//! before it or the correct one. After a missing link the next one cannot be recomputed, and is taken as it stands.

use std::collections::HashMap;

use uuid::Uuid;

use super::balances::Sums;
use super::page::Source;
use super::{Collected, DiscrepancyKind, Range, derived};
use crate::archive::{self, Archive};
use crate::chain::{ChainKey, ROW_BYTES, row_digest};
use crate::rows::{Cell, Link, Table, Type, Value};
use crate::store::{Reader, StoreError};

/// Links read at once, in one view: a hundredth of a second.
const PAGE: i64 = 200;

/// Days whose evidence is in files.
pub type Archived = HashMap<String, Archive>;

/// The end of the chain as walked.
pub struct AuditedTip {
    /// The place of the last row.
    pub seq: i64,
    /// The last link.
    pub link: Vec<u8>,
}

/// A walk along the chain.
pub struct Walk<'a> {
    key: &'a ChainKey,
    /// The place reached.
    pub end: AuditedTip,
    /// The links over which the next one may have been made; empty if unknown.
    before: Vec<Vec<u8>>,
    /// The days whose evidence is in files.
    archived: &'a Archived,
}

/// A row as its link names it, with its place.
struct Named {
    seq: i64,
    code: u8,
    id: Uuid,
    digest: [u8; 32],
}

/// The place of the last link; 0 without one.
pub fn last(reader: &mut dyn Reader) -> Result<i64, StoreError> {
    let rows = reader.select("SELECT seq FROM chain ORDER BY seq DESC LIMIT 1", &[], &[Type::Int])?;
    Ok(rows.into_iter().flatten().find_map(i64::take).unwrap_or_default())
}

/// Reports rows behind the last link, which no link names; `after` was the last link before.
pub fn behind(reader: &mut dyn Reader, after: i64, found: &mut Collected) -> Result<(), StoreError> {
    let after = last(reader)?.max(after);
    compare(reader, (after, i64::MAX), (vec![], &[]), (&Archived::new(), &mut Sums::default()), found)?;
    derived::stray(reader, &[Value::Int(after), Value::Int(i64::MAX)], found)
}

impl Walk<'_> {
    /// Starts at the first link, or after one that is known to be right.
    pub fn new<'a>(key: &'a ChainKey, archived: &'a Archived, from: Option<(i64, Vec<u8>)>) -> Walk<'a> {
        let (seq, link) = from.unwrap_or_default();
        Walk { key, before: vec![link.clone()], end: AuditedTip { seq, link }, archived }
    }

    /// Verifies the next links within a range and their rows, whose entries are summed. Returns the last link's place,
    /// or `None` at the end.
    pub fn page(
        &mut self,
        reader: &mut dyn Reader,
        (after, to): Range,
        sums: &mut Sums,
        found: &mut Collected,
    ) -> Result<Option<i64>, StoreError> {
        let page = Source::chain().page(reader, (after, to), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        let last = *last;
        let mut named = vec![];
        let mut gaps = vec![];
        for (seq, cells) in page {
            match cells.and_then(|cells| <[Value; 2]>::try_from(cells).ok()) {
                Some([Value::Blob(rows), Value::Blob(link)]) => {
                    self.step(Link { seq, rows, link }, &mut named, &mut gaps, found);
                }
                _ => self.lost(seq, &mut gaps, found),
            }
        }
        compare(reader, (after, last), (named, &gaps), (self.archived, sums), found)?;
        Ok(Some(last))
    }

    fn step(&mut self, link: Link, named: &mut Vec<Named>, gaps: &mut Vec<(i64, i64)>, found: &mut Collected) {
        let Link { seq, rows, link } = link;
        let count = (rows.len() / ROW_BYTES) as i64;
        let first = seq.saturating_sub(count) + 1;
        let expected = self.end.seq + 1;
        let mut right = rows.len().is_multiple_of(ROW_BYTES) && count > 0 && first >= expected;
        if first > expected {
            gaps.push((expected, first - 1));
            found.add(DiscrepancyKind::Removed, "chain", None, Some(first - 1));
            self.before.clear();
        }
        // If nothing is known before it, only the link's place can be judged.
        let due: Vec<_> = self.before.iter().map(|before| self.key.sign(before, seq, &rows)).collect();
        right &= due.is_empty() || due.contains(&link);
        if !right {
            found.add(DiscrepancyKind::Changed, "chain", None, Some(seq));
        }
        for (at, row) in rows.chunks_exact(ROW_BYTES).enumerate() {
            let (id, digest) = (row[1..17].try_into().unwrap_or([0; 16]), row[17..].try_into().unwrap_or([0; 32]));
            named.push(Named { seq: first + at as i64, code: row[0], id: Uuid::from_bytes(id), digest });
        }
        self.before = if right { vec![link.clone()] } else { due };
        if !self.before.contains(&link) {
            self.before.push(link.clone());
        }
        self.end = AuditedTip { seq, link };
    }

    /// Reports a link that cannot be read.
    fn lost(&mut self, seq: i64, gaps: &mut Vec<(i64, i64)>, found: &mut Collected) {
        found.add(DiscrepancyKind::Changed, "chain", None, Some(seq));
        gaps.push((self.end.seq + 1, seq));
        self.before.clear();
        self.end = AuditedTip { seq, link: vec![] };
    }
}

/// Compares rows above `after` and up to `last` with what the links say of them.
fn compare(
    reader: &mut dyn Reader,
    (after, last): Range,
    (named, gaps): (Vec<Named>, &[Range]),
    (archived, sums): (&Archived, &mut Sums),
    found: &mut Collected,
) -> Result<(), StoreError> {
    let mut named: HashMap<(u8, i64), Named> = named.into_iter().map(|row| ((row.code, row.seq), row)).collect();
    let mut wrong = vec![];
    for table in Table::ALL {
        let source = Source::of(*table, false);
        let mut from = after;
        loop {
            let rows = source.page(reader, (from, last), PAGE)?;
            let Some((end, _)) = rows.last() else { break };
            from = *end;
            for (seq, cells) in rows {
                let meant = named.remove(&(*table as u8, seq));
                let unlinked = meant.is_none() && gaps.iter().any(|(low, high)| (*low..=*high).contains(&seq));
                let is_archived = *table == Table::Evidence && is_archived(cells.as_deref(), meant.as_ref(), archived);
                if !unlinked && !is_archived && !fits(*table, seq, cells.as_deref(), meant.as_ref()) {
                    let id = meant.map(|meant| meant.id).or_else(|| stored_id(cells.as_deref()));
                    wrong.push((seq, DiscrepancyKind::Changed, table.name(), id));
                }
                if *table == Table::Entry {
                    sums.add(seq, cells);
                }
            }
        }
    }
    for ((code, seq), row) in named {
        let table = Table::from_code(code).map_or("chain", Table::name);
        wrong.push((seq, DiscrepancyKind::Removed, table, Some(row.id)));
    }
    wrong.sort();
    for (seq, harm, table, id) in wrong {
        found.add(harm, table, id.map(|id| id.to_string()), Some(seq));
    }
    Ok(())
}

fn stored_id(cells: Option<&[Value]>) -> Option<Uuid> {
    Uuid::take(cells?.first()?.clone())
}

/// Whether evidence is in the file of its day: it has its id and no content.
fn is_archived(cells: Option<&[Value]>, meant: Option<&Named>, archived: &Archived) -> bool {
    if archived.is_empty() {
        return false;
    }
    let (Some([id, _, _, Value::Int(at), Value::Blob(headers), Value::Blob(body)]), Some(meant)) = (cells, meant)
    else {
        return false;
    };
    let is_empty = headers.is_empty() && body.is_empty();
    is_empty && *id == meant.id.put() && archived.contains_key(&archive::day_of(*at))
}

fn fits(table: Table, seq: i64, cells: Option<&[Value]>, meant: Option<&Named>) -> bool {
    let (Some(cells), Some(meant)) = (cells, meant) else { return false };
    // The id as text: another spelling of the same id is a change, too.
    cells.first() == Some(&meant.id.put()) && row_digest(table, seq, meant.id, &cells[1..]) == meant.digest
}
