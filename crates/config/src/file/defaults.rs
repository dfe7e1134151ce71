//! Defaults, each defined once: as the `default` in the schema of its key in the form.
//!
//! They are written into the tables before those are read, so an absent key reads as if it had been written, by the
//! same types. Their spans have no length: `Located::is_written` tells them apart. A key that goes with only one value
//! of another key (`x-with`) gets its default only there, so that it does not appear beside others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde_json::Value;
use serde_spanned::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use crate::schema;
use crate::source_map::Span;

/// The known keys of a table, of every table of a map or list, or of nothing.
#[derive(Debug, Default)]
struct Shape {
    keys: BTreeMap<String, KeyDefault>,
    /// The shape of tables with names, or in a list.
    each: Option<Box<Shape>>,
}

#[derive(Debug)]
struct KeyDefault {
    default: Option<DeValue<'static>>,
    /// Another key of the table, and the value that it must have.
    with: Option<(String, String)>,
    inner: Shape,
}

static DOCUMENT: LazyLock<Shape> = LazyLock::new(|| {
    let schema = schema::schema();
    Shape::of(&schema, &schema)
});

impl Shape {
    fn of(root: &Value, schema: &Value) -> Shape {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = root.pointer(reference.trim_start_matches('#'));
            return target.map_or_else(Shape::default, |target| Shape::of(root, target));
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            let tables = choices.iter().map(|choice| Shape::of(root, choice)).find(|shape| !shape.is_empty());
            return tables.unwrap_or_default();
        }
        let each = [&schema["additionalProperties"], &schema["items"]].into_iter().find(|each| each.is_object());
        let each = each.map(|each| Shape::of(root, each)).filter(|shape| !shape.is_empty()).map(Box::new);
        let properties = schema["properties"].as_object().into_iter().flatten();
        let keys = properties.map(|(name, schema)| (name.clone(), KeyDefault::of(root, schema)));
        Shape { keys: keys.filter(|(_, key)| key.default.is_some() || !key.inner.is_empty()).collect(), each }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.each.is_none()
    }
}

impl KeyDefault {
    fn of(root: &Value, schema: &Value) -> KeyDefault {
        let with = schema["x-with"].as_array().and_then(|with| match &with[..] {
            [key, value] => Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())),
            _ => None,
        });
        // JSON of scalars, lists and empty tables is TOML as well. It is read once, and kept
        // for the life of the process.
        let default = schema.get("default").and_then(|default| {
            let text: &'static str = Box::leak(default.to_string().into_boxed_str());
            DeValue::parse(text).ok().map(Spanned::into_inner)
        });
        KeyDefault { default, with, inner: Shape::of(root, schema) }
    }
}

/// Writes the defaults of every table into it.
pub fn fill(root: &mut DeTable<'_>) {
    fill_table(root, &(0..0), &DOCUMENT);
}

/// The form of a top-level table that is absent.
pub fn left_out<T: Default + for<'de> Deserialize<'de>>(name: &str) -> T {
    let mut table = DeTable::new();
    if let Some(key) = DOCUMENT.keys.get(name) {
        fill_table(&mut table, &(0..0), &key.inner);
    }
    T::deserialize(Spanned::new(0..0, DeValue::Table(table)).into_deserializer()).unwrap_or_default()
}

fn fill_table(table: &mut DeTable<'_>, span: &Span, shape: &Shape) {
    if let Some(each) = &shape.each {
        table.iter_mut().for_each(|(_, node)| fill_node(node, each));
    }
    for (name, key) in &shape.keys {
        if let Some(node) = table.get_mut(name.as_str()) {
            fill_node(node, &key.inner);
        } else if let Some(default) = key.default.as_ref().filter(|_| key.applies(table)) {
            let here = span.start..span.start;
            let mut node = placed(default, &here);
            fill_node(&mut node, &key.inner);
            table.insert(Spanned::new(here, DeString::from(name.clone())), node);
        }
    }
}

fn fill_node(node: &mut Spanned<DeValue<'_>>, shape: &Shape) {
    let span = node.span();
    match node.get_mut() {
        DeValue::Table(table) => fill_table(table, &span, shape),
        DeValue::Array(array) => {
            let Some(each) = &shape.each else { return };
            array.iter_mut().for_each(|item| fill_node(item, each));
        }
        _ => {}
    }
}

impl KeyDefault {
    fn applies(&self, table: &DeTable<'_>) -> bool {
        self.with.as_ref().is_none_or(|(other, value)| {
            table.get(other.as_str()).and_then(|node| node.get_ref().as_str()) == Some(value.as_str())
        })
    }
}

/// A value with another place.
fn placed(value: &DeValue<'static>, span: &Span) -> Spanned<DeValue<'static>> {
    let value = match value {
        DeValue::Array(items) => DeValue::Array(items.iter().map(|item| placed(item.get_ref(), span)).collect()),
        value => value.clone(),
    };
    Spanned::new(span.clone(), value)
}
