//! What the writer does with endpoints: their changes, how they fare, and what is sent to them again.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{Health, Redelivery};
use crate::book::PostingBuilder;
use crate::book::endpoints::LiveEndpoints;
use crate::deliver::parcel::To;
use crate::endpoints::ENDPOINTS_MAX;
use crate::endpoints::change::{Changed, EndpointChange, What};
use crate::endpoints::filter::ORDER_CREATED;
use crate::endpoints::settings::Settings;
use crate::keys::Ring;
use crate::rows::{Delivery, Endpoint, Outgoing};
use crate::store::{Store, StoreError};
use crate::stored_enum::EventState;

/// Changes a merchant's endpoints.
pub(super) fn change(
    change: &EndpointChange,
    live: &mut LiveEndpoints,
    ring: &Ring,
    scribe: &mut PostingBuilder<'_>,
) -> Changed {
    let (id, patch) = match &change.what {
        What::Create(settings, events, paused) => {
            if live.count(&change.merchant) >= ENDPOINTS_MAX {
                return Changed::Many;
            }
            let endpoint = create(change.merchant.clone(), (settings, events, *paused), ring, scribe);
            live.put(endpoint.clone());
            return Changed::Done(Box::new(endpoint), settings.clone());
        }
        What::Patch(id, patch) => (*id, Some(patch)),
        What::Delete(id) => (*id, None),
    };
    let Some(mut endpoint) = live.get(id).filter(|endpoint| endpoint.merchant == change.merchant).cloned() else {
        return Changed::Unknown;
    };
    let settings = ring.unseal_settings(id, &endpoint.settings).and_then(|bytes| Settings::from_bytes(&bytes));
    let Some(mut settings) = settings else { return Changed::Unreadable };
    match patch {
        Some(patch) => {
            patch.apply(&mut endpoint, &mut settings);
            endpoint.settings = ring.seal_settings(id, &settings.to_bytes());
        }
        None => endpoint.deleted_at = Some(scribe.now()),
    }
    scribe.update(&endpoint);
    live.put(endpoint.clone());
    Changed::Done(Box::new(endpoint), Box::new(settings))
}

fn create(
    merchant: String,
    (settings, events, paused): (&Settings, &str, bool),
    ring: &Ring,
    scribe: &mut PostingBuilder<'_>,
) -> Endpoint {
    let (seq, id) = scribe.name();
    let endpoint = Endpoint {
        seq,
        id,
        merchant,
        created_at: scribe.now(),
        events: events.to_owned(),
        paused: i64::from(paused),
        settings: ring.seal_settings(id, &settings.to_bytes()),
        failing_since: None,
        deleted_at: None,
    };
    scribe.row(&endpoint);
    endpoint
}

/// Notes since when endpoints fail, and pauses those that answered 410 Gone; returns whether one is paused now. An
/// endpoint that goes on as before costs no write.
pub(super) fn fare(health: &[(Uuid, Health)], live: &mut LiveEndpoints, scribe: &mut PostingBuilder<'_>) -> bool {
    let mut paused = false;
    for (id, health) in health {
        let Some(before) = live.get(*id) else { continue };
        let mut endpoint = before.clone();
        match *health {
            Health::Works => endpoint.failing_since = None,
            Health::Fails(at) | Health::Gone(at) => _ = endpoint.failing_since.get_or_insert(at),
        }
        if matches!(health, Health::Gone(_)) && endpoint.paused == 0 {
            let merchant = &endpoint.merchant;
            log::error!("ledger: merchant {merchant}: endpoint {id} answered 410 Gone and is paused; its events wait");
            (endpoint.paused, paused) = (1, true);
        }
        if endpoint != *before {
            scribe.update(&endpoint);
            live.put(endpoint);
        }
    }
    paused
}

/// Puts events back, with the whole backoff ahead of them; returns their addresses, and how many there are.
pub(super) fn again(
    what: &Redelivery,
    store: &mut dyn Store,
    scribe: &mut PostingBuilder<'_>,
) -> Result<(BTreeSet<To>, usize), StoreError> {
    let (mut again, mut count) = (BTreeSet::new(), 0);
    let next_attempt_at = Some(scribe.wall());
    let (state, round, delivered_at) = (EventState::Pending, 0, None);
    // The configuration's url gets no event that only endpoints take.
    for event in store.events(&what.events)?.into_iter().filter(|event| event.kind != ORDER_CREATED) {
        again.insert(To::Merchant(event.merchant.clone()));
        scribe.update(&Outgoing { state, round, next_attempt_at, delivered_at, ..event });
        count += 1;
    }
    for delivery in store.deliveries(&what.deliveries)? {
        again.insert(To::Endpoint(delivery.endpoint_id));
        scribe.update(&Delivery { state, round, next_attempt_at, delivered_at, ..delivery });
        count += 1;
    }
    Ok((again, count))
}
