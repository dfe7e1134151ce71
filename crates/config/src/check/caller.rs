//! The checks of `[auth.*]`, `[app.*]` and `[limit.*]`.
//!
//! A key that belongs to another kind of proof is a finding, since it would protect nothing. No two keys of all apps
//! may be the same, since a request must identify one app. Of two equal keys, the later one gets the finding.

use std::collections::HashMap;
use std::sync::Arc;

use super::names::Names;
use super::{Check, duration, spelt, twice, word};
use crate::file::caller as form;
use crate::file::caller::AuthWord;
use crate::file::scalar::{FilePath, Name, Word};
use crate::file::{ConfigForm, Item};
use crate::model::{Auth, AuthKind, Limit, Rate};
use crate::source_map::Span;
use base::secret::{FILE_MAX, Secret, line};
use client_auth::apps::{App, AppKey, KeySecret};
use client_auth::jwt::KeySet;

/// The most bytes of a key set.
const JWKS_MAX: u64 = 1 << 20;

impl Check<'_, '_> {
    pub(super) fn auth(&mut self, item: &Item<form::AuthForm>) -> Option<Auth> {
        let form = &item.form;
        let Some(kind) = &form.kind else {
            self.missing(item.whole, &item.span, "kind", "kind = \"api_key\"; or \"hmac\", \"jwt\"");
            return None;
        };
        let kind = kind.value.0;
        let name = |at: &Option<Word<Name>>| at.as_ref().map(|at| at.span.clone());
        self.belongs(kind, "header", form.header.as_ref().map(|at| at.span.clone()), AuthWord::ApiKey);
        self.belongs(kind, "clock_skew", form.clock_skew.as_ref().map(|at| at.span.clone()), AuthWord::Hmac);
        self.belongs(kind, "issuer", name(&form.issuer), AuthWord::Jwt);
        self.belongs(kind, "audience", name(&form.audience), AuthWord::Jwt);
        self.belongs(kind, "jwks_file", form.jwks_file.as_ref().map(|at| at.span.clone()), AuthWord::Jwt);
        self.belongs(kind, "user_claim", name(&form.user_claim), AuthWord::Jwt);
        let kind = match kind {
            AuthWord::ApiKey => AuthKind::ApiKey { header: form.header.as_ref()?.value.0.clone() },
            AuthWord::Hmac => {
                let clock_skew = duration(&form.clock_skew);
                if let Some(at) = form.clock_skew.as_ref().filter(|_| clock_skew.is_zero()) {
                    let hint = "such as \"5m\"";
                    self.findings.at(&at.span, "`clock_skew` must be longer than nothing: no clock is exact", hint);
                }
                AuthKind::Hmac { clock_skew }
            }
            AuthWord::Jwt => self.jwt(item)?,
        };
        Some(Auth { name: Arc::from(&*item.name), kind, place: self.places.place(&item.span) })
    }

    fn belongs(&mut self, kind: AuthWord, key: &str, written: Option<Span>, owner: AuthWord) {
        let word = |kind: AuthWord| match kind {
            AuthWord::ApiKey => "api_key",
            AuthWord::Hmac => "hmac",
            AuthWord::Jwt => "jwt",
        };
        if let Some(span) = written.filter(|_| kind != owner) {
            let message = format!("`{key}` means nothing where kind = \"{}\"", word(kind));
            self.findings.at(&span, message, format!("remove it: it belongs to kind = \"{}\"", word(owner)));
        }
    }

    fn jwt(&mut self, item: &Item<form::AuthForm>) -> Option<AuthKind> {
        let form = &item.form;
        let text = |at: &Option<Word<Name>>| at.as_ref().map(|at| at.value.0.0.clone());
        let Some(file) = &form.jwks_file else {
            self.missing(item.whole, &item.span, "jwks_file", "jwks_file = \"secrets/users.jwks\"");
            return None;
        };
        let keys = match KeySet::parse(&self.file(file, JWKS_MAX)?) {
            Ok(keys) => Arc::new(keys),
            Err(error) => {
                let (message, hint) = error.split_once('\n').unwrap_or((&error, "export the set anew"));
                self.findings.at(&file.span, message, hint);
                return None;
            }
        };
        let (issuer, audience, user_claim) = (text(&form.issuer), text(&form.audience), text(&form.user_claim));
        Some(AuthKind::Jwt { issuer, audience, keys, user_claim })
    }

    pub(super) fn apps(&mut self, form: &ConfigForm) -> Vec<App> {
        let limits = Names::limits(form);
        let mut seen: HashMap<[u8; 32], Span> = HashMap::new();
        form.apps.iter().map(|item| self.app(item, &limits, &mut seen)).collect()
    }

