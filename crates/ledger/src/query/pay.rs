//! What a payer needs, as it is shown, and as it is kept in evidence.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use providers::api;

/// What a payer needs in order to pay: one of these.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pay {
    /// An address to open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The text of a QR code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qr: Option<String>,
    /// A secret for the provider's own form in the payer's browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<String>,
}

impl From<api::Pay> for Pay {
    fn from(pay: api::Pay) -> Pay {
        match pay {
            api::Pay::Url(text) => Pay { url: Some(text), ..Pay::default() },
            api::Pay::Qr(text) => Pay { qr: Some(text), ..Pay::default() },
            api::Pay::ClientSecret(text) => Pay { client_secret: Some(text), ..Pay::default() },
        }
    }
}
