//! The checks of `[release.NAME]`.
//!
//! Names resolve, the canary is another upstream than stable, shares grow within the layer's range, and the hash can
//! split by them. `release_conflicts` checks that two releases never want the same user of a route. Whether a larger
//! share is wise is decided by the judge, at run time.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::Names;
use super::upstream::failures;
use super::{Check, duration, number, share, spelt, table, twice, word};
use crate::file::located::Located;
use crate::file::number::Points;
use crate::file::release as form;
use crate::file::scalar::{Name, Word};
use crate::file::{ConfigForm, Item};
use crate::source_map::Span;
use base::units::BasisPoints;
use gray::bucket::Hash;
use gray::settings::{JudgeRules, Layer, Release, Rescue, Step};
use gray::user_source::UserSource;

/// The other tables that releases refer to.
struct ReleaseContext<'f> {
    form: &'f ConfigForm,
    routes: Names<'f>,
    upstreams: Names<'f>,
    cohorts: Names<'f>,
}

/// The bounds of the shares of one release.
struct Bounds {
    hash: Hash,
    /// The layer's width, or all users; absent where the layer could not be understood.
    range: Option<BasisPoints>,
}

impl Check<'_, '_> {
    pub(super) fn releases(&mut self, form: &ConfigForm) -> Vec<Release> {
        let (routes, upstreams, cohorts) = (Names::routes(form), Names::upstreams(form), Names::cohorts(form));
        let context = ReleaseContext { form, routes, upstreams, cohorts };
        let releases = form.releases.iter().filter_map(|item| self.release(item, &context)).collect();
        self.overlapping(&form.releases);
        releases
    }

    fn release(&mut self, item: &Item<form::ReleaseForm>, context: &ReleaseContext<'_>) -> Option<Release> {
        let form = &item.form;
        let routes = self.released(item, context);
        let canary = self.canary(item, context);
        let user = self.user(item);
        let include = self.cohorts_named(&form.include, context);
        let exclude = self.cohorts_named(&form.exclude, context);
        self.both(&form.include, &form.exclude);
        let layer = form.layer.as_ref().map(|at| self.layer(&at.span, &at.value.0, item.whole));
        let range = match &layer {
            None => Some(BasisPoints::ALL),
            Some(layer) => layer.as_ref().map(Layer::range),
        };
        let bounds = Bounds { hash: word(&form.hash), range };
        let (before, steps) = (self.findings.count(), self.steps(item, &bounds));
        if self.findings.count() == before {
            self.holdback(form.holdback.as_ref(), &steps, &bounds);
        }
        let judge = self.judge(table(&form.judge, &form::JudgeForm::default()));
        let names: Vec<&str> = routes.iter().map(|route| &*context.form.routes[*route].name).collect();
        let canary_name = &*context.form.upstreams[canary?].name;
        let release = Release {
            name: Arc::from(&*item.name),
            routes,
            user,
            hash: bounds.hash,
            salt: form.salt.as_ref().map(|at| at.value.0.clone()),
            definition: String::new(),
            former_definition: String::new(),
            include,
            exclude,
            layer: layer.flatten(),
            steps,
            holdback: form.holdback.as_ref().map_or(BasisPoints::NONE, |at| at.value.0),
            rescue: rescue(table(&form.rescue, &form::RescueForm::default())),
            judge,
            place: self.places.place(&item.span),
            canary: canary?,
        };
        Some(release.define(canary_name, &names))
    }

    /// The routes, each of which must have a stable upstream.
    fn released(&mut self, item: &Item<form::ReleaseForm>, context: &ReleaseContext<'_>) -> Vec<usize> {
        let Some(routes) = &item.form.routes else {
            self.missing(item.whole, &item.span, "routes", "routes = [\"name\"]");
            return Vec::new();
        };
        if routes.value.is_empty() && item.whole {
            self.findings.at(&routes.span, "`routes` is empty", "name at least one route that forwards to an upstream");
        }
        for (again, first) in twice(routes.value.iter().map(|at| (&at.value.0.0, &at.span))) {
            self.collision(again, "this route is listed twice", first);
        }
        let mut indices = Vec::new();
        for name in &routes.value {
            let Some(index) = self.named(name, &context.routes) else { continue };
            let route = &context.form.routes[index];
            if route.form.upstream.is_none() && route.whole {
                let message = format!("route `{}` forwards to no upstream: it has no stable version", route.name);
                self.findings.at(
                    &name.span,
                    message,
                    "name routes with an `upstream`; a canned answer has no versions",
                );
            }
            indices.push(index);
        }
        indices
    }

