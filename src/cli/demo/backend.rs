//! A small backend with knobs: an HTTP/1.1 server that keeps connections, names itself, and misbehaves on demand.
//!
//! `GET /health` is always well. Anything else is answered with `backend NAME METHOD PATH`, after `delay`, and as 503
//! in `fail` percent of the cases. `POST /knobs?delay=50ms&fail=30` turns the knobs, `?die=1` ends the process at once.
//! It is no model of a backend: nothing is read, nothing is stored.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;

use super::stage;
use crate::proxy::listen::bind;

struct Backend {
    name: String,
    delay_ms: AtomicU64,
    fail_percent: AtomicU32,
}

/// `POST /knobs`
#[derive(Deserialize)]
struct Knobs {
    delay: Option<String>,
    fail: Option<u32>,
    die: Option<u32>,
}

/// Serves until the process is ended.
pub fn serve(name: &str, address: SocketAddr) -> ExitCode {
    stage::end_with_parent();
    let backend = Arc::new(Backend { name: name.to_owned(), delay_ms: AtomicU64::new(0), fail_percent: 0.into() });
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let router = Router::new()
                .route("/health", get(|| async { "well\n" }))
                .route("/knobs", post(turn))
                .fallback(answer)
                .with_state(backend);
            axum::serve(bind(address)?, router).await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::cli::fail(false, format!("demo: backend {name} cannot serve on {address}: {e}")),
    }
}

async fn answer(State(backend): State<Arc<Backend>>, method: Method, uri: Uri) -> Response {
    let delay = backend.delay_ms.load(Relaxed);
    if delay > 0 {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let fails = fastrand::u32(0..100) < backend.fail_percent.load(Relaxed);
    let status = if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("backend {} {method} {}\n", backend.name, uri.path())).into_response()
}

async fn turn(State(backend): State<Arc<Backend>>, Query(knobs): Query<Knobs>) -> Response {
    if knobs.die.is_some_and(|die| die != 0) {
        std::process::exit(1);
    }
    if let Some(delay) = &knobs.delay {
        let Some(delay) = delay.strip_suffix("ms").and_then(|ms| ms.parse().ok()) else {
            return (StatusCode::BAD_REQUEST, "delay is written as 50ms\n").into_response();
        };
        backend.delay_ms.store(delay, Relaxed);
    }
    if let Some(fail) = knobs.fail {
        backend.fail_percent.store(fail, Relaxed);
    }
    let (delay, fail) = (backend.delay_ms.load(Relaxed), backend.fail_percent.load(Relaxed));
    format!("delay={delay}ms fail={fail}\n").into_response()
}
