//! The ends of attempts, on their way to the marks.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::parcel::{Parcel, To};
use crate::book::transfers;
use crate::endpoints::filter::ORDER_CREATED;
use crate::journal::{Health, Marks, Raised};
use crate::keys::DataKey;
use crate::rows::Attempt;
use crate::stored_enum::{AnomalyKind, EventState};
use http_client::webhook::Answer;

/// The end of an attempt.
pub(super) struct Tried {
    pub(super) parcel: Parcel,
    pub(super) answer: Answer,
    /// The beginning of the answer's body.
    pub(super) body: Vec<u8>,
    pub(super) took: Duration,
}

/// Results to be marked, each with its attempt.
#[derive(Clone, Default)]
pub(super) struct Results {
    pub(super) parcels: Vec<(Parcel, Attempt, Health)>,
    pub(super) tried: u32,
}

impl Results {
    /// What is written of them; the keys that encrypt their answers are those of today.
    pub(super) fn marks(&self, keys: &[Arc<DataKey>]) -> Marks {
        let parcels = self.parcels.iter();
        Marks {
            updates: parcels.clone().map(|(parcel, ..)| parcel.update()).collect(),
            raised: parcels.clone().filter_map(|(parcel, ..)| undelivered(parcel)).collect(),
            attempts: parcels.clone().map(|(_, attempt, _)| attempt.clone()).collect(),
            keys: keys.to_vec(),
            health: parcels.filter_map(|(parcel, _, health)| Some((endpoint_of(&parcel.to)?, *health))).collect(),
        }
    }

    /// The deliveries alone.
    pub(super) fn parcels(&self) -> Vec<Parcel> {
        self.parcels.iter().map(|(parcel, ..)| parcel.clone()).collect()
    }
}

/// The endpoint of the books, if it is one.
pub(super) fn endpoint_of(to: &To) -> Option<Uuid> {
    if let To::Endpoint(id) = to { Some(*id) } else { None }
}

/// The anomaly of a dead event; `None` for one that is not dead.
fn undelivered(parcel: &Parcel) -> Option<Raised> {
    let event = Some(&parcel.event).filter(|event| event.state == EventState::Dead)?;
    let last = event.last_status.map_or("no answer".to_owned(), |status| format!("status {status}"));
    let endpoint = endpoint_of(&parcel.to).map(|id| format!(" at endpoint {id}")).unwrap_or_default();
    // An order has no transaction, nor has what is asked about.
    let has_none = [ORDER_CREATED, transfers::CHECK].contains(&&*event.kind);
    let transaction_id = (!has_none).then_some(event.transaction_id);
    Some(Raised {
        kind: AnomalyKind::Undelivered,
        channel: channel_of(&event.body).unwrap_or_default(),
        merchant: event.merchant.clone(),
        transaction_id,
        detail: format!("event {} ({}){endpoint}: {} tries, at last {last}", event.id, event.kind, event.attempts),
    })
}

/// The channel of the transaction that an event reports.
fn channel_of(body: &str) -> Option<String> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    body["data"]["channel"].as_str().map(str::to_owned)
}
