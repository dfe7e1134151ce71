//! The building blocks of every form: a value with its span, a table that is only a table, a reserved key.
//!
//! Serde's own structs also accept lists, and lose the place of a value; these wrappers fix both. They know no key by
//! name. A message may carry its hint after a line break; `decode` splits the two.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_spanned::Spanned;

use crate::source_map::Span;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The place.
    pub span: Span,
    /// The value.
    pub value: T,
}

impl<T> Located<T> {
    /// Whether it was written in a file; a default was not.
    pub fn is_written(&self) -> bool {
        !self.span.is_empty()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        Ok(Located { span: spanned.span(), value: spanned.into_inner() })
    }
}

/// A table; a list in its place is refused.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tables<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Tables<T> {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, such as `{ key = value }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Tables(PhantomData)).map(Table)
    }
}

/// The pairs of a table, in the order written; `K` and `V` define their spelling.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs<K, V>(pub Vec<(Located<K>, Located<V>)>);

impl<K, V> Default for Pairs<K, V> {
    fn default() -> Self {
        Pairs(Vec::new())
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Pairs<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = Vec<(Located<K>, Located<V>)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table, such as `{ \"x-name\" = \"value\" }`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        let mut pairs = deserializer.deserialize_map(Entries(PhantomData))?;
        // Tables may be sorted by key; only the order written counts.
        pairs.sort_by_key(|(key, _): &(Located<K>, Located<V>)| key.span.start);
        Ok(Pairs(pairs))
    }
}

/// The mark in a message for "not yet"; `decode` adds the key's name.
pub const NOT_YET: &str = "not yet in this version";

/// A key that a later version will understand: it parses, with any value, and is refused by name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reserved {}

impl<'de> Deserialize<'de> for Reserved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer)?;
        Err(D::Error::custom(NOT_YET))
    }
}

impl JsonSchema for Reserved {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Later".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "not": {}, "deprecated": true })
    }
}

/// Wrappers that are invisible in the schema.
macro_rules! transparent {
    ($($wrapper:ident),*) => {$(
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }
            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }
            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }
            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                T::json_schema(generator)
            }
        }
    )*};
}
transparent!(Located, Table);

impl<K, V: JsonSchema> JsonSchema for Pairs<K, V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Pairs".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<V>() })
    }
}
