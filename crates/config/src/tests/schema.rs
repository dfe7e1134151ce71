//! The schema accepts what loads, and knows every key of the reference.

use regex::Regex;
use serde_json::{Value, json};

use super::*;
use crate::schema::schema;
use gray::user_source::EXAMPLES;

/// As much of JSON Schema as the schema uses: says where a value does not fit.
pub(super) fn misfit(root: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = root.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere");
        return misfit(root, target, value, at);
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| misfit(root, choice, value, at).is_none());
        return (!fits).then(|| format!("{at}: no choice fits"));
    }
    let typed = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let number = value.as_f64().unwrap_or_default();
    let ranged = schema["minimum"].as_f64().is_none_or(|least| number >= least)
        && schema["maximum"].as_f64().is_none_or(|most| number <= most);
    let text = value.as_str().unwrap_or_default();
    let matched = schema["pattern"].as_str().is_none_or(|pattern| Regex::new(pattern).expect("a regex").is_match(text));
    if !(typed && listed && ranged && matched && schema["not"].is_null()) {
        return Some(format!("{at}: {value} does not fit {schema}"));
    }
    let items = value.as_array().into_iter().flatten();
    if let Some(found) = items.filter_map(|item| misfit(root, &schema["items"], item, at)).next() {
        return Some(found);
    }
    value.as_object()?.iter().find_map(|(key, value)| {
        let property = schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
        match property {
            Value::Bool(false) => Some(format!("{at}: unknown key {key}")),
            property => misfit(root, property, value, &format!("{at}.{key}")),
        }
    })
}

#[test]
fn the_schema_accepts_every_file_in_conf() {
    let schema = schema();
    for path in conf_files() {
        let text = std::fs::read_to_string(&path).expect("it can be read");
        let value: Value = toml::from_str(&text).expect("it is TOML");
        assert_eq!(misfit(&schema, &schema, &value, "$"), None, "{}", path.display());
    }
    let bad: Value = toml::from_str("[upstream.a]\ntimeout.read = \"1x\"").expect("it is TOML");
    assert!(misfit(&schema, &schema, &bad, "$").is_some());
}

#[test]
fn the_schema_accepts_each_source_of_a_user() {
    let schema = schema();
    let misfit = |user: &[&str]| misfit(&schema, &schema, &json!({ "release": { "x": { "user": user } } }), "$");
    let examples: Vec<&str> = EXAMPLES.split('"').skip(1).step_by(2).collect();
    assert_eq!(misfit(&examples), None);
    assert!(misfit(&["other:x"]).is_some());
}

#[test]
fn every_key_stands_in_the_reference() {
    let text = std::fs::read_to_string(conf().join("reference.toml")).expect("it can be read");
    let schema = schema();
    let tables = schema["$defs"].as_object().expect("definitions").values().chain([&schema]);
    for key in tables.filter_map(|table| table["properties"].as_object()).flat_map(|properties| properties.keys()) {
        let written = Regex::new(&format!(r"(?m)(\b{key} = |\[+([a-z0-9.-]+\.)?{key}[\].])")).expect("a regex");
        assert!(written.is_match(&text), "`{key}` is not in conf/reference.toml");
    }
}

#[test]
fn the_schema_has_the_tables_that_are_read() {
    let schema = schema();
    let keys: Vec<&str> = schema["properties"].as_object().expect("properties").keys().map(|key| &**key).collect();
    assert_eq!(keys, [&file::decode::TABLES[..], &file::decode::LATER[..]].concat());
}
