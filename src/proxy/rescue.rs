//! The rescue of requests: stable answers where the canary failed, before a byte has reached the client.
//!
//! A listed failure of the canary goes straight to stable, whose own retries and limits then apply as to a new request.
//! A request can be rescued if it may be sent again: its method is listed (one that is not idempotent only with an
//! `Idempotency-Key`), its body still fits Pingora's replay buffer, it is not an upgrade, no byte of an answer has gone
//! out, and the budget allows it. Without a connection nothing was sent, and a request that a server has not processed
//! counts as not sent: then any method may be rescued.
//!
//! Each arm is measured by its first attempt alone, rescued or not, so that both are measured alike. The rescue itself
//! appears in a metric and the access log, not in a message.

use http::{HeaderMap, HeaderName, Method};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource};

use super::assign::First;
use super::ctx::Ctx;
use super::exchange::Exchange;
use super::reject::GRPC_STATUS;
use balance::Tried;
use balance::attempt::{AttemptFailure, FailureSet};
use base::clock;
use base::units::Nanos;
use config::model::Action;
use gray::sample::{Ending, grpc_failure};
use gray::settings;
use gray::shared_state::RescueOutcome;

/// `idempotency-key`
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The result of a canary's attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rescue {
    /// It did not fail, or not in a way that `rescue.on` lists.
    NotNeeded,
    /// Stable answers.
    TakenOver,
    /// Stable could not answer: `Unprotected` or `Budget`.
    Missed(RescueOutcome),
}

/// How an attempt failed, with the facts that decide whether another may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedAttempt {
    /// Kind of failure.
    pub failure: AttemptFailure,
    /// The answer's status; 0 without one.
    pub status: u16,
    /// No server has processed anything: nothing was sent, or the server reports so.
    pub unprocessed: bool,
}

impl FailedAttempt {
    /// No connection, or no server to connect to.
    pub const CONNECT: FailedAttempt = FailedAttempt { failure: AttemptFailure::Connect, status: 0, unprocessed: true };

    /// An answer with this status.
    pub fn by_status(status: u16) -> FailedAttempt {
        FailedAttempt { failure: AttemptFailure::Status, status, unprocessed: false }
    }

    /// Whether `on` lists it. A connection that broke before anything was processed counts as no connection.
    pub fn is_listed(self, on: &FailureSet) -> bool {
        on.lists(self.failure, self.status)
            || self.unprocessed && self.failure == AttemptFailure::Reset && on.lists(AttemptFailure::Connect, 0)
    }
}

/// Notes the head of an answer, which arrived at `now`; for both arms alike. A gRPC answer may consist of a head alone.
pub fn answered(ctx: &mut Ctx, head: &ResponseHeader, now: Nanos) {
    let Some(assigned) = &ctx.assigned else { return };
    let status = head.status.as_u16();
    let listed = FailedAttempt::by_status(status).is_listed(&assigned.plan(&ctx.snapshot).rescue.on);
    note_at(
        ctx,
        if status >= 500 || listed { Ending::Failed(AttemptFailure::Status) } else { Ending::Good },
        status,
        now,
    );
    ended_as_grpc(ctx, &head.headers);
}

/// Notes a gRPC status that blames the server, in trailers or in the head of a Trailers-Only answer.
pub fn ended_as_grpc(ctx: &mut Ctx, trailers: &HeaderMap) {
    let is_first = is_first(ctx);
    let Some(assigned) = &mut ctx.assigned else { return };
    let Some(status) = trailers.get(GRPC_STATUS).and_then(|sent| grpc_failure(sent.as_bytes())) else { return };
    if let Some(first) = &mut assigned.first
        && is_first
        && assigned.rescue != Rescue::TakenOver
        && first.ending == Ending::Good
    {
        (first.ending, first.status) = (Ending::Failed(AttemptFailure::Status), status);
    }
}

fn is_first(ctx: &Ctx) -> bool {
    ctx.attempts.count <= ctx.attempts.free + 1
}

