//! The checks of `[ledger]` and its merchants.
//!
//! A store's key that is too short, a token that two share, or a merchant that leads into one's own network would show
//! only when money moves; so all of it is checked here. A merchant's host is checked where it is an address: names are
//! resolved, and checked, by each delivery. A password in the store's URL is a finding, which must not show it.

mod channel;
mod keys;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Check, address_of, collide, number, twice};
use providers::standardwebhooks;

use crate::file::ledger::{self as form, FileOrNone};
use crate::file::located::Located;
use crate::file::scalar::{FilePath, Text, Word, shown};
use crate::file::{ConfigForm, Item};
use crate::model::ledger::UPSTREAM;
use crate::model::ledger::{Ledger, Merchant, Store};
use crate::source_map::Span;
use base::finding::Place;
use base::net::is_private;
use base::secret::Secret;

/// The ways to write a store.
const STORES: &str = "\"sqlite:ledger.db\" (a file in state_dir), or \"postgres://user@host/db\"";

/// A secret, and the place that names its file.
type Held<'f> = (Secret, &'f Span);

impl Check<'_, '_> {
    pub(super) fn ledger(&mut self, form: &ConfigForm, state_dir: &Path) -> Option<Ledger> {
        let item = form.ledger.as_ref()?;
        let address = address_of(item, item.form.address.as_ref());
        let embedded = item.form.embedded.unwrap_or_default();
        if embedded && !cfg!(feature = "ledger") {
            let hint = "take `[ledger]` out, or set `embedded = false` where another process keeps the books, or use a \
                        build with the feature `ledger`";
            self.findings.at(&item.span, "this build has no ledger", hint);
        }
        if let Some((address, span)) = address {
            self.ledger_address(form, address, span);
        }
        for upstream in form.upstreams.iter().filter(|upstream| upstream.name == UPSTREAM) {
            let message = "an upstream cannot be called `ledger` beside `[ledger]`: metrics could not tell them apart";
            self.findings.at(&upstream.span, message, "give it another name");
        }
        let store = self.store(item, state_dir);
        let encryption_keys = self.encryption_keys(item);
        let mut tokens = Vec::new();
        let token = self.optional_token(item.form.token_file.as_ref(), &mut tokens);
        let (delivery_backoff, delivery_timeout) = self.deliveries(&item.form, item.whole);
        let channels = self.channels(form);
        let merchants = form.merchants.iter().filter_map(|item| self.merchant(item, &mut tokens)).collect();
        self.shared_tokens(&tokens);
        let (address, span) = address?;
        Some(Ledger {
            address,
            embedded,
            store: store?,
            encryption_keys,
            token,
            batch_max: number(&item.form.batch_max) as usize,
            delivery_backoff,
            delivery_timeout,
            channels,
            merchants,
            state_dir: state_dir.to_owned(),
            place: self.places.place(span),
        })
    }

    fn ledger_address(&mut self, form: &ConfigForm, address: SocketAddr, span: &Span) {
        if address.port() == 0 {
            let hint = "such as \"127.0.0.1:9700\": routes and callers must find it";
            self.findings.at(span, "the ledger cannot have port 0", hint);
        }
        let mut listeners = form.listeners.iter().filter_map(|item| item.form.address.as_ref());
        if let Some(other) = listeners.find(|other| collide(other.value.0, address)) {
            self.collision(span, &format!("a listener has `{address}` already"), &other.span);
        }
        let admin = form.admin.as_ref().and_then(|admin| address_of(admin, admin.form.address.as_ref()));
        if let Some((_, first)) = admin.filter(|(other, _)| collide(*other, address)) {
            self.collision(span, &format!("the admin listener has `{address}` already"), first);
        }
    }

