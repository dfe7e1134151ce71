//! `POST /v1/anomalies/{id}/resolve`, which records a decision about an anomaly.
//!
//! The same decision again gets the same answer; a different one is refused, since a decision stays. A merchant's token
//! resolves the anomalies that it can read; nothing is booked that the message does not say. Only the platform's token
//! resolves conflicts, suspense and tampering.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, State as With};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::calls::{ApiResult, Caller, QueryParams, Segment, SentBody, not_written, uuid};
use super::{Calls, Problem, cumulative};
use crate::query;
use crate::query::list;
use crate::query::views::{self, View};
use crate::resolve::{self, Action, Decision, NOTE_MAX, Resolution, Resolved};
use crate::rows::{Anomaly, Evidence, Transaction};
use crate::store::{Reader, StoreError};
use crate::stored_enum::{AnomalyKind, AnomalyState};
use base::clock;
use providers::event::Kind;

/// What the books know about an anomaly.
struct Known {
    anomaly: Anomaly,
    /// The evidence of its transaction.
    received: Option<Evidence>,
    /// The evidence of an earlier decision.
    proof: Option<Evidence>,
    /// Why it must not be accepted, because of other refunds of its payment.
    contained: Option<String>,
}

fn known(reader: &mut dyn Reader, id: uuid::Uuid, scope: Option<&str>) -> Result<Option<Known>, StoreError> {
    let Some(anomaly) = query::one::<Anomaly>(reader, id, scope)? else { return Ok(None) };
    let transaction = match anomaly.transaction_id {
        Some(id) => query::one::<Transaction>(reader, id, scope)?,
        None => None,
    };
    let contained = match transaction.as_ref().filter(|refund| refund.kind == Kind::Refund) {
        Some(refund) => cumulative::contained(reader, refund)?,
        None => None,
    };
    let received = match transaction.and_then(|transaction| transaction.evidence_id) {
        Some(id) => query::one::<Evidence>(reader, id, None)?,
        None => None,
    };
    let proof = query::one::<Evidence>(reader, resolve::id_of(id), None)?;
    Ok(Some(Known { anomaly, received, proof, contained }))
}

fn read(body: &Bytes) -> Result<Decision, Problem> {
    let bad = |why: String| Problem::new(StatusCode::BAD_REQUEST, "bad_body", why);
    let example = "Send {\"action\": \"accept\" | \"dismiss\", \"note\": \"…\"}";
    let decision: Decision = serde_json::from_slice(body).map_err(|e| bad(format!("{example}: {e}.")))?;
    if decision.note.len() > NOTE_MAX {
        return Err(bad(format!("`note` may have {NOTE_MAX} bytes.")));
    }
    Ok(decision)
}

/// Anomalies that may concern more than one merchant, or hold money in suspense: only the platform decides.
fn is_platforms(kind: AnomalyKind) -> bool {
    use AnomalyKind::{AmountMismatch, ContentConflict, CurrencyMismatch, DuplicatePayment, OverRefund, Tampered};
    matches!(kind, ContentConflict | Tampered | AmountMismatch | CurrencyMismatch | DuplicatePayment | OverRefund)
}

fn refused(why: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "not_acceptable", why)
}

/// Resolves an anomaly: `accept` books what was kept without an entry, once its cause is fixed.
#[utoipa::path(post, path = "/v1/anomalies/{id}/resolve", params(("id" = String, Path)), request_body = Decision,
    responses(
        (status = 200, description = "The anomaly, resolved", body = views::Anomaly),
        (status = 403, description = "Only the platform may resolve this anomaly.", content_type = "application/problem+json",
            body = Problem),
        (status = 409, description = "The anomaly was resolved differently.", content_type = "application/problem+json",
            body = Problem),
        (status = 422, description = "The anomaly cannot be accepted now; `detail` says why.", content_type = "application/problem+json",
            body = Problem),
    ))]
pub async fn resolve(
    With(calls): With<Calls>,
    Extension(scope): Caller,
    id: Segment,
    QueryParams(pairs): QueryParams,
    SentBody(body): SentBody,
) -> ApiResult {
    list::only(&pairs, &[])?;
    let (id, decision) = (uuid(id, "anomaly")?, read(&body)?);
    let merchant = scope.0.clone();
    let found = calls.read(move |reader| known(reader, id, merchant.as_deref())).await?;
    let Some(Known { anomaly, received, proof, contained }) = found else { return Err(Problem::unknown("anomaly")) };
    if scope.0.is_some() && is_platforms(anomaly.kind) {
        let detail = "Only the platform's token may resolve this.";
        return Err(Problem::new(StatusCode::FORBIDDEN, "platform_only", detail));
    }
    let ring = calls.state.journal.ring().ok_or_else(|| Problem::unavailable("This process does not write."))?;
    if anomaly.state == AnomalyState::Resolved {
        let before = proof.and_then(|proof| resolve::decided(&ring, &proof));
        return again(anomaly, before, &decision);
    }
    let accepted = match decision.action {
        Action::Dismiss => None,
        Action::Accept => {
            let nothing = "There is nothing to be booked: dismiss it once somebody has looked.";
            let received = received.ok_or_else(|| refused(nothing))?;
            contained.map_or(Ok(()), |why| Err(refused(why)))?;
            Some(resolve::reread(&calls.state.config.load(), &ring, received).map_err(refused)?)
        }
    };
    let by = scope.0.as_deref().unwrap_or("platform");
    let (proof, key) = resolve::proof(&ring, &anomaly, &decision, by, clock::wall_ms())
        .map_err(|e| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string()))?;
    match calls.state.journal.resolve(Resolution { anomaly: id, proof, key, accepted }).await.map_err(not_written)? {
        Resolved::Done(anomaly) => {
            log::info!("ledger: anomaly {id} is resolved by {by}: {:?}", decision.action);
            Ok(Json(views::Anomaly::of(*anomaly)).into_response())
        }
        // Another caller was quicker, and that decision is in the books now.
        Resolved::Before(anomaly) => {
            let merchant = scope.0.clone();
            let found = calls.read(move |reader| known(reader, id, merchant.as_deref())).await?;
            let before = found.and_then(|found| found.proof).and_then(|proof| resolve::decided(&ring, &proof));
            again(*anomaly, before, &decision)
        }
        Resolved::Unknown => Err(Problem::unknown("anomaly")),
        Resolved::Refused(why) => Err(refused(why)),
    }
}

/// The answer for an anomaly that is already resolved.
fn again(anomaly: Anomaly, before: Option<Action>, decision: &Decision) -> Result<Response, Problem> {
    if before == Some(decision.action) {
        return Ok(Json(views::Anomaly::of(anomaly)).into_response());
    }
    let detail = match before {
        Some(Action::Accept) => "It was accepted before; that stays.",
        Some(Action::Dismiss) => "It was dismissed before; that stays.",
        None => "It was resolved before; how cannot be read any more.",
    };
    Err(Problem::new(StatusCode::CONFLICT, "already_resolved", detail))
}
