//! The specification of a release: what of it is shown by name, and what makes it another release.
//!
//! The definition (canary, routes, user, hash, salt and layer) is hashed. While it stays the same, step and evidence go
//! on across reloads and restarts. Everything else may change meanwhile.

use std::sync::Arc;

use crate::assignment::border_at;
use crate::bucket::{Border, Hash};
use crate::settings::{Names, Release};
use base::units::BasisPoints;

/// A release's table, with the names that its numbers stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The table.
    pub release: Release,
    /// The name of the canary's upstream.
    pub canary: Arc<str>,
    /// The names of the routes, in the order of their numbers.
    pub routes: Vec<Arc<str>>,
    /// The names of the routes' own upstreams, each once.
    pub stable: Vec<Arc<str>>,
    /// The same names by route.
    by_route: Vec<Arc<str>>,
    /// The names of the configuration's cohorts, in the order of their numbers.
    pub cohorts: Vec<Arc<str>>,
}

impl Spec {
    /// A release, with the names of its configuration.
    pub fn new(release: &Release, names: &Names) -> Spec {
        let (mut routes, mut stable, mut by_route) = (vec![], vec![], vec![]);
        for route in &release.routes {
            let (name, upstream) = &names.routes[*route];
            routes.push(name.clone());
            if let Some(upstream) = upstream {
                let name = &names.upstreams[*upstream];
                by_route.push(name.clone());
                if !stable.contains(name) {
                    stable.push(name.clone());
                }
            }
        }
        let canary = names.upstreams[release.canary].clone();
        Spec { release: release.clone(), canary, routes, stable, by_route, cohorts: names.cohorts.clone() }
    }

    /// Whether it is the same release, whatever else has changed.
    pub fn is_same(&self, other: &Spec) -> bool {
        self.release.name == other.release.name && self.release.definition == other.release.definition
    }

    /// The name of a route's own upstream.
    pub fn stable_of(&self, route: usize) -> &str {
        self.by_route.get(route).map_or("", |name| name)
    }

    /// The number of the last step, from 0.
    pub fn last(&self) -> usize {
        self.release.steps.len().saturating_sub(1)
    }

    /// The share of all users on the canary at a step.
    pub fn share(&self, step: usize) -> BasisPoints {
        self.release.share(step)
    }

    /// The share of the release's own users on the canary at a step: 1 is all of them.
    pub fn share_of_range(&self, step: usize) -> f64 {
        (self.share(step).fraction() / self.release.range().fraction()).min(1.0)
    }

    /// The step to go on at after a change of the steps: the last one with no larger share
    /// than `share`, else the first.
    pub fn step_of(&self, share: BasisPoints) -> usize {
        (0..=self.last()).rev().find(|step| self.share(*step) <= share).unwrap_or(0)
    }

    /// The positions on the canary at a step.
    pub fn border(&self, step: usize) -> Border {
        border_at(&self.release, step)
    }

    /// Whether a step is for all users, those without a key included.
    pub fn is_for_everybody(&self, step: usize) -> bool {
        step >= self.last() && self.release.steps.last().is_some_and(|last| last.percent == BasisPoints::ALL)
    }

    /// The sources of the user key, as in the configuration.
    pub fn user(&self) -> Vec<String> {
        self.release.user.iter().map(ToString::to_string).collect()
    }

    /// The hash, as in the configuration.
    pub fn hash(&self) -> &'static str {
        match self.release.hash {
            Hash::Xxh3 => "xxh3",
            Hash::GrowthBook2 => "growthbook2",
            Hash::Unleash => "unleash",
            Hash::LaunchDarkly => "launchdarkly",
            Hash::Flagd2 => "flagd2",
            Hash::Nginx => "nginx",
        }
    }
}
