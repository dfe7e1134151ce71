//! Configuration files: findings or a configuration.
#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use config::load_source;
use config::source::Source;

fuzz_target!(|text: &str| {
    // What it names is looked for in a folder that is not there.
    let source = Source::from_parts(PathBuf::from("/nonexistent"), vec![("fuzz.toml".into(), text.into())]);
    match load_source(source) {
        Ok(loaded) => assert_eq!(loaded.config.routes.iter().filter(|route| route.name.is_empty()).count(), 0),
        Err(findings) => assert!(!findings.is_empty()),
    }
});