    fn app(&mut self, item: &Item<form::AppForm>, limits: &Names<'_>, seen: &mut HashMap<[u8; 32], Span>) -> App {
        let form = &item.form;
        let ids = form.keys.iter().filter_map(|at| at.value.0.id.as_ref());
        for (again, first) in twice(ids.map(|at| (at.value.0.clone(), &at.span))) {
            self.collision(again, "this app has a key of this id already", first);
        }
        let mut keys = Vec::new();
        for at in &form.keys {
            let key = &at.value.0;
            let example = "{ id = \"k1\", secret_file = \"secrets/acme.k1\" }";
            match (&key.id, &key.secret_file) {
                (Some(id), Some(file)) => {
                    let Some(secret) = self.key_secret(file) else { continue };
                    let hash = secret.hash();
                    if let Some(first) = seen.insert(hash, file.span.clone()) {
                        self.collision(&file.span, "another key is the same: no two may be", &first);
                    }
                    keys.push(AppKey { id: Arc::from(&*id.value.0.0), secret });
                }
                (None, _) => self.missing(item.whole, &at.span, "id", example),
                (_, None) => self.missing(item.whole, &at.span, "secret_file", example),
            }
        }
        App {
            name: Arc::from(&*item.name),
            status: word(&form.status),
            keys,
            limits: self.all_named("limit", &form.limits, limits),
            place: self.places.place(&item.span),
        }
    }

    /// The key of an app: one line of visible ASCII, or its hash.
    fn key_secret(&mut self, file: &Word<FilePath>) -> Option<KeySecret> {
        let bytes = self.file(file, FILE_MAX)?;
        let line = line(&bytes);
        if let Some(digits) = line.strip_prefix(b"sha256:") {
            let hash = std::str::from_utf8(digits).ok().and_then(from_hex);
            if hash.is_none() {
                let hint = "make it: printf sha256: > FILE; printf %s \"$KEY\" | sha256sum | cut -c1-64 >> FILE";
                self.findings.at(&file.span, "what follows `sha256:` is not 64 hexadecimal digits", hint);
            }
            return hash.map(KeySecret::Sha256);
        }
        if line.is_empty() || !line.iter().all(u8::is_ascii_graphic) {
            let message = if line.is_empty() { "the key file is empty" } else { "the key is not one word" };
            self.findings.at(&file.span, message, "one line of letters and digits: openssl rand -hex 32");
            return None;
        }
        Some(KeySecret::Plain(Secret(Arc::from(line))))
    }

    pub(super) fn limit(&mut self, item: &Item<form::LimitForm>) -> Limit {
        let form = &item.form;
        for (again, first) in twice(form.key.iter().map(|at| (&at.value.0, &at.span))) {
            self.collision(again, "this part of the key is listed twice", first);
        }
        if form.rate.is_none() && form.concurrency.is_none() && item.whole {
            let hint = "add `rate = \"100/s\"`, `concurrency = 50`, or both";
            self.findings.at(&item.span, "the limit limits nothing", hint);
        }
        if let (Some(burst), None) = (&form.burst, &form.rate)
            && item.whole
        {
            self.findings.at(&burst.span, "`burst` means nothing without `rate`", "add `rate = \"100/s\"`");
        }
        let rate = form.rate.as_ref().map(|at| at.value.0);
        let a_second = |rate: form::RateText| (rate.count / rate.per.as_secs() as u32).max(1);
        let burst = |rate| form.burst.as_ref().map_or_else(|| a_second(rate), |at| at.value.0 as u32);
        let rate = rate.map(|rate| Rate { count: rate.count, per: rate.per, burst: burst(rate) });
        if let (Some(Err(error)), Some(at)) = (rate.map(Rate::as_kept), &form.rate) {
            let span = form.burst.as_ref().map_or(&at.span, |burst| &burst.span);
            self.findings.at(span, error.to_string(), "a smaller `burst`, or a higher `rate`");
        }
        Limit {
            name: Arc::from(&*item.name),
            key: spelt(&form.key),
            rate,
            concurrency: form.concurrency.as_ref().map(|at| at.value.0 as u32),
            place: self.places.place(&item.span),
        }
    }

    /// The indices of all names listed, each once.
    pub(super) fn all_named(&mut self, what: &str, written: &[Word<Name>], names: &Names<'_>) -> Vec<usize> {
        for (again, first) in twice(written.iter().map(|at| (&at.value.0.0, &at.span))) {
            self.collision(again, &format!("this {what} is listed twice"), first);
        }
        written.iter().filter_map(|name| self.named(name, names)).collect()
    }
}

fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