/// Notes a failed attempt, for both arms alike. An answer that breaks in the middle counts as failed, whatever its
/// status.
pub fn note(ctx: &mut Ctx, ending: Ending) {
    if ctx.assigned.is_some() {
        note_at(ctx, ending, 0, clock::now());
    }
}

fn note_at(ctx: &mut Ctx, ending: Ending, status: u16, now: Nanos) {
    let is_first = is_first(ctx);
    let Some(assigned) = &mut ctx.assigned else { return };
    if assigned.rescue == Rescue::TakenOver || !is_first {
        return;
    }
    match &mut assigned.first {
        None => {
            let settle = assigned.plan(&ctx.snapshot).settle;
            let lease = ctx.attempts.lease.as_ref();
            assigned.first = Some(First {
                ending,
                status,
                after: now.since(ctx.started),
                server: lease.map_or(0, |lease| lease.attached.number),
                warm: lease.is_none_or(|lease| lease.state.is_warm(settle, ctx.started)),
            });
        }
        Some(first) if first.ending == Ending::Good => first.ending = ending,
        Some(_) => {}
    }
}

/// Notes that the client left before its answer began.
pub fn left(ctx: &mut Ctx) {
    if ctx.attempts.head_after.is_none() {
        note(ctx, Ending::Left);
    }
}

/// Whether stable takes the request over from a failed canary; arranges it if so. `answered`: a part of an answer has
/// reached the client.
pub fn take_over(exchange: &impl Exchange, ctx: &mut Ctx, failed: FailedAttempt, answered: bool) -> bool {
    let Some(assigned) = ctx.assigned.as_ref().filter(|assigned| assigned.is_on_canary()) else { return false };
    let plan = assigned.plan(&ctx.snapshot);
    if !failed.is_listed(&plan.rescue.on) {
        return false;
    }
    let now = clock::now();
    let protected = !answered && may_repeat(exchange, failed, &plan.rescue);
    let rescue = match protected {
        false => Rescue::Missed(RescueOutcome::Unprotected),
        true if !plan.live.try_rescue(plan.rescue.budget, now) => Rescue::Missed(RescueOutcome::Budget),
        true => Rescue::TakenOver,
    };
    let stable = ctx.route.map(|route| &ctx.snapshot.route(route).0.action);
    let Some(Action::Upstream(stable)) = stable else { return false };
    let stable = *stable;
    if let Some(assigned) = &mut ctx.assigned {
        assigned.rescue = rescue;
    }
    if rescue == Rescue::TakenOver {
        let attempts = &mut ctx.attempts;
        attempts.upstream = stable;
        attempts.earlier += std::mem::take(&mut attempts.count);
        attempts.free = 0;
        attempts.tried = Tried::default();
        attempts.began = now;
    }
    rescue == Rescue::TakenOver
}

fn may_repeat(exchange: &impl Exchange, failed: FailedAttempt, rescue: &settings::Rescue) -> bool {
    if !exchange.is_repeatable() || exchange.peer().watch.verdict().upgrade {
        return false;
    }
    let head = exchange.asked();
    let keyed = || head.headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty());
    let method: &Method = &head.method;
    failed.unprocessed || rescue.methods.contains(method) && (method.is_idempotent() || keyed())
}

/// Counts the result of the rescue: by the answer's status, or by the error that broke it. After a client left it is
/// unknown.
pub fn ended(ctx: &Ctx, status: u16, e: Option<&Error>) {
    let Some(assigned) = &ctx.assigned else { return };
    if e.is_some_and(|e| *e.esource() == ErrorSource::Downstream) {
        return;
    }
    let plan = assigned.plan(&ctx.snapshot);
    let failed = e.is_some() || status >= 500 || FailedAttempt::by_status(status).is_listed(&plan.rescue.on);
    let live = &plan.live;
    match assigned.rescue {
        Rescue::NotNeeded => {}
        Rescue::TakenOver => live.rescue_ended(if failed { RescueOutcome::Failed } else { RescueOutcome::Rescued }),
        // The canary's own retries may have succeeded.
        Rescue::Missed(outcome) if failed => live.rescue_ended(outcome),
        Rescue::Missed(_) => {}
    }
}
