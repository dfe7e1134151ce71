//! The outcome of a callback, in one word.

/// The outcome of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// In the books.
    Posted,
    /// Already recorded.
    Duplicate,
    /// Waits for its payment or order.
    Parked,
    /// In the books, on the suspense account.
    Suspense,
    /// Kept without an entry.
    Noted,
    /// Other content than recorded under the same key: kept, with an anomaly.
    Conflict,
}

impl Outcome {
    /// The word in metrics.
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
