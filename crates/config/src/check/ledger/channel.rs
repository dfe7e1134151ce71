//! The checks of `[ledger.channel.NAME]`: a provider with all of its own keys, and none of another's.
//!
//! A key that belongs to another provider is refused even where it would do no harm: its author expects an effect. Of
//! platform keys with one serial the later one gets the finding; serials are compared without case.

use std::sync::Arc;

use super::super::{Check, number, twice, word};
use crate::file::ledger::channel::{
    self as form, ChannelForm as Written, Field, PlatformKeyForm, ProviderName as Named,
};
use crate::file::ledger::fee;
use crate::file::located::Located;
use crate::file::scalar::{FilePath, Name, OneOf, Word, shown};
use crate::file::{ConfigForm, Item};
use crate::findings::suggest;
use crate::model::ledger::{Channel, Fee, Fields, Hmac, Provider, RsaKey};
use crate::source_map::Span;

/// A list of files.
type Files = Located<Vec<Word<FilePath>>>;

impl Check<'_, '_> {
    pub(super) fn channels(&mut self, form: &ConfigForm) -> Vec<Channel> {
        let mut merchants: Vec<&str> = form.merchants.iter().map(|item| &*item.name).collect();
        merchants.sort_unstable();
        form.channels.iter().filter_map(|item| self.channel(item, &merchants, form.whole)).collect()
    }

    fn channel(&mut self, item: &Item<Written>, merchants: &[&str], all: bool) -> Option<Channel> {
        self.ledger_name("channel", item);
        let form = &item.form;
        match &form.merchant {
            None => self.missing(item.whole, &item.span, "merchant", "merchant = \"name\""),
            Some(at) if all && merchants.binary_search(&&*at.value.0.0).is_err() => self.no_merchant(at, merchants),
            Some(_) => {}
        }
        let Some(provider) = form.provider.as_ref().map(|at| at.value.0) else {
            self.missing(item.whole, &item.span, "provider", "provider = \"stripe\"");
            return None;
        };
        self.foreign_keys(form, provider);
        if form.require_order == Some(true) {
            let hint = "remove it: no call makes orders yet, so every payment would be parked for ever";
            self.findings.at(&item.span, "`require_order` cannot be true yet", hint);
        }
        let provider = match provider {
            Named::Stripe => self.stripe(item),
            Named::Alipay => self.alipay(item),
            Named::WechatPay => self.wechat_pay(item),
            Named::StandardWebhooks => self.standard_webhooks(item),
            Named::Hmac => self.hmac(item),
        };
        Some(Channel {
            name: Arc::from(&*item.name),
            provider: provider?,
            merchant: Arc::from(&*form.merchant.as_ref()?.value.0.0),
            require_order: form.require_order.unwrap_or_default(),
            fee: form.fee.as_ref().and_then(|at| charged(&at.value.0)),
        })
    }

    fn no_merchant(&mut self, at: &Word<Name>, merchants: &[&str]) {
        let wanted = &at.value.0.0;
        let hint = match merchants {
            [] => format!("add it: [ledger.merchant.{wanted}] url = \"https://shop.example.com/payments\""),
            known => suggest(wanted, known, "merchants"),
        };
        self.findings.at(&at.span, format!("there is no merchant `{wanted}`"), hint);
    }

    /// Refuses every key that is not one of this provider's.
    fn foreign_keys(&mut self, form: &Written, provider: Named) {
        for (key, owners, span) in keys(form) {
            let Some(span) = span.filter(|_| !owners.contains(&provider)) else { continue };
            let owners: Vec<String> = owners.iter().map(|owner| format!("{}'s", label(*owner))).collect();
            let message = format!("`{key}` is {}", owners.join(" and "));
            self.findings.at(span, message, format!("remove it: {} has {}", label(provider), own_keys(provider)));
        }
    }

    /// The content of each of the files; `key` must name at least one.
    fn each<T>(
        &mut self,
        (item, key, files): (&Item<Written>, &str, Option<&Files>),
        mut read: impl FnMut(&mut Self, &Word<FilePath>) -> Option<T>,
    ) -> Vec<T> {
        let Some(files) = files else {
            self.missing(item.whole, &item.span, key, &format!("{key} = [\"secrets/{}\"]", item.name));
            return Vec::new();
        };
        if files.value.is_empty() && item.whole {
            self.findings.at(&files.span, format!("`{key}` is empty"), "name at least one file");
        }
        files.value.iter().filter_map(|file| read(self, file)).collect()
    }

