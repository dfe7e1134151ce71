//! The attempt at a server: what is sent, how long it may take, and what happens when it fails.
//!
//! A failed attempt is retried on another server if all of this holds: `retry.on` lists the failure, tries and budget
//! are left, the request may be repeated (its method is idempotent, or no server has processed it), its body still fits
//! Pingora's replay buffer, and no byte of an answer has reached the client. A dead pooled connection costs neither a
//! try nor budget, but its number is bounded too. Nor does a request that an HTTP/2 server reports as unprocessed (RFC
//! 9113, section 8.7): once if it refuses a stream, as in gRPC (gRFC A6, transparent retries), and more often if it
//! only closes the connection.
//!
//! A status in `retry.on` is retried only while another try is possible; otherwise the client gets it as it is.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result, RetryType};

use super::balance;
use super::ctx::{AttemptEnd, Ctx};
use super::exchange::Exchange;
use super::observe;
use super::rescue::{self, FailedAttempt};
use super::rewrite::KEEP_ALIVE;
use super::upstream::connector;
use super::upstream::deadline::link::Link;
use super::upstream::deadline::{AttemptLimits, Deadline};
use super::upstream::unprocessed::Unprocessed;
use crate::problem::Reason;
use crate::telemetry::series::{Outcome, RetryReason};
use ::balance::attempt::AttemptFailure;
use base::clock;
use base::units::Nanos;
use config::model::Action;
use gray::sample::Ending;

/// The answer is not passed on: its status is retried on another server.
const STATUS: AttemptEnd = AttemptEnd::Failed(AttemptFailure::Status);
/// Dead pooled connections that a request may meet before it fails.
const FREE_MAX: u32 = 4;

/// Picks a server. If the canary has none, or no room under its adaptive limit, stable takes over: nothing was sent.
///
/// Both cases count against the arm like a failed connection, and for both arms alike. A slower canary reaches its
/// limit sooner, which is its fault; under general overload stable refuses as well, and the judge compares the two.
pub fn pick(exchange: &impl Exchange, ctx: &mut Ctx) -> std::result::Result<(), Reason> {
    let none = match picked(exchange, ctx) {
        Ok(()) => return Ok(()),
        Err(none) => none,
    };
    rescue::note(ctx, Ending::Failed(AttemptFailure::Connect));
    match rescue::take_over(exchange, ctx, FailedAttempt::CONNECT, false) {
        true => picked(exchange, ctx),
        false => Err(none),
    }
}

fn picked(exchange: &impl Exchange, ctx: &mut Ctx) -> std::result::Result<(), Reason> {
    balance::pick(exchange.asked(), ctx)?;
    let limit = ctx.upstream().and_then(|upstream| upstream.timeout.together());
    exchange.peer().watch.may_be_still(limit);
    Ok(())
}

/// How to connect to the picked server; `left` is the rest of `total`.
pub fn peer(has_body: bool, ctx: &Ctx, left: Option<Duration>) -> Result<Box<HttpPeer>> {
    let lease = ctx.attempts.lease.as_ref().ok_or_else(|| Error::new(ErrorType::InternalError))?;
    let mut peer = Box::new(lease.attached.peer.clone());
    match ctx.upstream().is_some_and(|upstream| upstream.is_plain()) {
        true => peer.options.alpn = connector::plain(),
        false => peer.options.custom_l4 = Some(connector::tracked()),
    }
    if ctx.upstream().is_some_and(|upstream| upstream.is_plain()) || !has_body {
        // Tollgate's own streams enforce it at a lower cost, and to the end; a head alone fits any socket's buffer.
        peer.options.write_timeout = None;
    }
    if ctx.attempts.free > 0 {
        // Uses a connection that is not shared, so that other requests do not use up what the server allows (Pingora's
        // pool identifies it by this number). If a stream ends before its body is sent again, Pingora does not say why.
        peer.options.max_h2_streams = 1;
    }
    if let Some(left) = left {
        let connect = peer.options.total_connection_timeout.map_or(left, |connect| connect.min(left));
        peer.options.total_connection_timeout = Some(connect);
    }
    Ok(peer)
}

