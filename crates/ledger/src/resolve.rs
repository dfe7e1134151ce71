//! The resolution of an anomaly: a person has looked, and what was kept without an entry is booked if it can be now.
//!
//! Nothing is edited. A resolution is a row of its own in the chain: encrypted evidence of who decided what and why.
//! Its id follows from the anomaly's, so there is at most one, and a verification finds it: an anomaly that is resolved
//! without one was changed by hand.
//!
//! Accepted messages are read anew from their evidence, by the channel as it is configured now: signature, window (at
//! the time of receipt) and meaning. So only verified messages are booked, and only once the cause is fixed.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use ring::digest;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::keys::{DataKey, KeyError, Ring};
use super::rows::{Anomaly, Evidence};
use crate::channel::Prepared;
use crate::outcalls;
use base::clock;
use config::model::ledger::{Channel, Ledger};
use providers::api::{Answer, Call, Meaning, Trouble};
use providers::event::ProviderEvent;
use providers::receive::Received;
use providers::verify::VerifyError;

/// The most bytes of a note.
pub const NOTE_MAX: usize = 4_096;

/// The decision about an anomaly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Books what was kept without an entry.
    Accept,
    /// Books nothing: a person has looked.
    Dismiss,
}

/// A decision about an anomaly, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// What to do.
    pub action: Action,
    /// The reason; stored encrypted.
    #[serde(default)]
    pub note: String,
}

/// A decision, ready to be written.
#[derive(Debug)]
pub struct Resolution {
    /// The anomaly that it resolves.
    pub anomaly: Uuid,
    /// The decision, encrypted; `seq` is 0 until it is written.
    pub proof: Evidence,
    /// The key that encrypts it.
    pub key: Arc<DataKey>,
    /// The message to book, if it was accepted.
    pub accepted: Option<Reread>,
}

/// A message that was received earlier, as it is read now.
#[derive(Debug)]
pub struct Reread {
    /// The channel that received it, as it is configured now.
    pub channel: Arc<Channel>,
    /// The meaning of the message now.
    pub event: ProviderEvent,
    /// The evidence that was read, without headers and body.
    pub evidence: Evidence,
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// The anomaly is resolved now.
    Done(Box<Anomaly>),
    /// The anomaly was resolved before.
    Before(Box<Anomaly>),
    /// There is no such anomaly.
    Unknown,
    /// It cannot be accepted, for this reason.
    Refused(String),
}

/// The id of the row with an anomaly's resolution.
pub fn id_of(anomaly: Uuid) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tollgate resolution of ");
    context.update(anomaly.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// The content of a resolution.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    anomaly_id: String,
    action: Action,
    note: String,
    by: String,
    at: String,
}

/// Encrypts a decision by `by` (`platform`, or a merchant's name).
pub fn proof(
    ring: &Ring,
    anomaly: &Anomaly,
    decision: &Decision,
    by: &str,
    now_ms: u64,
) -> Result<(Evidence, Arc<DataKey>), KeyError> {
    let (id, key) = (id_of(anomaly.id), ring.today(now_ms)?);
    let kept = Kept {
        anomaly_id: anomaly.id.to_string(),
        action: decision.action,
        note: decision.note.clone(),
        by: by.to_owned(),
        at: clock::rfc3339(now_ms),
    };
    // Strings always have a JSON form.
    let body = serde_json::to_vec(&kept).unwrap_or_default();
    let seal = |column: &str, content: &[u8]| key.seal("evidence", column, id, content);
    let (headers, body) = (seal("headers", b""), seal("body", &body));
    let received_at = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let evidence =
        Evidence { seq: 0, id, channel: anomaly.channel.clone(), key_id: key.id(), received_at, headers, body };
    Ok((evidence, key))
}

/// The decision; `None` if its key was erased.
pub fn decided(ring: &Ring, proof: &Evidence) -> Option<Action> {
    let body = ring.unseal(proof.key_id, "evidence", "body", proof.id, &proof.body)?;
    serde_json::from_slice::<Kept>(&body).ok().map(|kept| kept.action)
}

/// Reads a message anew; an error says why it cannot be accepted.
pub fn reread(config: &Ledger, ring: &Ring, evidence: Evidence) -> Result<Reread, String> {
    let channel = config.channels.iter().find(|channel| *channel.name == evidence.channel);
    let Some(channel) = channel.cloned().map(Arc::new) else {
        return Err(format!("The channel {} is not configured any more.", evidence.channel));
    };
    let open = |column: &str, sealed: &[u8]| ring.unseal(evidence.key_id, "evidence", column, evidence.id, sealed);
    let (Some(headers), Some(body)) = (open("headers", &evidence.headers), open("body", &evidence.body)) else {
        return Err(
            "What was received cannot be read: the key of its day was erased, or the day is archived.".to_owned()
        );
    };
    let at_ms = u64::try_from(evidence.received_at).unwrap_or_default();
    let received = Received { id: evidence.id, headers: parsed(&headers), body: body.into(), at_ms };
    if let Some(call) = outcalls::answered(&headers) {
        let event = answered(&channel, &call, received)?;
        return Ok(Reread { channel, event, evidence: Evidence { headers: vec![], body: vec![], ..evidence } });
    }
    match Prepared::new(channel.clone()).verify(received, at_ms) {
        // Headers and body are in the books already; without them the queue stays small.
        Ok(verified) => {
            let evidence = Evidence { headers: vec![], body: vec![], ..evidence };
            Ok(Reread { channel, event: verified.into_parts().1, evidence })
        }
        Err(refusal) => {
            let why = match refusal {
                VerifyError::Forged(why) | VerifyError::Malformed(why) => why,
                VerifyError::Expired { .. } | VerifyError::Probe => "it is outside of its window",
            };
            Err(format!("What was received does not verify by the channel's keys of now: {why}."))
        }
    }
}

/// The meaning now of a provider's answer; its kept headers are its own after the first line.
fn answered(channel: &Channel, call: &Call, received: Received) -> Result<ProviderEvent, String> {
    let api = channel.api().ok_or("It is an answer of the provider, which the channel does not call any more.")?;
    // Only answers of success are kept.
    let answer = Answer { status: 200, received };
    match api.read(call, &answer) {
        Ok(Meaning::Decided(event)) => Ok(*event),
        Ok(_) => Err("What the provider answered decides nothing now.".to_owned()),
        Err(Trouble(why)) => Err(format!("What the provider answered is not usable now: {why}.")),
    }
}

/// Parses kept headers, one a line.
fn parsed(lines: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut rest = lines;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let line = &rest[..at];
        rest = &rest[at + 2..];
        if let Some(colon) = line.windows(2).position(|pair| pair == b": ")
            && let Ok(name) = HeaderName::from_bytes(&line[..colon])
            && let Ok(value) = HeaderValue::from_bytes(&line[colon + 2..])
        {
            headers.append(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_kept() {
        let headers = parsed(b"x-a: 1\r\nx-a: 2: 3\r\nx-b: \r\nx-c: \xff\r\n");
        let all: Vec<&[u8]> = headers.get_all("x-a").iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(all, [&b"1"[..], b"2: 3"]);
        assert_eq!((headers["x-b"].as_bytes(), headers["x-c"].as_bytes()), (&b""[..], &b"\xff"[..]));
        assert_eq!(parsed(b"").len(), 0);
    }

    #[test]
    fn an_anomaly_has_one_resolution() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(id_of(one), id_of(one));
        assert_ne!(id_of(one), id_of(other));
    }
}
