//! Assignment of requests to arms: the user key, the cohorts, and whether the user is on the canary. Where the key comes
//! from is [`user_source`](crate::user_source).
//!
//! Exclude beats include beats percent. Releases of one route have disjoint ranges of one layer, so at most one of them
//! applies to a user; a cohort that several include goes to the first. A user's arm never depends on the request's
//! method, body or path: the same user is on the same version. Without a key there is no position: such a request is on
//! stable, until the last step gives the canary to all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use super::bucket::{Border, Hash, Position};
use super::cohort::{self, RequestFacts, user_hash};
use super::sample::Arm;
use super::shared_state::SharedState;
use crate::settings::{Cohort, Release, Rescue};
use crate::user_source::{UserKey, UserSource};
use base::units::BasisPoints;

/// Cohorts that the judge learns of.
const TOLD: usize = 16;

/// The parts of a request that decide.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The client's address, where it is known.
    pub client: Option<IpAddr>,
    /// The name of the calling app.
    pub app: Option<&'a str>,
    /// The token's user claim.
    pub claim: Option<&'a str>,
}

impl<'a> RequestView<'a> {
    /// A request of which only the headers are known.
    pub fn of(headers: &'a HeaderMap) -> RequestView<'a> {
        RequestView { headers, client: None, app: None, claim: None }
    }
}

/// The result of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The version.
    pub arm: Arm,
    /// The reason.
    pub why: Why,
    /// The user's bucket, one of 10,000; `None` without a key.
    pub bucket: Option<u16>,
    /// [`user_hash`] of the key; 0 without one.
    pub user: u64,
    /// The first sixteen cohorts that hold the request, a bit each.
    pub cohorts: u16,
    /// The number of the step that decided.
    pub step: u16,
}

/// What put a request on its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// A cohort of `exclude`, by its number.
    Excluded(usize),
    /// A cohort of `include`, by its number; stable where the release was taken back.
    Included(usize),
    /// The user's position.
    Position,
    /// There is no user key.
    Unkeyed,
    /// The user belongs to another part of the layer.
    OutOfRange,
}

impl Decision {
    /// Whether chance alone decided, so that the arms may be compared.
    pub fn is_judged(&self) -> bool {
        self.why == Why::Position
    }
}

/// A cohort that a release checks, and its role.
#[derive(Clone, Debug)]
struct Role {
    cohort: usize,
    exclude: bool,
    include: bool,
}

/// The run form of a release in one snapshot.
#[derive(Debug)]
pub struct Assignment {
    /// The name of the release.
    pub name: Arc<str>,
    /// The number of the canary's upstream.
    pub canary: usize,
    /// When stable answers for the canary.
    pub rescue: Rescue,
    /// How long after its first request a server's answers are not timed.
    pub settle: Duration,
    /// The state that outlives the snapshot.
    pub live: Arc<SharedState>,
    sources: Vec<UserSource>,
    hash: Hash,
    salt: Box<[u8]>,
    range: Option<Range>,
    roles: Vec<Role>,
}

/// A range of a layer's users.
#[derive(Debug)]
struct Range {
    layer: Box<[u8]>,
    from: Border,
    to: Border,
}

impl Range {
    /// The range of a release, where it has a layer.
    fn of(release: &Release) -> Option<Range> {
        let layer = release.layer.as_ref()?;
        let border = |share| Hash::Xxh3.border(share, BasisPoints::ALL).unwrap_or(Border::NONE);
        // A prefix of its own: a layer named like a release's salt would otherwise draw the same positions.
        let name = [b"layer\0", layer.name.as_bytes()].concat();
        Some(Range { layer: name.into(), from: border(layer.from), to: border(layer.to) })
    }

    fn holds(&self, user: &[u8]) -> bool {
        let position = Hash::Xxh3.position(&self.layer, user);
        self.to.holds(position) && !self.from.holds(position)
    }
}

/// The cohorts that a release checks, with those that the judge learns of.
fn roles(release: &Release, told: Vec<usize>) -> Vec<Role> {
    let mut asked: Vec<usize> =
        told.into_iter().chain(release.include.iter().chain(&release.exclude).copied()).collect();
    asked.sort_unstable();
    asked.dedup();
    let role = |cohort| Role {
        cohort,
        exclude: release.exclude.contains(&cohort),
        include: release.include.contains(&cohort),
    };
    asked.into_iter().map(role).collect()
}

