//! The stage `route`: which route takes a request, and whether that route may serve it.
//!
//! [`Router`](config::router::Router) ranks the routes. `allow` and `deny` are judged after the match: they answer 403
//! and never make another route win.

use pingora::http::RequestHeader;

use super::ahead;
use super::ctx::Ctx;
use super::downstream::watch::{Cause, RefusedRequest};
use super::exchange::Exchange;
use crate::problem::Reason;
use base::path::normalise_path;
use base::said;
use config::access::{self, Refusal, Shown};
use config::router::Request;
use http_guard::violation::Violation;

/// The route of a request, and the path by which it was found, if it differs from the one sent.
pub struct Found {
    /// Number of the route.
    pub route: Option<usize>,
    path: Option<Box<str>>,
}

/// Finds the route.
pub fn find(head: &RequestHeader, ctx: &Ctx) -> Found {
    let host = said::host(said::authority(&head.uri, &head.headers));
    let path = normalise_path(head.uri.path());
    let route = ctx.snapshot.router.find(&Request {
        host: &host,
        path: &path,
        method: &head.method,
        headers: &head.headers,
        scheme: ctx.scheme,
    });
    let path = if let std::borrow::Cow::Owned(path) = path { Some(path.into()) } else { None };
    Found { route, path }
}

/// Takes the route that was found and, where it forwards, its upstream.
pub fn take(ctx: &mut Ctx, found: Found) -> Option<usize> {
    (ctx.route, ctx.path) = (found.route, found.path);
    if let Some(upstream) = ctx.snapshot.forwards_to(found.route?) {
        ctx.attempts.upstream = upstream;
    }
    found.route
}

/// Why the route may not serve this request.
pub fn refusal(exchange: &impl Exchange, ctx: &mut Ctx, route: usize) -> Option<Reason> {
    let (guarded, route) = (ctx.snapshot.guarded(route), ctx.snapshot.route(route).0);
    let head = exchange.asked();
    let path = ctx.path.as_deref().unwrap_or(head.uri.path());
    match access::refusal(route, guarded, &Shown { headers: &head.headers, path, client: Some(ctx.client) }) {
        Some(Refusal::LookalikeName) => {
            let cause = Cause::Violation(Violation::LookalikeName);
            let reason = cause.reason();
            ctx.refused = Some(Box::new(RefusedRequest::bare(cause, false)));
            return Some(reason);
        }
        Some(Refusal::KeptOut) => return Some(Reason::Forbidden),
        Some(Refusal::NotACallback) => return Some(Reason::NotACallback),
        None => {}
    }
    let too_long = ahead::length(exchange).is_some_and(|length| route.filters.body_limit.is_exceeded_by(length));
    too_long.then_some(Reason::BodyTooLarge)
}
