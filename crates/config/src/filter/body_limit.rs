//! `body_max`: the longest request body. A longer one gets 413: at once where its length is announced, else
//! when the limit is passed.

use crate::diff::differing;
use crate::file::route::RouteForm;

/// The most bytes of a body; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyLimit(pub Option<u64>);

impl BodyLimit {
    pub(super) fn check(form: &RouteForm) -> BodyLimit {
        BodyLimit(form.body_max.as_ref().map(|at| at.value.0.0))
    }

    pub(super) fn changed(&self, old: &BodyLimit) -> Vec<&'static str> {
        differing([("body_max", self != old)])
    }

    pub(super) fn explain(self) -> Option<String> {
        Some(format!("a request body of more than {} bytes would be answered 413", self.0?))
    }

    /// Whether this many bytes are too many.
    pub fn is_exceeded_by(self, bytes: u64) -> bool {
        self.0.is_some_and(|max| bytes > max)
    }
}
