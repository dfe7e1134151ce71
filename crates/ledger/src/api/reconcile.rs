//! `/v1/reconciliations`: a provider's statement, sent as it is, held against the books. The platform's alone.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State as With};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use futures_util::StreamExt;
use jiff::civil::Date;
use tokio::io::AsyncWriteExt;

use super::calls::{ApiResult, Caller, QueryParams, Segment, not_written, uuid};
use super::token::Scope;
use super::{Calls, Problem};
use crate::keys::Ring;
use crate::query::list;
use crate::reconcile::report::{self, Format, Report};
use crate::reconcile::run::{self, ReconcileError};
use crate::reconcile::{Compared, Reconciled, explained};
use crate::resolve::{self, Action, Decision};
use crate::rows::Anomaly;
use crate::store::{self, StoreError};
use base::clock;
use config::model::ledger::{Channel, Ledger};

/// The most bytes of a statement.
const STATEMENT_MAX: u64 = 2 << 30;
/// The longest silence within a statement.
const SILENCE: Duration = Duration::from_secs(30);

fn platform(scope: &Scope) -> Result<(), Problem> {
    let detail = "Statements are the platform's.";
    scope.0.as_ref().map_or(Ok(()), |_| Err(Problem::new(StatusCode::FORBIDDEN, "platform_only", detail)))
}

/// Holds a statement against the books.
#[utoipa::path(post, path = "/v1/reconciliations",
    params(("channel" = String, Query, description = "The channel whose statement it is"),
        ("date" = Option<String>, Query, format = Date, description = "Its day; absent, as the file shows it")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The provider's file, as it is; at most 2 GiB"),
    responses(
        (status = 201, description = "What was found", body = Report),
        (status = 403, description = "A merchant's token.", content_type = "application/problem+json", body = Problem),
        (status = 404, description = "There is no such channel.", content_type = "application/problem+json", body = Problem),
        (status = 408, description = "The file stopped coming.", content_type = "application/problem+json", body = Problem),
        (status = 422, description = "The file is not this channel's statement of that day; `detail` names the line. \
            Nothing was written.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn run(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    QueryParams(pairs): QueryParams,
    body: Body,
) -> ApiResult {
    platform(&scope)?;
    list::only(&pairs, &["channel", "date"])?;
    let config = calls.state.config.load_full();
    let name = list::get(&pairs, "channel").unwrap_or_default();
    let channel = config.channels.iter().find(|channel| *channel.name == *name).cloned();
    let channel = channel.ok_or_else(|| Problem::unknown("channel"))?;
    let bad = |detail: &str| Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail);
    let asked = list::get(&pairs, "date").map(|date| date.parse::<Date>()).transpose();
    let asked = asked.map_err(|_| bad("`date` is a day such as 2026-11-21."))?;
    let ring = calls.state.journal.ring().ok_or_else(|| Problem::unavailable("This process does not write."))?;
    let turn = calls.statements.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Problem::unavailable("Another statement is read now."))?;
    let file = spooled(&config, body).await?;
    let work = move || {
        let done = compared(&config, &channel, asked, file, &ring);
        drop(turn);
        done
    };
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The call failed."))??;
    let id = calls.state.journal.reconcile(done).await.map_err(not_written)?;
    let report = calls.read(move |reader| report::read(reader, id)).await?;
    let report = report.ok_or_else(|| Problem::unknown("reconciliation"))?;
    Ok((StatusCode::CREATED, Json(report)).into_response())
}