    fn canary(&mut self, item: &Item<form::ReleaseForm>, context: &ReleaseContext<'_>) -> Option<usize> {
        let Some(canary) = &item.form.canary else {
            self.missing(item.whole, &item.span, "canary", "canary = \"name\", the upstream with the new version");
            return None;
        };
        let names = item.form.routes.iter().flat_map(|routes| &routes.value).map(|at| &at.value.0);
        let routes = names.filter_map(|name| Some(&context.form.routes[context.routes.index(name)?]));
        let is_canary = |upstream: &Word<Name>| upstream.value == canary.value;
        let same = routes.into_iter().find(|route| route.form.upstream.as_ref().is_some_and(is_canary));
        if let Some(route) = same {
            let message = format!("the canary is the upstream of route `{}` itself", route.name);
            let hint = "name the upstream with the new version: stable is the route's own";
            self.findings.at(&canary.span, message, hint);
        }
        self.named(canary, &context.upstreams)
    }

    fn user(&mut self, item: &Item<form::ReleaseForm>) -> Vec<UserSource> {
        let Some(user) = &item.form.user else { return vec![] };
        if user.value.is_empty() && item.whole {
            let hint = "name where the user key comes from, or remove `user`: the default is [\"ip\"]";
            self.findings.at(&user.span, "`user` is empty", hint);
        }
        for (again, first) in twice(user.value.iter().map(|at| (&at.value.0, &at.span))) {
            self.collision(again, "this source is listed twice", first);
        }
        spelt(&user.value)
    }

    fn cohorts_named(&mut self, names: &[Word<Name>], context: &ReleaseContext<'_>) -> Vec<usize> {
        for (again, first) in twice(names.iter().map(|at| (&at.value.0.0, &at.span))) {
            self.collision(again, "this cohort is listed twice", first);
        }
        names.iter().filter_map(|name| self.named(name, &context.cohorts)).collect()
    }

    /// A cohort that is both included and excluded would never be on the canary, which its author did not mean.
    fn both(&mut self, include: &[Word<Name>], exclude: &[Word<Name>]) {
        let included: HashMap<&Name, &Span> = include.iter().map(|at| (&at.value.0, &at.span)).collect();
        for never in exclude {
            if let Some(&always) = included.get(&never.value.0) {
                let (first, later) = (always, &never.span);
                let (first, later) = if first.start < later.start { (first, later) } else { (later, first) };
                let message = format!("cohort `{}` is both included and excluded", never.value.0.0);
                self.collision(later, &message, first);
            }
        }
    }

    fn layer(&mut self, span: &Span, form: &form::LayerForm, whole: bool) -> Option<Layer> {
        for (key, is_there, example) in [
            ("name", form.name.is_some(), "name = \"checkout\""),
            ("from", form.from.is_some(), "from = 0"),
            ("to", form.to.is_some(), "to = 50"),
        ] {
            if !is_there {
                self.missing(whole, span, key, example);
            }
        }
        let (from, to) = (form.from.as_ref()?.value.0, form.to.as_ref()?);
        if from >= to.value.0 {
            let message = format!("the layer's range is empty: from {from} to {}", to.value.0);
            self.findings.at(&to.span, message, "`to` must be above `from`, such as from = 0, to = 50");
            return None;
        }
        Some(Layer { name: form.name.as_ref()?.value.0.0.clone(), from, to: to.value.0 })
    }

