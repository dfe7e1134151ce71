//! The comments of `conf/reference.toml`: each key is told once, where it comes first.

use std::collections::HashSet;

use serde_json::Value;

use super::{Key, entries, keys, resolve};

/// Where comments begin, and where lines end.
const COLUMN: usize = 39;
const WIDTH: usize = 128;

/// The same text with the comments that the schema gives. Values, blank lines and comments at the start of a line stay.
pub(super) fn commented(root: &Value, text: &str) -> String {
    let (mut out, mut told) = (vec![], HashSet::new());
    let (mut table, mut path) = (None, String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        // What was told before goes.
        if goes_on(line) {
            continue;
        }
        if line.starts_with('[') {
            let header = uncommented(line);
            path = header.trim_matches(['[', ']']).to_owned();
            let (found, kind) = find(root, &path);
            table = found.map(|found| (found, kind.clone()));
            let first = told.insert(kind);
            let text = found.and_then(|found| found["description"].as_str()).unwrap_or_default().replace('\n', " ");
            lay_out(&mut out, header, if first { &text } else { "" });
            continue;
        }
        let (prefix, plain) = line.strip_prefix("# ").map_or(("", line), |plain| ("# ", plain));
        let name = plain.split_once(" = ").map_or("", |(name, _)| name);
        let key = table.as_ref().and_then(|(table, kind)| Some((key(root, table, name)?, kind)));
        let Some((key, kind)) = key else {
            out.push(line.to_owned());
            continue;
        };
        let mut value = uncommented(plain).to_owned();
        while open(&value) {
            let next = lines.next().unwrap_or_else(|| panic!("{path}.{name} has no end"));
            if !goes_on(next) && !next.is_empty() {
                value = format!("{value}\n{}", uncommented(next));
            }
        }
        let text = if told.insert(format!("{kind}/{name}")) { told_of(root, &key, &value) } else { String::new() };
        let (first, rest) = value.split_once('\n').map_or((&*value, None), |(first, rest)| (first, Some(rest)));
        lay_out(&mut out, &format!("{prefix}{first}"), &text);
        out.extend(rest.map(str::to_owned));
    }
    out.join("\n") + "\n"
}

/// The table of a header's path, and what tells its kind apart: names do not.
fn find<'s>(root: &'s Value, path: &str) -> (Option<&'s Value>, String) {
    let (mut at, mut kind) = (root, String::new());
    for name in path.split('.') {
        let named = resolve(root, &at["properties"][name]);
        at = match named.is_object() {
            true => {
                kind += &format!("/{name}");
                named
            }
            false => resolve(root, &at["additionalProperties"]),
        };
        if at["items"].is_object() {
            at = resolve(root, &at["items"]);
        }
    }
    (Some(at).filter(|at| at["properties"].is_object()), kind)
}

fn key<'s>(root: &'s Value, table: &'s Value, name: &str) -> Option<Key<'s>> {
    keys(root, table).into_iter().find(|key| key.name == name)
}

/// Whether it is a comment that began in a line above.
fn goes_on(line: &str) -> bool {
    line.starts_with(&" ".repeat(COLUMN)) && line.trim_start().starts_with('#')
}

/// What stands before the comment.
fn uncommented(line: &str) -> &str {
    let mut quoted = false;
    let end = line.char_indices().find(|&(_, letter)| {
        quoted ^= letter == '"';
        letter == '#' && !quoted
    });
    line[..end.map_or(line.len(), |(at, _)| at)].trim_end()
}

/// Whether a value goes on in the next line.
fn open(value: &str) -> bool {
    let (mut quoted, mut depth) = (false, 0);
    for letter in value.chars() {
        quoted ^= letter == '"';
        depth += match letter {
            '[' | '{' if !quoted => 1,
            ']' | '}' if !quoted => -1,
            _ => 0,
        };
    }
    depth > 0
}

fn told_of(root: &Value, key: &Key<'_>, line: &str) -> String {
    let text = line.split_once(" = ").map_or("", |(_, value)| value);
    let value: Option<toml::Table> = format!("value = {text}").parse().ok();
    let value = value.and_then(|mut table| serde_json::to_value(table.remove("value")?).ok());
    let kind = match (key.default(), key.required) {
        _ if key.resolved["properties"].is_object() => String::new(),
        (Some(default), _) if value.as_ref() == Some(default) => "Default. ".to_owned(),
        (Some(default), _) => format!("Example; default {default}. "),
        (None, true) => "Required. ".to_owned(),
        (None, false) => "Example. ".to_owned(),
    };
    let words = key.resolved["enum"].as_array().map_or_else(String::new, |words| {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        let untold = words.len() > 1 && words.iter().any(|word| !key.description().contains(word));
        if untold { format!(" {}.", words.join(" | ")) } else { String::new() }
    });
    let inner = Some(key.resolved).filter(|table| table["properties"].is_object());
    let inner = inner.or_else(|| entries(root, key.resolved)).into_iter().flat_map(|table| keys(root, table));
    let inner: String = inner.map(|key| format!(" {}: {}{}", key.name, note(&key), key.description())).collect();
    format!("{kind}{}{words}{inner}", key.description())
}

/// Of a key within a value.
fn note(key: &Key<'_>) -> String {
    match (key.default(), key.required) {
        (Some(default), _) => format!("(default {default}) "),
        (None, true) => "(required) ".to_owned(),
        (None, false) => String::new(),
    }
}

/// Puts a comment behind a line, and goes on below it.
fn lay_out(out: &mut Vec<String>, line: &str, text: &str) {
    let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
    if words.peek().is_none() {
        return out.push(line.to_owned());
    }
    let start = if line.len() < COLUMN { format!("{line:COLUMN$}#") } else { format!("{line}   #") };
    let (mut row, mut rows) = (start, vec![]);
    for word in words {
        let fits = row.chars().count() + 1 + word.chars().count() <= WIDTH;
        if !fits {
            rows.push(std::mem::replace(&mut row, format!("{:COLUMN$}#", "")));
        }
        row = format!("{row} {word}");
    }
    rows.push(row);
    if rows[0].ends_with('#') {
        rows[0] = line.to_owned();
    }
    out.append(&mut rows);
}
