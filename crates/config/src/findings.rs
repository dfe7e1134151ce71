//! The collection of findings, bounded: a file of junk must not fill the memory or the screen.
//!
//! The first [`LIMIT`] are kept, the rest is counted. They are returned in the order of their places, each once. A
//! misspelt word gets the nearest allowed one as a hint; of two equally near ones the first wins.

use super::source_map::{SourceMap, Span};
use base::finding::{Finding, Place};

/// The most findings that are kept.
pub const LIMIT: usize = 1000;

/// The findings so far.
#[derive(Debug)]
pub struct Findings<'p> {
    places: &'p SourceMap,
    kept: Vec<Finding>,
    dropped: usize,
}

impl<'p> Findings<'p> {
    /// An empty collection.
    pub fn new(places: &'p SourceMap) -> Self {
        Self { places, kept: Vec::new(), dropped: 0 }
    }

    /// Adds a finding at a span.
    pub fn at(&mut self, span: &Span, message: impl Into<String>, hint: impl Into<String>) {
        // Building the place may cost more than keeping it, so a finding beyond the limit is only counted.
        if self.kept.len() < LIMIT {
            self.kept.push(self.places.place(span).finding(message, hint));
        } else {
            self.dropped += 1;
        }
    }

    /// Adds a finding in a file that the configuration names.
    pub fn elsewhere(&mut self, place: &Place, message: impl Into<String>, hint: impl Into<String>) {
        if self.kept.len() < LIMIT {
            self.kept.push(place.finding(message, hint));
        } else {
            self.dropped += 1;
        }
    }

    /// Adds a finding about the configuration as a whole.
    pub fn nowhere(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.kept.push(self.places.nowhere().finding(message, hint));
    }

    /// The number of findings so far.
    pub fn count(&self) -> usize {
        self.kept.len() + self.dropped
    }

    /// Whether further findings are only counted: then their words need not be built.
    pub fn full(&self) -> bool {
        self.kept.len() >= LIMIT
    }

    /// Whether there is a finding on the line of `span`.
    pub fn on_line_of(&self, span: &Span) -> bool {
        let Place { file, line, .. } = self.places.place(span);
        self.kept.iter().any(|found| found.line == line && *found.file == *file)
    }

    /// All findings, sorted by place, each once.
    pub fn finish(self) -> Vec<Finding> {
        let Self { places, mut kept, dropped } = self;
        kept.sort();
        kept.dedup();
        if dropped > 0 {
            let hint = "mend the first ones and check again";
            kept.push(places.nowhere().finding(format!("and {dropped} more findings"), hint));
        }
        kept
    }
}

/// The allowed word that `word` was probably meant to be.
pub fn near_miss<'a>(word: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing is quadratic in length; no misspelt name is this long.
    if word.len() > 100 {
        return None;
    }
    let score = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &candidate.to_lowercase());
    let (distance, best) = allowed
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 3)
        .map(|candidate| (score(candidate), candidate))
        .min_by_key(|&(distance, _)| distance)?;
    let most = 1 + word.chars().count() / 4;
    (distance <= most && distance < word.chars().count()).then_some(best)
}

/// A hint with the near miss, then the allowed words.
pub fn suggest(word: &str, allowed: &[&str], lead: &str) -> String {
    const SHOWN: usize = 30;
    let mut listed = allowed.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if allowed.len() > SHOWN {
        listed.push_str(", ...");
    }
    match near_miss(word, allowed.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {lead}: {listed}"),
        None => format!("{lead}: {listed}"),
    }
}