/// The rest of `total`, if it is set; an error if nothing is left.
fn time_left(ctx: &Ctx) -> Result<Option<Duration>> {
    let Some(total) = ctx.upstream().and_then(|u| u.timeout.total) else { return Ok(None) };
    match total.checked_sub(clock::now().since(ctx.attempts.began)) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(Error::explain(ErrorType::ReadTimedout, "the request's total time is over").into_up()),
    }
}

/// Prepares an attempt: it has a server then. Returns the rest of `total`, if it is set.
pub fn next(exchange: &impl Exchange, ctx: &mut Ctx) -> Result<Option<Duration>> {
    let left = time_left(ctx)?;
    if ctx.attempts.lease.is_none()
        && let Err(reason) = pick(exchange, ctx)
    {
        ctx.rejected = Some(reason);
        return Error::e_explain(ErrorType::HTTPStatus(reason.status()), reason.label());
    }
    Ok(left)
}

/// Sets the limits of the attempt, which begins now. A server owes nothing before it has the whole request: while the
/// client sends a body, only `write` and `total` count. If the client waits for `100 Continue`, the server owes that.
///
/// `own`: its streams are the gateway's own, which know when they wait for a read or a write.
pub fn connected(exchange: &mut impl Exchange, ctx: &mut Ctx, (reused, own): (bool, bool), link: &Arc<Link>) {
    let Some(upstream) = ctx.upstream() else { return };
    let has_body = exchange.has_body();
    let peer = exchange.peer();
    if !upstream.http2 {
        // HTTP/2 connections are shared.
        link.serves(&peer.watch, peer.http2);
    }
    if upstream.is_plain() && peer.watch.verdict().upgrade {
        link.holds_answer();
    }
    let reused = reused || link.is_used();
    let uploading = has_body && !peer.watch.owes_continue();
    let (read, write) = (upstream.timeout.read.filter(|_| own), upstream.timeout.write.filter(|_| own));
    let (silence, total) = (upstream.timeout.first_byte.or(read), upstream.timeout.total);
    // An existing connection took no time to open.
    let now = if reused { ctx.attempts.started } else { clock::now() };
    let limits = AttemptLimits { silence, write, uploading, total, began: ctx.attempts.began };
    let limited = !upstream.http2 || silence.is_some() || total.is_some();
    ctx.attempts.deadline = limited.then(|| Deadline::set(link, now, limits));
    (ctx.attempts.reused, ctx.attempts.read) = (reused, read);
}

/// Notes that the client sent a part of the request and will send more.
pub fn part_sent(ctx: &Ctx) {
    if let Some(deadline) = &ctx.attempts.deadline {
        deadline.uploads(true, clock::now);
    }
}

/// Notes that the server gets nothing more of the request: its answer is due.
pub fn nothing_follows(ctx: &Ctx) {
    if let Some(deadline) = &ctx.attempts.deadline {
        deadline.uploads(false, clock::now);
    }
}

/// Notes that the whole request is on its way: from now on the server's silence counts.
pub fn request_sent(ctx: &mut Ctx) {
    nothing_follows(ctx);
    if std::mem::take(&mut ctx.attempts.uploading)
        && ctx.attempts.head_after.is_none()
        && let Some(limit) = ctx.upstream().and_then(|upstream| upstream.adaptive.as_ref())
    {
        // The server has the whole request, which cannot be refused any more.
        ctx.attempts.permit = Some(limit.enter(clock::now()));
    } else if ctx.attempts.body_bytes > 0
        && let Some(permit) = &mut ctx.attempts.permit
    {
        permit.sent(clock::now());
    }
}

