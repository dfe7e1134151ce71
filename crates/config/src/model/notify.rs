//! The checked form of `[notify.*]`: who is told when something is wrong.

use std::sync::Arc;

use base::finding::Place;
use base::secret::Secret;

/// `[notify.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Notify {
    /// The table's name.
    pub name: Arc<str>,
    /// Where reports are posted.
    pub url: String,
    /// In which form.
    pub format: NotifyFormat,
    /// Signs webhooks: the decoded bytes of `whsec_…`.
    pub secret: Option<Secret>,
    /// Where the table stands.
    pub place: Place,
}

/// `format` of `[notify.NAME]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyFormat {
    /// Standard Webhooks
    Webhook,
    /// Alertmanager's API, version 2
    Alertmanager,
}
