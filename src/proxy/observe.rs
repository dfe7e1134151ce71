//! The end of a request, once for each: its server's outcome, its metrics, its line in the log.
//!
//! A client that leaves before its answer began counts as status 499, as in nginx. Lines of answers below 500 are
//! sampled by `log.sample_percent`; the others are always written.

use std::net::IpAddr;
use std::time::Duration;

use http::header::USER_AGENT;
use http::{HeaderValue, StatusCode};
use pingora::{Error, ErrorSource, ErrorType};

use super::ctx::{AttemptEnd, Ctx};
use super::downstream::watch::Cut;
use super::exchange::Exchange;
use super::rescue::{self, Rescue};
use super::{Gateway, assign, rewrite};
use crate::problem::Reason;
use crate::runtime::snapshot::Server;
use crate::telemetry::Registry;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::line::Line;
use crate::telemetry::series::{Arm, Outcome};
use balance::attempt::AttemptFailure;
use balance::{Ejection, Lease};
use base::clock;
use base::said;
use base::units::Nanos;

/// Status booked for a client that left before its answer began.
const CLIENT_LEFT: u16 = 499;

/// Books the request.
pub fn finished(gateway: &Gateway, exchange: &impl Exchange, e: Option<&Error>, ctx: &mut Ctx) {
    ctx.booked = true;
    let now = clock::now();
    let duration = now.since(ctx.started);
    let watch = &exchange.peer().watch;
    watch.ended(now);
    // A tunnel ends with an error in normal operation.
    let e = e.filter(|e| ctx.attempts.status != 101 || *e.esource() == ErrorSource::Downstream);
    let left = e.is_some_and(|e| is_clients(exchange, ctx, e));
    let status = status(exchange, e, ctx);
    if let Some(lease) = ctx.attempts.lease.take() {
        let outcome = match ctx.attempts.status {
            _ if left => Outcome::Canceled,
            500.. => Outcome::Failed(AttemptFailure::Status),
            _ => Outcome::Success,
        };
        lease.attached.series.attempted(outcome);
        ctx.attempts.last = Some(lease.member().clone());
    }
    assign::tell(ctx, now, left, e.is_none() && status < 500);
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
        log(gateway, exchange, e, ctx, (status, now));
    }
}

/// Whether the client caused an error. What breaks off at an HTTP/2 client has no source.
pub fn is_clients(exchange: &impl Exchange, ctx: &Ctx, e: &Error) -> bool {
    let breaks = || matches!(e.etype(), ErrorType::WriteError | ErrorType::ReadError | ErrorType::H2Error);
    let source = e.esource();
    *source == ErrorSource::Downstream
        || exchange.peer().http2 && *source != ErrorSource::Upstream && ctx.attempts.end.is_none() && breaks()
}

/// Status of the answer, as the client saw it.
fn status(exchange: &impl Exchange, e: Option<&Error>, ctx: &Ctx) -> u16 {
    match (exchange.answered(), ctx.rejected) {
        // A refusal in gRPC is a success in HTTP.
        (Some(StatusCode::OK), Some(reason)) if exchange.refused_as_grpc() => reason.status(),
        (Some(status), _) if !rewrite::informational(status) => status.as_u16(),
        (_, Some(reason)) => reason.status(),
        (_, None) if e.is_none_or(|e| is_clients(exchange, ctx, e)) => CLIENT_LEFT,
        (_, None) => 500,
    }
}

fn log(gateway: &Gateway, exchange: &impl Exchange, e: Option<&Error>, ctx: &Ctx, (status, now): (u16, Nanos)) {
    let head = exchange.asked();
    let refused = ctx.refused.as_deref();
    let error = match (ctx.rejected, ctx.attempts.end, e) {
        _ if refused.is_some() => refused.map_or("", |refused| refused.cause.word()),
        // The failure at the servers says more than the reason for the client.
        (None | Some(Reason::BadGateway | Reason::GatewayTimeout | Reason::LedgerUnavailable), Some(end), Some(_)) => {
            end.label()
        }
        (Some(reason), ..) => reason.label(),
        (None, Some(AttemptEnd::Idle), _) => AttemptEnd::Idle.label(),
        (None, _, Some(e)) if is_clients(exchange, ctx, e) => AttemptEnd::Canceled.label(),
        (None, _, Some(_)) => Reason::Internal.label(),
        (None, _, None) => "",
    };
    let sent = (head.method.as_str(), head.raw_path(), said::authority_as_sent(&head.uri, &head.headers));
    let (method, path, host) = refused.filter(|it| it.of_head).map_or(sent, |it| (&it.method, &it.target, &it.host));
    gateway.access_log.log(&Line {
        method,
        host,
        path: path.split(|b| *b == b'?').next().unwrap_or_default(),
        bytes: exchange.bytes_sent(),
        user_agent: head.headers.get(USER_AGENT).map_or(b"", |agent| agent.as_bytes()),
        ..line(ctx, (status, error), now)
    });
}

