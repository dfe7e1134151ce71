//! `strip_prefix` and `add_prefix`: the path towards the server. The prefix is added after the other one is stripped.

use base::path::prefixed;

use crate::diff::differing;
use crate::file::route::RouteForm;

/// The prefix removed from the start of a path, and the one put before the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prefix {
    /// Removed first.
    pub strip: Option<String>,
    /// Put before the rest.
    pub add: Option<String>,
}

impl Prefix {
    pub(super) fn check(form: &RouteForm) -> Prefix {
        let [strip, add] = [&form.strip_prefix, &form.add_prefix].map(|at| Some(at.as_ref()?.value.0.0.clone()));
        Prefix { strip, add }
    }

    pub(super) fn changed(&self, old: &Prefix) -> Vec<&'static str> {
        let Prefix { strip, add } = self;
        differing([("strip_prefix", old.strip != *strip), ("add_prefix", old.add != *add)])
    }

    /// Whether paths stay unchanged.
    pub fn is_empty(&self) -> bool {
        self.strip.is_none() && self.add.is_none()
    }

    /// The path towards the server, from a normalised path.
    pub fn forwarded(&self, path: &str) -> String {
        prefixed(path, self.strip.as_deref(), self.add.as_deref())
    }
}
