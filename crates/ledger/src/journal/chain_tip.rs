//! The end of the books, in memory. Only the writer moves it.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::book::Postings;
use crate::book::endpoints::LiveEndpoints;
use crate::chain::ChainKey;
use crate::rows::BalanceRow;
use crate::store::{Changes, Heads};
use base::units::Currency;

/// The end of the books, with what a batch has added to it.
#[derive(Debug, Default)]
pub struct ChainTip {
    /// The last row.
    pub seq: i64,
    /// The link of the last row.
    pub link: Vec<u8>,
    /// No later row is recorded before this, in milliseconds since 1970.
    pub recorded_at: i64,
    balances: BTreeMap<(String, Currency), BalanceRow>,
    touched: BTreeSet<(String, Currency)>,
    /// What parked transactions wait or waited for; `None` above [`Heads::WAITED_MAX`].
    waited: Option<HashSet<String>>,
    /// The endpoints, with the changes of the batch.
    pub endpoints: LiveEndpoints,
}

impl ChainTip {
    /// The end as the store has it.
    pub fn new(heads: Heads) -> ChainTip {
        let balance = |balance: BalanceRow| ((balance.account.clone(), balance.currency), balance);
        ChainTip {
            seq: heads.seq,
            link: heads.link,
            recorded_at: heads.recorded_at,
            balances: heads.balances.into_iter().map(balance).collect(),
            touched: BTreeSet::new(),
            endpoints: LiveEndpoints::new(heads.endpoints),
            waited: (heads.waited.len() <= Heads::WAITED_MAX).then(|| heads.waited.into_iter().collect()),
        }
    }

    /// Whether a parked transaction may wait for this.
    pub fn may_wait(&self, of: &str) -> bool {
        self.waited.as_ref().is_none_or(|waited| waited.contains(of))
    }

    /// The rows and updates of a plan, with their link.
    pub fn changes(&self, plan: &mut Postings, chain: &ChainKey) -> Changes {
        let link = (!plan.rows.is_empty()).then(|| chain.link(&self.link, &plan.rows));
        Changes {
            rows: std::mem::take(&mut plan.rows),
            links: link.into_iter().collect(),
            updates: std::mem::take(&mut plan.updates).into_values().collect(),
            attempts: std::mem::take(&mut plan.attempts),
            ..Changes::default()
        }
    }

    /// Moves the end past a plan that was written.
    pub fn advance(&mut self, changes: &Changes, plan: &Postings, now: i64) {
        if let Some(link) = changes.links.last() {
            (self.seq, self.link) = (link.seq, link.link.clone());
        }
        self.recorded_at = self.recorded_at.max(now);
        if let Some(waited) = &mut self.waited {
            waited.extend(plan.waited.iter().cloned());
        }
        self.waited.take_if(|waited| waited.len() > Heads::WAITED_MAX);
        for movement in &plan.moved {
            let key = (movement.account.clone(), movement.currency);
            let empty = || BalanceRow::new(&movement.account, movement.currency);
            movement.add_to(self.balances.entry(key.clone()).or_insert_with(empty));
            self.touched.insert(key);
        }
    }

    /// The balance of an account in a currency.
    pub fn balance(&self, account: &str, currency: Currency) -> BalanceRow {
        let known = self.balances.get(&(account.to_owned(), currency));
        known.cloned().unwrap_or_else(|| BalanceRow::new(account, currency))
    }

    /// The balances that this batch has changed.
    pub fn changed(&mut self) -> Vec<BalanceRow> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().map(|(account, currency)| self.balance(&account, currency)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_known_and_too_much_of_it_is_asked_for_each_time() {
        let mut end = ChainTip::new(Heads { waited: vec!["n:1".into()], ..Heads::default() });
        assert!(end.may_wait("n:1") && !end.may_wait("n:2"));
        let parked = Postings { waited: vec!["n:2".into()], ..Postings::default() };
        end.advance(&Changes::default(), &parked, 0);
        assert!(end.may_wait("n:2"));
        let many = |count: usize| (0..count).map(|n| format!("o:{n}")).collect();
        end.advance(&Changes::default(), &Postings { waited: many(Heads::WAITED_MAX), ..Postings::default() }, 0);
        assert!(end.may_wait("n:3"));
        assert!(!ChainTip::new(Heads { waited: many(Heads::WAITED_MAX), ..Heads::default() }).may_wait("n:3"));
        assert!(ChainTip::new(Heads { waited: many(Heads::WAITED_MAX + 1), ..Heads::default() }).may_wait("n:3"));
    }
}