    fn stripe(&mut self, item: &Item<Written>) -> Option<Provider> {
        let files = item.form.secret_files.as_ref();
        let secrets = self.each((item, "secret_files", files), |check, file| check.stripe_secret(file));
        if let Some(at) = item.form.account.as_ref().filter(|at| !at.value.0.0.starts_with("acct_")) {
            let message = format!("`{}` is no account of Stripe", shown(&at.value.0.0));
            self.findings.at(&at.span, message, "such as \"acct_1032D82eZvKYlo2C\", as its dashboard shows it");
        }
        let account = item.form.account.as_ref().map(|at| at.value.0.0.clone());
        Some(Provider::Stripe { secrets, account })
    }

    fn alipay(&mut self, item: &Item<Written>) -> Option<Provider> {
        let form = &item.form;
        if form.app_id.is_none() {
            self.missing(item.whole, &item.span, "app_id", "app_id = \"2021000000000000\"");
        }
        if form.seller_id.is_none() {
            self.missing(item.whole, &item.span, "seller_id", "seller_id = \"2088000000000000\"");
        }
        let files = form.public_key_files.as_ref();
        let public_keys = self.each((item, "public_key_files", files), |check, file| check.rsa_key(file));
        Some(Provider::Alipay {
            app_id: form.app_id.as_ref()?.value.0.0.clone(),
            seller_id: form.seller_id.as_ref()?.value.0.0.clone(),
            public_keys,
        })
    }

    fn wechat_pay(&mut self, item: &Item<Written>) -> Option<Provider> {
        let form = &item.form;
        if form.mchid.is_none() {
            self.missing(item.whole, &item.span, "mchid", "mchid = \"1900000000\"");
        }
        let api_v3_key = match &form.api_v3_key_file {
            Some(file) => self.api_v3_key(file),
            None => {
                let example = "api_v3_key_file = \"secrets/wechatpay.apiv3\"";
                self.missing(item.whole, &item.span, "api_v3_key_file", example);
                None
            }
        };
        let platform_keys = self.platform_keys(item);
        let mchid = form.mchid.as_ref()?.value.0.0.clone();
        Some(Provider::WechatPay { mchid, api_v3_key: api_v3_key?, platform_keys })
    }

    fn platform_keys(&mut self, item: &Item<Written>) -> Vec<(String, RsaKey)> {
        let example = "{ serial = \"5157F09EFDC096DE15EBE81A47057A72\", file = \"secrets/wechatpay.pem\" }";
        let Some(keys) = &item.form.platform_keys else {
            self.missing(item.whole, &item.span, "platform_keys", &format!("platform_keys = [{example}]"));
            return Vec::new();
        };
        if keys.value.is_empty() && item.whole {
            self.findings.at(&keys.span, "`platform_keys` is empty", format!("name at least one: {example}"));
        }
        let serials = keys.value.iter().filter_map(|key| key.value.0.serial.as_ref());
        for (again, first) in twice(serials.map(|at| (at.value.0.0.to_ascii_lowercase(), &at.span))) {
            self.collision(again, "this serial is there twice", first);
        }
        keys.value.iter().filter_map(|key| self.platform_key(&key.span, &key.value.0, item.whole)).collect()
    }

    fn platform_key(&mut self, span: &Span, form: &PlatformKeyForm, whole: bool) -> Option<(String, RsaKey)> {
        if form.serial.is_none() {
            self.missing(whole, span, "serial", "serial = \"5157F09EFDC096DE15EBE81A47057A72\"");
        }
        if form.file.is_none() {
            self.missing(whole, span, "file", "file = \"secrets/wechatpay.pem\"");
        }
        let key = form.file.as_ref().and_then(|file| self.rsa_key(file));
        Some((form.serial.as_ref()?.value.0.0.clone(), key?))
    }

    fn standard_webhooks(&mut self, item: &Item<Written>) -> Option<Provider> {
        let form = &item.form;
        let files = |written: &Option<Files>| written.as_ref().map_or(0, |at| at.value.len());
        if files(&form.secret_files) + files(&form.public_key_files) == 0 {
            if item.whole {
                let hint = "add secret_files = [\"secrets/name.whsec\"], or public_key_files = [\"secrets/name.whpk\"]";
                self.findings.at(&item.span, "the channel has no key: every callback would be refused", hint);
            }
            return None;
        }
        let secrets = form.secret_files.iter().flat_map(|at| &at.value);
        let secrets = secrets.filter_map(|file| self.signing_secret(file)).collect();
        let keys = form.public_key_files.iter().flat_map(|at| &at.value);
        let public_keys = keys.filter_map(|file| self.webhook_public_key(file)).collect();
        Some(Provider::StandardWebhooks { secrets, public_keys })
    }

