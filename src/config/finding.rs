//! What is wrong with a configuration, said so that its author can mend it without a second question.
//!
//! A finding names the place (file, line, column), quotes the offending text, says what is wrong and what is allowed.
//! Findings are collected, never thrown: a check returns all of them at once, in the order of their places.
//! This file knows how a finding looks, not how one is found.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Where something stands in the configuration: `line` and `column` count from 1, in characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path of the file, as it was given or found.
    pub file: Arc<str>,
    /// Line, from 1; 0 where no line can be named (a file that is missing).
    pub line: usize,
    /// Column, from 1, in characters; 0 where no column can be named.
    pub column: usize,
    /// The text that stands there, cut to one line.
    pub text: Arc<str>,
}

impl Place {
    /// A place that is a whole file, for what has no line.
    pub fn file(path: impl Into<Arc<str>>) -> Self {
        Self { file: path.into(), ..Self::default() }
    }

    /// A finding at this place.
    pub fn finding(&self, message: impl Into<String>, hint: impl Into<String>) -> Finding {
        Finding {
            file: self.file.to_string(),
            line: self.line,
            column: self.column,
            text: self.text.to_string(),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// One thing wrong with a configuration.
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
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message)?,
            line => write!(f, "{}:{line}:{}: {}", self.file, self.column, self.message)?,
        }
        if !self.text.is_empty() {
            write!(f, "\n    {}", self.text)?;
        }
        if !self.hint.is_empty() {
            write!(f, "\n    hint: {}", self.hint)?;
        }
        Ok(())
    }
}
