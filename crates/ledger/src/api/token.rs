//! Authentication of callers by token: the platform, or a merchant.
//!
//! Without any token in the configuration nothing can be read. Every token is compared, in a time that does not reveal
//! how much was right. If two share a token, the platform's counts first, then that of the merchant that is written
//! first.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Problem;
use base::bearer;
use config::model::ledger::Ledger;

/// The rows that a caller sees: those of one merchant, or all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(pub Option<Arc<str>>);

/// Lets a request through, or answers 401.
pub async fn check(State(config): State<Arc<ArcSwap<Ledger>>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let open = matches!(path, "/healthz" | "/readyz" | "/metrics" | "/openapi.json") || path.starts_with("/callbacks/");
    if !open {
        let scope = bearer::sent(request.headers()).and_then(|sent| whose(&config.load(), sent));
        let Some(scope) = scope else {
            let detail = "Send the platform's token, or a merchant's: Authorization: Bearer …";
            return Problem::new(StatusCode::UNAUTHORIZED, "no_token", detail).into_response();
        };
        request.extensions_mut().insert(scope);
    }
    next.run(request).await
}

fn whose(ledger: &Ledger, sent: &[u8]) -> Option<Scope> {
    let platform = ledger.token.iter().map(|token| (token, None));
    let merchants =
        ledger.merchants.iter().filter_map(|merchant| Some((merchant.token.as_ref()?, Some(&merchant.name))));
    let mut found = None;
    for (token, merchant) in platform.chain(merchants) {
        // An empty file is not a token.
        if bearer::equal(sent, &token.0) & !token.0.is_empty() && found.is_none() {
            found = Some(Scope(merchant.cloned()));
        }
    }
    found
}
