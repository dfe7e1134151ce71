//! `conf/reference.toml` and `docs/configuration.md` say what the schema says. `UPDATE=1 cargo test -p config documents`
//! writes them anew: in the reference the comments, the values stay; in the documentation all between the marks.

use std::collections::HashSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::schema::schema;

mod reference;

/// What a schema says of a key.
struct Key<'s> {
    name: &'s str,
    schema: &'s Value,
    /// Where the reference leads, or the key's own.
    resolved: &'s Value,
    required: bool,
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    match schema["$ref"].as_str() {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).expect("the reference leads somewhere"),
        None => schema,
    }
}

fn keys<'s>(root: &'s Value, table: &'s Value) -> Vec<Key<'s>> {
    let required = |name: &str| table["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let properties = table["properties"].as_object().into_iter().flatten();
    let known = properties.filter(|(_, schema)| schema["deprecated"] != true);
    let key = |(name, schema): (&'s String, &'s Value)| Key {
        name,
        schema,
        resolved: resolve(root, schema),
        required: required(name),
    };
    known.map(key).collect()
}

/// The table of an entry, where a list has tables, or may have them.
fn entries<'s>(root: &'s Value, list: &'s Value) -> Option<&'s Value> {
    let items = resolve(root, &list["items"]);
    let choices = items["anyOf"].as_array().map(Vec::as_slice).unwrap_or(std::slice::from_ref(items));
    choices.iter().map(|choice| resolve(root, choice)).find(|choice| choice["properties"].is_object())
}

impl Key<'_> {
    fn description(&self) -> String {
        let of = |schema: &Value| schema["description"].as_str().map(|text| text.replace('\n', " "));
        of(self.schema).or_else(|| of(self.resolved)).unwrap_or_default()
    }

    /// A default of its own; that of a table is the defaults of its keys.
    fn default(&self) -> Option<&Value> {
        self.schema.get("default").filter(|default| !default.is_object())
    }

    fn kind(&self, root: &Value) -> String {
        let schema = self.resolved;
        let number = |key: &str| schema[key].as_f64().map(|number| number.to_string());
        let range = match (number("minimum"), number("maximum")) {
            (Some(least), Some(most)) if schema["maximum"].as_f64() < Some(1e9) => format!(", {least} to {most}"),
            (Some(least), _) => format!(", at least {least}"),
            _ => String::new(),
        };
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        match schema["type"].as_str().or(schema["type"][0].as_str()).unwrap_or_default() {
            "boolean" => "boolean".to_owned(),
            "integer" => format!("integer{range}"),
            "number" => format!("number{range}"),
            "array" if entries(root, schema).is_some() => "list of tables".to_owned(),
            "array" => "list".to_owned(),
            "object" => "table".to_owned(),
            _ if schema["enum"].is_array() => {
                schema["enum"].as_array().into_iter().flatten().map(code).collect::<Vec<_>>().join(", ")
            }
            _ if pattern.contains("ms|s|m|h") => "duration".to_owned(),
            _ if pattern.contains("KiB") => "size".to_owned(),
            _ => "string".to_owned(),
        }
    }
}

fn code(value: &Value) -> String {
    format!("`{}`", value.to_string().replace(',', ", "))
}

/// A page of all tables.
fn page(root: &Value) -> String {
    let mut page = String::new();
    for key in keys(root, root) {
        let (name, schema) = (key.name, key.resolved);
        if let Some(each) = schema.get("items") {
            section(&mut page, root, &format!("[[{name}]]"), name, (resolve(root, each), &key));
        } else if let Some(each) = schema.get("additionalProperties").filter(|each| each.is_object()) {
            section(&mut page, root, &format!("[{name}.NAME]"), &format!("{name}.NAME"), (resolve(root, each), &key));
        } else {
            section(&mut page, root, &format!("[{name}]"), name, (schema, &key));
        }
    }
    page
}

