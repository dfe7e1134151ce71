//! Paths: a normal form is its own normal form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::path::normalise_path;

fuzz_target!(|path: &str| {
    let normal = normalise_path(path);
    assert_eq!(normalise_path(&normal), normal, "of {path:?}");
    if path.starts_with('/') {
        assert!(normal.starts_with('/'), "{path:?} became {normal:?}");
        let inner = normal.trim_start_matches('/').trim_end_matches('/');
        assert!(inner.is_empty() || inner.split('/').all(|part| !matches!(part, "" | "." | "..")), "{normal:?}");
    }
});
