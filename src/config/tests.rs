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

#[test]
fn every_file_in_conf_loads() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("conf") {
        let path = entry.expect("entry").path();
        if path.extension().is_some_and(|ext| ext == "toml") {
            count += 1;
            if let Err(findings) = load(&path) {
                panic!("{}", findings.iter().map(|f| f.to_string()).collect::<Vec<_>>().join("\n"));
            }
        }
    }
    assert!(count >= 9, "only {count} files");
}
