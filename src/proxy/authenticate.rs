//! The stage `authenticate`: every proof that the route asks for must hold, and all must be of one app.
//!
//! First it judges the heads of all proofs in the order written, then whether the app may call. Only then does it read
//! a body for a signature's digest, so that unknown callers cannot make the gateway hold one. It takes a nonce last: a
//! request refused for another reason may be sent again unchanged. It takes the nonce before the limits are asked, so
//! that replayed requests cannot use up an app's rate; after a 429 a request must be signed anew.
//!
//! It reads a body ahead up to what Pingora keeps for replay (64 KiB); the body then goes on to the server. The
//! credentials stay in the request, as in other gateways; `request_headers.remove` removes them.

use std::cell::RefCell;
use std::sync::Arc;

use http::header::{AUTHORIZATION, EXPECT, HeaderMap, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderValue, Version};
use pingora::Result;

use super::ahead;
use super::ahead::Read;
use super::ctx::Ctx;
use super::exchange::Exchange;
use super::reject;
use crate::memory::Account;
use crate::problem::Reason;
use base::bearer;
use base::clock;
use base::said;
use client_auth::apps::AppStatus;
use client_auth::digest::Digests;
use client_auth::jwt::{Judged, KeySet, Rules};
use client_auth::nonce::{self, Nonces};
use client_auth::signature::{self, Signed, Window};
use config::model::{Auth, AuthKind, Scheme};

/// `accept-signature` (RFC 9421, section 5.1)
const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");
/// The components that a signature must cover.
const ACCEPTED: HeaderValue =
    HeaderValue::from_static("sig1=(\"@method\" \"@target-uri\" \"content-digest\");created;alg=\"hmac-sha256\"");

thread_local! {
    /// Tokens that were judged valid lately.
    static JUDGED: RefCell<Judged> = RefCell::default();
}

/// Why a request is refused, and what its client is told.
#[derive(Debug)]
pub struct Refusal {
    reason: Reason,
    /// Replaces the reason's own text.
    detail: Option<String>,
    /// The challenge: how to authenticate.
    challenge: Option<HeaderValue>,
}

impl Refusal {
    fn of(reason: Reason) -> Refusal {
        Refusal { reason, detail: None, challenge: None }
    }

    /// The refusal for one kind of proof.
    fn lacks(auth: &Auth, detail: impl ToString, missing: bool) -> Refusal {
        let challenge = match &auth.kind {
            // Every header name is valid in a quoted string.
            AuthKind::ApiKey { header } => HeaderValue::from_str(&format!("ApiKey header=\"{header}\"")).ok(),
            AuthKind::Jwt { .. } if missing => Some(HeaderValue::from_static("Bearer")),
            AuthKind::Jwt { .. } => Some(HeaderValue::from_static("Bearer error=\"invalid_token\"")),
            AuthKind::Hmac { .. } => Some(HeaderValue::from_static("Signature")),
        };
        Refusal { reason: Reason::Unauthorized, detail: Some(detail.to_string()), challenge }
    }
}

/// The result of judging the heads of all proofs.
#[derive(Default)]
struct Proven {
    app: Option<u32>,
    user: Option<Box<str>>,
    signed: Vec<Signed>,
}

/// Judges the proofs that the route asks for, and sends a refusal if one does not hold; true if all hold.
pub async fn authenticate(
    exchange: &mut impl Exchange,
    ctx: &mut Ctx,
    route: usize,
    (nonces, memory): (&Nonces, &Arc<Account>),
) -> Result<bool> {
    if ctx.snapshot.route(route).0.auths.is_empty() {
        return Ok(false);
    }
    match judge(exchange, ctx, route, (nonces, memory)).await? {
        Ok(()) => Ok(false),
        Err(refusal) => Box::pin(refuse(exchange, ctx, refusal)).await.map(|()| true),
    }
}

