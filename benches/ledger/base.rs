//! The base: verify, normalise, encrypt and insert the same rows in batches of 64, in one thread.
//!
//! It is the least that a ledger with this security and these rows could cost; there is no HTTP in it, no decision, no
//! chain and no delivery. Each step runs over all callbacks before the next begins: caches favour the base. Repetitions
//! are verified and encrypted as in the ledger, which only then can know them, and are not inserted.

use std::path::Path;
use std::sync::Arc;

use base::clock;
use base::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue};
use ledger::channel::Prepared;
use ledger::keys::Ring;
use providers::receive::Received;
use providers::verify::VerifiedMessage;
use serde_json::json;

use super::corpus::{Keys, Message, REPEATS};
use super::{cpu_ns, rows, unnest};

/// Callbacks in a transaction.
pub const BATCH: usize = 64;

/// Measures it, and prints nanoseconds of each step.
pub fn run(secrets: &Path, file: &Path, store: &str, callbacks: usize) -> Result<(), String> {
    let keys = Keys::read(secrets)?;
    let doors: Vec<Prepared> = keys.channels().into_iter().map(Prepared::new).collect();
    let came = keys.sign_all(0, callbacks, received);
    let bytes: usize = came.iter().map(|(_, came)| came.body.len()).sum();

    let began = cpu_ns()?;
    let mut verified: Vec<VerifiedMessage> = Vec::with_capacity(callbacks);
    for (provider, came) in came {
        let now = clock::wall_ms();
        verified.push(doors[provider].verify(came, now).map_err(|refusal| format!("refused: {refusal:?}"))?);
    }
    let verify = (cpu_ns()? - began) as f64 / callbacks as f64;

    let now = clock::wall_ms();
    let (ring, _) = Ring::open(&[Secret(Arc::from([7; 32]))], &[], now).map_err(|e| e.to_string())?;
    let began = cpu_ns()?;
    let mut sealed = 0;
    for verified in verified {
        sealed += encrypt(&ring, verified, now)?;
    }
    let encrypt = (cpu_ns()? - began) as f64 / callbacks as f64;

    let all = rows::read(file)?;
    let written = match store.strip_prefix("sqlite:") {
        Some(path) => rows::insert(Path::new(path), &all)?,
        None => unnest::insert(store, &all)?,
    };
    let fresh = (REPEATS - 1) as f64 / REPEATS as f64;
    let insert = written as f64 / all.callbacks.len() as f64 * fresh;
    let answer = json!({"verify_us": verify / 1000.0, "encrypt_us": encrypt / 1000.0, "insert_us": insert / 1000.0,
        "base_us": (verify + encrypt + insert) / 1000.0, "callbacks": callbacks, "inserted": all.callbacks.len(),
        "rows_per_callback": all.rows() as f64 / all.callbacks.len() as f64,
        "body_bytes": bytes / callbacks.max(1), "sealed_bytes": sealed / callbacks.max(1)});
    println!("{answer}");
    Ok(())
}

fn received(message: Message) -> (usize, Received) {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("127.0.0.1"));
    for (name, value) in message.headers {
        let value = HeaderValue::from_str(&value).expect("a header's value");
        headers.insert(HeaderName::from_static(name), value);
    }
    headers.insert("content-length", HeaderValue::from(message.body.len()));
    (message.provider, Received::new(headers, message.body.into(), clock::wall_ms()))
}

fn encrypt(ring: &Ring, verified: VerifiedMessage, now: u64) -> Result<usize, String> {
    let (received, _event) = verified.into_parts();
    let key = ring.today(now).map_err(|e| e.to_string())?;
    let mut lines = Vec::with_capacity(512);
    for (name, value) in &received.headers {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    let headers = key.seal("evidence", "headers", received.id, &lines);
    let body = key.seal("evidence", "body", received.id, &received.body);
    Ok(std::hint::black_box(headers).len() + std::hint::black_box(body).len())
}