/// Takes the file onto the disk, under no name.
async fn spooled(config: &Ledger, body: Body) -> Result<std::fs::File, Problem> {
    let failed = |e: std::io::Error| {
        log::warn!("a statement cannot be kept in {}: {e}", config.state_dir.display());
        Problem::unavailable("The file cannot be kept now; the log says why.")
    };
    let path = config.state_dir.join(format!("statement-{}.part", uuid::Uuid::now_v7()));
    let options = std::fs::OpenOptions::new().read(true).write(true).create_new(true).clone();
    let file = options.open(&path).map_err(failed)?;
    std::fs::remove_file(&path).map_err(failed)?;
    let (mut file, mut parts, mut length) = (tokio::fs::File::from_std(file), body.into_data_stream(), 0_u64);
    loop {
        let part = tokio::time::timeout(SILENCE, parts.next()).await;
        let late = "The file stopped coming for 30 s: send it again.";
        let Some(part) = part.map_err(|_| Problem::new(StatusCode::REQUEST_TIMEOUT, "too_slow", late))? else { break };
        let broken = "The file ended early or broke HTTP.";
        let part = part.map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "bad_body", broken))?;
        length += part.len() as u64;
        if length > STATEMENT_MAX {
            return Err(Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "A statement has at most 2 GiB.",
            ));
        }
        file.write_all(&part).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)?;
    Ok(file.into_std().await)
}

/// Compares it, on a connection of its own; blocks.
fn compared(
    config: &Ledger,
    channel: &Channel,
    asked: Option<Date>,
    file: std::fs::File,
    ring: &Arc<Ring>,
) -> Result<Reconciled, Problem> {
    let day = run::day(channel, &file, asked).map_err(refused)?;
    let unread = |e: StoreError| refused(ReconcileError::Store(e));
    let mut reader = store::reader(&config.store).map_err(unread)?;
    reader.points().map_err(unread)?;
    let compared: Compared = run::compare(&mut *reader, channel, day, &file).map_err(refused)?;
    let day = day.to_string();
    let open = explained::by(&mut *reader, &channel.name, &day, &compared).map_err(unread)?;
    let note = format!("the statement of {day} explains it");
    let decision = Decision { action: Action::Dismiss, note };
    let now = clock::wall_ms();
    let internal =
        |e: crate::keys::KeyError| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string());
    let proof = |anomaly: Anomaly| {
        Ok((anomaly.id, resolve::proof(ring, &anomaly, &decision, "reconciliation", now).map_err(internal)?.0))
    };
    let explained = open.into_iter().map(proof).collect::<Result<_, Problem>>()?;
    let key = ring.today(now).map_err(internal)?;
    let (channel, merchant) = (channel.name.to_string(), channel.merchant.to_string());
    Ok(Reconciled { channel, merchant, day, compared, explained, key })
}

fn refused(why: ReconcileError) -> Problem {
    let label = match &why {
        ReconcileError::Statement(_) => "bad_statement",
        ReconcileError::Day(_) => "wrong_date",
        ReconcileError::TooMany(_) => "too_many_differences",
        ReconcileError::Store(e) => {
            log::warn!("the ledger's books cannot be read for a statement: {e}");
            return Problem::unavailable("The books cannot be read now; the log says why.");
        }
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, label, format!("{why}."))
}

/// The report of a reconciliation.
#[utoipa::path(get, path = "/v1/reconciliations/{id}",
    params(("id" = String, Path), ("format" = Option<String>, Query, description = "`json` (as it is), `csv` or `markdown`")),
    responses(
        (status = 200, description = "What was found", body = Report),
        (status = 403, description = "A merchant's token.", content_type = "application/problem+json", body = Problem),
    ))]
pub async fn one(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
) -> ApiResult {
    platform(&scope)?;
    list::only(&pairs, &["format"])?;
    let format = Format::named(list::get(&pairs, "format").unwrap_or("json"));
    let wrong = || Problem::new(StatusCode::BAD_REQUEST, "bad_query", "`format` is json, csv or markdown.");
    let format = format.ok_or_else(wrong)?;
    let id = uuid(id, "reconciliation")?;
    let report = calls.read(move |reader| report::read(reader, id)).await?;
    let report = report.ok_or_else(|| Problem::unknown("reconciliation"))?;
    let text = |kind: &'static str, body: String| ([(header::CONTENT_TYPE, kind)], body).into_response();
    Ok(match format {
        Format::Json => Json(report).into_response(),
        Format::Csv => text("text/csv; charset=utf-8", report.csv()),
        Format::Markdown => text("text/markdown; charset=utf-8", report.markdown()),
    })
}
