//! A small backend with knobs: an HTTP/1.1 server that keeps connections, names itself, and misbehaves on demand.
//!
//! `GET /health` always succeeds. Any other request is answered with `backend NAME METHOD PATH`, after `delay` and a
//! random part of `spread`, and with 503 in `fail` percent of the cases. `POST /knobs?delay=50ms&fail=30` turns the
//! knobs and returns their settings and the counts so far; `?die=1` ends the process at once. It is not a model of a
//! backend: it reads and stores nothing.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use crate::stage;
use base::socket;

/// Power of the random part of `spread`: half of the answers take less than a sixteenth of it, one of twenty more than
/// four fifths. It gives the long tail of real backends.
const SELDOM: i32 = 4;

#[derive(Default)]
struct Backend {
    name: String,
    delay_ms: AtomicU64,
    spread_ms: AtomicU64,
    fail_percent: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    posted: AtomicU64,
}

/// The parameters of `POST /knobs`.
#[derive(Deserialize)]
struct Knobs {
    delay: Option<String>,
    spread: Option<String>,
    fail: Option<u32>,
    die: Option<u32>,
}

/// The settings of the knobs, and the counts so far.
#[derive(Serialize, Deserialize)]
pub struct Account {
    /// The least time of each answer, in milliseconds.
    pub delay_ms: u64,
    /// The most random time on top, in milliseconds.
    pub spread_ms: u64,
    /// Percent of the answers that are 503.
    pub fail_percent: u32,
    /// Requests received, except for probes.
    pub answered: u64,
    /// Of these, requests answered 503.
    pub failed: u64,
    /// Of the received ones, those that are not GET; the load sends only GET.
    pub posted: u64,
}

/// Serves until the process ends.
pub fn serve(name: &str, address: SocketAddr) -> ExitCode {
    stage::end_with_parent();
    let backend = Arc::new(Backend { name: name.to_owned(), ..Backend::default() });
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let router = Router::new()
                .route("/health", get(|| async { "well\n" }))
                .route("/knobs", post(turn))
                .fallback(answer)
                .with_state(backend);
            axum::serve(socket::listen(address)?, router).await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::fail(format!("backend {name} cannot serve on {address}: {e}")),
    }
}

async fn answer(State(backend): State<Arc<Backend>>, method: Method, uri: Uri) -> Response {
    backend.answered.fetch_add(1, Relaxed);
    backend.posted.fetch_add((method != Method::GET).into(), Relaxed);
    let [delay, spread] = [&backend.delay_ms, &backend.spread_ms].map(|knob| Duration::from_millis(knob.load(Relaxed)));
    let delay = delay + spread.mul_f64(fastrand::f64().powi(SELDOM));
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    let fails = fastrand::u32(0..100) < backend.fail_percent.load(Relaxed);
    backend.failed.fetch_add(fails.into(), Relaxed);
    let status = if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("backend {} {method} {}\n", backend.name, uri.path())).into_response()
}

async fn turn(State(backend): State<Arc<Backend>>, Query(knobs): Query<Knobs>) -> Response {
    if knobs.die.is_some_and(|die| die != 0) {
        std::process::exit(1);
    }
    for (time, knob) in [(&knobs.delay, &backend.delay_ms), (&knobs.spread, &backend.spread_ms)] {
        let Some(time) = time else { continue };
        let Some(time) = time.strip_suffix("ms").and_then(|ms| ms.parse::<u32>().ok()) else {
            return (StatusCode::BAD_REQUEST, "a time is written as 50ms\n").into_response();
        };
        knob.store(time.into(), Relaxed);
    }
    if let Some(fail) = knobs.fail {
        backend.fail_percent.store(fail, Relaxed);
    }
    Json(Account {
        delay_ms: backend.delay_ms.load(Relaxed),
        spread_ms: backend.spread_ms.load(Relaxed),
        fail_percent: backend.fail_percent.load(Relaxed),
        answered: backend.answered.load(Relaxed),
        failed: backend.failed.load(Relaxed),
        posted: backend.posted.load(Relaxed),
    })
    .into_response()
}