    fn store(&mut self, item: &Item<form::LedgerForm>, state_dir: &Path) -> Option<Store> {
        let password = item.form.store_password_file.as_ref().and_then(named_file);
        let at = item.form.store.as_ref()?;
        let text = &*at.value.0;
        if let Some(path) = text.strip_prefix("sqlite:") {
            self.no_password(password.as_ref());
            if path.is_empty() || path.starts_with("//") || path == ":memory:" || path.contains(['?', '\0']) {
                let message = format!("`{}` names no file", shown(text));
                self.findings.at(&at.span, message, "only a path follows `sqlite:`, such as \"sqlite:ledger.db\"");
            }
            return Some(Store::Sqlite(state_dir.join(path)));
        }
        let place = self.places.place(&at.span);
        let place = Place { text: without_password(&place.text).into(), ..place };
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            let message = format!("`{}` is not a store", shown(&without_password(text)));
            self.findings.elsewhere(&place, message, STORES);
            return None;
        }
        if let Some((message, hint)) = unfit(text) {
            self.findings.elsewhere(&place, message, hint);
        }
        let password = password.and_then(|file| self.password(&file));
        Some(Store::Postgres { url: text.to_owned(), password })
    }

    fn no_password(&mut self, file: Option<&Word<FilePath>>) {
        if let Some(file) = file {
            let hint = "remove it, or name a store such as \"postgres://user@host/db\"";
            self.findings.at(&file.span, "a SQLite store has no password", hint);
        }
    }

    /// The encryption keys: at least one, each of them once.
    fn encryption_keys(&mut self, item: &Item<form::LedgerForm>) -> Vec<Secret> {
        let Some(files) = &item.form.encryption_key_files else {
            let example = "encryption_key_files = [\"secrets/ledger.key\"], made by `openssl rand -hex 32`";
            self.missing(item.whole, &item.span, "encryption_key_files", example);
            return Vec::new();
        };
        if files.value.is_empty() && item.whole {
            let hint = "name at least one file; `openssl rand -hex 32` makes its content";
            self.findings.at(&files.span, "`encryption_key_files` is empty", hint);
        }
        let keys: Vec<Held<'_>> =
            files.value.iter().filter_map(|file| Some((self.encryption_key(file)?, &file.span))).collect();
        for (again, first) in twice(keys.iter().map(|(key, span)| (key.0.clone(), *span))) {
            self.collision(again, "this key is there twice", first);
        }
        keys.into_iter().map(|(key, _)| key).collect()
    }

    fn deliveries(&mut self, form: &form::LedgerForm, whole: bool) -> (Vec<Duration>, Duration) {
        let timeout = self.positive(&form.delivery_timeout);
        let Some(written) = &form.delivery_backoff else { return (vec![], timeout) };
        if written.value.is_empty() && whole {
            let hint = "name the wait before each further try, such as [\"5s\", \"5m\", \"30m\"]";
            self.findings.at(&written.span, "`delivery_backoff` is empty", hint);
        }
        let waits = written.value.iter().map(|at| self.longer_than_nothing(at)).collect();
        (waits, timeout)
    }

    fn merchant<'f>(&mut self, item: &'f Item<form::MerchantForm>, tokens: &mut Vec<Held<'f>>) -> Option<Merchant> {
        self.ledger_name("merchant", item);
        let form = &item.form;
        let allow_private = form.allow_private.unwrap_or_default();
        match &form.url {
            None => self.missing(item.whole, &item.span, "url", "url = \"https://shop.example.com/payments\""),
            Some(at) => {
                if let Some(ip) = literal(&at.value.0.0).filter(|ip| !allow_private && is_private(*ip)) {
                    let message = format!("`{ip}` is a loopback, private or reserved address");
                    let hint = "name a public host, or add `allow_private = true` where this one is meant";
                    self.findings.at(&at.span, message, hint);
                }
            }
        }
        let secret = form.secret_file.as_ref().map(|file| self.key_file(&standardwebhooks::SECRET, file));
        if form.secret_file.is_none() {
            self.missing(item.whole, &item.span, "secret_file", "secret_file = \"secrets/shop.whsec\"");
        }
        let token = self.optional_token(form.token_file.as_ref(), tokens);
        Some(Merchant {
            name: Arc::from(&*item.name),
            url: form.url.as_ref()?.value.0.0.clone(),
            secret: secret??,
            token,
            allow_private,
        })
    }

    fn optional_token<'f>(&mut self, file: Option<&'f Word<FileOrNone>>, tokens: &mut Vec<Held<'f>>) -> Option<Secret> {
        let at = file?;
        let token = self.token(&named_file(at)?)?;
        tokens.push((token.clone(), &at.span));
        Some(token)
    }

    /// A token identifies its caller, so no two may have the same.
    fn shared_tokens(&mut self, tokens: &[Held<'_>]) {
        for (again, first) in twice(tokens.iter().map(|(token, span)| (token.0.clone(), *span))) {
            let place = self.places.place(first);
            let hint = format!("the other one is at {}:{}; `openssl rand -hex 32` makes one", place.file, place.line);
            self.findings.at(again, "this token is another's too: whose a call is could not be told", hint);
        }
    }

    /// Names of channels and merchants appear in URLs and in account ids.
    fn ledger_name<T>(&mut self, kind: &str, item: &Item<T>) {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if !item.name.is_empty() && !item.name.bytes().all(fits) {
            let message = format!("`{}` is no name for a {kind}", shown(&item.name));
            self.findings.at(&item.span, message, "small letters, digits, `_` and `-`: it stands in URLs and accounts");
        }
    }
}

