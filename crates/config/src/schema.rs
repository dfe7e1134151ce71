//! The JSON Schema of the file form, for editors: completion, descriptions and ranges while typing.
//!
//! It is made from the same types that read the file, so it cannot disagree with them about keys and ranges. Conditions
//! on several values are not in it; `tollgate check` checks those.

use schemars::transform::{RestrictFormats, Transform};
use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

use super::file::Document;

/// The schema as a JSON document.
pub fn schema() -> Value {
    let settings = SchemaSettings::draft2020_12()
        .with_transform(RestrictFormats::default())
        .with_transform(NoNull)
        .with_transform(OnlyWith);
    settings.into_generator().into_root_schema_for::<Document>().to_value()
}

/// TOML has no null: an optional key is just not required.
#[derive(Clone, Debug)]
struct NoNull;

impl Transform for NoNull {
    fn transform(&mut self, schema: &mut Schema) {
        if let Some(Value::Array(types)) = schema.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                schema.insert("type".into(), only);
            }
        }
        for keyword in ["anyOf", "enum"] {
            if let Some(Value::Array(choices)) = schema.get_mut(keyword) {
                choices.retain(|choice| !choice.is_null() && choice["type"] != "null");
                unwrap_reference(schema, keyword);
            }
        }
        schemars::transform::transform_subschemas(self, schema);
    }
}

/// A key that goes with one value of another key says so in its description, which editors show.
#[derive(Clone, Debug)]
struct OnlyWith;

impl Transform for OnlyWith {
    fn transform(&mut self, schema: &mut Schema) {
        if let (Some([Value::String(key), value]), Some(about)) =
            (schema.get("x-with").and_then(Value::as_array).map(Vec::as_slice), schema.get("description"))
        {
            let about = format!("Only with `{key} = {value}`. {}", about.as_str().unwrap_or_default());
            schema.insert("description".into(), about.into());
        }
        schemars::transform::transform_subschemas(self, schema);
    }
}

/// A choice of one reference is that reference.
fn unwrap_reference(schema: &mut Schema, keyword: &str) {
    let only = match schema.get(keyword) {
        Some(Value::Array(choices)) if choices.len() == 1 => choices[0].get("$ref").cloned(),
        _ => None,
    };
    if let Some(reference) = only {
        schema.remove(keyword);
        schema.insert("$ref".into(), reference);
    }
}
