//! The payment providers, one file each. A provider's file holds all that Tollgate knows of it.
//!
//! | in a provider's file | is |
//! |---|---|
//! | `PROVIDER` | the row of this table: its name, its keys, what is special about its numbers |
//! | [`ConfigKey`]s | the keys of its channels in the configuration: schema, documents and checks come from them |
//! | a type with [`Verifier`] | who signed a message, whether it is in time, and what it means |
//!
//! `config` reads, checks and compares channels by these rows, and `ledger` verifies by them; neither decides by a
//! provider's name. To add one, write its file and add it to [`ALL`].
//!
//! | module | is |
//! |---|---|
//! | [`alipay`] | a form signed by RSA2 |
//! | [`wechatpay`] | JSON signed by RSA, with an encrypted resource |
//! | [`stripe`] | JSON signed by HMAC |
//! | [`standardwebhooks`] | JSON signed by HMAC or ed25519 |
//! | [`hmac`] | anything signed by HMAC, with fields by configuration |
//! | [`receive`], [`verify`], [`normalise`], [`event`] | a message on its way from raw bytes to its meaning |
//! | [`api`] | what a provider is asked, and what its answer means; each provider's `api` makes and reads it |
//! | [`configured`] | the keys of a channel, and their values |
//! | [`rsa`], [`signing`] | the shapes of RSA keys in files: providers' public ones, our private ones |
//! | [`keyed`], [`json`], [`form`] | signatures and formats that providers share |
//!
//! The signature is checked before the window, and the window before the signed content is parsed. Alipay is the
//! exception: its signature is a field of the form that it signs.

pub mod alipay;
pub mod api;
pub mod configured;
pub mod event;
pub mod form;
pub mod hmac;
pub mod json;
pub mod keyed;
pub mod normalise;
pub mod receive;
pub mod rsa;
pub mod signing;
pub mod standardwebhooks;
pub mod statement;
pub mod stripe;
pub mod verify;
pub mod wechatpay;

use std::fmt;

use self::configured::{ConfigKey, Names, Values};
use self::verify::{Verifier, Verify};
use base::units::Currency;

/// All providers, in the order in which they are listed.
pub const ALL: [&Provider; 5] =
    [&stripe::PROVIDER, &alipay::PROVIDER, &wechatpay::PROVIDER, &standardwebhooks::PROVIDER, &hmac::PROVIDER];

/// A payment provider.
pub struct Provider {
    /// `provider` in the configuration; also a column of the books, so it never changes.
    pub name: &'static str,
    /// The keys of its channels.
    pub keys: &'static [ConfigKey],
    /// Keys of which a channel needs at least one file.
    pub either: Option<Either>,
    /// Prepares a channel's keys, once per configuration.
    pub prepare: fn(&Values, &Names<'_>) -> Box<dyn Verify>,
    /// The words that it takes as an answer.
    pub dialect: Dialect,
    /// The accounts among which its numbers are unique.
    pub numbers: Numbers,
    /// Whether its messages name their owner (an app_id, an mchid). A message may then have come while it was not the
    /// channel's.
    pub names_owner: bool,
    /// Whether a refund states all refunds of its payment so far, itself included.
    pub cumulative_refunds: bool,
    /// The decimals of its amounts in a currency.
    pub digits: fn(Currency) -> u32,
    /// How it is called; `None` where it cannot be.
    pub outgoing: Option<api::Outgoing>,
}

impl Provider {
    /// The provider of this name.
    pub fn named(name: &str) -> Option<&'static Provider> {
        ALL.into_iter().find(|provider| provider.name == name)
    }

    /// Its key of this name.
    pub fn key(&self, name: &str) -> Option<&'static ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Its name: the rest is code.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Provider {
    fn eq(&self, other: &Provider) -> bool {
        self.name == other.name
    }
}

/// Keys of which a channel needs at least one file.
#[derive(Debug)]
pub struct Either {
    /// Their names.
    pub keys: &'static [&'static str],
    /// The finding for a channel without any.
    pub message: &'static str,
    /// The way out.
    pub hint: &'static str,
}

/// The form of answer that a provider reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Plain text: a word for success and one for failure.
    Words(&'static str, &'static str),
    /// `{"code", "message"}`, with the code for success and the one for failure.
    CodeAndMessage(&'static str, &'static str),
    /// `{"received":true}` and problem documents.
    Plain,
}

/// The accounts among which a provider's numbers are unique.
#[derive(Clone, Copy, Debug)]
pub enum Numbers {
    /// All accounts, so that a transaction is found under whichever it was filed.
    OfAllAccounts {
        /// The key that names a channel's account; absent, the account is the merchant's own.
        account: &'static ConfigKey,
    },
    /// One account.
    OfAnAccount,
}

/// Boxes a verifier.
fn verifier(verifier: impl Verifier + 'static) -> Box<dyn Verify> {
    Box::new(verifier)
}

#[cfg(test)]
mod tests;
