//! Warnings: what is legal in a configuration and hardly what its author wants.
//!
//! They are made for a configuration without findings, and do not stop it. A warning names a way by which a request
//! gets through that was to be kept out, and a remedy. Defaults get no warning, nor settings that can only be intended:
//! a reader who is warned of everything reads nothing.

mod around;

use super::findings::LIMIT;
use super::model::ledger::Channel;
use super::model::{Action, AuthKind, Config};
use base::finding::Finding;
use providers::Numbers;
use providers::configured::{Shape, TextKind};

/// The most warnings logged when a configuration is taken over.
const SAID: usize = 20;

/// All warnings, in the order of their places.
pub fn warnings(config: &Config) -> Vec<Finding> {
    let mut found = around::ways(config);
    found.extend(audiences(config));
    found.extend(secrets_compressed(config));
    found.extend(accounts(config));
    found.sort();
    let more = found.len().saturating_sub(LIMIT);
    if more > 0 {
        found.truncate(LIMIT);
        let hint = "mend the first ones and check again";
        found.push(config.server.place.warning(format!("and {more} more warnings"), hint));
    }
    found
}

/// Logs the warnings of a configuration that is served from now on.
pub fn say(warnings: &[Finding]) {
    for warning in warnings.iter().take(SAID) {
        log::warn!("configuration: {}", warning.to_string().replace('\n', " "));
    }
    if let Some(more) = warnings.len().checked_sub(SAID).filter(|more| *more > 0) {
        log::warn!("configuration: and {more} more warnings: `tollgate check` prints all of them");
    }
}

/// An issuer makes tokens for all its applications, and ID tokens beside access tokens.
fn audiences(config: &Config) -> impl Iterator<Item = Finding> {
    let any = |kind: &AuthKind| matches!(kind, AuthKind::Jwt { audience: None, .. });
    config.auths.iter().filter(move |auth| any(&auth.kind)).map(|auth| {
        let message =
            format!("auth `{}` has no `audience`: a token that was made for another application passes", auth.name);
        auth.place.warning(
            message,
            format!("add what `aud` says in tokens for this one, such as audience = \"{}\"", auth.name),
        )
    })
}

/// Channels of a merchant with one account should all name it, and so should those with two.
fn accounts(config: &Config) -> impl Iterator<Item = Finding> {
    let ledger = config.ledger.iter();
    ledger.flat_map(|ledger| {
        let channels = || ledger.channels.iter();
        channels().filter_map(move |channel| {
            let Numbers::OfAllAccounts { account } = channel.provider.provider.numbers else { return None };
            let names_one = |channel: &Channel| channel.provider.values.text(account).is_some();
            if names_one(channel) {
                return None;
            }
            let is_sibling = |other: &&Channel| {
                other.merchant == channel.merchant && other.provider.provider == channel.provider.provider
            };
            let other = channels().filter(is_sibling).find(|other| names_one(other))?;
            let (name, key) = (&channel.name, account.name);
            let message =
                format!("ledger.channel.{name} names no `{key}`, and {} of the same merchant does", other.name);
            let example = match account.shape {
                Shape::Text(TextKind::Any { example, .. }) => format!(", such as {key} = {example}"),
                _ => String::new(),
            };
            let hint = format!("add to {name} what the provider's dashboard shows{example}");
            Some(ledger.place.warning(message, hint))
        })
    })
}

/// BREACH: the length of a compressed answer tells whether the client's input resembles its content.
fn secrets_compressed(config: &Config) -> impl Iterator<Item = Finding> {
    let forwards = |action: &Action| matches!(action, Action::Upstream(_));
    let routes = config.routes.iter();
    routes.filter(move |route| route.filters.compression.0 && !route.auths.is_empty() && forwards(&route.action)).map(|route| {
        let message = format!(
            "route `{}` compresses answers to callers that it knows: where one holds a secret beside what the request says, \
             its length tells the secret (BREACH)",
            route.name
        );
        route.place.warning(message, "keep `compress` for a route of what is public, or for answers that repeat no input")
    })
}