/// The parts of a request's log line that `ctx` has.
fn line<'c>(ctx: &'c Ctx, (status, error): (u16, &'c str), now: Nanos) -> Line<'c> {
    Line {
        wall_ms: clock::wall_ms_at(now),
        request_id: ctx.request_id.as_bytes(),
        status,
        duration: now.since(ctx.started),
        upstream: ctx.attempts.head_after,
        route: ctx.route.map_or("", |route| &ctx.snapshot.route(route).0.name),
        app: ctx.snapshot.app(ctx.app).unwrap_or_default(),
        arm: ctx.assigned.as_ref().map_or("", |assigned| assigned.decision.arm.label()),
        bucket: ctx.assigned.as_ref().and_then(|assigned| assigned.decision.bucket),
        release: ctx.assigned.as_ref().map_or("", |assigned| assigned.release(&ctx.snapshot)),
        rescued: ctx.assigned.as_ref().is_some_and(|assigned| assigned.rescue == Rescue::TakenOver),
        attempts: ctx.attempts.earlier + ctx.attempts.count,
        upstream_name: ctx.upstream().map_or("", |upstream| &upstream.name),
        server: ctx.attempts.last.as_ref().map_or("", |member| &member.attached.name),
        revision: ctx.snapshot.revision,
        error,
        ..Line::blank(ctx.client)
    }
}

/// Books a request that was cut off: its client was late, a limit or the last resort ended it, or a stage panicked.
/// Everything known about it is in `ctx`.
pub fn cut_off(ctx: &mut Ctx) {
    let registry = ctx.snapshot.registry.clone();
    let panics = std::thread::panicking();
    let cut = ctx.watch.as_ref().and_then(|watch| watch.was_cut());
    let (reason, word) = match cut {
        _ if panics => (Reason::Internal, Reason::Internal.label()),
        Some(Cut::TimedOut) => (Reason::GatewayTimeout, AttemptEnd::Failed(AttemptFailure::Timeout).label()),
        Some(Cut::Stuck) => (Reason::Internal, "stuck"),
        Some(Cut::TooSlow) | None => (Reason::BodyTooSlow, Reason::BodyTooSlow.label()),
    };
    let answered = Some(ctx.attempts.status).filter(|status| *status > 0 && !panics);
    let word = match (answered, cut) {
        (Some(_), None | Some(Cut::TooSlow)) => AttemptEnd::Canceled.label(),
        _ => word,
    };
    let now = clock::now();
    ctx.watch.iter().for_each(|watch| watch.ended(now));
    let duration = now.since(ctx.started);
    let status = answered.unwrap_or(reason.status());
    if let Some(lease) = ctx.attempts.lease.take() {
        lease.attached.series.attempted(Outcome::Canceled);
        ctx.attempts.last = Some(lease.member().clone());
    }
    assign::tell(ctx, now, true, false);
    let arm = assign::arm(ctx);
    match ctx.route {
        Some(route) => ctx.snapshot.route(route).1.arm(arm).answered(status, duration),
        None => registry.unrouted.arm(arm).answered(status, duration),
    }
    if answered.is_none() {
        registry.rejected(reason);
    }
    if let Some(access_log) = registry.access_log.get().filter(|access_log| access_log.is_on()) {
        let line = line(ctx, (status, word), now);
        let line = ctx.asked.as_deref().map_or(line, |asked| {
            let [host, agent] = &asked.headers;
            let host = host.as_ref().map_or(&b""[..], HeaderValue::as_bytes);
            Line {
                method: asked.method.as_str(),
                host: asked.uri.authority().map_or(host, |host| host.as_str().as_bytes()),
                path: asked.uri.path().as_bytes(),
                user_agent: agent.as_ref().map_or(b"", |agent| agent.as_bytes()),
                ..line
            }
        });
        access_log.log(&line);
    }
}

/// Books a request that ended before a stage could answer it.
pub fn unseen(registry: &Registry, access_log: &AccessLog, reason: Reason, client: IpAddr) {
    registry.unrouted.arm(Arm::None).answered(reason.status(), Duration::ZERO);
    registry.rejected(reason);
    if access_log.is_on() {
        access_log.log(&Line {
            wall_ms: clock::wall_ms_at(clock::now()),
            status: reason.status(),
            error: reason.label(),
            ..Line::blank(client)
        });
    }
}

/// Logs that a server was just ejected.
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