async fn judge(
    exchange: &mut impl Exchange,
    ctx: &mut Ctx,
    route: usize,
    (nonces, memory): (&Nonces, &Arc<Account>),
) -> Result<std::result::Result<(), Refusal>> {
    let has_body = exchange.has_body();
    let now_s = clock::wall_ms_at(clock::now()) / 1000;
    let proven = match heads(exchange, ctx, route, has_body, now_s) {
        Ok(proven) => proven,
        Err(refusal) => return Ok(Err(refusal)),
    };
    (ctx.app, ctx.user) = (proven.app, proven.user);
    match proven.app.and_then(|app| ctx.snapshot.config.apps.get(app as usize)).map(|app| app.status) {
        Some(AppStatus::Pending) => return Ok(Err(Refusal::of(Reason::AppPending))),
        Some(AppStatus::Suspended) => return Ok(Err(Refusal::of(Reason::AppSuspended))),
        Some(AppStatus::Approved) | None => {}
    }
    if proven.signed.iter().any(|signed| signed.covers_body)
        && let Err(refusal) = Box::pin(body(exchange, ctx, has_body, memory)).await?
    {
        return Ok(Err(refusal));
    }
    Ok(proven.signed.iter().try_for_each(|signed| take(ctx, signed, nonces, now_s)))
}

/// Judges the heads of all proofs, in the order written.
fn heads(
    exchange: &impl Exchange,
    ctx: &Ctx,
    route: usize,
    has_body: bool,
    now_s: u64,
) -> std::result::Result<Proven, Refusal> {
    let (config, callers) = (&ctx.snapshot.config, &ctx.snapshot.callers);
    let headers = &exchange.asked().headers;
    let mut proven = Proven::default();
    for auth in config.routes[route].auths.iter().filter_map(|auth| config.auths.get(*auth)) {
        let app = match &auth.kind {
            AuthKind::ApiKey { header } => {
                let sent = api_key(headers, header).map_err(|detail| Refusal::lacks(auth, detail, true))?;
                let found = callers.keys.find(sent);
                Some(
                    found.ok_or_else(|| Refusal::lacks(auth, format!("No app has the key in `{header}`."), false))?.app,
                )
            }
            AuthKind::Hmac { clock_skew } => {
                let window = Window { now_s, skew_s: clock_skew.as_secs() };
                let signed = signed(exchange, ctx, has_body, window).map_err(|e| Refusal::lacks(auth, e, false))?;
                let app = signed.by.app;
                proven.signed.push(signed);
                Some(app)
            }
            AuthKind::Jwt { issuer, audience, keys, user_claim } => {
                let (issuer, audience, user_claim) = (issuer.as_deref(), audience.as_deref(), user_claim.as_deref());
                let user = user(auth, headers, keys, &Rules { issuer, audience, user_claim }, now_s)?;
                proven.user = proven.user.or(user);
                None
            }
        };
        if proven.app.is_some() && app.is_some() && proven.app != app {
            return Err(Refusal::lacks(auth, "The proofs of this request are of two apps.", false));
        }
        proven.app = proven.app.or(app);
    }
    Ok(proven)
}

/// The request's only API key.
fn api_key<'h>(headers: &'h HeaderMap, header: &HeaderName) -> std::result::Result<&'h [u8], String> {
    let mut lines = headers.get_all(header).iter();
    match (lines.next(), lines.next()) {
        (Some(key), None) if !key.is_empty() => Ok(key.as_bytes()),
        (Some(_), Some(_)) => Err(format!("`{header}` stands in the request more than once.")),
        _ => Err(format!("Send the key of your app in `{header}`.")),
    }
}

/// The user of a bearer token.
fn user(
    auth: &Auth,
    headers: &HeaderMap,
    keys: &Arc<KeySet>,
    rules: &Rules<'_>,
    now_s: u64,
) -> std::result::Result<Option<Box<str>>, Refusal> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let token = match (lines.next(), lines.next()) {
        (Some(line), None) => bearer::token(line.as_bytes()),
        _ => None,
    };
    let ask = "Send one token: `Authorization: Bearer` and a signed JWT.";
    let token = token.ok_or_else(|| Refusal::lacks(auth, ask, true))?;
    let judged = JUDGED.with_borrow_mut(|judged| judged.verify(keys, token, rules, now_s));
    let token = judged.map_err(|refusal| Refusal::lacks(auth, refusal, false))?;
    Ok(token.user)
}

/// The signature of a request, without its body and nonce.
fn signed(
    exchange: &impl Exchange,
    ctx: &Ctx,
    has_body: bool,
    window: Window,
) -> std::result::Result<Signed, signature::SignatureError> {
    let head = exchange.asked();
    let request = signature::Request {
        method: head.method.as_str(),
        scheme: match ctx.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        authority: said::authority(&head.uri, &head.headers),
        // A target that is not UTF-8 cannot be signed.
        target: std::str::from_utf8(head.raw_path()).unwrap_or_default(),
        headers: &head.headers,
    };
    let snapshot = &ctx.snapshot;
    signature::verify(&request, has_body, window, |keyid| snapshot.callers.keys.signer(&snapshot.config.apps, keyid))
}

