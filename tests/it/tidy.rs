//! The rules of the tree, which `CONTRIBUTING.md` lists, so that nobody needs to remember them.

mod docs;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Files that are pure: time and randomness come as arguments. A folder means everything in it.
const PURE: &[&str] = &[
    "crates/balance",
    "src/health/hysteresis.rs",
    "crates/http-guard",
    "crates/config/src/router.rs",
    "crates/base/src/path.rs",
    "crates/base/src/said.rs",
    "crates/rate-limit",
    "crates/client-auth",
    "crates/gray",
    "crates/base/src/units.rs",
    "crates/config/src/model.rs",
    "crates/config/src/model",
    "crates/config/src/file.rs",
    "crates/config/src/file",
    "crates/base/src/finding.rs",
    "src/problem.rs",
    "crates/base/src/secret.rs",
    "crates/config/src/findings.rs",
    "crates/config/src/source_map.rs",
    "crates/config/src/diff.rs",
    "crates/config/src/diff",
    "crates/ledger/src/book.rs",
    "crates/ledger/src/book",
    "crates/ledger/src/chain.rs",
    "crates/providers",
    "crates/ledger/src/rows.rs",
    "crates/ledger/src/rows",
    "crates/ledger/src/stored_enum.rs",
    "crates/base/src/net.rs",
    "crates/base/src/hex.rs",
    "crates/base/src/bearer.rs",
    "crates/base/src/problem.rs",
    "crates/http-client/src/webhook/signature.rs",
    "src/notify/retry.rs",
    "crates/base/src/shard.rs",
    "src/telemetry/line.rs",
    "src/telemetry/names.rs",
    "crates/ledger/src/deliver/backoff.rs",
    "crates/ledger/src/deliver/scheduler.rs",
    "crates/ledger/src/monitor/alarms.rs",
    "crates/ledger/src/skew.rs",
];

/// Pure files that may name one thing nobody else of them may, and why.
const PURE_BUT: &[(&str, &str)] = &[
    // Ketama is pure; Pingora publishes it as a crate of its own.
    ("crates/balance/src/ring.rs", "pingora"),
    // A callback's id is drawn where it arrives.
    ("crates/providers/src/receive.rs", "now_v7"),
    // It formats a time that it is given; reading it is the caller's.
    ("src/telemetry/line.rs", "base::clock"),
];

/// What a pure file must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "pingora",
    "base::clock",
    "Instant::now",
    "SystemTime",
    "now_v7",
    "fastrand",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "std::fs",
    "std::thread::sleep",
    "reqwest",
];

/// Files outside of `src/proxy*` that may name the proxy, and why.
const PROXY_BUT: &[&str] = &[
    // It silences the messages of that name: a filter, no import.
    "src/telemetry.rs",
    // The wiring builds the one `HttpProxy` that all listeners share.
    "src/app.rs",
    "src/app/one_proxy.rs",
    // The end of the process closes the silent connections that it holds.
    "src/app/drain.rs",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file, by its path from the root.
fn sources() -> Vec<(String, String)> {
    let mut found = vec![];
    for folder in ["src", "crates", "tests", "benches"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 50, "the tree was not found");
    found
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The file's own code: without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let uncommented = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    uncommented.collect::<Vec<_>>().join("\n")
}

fn is_in(file: &str, place: &str) -> bool {
    file == place || file.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
}

fn is_test(file: &str) -> bool {
    !(file.starts_with("src/") || file.starts_with("crates/"))
        || file.ends_with("/tests.rs")
        || file.contains("/tests/")
}

/// Names of the modules at the top of `src` that a text names.
fn named<'t>(code: &'t str, tops: &BTreeSet<&str>) -> BTreeSet<&'t str> {
    let after = code.split("crate::").skip(1);
    let names = after.filter_map(|rest| rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next());
    names.filter(|name| tops.contains(name)).collect()
}

#[test]
fn imports_of_the_top_modules_run_one_way() {
    let sources = sources();
    let files: Vec<(&str, String)> = sources
        .iter()
        .filter(|(file, _)| file.starts_with("src/") && !is_test(file))
        .map(|(file, text)| (file["src/".len()..].split(['/', '.']).next().unwrap(), code(text)))
        .filter(|(top, _)| !["lib", "main"].contains(top))
        .collect();
    let tops: BTreeSet<&str> = files.iter().map(|(top, _)| *top).collect();
    let mut arrows: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (top, code) in &files {
        assert!(!code.contains("crate::{"), "{top}: name each module in an import of its own, so that arrows are seen");
        let others = named(code, &tops).into_iter().filter(|other| other != top);
        arrows.entry(top).or_default().extend(others);
    }
    // What imports nothing that is left goes, until nothing is left, or a circle.
    while let Some(ground) = arrows.iter().find(|(_, to)| to.is_empty()).map(|(top, _)| *top) {
        arrows.remove(ground);
        for to in arrows.values_mut() {
            to.remove(ground);
        }
    }
    assert!(arrows.is_empty(), "a circle lies among these: {arrows:#?}");
}

