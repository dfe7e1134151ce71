//! The addresses that events are sent to, of the configuration and of the books.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use super::parcel::To;
use super::scheduler::Bounds;
use crate::endpoints;
use crate::endpoints::settings::Settings;
use crate::endpoints::template::Template;
use crate::rows::{Endpoint, Outgoing};
use config::model::ledger::{Ledger, Merchant};
use http_client::webhook::{self, Answer, Sender};

/// An address, ready to be sent to.
#[derive(Debug)]
pub struct Address {
    /// Its bounds.
    pub bounds: Bounds,
    receiver: webhook::Endpoint,
    template: Option<Template>,
}

/// The id of an address, as attempts name it.
pub fn id(to: &To) -> Uuid {
    match to {
        To::Merchant(name) => endpoints::configured(name),
        To::Endpoint(id) => *id,
    }
}

/// All addresses. Endpoints of a merchant that is no longer configured get nothing, and their events wait.
pub fn all(config: &Ledger, endpoints: &[(Endpoint, Settings)]) -> HashMap<To, Arc<Address>> {
    let configured = config.merchants.iter().map(|merchant| {
        let Merchant { url, secret, allow_private, .. } = merchant;
        let receiver = webhook::Endpoint::new(url, Some(&secret.0), *allow_private, config.delivery_timeout);
        let address = Address { bounds: Bounds::default(), receiver, template: None };
        (To::Merchant(merchant.name.to_string()), Arc::new(address))
    });
    let merchants: HashMap<&str, &Merchant> =
        config.merchants.iter().map(|merchant| (&*merchant.name, merchant)).collect();
    let stored = endpoints.iter().filter_map(|(endpoint, settings)| {
        let merchant = merchants.get(endpoint.merchant.as_str())?;
        Some((To::Endpoint(endpoint.id), Arc::new(stored(endpoint, settings, merchant, config))))
    });
    configured.chain(stored).collect()
}

fn stored(endpoint: &Endpoint, settings: &Settings, merchant: &Merchant, config: &Ledger) -> Address {
    let key = settings.key();
    let receiver = webhook::Endpoint::new(&settings.url, Some(&key), merchant.allow_private, config.delivery_timeout);
    let template = settings.template.as_deref().and_then(|text| Template::parse(text).ok());
    // A template that an older build took and this one does not: nothing of another shape may go out.
    let paused = endpoint.paused != 0 || template.is_some() != settings.template.is_some();
    Address {
        bounds: Bounds { rate: settings.rate, concurrency: settings.concurrency, paused },
        receiver: receiver.with_headers(settings.header_map()),
        template,
    }
}

impl Address {
    /// Sends an event once; also returns the beginning of the answer's body.
    pub async fn send(&self, client: &Sender, event: &Outgoing) -> (Answer, Vec<u8>) {
        let id = event.id.hyphenated().to_string();
        let body = match &self.template {
            Some(template) => template.fill(&id, &event.body),
            None => event.body.clone(),
        };
        client.exchange(&self.receiver, Some(&id), body).await
    }
}
