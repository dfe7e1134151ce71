//! `compress`: whether responses are compressed. The proxy's `compress` decides which, and how.

use crate::diff::differing;
use crate::file::route::RouteForm;

/// Whether responses are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression(pub bool);

impl Compression {
    pub(super) fn check(form: &RouteForm) -> Compression {
        Compression(form.compress.unwrap_or_default())
    }

    pub(super) fn changed(&self, old: &Compression) -> Vec<&'static str> {
        differing([("compress", self != old)])
    }

    pub(super) fn explain(self) -> Option<String> {
        self.0.then(|| "the response is compressed as the client accepts it, where its kind allows it".to_owned())
    }
}
