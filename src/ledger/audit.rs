//! Verifies the books: the chain over every row, the anchor, and everything that is derived from the rows.
//!
//! It reads within one snapshot, in pages by `seq`, so that neither a writer at work nor a large store disturbs it; what
//! it holds in memory grows with accounts and currencies, not with rows. It tells what it finds and changes nothing.
//!
//! A row's own link names it, so a changed or removed row is named exactly; where a link is gone, the rows it covered
//! are not named one by one. A cut tail younger than the last anchor is not found. Delivery state is not verified:
//! nothing else tells what merchants answered.

mod derived;
pub mod keys;
mod links;
mod page;
mod resolved;
mod sums;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use serde::Serialize;

use super::anchor::{self, Anchor};
use super::chain::ChainKey;
use super::query;
use super::store::{Failure, Reader};

/// Problems a report holds at most: a store under another key has one for every row.
const PROBLEMS_MAX: usize = 10_000;

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub ok: bool,
    /// The last link's place.
    pub sequence: i64,
    /// The last link, in hex.
    pub head: String,
    /// In the order of their finding: keys, chain and rows by `seq`, anchor, derived state.
    pub problems: Vec<Problem>,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What happened to it.
    pub kind: Harm,
    /// Where.
    pub table: &'static str,
    /// Which row; the account of a balance; none for a link of the chain.
    pub id: Option<String>,
    /// Its place; none for what has none.
    pub sequence: Option<i64>,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Harm {
    /// It is not what was written, or nobody of the ledger wrote it.
    Changed,
    /// It is gone.
    Removed,
    /// The tail is gone.
    Cut,
    /// It does not follow from the rows.
    Balance,
}

impl Harm {
    /// In a word.
    pub fn label(self) -> &'static str {
        match self {
            Harm::Changed => "changed",
            Harm::Removed => "removed",
            Harm::Cut => "cut",
            Harm::Balance => "balance",
        }
    }
}

/// The last verification of a running ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// How far it went.
    pub sequence: i64,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether nothing was found.
    pub ok: bool,
}

/// Where a running ledger keeps it.
pub type LastCheck = Arc<ArcSwapOption<Checked>>;

/// Problems, up to a number that fits into memory.
#[derive(Debug, Default)]
struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, kind: Harm, table: &'static str, id: Option<String>, sequence: Option<i64>) {
        if self.0.len() < PROBLEMS_MAX {
            self.0.push(Problem { kind, table, id, sequence });
        }
    }
}

/// Verifies everything. `keys` is what was wrong with the keys ([`keys::open`]).
pub fn verify(
    reader: &mut dyn Reader,
    chain: &ChainKey,
    keys: Vec<Problem>,
    anchor: Option<&Anchor>,
) -> Result<Report, Failure> {
    query::snapshot(reader, |reader| {
        let mut found = Found(keys);
        let end = links::verify(reader, chain, anchor, &mut found)?;
        derived::verify(reader, &mut found)?;
        sums::verify(reader, &mut found)?;
        let Found(problems) = found;
        Ok(Report { ok: problems.is_empty(), sequence: end.seq, head: anchor::hex(&end.link), problems })
    })
}
