//! The configuration, from the files to the checked model: `source` reads, `file` parses, `check` validates into
//! `model`. `unwise` warns of what is legal and hardly meant; a warning does not stop a configuration. `router`
//! finds the route of a request.
//!
//! Every step either returns a whole value or all findings; nothing is applied in part. Two findings at one place keep
//! the order of their messages. Checks that need a running gateway are in `runtime`.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod access;
mod check;
pub mod diff;
mod file;
pub mod filter;
mod findings;
pub mod model;
pub mod restart_required;
pub mod router;
pub mod schema;
pub mod source;
mod source_map;
pub mod unwise;

use std::path::Path;
use std::time::Duration;

use base::finding::Finding;
use findings::Findings;
use source::Source;
use source_map::SourceMap;

/// A configuration that may be served, with its source.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked form.
    pub config: model::Config,
    /// The files as they were read.
    pub source: Source,
    /// Warnings of what is legal but unwise, in the order of their places.
    pub warnings: Vec<Finding>,
}

/// Reads and checks the path of `-c`; returns all findings at once, in the order of their places.
pub fn load(path: &Path) -> Result<Loaded, Vec<Finding>> {
    load_source(Source::read(path)?)
}

/// Checks files that are already in memory, such as a revision read back from the history.
pub fn load_source(source: Source) -> Result<Loaded, Vec<Finding>> {
    let places = SourceMap::new(&source);
    let mut findings = Findings::new(&places);
    let form = file::read(&source, &places, &mut findings);
    let config = check::check(&form, &source, &places, &mut findings);
    match (config, findings.finish()) {
        (Some(config), found) if found.is_empty() => {
            let warnings = unwise::warnings(&config);
            Ok(Loaded { config, source, warnings })
        }
        (_, found) => Err(found),
    }
}

/// Reads a duration as the configuration writes it, such as `10m`; an error says what it should be.
pub fn duration(text: &str) -> Result<Duration, String> {
    file::scalar::FromText::from_text(text)
}

#[cfg(test)]
mod tests;
