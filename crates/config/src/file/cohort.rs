//! The form of `[cohort.NAME]`.
//!
//! A rule is a table of any keys. `check` requires exactly one condition, and `equals` and `salt` only where they have
//! a meaning: it can name both keys that do not go together.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::http::CookieName;
use super::located::{Located, Table};
use super::number::Points;
use super::scalar::{FilePath, Name, Word};

/// A named set of users: those of the file and those who fit a rule. At least one of users_file and any.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CohortForm {
    /// File with one user key a line, a million lines and more. Blank lines and lines that begin with "#" are skipped.
    /// Followed when it changes.
    pub users_file: Option<Word<FilePath>>,
    /// Rules, one of which must hold.
    pub any: Option<Located<Vec<Located<Table<RuleForm>>>>>,
}

/// One of a cohort's rules: exactly one of header, cookie, app and percent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleForm {
    /// Name of a header that must have the value of equals, on every line of that name.
    pub header: Option<Word<HeaderName>>,
    /// Name of a cookie that must have the value of equals, as it was sent.
    pub cookie: Option<Word<CookieName>>,
    /// The exact value. Required with header and cookie.
    pub equals: Option<Word<String>>,
    /// Name of the app that calls.
    pub app: Option<Word<Name>>,
    /// Percent of all users, in steps of 0.01.
    pub percent: Option<Located<Points<0>>>,
    /// Selects which percent of the users. Absent: the cohort's name.
    pub salt: Option<Word<String>>,
}
