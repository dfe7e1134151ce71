//! Which version a user is on.
//!
//! The release decides ([`gray::assignment`]); this stage gives it what of the request it may look at, and sends the
//! request to the canary's upstream where it says so. Decided once, so that a retry does not move the user.

use std::time::Duration;

use pingora::proxy::Session;

use super::ctx::Ctx;
use super::rescue::Rescue;
use crate::runtime::snapshot::{OfRoute, Snapshot};
use crate::telemetry::series;
use base::units::{Nanos, Share};
use gray::assignment::{Assignment, Decision, RequestView, Why, choose};
use gray::sample::{Arm, Ending, GRPC, Sample};
use gray::shared_state::SharedState;

/// What a release decided about a request, and how its arm did.
#[derive(Debug)]
pub struct Assigned {
    of: OfRoute,
    /// The decision.
    pub decision: Decision,
    /// How the first attempt at the arm's upstream ended.
    pub first: Option<First>,
    /// What became of the failed attempt of a canary.
    pub rescue: Rescue,
}

/// The first attempt at an arm's upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// How it ended.
    pub ending: Ending,
    /// Status of its answer; 0 without one.
    pub status: u16,
    /// Since the request began: its head, or its failure where there was none.
    pub after: Duration,
    /// Number of its server; 0 without one.
    pub server: u32,
    /// Whether that server has been at work for as long as it may be cold.
    pub warm: bool,
}

impl Assigned {
    /// The release.
    pub fn plan<'s>(&self, snapshot: &'s Snapshot) -> &'s Assignment {
        &snapshot.plans[self.of.plan as usize]
    }

    /// Name of the release, where it concerns the user.
    pub fn release<'s>(&self, snapshot: &'s Snapshot) -> &'s str {
        if self.decision.why == Why::OutOfRange { "" } else { &self.plan(snapshot).name }
    }

    /// Whether the canary's upstream serves the request, so far.
    pub fn is_on_canary(&self) -> bool {
        self.decision.arm == Arm::Canary && self.rescue != Rescue::TakenOver
    }
}

/// Decides, where the route has a release.
pub fn assign(session: &Session, ctx: &mut Ctx, route: usize) {
    let releases = ctx.snapshot.releases_of(route);
    if releases.is_empty() {
        return;
    }
    let asked = RequestView {
        headers: &session.req_header().headers,
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

/// Tells the release how the request ended. `left`: the client did not wait for the end; `good`: he got a good answer.
pub fn tell(ctx: &Ctx, now: Nanos, left: bool, good: bool) {
    let Some(assigned) = &ctx.assigned else { return };
    let decision = &assigned.decision;
    let live: &SharedState = &assigned.plan(&ctx.snapshot).live;
    if decision.why == Why::OutOfRange {
        return;
    }
    let untold = || First { ending: Ending::Left, status: 0, after: now.since(ctx.started), server: 0, warm: true };
    let Some(first) = assigned.first.or_else(|| left.then(untold)) else {
        // The gateway itself refused it: nothing is known of the arm.
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
        // A failure of gRPC reached the client, whatever HTTP says. Who left was answered until then.
        saved: (good || left) && first.ending.is_failure() && first.status < GRPC,
        warm: first.warm,
        judged: decision.is_judged(),
    });
}

/// The arm that a request is counted on.
pub fn arm(ctx: &Ctx) -> series::Arm {
    match ctx.assigned.as_ref().map(|assigned| assigned.decision.arm) {
        None => series::Arm::None,
        Some(Arm::Stable) => series::Arm::Stable,
        Some(Arm::Canary) => series::Arm::Canary,
    }
}
