//! The verification of the books: the chain over every row, the anchor, and everything that is derived from the rows.
//!
//! It goes up to the end of the chain that it sees first, in pages of links, each in a view of its own: an open view
//! keeps a store from reusing its log or its rows. The result is exact all the same. Rows and links never change. A
//! transaction, its journals and its entries are compared within one view, and so are an order and its payments.
//! Entries are summed up to that end and compared with the balances in one last, short view, which adds later entries.
//! Memory grows with accounts and currencies, not with rows. It reports findings and changes nothing.
//!
//! **Since a mark** ([`since`]) it reads only later rows and the older rows that they changed; it compares all
//! balances, and the state of all anomalies. A change to another older row is found when everything is read again
//! ([`rounds`]).
//!
//! A link names its rows, so a changed or removed row is named exactly; if a link is gone, the rows that it covered are
//! not named one by one. A cut tail younger than the last anchor is not found. Of delivery state it verifies only that
//! each event has one, and that it belongs to an event and its merchant: nothing else proves what merchants answered.

mod balances;
mod derived;
pub mod keys;
mod links;
mod page;
mod resolved;
pub mod rounds;
mod sums;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Serialize;

use self::balances::Sums;
use super::anchor::Anchor;
use super::archive;
use super::chain::ChainKey;
use super::query;
use super::store::{Reader, StoreError};

/// The most problems in a report: a store under another key has one for every row.
const PROBLEMS_MAX: usize = 10_000;

/// The result of a verification.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub ok: bool,
    /// The place of the last link.
    pub sequence: i64,
    /// The last link, in hex.
    pub head: String,
    /// The problems in the order in which they were found: keys, then by `seq` chain, rows and what is derived; the
    /// end, the anchor, anomalies, balances.
    pub problems: Vec<Discrepancy>,
}

/// A part of the books that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Discrepancy {
    /// What is wrong.
    pub kind: DiscrepancyKind,
    /// The table.
    pub table: &'static str,
    /// The row; the account of a balance; `None` for a link of the chain.
    pub id: Option<String>,
    /// Its place, if it has one.
    pub sequence: Option<i64>,
}

/// The kinds of discrepancies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiscrepancyKind {
    /// It is not as it was written, or the ledger did not write it.
    Changed,
    /// The row or link is missing.
    Removed,
    /// The tail of the chain is missing.
    Cut,
    /// It does not follow from the rows.
    Balance,
}

impl DiscrepancyKind {
    /// The kind in one word.
    pub fn label(self) -> &'static str {
        match self {
            DiscrepancyKind::Changed => "changed",
            DiscrepancyKind::Removed => "removed",
            DiscrepancyKind::Cut => "cut",
            DiscrepancyKind::Balance => "balance",
        }
    }
}

/// The last verification of a running ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The last verified place.
    pub sequence: i64,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether nothing was found.
    pub ok: bool,
}

/// The last verification that a running ledger keeps.
pub type LastCheck = Arc<ArcSwapOption<Checked>>;

/// The place up to which the books were found whole, with the sums of the entries up to it. It is kept in memory and
/// never stored, so that write access to the disk cannot move it.
#[derive(Clone, Debug)]
pub struct Mark {
    sequence: i64,
    link: Vec<u8>,
    sums: Sums,
}

/// Problems, up to a number that fits into memory; what does not follow is reported once for each row.
#[derive(Debug, Default)]
struct Collected {
    problems: Vec<Discrepancy>,
    told: HashSet<(&'static str, Option<i64>, Option<String>)>,
}

impl Collected {
    fn add(&mut self, kind: DiscrepancyKind, table: &'static str, id: Option<String>, sequence: Option<i64>) {
        let full = self.problems.len() >= PROBLEMS_MAX;
        if full || (kind == DiscrepancyKind::Balance && !self.told.insert((table, sequence, id.clone()))) {
            return;
        }
        self.problems.push(Discrepancy { kind, table, id, sequence });
    }
}

/// Rows above the first place and up to the second.
type Range = (i64, i64);

/// Verifies everything. `keys` is what was wrong with the keys ([`keys::open`]).
pub fn verify(
    reader: &mut dyn Reader,
    chain: &ChainKey,
    keys: Vec<Discrepancy>,
    anchor: Option<&Anchor>,
) -> Result<Report, StoreError> {
    since(reader, chain, keys, anchor, None).map(|(report, _)| report)
}

/// Verifies the rows since a mark, or everything without one or if the chain does not go through it. If all is whole,
/// returns a new mark.
pub fn since(
    reader: &mut dyn Reader,
    chain: &ChainKey,
    keys: Vec<Discrepancy>,
    anchor: Option<&Anchor>,
    mark: Option<&Mark>,
) -> Result<(Report, Option<Mark>), StoreError> {
    reader.points()?;
    let head = links::last(reader)?;
    let mark = match mark {
        Some(mark) if Anchor::new(mark.sequence, &mark.link, 0).holds(reader)? => Some(mark),
        _ => None,
    };
    let mut found = Collected { problems: keys, ..Collected::default() };
    let mut sums = mark.map(|mark| mark.sums.clone()).unwrap_or_default();
    let archived = archive::days(reader, chain)?;
    let mut walk = links::Walk::new(chain, &archived, mark.map(|mark| (mark.sequence, mark.link.clone())));
    // Rows may stand before the first link, too.
    let mut after = mark.map_or(i64::MIN, |mark| mark.sequence);
    let old = mark.map(|mark| mark.sequence);
    loop {
        let page = query::snapshot(reader, |reader| {
            let page = walk.page(reader, (after, head), &mut sums, &mut found)?;
            page.iter().try_for_each(|last| state(reader, (after, *last), old, &mut found))?;
            Ok(page)
        })?;
        let Some(last) = page else { break };
        after = last;
        reader.pause();
    }
    query::snapshot(reader, |reader| links::behind(reader, after, &mut found))?;
    if let Some(anchor) = anchor.filter(|anchor| anchor.sequence > 0)
        && !holds(reader, anchor)?
    {
        found.add(DiscrepancyKind::Cut, "chain", None, Some(anchor.sequence));
    }
    resolved::verify(reader, &mut found)?;
    balances::verify(reader, sums.clone(), after, &mut found)?;
    let links::AuditedTip { seq: sequence, link } = walk.end;
    let Collected { problems, .. } = found;
    let report = Report { ok: problems.is_empty(), sequence, head: base::hex::encode(&link), problems };
    let mark = report.ok.then_some(Mark { sequence, link, sums });
    Ok((report, mark))
}

/// Whether the chain goes through an anchor; an unreadable link means that it does not.
fn holds(reader: &mut dyn Reader, anchor: &Anchor) -> Result<bool, StoreError> {
    match anchor.holds(reader) {
        Err(StoreError::Row(_)) => Ok(false),
        holds => holds,
    }
}

/// Verifies what follows from these rows, and from older ones that they changed.
fn state(reader: &mut dyn Reader, range: Range, old: Option<i64>, found: &mut Collected) -> Result<(), StoreError> {
    let touched = derived::verify(reader, range, old, found)?;
    sums::verify(reader, range, found)?;
    match old {
        Some(old) => sums::verify_old(reader, &touched, old, found),
        None => Ok(()),
    }
}
