//! The end of a request, once, whatever became of it: its server's outcome, its metrics, its line in the log.
//!
//! A client that leaves before its answer began counts as status 499, as in nginx. Lines of answers below 500 are
//! sampled by `log.sample_percent`; the others are always written.

use http::header::USER_AGENT;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource};

use super::connection::Peer;
use super::ctx::{Ctx, Failure};
use super::reject::Reason;
use super::rescue::{self, Rescue};
use super::{Gateway, assign, identify};
use crate::clock;
use crate::config::snapshot::Server;
use crate::pool::{Ejection, Lease};
use crate::telemetry::line::Line;
use crate::telemetry::series::Outcome;
use crate::units::Nanos;

/// Status booked for a client that left before its answer began.
const CLIENT_LEFT: u16 = 499;

/// Books the request.
pub fn finished(gateway: &Gateway, session: &Session, e: Option<&Error>, ctx: &mut Ctx) {
    let now = clock::now();
    let duration = now.since(ctx.started);
    Peer::of(session).idle.since(now);
    let status = status(session, e, ctx);
    if let Some(lease) = ctx.tries.lease.take() {
        let left = e.is_some_and(|e| *e.esource() == ErrorSource::Downstream);
        let outcome = match ctx.tries.status {
            _ if left => Outcome::Canceled,
            500.. => Outcome::Failure,
            _ => Outcome::Success,
        };
        lease.attached.series.attempted(outcome);
        ctx.tries.last = Some(lease.member().clone());
    }
    assign::tell(ctx, now, e.is_some_and(|e| *e.esource() == ErrorSource::Downstream));
    rescue::ended(ctx, status, e);
    let arm = assign::arm(ctx);
    let registry = &gateway.registry;
    match ctx.route {
        Some(route) => ctx.snapshot.route(route).1.arm(arm).answered(status, duration),
        None => registry.unrouted.arm(arm).answered(status, duration),
    }
    if let Some(reason) = ctx.rejected {
        registry.rejected(reason);
    }
    let sample = ctx.snapshot.config.log.sample.fraction();
    if gateway.access_log.is_on() && (status >= 500 || sample >= 1.0 || fastrand::f64() < sample) {
        log(gateway, session, e, ctx, (status, now));
    }
}

/// Status of the answer, as the client saw it.
fn status(session: &Session, e: Option<&Error>, ctx: &Ctx) -> u16 {
    match (session.response_written(), ctx.rejected) {
        (Some(head), _) if !head.status.is_informational() || head.status == 101 => head.status.as_u16(),
        (_, Some(reason)) => reason.status(),
        (_, None) if e.is_none_or(|e| *e.esource() == ErrorSource::Downstream) => CLIENT_LEFT,
        (_, None) => 500,
    }
}

fn log(gateway: &Gateway, session: &Session, e: Option<&Error>, ctx: &Ctx, (status, now): (u16, Nanos)) {
    let head = session.req_header();
    let error = match (ctx.rejected, ctx.tries.failure, e) {
        // What happened at the servers says more than what the client was told.
        (
            None | Some(Reason::BadGateway | Reason::GatewayTimeout | Reason::LedgerUnavailable),
            Some(failure),
            Some(_),
        ) => failure.label(),
        (Some(reason), ..) => reason.label(),
        (None, _, Some(e)) if *e.esource() == ErrorSource::Downstream => Failure::Canceled.label(),
        (None, _, Some(_)) => Reason::Internal.label(),
        (None, _, None) => "",
    };
    let path = head.raw_path();
    gateway.access_log.log(&Line {
        wall_ms: clock::wall_ms_at(now),
        request_id: ctx.request_id.as_bytes(),
        client: ctx.client,
        method: head.method.as_str(),
        host: identify::authority_as_sent(&head.uri, &head.headers),
        path: path.split(|b| *b == b'?').next().unwrap_or_default(),
        status,
        bytes: session.body_bytes_sent() as u64,
        duration: now.since(ctx.started),
        upstream: ctx.tries.head_after,
        route: ctx.route.map_or("", |route| &ctx.snapshot.route(route).0.name),
        arm: ctx.assigned.as_ref().map_or("", |assigned| assigned.decision.arm.label()),
        bucket: ctx.assigned.as_ref().and_then(|assigned| assigned.decision.bucket),
        release: ctx.assigned.as_ref().map_or("", |assigned| assigned.release(&ctx.snapshot)),
        rescued: ctx.assigned.as_ref().is_some_and(|assigned| assigned.rescue == Rescue::TakenOver),
        attempts: ctx.tries.earlier + ctx.tries.count,
        upstream_name: ctx.upstream().map_or("", |upstream| &upstream.name),
        server: ctx.tries.last.as_ref().map_or("", |member| &member.attached.name),
        revision: ctx.snapshot.revision,
        user_agent: head.headers.get(USER_AGENT).map_or(b"", |agent| agent.as_bytes()),
        error,
    });
}

/// Says that a server was just taken out.
pub fn ejected(ctx: &Ctx, lease: &Lease<Server>, ejection: Option<Ejection>) {
    if let (Some(ejection), Some(upstream)) = (ejection, ctx.upstream()) {
        log::warn!(
            "upstream {}: server {} ejected for {:?} after failures in a row (ejection {} in a row)",
            upstream.name,
            lease.attached.name,
            ejection.length,
            ejection.in_a_row
        );
    }
}
