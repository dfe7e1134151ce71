//! Strings with a meaning: [`FromText`] names a type, shows an example, and reads it.
//!
//! A word is read with its table, so that a bad one is found even where others in the table are bad too. Whether a name
//! exists or two values agree is not known here; `check` decides that.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::located::Located;
use crate::findings::suggest;

/// A type that is written as a string.
pub trait FromText: Sized {
    /// The name of the type: "a duration".
    const WHAT: &'static str;
    /// An example, quotes included.
    const EXAMPLE: &'static str;
    /// The JSON Schema keywords beside `"type": "string"`.
    fn schema() -> Schema {
        json_schema!({})
    }
    /// Reads a value; an error is a message, or a message, a line break and a hint.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// The usual message: the type that the text does not match, and an example.
pub fn not_a<T: FromText>(text: &str) -> String {
    format!("`{}` is not {}\nsuch as {}", shown(text), T::WHAT, T::EXAMPLE)
}

/// Text that is safe in a message: short, and without control characters.
pub fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).flat_map(char::escape_debug).collect();
    if text.chars().nth(60).is_some() { short + "..." } else { short }
}

/// A string in the spelling of `T`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

/// A string of `T` and its place.
pub type Word<T> = Located<Text<T>>;

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts<T>(PhantomData<T>);
        impl<T: FromText> Visitor<'_> for Texts<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}, such as {}", T::WHAT, T::EXAMPLE)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                T::from_text(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Texts(PhantomData)).map(Text)
    }
}

impl<T: FromText> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = T::schema();
        schema.insert("type".into(), "string".into());
        schema
    }
}

/// Any string that is not empty: a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(pub String);

impl FromText for Name {
    const WHAT: &'static str = "a name";
    const EXAMPLE: &'static str = "\"orders\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err(not_a::<Self>(text)) } else { Ok(Name(text.to_owned())) }
    }
}

/// Any string, empty or not.
impl FromText for String {
    const WHAT: &'static str = "a string";
    const EXAMPLE: &'static str = "\"ok\"";
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

/// The path of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(pub String);

impl FromText for FilePath {
    const WHAT: &'static str = "a path of a file";
    const EXAMPLE: &'static str = "\"secrets/admin.token\"";
    fn schema() -> Schema {
        json_schema!({ "minLength": 1 })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') { Err(not_a::<Self>(text)) } else { Ok(FilePath(text.to_owned())) }
    }
}

/// Longer than any sensible duration, and short enough that a clock can still add it.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

impl FromText for Duration {
    const WHAT: &'static str = "a duration";
    const EXAMPLE: &'static str = "\"250ms\", \"2s\", \"5m\" or \"1h\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[0-9]+(ms|s|m|h)$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| not_a::<Self>(text))?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(not_a::<Self>(text)),
        };
        let duration = number.checked_mul(milliseconds).map(Duration::from_millis);
        duration
            .filter(|&duration| duration <= LONGEST)
            .ok_or_else(|| format!("`{text}` is longer than 366 days\na shorter duration, such as \"24h\""))
    }
}

/// A size in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromText for Size {
    const WHAT: &'static str = "a size";
    const EXAMPLE: &'static str = "\"500B\", \"64KiB\", \"8MiB\" or \"1GiB\"";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[0-9]+(B|KiB|MiB|GiB)$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let (number, unit) = number_and_unit(text).ok_or_else(|| not_a::<Self>(text))?;
        let bytes: u64 = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(not_a::<Self>(text)),
        };
        let size = number.checked_mul(bytes).filter(|&size| size <= i64::MAX as u64);
        size.map(Size).ok_or_else(|| format!("`{text}` is more than can be counted\na smaller size, such as \"8MiB\""))
    }
}

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    // A number with more digits than any sensible one goes to the range check as the largest number.
    let number = if unit == 0 { return None } else { text[..unit].parse().unwrap_or(u64::MAX) };
    Some((number, &text[unit..]))
}

/// A value from a list of words.
pub trait OneOf: Sized + Clone + 'static {
    /// The name of the type: "a scheme".
    const WHAT: &'static str;
    /// The example where a string is expected.
    const EXAMPLE: &'static str;
    /// The words, with their values.
    const WORDS: &'static [(&'static str, Self)];
}

impl<T: OneOf> FromText for T {
    const WHAT: &'static str = <T as OneOf>::WHAT;
    const EXAMPLE: &'static str = <T as OneOf>::EXAMPLE;
    fn schema() -> Schema {
        json_schema!({ "enum": words::<T>() })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let found = T::WORDS.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| value.clone()).ok_or_else(|| {
            format!("`{}` is not {}\n{}", shown(text), <T as OneOf>::WHAT, suggest(text, &words::<T>(), "allowed"))
        })
    }
}

fn words<T: OneOf>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}
