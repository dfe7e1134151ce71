//! The keys of a store that is to be verified.
//!
//! One wrap that opens is enough for a key, and a data key that none opens is reported. Only the chain's key must open,
//! since without it nothing can be verified. A day's key whose wraps are all gone was erased, which is not a problem.

use std::collections::BTreeMap;

use super::{Discrepancy, DiscrepancyKind};
use crate::keys::{KeyError, Ring};
use crate::rows::Wrap;
use base::clock;
use base::secret::Secret;

/// The keys that open, and a problem for each that does not.
pub fn open(encryption_keys: &[Secret], wraps: &[Wrap]) -> Result<(Ring, Vec<Discrepancy>), KeyError> {
    let now_ms = clock::wall_ms();
    sorted_out(wraps, |wraps| Ring::open(encryption_keys, wraps, now_ms).map(|(ring, _)| ring))
}

fn sorted_out<R>(
    wraps: &[Wrap],
    open: impl Fn(&[Wrap]) -> Result<R, KeyError>,
) -> Result<(R, Vec<Discrepancy>), KeyError> {
    if !wraps.iter().any(|wrap| wrap.purpose == "chain") {
        return Err(KeyError::Wrong("the store has no key of its chain".to_owned()));
    }
    if let Ok(ring) = open(wraps) {
        return Ok((ring, vec![]));
    }
    let mut good: Vec<Wrap> = wraps.iter().filter(|wrap| wrap.purpose == "chain").cloned().collect();
    open(&good)?;
    let mut by_key: BTreeMap<_, Vec<Wrap>> = BTreeMap::new();
    for wrap in wraps.iter().filter(|wrap| wrap.purpose != "chain") {
        by_key.entry(wrap.id).or_default().push(wrap.clone());
    }
    let mut problems = vec![];
    for (id, of_key) in by_key {
        let tried: Vec<_> = good.iter().filter(|wrap| wrap.purpose == "chain").chain(&of_key).cloned().collect();
        if open(&tried).is_ok() {
            good.extend(of_key);
        } else {
            problems.push(Discrepancy {
                kind: DiscrepancyKind::Changed,
                table: "keys",
                id: Some(id.to_string()),
                sequence: None,
            });
        }
    }
    Ok((open(&good)?, problems))
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn wrap(id: u128, purpose: &str, wrapped: &str) -> Wrap {
        let (by, day) = ("k".to_owned(), String::new());
        Wrap { id: Uuid::from_u128(id), by, purpose: purpose.to_owned(), day, wrapped: wrapped.into(), created_at: 0 }
    }

    fn opening(wraps: &[Wrap]) -> Result<usize, KeyError> {
        let bad = wraps.iter().any(|wrap| wrap.wrapped == b"bad");
        if bad { Err(KeyError::Wrong("no key opens it".to_owned())) } else { Ok(wraps.len()) }
    }

    #[test]
    fn a_data_key_that_no_key_opens_is_named_and_the_others_are_used() {
        let wraps =
            [wrap(1, "chain", "good"), wrap(2, "data", "good"), wrap(3, "data", "bad"), wrap(4, "data", "good")];
        let (opened, problems) = sorted_out(&wraps, opening).unwrap();
        assert_eq!(opened, 3);
        assert_eq!(problems.len(), 1);
        assert_eq!(problems[0].id, Some(Uuid::from_u128(3).to_string()));
        assert_eq!(sorted_out(&wraps[..2], opening).unwrap(), (2, vec![]));
    }

    #[test]
    fn without_the_chains_key_nothing_can_be_verified() {
        assert!(sorted_out(&[wrap(1, "chain", "bad"), wrap(2, "data", "good")], opening).is_err());
        assert!(sorted_out(&[wrap(2, "data", "good")], opening).is_err());
    }
}
