//! The keys of a channel: what a provider declares ([`ConfigKey`]), and what an operator wrote ([`Values`]).
//!
//! `config` makes the schema and the documents from declarations, reads the files, and hands over values that every
//! declaration has accepted. A secret is only ever bytes, which are compared and never shown.

use std::collections::BTreeMap;

use super::api::{Api, Base};
use super::verify::Verify;
use super::{ALL, Provider};
use base::secret::{self, Secret};

/// A key of `[ledger.channel.NAME]` that belongs to some providers.
#[derive(Debug)]
pub struct ConfigKey {
    /// Its name. Where several providers have a key of one name, it has one kind of [`Shape`], and no default.
    pub name: &'static str,
    /// Its description, for the schema and the documents.
    pub about: &'static str,
    /// What is written.
    pub shape: Shape,
    /// Whether it may be absent.
    pub need: Need,
}

/// What is written as the value of a key.
#[derive(Debug)]
pub enum Shape {
    /// A text.
    Text(TextKind),
    /// A file.
    File(FileKind),
    /// Files, several while keys rotate. An empty list is an absent one.
    Files(FileKind),
    /// A list of `{ serial, file }`; serials are compared without case.
    Serials(FileKind),
}

/// A kind of text; `what` has its article, as in "an account".
#[derive(Clone, Copy, Debug)]
pub enum TextKind {
    /// One of these words.
    OneOf {
        /// What the words are.
        what: &'static str,
        /// At least one.
        words: &'static [&'static str],
    },
    /// A text that `read` takes.
    Any {
        /// What the text is.
        what: &'static str,
        /// An example, quotes included.
        example: &'static str,
        /// Gives the text in its one form, so that two spellings of one value are the same.
        read: fn(&str) -> Result<String, TextError>,
    },
}

/// Why a text is not of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextError {
    /// It is not; the example says what is.
    Other,
    /// A message of its own, in which `{}` is the text, and the way out.
    Own(&'static str, &'static str),
}

/// A kind of file.
#[derive(Clone, Copy, Debug)]
pub struct FileKind {
    /// The most bytes that it may have.
    pub max: u64,
    /// Reads the key from the file's bytes.
    pub read: fn(&[u8]) -> Result<Vec<u8>, FileError>,
}

/// Why a file holds no such key. It never quotes a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub hint: &'static str,
}

impl FileKind {
    /// A secret of one line, which `read` gets without its newline.
    pub const fn line(read: fn(&[u8]) -> Result<Vec<u8>, FileError>) -> FileKind {
        FileKind { max: secret::FILE_MAX, read }
    }
}

impl FileError {
    /// An error with its hint.
    pub fn new(message: impl Into<String>, hint: &'static str) -> FileError {
        FileError { message: message.into(), hint }
    }
}

/// Whether a key may be absent.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// No; the example of a line, in which `{}` is the channel's name.
    Required(&'static str),
    /// Yes.
    Optional,
    /// Yes; its value is then this one.
    Default(&'static str),
}

impl ConfigKey {
    /// The providers that have a key of this name.
    pub fn owners(name: &str) -> impl Iterator<Item = &'static Provider> {
        ALL.into_iter().filter(move |provider| provider.key(name).is_some())
    }

    /// Every key once, by its first provider.
    pub fn all() -> Vec<&'static ConfigKey> {
        let mut all: Vec<&ConfigKey> = vec![];
        for key in ALL.into_iter().flat_map(|provider| provider.keys) {
            if all.iter().all(|known| known.name != key.name) {
                all.push(key);
            }
        }
        all
    }
}

/// The id of an account or key at a provider.
pub const ACCOUNT: TextKind = TextKind::Any {
    what: "an account",
    example: "\"2021000000000000\": one word, as the provider gave it",
    read: word,
};

/// Takes one word of visible ASCII.
pub fn word(text: &str) -> Result<String, TextError> {
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word { Ok(text.to_owned()) } else { Err(TextError::Other) }
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// Of [`Shape::Text`].
    Text(String),
    /// Of [`Shape::File`] and [`Shape::Files`]: what is in them.
    Files(Vec<Secret>),
    /// Of [`Shape::Serials`]: serials as written, and what is in their files.
    Serials(Vec<(String, Secret)>),
}

