//! What callers of the API ask the writer to do with endpoints. The writer decides, since a change keeps what it does
//! not name.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::settings::Settings;
use crate::rows::Endpoint;

/// A change of a merchant's endpoints.
#[derive(Debug)]
pub struct EndpointChange {
    /// The merchant.
    pub merchant: String,
    /// What is asked for.
    pub what: What,
}

/// What is asked for.
#[derive(Debug)]
pub enum What {
    /// A new endpoint, with the event types that it takes, and whether its events wait.
    Create(Box<Settings>, String, bool),
    /// New settings of one.
    Patch(Uuid, Box<Patch>),
    /// The end of one.
    Delete(Uuid),
}

/// New settings: what is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patch {
    /// Where events go.
    pub url: Option<String>,
    /// The event types that it takes.
    pub events: Option<String>,
    /// The most events per second, or no bound.
    pub rate: Option<Option<u32>>,
    /// The most attempts under way, or the usual number.
    pub concurrency: Option<Option<u32>>,
    /// Whether its events wait.
    pub paused: Option<bool>,
    /// The secret that signs.
    pub secret: Option<String>,
    /// All further headers.
    pub headers: Option<BTreeMap<String, String>>,
    /// The template, or none.
    pub template: Option<Option<String>>,
}

impl Patch {
    /// Changes an endpoint and its settings. One that is mended counts as new: its failures are forgotten.
    pub fn apply(&self, endpoint: &mut Endpoint, settings: &mut Settings) {
        if self.url.is_some() || self.paused.is_some() {
            endpoint.failing_since = None;
        }
        self.events.iter().for_each(|events| endpoint.events.clone_from(events));
        self.paused.iter().for_each(|paused| endpoint.paused = i64::from(*paused));
        self.url.iter().for_each(|url| settings.url.clone_from(url));
        self.rate.iter().for_each(|rate| settings.rate = *rate);
        self.concurrency.iter().for_each(|attempts| settings.concurrency = *attempts);
        self.secret.iter().for_each(|secret| settings.secret.clone_from(secret));
        self.headers.iter().for_each(|headers| settings.headers.clone_from(headers));
        self.template.iter().for_each(|template| settings.template.clone_from(template));
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq)]
pub enum Changed {
    /// The endpoint as it is now.
    Done(Box<Endpoint>, Box<Settings>),
    /// The merchant has no such endpoint.
    Unknown,
    /// The merchant has as many as it may have.
    Many,
    /// Its settings cannot be decrypted.
    Unreadable,
}
