//! The way of a callback at the ledger's own address, from a bounded body to the provider's answer.
//!
//! It runs on the ledger's own threads. `ROOM` bounds all bodies in flight together; [`BODY_MAX`] and `SLOW` bound each
//! one. The thread that read a body also verifies it, so a flood of forged callbacks costs only these threads. Nothing
//! here bounds such a flood: the route's `limits` do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::acknowledge::{Refused, Rejection, acknowledge, refuse};
use super::journal::{CommitError, Journal, Sealed, Standing};
use super::rows::Evidence;
use super::skew::Skew;
use crate::channel::Prepared;
use crate::metrics::LedgerSeries;
use base::clock;
use config::model::ledger::{Channel, Ledger};
use providers::Dialect;
use providers::receive::{BODY_MAX, Received};
use providers::verify::{VerifiedMessage, VerifyError};

/// Kibibytes of all bodies in flight.
const ROOM: usize = 128 << 10;
/// Time that a whole body may take, and each part of it.
const SLOW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));

/// A channel that takes callbacks.
#[derive(Debug)]
struct Door {
    channel: Arc<Channel>,
    provider: Prepared,
    dialect: Dialect,
}

/// The channels of a configuration, by name.
#[derive(Debug, Default)]
pub struct IngestChannels(HashMap<Arc<str>, Door>);

impl IngestChannels {
    /// Prepares the keys of this configuration's channels once.
    pub fn new(config: &Ledger) -> IngestChannels {
        let door = |channel: &Channel| {
            let channel = Arc::new(channel.clone());
            let provider = Prepared::new(channel.clone());
            let dialect = channel.provider.provider.dialect;
            (channel.name.clone(), Door { channel, provider, dialect })
        };
        IngestChannels(config.channels.iter().map(door).collect())
    }
}

/// The state that the callback handlers share.
#[derive(Clone)]
pub struct Front {
    /// The channels; replaced when the configuration changes.
    pub doors: Arc<ArcSwap<IngestChannels>>,
    /// The writer.
    pub journal: Journal,
    /// The metrics.
    pub series: Arc<LedgerSeries>,
    /// Clock differences of genuine messages.
    pub skew: Arc<Mutex<Skew>>,
    room: Arc<Semaphore>,
}

impl Front {
    /// The state for these channels.
    pub fn new(config: &Ledger, journal: Journal, series: Arc<LedgerSeries>) -> Front {
        let doors = Arc::new(ArcSwap::from_pointee(IngestChannels::new(config)));
        Front { doors, journal, series, skew: Arc::default(), room: Arc::new(Semaphore::new(ROOM)) }
    }

    fn count(&self, channel: &str, outcome: &str) {
        self.series.callbacks.with_label_values(&[channel, outcome]).inc();
    }
}

/// Handles `POST /callbacks/{channel}`.
pub async fn callback(
    State(front): State<Front>,
    channel: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let doors = front.doors.load_full();
    let door = channel.ok().and_then(|Path(channel)| doors.0.get(&*channel));
    let Some(door) = door else { return refuse(Dialect::Plain, Rejection::Unknown) };
    let (outcome, answer) = match way(&front, door, request).await {
        Ok((outcome, answer)) => (outcome, answer),
        Err((outcome, refused)) => (outcome, refuse(door.dialect, refused)),
    };
    front.count(&door.channel.name, outcome);
    answer
}

/// Answers any other method at that path.
pub async fn other_method() -> Response {
    let mut answer = refuse(Dialect::Plain, Rejection::Method);
    answer.headers_mut().insert(http::header::ALLOW, http::HeaderValue::from_static("POST"));
    answer
}

