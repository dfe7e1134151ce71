//! The stage `route`: which route takes a request, and whether that route may serve it.
//!
//! [`Router`](crate::config::router::Router) ranks the routes. `allow` and `deny` are judged after the match: they answer
//! 403 and never make another route win.

use pingora::proxy::Session;

use super::ctx::Ctx;
use super::{ahead, gate, identify, rewrite};
use crate::config::model::Action;
use crate::config::router::Request;
use crate::path::normalise_path;
use crate::problem::Reason;
use crate::runtime::snapshot::keeps_out;
use crate::runtime::snapshot::ledger::is_callback;

/// Finds the route and, where it forwards, its upstream.
pub fn find(session: &Session, ctx: &mut Ctx) -> Option<usize> {
    let head = session.req_header();
    let host = identify::host(identify::authority(&head.uri, &head.headers));
    let path = normalise_path(head.uri.path());
    let found = ctx.snapshot.router.find(&Request {
        host: &host,
        path: &path,
        method: &head.method,
        headers: &head.headers,
        scheme: ctx.scheme,
    });
    if let std::borrow::Cow::Owned(path) = path {
        ctx.path = Some(path.into());
    }
    ctx.route = found;
    if let Some(upstream) = ctx.snapshot.forwards_to(found?) {
        ctx.tries.upstream = upstream;
    }
    found
}

/// Why the route may not serve this request.
pub fn refusal(session: &Session, ctx: &mut Ctx, route: usize) -> Option<Reason> {
    if let Some(reason) = gate::admit_names(session, ctx, route) {
        return Some(reason);
    }
    let route = ctx.snapshot.route(route).0;
    if keeps_out(route, ctx.client) {
        return Some(Reason::Forbidden);
    }
    if route.action == Action::Ledger && !is_callback(&rewrite::path(session.req_header(), ctx, route)) {
        return Some(Reason::NotACallback);
    }
    let too_long = route.body_max.is_some_and(|max| ahead::length(session).is_some_and(|length| length > max));
    too_long.then_some(Reason::BodyTooLarge)
}
