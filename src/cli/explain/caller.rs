//! The caller of a request: the app of a key, and the user of a token.
//!
//! Keys and tokens are judged as the gateway would judge them now. Of a signature everything is judged except what is
//! not available here: the body, and whether its nonce was used before. A proof that does not hold is reported, and no
//! caller is assumed.

use http::{HeaderMap, Method, Uri};

use super::Explained;
use base::bearer;
use base::clock;
use base::said;
use client_auth::apps::AppStatus;
use client_auth::jwt::Rules;
use client_auth::keys::Keys;
use client_auth::signature::{self, Request, Window};
use config::model::{Auth, AuthKind, Config, Route, Scheme};

/// A request as `explain` received it.
pub(super) struct Given<'a> {
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) headers: &'a HeaderMap,
    pub(super) scheme: Scheme,
}

/// The caller.
#[derive(Default)]
pub(super) struct Caller {
    pub(super) app: Option<String>,
    pub(super) claim: Option<String>,
}

/// Explains the result of each proof of a route.
pub(super) fn explain(config: &Config, route: &Route, given: &Given<'_>, explained: &mut Explained) -> Caller {
    let (mut caller, mut holds) = (Caller::default(), true);
    if route.auths.is_empty() {
        return caller;
    }
    let keys = Keys::new(&config.apps);
    for auth in route.auths.iter().filter_map(|auth| config.auths.get(*auth)) {
        let (app, said) = proof(config, &keys, auth, given, &mut caller.claim);
        let two = app.is_some() && caller.app.is_some() && app != caller.app;
        holds &= said.is_ok() && !two;
        caller.app = caller.app.or(app);
        let (Ok(said) | Err(said)) = said;
        explained.why.push(format!("auth {}: {said}", auth.name));
        if two {
            explained.why.push("its proofs are of two apps".to_owned());
        }
    }
    let app = config.apps.iter().find(|app| Some(&*app.name) == caller.app.as_deref());
    match app.map(|app| app.status) {
        _ if !holds => explained.why.push("it would be answered 401".to_owned()),
        Some(AppStatus::Pending) => explained.why.push("the app is pending: it would be answered 403".to_owned()),
        Some(AppStatus::Suspended) => explained.why.push("the app is suspended: it would be answered 403".to_owned()),
        Some(AppStatus::Approved) | None => {}
    }
    explained.app = caller.app.clone();
    caller
}

/// The app that a proof names, and its description; an error if it does not hold.
fn proof(
    config: &Config,
    keys: &Keys,
    auth: &Auth,
    given: &Given<'_>,
    claim: &mut Option<String>,
) -> (Option<String>, Result<String, String>) {
    let name = |app: u32| config.apps.get(app as usize).map(|app| app.name.to_string());
    match &auth.kind {
        AuthKind::ApiKey { header } => {
            let Some(sent) = given.headers.get(header) else {
                return (None, Err(format!("no key: say it with -H '{header}: …'")));
            };
            let found = keys.find(sent.as_bytes()).and_then(|found| found.of(&config.apps));
            match found {
                Some((app, key)) => (Some(app.name.to_string()), Ok(format!("key {} of app {}", key.id, app.name))),
                None => (None, Err(format!("no app has the key in {header}"))),
            }
        }
        AuthKind::Hmac { clock_skew } => match signed(config, keys, given, clock_skew.as_secs()) {
            Ok(app) => {
                let app = name(app);
                let said = format!("signed by app {}", app.as_deref().unwrap_or_default());
                (app, Ok(format!("{said}; its body and its nonce are judged when it comes")))
            }
            Err(refusal) => (None, Err(refusal.to_string())),
        },
        AuthKind::Jwt { issuer, audience, keys, user_claim } => {
            let (issuer, audience, user_claim) = (issuer.as_deref(), audience.as_deref(), user_claim.as_deref());
            let Some(token) = given.headers.get("authorization").and_then(|line| bearer::token(line.as_bytes())) else {
                return (None, Err("no token: say it with -H 'authorization: Bearer …'".to_owned()));
            };
            match keys.verify(token, &Rules { issuer, audience, user_claim }, clock::wall_ms() / 1000) {
                Ok(token) => {
                    *claim = claim.take().or(token.user.map(String::from));
                    let said =
                        claim.as_ref().map_or("a token without a user".to_owned(), |user| format!("token of {user}"));
                    (None, Ok(said))
                }
                Err(refusal) => (None, Err(refusal.to_string())),
            }
        }
    }
}

/// The app that signed the request, by its head.
fn signed(config: &Config, keys: &Keys, given: &Given<'_>, skew_s: u64) -> Result<u32, signature::SignatureError> {
    let target = given.uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request {
        method: given.method.as_str(),
        scheme: if given.scheme == Scheme::Https { "https" } else { "http" },
        authority: said::authority(given.uri, given.headers),
        target,
        headers: given.headers,
    };
    let window = Window { now_s: clock::wall_ms() / 1000, skew_s };
    signature::verify(&request, false, window, |keyid| keys.signer(&config.apps, keyid)).map(|signed| signed.by.app)
}