/// Judges the head of an answer: whether it has no body. An error sends the request to another server.
pub fn head_arrived(exchange: &impl Exchange, ctx: &mut Ctx, head: &ResponseHeader) -> Result<bool> {
    let watch = &exchange.peer().watch;
    if head.status == StatusCode::CONTINUE {
        watch.continues(clock::now);
        if watch.verdict().expects_continue && ctx.attempts.body_bytes == 0 {
            // The client has to send now.
            ctx.attempts.deadline.iter().for_each(|deadline| deadline.uploads(true, clock::now));
        }
    }
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(false);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !watch.verdict().upgrade {
        return Err(Error::explain(ErrorType::InvalidHTTPHeader, "an upgrade that nobody asked for").into_up());
    }
    let now = clock::now();
    let status = head.status.as_u16();
    if let (Some(deadline), Some(kept)) = (&ctx.attempts.deadline, kept_for(head)) {
        deadline.kept_for(kept);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // From now on only silence is limited.
        watch.may_be_still(ctx.upstream().and_then(|upstream| upstream.timeout.read));
        ctx.attempts.deadline.iter().for_each(Deadline::becomes_tunnel);
    }
    let by_rule = matches!(status, 204 | 304) || exchange.asked().method == Method::HEAD;
    if let (true, Some(deadline)) = (by_rule, &ctx.attempts.deadline) {
        deadline.has_no_body();
    }
    let bodiless = by_rule || (status != 101 && head.headers.get(CONTENT_LENGTH).is_some_and(is_zero));
    answer_went_on(ctx, now, bodiless)?;
    let latency = now.since(ctx.attempts.started);
    ctx.attempts.head_after = Some(latency);
    ctx.attempts.status = status;
    ctx.attempts.has_pauses = status == 101 || head.headers.get(CONTENT_TYPE).is_some_and(is_event_stream);
    // The duration of a failure says nothing about the duration of the work.
    if let Some(permit) = ctx.attempts.permit.take().filter(|_| status < 500) {
        permit.answered(now);
    }
    let Some(lease) = &ctx.attempts.lease else { return Ok(bodiless) };
    match status {
        500.. => observe::ejected(ctx, lease, lease.failed(now)),
        _ => lease.succeeded(latency, now),
    }
    rescue::answered(ctx, head, now);
    if rescue::take_over(exchange, ctx, FailedAttempt::by_status(status), false) {
        return Err(again(ctx, status));
    }
    let listed = ctx.upstream().is_some_and(|upstream| upstream.retry.on.lists(AttemptFailure::Status, status));
    if listed && may_repeat(exchange) && take_try(ctx) {
        retried(ctx, STATUS);
        return Err(again(ctx, status));
    }
    Ok(bodiless)
}

/// Ends the attempt, because its answer's status must not reach the client.
fn again(ctx: &mut Ctx, status: u16) -> Box<Error> {
    ctx.attempts.end = Some(STATUS);
    let mut e = Error::explain(ErrorType::HTTPStatus(status), "a status that is tried elsewhere");
    e.set_retry(true);
    e
}

