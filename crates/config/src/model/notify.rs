//! The model of `[notify.*]`: where reports and alarms go.

use std::sync::Arc;

use base::finding::Place;
use base::secret::Secret;

/// `[notify.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct Notify {
    /// The table's name.
    pub name: Arc<str>,
    /// The URL that reports are posted to.
    pub url: String,
    /// The format of the messages.
    pub format: NotifyFormat,
    /// Signs webhooks: the decoded bytes of `whsec_…`.
    pub secret: Option<Secret>,
    /// The place of the table.
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
