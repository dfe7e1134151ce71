//! Paths: a normal form is its own normal form, and where a path has one reading no looser server climbs in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use base::path::{is_ambiguous, normalise_path};

fuzz_target!(|path: &str| {
    let normal = normalise_path(path);
    assert_eq!(normalise_path(&normal), normal, "of {path:?}");
    if path.starts_with('/') {
        assert!(normal.starts_with('/'), "{path:?} became {normal:?}");
        let inner = normal.trim_start_matches('/').trim_end_matches('/');
        assert!(inner.is_empty() || inner.split('/').all(|part| !matches!(part, "" | "." | "..")), "{normal:?}");
        if !is_ambiguous(path.as_bytes()) {
            let loose = normal.replace("%2F", "/").replace("%5C", "/").replace('\\', "/").replace("%3B", ";");
            let climbs = |part: &str| matches!(part.split(';').next(), Some("." | ".."));
            assert!(!loose.split('/').any(climbs) && !normal.contains("%00"), "{path:?} became {normal:?}");
        }
    }
});