/// Whether the answer is a stream of server-sent events, in which the server sends only when it has news.
fn is_event_stream(kind: &HeaderValue) -> bool {
    const EVENTS: &[u8] = b"text/event-stream";
    kind.as_bytes().get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

fn is_zero(length: &HeaderValue) -> bool {
    length.to_str().is_ok_and(|length| length.parse() == Ok(0_u64))
}

/// How long the server keeps an idle connection open: `Keep-Alive: timeout=5` (RFC 2068, 19.7.1.1).
fn kept_for(head: &ResponseHeader) -> Option<Duration> {
    let options = head.headers.get(KEEP_ALIVE)?.to_str().ok()?;
    let timeout = options.split(',').find_map(|option| option.trim().strip_prefix("timeout="))?;
    timeout.parse().ok().map(|seconds: u32| Duration::from_secs(seconds.into()))
}

/// Notes that a part of the answer's body arrived; an error if it was too late.
pub fn body_part_arrived(ctx: &mut Ctx, end: bool) -> Result<()> {
    // With the limits lifted there is nothing to measure.
    let now = if end { ctx.started } else { clock::now() };
    answer_went_on(ctx, now, end)
}

/// The server may be silent again for a while. After the last part nothing may touch its socket, which goes back into
/// the pool.
fn answer_went_on(ctx: &mut Ctx, now: Nanos, end: bool) -> Result<()> {
    let Some(deadline) = &ctx.attempts.deadline else { return Ok(()) };
    let in_time = match end {
        true => ctx.attempts.deadline.take().is_none_or(Deadline::lift),
        false => deadline.renew(now, ctx.attempts.read),
    };
    match in_time {
        true => Ok(()),
        // Neither side sent anything for that long: a tunnel ends that way, and neither side is at fault.
        false if ctx.attempts.status == 101 => {
            ctx.attempts.end = Some(AttemptEnd::Idle);
            Ok(())
        }
        false => Err(Error::explain(ErrorType::ReadTimedout, "the server's answer is late").into_up()),
    }
}

/// Decides what follows a failed connection.
pub fn connect_failed(exchange: &impl Exchange, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
    let timed_out = matches!(e.etype(), ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout);
    // The judge learns how long it took at least.
    let (end, noted) = match timed_out {
        true => (AttemptEnd::ConnectTimeout, AttemptFailure::Timeout),
        false => (AttemptEnd::Failed(AttemptFailure::Connect), AttemptFailure::Connect),
    };
    rescue::note(ctx, Ending::Failed(noted));
    ended(ctx, end);
    if rescue::take_over(exchange, ctx, FailedAttempt::CONNECT, false) {
        e.set_retry(true);
        return e;
    }
    // Nothing was sent, so any method may be sent again.
    let retry = ctx.upstream().is_some_and(|upstream| upstream.retry.on.connect) && exchange.is_repeatable();
    let retry = retry && take_try(ctx);
    if retry {
        retried(ctx, end);
    }
    e.set_retry(retry);
    e
}

/// Decides what follows an attempt that failed after its connection was open.
pub fn attempt_failed(exchange: &impl Exchange, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
    if ctx.attempts.end == Some(STATUS) {
        ended(ctx, STATUS);
        e.set_retry(true);
        return e;
    }
    if *e.esource() != ErrorSource::Upstream {
        rescue::left(ctx);
        ended(ctx, AttemptEnd::Canceled);
        e.set_retry(false);
        return e;
    }
    let late = ctx.attempts.deadline.as_ref().is_some_and(Deadline::fired);
    if ctx.attempts.status == 101 {
        ctx.attempts.end = late.then_some(AttemptEnd::Idle);
        ctx.attempts.deadline = None;
        e.set_retry(false);
        return e;
    }
    let timed_out = late || matches!(e.etype(), ErrorType::ReadTimedout | ErrorType::WriteTimedout);
    let failure = if timed_out { AttemptFailure::Timeout } else { AttemptFailure::Reset };
    let answered =
        ctx.attempts.head_after.is_some() || exchange.answered().is_some_and(|status| !status.is_informational());
    let whole = !answered && exchange.is_repeatable();
    let unprocessed = Unprocessed::of(&e).filter(|_| !timed_out);
    let repeatable = whole && (unprocessed.is_some() || exchange.asked().method.is_idempotent());
    if whole && !timed_out && costs_nothing(ctx, &e, unprocessed, repeatable) {
        e.set_retry(true);
        return e;
    }
    if timed_out && ctx.attempts.has_pauses {
        ended(ctx, AttemptEnd::Idle);
        e.set_retry(false);
        return e;
    }
    if timed_out && waits_for_continue(exchange, ctx) {
        // Some servers wait for the body instead, which the client did not send: neither is to blame.
        ended(ctx, AttemptEnd::Unsaid);
        e.set_retry(false);
        return e;
    }
    let failed = FailedAttempt { failure, status: 0, unprocessed: unprocessed.is_some() };
    rescue::note(ctx, Ending::Failed(failure));
    ended(ctx, AttemptEnd::Failed(failure));
    if rescue::take_over(exchange, ctx, failed, answered) {
        e.set_retry(true);
        return e;
    }
    let listed = ctx.upstream().is_some_and(|upstream| failed.is_listed(&upstream.retry.on));
    let retry = repeatable && listed && time_left(ctx).is_ok() && take_try(ctx);
    if retry {
        retried(ctx, AttemptEnd::Failed(failure));
    }
    e.set_retry(retry);
    e
}

/// Whether a repeatable request is sent again without a try or budget, because its connection was ending. Arranges it
/// if so.
fn costs_nothing(ctx: &mut Ctx, e: &Error, unprocessed: Option<Unprocessed>, repeatable: bool) -> bool {
    // The ledger recognises a callback that it has seen, so after a broken old connection it may be sent on a new one.
    let dead = ctx.attempts.reused && e.retry == RetryType::ReusedOnly && (repeatable || is_callback(ctx));
    let free_max = if dead { FREE_MAX } else { unprocessed.map_or(0, Unprocessed::free_max) };
    if ctx.attempts.free >= free_max {
        return false;
    }
    ctx.attempts.free += 1;
    let end = match unprocessed {
        Some(Unprocessed::Refused) => AttemptEnd::Failed(AttemptFailure::Reset),
        Some(Unprocessed::Closing) | None => AttemptEnd::Pooled,
    };
    ended(ctx, end);
    retried(ctx, end);
    true
}

/// Whether the client waits for `100 Continue`, and has sent nothing of the body.
fn waits_for_continue(exchange: &impl Exchange, ctx: &Ctx) -> bool {
    ctx.attempts.body_bytes == 0
        && ctx.attempts.head_after.is_none()
        && exchange.peer().watch.verdict().expects_continue
}

/// Whether the request may be sent again although a server may have seen it.
fn may_repeat(exchange: &impl Exchange) -> bool {
    exchange.asked().method.is_idempotent() && exchange.is_repeatable()
}

/// Takes one of the remaining tries, and its part of the budget.
fn take_try(ctx: &Ctx) -> bool {
    let Some(upstream) = ctx.upstream() else { return false };
    let spent = ctx.attempts.count - ctx.attempts.free;
    // What happened is a better answer for a client than a refusal of its second try.
    let room = upstream.adaptive.as_ref().is_none_or(|limit| limit.has_room());
    room && spent < upstream.retry.attempts && upstream.budget.try_retry(clock::now())
}

/// Counts that another attempt follows one with this end.
fn retried(ctx: &mut Ctx, end: AttemptEnd) {
    ctx.attempts.end = Some(end);
    let reason = match (end, end.failure()) {
        (AttemptEnd::Pooled, _) => RetryReason::Pooled,
        (_, Some(failure)) => RetryReason::Failed(failure),
        // Nothing failed, so nothing is retried.
        (_, None) => return,
    };
    if let Some(upstream) = ctx.upstream() {
        upstream.series.retried(reason);
    }
}

/// Books an attempt without an answer on its server, and releases that.
fn ended(ctx: &mut Ctx, end: AttemptEnd) {
    ctx.attempts.end = Some(end);
    ctx.attempts.deadline = None;
    match (ctx.attempts.permit.take(), end) {
        (Some(permit), AttemptEnd::Failed(AttemptFailure::Timeout) | AttemptEnd::ConnectTimeout) => {
            permit.timed_out(clock::now())
        }
        (Some(permit), AttemptEnd::Canceled) => permit.left(clock::now()),
        _ => {}
    }
    let Some(lease) = ctx.attempts.lease.take() else { return };
    lease.attached.series.attempted(match (end, end.failure()) {
        (_, Some(failure)) => Outcome::Failed(failure),
        (AttemptEnd::Canceled, None) => Outcome::Canceled,
        (_, None) => Outcome::Success,
    });
    if end.blames_server() {
        observe::ejected(ctx, &lease, lease.failed(clock::now()));
    }
    ctx.attempts.last = Some(lease.member().clone());
}

/// Whether the request goes to the ledger.
fn is_callback(ctx: &Ctx) -> bool {
    ctx.route.is_some_and(|route| ctx.snapshot.route(route).0.action == Action::Ledger)
}

/// The answer for a request that no attempt could serve. Whatever kept a callback from the ledger, its sender must send
/// it again.
pub fn reason(ctx: &Ctx, e: &Error) -> Reason {
    told(ctx, why(ctx, e))
}

/// The reason that the client sees.
pub fn told(ctx: &Ctx, reason: Reason) -> Reason {
    match reason {
        Reason::BadGateway | Reason::GatewayTimeout | Reason::NoServer | Reason::Saturated if is_callback(ctx) => {
            Reason::LedgerUnavailable
        }
        reason => reason,
    }
}

fn why(ctx: &Ctx, e: &Error) -> Reason {
    match (ctx.rejected, ctx.attempts.end) {
        (Some(reason), _) => reason,
        (None, Some(AttemptEnd::Failed(AttemptFailure::Timeout) | AttemptEnd::ConnectTimeout | AttemptEnd::Unsaid)) => {
            Reason::GatewayTimeout
        }
        (None, Some(AttemptEnd::Failed(_) | AttemptEnd::Pooled)) => Reason::BadGateway,
        (None, _) if matches!(e.etype(), ErrorType::ReadTimedout) && *e.esource() != ErrorSource::Downstream => {
            Reason::GatewayTimeout
        }
        (None, _) if *e.esource() == ErrorSource::Downstream => Reason::BadRequest,
        (None, _) => Reason::Internal,
    }
}
