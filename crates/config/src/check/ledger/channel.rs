//! The checks of `[ledger.channel.NAME]`: a provider with all of its own keys, and none of another's.
//!
//! What a provider's keys are, and what their values may be, it declares itself ([`providers`]). A key that belongs to
//! another provider is refused even where it would do no harm: its author expects an effect. Of files with one serial
//! the later one gets the finding; serials are compared without case.

use std::sync::Arc;
use std::time::Duration;

use providers::Provider;
use providers::api::API_URL;
use providers::configured::{ConfigKey, Configured, FileKind, KeyValue, Need, Shape, Values};

use super::super::{Check, number, twice, word};
use crate::file::ledger::channel::{ChannelForm, ProviderKey, SerialForm, Written};
use crate::file::ledger::fee;
use crate::file::located::{Located, Table};
use crate::file::scalar::{FilePath, Name, Word};
use crate::file::{ConfigForm, Item};
use crate::findings::suggest;
use crate::model::ledger::{Channel, Fee};
use base::secret::Secret;

/// The seconds of `query_after`, where nothing else is written.
const QUERY_AFTER: [u64; 5] = [60, 300, 1_800, 7_200, 43_200];

impl Check<'_, '_> {
    pub(super) fn channels(&mut self, form: &ConfigForm) -> Vec<Channel> {
        let mut merchants: Vec<&str> = form.merchants.iter().map(|item| &*item.name).collect();
        merchants.sort_unstable();
        form.channels.iter().filter_map(|item| self.channel(item, &merchants, form.whole)).collect()
    }

    fn channel(&mut self, item: &Item<ChannelForm>, merchants: &[&str], all: bool) -> Option<Channel> {
        self.ledger_name("channel", item);
        let form = &item.form;
        match &form.merchant {
            None => self.missing(item.whole, &item.span, "merchant", "merchant = \"name\""),
            Some(at) if all && merchants.binary_search(&&*at.value.0.0).is_err() => self.no_merchant(at, merchants),
            Some(_) => {}
        }
        let Some(provider) = form.provider.as_ref().map(|at| at.value.0.0) else {
            self.missing(item.whole, &item.span, "provider", "provider = \"stripe\"");
            return None;
        };
        self.foreign_keys(form, provider);
        let values = self.key_values(item, provider);
        let query_after = self.calls(item, provider)?;
        Some(Channel {
            name: Arc::from(&*item.name),
            provider: Configured { provider, values: values? },
            merchant: Arc::from(&*form.merchant.as_ref()?.value.0.0),
            require_order: form.require_order.unwrap_or_default(),
            fee: form.fee.as_ref().and_then(|at| charged(&at.value.0)),
            query_after,
        })
    }

    /// What is needed to call the provider: all of it, or nothing.
    fn calls(&mut self, item: &Item<ChannelForm>, provider: &Provider) -> Option<Vec<Duration>> {
        let form = &item.form;
        let needs = provider.outgoing.as_ref().map(|outgoing| outgoing.needs).unwrap_or_default();
        let is_called = form.key(API_URL.name).is_some();
        let mut lacks = false;
        for key in needs {
            match form.key(key.name) {
                None if is_called => {
                    lacks = true;
                    let hint = format!("add it, or take `api_url` out: then {} is never called", provider.name);
                    let message = format!("`{}` is missing: `api_url` cannot be called without it", key.name);
                    if item.whole {
                        self.findings.at(&item.span, message, hint);
                    }
                }
                Some(written) if !is_called && item.whole => {
                    let message = format!("`{}` does nothing without `api_url`", key.name);
                    self.findings.at(&written.span, message, "add api_url, or remove it");
                }
                _ => {}
            }
        }
        let Some(written) = form.query_after.as_ref() else {
            return (!lacks).then(|| QUERY_AFTER.map(Duration::from_secs).to_vec());
        };
        if !is_called && item.whole {
            let hint = "add api_url and the keys that go with it, or remove `query_after`";
            self.findings.at(&written.span, "`query_after` does nothing without `api_url`", hint);
        }
        if written.value.is_empty() && item.whole {
            let hint = "name at least one time, such as [\"1m\", \"5m\", \"30m\"]";
            self.findings.at(&written.span, "`query_after` is empty", hint);
        }
        let mut times: Vec<Duration> = written.value.iter().map(|at| self.longer_than_nothing(at)).collect();
        times.sort();
        (!lacks).then_some(times)
    }

    fn no_merchant(&mut self, at: &Word<Name>, merchants: &[&str]) {
        let wanted = &at.value.0.0;
        let hint = match merchants {
            [] => format!("add it: [ledger.merchant.{wanted}] url = \"https://shop.example.com/payments\""),
            known => suggest(wanted, known, "merchants"),
        };
        self.findings.at(&at.span, format!("there is no merchant `{wanted}`"), hint);
    }

    /// Refuses every key that is not one of this provider's.
    fn foreign_keys(&mut self, form: &ChannelForm, provider: &Provider) {
        for key in form.keys.iter().filter(|key| provider.key(key.name).is_none()) {
            let owners: Vec<String> = ConfigKey::owners(key.name).map(|owner| format!("{}'s", owner.name)).collect();
            let message = format!("`{}` is {}", key.name, owners.join(" and "));
            let hint = format!("remove it: {} has {}", provider.name, own_keys(provider));
            self.findings.at(&key.span, message, hint);
        }
    }

