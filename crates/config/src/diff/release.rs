//! The diff of cohorts, releases and notify: their keys, and the share of users who change arm.
//!
//! Routes, upstreams and cohorts are compared by name, since their indices move when another one comes or goes; where
//! their order has no meaning, it is not compared. The share is that of users placed by percent, at the first step of
//! both: with the same hash, salt, user key and layer the larger share contains the smaller one; any difference makes
//! the two independent. Members of included and excluded cohorts are not counted.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Changes, changes, differing};
use crate::model::{Config, Notify};
use gray::settings::{Cohort, Release};

/// A release that moves users.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// The release's name.
    pub release: String,
    /// Users who change arm, in percent of all, at the first step.
    pub moved_percent: f64,
}

pub(super) fn cohorts(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Cohort)> {
        config.cohorts.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Cohort { name: _, users, any, place: _ } = new;
        differing([("users_file", old.users != *users), ("any", old.any != *any)])
    })
}

pub(super) fn releases(old: &Config, new: &Config) -> Changes {
    changes(&named(old), &named(new), |one, other| release_keys((old, one), (new, other)))
}

pub(super) fn notify(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Notify)> {
        config.notify.iter().map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Notify { name: _, url, format, secret, place: _ } = new;
        differing([("url", old.url != *url), ("format", old.format != *format), ("secret_file", old.secret != *secret)])
    })
}

fn named(config: &Config) -> Vec<(String, Release)> {
    config.releases.iter().map(|it| (it.name.to_string(), it.clone())).collect()
}

fn release_keys((before, old): (&Config, &Release), (after, new): (&Config, &Release)) -> Vec<&'static str> {
    fn sorted<'c, T>(indices: &[usize], tables: &'c [T], name: impl Fn(&'c T) -> &'c Arc<str>) -> Vec<&'c Arc<str>> {
        let mut names: Vec<_> = indices.iter().filter_map(|&index| tables.get(index)).map(name).collect();
        names.sort_unstable();
        names
    }
    fn routes<'c>(config: &'c Config, release: &Release) -> Vec<&'c Arc<str>> {
        sorted(&release.routes, &config.routes, |route| &route.name)
    }
    fn cohorts<'c>(config: &'c Config, indices: &[usize]) -> Vec<&'c Arc<str>> {
        sorted(indices, &config.cohorts, |cohort| &cohort.name)
    }
    fn canary<'c>(config: &'c Config, release: &Release) -> Option<&'c Arc<str>> {
        config.upstreams.get(release.canary).map(|upstream| &upstream.name)
    }
    let Release {
        name: _,
        routes: _,
        canary: _,
        user,
        hash,
        salt,
        definition: _,
        former_definition: _,
        include,
        exclude,
        layer,
        steps,
        holdback,
        rescue,
        judge,
        place: _,
    } = new;
    differing([
        ("routes", routes(before, old) != routes(after, new)),
        ("canary", canary(before, old) != canary(after, new)),
        ("user", old.user != *user),
        ("hash", old.hash != *hash),
        ("salt", old.salt != *salt),
        ("include", cohorts(before, &old.include) != cohorts(after, include)),
        ("exclude", cohorts(before, &old.exclude) != cohorts(after, exclude)),
        ("layer", old.layer != *layer),
        ("steps", old.steps != *steps),
        ("holdback", old.holdback != *holdback),
        ("rescue", old.rescue != *rescue),
        ("judge", old.judge != *judge),
    ])
}

/// Every release that moves users, in the order of the new configuration, then those that are gone.
pub(super) fn arms(old: &Config, new: &Config) -> Vec<Moved> {
    fn by_name(config: &Config) -> HashMap<&str, &Release> {
        config.releases.iter().map(|it| (&*it.name, it)).collect()
    }
    let (before, after) = (by_name(old), by_name(new));
    let stay = new.releases.iter().map(|now| (&now.name, before.get(&*now.name).copied(), Some(now)));
    let gone = old.releases.iter().filter(|was| !after.contains_key(&*was.name));
    let all = stay.chain(gone.map(|was| (&was.name, Some(was), None)));
    let moved = all.map(|(name, was, now)| Moved {
        release: name.to_string(),
        // Shares are multiples of 0.0001, products of two of 0.00000001: rounding there removes
        // only the error of floats.
        moved_percent: (moved(was, now) * 1e8).round() / 1e6,
    });
    moved.filter(|it| it.moved_percent > 0.0).collect()
}

/// The share of users who change arm, at the first step of both; without a release all are on stable.
fn moved(old: Option<&Release>, new: Option<&Release>) -> f64 {
    let canary = |release: Option<&Release>| release.map_or(0.0, |release| release.share(0).fraction());
    let (before, after) = (canary(old), canary(new));
    match (old, new) {
        (Some(old), Some(new)) if !nested(old, new) => before + after - 2.0 * before * after,
        _ => (after - before).abs(),
    }
}

/// Whether the smaller share's users are all among those of the larger one.
fn nested(old: &Release, new: &Release) -> bool {
    old.hash == new.hash && old.salt() == new.salt() && old.user == new.user && old.layer == new.layer
}

/// The lines of releases, each with the share of users that it moves.
pub(super) fn lines(releases: &Changes, arms: &[Moved], lines: &mut Vec<String>) {
    let first = lines.len();
    releases.lines("release", lines);
    let names = releases.added.iter().chain(&releases.removed).chain(releases.changed.iter().map(|it| &it.name));
    for (name, line) in names.zip(&mut lines[first..]) {
        if let Some(moved) = arms.iter().find(|moved| moved.release == *name) {
            let percent = moved.moved_percent;
            line.push_str(&format!("; {percent} % of users change arm at step one"));
        }
    }
}
