//! A merchant's receiver, which remembers its events and whether the ledger signed them.
//!
//! `POST /payments` takes an event signed by Standard Webhooks. One in [`LOST`] is taken but answered 503 the first
//! time, as if the answer was lost, so that it comes again. `GET /heard` returns the events so far.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::payment::Ear;
use crate::stage;
use base::socket;

/// One in this many first answers is lost.
pub const LOST: usize = 20;

struct Merchant {
    ear: Ear,
    heard: Mutex<Heard>,
}

/// The events so far.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Heard {
    /// Events by `webhook-id`.
    pub events: BTreeMap<String, Event>,
    /// Requests without a signature of the ledger.
    pub unsigned: u64,
    /// Events that came again with another body.
    pub changed: u64,
}

/// A received event.
#[derive(Clone, Serialize, Deserialize)]
pub struct Event {
    /// The transaction's id.
    pub transaction: String,
    /// The number of times that it came.
    pub times: u64,
    body: String,
}

/// Serves until the process ends.
pub fn serve(address: SocketAddr, secret: &Path) -> ExitCode {
    stage::end_with_parent();
    let ear = match Ear::read(secret) {
        Ok(ear) => ear,
        Err(why) => return crate::fail(format!("the merchant cannot hear: {why}")),
    };
    let merchant = Arc::new(Merchant { ear, heard: Mutex::default() });
    let served = tokio::runtime::Builder::new_current_thread().enable_all().build().and_then(|runtime| {
        runtime.block_on(async {
            let router = Router::new()
                .route("/payments", post(hear))
                .route("/heard", get(async |State(merchant): State<Arc<Merchant>>| Json(merchant.heard.lock().clone())))
                .with_state(merchant);
            axum::serve(socket::listen(address)?, router).await
        })
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => crate::fail(format!("the merchant cannot serve on {address}: {e}")),
    }
}

async fn hear(State(merchant): State<Arc<Merchant>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let id = header("webhook-id");
    let signed = merchant.ear.trusts(id, header("webhook-timestamp"), header("webhook-signature"), &body);
    merchant.heard.lock().note(signed, id, &body)
}

impl Heard {
    fn note(&mut self, signed: bool, id: &str, body: &[u8]) -> StatusCode {
        if !signed {
            self.unsigned += 1;
            return StatusCode::UNAUTHORIZED;
        }
        let body = String::from_utf8_lossy(body);
        if let Some(event) = self.events.get_mut(id) {
            event.times += 1;
            self.changed += u64::from(event.body != body);
            return StatusCode::OK;
        }
        let told: Value = serde_json::from_str(&body).unwrap_or_default();
        let transaction = told["data"]["id"].as_str().unwrap_or_default().to_owned();
        self.events.insert(id.to_owned(), Event { transaction, times: 1, body: body.into_owned() });
        if self.events.len().is_multiple_of(LOST) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_known_again_and_a_foreign_one_is_refused() {
        let mut heard = Heard::default();
        let body = br#"{"data":{"id":"t"}}"#;
        assert_eq!(heard.note(false, "a", body), StatusCode::UNAUTHORIZED);
        assert_eq!((heard.note(true, "a", body), heard.note(true, "a", body)), (StatusCode::OK, StatusCode::OK));
        assert_eq!((heard.events["a"].times, &*heard.events["a"].transaction, heard.changed), (2, "t", 0));
        heard.note(true, "a", b"{}");
        assert_eq!((heard.unsigned, heard.changed), (1, 1));
    }

    #[test]
    fn the_first_answer_of_some_is_lost() {
        let mut heard = Heard::default();
        let lost = (0..LOST).filter(|n| heard.note(true, &n.to_string(), b"{}") != StatusCode::OK).count();
        assert_eq!(lost, 1);
        assert_eq!(heard.note(true, &(LOST - 1).to_string(), b"{}"), StatusCode::OK);
    }
}
