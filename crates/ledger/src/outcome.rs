//! What became of a callback, in one word.

/// What became of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// In the books.
    Posted,
    /// It was there.
    Duplicate,
    /// It waits for what it is of.
    Parked,
    /// In the books, on the suspense account.
    Suspense,
    /// Kept, without an entry.
    Noted,
    /// Unlike what is there under the same key: kept, with an anomaly.
    Conflict,
}

impl Outcome {
    /// As metrics have it.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Posted => "posted",
            Outcome::Duplicate => "duplicate",
            Outcome::Parked => "parked",
            Outcome::Suspense => "suspense",
            Outcome::Noted => "noted",
            Outcome::Conflict => "conflict",
        }
    }
}
