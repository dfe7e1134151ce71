//! Events, attempts and endpoints, as they are shown.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{View, time};
use crate::rows;
use crate::stored_enum::{EventState, StoredEnum};

/// An attempt to send an event to an endpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Attempt {
    /// When it ended.
    #[schema(format = DateTime)]
    pub at: String,
    /// The endpoint's id.
    #[schema(format = "uuid")]
    pub endpoint: String,
    /// The HTTP status; null if no answer came.
    #[schema(required = true)]
    pub status: Option<i64>,
    /// How long it took, in milliseconds.
    pub latency_ms: i64,
    /// The first KiB of the answer's body; null if it cannot be decrypted here or any more.
    #[schema(required = true)]
    pub body: Option<String>,
}

/// An endpoint of a merchant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Endpoint {
    /// The endpoint's id.
    #[schema(format = "uuid")]
    pub id: String,
    /// The merchant's name.
    pub merchant: String,
    /// Where events go.
    pub url: String,
    /// The event types that it takes; empty for all.
    pub events: Vec<String>,
    /// The most events per second; null for no bound.
    #[schema(required = true)]
    pub rate: Option<u32>,
    /// The most attempts under way; null for 16.
    #[schema(required = true)]
    pub concurrency: Option<u32>,
    /// Whether its events wait.
    pub paused: bool,
    /// The names of further headers; their values are not shown.
    pub headers: BTreeMap<String, Option<String>>,
    /// The body's template; null where the event itself is sent.
    #[schema(required = true)]
    pub template: Option<String>,
    /// Whether it is the url of the configuration, which only the configuration changes.
    pub configured: bool,
    /// Since when every attempt has failed; null if it works.
    #[schema(required = true, format = DateTime)]
    pub failing_since: Option<String>,
    /// Time of creation; null for the configuration's.
    #[schema(required = true, format = DateTime)]
    pub created_at: Option<String>,
    /// The secret that signs; shown once, at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// An event for a merchant.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// The event's id, sent as `webhook-id`.
    #[schema(format = "uuid")]
    pub id: String,
    /// The event's type, such as `payment.posted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The order that it belongs to. Events of one order arrive in order.
    #[schema(required = true, format = "uuid")]
    pub order_id: Option<String>,
    /// The merchant that receives it.
    pub merchant: String,
    /// The delivery state.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Delivery attempts so far.
    pub attempts: i64,
    /// Time of the next attempt; null if it is delivered or dead.
    #[schema(required = true, format = DateTime)]
    pub next_attempt_at: Option<String>,
    /// HTTP status of the last attempt; null if no response came.
    #[schema(required = true)]
    pub last_status: Option<i64>,
    /// Time of creation.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Time of delivery.
    #[schema(required = true, format = DateTime)]
    pub delivered_at: Option<String>,
}

impl Event {
    /// An event at all its addresses: the configuration's url, whose state is in its row, and endpoints. It is pending
    /// while one of them is, and dead if one gave up. `last` is the status of the last attempt, if there are deliveries.
    pub fn whole(mut row: rows::Outgoing, deliveries: &[rows::Delivery], last: Option<Option<i64>>) -> Event {
        let rank = |state: EventState| match state {
            EventState::Delivered => 0,
            EventState::Dead => 1,
            EventState::Pending => 2,
        };
        for delivery in deliveries {
            if rank(delivery.state) > rank(row.state) {
                row.state = delivery.state;
            }
            row.attempts += delivery.attempts;
            let next = [row.next_attempt_at, delivery.next_attempt_at];
            row.next_attempt_at = next.into_iter().flatten().min();
            row.delivered_at = row.delivered_at.max(delivery.delivered_at);
        }
        row.last_status = last.unwrap_or(row.last_status);
        row.delivered_at = row.delivered_at.filter(|_| row.state == EventState::Delivered);
        Event {
            id: row.id.to_string(),
            kind: row.kind,
            order_id: row.order_id.map(|id| id.to_string()),
            merchant: row.merchant,
            state: row.state.word(),
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at.map(time),
            last_status: row.last_status,
            created_at: time(row.created_at),
            delivered_at: row.delivered_at.map(time),
        }
    }
}

impl View for Event {
    type Row = rows::Outgoing;
    fn of(row: rows::Outgoing) -> Event {
        Event::whole(row, &[], None)
    }
}

impl Attempt {
    /// An attempt with the decrypted beginning of the answer's body.
    pub fn of(row: rows::Attempt, body: Option<Vec<u8>>) -> Attempt {
        Attempt {
            at: time(row.at),
            endpoint: row.endpoint_id.to_string(),
            status: row.status,
            latency_ms: row.latency_ms,
            body: match (&row.body, body) {
                (None, _) => Some(String::new()),
                (Some(_), body) => body.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            },
        }
    }
}
