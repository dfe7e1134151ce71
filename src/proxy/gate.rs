//! The stage `admit`: the answer to a request by the verdict on its head.
//!
//! The bytes of an HTTP/1.x head were judged before Pingora read them ([`super::downstream::connection`]), and the
//! stand-in for a refused one carries the verdict. An HTTP/2 head is judged here. Where clients must show a
//! certificate, the server's certificate on the connection must cover the requested host, so that a client cannot
//! connect by one name and ask for another's routes (421, RFC 9110, section 15.5.20). The answer is the same on a
//! connection whose client would not be admitted any more: its authority was removed, or its certificate has expired.
//! On a new connection it may show another one.

use super::ctx::Ctx;
use super::downstream::watch::{Cause, RefusedRequest};
use super::exchange::Exchange;
use crate::problem::Reason;
use crate::runtime::snapshot::listener::covers;
use base::clock;
use base::said;
use http_guard::Verdict;
use http_guard::h2;
use http_guard::violation::Violation;

impl Cause {
    /// The answer.
    pub fn reason(&self) -> Reason {
        match self {
            Cause::HeadTimeout => Reason::HeadTimeout,
            Cause::BodyTooSlow => Reason::BodyTooSlow,
            Cause::Violation(Violation::Connect) => Reason::MethodNotAllowed,
            Cause::Violation(Violation::TargetTooLong) => Reason::UriTooLong,
            Cause::Violation(Violation::HeadTooLarge | Violation::TooManyHeaders | Violation::TrailersTooLarge) => {
                Reason::HeadTooLarge
            }
            Cause::Violation(Violation::Expect) => Reason::ExpectationFailed,
            Cause::Violation(Violation::Version) => Reason::VersionNotSupported,
            Cause::Violation(_) => Reason::BadRequest,
        }
    }

    /// Its name in the access log.
    pub fn word(&self) -> &'static str {
        match self {
            Cause::Violation(fault) => fault.word(),
            cause => cause.reason().label(),
        }
    }
}

/// Why a request is not admitted.
pub fn admit(exchange: &mut impl Exchange, ctx: &mut Ctx) -> Option<Reason> {
    let ends = !exchange.has_body();
    let peer = exchange.peer();
    if let Some(refused) = peer.watch.refused() {
        let reason = refused.cause.reason();
        ctx.refused = Some(Box::new(refused.clone()));
        return Some(reason);
    }
    let head = exchange.asked();
    if peer.http2 {
        let request = h2::Request { method: &head.method, uri: &head.uri, headers: &head.headers, ends };
        let judged = h2::judge(&request, &peer.bounds.limits());
        if let Ok(accepted) = &judged {
            peer.watch.admits(Verdict { expects_continue: accepted.expects_continue, ..Verdict::default() });
        }
        if let Err(fault) = judged {
            let cause = Cause::Violation(fault);
            let reason = cause.reason();
            ctx.refused = Some(Box::new(RefusedRequest {
                method: head.method.as_str().into(),
                target: head.raw_path().into(),
                host: said::authority_as_sent(&head.uri, &head.headers).into(),
                cause,
                of_head: true,
            }));
            return Some(reason);
        }
    }
    let shown = peer.shown.as_ref()?;
    let host = said::host(said::authority(&head.uri, &head.headers));
    let good = ctx.snapshot.lets_in(shown, clock::wall_ms_at(ctx.started) / 1000)
        && covers(&shown.covered, host.trim_matches(['[', ']']));
    (!good).then_some(Reason::Misdirected)
}
