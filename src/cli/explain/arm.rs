//! The version that a user would be on, and why.

use std::sync::Arc;

use super::Explained;
use crate::releases;
use config::model::Config;
use gray::assignment::{Assignment, Decision, RequestView, Why, choose};
use gray::cohort::{self, RequestFacts};
use gray::sample::Arm;

/// Explains the decision of a route's releases; returns the canary's upstream if the request goes there.
pub(super) fn explain(
    config: &Config,
    route: usize,
    asked: &RequestView<'_>,
    explained: &mut Explained,
) -> Option<usize> {
    let kept = releases::kept(&config.server.state_dir).unwrap_or_else(|e| {
        let file = config.server.state_dir.join("releases.json");
        explained.why.push(format!("{} cannot be read ({e}): taken as if there were none", file.display()));
        Vec::new()
    });
    let mut controller = releases::controller(kept, &Arc::default());
    let lives = controller.adopt(&config.releases, &config.names(), releases::moment());
    let on_route = config.releases.iter().zip(lives).filter(|(release, _)| release.routes.contains(&route));
    let plans: Vec<Assignment> =
        on_route.map(|(release, live)| Assignment::new(release, config.cohorts.len(), live)).collect();
    let (index, decision) = choose(plans.iter(), &config.cohorts, asked)?;
    let plan = &plans[index];
    let user = plan.user(asked);
    let facts = RequestFacts {
        user: user.as_ref().map(|(key, _)| key.as_bytes()),
        hash: decision.user,
        headers: asked.headers,
        app: asked.app,
    };
    let held = config.cohorts.iter().filter(|cohort| cohort::holds(cohort, &facts));
    explained.cohorts = Some(held.map(|cohort| cohort.name.to_string()).collect());
    explained.release = Some(plan.name.to_string());
    explained.bucket = decision.bucket;
    explained.arm = Some(decision.arm.label());
    explained.why.push(match &user {
        Some((key, source)) => format!("user {key}, by {source}"),
        None if asked.client.is_none() => "no user key; if it is the client's address, say it with --client".to_owned(),
        None => "no user key".to_owned(),
    });
    let view = controller.view(&plan.name)?;
    let stands = format!("release {} is {} at step {} of {}", plan.name, view.state.label(), view.step, view.steps);
    explained.why.push(format!("{stands}: {} % of users are on {}", view.percent, view.canary));
    explained.why.push(reason(config, &decision, view.state.is_back()));
    explained.user = user.map(|(key, _)| key);
    (decision.arm == Arm::Canary).then_some(plan.canary)
}

fn reason(config: &Config, decision: &Decision, back: bool) -> String {
    let cohort = |number: usize| config.cohorts.get(number).map_or("", |cohort| &cohort.name);
    let arm = decision.arm.label();
    match decision.why {
        _ if back => format!("{arm}: the release was taken back"),
        Why::Excluded(number) => format!("{arm}: cohort {} is excluded", cohort(number)),
        Why::Included(number) => format!("{arm}: cohort {} is included", cohort(number)),
        Why::Position => format!("{arm}: by bucket {}", decision.bucket.unwrap_or_default()),
        Why::Unkeyed => format!("{arm}: there is no user key"),
        Why::OutOfRange => format!("{arm}: the user belongs to another part of the layer"),
    }
}