    fn hmac(&mut self, item: &Item<Written>) -> Option<Provider> {
        let form = &item.form;
        let files = form.secret_files.as_ref();
        let secrets = self.each((item, "secret_files", files), |check, file| check.raw_secret(file));
        if form.header.is_none() {
            self.missing(item.whole, &item.span, "header", "header = \"x-signature\"");
        }
        Some(Provider::Hmac(Hmac {
            secrets,
            header: form.header.as_ref()?.value.0.clone(),
            encoding: word(&form.encoding),
            format: form.format.as_ref().map(|at| at.value.0),
            prefix: form.prefix.as_ref()?.value.0.0.clone(),
            fields: fields(form)?,
        }))
    }
}

fn fields(form: &Written) -> Option<Fields> {
    let of = |written: &Option<Word<Field>>| written.as_ref().map(|at| at.value.0.0.clone());
    Some(Fields {
        id: of(&form.id_field)?,
        order: of(&form.order_field)?,
        amount: of(&form.amount_field)?,
        major: word(&form.amount_unit) == form::Unit::Major,
        currency: of(&form.currency_field)?,
        kind: of(&form.kind_field)?,
    })
}

/// A fee of zero is no fee at all.
fn charged(form: &fee::FeeForm) -> Option<Fee> {
    let fee = Fee {
        percent: form.percent.as_ref().map_or(rust_decimal::Decimal::ZERO, |at| at.value.0),
        fixed_minor: number(&form.fixed_minor) as i64,
        minimum_minor: number(&form.minimum_minor) as i64,
        rounding: word(&form.rounding),
    };
    (!fee.percent.is_zero() || fee.fixed_minor > 0 || fee.minimum_minor > 0).then_some(fee)
}

/// A key of some providers: its name, its providers, and where it was written.
type ChannelKey<'f> = (&'static str, &'static [Named], Option<&'f Span>);

fn keys(form: &Written) -> [ChannelKey<'_>; 19] {
    fn at<T>(written: &Option<Located<T>>) -> Option<&Span> {
        written.as_ref().map(|at| &at.span)
    }
    use Named::{Alipay, Hmac, StandardWebhooks, Stripe, WechatPay};
    [
        ("secret_files", &[Stripe, StandardWebhooks, Hmac], at(&form.secret_files)),
        ("public_key_files", &[Alipay, StandardWebhooks], at(&form.public_key_files)),
        ("account", &[Stripe], at(&form.account)),
        ("app_id", &[Alipay], at(&form.app_id)),
        ("seller_id", &[Alipay], at(&form.seller_id)),
        ("mchid", &[WechatPay], at(&form.mchid)),
        ("api_v3_key_file", &[WechatPay], at(&form.api_v3_key_file)),
        ("platform_keys", &[WechatPay], at(&form.platform_keys)),
        ("header", &[Hmac], at(&form.header)),
        ("algorithm", &[Hmac], at(&form.algorithm)),
        ("encoding", &[Hmac], at(&form.encoding)),
        ("format", &[Hmac], at(&form.format)),
        ("prefix", &[Hmac], at(&form.prefix)),
        ("id_field", &[Hmac], at(&form.id_field)),
        ("order_field", &[Hmac], at(&form.order_field)),
        ("amount_field", &[Hmac], at(&form.amount_field)),
        ("amount_unit", &[Hmac], at(&form.amount_unit)),
        ("currency_field", &[Hmac], at(&form.currency_field)),
        ("kind_field", &[Hmac], at(&form.kind_field)),
    ]
}

fn own_keys(provider: Named) -> &'static str {
    match provider {
        Named::Stripe => "secret_files and account",
        Named::Alipay => "app_id, seller_id and public_key_files",
        Named::WechatPay => "mchid, api_v3_key_file and platform_keys",
        Named::StandardWebhooks => "secret_files and public_key_files",
        Named::Hmac => "secret_files, header, algorithm, encoding, format, prefix and the names of fields",
    }
}

fn label(provider: Named) -> &'static str {
    Named::WORDS.iter().find(|(_, named)| *named == provider).map_or("", |(word, _)| word)
}
