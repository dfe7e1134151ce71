//! What a configuration's author is told, and what is understood.
//!
//! `findings` holds the words, `meaning` the checked form, `mutations` what must never panic.

mod documents;
mod files;
mod findings;
mod ledger;
mod listener;
mod meaning;
mod mutations;
#[cfg(not(feature = "ledger"))]
mod plain;
mod releases;
mod schema;
mod unwise;
mod users;

use std::path::PathBuf;

use super::*;

/// Loads files called `a.toml`, `b.toml`, ... in this order.
fn load_texts(texts: &[&str]) -> Result<Loaded, Vec<Finding>> {
    let named = texts.iter().zip('a'..).map(|(text, name)| (format!("{name}.toml"), (*text).to_owned()));
    load_source(Source::from_parts(conf(), named.collect()))
}

/// Every finding as `line:column message -> hint`, of a text that is given a listener at its end.
fn found(text: &str) -> Vec<String> {
    let text = format!("{text}\n[[listener]]\naddress = \"127.0.0.1:8080\"\n");
    let findings = load_texts(&[&text]).err().unwrap_or_default();
    findings.iter().map(|it| format!("{}:{} {} -> {}", it.line, it.column, it.message, it.hint)).collect()
}

/// The checked form of a text that is given a listener at its end.
fn meant(text: &str) -> model::Config {
    match load_texts(&[&format!("{text}\n[[listener]]\naddress = \"127.0.0.1:8080\"\n")]) {
        Ok(loaded) => loaded.config,
        Err(findings) => panic!("{}", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")),
    }
}

fn conf() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the root").join("conf")
}

/// The files of `conf/`, in name order.
fn conf_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(conf()).expect("conf/ can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    paths
}
