//! The check for releases that want the same users.
//!
//! A route has one release at a time, unless all of its releases are in one layer, in ranges that do not overlap: then
//! every user belongs to at most one of them. Ranges of a layer may not overlap on different routes either, since a
//! layer exists to keep users out of two releases. A release whose layer could not be understood is left out. Of two
//! that collide the later one gets the finding, once.

use std::collections::{HashMap, HashSet};

use super::Check;
use crate::file::Item;
use crate::file::release::ReleaseForm;
use crate::source_map::Span;
use base::units::BasisPoints;
use gray::user_source::UserSource;

/// The users that a release may take.
struct Claim<'f> {
    item: &'f Item<ReleaseForm>,
    layer: Option<Part<'f>>,
}

/// A range of a layer.
struct Part<'f> {
    layer: &'f str,
    from: BasisPoints,
    to: BasisPoints,
    span: &'f Span,
}

impl Part<'_> {
    fn meets(&self, other: &Part<'_>) -> bool {
        self.from < other.to && other.from < self.to
    }
}

impl Check<'_, '_> {
    /// Adds a finding for every release that collides with an earlier one.
    pub(super) fn overlapping(&mut self, releases: &[Item<ReleaseForm>]) {
        let claims: Vec<Claim<'_>> = releases.iter().filter_map(claim).collect();
        let (mut of_route, mut of_layer) = (HashMap::<&str, Vec<usize>>::new(), HashMap::<&str, Vec<usize>>::new());
        for (index, later) in claims.iter().enumerate() {
            if self.findings.full() {
                break;
            }
            let mut told = HashSet::new();
            if let Some(part) = &later.layer {
                let others = of_layer.entry(part.layer).or_default();
                let meets = |&&other: &&usize| claims[other].layer.as_ref().is_some_and(|other| other.meets(part));
                if let Some(&first) = others.iter().find(meets) {
                    told.insert(first);
                    self.ranges_meet(part, &claims[first]);
                }
                others.push(index);
            }
            for name in later.item.form.routes.iter().flat_map(|routes| &routes.value) {
                let others = of_route.entry(&name.value.0.0).or_default();
                let apart = |&&other: &&usize| other == index || told.contains(&other) || apart(&claims[other], later);
                if let Some(&first) = others.iter().find(|other| !apart(other)) {
                    told.insert(first);
                    self.share_a_route(&name.value.0.0, &name.span, &claims[first], later);
                }
                others.push(index);
            }
        }
    }

    fn ranges_meet(&mut self, part: &Part<'_>, first: &Claim<'_>) {
        let Some(earlier) = &first.layer else { return };
        let place = self.places.place(earlier.span);
        let message = format!(
            "ranges of layer `{}` meet: {} to {} here, {} to {} in release `{}`",
            part.layer,
            part.from.as_percent(),
            part.to.as_percent(),
            earlier.from.as_percent(),
            earlier.to.as_percent(),
            first.item.name
        );
        let hint =
            format!("the other one is at {}:{}; begin where it ends, or end where it begins", place.file, place.line);
        self.findings.at(part.span, message, hint);
    }

    fn share_a_route(&mut self, route: &str, span: &Span, first: &Claim<'_>, later: &Claim<'_>) {
        let place = self.places.place(&first.item.span);
        let (name, at) = (&first.item.name, format!("the other one is at {}:{}", place.file, place.line));
        if same_layer(first, later) {
            let message = format!(
                "releases of one layer on route `{route}` must tell users apart alike: release `{name}` has another `user`"
            );
            self.findings.at(span, message, format!("{at}; write the same `user` in both"));
        } else {
            let message = format!("route `{route}` has release `{name}` already");
            let hint = format!("{at}; end it first, or give both a `layer` of one name with ranges that do not meet");
            self.findings.at(span, message, hint);
        }
    }
}

/// The users that a release takes; `None` where its layer could not be understood.
fn claim(item: &Item<ReleaseForm>) -> Option<Claim<'_>> {
    let layer = match &item.form.layer {
        None if !item.whole => return None,
        None => None,
        Some(at) => {
            let (name, from, to) = (at.value.0.name.as_ref()?, at.value.0.from.as_ref()?, at.value.0.to.as_ref()?);
            let part = Part { layer: &name.value.0.0, from: from.value.0, to: to.value.0, span: &at.span };
            Some(part).filter(|part| part.from < part.to)
        }
    };
    (layer.is_some() || item.form.layer.is_none()).then_some(Claim { item, layer })
}

fn same_layer(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    matches!((&one.layer, &other.layer), (Some(one), Some(other)) if one.layer == other.layer)
}

/// Whether two releases of one route never want the same user, provided that their ranges do not overlap.
fn apart(one: &Claim<'_>, other: &Claim<'_>) -> bool {
    same_layer(one, other) && user(one.item) == user(other.item)
}

fn user(item: &Item<ReleaseForm>) -> Vec<&UserSource> {
    item.form.user.iter().flat_map(|user| &user.value).map(|at| &at.value.0).collect()
}
