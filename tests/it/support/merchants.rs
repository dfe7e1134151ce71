//! Two merchants that hear of payments: one backend, a path and a secret for each.
//!
//! An event counts once it is signed as Standard Webhooks says, and only the first hearing of an id has a place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::origin::{Act, Origin, Seen};
use super::providers::{mac, secret, standard_key};

/// Their names.
pub const MERCHANTS: [&str; 2] = ["shop", "stall"];

/// An event as it was first heard.
#[derive(Clone, Debug)]
pub struct Heard {
    pub merchant: String,
    pub kind: String,
    /// The transaction it tells of.
    pub data: Value,
    /// The whole body: another hearing must have the same.
    body: Vec<u8>,
    pub times: usize,
    /// Its place among first hearings.
    pub place: usize,
}

/// The merchants.
pub struct Merchants {
    origin: Origin,
    /// Theirs, in the order of [`MERCHANTS`].
    pub secrets: [String; 2],
    heard: Arc<Mutex<HashMap<String, Heard>>>,
    wrong: Arc<Mutex<Vec<String>>>,
    deaf: Arc<AtomicBool>,
}

impl Merchants {
    /// They hear.
    pub fn start() -> Merchants {
        let (origin, secrets) = (Origin::start("merchants"), [secret(), secret()]);
        origin.forget();
        let (heard, wrong, deaf) = (Arc::default(), Arc::default(), Arc::default());
        let merchants = Merchants { origin, secrets: secrets.clone(), heard, wrong, deaf };
        let (heard, wrong, deaf) = (merchants.heard.clone(), merchants.wrong.clone(), merchants.deaf.clone());
        merchants.origin.script(move |seen| {
            if deaf.load(SeqCst) {
                return Act::hang();
            }
            match hear(seen, &secrets, &heard) {
                Ok(()) => Act::ok(),
                Err(why) => {
                    wrong.lock().unwrap().push(why);
                    Act::status(400)
                }
            }
        });
        merchants
    }

    /// Where they are.
    pub fn address(&self) -> String {
        self.origin.address()
    }

    /// They take requests and answer nothing, or do again.
    pub fn deaf(&self, are: bool) {
        self.deaf.store(are, SeqCst);
    }

    /// What was heard so far, by event.
    pub fn heard(&self) -> HashMap<String, Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// What was not as it must be.
    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }
}

fn hear(seen: &Seen, secrets: &[String; 2], heard: &Mutex<HashMap<String, Heard>>) -> Result<(), String> {
    let at = MERCHANTS.iter().position(|name| seen.path == format!("/{name}")).ok_or("another path")?;
    let header = |name: &str| seen.header(name).ok_or(format!("no {name}"));
    let (id, time) = (header("webhook-id")?, header("webhook-timestamp")?);
    let text = [format!("{id}.{time}.").as_bytes(), &seen.body].concat();
    let signature = format!("v1,{}", BASE64_STANDARD.encode(mac(&standard_key(&secrets[at]), &text)));
    if !header("webhook-signature")?.split(' ').any(|one| one == signature) {
        return Err(format!("{id} is not signed by its merchant's secret"));
    }
    let body: Value = serde_json::from_slice(&seen.body).map_err(|e| format!("{id}: {e}"))?;
    let mut heard = heard.lock().unwrap();
    let place = heard.len();
    let entry = heard.entry(id.to_owned()).or_insert_with(|| Heard {
        merchant: MERCHANTS[at].to_owned(),
        kind: body["type"].as_str().unwrap_or_default().to_owned(),
        data: body["data"].clone(),
        body: seen.body.clone(),
        times: 0,
        place,
    });
    entry.times += 1;
    if entry.body == seen.body { Ok(()) } else { Err(format!("{id} was told in two ways")) }
}
