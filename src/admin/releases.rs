//! The API's calls for releases, reports and feedback.

use std::net::SocketAddr;

use axum::Json;
use axum::extract::{ConnectInfo, Path, State as With};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{State, api, problem};
use crate::releases::CommandError;
use gray::assignment::RequestView;
use gray::controller::OrderError;
use gray::controller::state::Order;

/// All releases.
pub async fn list(With(state): With<State>) -> Response {
    Json(state.releases.look().views()).into_response()
}

/// One release.
pub async fn one(With(state): With<State>, Path(name): Path<String>) -> Response {
    let view = state.releases.look().view(&name);
    view.map_or_else(|| unknown(&state, &name), |view| Json(view).into_response())
}

/// `POST /api/v1/releases/{name}/{order}`
pub async fn order(
    With(state): With<State>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Path((name, order)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let orders = [Order::Pause, Order::Resume, Order::Promote, Order::Abort];
    let Some(order) = orders.into_iter().find(|known| known.label() == order) else {
        return problem(StatusCode::NOT_FOUND, "not_found", "An order is pause, resume, promote or abort.");
    };
    let (releases, asked, who) = (state.releases.clone(), name.clone(), api::by(from, &headers).who);
    // It waits for the disk.
    let obeyed = tokio::task::spawn_blocking(move || releases.order(&asked, order, &who)).await;
    match obeyed {
        Ok(Ok(view)) => Json(view).into_response(),
        Ok(Err(CommandError::Order(OrderError::Unknown))) => unknown(&state, &name),
        Ok(Err(CommandError::Order(OrderError::State(now)))) => {
            let detail = format!("{} is not for a release that is {}.", order.label(), now.label());
            problem(StatusCode::CONFLICT, "wrong_state", &detail)
        }
        Ok(Err(CommandError::HandedOver)) => {
            let detail = "Another process has taken over: ask again, it answers at this address now.";
            problem(StatusCode::SERVICE_UNAVAILABLE, "handed_over", detail)
        }
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The order could not be obeyed."),
    }
}

fn unknown(state: &State, name: &str) -> Response {
    let releases = state.releases.look();
    let names: Vec<_> = releases.lives().map(|(name, _)| name.to_string()).collect();
    let there = if names.is_empty() { "there is none".to_owned() } else { format!("there are: {}", names.join(", ")) };
    problem(StatusCode::NOT_FOUND, "no_release", &format!("There is no release {name}; {there}."))
}

/// The reports, newest first.
pub async fn reports(With(state): With<State>) -> Response {
    let releases = state.releases.clone();
    let reports = tokio::task::spawn_blocking(move || releases.shelf.list()).await.unwrap_or_default();
    Json(reports).into_response()
}

/// A report; as Markdown on request.
pub async fn report(With(state): With<State>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    let releases = state.releases.clone();
    let found = tokio::task::spawn_blocking(move || releases.shelf.load(&id)).await.ok().flatten();
    let Some(report) = found else {
        return problem(StatusCode::NOT_FOUND, "no_report", "There is no such report; GET /api/v1/reports lists them.");
    };
    let accept = headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    match accept.contains("text/markdown") {
        true => ([("content-type", "text/markdown; charset=utf-8")], report.markdown()).into_response(),
        false => Json(report).into_response(),
    }
}

/// A user's opinion.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// The user key.
    user: String,
    /// From 0 to 1; below 0.5 is bad.
    score: f64,
    /// The release that it is about; without it, all of them.
    release: Option<String>,
}

/// Counts feedback on the arm that the user is on.
pub async fn feedback(
    With(state): With<State>,
    body: Result<Json<Feedback>, axum::extract::rejection::JsonRejection>,
) -> Response {
    let Feedback { user, score, release } = match body {
        Ok(Json(body)) => body,
        Err(e) => return problem(StatusCode::BAD_REQUEST, "bad_feedback", &e.body_text()),
    };
    if !(0.0..=1.0).contains(&score) || user.is_empty() {
        return problem(StatusCode::BAD_REQUEST, "bad_feedback", "score is a number from 0 to 1, user is not empty.");
    }
    let snapshot = state.snapshot.load_full();
    if let Some(name) = release.as_ref().filter(|name| !snapshot.plans.iter().any(|plan| *plan.name == ***name)) {
        return unknown(&state, name);
    }
    let none = HeaderMap::new();
    let asked = RequestView::of(&none);
    let mut counted = vec![];
    for plan in snapshot.plans.iter().filter(|plan| release.as_ref().is_none_or(|name| *plan.name == **name)) {
        let decision = plan.decide_for(&snapshot.config.cohorts, Some(user.as_bytes()), &asked);
        if decision.is_judged() {
            state.releases.look().feedback(&plan.name, decision.user, decision.arm, score < 0.5);
            counted.push(json!({ "release": &*plan.name, "arm": decision.arm.label() }));
        }
    }
    Json(json!({ "counted": counted })).into_response()
}