/// Reads the body, which goes on to the server, and compares it with its digest.
async fn body(
    exchange: &mut impl Exchange,
    ctx: &mut Ctx,
    has_body: bool,
    memory: &Arc<Account>,
) -> Result<std::result::Result<(), Refusal>> {
    let refused = |detail: &str| {
        let challenge = Some(HeaderValue::from_static("Signature"));
        Ok(Err(Refusal { reason: Reason::Unauthorized, detail: Some(detail.to_owned()), challenge }))
    };
    let Some(mut digests) = Digests::of(&exchange.asked().headers) else {
        return refused("Content-Digest (RFC 9530) has no whole sha-256 or sha-512, or has one twice.");
    };
    if has_body {
        if ahead::length(exchange).is_some_and(|length| length > ahead::KEPT_MAX as u64) {
            return Ok(Err(Refusal::of(Reason::SignedBodyTooLarge)));
        }
        if !ahead::make_room(exchange, ctx, memory) {
            return Ok(Err(Refusal::of(Reason::Overloaded)));
        }
        invite(exchange).await?;
        match ahead::read(exchange, &mut ctx.room, |part| digests.update(part)).await? {
            Read::Whole => {}
            Read::TooLong => return Ok(Err(Refusal::of(Reason::SignedBodyTooLarge))),
            Read::TooSlow => return Ok(Err(Refusal::of(Reason::BodyTooSlow))),
            Read::NoRoom => return Ok(Err(Refusal::of(Reason::Overloaded))),
        }
    }
    if digests.fit() { Ok(Ok(())) } else { refused("The body does not fit Content-Digest.") }
}

/// Sends `100 Continue` to a client that waits for it, because here the gateway itself needs the body.
async fn invite(exchange: &mut impl Exchange) -> Result<()> {
    let head = exchange.asked();
    let waits = head.headers.get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if waits {
        if head.version == Version::HTTP_11 {
            exchange.send_continue().await?;
            exchange.peer().watch.continues(clock::now);
        }
        exchange.asked_mut().remove_header(&EXPECT);
    }
    Ok(())
}

/// Takes the nonce of a signature; each can be taken once.
fn take(ctx: &Ctx, signed: &Signed, nonces: &Nonces, now_s: u64) -> std::result::Result<(), Refusal> {
    let Some((app, key)) = signed.by.of(&ctx.snapshot.config.apps) else {
        return Err(Refusal::of(Reason::Internal));
    };
    let owner = [app.name.as_bytes(), key.id.as_bytes()];
    let keep_s = ctx.snapshot.callers.keep_s;
    nonces.take(&owner, &signed.nonce, signed.created, now_s, keep_s).map_err(|refusal| {
        let (reason, detail) = match refusal {
            nonce::NonceError::Replayed => {
                (Reason::Unauthorized, "The `nonce` was used before: sign every request anew, with a new one.")
            }
            nonce::NonceError::Forgotten => (
                Reason::Unauthorized,
                "The signature is older than what this gateway remembers: sign the request anew.",
            ),
            nonce::NonceError::Full => {
                (Reason::Overloaded, "Too many signed requests came of late to remember them all. Try again soon.")
            }
        };
        let challenge = (reason == Reason::Unauthorized).then_some(HeaderValue::from_static("Signature"));
        Refusal { reason, detail: Some(detail.to_owned()), challenge }
    })
}

/// Sends a refusal.
async fn refuse(exchange: &mut impl Exchange, ctx: &mut Ctx, refusal: Refusal) -> Result<()> {
    let mut fields = vec![];
    if let Some(challenge) = refusal.challenge {
        if challenge == "Signature" {
            fields.push((ACCEPT_SIGNATURE, ACCEPTED));
        }
        fields.push((WWW_AUTHENTICATE, challenge));
    }
    let close = match refusal.reason {
        Reason::SignedBodyTooLarge | Reason::BodyTooSlow => true,
        Reason::Overloaded => !exchange.is_body_read(),
        _ => false,
    };
    reject::answer_with(exchange, ctx, refusal.reason, refusal.detail.as_deref(), fields, close).await
}
