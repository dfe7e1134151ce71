//! The operator's listener: health, metrics, configuration, upstreams and releases.
//!
//! Every call except `/healthz` and `/readyz` needs the token, if one is configured. A foreign `Origin`, or a `Host`
//! that is not this listener's, is refused: web pages in an operator's browser must not reach it, whatever their names
//! resolve to. Errors are problem documents, as on the proxy's side. It runs on the background thread, so it cannot
//! slow down requests.

mod api;
pub(crate) mod guard;
mod releases;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::releases::Releases;
use crate::runtime::reload::ReloadControl;
use crate::runtime::snapshot::Snapshot;
use crate::telemetry::Registry;
use base::problem::Problem;

/// The state that the calls use.
#[derive(Clone)]
pub struct State {
    /// Changes the configuration.
    pub control: ReloadControl,
    /// The configuration that is served.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Counters.
    pub registry: Arc<Registry>,
    /// The releases.
    pub releases: Arc<Releases>,
    /// Whether the process drains.
    pub draining: Arc<AtomicBool>,
}

/// Serves the API until the process ends, or until another one has taken over. `address` is the configured one.
pub async fn serve(socket: TcpListener, address: SocketAddr, state: State, mut gone: watch::Receiver<bool>) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(api::ready))
        .route("/metrics", get(api::metrics))
        .route("/api/v1/config", get(api::config))
        .route("/api/v1/config/reload", post(api::reload))
        .route("/api/v1/config/rollback", post(api::rollback))
        .route("/api/v1/config/confirm", post(api::confirm))
        .route("/api/v1/upstreams", get(api::upstreams))
        .route("/api/v1/releases", get(releases::list))
        .route("/api/v1/releases/{name}", get(releases::one))
        .route("/api/v1/releases/{name}/{order}", post(releases::order))
        .route("/api/v1/reports", get(releases::reports))
        .route("/api/v1/reports/{id}", get(releases::report))
        .route("/api/v1/feedback", post(releases::feedback))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "not_found", "There is no such call.") })
        .method_not_allowed_fallback(|| async {
            problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This call takes another method.")
        })
        .layer(axum::middleware::from_fn_with_state((state.clone(), address), guard::check))
        .with_state(state);
    let routes = routes.into_make_service_with_connect_info::<SocketAddr>();
    let handed_over = async move {
        // Without a sender no other process can take over any more.
        if gone.wait_for(|gone| *gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    if let Err(e) = axum::serve(socket, routes).with_graceful_shutdown(handed_over).await {
        log::error!("the admin listener ended: {e}");
    }
}

/// An answer with a problem document.
fn problem(status: StatusCode, label: &str, detail: &str) -> Response {
    Problem::new(status, label, detail).into_response().into_response()
}