impl Assignment {
    /// The run form of a release, in a configuration with `cohorts` cohorts.
    pub fn new(release: &Release, cohorts: usize, live: Arc<SharedState>) -> Assignment {
        let told = 0..cohorts.min(TOLD);
        Assignment {
            name: release.name.clone(),
            canary: release.canary,
            rescue: release.rescue.clone(),
            settle: release.judge.settle,
            live,
            sources: release.user.clone(),
            hash: release.hash,
            salt: release.salt().as_bytes().into(),
            range: Range::of(release),
            roles: roles(release, told.collect()),
        }
    }

    /// Decides for a request, and counts one without a key.
    pub fn decide(&self, cohorts: &[Cohort], asked: &RequestView<'_>) -> Decision {
        let key = self.sources.iter().find_map(|source| source.key(asked));
        if key.is_none() {
            self.live.unkeyed.add(1);
        }
        self.decide_for(cohorts, key.as_ref().map(UserKey::bytes), asked)
    }

    /// The user key of a request, and its source.
    pub fn user(&self, asked: &RequestView<'_>) -> Option<(String, &UserSource)> {
        self.sources.iter().find_map(|source| {
            let key = source.key(asked)?;
            Some((String::from_utf8_lossy(key.bytes()).into_owned(), source))
        })
    }

    /// Decides for a user.
    pub fn decide_for(&self, cohorts: &[Cohort], user: Option<&[u8]>, asked: &RequestView<'_>) -> Decision {
        let hash = user.map_or(0, user_hash);
        let facts = RequestFacts { user, hash, headers: asked.headers, app: asked.app };
        let (mut mask, mut excluded, mut included) = (0, None, None);
        for role in &self.roles {
            if !cohorts.get(role.cohort).is_some_and(|cohort| cohort::holds(cohort, &facts)) {
                continue;
            }
            mask |= if role.cohort < TOLD { 1 << role.cohort } else { 0 };
            excluded = excluded.or(role.exclude.then_some(role.cohort));
            included = included.or(role.include.then_some(role.cohort));
        }
        let stage = self.live.stage();
        let position = user.map(|user| self.hash.position(&self.salt, user));
        let by_chance = |position: Option<Position>| match (position, user) {
            (Some(position), Some(user)) if self.range.as_ref().is_none_or(|range| range.holds(user)) => {
                (stage.arm(position), Why::Position)
            }
            (Some(_), _) => (Arm::Stable, Why::OutOfRange),
            (None, _) => (if stage.unkeyed { Arm::Canary } else { Arm::Stable }, Why::Unkeyed),
        };
        let (arm, why) = match (excluded, included) {
            (Some(cohort), _) => (Arm::Stable, Why::Excluded(cohort)),
            (None, Some(cohort)) => (if stage.open { Arm::Canary } else { Arm::Stable }, Why::Included(cohort)),
            (None, None) => by_chance(position),
        };
        Decision {
            arm,
            why,
            bucket: position.map(|p| self.hash.bucket(p)),
            user: hash,
            cohorts: mask,
            step: stage.step,
        }
    }
}

/// Chooses the release of a route that applies to a request; returns its index and its decision. It is the first
/// that includes the user, else the one whose range holds them, else the first that assigns them to its canary,
/// else the first. An inclusion comes before every position: otherwise users whom one release includes would be
/// missing on one arm of another.
pub fn choose<'p>(
    plans: impl Iterator<Item = &'p Assignment>,
    cohorts: &[Cohort],
    asked: &RequestView<'_>,
) -> Option<(usize, Decision)> {
    let rank = |decision: &Decision| match decision.why {
        Why::Included(_) if decision.arm == Arm::Canary => 3,
        Why::Position => 2,
        _ if decision.arm == Arm::Canary => 1,
        _ => 0,
    };
    let mut chosen: Option<(usize, Decision)> = None;
    for (index, plan) in plans.enumerate() {
        let decision = plan.decide(cohorts, asked);
        if chosen.as_ref().is_none_or(|(_, best)| rank(&decision) > rank(best)) {
            chosen = Some((index, decision));
        }
    }
    chosen
}

/// The border of the positions that are on the canary at a step.
pub fn border_at(release: &Release, step: usize) -> Border {
    release.hash.border(release.share(step), release.range()).unwrap_or(Border::NONE)
}

#[cfg(test)]
mod tests;