/// The file, if one is named.
fn named_file(at: &Word<FileOrNone>) -> Option<Word<FilePath>> {
    let path = at.value.0.0.clone()?;
    Some(Located { span: at.span.clone(), value: Text(path) })
}

/// Why the URL of a PostgreSQL store cannot be used, and the way out.
#[cfg(feature = "ledger")]
fn unfit(url: &str) -> Option<(String, &'static str)> {
    match url.parse::<tokio_postgres::Config>() {
        Err(error) => Some((format!("the store's URL cannot be read: {error}"), STORES)),
        Ok(config) if config.get_password().is_some() || without_password(url) != *url => {
            let hint = "take it out of the URL and name a file with `store_password_file`";
            Some(("the store's URL carries a password".to_owned(), hint))
        }
        Ok(config) if config.get_hosts().is_empty() => Some(("the store's URL names no host".to_owned(), STORES)),
        Ok(_) => None,
    }
}

/// Only a build that opens stores can check it.
#[cfg(not(feature = "ledger"))]
fn unfit(_: &str) -> Option<(String, &'static str)> {
    None
}

/// The address that a URL names, in any spelling: the delivery reads `127.1` and `0x7f000001` as addresses too.
fn literal(url: &str) -> Option<IpAddr> {
    let url = url::Url::parse(url).ok()?;
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// A URL that is safe to show: what may be a password is left out.
fn without_password(text: &str) -> String {
    let mut shown = text.to_owned();
    if let (Some(scheme), Some(at)) = (text.find("://"), text.rfind('@'))
        && let Some(colon) = text.get(scheme + 3..at).and_then(|user| user.find(':'))
    {
        shown.replace_range(scheme + 3 + colon..at, ":***");
    }
    if let Some(start) = shown.find("password=").map(|at| at + "password=".len()) {
        let end = shown[start..].find(['&', '"', '\'', ' ']).map_or(shown.len(), |length| start + length);
        shown.replace_range(start..end, "***");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for (text, fit) in [
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres://u:p@h/db", "postgres://u:***@h/db"),
            ("postgres://u:a/b:c@d@h/db", "postgres://u:***@h/db"),
            ("postgres://u@h/db?password=x&sslmode=require", "postgres://u@h/db?password=***&sslmode=require"),
            ("host=h password=x user=u", "host=h password=*** user=u"),
            ("\"mysql://u:p@h\"", "\"mysql://u:***@h\""),
            ("postgres://h:5432/db", "postgres://h:5432/db"),
        ] {
            assert_eq!(without_password(text), fit);
        }
    }

    #[test]
    fn an_address_is_known_in_every_spelling_of_a_url() {
        for url in
            ["http://127.0.0.1/", "http://127.1:80/x", "http://0x7f000001/", "http://2130706433/", "http://0177.1"]
        {
            assert_eq!(literal(url), Some(IpAddr::from([127, 0, 0, 1])), "{url}");
        }
        assert_eq!(literal("https://[::1]:9100/"), Some("::1".parse().unwrap()));
        assert_eq!(literal("https://shop.example.com/127.0.0.1"), None);
    }
}
