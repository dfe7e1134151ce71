//! Findings: what is wrong with a configuration, or unwise, so that its author can mend it without a second question.
//!
//! A finding names the place (file, line, column), quotes the offending text, and says what is wrong and what is
//! allowed. Findings are collected, never thrown: a check returns all of them at once, in the order of their places.
//! This file defines their form, not how they are found.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A place in the configuration: `line` and `column` count from 1, in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path of the file, as it was given or found.
    pub file: Arc<str>,
    /// Line, from 1; 0 where there is none (a file that is missing).
    pub line: usize,
    /// Column, from 1, in characters; 0 where there is none.
    pub column: usize,
    /// The text at the place, cut to one line.
    pub text: Arc<str>,
}

impl Place {
    /// A whole file as a place, for findings without a line.
    pub fn file(path: impl Into<Arc<str>>) -> Self {
        Self { file: path.into(), ..Self::default() }
    }

    /// An error at this place.
    pub fn finding(&self, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.found(Severity::Error, message, hint)
    }

    /// A warning at this place.
    pub fn warning(&self, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        self.found(Severity::Warning, message, hint)
    }

    fn found(&self, severity: Severity, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            text: self.text.to_string(),
            message: message.into(),
            hint: hint.into(),
            severity,
        }
    }
}

/// Whether a configuration with the finding may be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It may not be served.
    #[default]
    Error,
    /// It may be served: it is legal, but hardly what its author wants.
    Warning,
}

/// An error or a warning about a configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Path of the file.
    pub file: String,
    /// Line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// Column, from 1, in characters; 0 for the file as a whole.
    pub column: usize,
    /// The offending text.
    pub text: String,
    /// What is wrong.
    pub message: String,
    /// What is allowed, or what to do next.
    pub hint: String,
    /// Whether it stops the configuration. Findings of an earlier process, which had no warnings, lack it.
    #[serde(default)]
    pub severity: Severity,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: ", self.file)?,
            line => write!(f, "{}:{line}:{}: ", self.file, self.column)?,
        }
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if !self.text.is_empty() {
            write!(f, "\n    {}", self.text)?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}
