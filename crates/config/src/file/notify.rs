//! The form of `[notify.NAME]`.
//!
//! Only the text of a URL is checked: the first report shows whether a server listens there. A URL with a password is
//! refused, since secrets come from files and a URL appears in findings and logs.

use http::Uri;
use schemars::{JsonSchema, Schema, json_schema};
use serde::Deserialize;

use super::scalar::{FilePath, FromText, OneOf, Word, not_a, shown};
use crate::model::NotifyFormat;

/// Where fault reports and alarms go.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyForm {
    /// Where messages are posted: http:// or https://.
    #[schemars(required)]
    pub url: Option<Word<Url>>,
    /// "webhook" (Standard Webhooks) or "alertmanager" (its API, version 2).
    #[schemars(extend("default" = "webhook"))]
    pub format: Option<Word<NotifyFormat>>,
    /// File with the secret that signs webhooks: "whsec_" and 24 to 64 bytes in base64. Absent: unsigned.
    pub secret_file: Option<Word<FilePath>>,
}

impl OneOf for NotifyFormat {
    const WHAT: &'static str = "a format of reports";
    const EXAMPLE: &'static str = "\"webhook\"";
    const WORDS: &'static [(&'static str, Self)] =
        &[("webhook", NotifyFormat::Webhook), ("alertmanager", NotifyFormat::Alertmanager)];
}

/// A URL that reports can be posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(pub String);

impl FromText for Url {
    const WHAT: &'static str = "a URL";
    const EXAMPLE: &'static str = "\"http://127.0.0.1:9300/alerts\": http or https, and a host";
    fn schema() -> Schema {
        json_schema!({ "pattern": "^[hH][tT][tT][pP][sS]?://." })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|_| not_a::<Self>(text))?;
        // The sender reads it so; it refuses hosts such as 10.0.0.256.
        url::Url::parse(text).map_err(|_| not_a::<Self>(text))?;
        let authority = uri.authority().filter(|_| matches!(uri.scheme_str(), Some("http" | "https")));
        let authority = authority.ok_or_else(|| not_a::<Self>(text))?;
        if authority.as_str().contains('@') {
            return Err("the URL carries a user or a password\nname only host and path; `secret_file` signs what is \
                        posted"
                .to_owned());
        }
        if text.contains('#') {
            return Err(format!("`{}` has a fragment, which never travels\nremove what begins with `#`", shown(text)));
        }
        let port = authority.as_str()[authority.host().len()..].strip_prefix(':');
        let valid = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if authority.host().is_empty() || !valid { Err(not_a::<Self>(text)) } else { Ok(Url(text.to_owned())) }
    }
}