    /// The values of the provider's keys; `None` where it lacks one, or one could not be read.
    fn key_values(&mut self, item: &Item<ChannelForm>, provider: &'static Provider) -> Option<Values> {
        let mut values = Some(Values::default());
        for key in provider.keys {
            let value = match (item.form.key(key.name), key.need) {
                (Some(written), _) => self.key_value(item, key, written),
                (None, Need::Required(example)) => {
                    self.missing(item.whole, &item.span, key.name, &example.replace("{}", &item.name));
                    None
                }
                (None, Need::Optional | Need::Default(_)) => continue,
            };
            values = values.zip(value).map(|(values, value)| values.with(key, value));
        }
        let Some(either) = &provider.either else { return values };
        let has_file = |key: &ProviderKey| matches!(&key.value, Written::Files(files) if !files.is_empty());
        if either.keys.iter().any(|name| item.form.key(name).is_some_and(has_file)) {
            return values;
        }
        if item.whole {
            self.findings.at(&item.span, either.message, either.hint);
        }
        None
    }

    fn key_value(&mut self, item: &Item<ChannelForm>, key: &ConfigKey, written: &ProviderKey) -> Option<KeyValue> {
        match (&key.shape, &written.value) {
            (Shape::Text(_), Written::Text(text)) => Some(KeyValue::Text(text.clone())),
            (Shape::File(kind) | Shape::Files(kind), Written::Files(files)) => {
                if let (true, true, Need::Required(_)) = (files.is_empty(), item.whole, key.need) {
                    self.findings.at(&written.span, format!("`{}` is empty", key.name), "name at least one file");
                }
                // Every file is read, so that every finding is made.
                let read: Vec<_> = files.iter().map(|file| self.key_file(kind, file)).collect();
                read.into_iter().collect::<Option<_>>().map(KeyValue::Files)
            }
            (Shape::Serials(kind), Written::Serials(serials)) => self.serials(item, (key, kind), written, serials),
            // `decode` reads it by the same declaration, so this is never seen.
            _ => {
                self.findings.at(
                    &written.span,
                    format!("`{}` is of another shape", key.name),
                    "see conf/reference.toml",
                );
                None
            }
        }
    }

    /// What is in a file with a key.
    pub(super) fn key_file(&mut self, kind: &FileKind, file: &Word<FilePath>) -> Option<Secret> {
        let bytes = self.file(file, kind.max)?;
        match (kind.read)(&bytes) {
            Ok(key) => Some(Secret(key.into())),
            Err(error) => {
                self.findings.at(&file.span, error.message, error.hint);
                None
            }
        }
    }

    fn serials(
        &mut self,
        item: &Item<ChannelForm>,
        (key, kind): (&ConfigKey, &FileKind),
        written: &ProviderKey,
        serials: &[Located<Table<SerialForm>>],
    ) -> Option<KeyValue> {
        if serials.is_empty() && item.whole {
            let example = if let Need::Required(example) = key.need { example } else { key.name };
            let hint = format!("name at least one: {}", example.replace("{}", &item.name));
            self.findings.at(&written.span, format!("`{}` is empty", key.name), hint);
        }
        let names = serials.iter().filter_map(|entry| entry.value.0.serial.as_ref());
        for (again, first) in twice(names.map(|at| (at.value.0.0.to_ascii_lowercase(), &at.span))) {
            self.collision(again, "this serial is there twice", first);
        }
        let read: Vec<_> = serials.iter().map(|entry| self.serial(kind, entry, item.whole)).collect();
        read.into_iter().collect::<Option<_>>().map(KeyValue::Serials)
    }

    fn serial(&mut self, kind: &FileKind, entry: &Located<Table<SerialForm>>, whole: bool) -> Option<(String, Secret)> {
        let form = &entry.value.0;
        if form.serial.is_none() {
            self.missing(whole, &entry.span, "serial", "serial = \"5157F09EFDC096DE15EBE81A47057A72\"");
        }
        if form.file.is_none() {
            self.missing(whole, &entry.span, "file", "file = \"secrets/platform.pem\"");
        }
        let key = form.file.as_ref().and_then(|file| self.key_file(kind, file));
        Some((form.serial.as_ref()?.value.0.0.clone(), key?))
    }
}

/// The names of its keys, as a list in a sentence.
fn own_keys(provider: &Provider) -> String {
    let names: Vec<&str> = provider.keys.iter().map(|key| key.name).collect();
    match &names[..] {
        [] => "no keys of its own".to_owned(),
        [only] => (*only).to_owned(),
        [others @ .., last] => format!("{} and {last}", others.join(", ")),
    }
}

/// A fee of zero is no fee at all.
fn charged(form: &fee::FeeForm) -> Option<Fee> {
    let fee = Fee {
        percent: form.percent.as_ref().map_or(rust_decimal::Decimal::ZERO, |at| at.value.0),
        fixed_minor: number(&form.fixed_minor) as i64,
        minimum_minor: number(&form.minimum_minor) as i64,
        rounding: word(&form.rounding),
    };
    (!fee.percent.is_zero() || fee.fixed_minor > 0 || fee.minimum_minor > 0).then_some(fee)
}
