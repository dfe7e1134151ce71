//! `tollgate schema`: prints the JSON Schema of the configuration, for editors.

use std::io::Write;
use std::process::ExitCode;

/// Prints the schema.
pub fn schema() -> ExitCode {
    let _ = writeln!(std::io::stdout(), "{:#}", config::schema::schema());
    ExitCode::SUCCESS
}
