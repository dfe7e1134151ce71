//! The rounds of verification of a running ledger.
//!
//! Everything is verified at its start and once a day, and only new rows in between. After a finding, everything is
//! verified each time until all is whole again: new rows cannot acquit old ones.

use std::time::Duration;

use super::{Discrepancy, Mark, Report, since};
use crate::anchor::Anchor;
use crate::chain::ChainKey;
use crate::store::{Reader, StoreError};
use base::units::Nanos;

/// Time between two verifications of everything, from start to start.
const WHOLE: Duration = Duration::from_secs(24 * 3_600);

/// What is known from earlier rounds; nothing after a restart.
#[derive(Debug, Default)]
pub struct Rounds {
    mark: Option<Mark>,
    whole_at: Nanos,
}

impl Rounds {
    /// Verifies what is due.
    pub fn verify(
        &mut self,
        reader: &mut dyn Reader,
        chain: &ChainKey,
        keys: Vec<Discrepancy>,
        anchor: Option<&Anchor>,
        now: Nanos,
    ) -> Result<Report, StoreError> {
        let mark = self.mark.as_ref().filter(|_| now.since(self.whole_at) < WHOLE);
        if mark.is_none() {
            self.whole_at = now;
        }
        let (report, mark) = since(reader, chain, keys, anchor, mark)?;
        self.mark = mark;
        Ok(report)
    }
}
