//! The stage `limit`: whether the limits of a request's route and its app have room.
//!
//! All of them are asked together ([`rate_limit`]); a limit that both name is asked once. The key consists of the parts
//! that the limit names. A part that a request lacks is empty, and all requests that lack it share one key: leaving it
//! out lifts no limit. A header, cookie or query parameter that occurs several times is empty, too ([`base::said`]):
//! which one the server reads is unknown, and an invented one beside the real one must not make a fresh key. Cookies
//! and query parameters are decoded, because one value has many spellings. A count in flight is given back when the
//! request's state is dropped, whatever ended it.
//!
//! Every answer after this stage says what the limits have left, including the gateway's own. The text of a 429 is
//! [`Over::detail`]; `reject` writes its headers. This stage does not establish the caller:
//! `authenticate` does.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::ctx::Ctx;
use super::exchange::Exchange;
use crate::problem::Reason;
use base::clock;
use base::said;
use config::model::KeyPart;
use rate_limit::{Ask, Hold, Key, Rule, decide, field};

const RATELIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The result of a request's limits.
#[derive(Debug)]
pub struct Limited {
    /// Counted as in flight while held.
    _holds: Vec<Hold>,
    /// The policy of each limit.
    policies: Vec<HeaderValue>,
    /// What they have left.
    standing: HeaderValue,
    over: Option<Over>,
}

/// A limit that refused.
#[derive(Debug)]
pub struct Over {
    /// Its name.
    pub limit: Arc<str>,
    /// Seconds to wait.
    pub retry_after: u64,
    /// What is exceeded.
    what: rate_limit::Over,
}

impl Limited {
    /// Header lines that describe the limits.
    pub fn fields(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let policies = self.policies.iter().map(|policy| (RATELIMIT_POLICY, policy.clone()));
        policies.chain([(RATELIMIT, self.standing.clone())])
    }

    /// Adds them to an answer, beside the server's lines about its own limits.
    pub fn tell(&self, headers: &mut HeaderMap) {
        for (name, value) in self.fields() {
            headers.append(name, value);
        }
    }

    /// The limit that refused.
    pub fn over(&self) -> Option<&Over> {
        self.over.as_ref()
    }
}

impl Over {
    /// The reason by which the request is refused.
    pub fn reason(&self) -> Reason {
        match self.what {
            rate_limit::Over::Rate(_) => Reason::LimitedRate,
            rate_limit::Over::Concurrency => Reason::LimitedConcurrency,
        }
    }

    /// The text for the client: that of the reason, with the limit's name and the seconds to wait.
    pub fn detail(&self) -> String {
        let text = self.reason().row().detail.replace(" N s", &format!(" {} s", self.retry_after));
        text.replace("NAME", &self.limit)
    }
}

/// Asks the limits; the reason if one refuses the request.
pub fn limit(exchange: &impl Exchange, ctx: &mut Ctx, route: usize) -> Option<Reason> {
    let mut numbers = ctx.snapshot.config.limits_of(route, ctx.app.map(|app| app as usize)).peekable();
    numbers.peek()?;
    let limited = ask(exchange, ctx, route, numbers.collect());
    let reason = limited.over.as_ref().map(Over::reason);
    ctx.limited = Some(Box::new(limited));
    reason
}

fn ask(exchange: &impl Exchange, ctx: &Ctx, route: usize, numbers: Vec<usize>) -> Limited {
    let (config, all) = (&ctx.snapshot.config, &ctx.snapshot.limits);
    let ask = |n: &usize| {
        let rule = &all.get(*n).rule;
        Ask::new(rule, key(rule, &config.limits[*n].key, exchange, ctx, route))
    };
    let mut asks: Vec<Ask<'_>> = numbers.iter().map(ask).collect();
    let decision = decide(&mut asks, clock::now());
    let mut standing = String::with_capacity(64 * asks.len());
    for (n, ask) in numbers.iter().zip(&asks) {
        field::standing(&mut standing, &config.limits[*n].name, ask.left(), ask.free());
    }
    let over = decision.as_ref().err().map(|refused| {
        let number = numbers[refused.by];
        all.get(number).refused.add(1);
        let limit = Arc::clone(&config.limits[number].name);
        Over { limit, retry_after: field::retry_after(refused.over), what: refused.over }
    });
    Limited {
        _holds: decision.unwrap_or_default(),
        policies: numbers.iter().map(|n| all.get(*n).policy.clone()).collect(),
        // The value of `standing` is ASCII.
        standing: HeaderValue::try_from(standing).unwrap_or(HeaderValue::from_static("")),
        over,
    }
}

fn key(rule: &Rule, parts: &[KeyPart], exchange: &impl Exchange, ctx: &Ctx, route: usize) -> Key {
    let head = exchange.asked();
    let config = &ctx.snapshot.config;
    let mut key = rule.key();
    for part in parts {
        let value = match part {
            KeyPart::Ip => {
                key.address(ctx.client);
                continue;
            }
            KeyPart::App => ctx.snapshot.app(ctx.app).map(|app| Cow::Borrowed(app.as_bytes())),
            KeyPart::User => ctx.user.as_ref().map(|user| Cow::Borrowed(user.as_bytes())),
            KeyPart::Route => Some(Cow::Borrowed(config.routes[route].name.as_bytes())),
            KeyPart::Header(name) => said::only_header(&head.headers, name),
            KeyPart::Cookie(name) => said::only_cookie(&head.headers, name),
            KeyPart::Query(name) => said::only_query(head.uri.query().unwrap_or_default(), name),
        };
        key.part(&value.unwrap_or_default());
    }
    key.finish()
}