#[test]
fn pure_engines_name_no_socket_clock_or_runtime() {
    let sources = sources();
    let mut broken = vec![];
    for (file, text) in sources.iter().filter(|(file, _)| PURE.iter().any(|place| is_in(file, place)) && !is_test(file))
    {
        let code = code(text);
        for word in IMPURE.iter().filter(|word| code.contains(**word)) {
            if !PURE_BUT.contains(&(file, word)) {
                broken.push(format!("{file} names {word}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    for place in PURE {
        assert!(sources.iter().any(|(file, _)| is_in(file, place)), "{place} is gone: mend the list");
    }
}

#[test]
fn only_the_proxy_names_the_proxy() {
    let mut broken = vec![];
    for (file, text) in sources().iter().filter(|(file, _)| !is_test(file)) {
        let code = code(text);
        let of = |place: &str| is_in(file, place) || *file == format!("{place}.rs");
        let names_proxy = ["pingora::proxy", "pingora_proxy"].iter().any(|name| code.contains(name));
        if names_proxy && !of("src/proxy") && !PROXY_BUT.contains(&file.as_str()) {
            broken.push(format!("{file} names pingora::proxy"));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_are_short_say_why_they_exist_and_leave_nothing_undone() {
    // Put together here, so that this file does not find itself.
    let undone = ["todo", "unimplemented"].map(|name| format!("{name}!("));
    let marks = ["FIX", "XX", "TO"].map(|half| {
        format!(
            "{half}{}",
            if half == "FIX" {
                "ME"
            } else if half == "XX" {
                "X"
            } else {
                "DO"
            }
        )
    });
    let mut broken = vec![];
    for (file, text) in sources() {
        let lines = text.lines().count();
        if lines >= FILE_LINES {
            broken.push(format!("{file} has {lines} lines"));
        }
        if !text.starts_with("//! ") {
            broken.push(format!("{file} does not open with //!"));
        }
        if file.ends_with("/mod.rs") || file.ends_with("utils.rs") {
            broken.push(format!("{file}: a module is x.rs and x/, and is called after what it is"));
        }
        for word in undone.iter().chain(&marks).filter(|word| text.contains(word.as_str())) {
            broken.push(format!("{file} says {word}"));
        }
        broken.extend(
            long_functions(&text).into_iter().map(|(name, lines)| format!("{file}: fn {name} has {lines} lines")),
        );
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Functions of too many lines: from `fn` to the brace that stands as far in as it does, as rustfmt leaves it.
fn long_functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut long = vec![];
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some((before, name)) = line.trim_start().split_once("fn ") else { continue };
        let is_function = before.split_whitespace().all(|word| {
            matches!(word, "const" | "async" | "unsafe" | "extern")
                || word.starts_with("pub")
                || word.starts_with("\"C")
        }) || before.starts_with("pub(");
        // A declaration has no body.
        if !is_function || line.ends_with(';') {
            continue;
        }
        let end = format!("{}}}", " ".repeat(indent));
        let Some(length) = lines[at..].iter().position(|line| *line == end) else { continue };
        if length + 1 >= FUNCTION_LINES {
            long.push((name.split(['(', '<']).next().unwrap_or_default().to_owned(), length + 1));
        }
    }
    long
}

#[test]
fn long_functions_are_found() {
    let body = "    x();\n".repeat(80);
    let text = format!("pub(super) async fn long(\n    x: u8,\n) {{\n{body}}}\n\nfn short() {{\n}}\n");
    assert_eq!(long_functions(&text), [("long".to_owned(), 84)]);
}

#[test]
fn every_key_of_the_schema_stands_in_the_reference() {
    let schema = config::schema::schema();
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 60, "{keys:?}");
    let reference = fs::read_to_string(root().join("conf/reference.toml")).unwrap();
    let words: BTreeSet<&str> = reference.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).collect();
    let missing: Vec<&String> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "conf/reference.toml does not show {missing:?}");
}

/// Names of all properties, wherever they stand.
fn collect_keys(schema: &Value, keys: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            for (name, value) in object {
                if let ("properties", Value::Object(properties)) = (name.as_str(), value) {
                    keys.extend(properties.keys().cloned());
                    properties.values().for_each(|property| collect_keys(property, keys));
                } else {
                    collect_keys(value, keys);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}
