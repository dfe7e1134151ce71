//! From the file to what runs: `file` → `check` → `snapshot` → `swap`.

pub mod finding;
pub mod model;