    fn steps(&mut self, item: &Item<form::ReleaseForm>, bounds: &Bounds) -> Vec<Step> {
        let example = "steps = [{ percent = 1, hold = \"10m\" }, { percent = 100, hold = \"1h\" }]";
        let Some(written) = &item.form.steps else {
            self.missing(item.whole, &item.span, "steps", example);
            return Vec::new();
        };
        if written.value.is_empty() && item.whole {
            self.findings.at(&written.span, "`steps` is empty", format!("name at least one: {example}"));
        }
        let (mut steps, mut largest) = (Vec::new(), None);
        for (number, Located { span, value }) in (1..).zip(&written.value) {
            let Some(percent) = &value.0.percent else {
                self.missing(item.whole, span, "percent", "percent = 1");
                continue;
            };
            let share = percent.value.0;
            match largest {
                Some(earlier @ (_, before, _)) if share <= before => self.not_larger(number, percent, earlier),
                _ => {
                    largest = Some((number, share, &percent.span));
                    self.fitting(percent, bounds);
                }
            }
            steps.push(Step { percent: share, hold: duration(&value.0.hold) });
        }
        steps
    }

    /// Adds a finding for a step whose share is not above the largest one before it.
    fn not_larger(
        &mut self,
        number: usize,
        percent: &Located<Points<1>>,
        (earlier, before, first): (usize, BasisPoints, &Span),
    ) {
        let place = self.places.place(first);
        let message =
            format!("shares must grow: step {number} has {}, step {earlier} before it has {before}", percent.value.0);
        let hint = format!("the other one is at {}:{}; write the steps in rising order", place.file, place.line);
        self.findings.at(&percent.span, message, hint);
    }

    /// Adds a finding for a share that exceeds the layer, or that the hash cannot split by.
    fn fitting(&mut self, percent: &Located<Points<1>>, bounds: &Bounds) {
        let (share, Some(range)) = (percent.value.0, bounds.range) else { return };
        if share > range {
            let message = format!("this step is beyond the layer's range: {share} of all users, where it has {range}");
            let hint = format!("at most {}, or a wider `from` and `to`", range.as_percent());
            self.findings.at(&percent.span, message, hint);
        } else if bounds.hash.border(share, range).is_none() {
            let message = format!("unleash knows whole percents only: {share} is none of {range}");
            self.findings.at(&percent.span, message, whole_percents(range));
        }
    }

    /// Adds a finding for a holdback that makes the last step pointless. The shares themselves are in order.
    fn holdback(&mut self, written: Option<&Located<Points<0>>>, steps: &[Step], bounds: &Bounds) {
        let (Some(written), Some(range), Some(last)) = (written, bounds.range, steps.last()) else { return };
        let left = last.percent.min(range.without(written.value.0));
        let before = steps.iter().nth_back(1).map_or(BasisPoints::NONE, |step| step.percent);
        if left <= before {
            let message = match steps.len() {
                1 => format!("a holdback of {} leaves nobody on the canary", written.value.0),
                count => format!(
                    "a holdback of {} leaves {left} for the last step, no more than the {before} of step {}",
                    written.value.0,
                    count - 1
                ),
            };
            let most = range.without(before);
            self.findings.at(
                &written.span,
                message,
                format!("less than {}, or smaller steps before the last", most.as_percent()),
            );
        } else if bounds.hash.border(left, range).is_none() {
            let message = format!("unleash knows whole percents only: the last step's {left} is none of {range}");
            self.findings.at(&written.span, message, whole_percents(range));
        }
    }

    fn judge(&mut self, form: &form::JudgeForm) -> JudgeRules {
        JudgeRules {
            false_alarm: form.false_alarm.as_ref().map_or(0.0, |at| at.value.0),
            slo: form.slo.is_some().then(|| self.positive(&form.slo)),
            settle: duration(&form.settle),
            min_users: number(&form.min_users),
            max_wait: self.positive(&form.max_wait),
            on_fail: word(&form.on_fail),
        }
    }
}

fn whole_percents(range: BasisPoints) -> String {
    format!("a whole number of percent of {range}, or another `hash`")
}

fn rescue(form: &form::RescueForm) -> Rescue {
    Rescue {
        on: failures(&form.on),
        methods: form.methods.as_deref().map(spelt).unwrap_or_default(),
        budget: share(&form.budget_percent),
    }
}
