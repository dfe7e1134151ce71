//! What a configuration's author is told, and what is understood.

use super::*;

/// Loads one file called `c.toml`.
fn one(text: &str) -> Result<Loaded, Vec<Finding>> {
    load_source(Source::from_parts("/nowhere".into(), vec![("c.toml".into(), text.into())]))
}

#[test]
fn the_quickstart_loads() {
    let loaded = one(include_str!("../../conf/quickstart.toml")).expect("no findings");
    assert_eq!(loaded.config.routes.len(), 1);
    assert_eq!(loaded.config.upstreams.len(), 1);
}