/// A table, and the tables in it.
fn section(page: &mut String, root: &Value, title: &str, path: &str, (table, at): (&Value, &Key<'_>)) {
    let text = table["description"].as_str().map_or_else(|| at.description(), |text| text.replace('\n', " "));
    let _ = write!(page, "\n### `{title}`\n\n{text}\n\n| key | type | default | what it does |\n|---|---|---|---|\n");
    let mut inner = vec![];
    for key in keys(root, table) {
        let default = match key.default() {
            Some(default) => code(default),
            None if key.required => "required".to_owned(),
            None => "–".to_owned(),
        };
        let text = key.description().replace('|', "\\|").replace('<', "&lt;");
        let _ = writeln!(page, "| `{}` | {} | {default} | {text} |", key.name, key.kind(root));
        inner.push(key);
    }
    for key in inner {
        let path = format!("{path}.{}", key.name);
        if key.resolved["properties"].is_object() {
            section(page, root, &format!("[{path}]"), &path, (key.resolved, &key));
        } else if let Some(table) = entries(root, key.resolved) {
            section(page, root, &format!("{path}: a table of the list"), &path, (table, &key));
        } else if let Some(each) = key.resolved.get("additionalProperties").filter(|each| each["$ref"].is_string()) {
            let path = format!("{path}.NAME");
            section(page, root, &format!("[{path}]"), &path, (resolve(root, each), &key));
        }
    }
}

const MARKS: (&str, &str) = ("<!-- Written by a test: UPDATE=1 cargo test -p config documents -->", "<!-- End -->");

fn root_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Compares a file with what it should be, or writes it.
fn agrees(file: &str, wanted: &str) {
    let path = root_folder().join(file);
    if std::env::var_os("UPDATE").is_some_and(|value| !value.is_empty()) {
        fs::write(&path, wanted).expect("it is written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(wanted.lines()).position(|(there, wanted)| there != wanted);
    assert!(
        there == wanted,
        "{file} does not say what the schema says, from line {}: UPDATE=1 cargo test -p config documents",
        differs.map_or(there.lines().count(), |line| line) + 1
    );
}

#[test]
fn the_page_says_what_the_schema_says() {
    let file = "docs/configuration.md";
    let there = fs::read_to_string(root_folder().join(file)).unwrap_or_default();
    let (before, rest) = there.split_once(MARKS.0).expect("the first mark");
    let (_, after) = rest.split_once(MARKS.1).expect("the second mark");
    agrees(file, &format!("{before}{}\n{}\n{}{after}", MARKS.0, page(&schema()), MARKS.1));
}

#[test]
fn the_reference_says_what_the_schema_says() {
    let file = "conf/reference.toml";
    let there = fs::read_to_string(root_folder().join(file)).expect(file);
    agrees(file, &reference::commented(&schema(), &there));
}

#[test]
fn every_key_has_a_description_and_every_default_is_of_its_key() {
    fn visit(root: &Value, table: &Value, seen: &mut HashSet<String>) {
        for key in keys(root, table) {
            assert!(key.description().ends_with('.'), "{}: {:?}", key.name, key.description());
            if let Some(default) = key.default() {
                assert_eq!(super::schema::misfit(root, key.schema, default, key.name), None);
            }
            let inner = [Some(key.resolved), entries(root, key.resolved), key.resolved.get("additionalProperties")];
            for table in inner.into_iter().flatten().map(|table| resolve(root, table)) {
                if table["properties"].is_object() && seen.insert(table["properties"].to_string()) {
                    visit(root, table, seen);
                }
            }
        }
    }
    let schema = schema();
    let mut seen = HashSet::new();
    for key in keys(&schema, &schema) {
        let inner = [Some(key.resolved), entries(&schema, key.resolved), key.resolved.get("additionalProperties")];
        inner.into_iter().flatten().for_each(|table| visit(&schema, resolve(&schema, table), &mut seen));
    }
    assert!(seen.len() > 15, "{}", seen.len());
}
