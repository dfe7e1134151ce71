//! The choice of the version that a user is on.
//!
//! The release decides ([`gray::assignment`]). This stage gives it the parts of the request that it may use, and sends
//! the request to the canary's upstream if it says so. The decision is made once, so a retry does not move the user.

use std::time::Duration;

use super::ctx::Ctx;
use super::exchange::Exchange;
use super::rescue::Rescue;
use crate::runtime::snapshot::{OfRoute, Snapshot};
use crate::telemetry::series;
use base::units::{Nanos, Share};
use gray::assignment::{Assignment, Decision, RequestView, Why, choose};
use gray::sample::{Arm, Ending, GRPC, Sample};
use gray::shared_state::SharedState;

/// A release's decision about a request, and the result of its arm.
#[derive(Debug)]
pub struct Assigned {
    of: OfRoute,
    /// The decision.
    pub decision: Decision,
    /// The first attempt at the arm's upstream.
    pub first: Option<First>,
    /// The result of a rescue.
    pub rescue: Rescue,
}

/// The first attempt at an arm's upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// How it ended.
    pub ending: Ending,
    /// Status of its answer; 0 without one.
    pub status: u16,
    /// Time from the request's start to the head of the answer, or to the failure if there was none.
    pub after: Duration,
    /// Number of its server; 0 without one.
    pub server: u32,
    /// Whether that server has been in use for longer than its settle time.
    pub warm: bool,
}

impl Assigned {
    /// The release.
    pub fn plan<'s>(&self, snapshot: &'s Snapshot) -> &'s Assignment {
        &snapshot.plans[self.of.plan as usize]
    }

    /// Name of the release; empty if the user is out of its range.
    pub fn release<'s>(&self, snapshot: &'s Snapshot) -> &'s str {
        if self.decision.why == Why::OutOfRange { "" } else { &self.plan(snapshot).name }
    }

    /// Whether the canary's upstream serves the request so far.
    pub fn is_on_canary(&self) -> bool {
        self.decision.arm == Arm::Canary && self.rescue != Rescue::TakenOver
    }
}

/// Asks the route's releases for a decision.
pub fn assign(exchange: &impl Exchange, ctx: &mut Ctx, route: usize) {
    let releases = ctx.snapshot.releases_of(route);
    if releases.is_empty() {
        return;
    }
    let asked = RequestView {
        headers: &exchange.asked().headers,
        client: Some(ctx.client),
        app: ctx.snapshot.app(ctx.app),
        claim: ctx.user.as_deref(),
    };
    let plans = releases.iter().map(|of| &ctx.snapshot.plans[of.plan as usize]);
    let Some((index, decision)) = choose(plans, &ctx.snapshot.config.cohorts, &asked) else { return };
    let assigned = Assigned { of: releases[index], decision, first: None, rescue: Rescue::NotNeeded };
    let plan = assigned.plan(&ctx.snapshot);
    if assigned.decision.is_judged() {
        plan.live.began(assigned.decision.arm);
    }
    if assigned.decision.arm == Arm::Canary {
        ctx.attempts.upstream = plan.canary;
        if plan.rescue.budget < Share::ALL {
            plan.live.may_need_rescue(ctx.started);
        }
    }
    ctx.assigned = Some(assigned);
}

/// Reports the request's end to its release. `left`: the client did not wait for the end; `good`: it got a good answer.
pub fn tell(ctx: &Ctx, now: Nanos, left: bool, good: bool) {
    let Some(assigned) = &ctx.assigned else { return };
    let decision = &assigned.decision;
    let live: &SharedState = &assigned.plan(&ctx.snapshot).live;
    if decision.why == Why::OutOfRange {
        return;
    }
    let untold = || First { ending: Ending::Left, status: 0, after: now.since(ctx.started), server: 0, warm: true };
    let Some(first) = assigned.first.or_else(|| left.then(untold)) else {
        // The gateway itself refused it, which says nothing about the arm.
        live.went_untold(decision.is_judged().then_some(decision.arm));
        return;
    };
    live.ended(Sample {
        user: decision.user,
        micros: u32::try_from(first.after.as_micros()).unwrap_or(u32::MAX),
        server: first.server,
        status: first.status,
        route: assigned.of.route,
        cohorts: decision.cohorts,
        app: ctx.snapshot.callers.number(ctx.app),
        step: decision.step,
        arm: decision.arm,
        ending: first.ending,
        // A gRPC failure reached the client, whatever the HTTP status. A client that left had been answered until then.
        saved: (good || left) && first.ending.is_failure() && first.status < GRPC,
        warm: first.warm,
        judged: decision.is_judged(),
    });
}

/// The arm under which a request is counted.
pub fn arm(ctx: &Ctx) -> series::Arm {
    match ctx.assigned.as_ref().map(|assigned| assigned.decision.arm) {
        None => series::Arm::None,
        Some(Arm::Stable) => series::Arm::Stable,
        Some(Arm::Canary) => series::Arm::Canary,
    }
}
