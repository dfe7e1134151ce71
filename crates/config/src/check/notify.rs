//! The checks of `[notify.NAME]`.
//!
//! Only webhooks are signed: a secret beside another format would protect nothing, so it is
//! refused rather than ignored.

use std::sync::Arc;

use super::{Check, word};
use crate::file::Item;
use crate::file::notify as form;
use crate::model::{Notify, NotifyFormat};

impl Check<'_, '_> {
    pub(super) fn notify(&mut self, item: &Item<form::NotifyForm>) -> Option<Notify> {
        let form = &item.form;
        let format = word(&form.format);
        if form.url.is_none() {
            self.missing(item.whole, &item.span, "url", "url = \"http://127.0.0.1:9300/alerts\"");
        }
        let secret = form.secret_file.as_ref().map(|file| match format {
            NotifyFormat::Webhook => self.webhook_secret(file),
            NotifyFormat::Alertmanager => {
                let hint = "remove `secret_file`, or use format = \"webhook\"";
                self.findings.at(&file.span, "only webhooks are signed: Alertmanager takes no secret", hint);
                None
            }
        });
        Some(Notify {
            name: Arc::from(&*item.name),
            url: form.url.as_ref()?.value.0.0.clone(),
            format,
            secret: secret.flatten(),
            place: self.places.place(&item.span),
        })
    }
}
