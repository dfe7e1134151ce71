//! What a change does to the ledger: its own keys, its channels and its merchants.
//!
//! A ledger that comes or goes is told as the one setting `ledger`, beside the channels and merchants that come or go
//! with it. Secrets are compared by what their files hold, and never shown; which of a provider's keys changed is told
//! by the key's name.

use super::{Changes, changes, differing};
use crate::config::model::Config;
use crate::config::model::ledger::{Channel, Hmac, Ledger, Merchant, Provider, Store};
use crate::secret::Secret;

/// The keys of `[ledger]` itself that changed.
pub(super) fn settings(old: &Config, new: &Config) -> Vec<&'static str> {
    let (Some(old), Some(new)) = (&old.ledger, &new.ledger) else {
        return differing([("ledger", old.ledger.is_some() != new.ledger.is_some())]);
    };
    differing([
        ("ledger.address", old.address != new.address),
        ("ledger.embedded", old.embedded != new.embedded),
        ("ledger.store", place(&old.store) != place(&new.store)),
        ("ledger.store_password_file", password(&old.store) != password(&new.store)),
        ("ledger.encryption_key_files", old.encryption_keys != new.encryption_keys),
        ("ledger.token_file", old.token != new.token),
        ("ledger.batch_max", old.batch_max != new.batch_max),
        ("ledger.delivery_backoff", old.delivery_backoff != new.delivery_backoff),
        ("ledger.delivery_timeout", old.delivery_timeout != new.delivery_timeout),
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
        let mut keys = provider_keys(&old.provider, &new.provider);
        keys.extend(differing([
            ("merchant", old.merchant != new.merchant),
            ("require_order", old.require_order != new.require_order),
            ("fee", old.fee != new.fee),
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
        differing([
            ("url", old.url != new.url),
            ("secret_file", old.secret != new.secret),
            ("token_file", old.token != new.token),
            ("allow_private", old.allow_private != new.allow_private),
        ])
    })
}

fn provider_keys(old: &Provider, new: &Provider) -> Vec<&'static str> {
    match (old, new) {
        (Provider::Stripe { secrets: secret, account: old }, Provider::Stripe { secrets, account }) => {
            differing([("secret_files", secret != secrets), ("account", old != account)])
        }
        (
            Provider::Alipay { app_id: app, seller_id: seller, public_keys: keys },
            Provider::Alipay { app_id, seller_id, public_keys },
        ) => differing([
            ("app_id", app != app_id),
            ("seller_id", seller != seller_id),
            ("public_key_files", keys != public_keys),
        ]),
        (
            Provider::WechatPay { mchid: account, api_v3_key: key, platform_keys: keys },
            Provider::WechatPay { mchid, api_v3_key, platform_keys },
        ) => differing([
            ("mchid", account != mchid),
            ("api_v3_key_file", key != api_v3_key),
            ("platform_keys", keys != platform_keys),
        ]),
        (
            Provider::StandardWebhooks { secrets: secret, public_keys: public },
            Provider::StandardWebhooks { secrets, public_keys },
        ) => differing([("secret_files", secret != secrets), ("public_key_files", public != public_keys)]),
        (Provider::Hmac(old), Provider::Hmac(new)) => hmac_keys(old, new),
        _ => vec!["provider"],
    }
}

fn hmac_keys(old: &Hmac, new: &Hmac) -> Vec<&'static str> {
    let (was, is) = (&old.fields, &new.fields);
    differing([
        ("secret_files", old.secrets != new.secrets),
        ("header", old.header != new.header),
        ("encoding", old.encoding != new.encoding),
        ("format", old.format != new.format),
        ("prefix", old.prefix != new.prefix),
        ("id_field", was.id != is.id),
        ("order_field", was.order != is.order),
        ("amount_field", was.amount != is.amount),
        ("amount_unit", was.major != is.major),
        ("currency_field", was.currency != is.currency),
        ("kind_field", was.kind != is.kind),
    ])
}
