//! The form of `[cohort.NAME]`.
//!
//! A rule is one table of whatever its author wrote: that it asks for exactly one thing, and that `equals` and `salt`
//! stand only where they mean something, is `check`'s, which can name both keys that do not go together.

use http::HeaderName;
use schemars::JsonSchema;
use serde::Deserialize;

use super::at::{At, Table};
use super::http::CookieName;
use super::number::Points;
use super::word::{FilePath, Name, Word};

/// A named set of users: those of the file and those who fit a rule. One of users_file and any is REQUIRED.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cohort {
    /// File with a user key a line; blank lines and lines that begin with "#" are skipped.
    pub users_file: Option<Word<FilePath>>,
    /// Rules, one of which must hold.
    pub any: Option<At<Vec<At<Table<Rule>>>>>,
}

/// One of a cohort's rules: exactly one of header, cookie, app and percent.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Name of a header, whose value must be that of equals.
    pub header: Option<Word<HeaderName>>,
    /// Name of a cookie, whose value must be that of equals.
    pub cookie: Option<Word<CookieName>>,
    /// The value, exactly. REQUIRED with header and cookie.
    pub equals: Option<Word<String>>,
    /// Name of the app that calls.
    pub app: Option<Word<Name>>,
    /// Percent of all users, in steps of 0.01.
    pub percent: Option<At<Points<0>>>,
    /// Which percent of the users it is: another salt picks others. Default: the cohort's name.
    pub salt: Option<Word<String>>,
}
