//! The form of `[ledger.channel.NAME]`: the keys of every channel, and beside them those of the providers.
//!
//! The providers declare their keys ([`providers`]); the schema has each once, whichever providers have it. `check`
//! requires the keys of the channel's own provider and refuses those of another, since it can name both.

use std::fmt;
use std::time::Duration;

use providers::configured::{ConfigKey, Need, Shape, TextError, TextKind, word};
use providers::{ALL, Provider};
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, Visitor};
use serde_json::{Map, Value, json};

use super::super::Sub;
use super::super::located::{Located, Table};
use super::super::scalar::{FilePath, FromText, Name, Word, not_a, shown};
use super::fee::FeeForm;
use crate::findings::suggest;
use crate::source_map::Span;

/// Where callbacks come from: one account at a payment provider.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(transform = with_provider_keys)]
pub struct ChannelForm {
    /// The payment provider, or "hmac" for any sender that signs the raw body.
    #[schemars(required)]
    pub provider: Option<Word<ProviderName>>,
    /// Name of the merchant to whom the money is owed.
    #[schemars(required)]
    pub merchant: Option<Word<Name>>,
    /// Whether a payment that no order names is parked until one does.
    #[schemars(extend("default" = false))]
    pub require_order: Option<bool>,
    /// What the merchant is charged. Absent: nothing.
    pub fee: Sub<FeeForm>,
    /// With api_url: times after its creation at which the provider is asked about a pending order or refund. After the
    /// last one a refund is asked about each time it has passed again, until it is decided. Absent: 1m, 5m, 30m, 2h, 12h.
    pub query_after: Option<Located<Vec<Word<Duration>>>>,
    /// The keys of providers, in the order of their declarations; `decode` reads them.
    #[serde(skip)]
    pub keys: Vec<ProviderKey>,
}

impl ChannelForm {
    /// What was written for a key.
    pub fn key(&self, name: &str) -> Option<&ProviderKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// A key of a provider, as written.
#[derive(Debug)]
pub struct ProviderKey {
    /// Its name.
    pub name: &'static str,
    /// The place of its value.
    pub span: Span,
    /// The value.
    pub value: Written,
}

/// The value of a provider's key, by its [`Shape`].
#[derive(Debug)]
pub enum Written {
    /// A text.
    Text(String),
    /// A file, or several.
    Files(Vec<Word<FilePath>>),
    /// Files by serial.
    Serials(Vec<Located<Table<SerialForm>>>),
}

/// A key of the provider, and the serial that its callbacks name it by.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SerialForm {
    /// Serial of the certificate, or id of the public key.
    #[schemars(required)]
    pub serial: Option<Word<Account>>,
    /// PEM file with the certificate or the public key.
    #[schemars(required)]
    pub file: Option<Word<FilePath>>,
}

/// `provider`
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProviderName(pub &'static Provider);

impl FromText for ProviderName {
    const WHAT: &'static str = "a provider";
    const EXAMPLE: &'static str = "\"stripe\"";
    fn schema() -> Schema {
        json_schema!({ "enum": names() })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        Provider::named(text)
            .map(ProviderName)
            .ok_or_else(|| format!("`{}` is not {}\n{}", shown(text), Self::WHAT, suggest(text, &names(), "allowed")))
    }
}

fn names() -> Vec<&'static str> {
    ALL.iter().map(|provider| provider.name).collect()
}

/// The id of a key at a provider: one word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account(pub String);

impl FromText for Account {
    const WHAT: &'static str = "an account";
    const EXAMPLE: &'static str = "\"2021000000000000\": one word, as the provider gave it";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        word(text).map(Account).map_err(|_| not_a::<Self>(text))
    }
}

/// Adds the providers' keys to the schema of a channel.
fn with_provider_keys(schema: &mut Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for key in ConfigKey::all() {
        properties.insert(key.name.to_owned(), Value::Object(key_schema(key)));
    }
}

fn key_schema(key: &ConfigKey) -> Map<String, Value> {
    let mut schema = match &key.shape {
        Shape::Text(TextKind::OneOf { words, .. }) => json!({ "type": "string", "enum": words }),
        Shape::Text(TextKind::Any { read, .. }) => {
            json!({ "type": "string", "minLength": usize::from(read("").is_err()) })
        }
        Shape::File(_) => json!({ "type": "string", "minLength": 1 }),
        Shape::Files(_) => json!({ "type": "array", "items": { "type": "string", "minLength": 1 } }),
        Shape::Serials(_) => {
            let entry = schemars::generate::SchemaSettings::draft2020_12().with(|it| it.inline_subschemas = true);
            let mut entry = entry.into_generator().into_root_schema_for::<SerialForm>();
            for word in ["$schema", "title"] {
                entry.remove(word);
            }
            json!({ "type": "array", "items": entry })
        }
    };
    let owners: Vec<_> = ConfigKey::owners(key.name).collect();
    if let [only] = &owners[..] {
        schema["x-with"] = json!(["provider", only.name]);
        schema["description"] = json!(key.about);
        if let Need::Default(default) = key.need {
            schema["default"] = json!(default);
        }
    } else if owners.iter().filter_map(|owner| owner.key(key.name)).all(|same| same.about == key.about) {
        let names: Vec<String> = owners.iter().map(|owner| format!("\"{}\"", owner.name)).collect();
        schema["description"] = json!(format!("With `provider` {}: {}", names.join(", "), key.about));
    } else {
        let each = owners.iter().filter_map(|owner| Some((owner.name, owner.key(key.name)?.about)));
        let each: Vec<String> = each.map(|(name, about)| format!("With `provider = \"{name}\"`: {about}")).collect();
        schema["description"] = json!(each.join(" "));
    }
    if let Value::Object(schema) = schema { schema } else { Map::new() }
}

/// Reads a text of a kind that is known only while reading.
pub struct TextOf<'k>(pub &'k TextKind);

impl<'de> DeserializeSeed<'de> for TextOf<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for TextOf<'_> {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            TextKind::OneOf { what, words } => write!(f, "{what}, such as \"{}\"", words.first().unwrap_or(&"")),
            TextKind::Any { what, example, .. } => write!(f, "{what}, such as {example}"),
        }
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        let (what, hint) = match self.0 {
            TextKind::OneOf { words, .. } if words.contains(&text) => return Ok(text.to_owned()),
            TextKind::OneOf { what, words } => (what, suggest(text, words, "allowed")),
            TextKind::Any { what, example, read } => match read(text) {
                Ok(text) => return Ok(text),
                Err(TextError::Other) => (what, format!("such as {example}")),
                Err(TextError::Own(message, hint)) => {
                    return Err(E::custom(format!("{}\n{hint}", message.replace("{}", &shown(text)))));
                }
            },
        };
        Err(E::custom(format!("`{}` is not {what}\n{hint}", shown(text))))
    }
}