impl From<&str> for KeyValue {
    fn from(text: &str) -> KeyValue {
        KeyValue::Text(text.to_owned())
    }
}

impl<const N: usize> From<[&[u8]; N]> for KeyValue {
    fn from(files: [&[u8]; N]) -> KeyValue {
        KeyValue::Files(files.map(|file| Secret(file.into())).into())
    }
}

/// The values of a channel, by the names of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values(BTreeMap<&'static str, KeyValue>);

impl Values {
    /// Sets the value of a key; an empty list is as if it were absent.
    pub fn set(&mut self, key: &ConfigKey, value: KeyValue) {
        let is_empty = match &value {
            KeyValue::Text(_) => false,
            KeyValue::Files(files) => files.is_empty(),
            KeyValue::Serials(serials) => serials.is_empty(),
        };
        if !is_empty {
            self.0.insert(key.name, value);
        }
    }

    /// These values and one more.
    pub fn with(mut self, key: &ConfigKey, value: KeyValue) -> Values {
        self.set(key, value);
        self
    }

    /// The text of a key, or its default; `None` where it is absent.
    pub fn text<'v>(&'v self, key: &ConfigKey) -> Option<&'v str> {
        match (self.0.get(key.name), key.need) {
            (Some(KeyValue::Text(text)), _) => Some(text),
            (_, Need::Default(text)) => Some(text),
            _ => None,
        }
    }

    /// Whether a key has a value of its own.
    pub fn has(&self, key: &ConfigKey) -> bool {
        self.0.contains_key(key.name)
    }

    /// What is in the files of a key; none where it is absent.
    pub fn files(&self, key: &ConfigKey) -> &[Secret] {
        if let Some(KeyValue::Files(files)) = self.0.get(key.name) { files } else { &[] }
    }

    /// The serials of a key and what is in their files; none where it is absent.
    pub fn serials(&self, key: &ConfigKey) -> &[(String, Secret)] {
        if let Some(KeyValue::Serials(serials)) = self.0.get(key.name) { serials } else { &[] }
    }
}

/// A provider, and a channel's values of its keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Configured {
    /// The provider.
    pub provider: &'static Provider,
    /// Values that its keys have accepted; none that it requires is absent.
    pub values: Values,
}

impl Configured {
    /// A provider with values of its own keys.
    pub fn new<const N: usize>(provider: &'static Provider, values: [(&ConfigKey, KeyValue); N]) -> Configured {
        let values = values.into_iter().fold(Values::default(), |values, (key, value)| values.with(key, value));
        Configured { provider, values }
    }

    /// Prepares the keys.
    pub fn prepare(&self, names: &Names<'_>) -> Box<dyn Verify> {
        (self.provider.prepare)(&self.values, names)
    }

    /// Prepares what calls the provider; `None` where the channel does not say how.
    pub fn api(&self, names: &Names<'_>) -> Option<Box<dyn Api>> {
        let (outgoing, base) = (self.provider.outgoing.as_ref()?, Base::of(&self.values)?);
        Some((outgoing.prepare)(&self.values, names, base))
    }

    /// The keys of which the values differ; for another provider, `provider` alone.
    pub fn changed(&self, other: &Configured) -> Vec<&'static str> {
        if self.provider != other.provider {
            return vec!["provider"];
        }
        let values = |key: &ConfigKey| (self.values.0.get(key.name), other.values.0.get(key.name));
        let differs = |key: &&ConfigKey| matches!(values(key), (one, other) if one != other);
        self.provider.keys.iter().filter(differs).map(|key| key.name).collect()
    }
}

/// The names in the configuration that a transaction may be filed under.
#[derive(Clone, Copy, Debug)]
pub struct Names<'n> {
    /// The channel's.
    pub channel: &'n str,
    /// Its merchant's.
    pub merchant: &'n str,
}
