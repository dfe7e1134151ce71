//! The diff of the ledger: its own keys, its channels and its merchants.
//!
//! A ledger that is added or removed appears as the one setting `ledger`, beside the channels and merchants that
//! come or go with it. Secrets are compared by the content of their files, and never shown; the name of a provider's
//! key says which one changed.

use super::{Changes, changes, differing};
use crate::model::Config;
use crate::model::ledger::{Channel, Ledger, Merchant, Store};
use base::secret::Secret;

/// The keys of `[ledger]` itself that changed.
pub(super) fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    let (Some(old), Some(new)) = (&old.ledger, &new.ledger) else {
        return differing([("ledger", old.ledger.is_some() != new.ledger.is_some())]);
    };
    let Ledger {
        address,
        embedded,
        store,
        encryption_keys,
        token,
        batch_max,
        delivery_backoff,
        delivery_timeout,
        channels: _,
        merchants: _,
        state_dir: _,
        place: _,
    } = new;
    differing([
        ("ledger.address", old.address != *address),
        ("ledger.embedded", old.embedded != *embedded),
        ("ledger.store", place(&old.store) != place(store)),
        ("ledger.store_password_file", password(&old.store) != password(store)),
        ("ledger.encryption_key_files", old.encryption_keys != *encryption_keys),
        ("ledger.token_file", old.token != *token),
        ("ledger.batch_max", old.batch_max != *batch_max),
        ("ledger.delivery_backoff", old.delivery_backoff != *delivery_backoff),
        ("ledger.delivery_timeout", old.delivery_timeout != *delivery_timeout),
    ])
}

fn place(store: &Store) -> Store {
    match store {
        Store::Postgres { url, .. } => Store::Postgres { url: url.clone(), password: None },
        Store::Sqlite(path) => Store::Sqlite(path.clone()),
    }
}

fn password(store: &Store) -> Option<&Secret> {
    if let Store::Postgres { password, .. } = store { password.as_ref() } else { None }
}

pub(super) fn channels(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Channel)> {
        let channels = config.ledger.iter().flat_map(|ledger: &Ledger| &ledger.channels);
        channels.map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Channel { name: _, provider, merchant, require_order, fee, query_after } = new;
        let mut keys = provider.changed(&old.provider);
        keys.extend(differing([
            ("merchant", old.merchant != *merchant),
            ("require_order", old.require_order != *require_order),
            ("fee", old.fee != *fee),
            ("query_after", old.query_after != *query_after),
        ]));
        keys
    })
}

pub(super) fn merchants(old: &Config, new: &Config) -> Changes {
    let named = |config: &Config| -> Vec<(String, Merchant)> {
        let merchants = config.ledger.iter().flat_map(|ledger: &Ledger| &ledger.merchants);
        merchants.map(|it| (it.name.to_string(), it.clone())).collect()
    };
    changes(&named(old), &named(new), |old, new| {
        let Merchant { name: _, url, secret, token, allow_private } = new;
        differing([
            ("url", old.url != *url),
            ("secret_file", old.secret != *secret),
            ("token_file", old.token != *token),
            ("allow_private", old.allow_private != *allow_private),
        ])
    })
}
