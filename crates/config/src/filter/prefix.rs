//! `strip_prefix` and `add_prefix`: the path towards the server. What is added comes after what is stripped.

use base::path::prefixed;

use crate::diff::differing;
use crate::file::route::RouteForm;

/// What is cut from the start of a path, and what is put before the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prefix {
    /// Cut first.
    pub strip: Option<String>,
    /// Put before what is left.
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

    /// Whether paths stay as they are.
    pub fn is_empty(&self) -> bool {
        self.strip.is_none() && self.add.is_none()
    }

    /// The path towards the server, of a normalised one.
    pub fn forwarded(&self, path: &str) -> String {
        prefixed(path, self.strip.as_deref(), self.add.as_deref())
    }
}
