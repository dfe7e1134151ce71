//! Calls for readiness, metrics and configuration.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{ConnectInfo, Query, State as With};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::oneshot::Receiver;

use super::{State, problem};
use crate::runtime::history::Summary;
use crate::runtime::reload::{Answer, By, LastError};
use crate::runtime::snapshot::Upstream;
use crate::telemetry::registry::Now;
use balance::settings::Balance;
use base::clock;
use base::finding::Finding;
use base::problem::Problem;
use base::units::{Nanos, Revision};

/// 200 while serving, 503 while draining.
pub async fn ready(With(state): With<State>) -> Response {
    if state.draining.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    "ready\n".into_response()
}

/// Prometheus text.
pub async fn metrics(With(state): With<State>) -> Response {
    let snapshot = state.snapshot.load_full();
    let now = clock::now();
    let mut gauges = Now { revision: snapshot.revision, ..Now::default() };
    for upstream in &snapshot.upstreams {
        let pool = upstream.pool();
        let servers = pool.members().iter().map(|m| (upstream.name.clone(), m.address, m.state.is_up(now)));
        gauges.servers.extend(servers);
        gauges.upstreams.push((upstream.name.clone(), pool.is_panicking(now)));
    }
    gauges.releases = state.releases.look().gauges();
    let text = state.registry.expose(&gauges);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// The answer to `GET /api/v1/config`.
#[derive(Serialize)]
struct ConfigView {
    revision: Revision,
    loaded_at: String,
    state: &'static str,
    last_error: Option<LastError>,
    history: Vec<Summary>,
}

/// The served configuration and its history.
pub async fn config(With(state): With<State>) -> Response {
    let control = state.control.clone();
    let history = tokio::task::spawn_blocking(move || control.history()).await.unwrap_or_default();
    let status = state.control.status();
    Json(ConfigView {
        revision: state.snapshot.load().revision,
        loaded_at: status.loaded_at,
        state: "good",
        last_error: status.last_error,
        history,
    })
    .into_response()
}

/// `?force=true`
#[derive(Deserialize)]
pub struct Force {
    #[serde(default)]
    force: bool,
}

/// `?revision=N`
#[derive(Deserialize)]
pub struct To {
    revision: Option<u64>,
}

type QueryResult<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

/// Loads the files.
pub async fn reload(
    With(state): With<State>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    force: QueryResult<Force>,
) -> Response {
    match force {
        Ok(Query(Force { force })) => answer(state.control.reload(by(from, &headers), force)).await,
        Err(e) => problem(StatusCode::BAD_REQUEST, "bad_query", &e.body_text()),
    }
}

/// Rolls back to a revision.
pub async fn rollback(
    With(state): With<State>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    to: QueryResult<To>,
) -> Response {
    match to {
        Ok(Query(To { revision })) => answer(state.control.rollback(by(from, &headers), revision.map(Revision))).await,
        Err(e) => problem(StatusCode::BAD_REQUEST, "bad_query", &e.body_text()),
    }
}

/// Confirms a staged revision.
pub async fn confirm(
    With(state): With<State>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    answer(state.control.confirm(by(from, &headers))).await
}

/// The caller: the name that the command line sends, and the address.
pub(super) fn by(from: SocketAddr, headers: &HeaderMap) -> By {
    let named = headers.get("x-tollgate-user").and_then(|name| name.to_str().ok()).filter(|name| name.len() <= 64);
    let who = match named {
        Some(name) => format!("{name} ({})", from.ip()),
        None => from.ip().to_string(),
    };
    By { who, trigger: "api" }
}

async fn answer(answer: Receiver<Answer>) -> Response {
    match answer.await {
        Ok(Ok(revision)) => Json(json!({ "revision": revision, "state": "good" })).into_response(),
        Ok(Err(findings)) => refused(findings),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The config thread has ended."),
    }
}

fn refused(findings: Vec<Finding>) -> Response {
    let detail = "The configuration has findings. The one that runs goes on.";
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "findings", detail);
    problem.with("findings", json!(findings)).into_response().into_response()
}

/// Upstreams with their servers.
pub async fn upstreams(With(state): With<State>) -> Response {
    let snapshot = state.snapshot.load_full();
    let now = clock::now();
    let views: Vec<_> = snapshot.upstreams.iter().map(|upstream| view(upstream, now)).collect();
    Json(views).into_response()
}

fn view(upstream: &Upstream, now: Nanos) -> serde_json::Value {
    let pool = upstream.pool();
    let servers = pool.members().iter().map(|member| {
        let state = &member.state;
        let ejected_until = state
            .ejected_until(now)
            .map(|until| clock::rfc3339(clock::wall_ms() + until.since(now).as_millis() as u64));
        json!({
            "server": member.address.to_string(),
            "healthy": state.healthy(),
            "weight": member.weight,
            "in_flight": state.in_flight(),
            "ejected_until": ejected_until,
            "ejections": state.ejections(),
            "failures_in_a_row": state.failures(),
            "latency_ms": state.latency().map(|latency| latency.as_secs_f64() * 1e3),
        })
    });
    let servers: Vec<_> = servers.collect();
    json!({
        "upstream": &*upstream.name,
        "balance": balance(&upstream.balance),
        "panic": pool.is_panicking(now),
        "adaptive_limit": upstream.adaptive.as_ref().map(|limit| limit.limit()),
        "adaptive_in_flight": upstream.adaptive.as_ref().map(|limit| limit.in_flight()),
        "servers": servers,
    })
}

fn balance(balance: &Balance) -> &'static str {
    match balance {
        Balance::RoundRobin => "round_robin",
        Balance::Random => "random",
        Balance::LeastRequest => "least_request",
        Balance::PeakEwma => "peak_ewma",
        Balance::Hash(_) => "hash",
    }
}
