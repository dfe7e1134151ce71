//! The choice of the server for an attempt.
//!
//! The pool decides. This stage gives it the parts of the request that it may use: the key that `hash_key` names, and
//! the servers tried already. A request without the key is hashed by its client's address. If the upstream's limit is
//! adaptive, each attempt first needs a place under it. For an upload a free place is enough: it takes one once it is
//! complete (`forward::request_sent`), so that a slow sender holds none.

use std::borrow::Cow;
use std::net::IpAddr;

use pingora::http::RequestHeader;

use super::ctx::Ctx;
use crate::problem::Reason;
use balance::settings::{Balance, HashKey};
use balance::{Pick, PickError};
use base::clock;
use base::said::{first_cookie, first_query};

/// Picks a server and holds it in `ctx`; an error is the reason for the client.
pub fn pick(head: &RequestHeader, ctx: &mut Ctx) -> Result<(), Reason> {
    let upstream = ctx.snapshot.upstreams.get(ctx.attempts.upstream).ok_or(Reason::NoServer)?;
    // The first attempt begins with the request; another clock reading would differ by microseconds.
    let now = if ctx.attempts.count == 0 { ctx.attempts.began } else { clock::now() };
    let permit = match &upstream.adaptive {
        Some(limit) if ctx.attempts.uploading => limit.admits(now).then_some(None).ok_or(Reason::Overloaded)?,
        Some(limit) => Some(limit.try_enter(now).ok_or(Reason::Overloaded)?),
        None => None,
    };
    let key = match &upstream.balance {
        Balance::Hash(key) => hash_key(key, head, ctx.client),
        _ => Cow::Borrowed(&b""[..]),
    };
    let uploading = ctx.attempts.uploading;
    let pick = Pick { key: &key, tried: &ctx.attempts.tried, now, random: fastrand::u64(..), uploading };
    let lease = upstream.pool().pick(pick).map_err(|none| match none {
        PickError::Empty => Reason::NoServer,
        PickError::Saturated => Reason::Saturated,
    })?;
    if ctx.attempts.count == 0 {
        upstream.budget.request(now);
    }
    lease.mark(&mut ctx.attempts.tried);
    ctx.attempts.count += 1;
    ctx.attempts.started = now;
    ctx.attempts.head_after = None;
    ctx.attempts.status = 0;
    ctx.attempts.has_pauses = false;
    ctx.attempts.end = None;
    ctx.attempts.body_bytes = 0;
    ctx.attempts.lease = Some(lease);
    ctx.attempts.permit = permit;
    Ok(())
}

fn hash_key<'a>(key: &HashKey, head: &'a RequestHeader, client: IpAddr) -> Cow<'a, [u8]> {
    let found = match key {
        HashKey::Header(name) => head.headers.get(name).map(|value| value.as_bytes()),
        HashKey::Cookie(name) => first_cookie(&head.headers, name),
        HashKey::Query(name) => first_query(head.uri.query().unwrap_or_default(), name),
        HashKey::Path => Some(head.uri.path().as_bytes()),
        HashKey::Ip => None,
    };
    match found.filter(|value| !value.is_empty()) {
        Some(value) => Cow::Borrowed(value),
        None => Cow::Owned(match client.to_canonical() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_where_it_is_named() {
        let mut head = RequestHeader::build("GET", b"/p?a=1&user=u-9&user=2", None).unwrap();
        head.append_header("cookie", "xuid=0; uid=c-7").unwrap();
        head.append_header("x-user-id", "h-1").unwrap();
        let client = IpAddr::from([10, 0, 0, 1]);
        let key = |key: &HashKey| hash_key(key, &head, client).into_owned();
        assert_eq!(key(&HashKey::Header("x-user-id".parse().unwrap())), b"h-1");
        assert_eq!(key(&HashKey::Cookie("uid".into())), b"c-7");
        assert_eq!(key(&HashKey::Query("user".into())), b"u-9");
        assert_eq!(key(&HashKey::Path), b"/p");
        assert_eq!(key(&HashKey::Cookie("absent".into())), [10, 0, 0, 1]);
    }
}