type Rejected = (&'static str, Refused);

async fn way(front: &Front, door: &Door, request: Request) -> Result<(&'static str, Response), Rejected> {
    if front.journal.standing() != Standing::Active {
        return Err(not_kept(CommitError::Standby));
    }
    let (received, room) = receive(front, request).await?;
    let coming = front.journal.coming();
    let now = received.at_ms;
    let verified = door.provider.verify(received, now).map_err(|refusal| refused(front, refusal))?;
    if let Some(sent) = door.provider.sent_ms(&verified) {
        front.skew.lock().genuine(sent - now as i64, true, now as i64);
    }
    let sealed = seal(front, door, verified, room).map_err(not_kept)?;
    let receipt = front.journal.keep(sealed, coming).await.map_err(not_kept)?;
    Ok((receipt.get().outcome.label(), acknowledge(door.dialect, &receipt)))
}

fn not_kept(why: CommitError) -> Rejected {
    match why {
        CommitError::Overloaded => ("overloaded", Rejection::Unavailable.into()),
        CommitError::Standby | CommitError::Failed | CommitError::Refused => ("failed", Rejection::Unavailable.into()),
    }
}

fn refused(front: &Front, refusal: VerifyError) -> Rejected {
    match refusal {
        VerifyError::Forged(_) => ("forged", Rejection::Unverified.into()),
        VerifyError::Expired { skew_ms } => {
            front.skew.lock().genuine(skew_ms, false, clock::wall_ms() as i64);
            ("expired", Rejection::Unverified.into())
        }
        VerifyError::Probe => ("probe", Rejection::Unverified.into()),
        VerifyError::Malformed(what) => ("malformed", Refused::malformed(what)),
    }
}

/// Reads the body within its bounds. Room is taken as bytes arrive, so that a sender that only announces them takes
/// none. It is kept until the callback is written or refused, even if its sender was already told to try again.
async fn receive(front: &Front, request: Request) -> Result<(Received, Room), Rejected> {
    let (head, body) = request.into_parts();
    if http_body::Body::size_hint(&body).lower() > BODY_MAX as u64 {
        return Err(("malformed", Rejection::TooLarge.into()));
    }
    let read = tokio::time::timeout(SLOW.0, read(&front.room, body));
    let (body, room) = read.await.map_err(|_| ("malformed", Rejection::TooSlow.into()))??;
    Ok((Received::new(head.headers, body, clock::wall_ms()), room))
}

/// Room for a body, released on drop.
type Room = Option<OwnedSemaphorePermit>;

async fn read(all: &Arc<Semaphore>, mut body: Body) -> Result<(Bytes, Room), Rejected> {
    let (mut parts, mut size, mut room): (Vec<Bytes>, usize, Room) = (vec![], 0, None);
    loop {
        let part = tokio::time::timeout(SLOW.1, body.frame());
        let Some(part) = part.await.map_err(|_| ("malformed", Rejection::TooSlow.into()))? else { break };
        let part = part.map_err(|_| ("malformed", Refused::malformed("The body ended early.")))?;
        // A signature does not cover trailers.
        let Ok(part) = part.into_data() else { continue };
        size += part.len();
        if size > BODY_MAX {
            return Err(("malformed", Rejection::TooLarge.into()));
        }
        let kib = part.len().div_ceil(1 << 10) as u32;
        let more = all.clone().try_acquire_many_owned(kib).map_err(|_| not_kept(CommitError::Overloaded))?;
        match &mut room {
            Some(room) => room.merge(more),
            None => room = Some(more),
        }
        parts.push(part);
    }
    let body = if parts.len() == 1 { parts.remove(0) } else { parts.concat().into() };
    Ok((body, room))
}

/// Encrypts the evidence and binds it to its row.
fn seal(front: &Front, door: &Door, verified: VerifiedMessage, room: Room) -> Result<Sealed, CommitError> {
    let (received, event) = verified.into_parts();
    let ring = front.journal.ring().ok_or(CommitError::Standby)?;
    let key = ring.today(received.at_ms).map_err(|_| CommitError::Failed)?;
    let seal = |column: &str, content: &[u8]| key.seal("evidence", column, received.id, content);
    let evidence = Evidence {
        seq: 0,
        id: received.id,
        channel: door.channel.name.to_string(),
        key_id: key.id(),
        received_at: received.at_ms as i64,
        headers: seal("headers", &headers(&received)),
        body: seal("body", &received.body),
    };
    let channel = door.channel.clone();
    Ok(Sealed { channel, event, evidence, key, room })
}

/// The headers as they came, one a line.
pub fn headers(received: &Received) -> Vec<u8> {
    let mut lines = Vec::with_capacity(512);
    for (name, value) in &received.headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}
