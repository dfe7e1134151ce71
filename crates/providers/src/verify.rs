//! The **verify** stage, which proves the sender and the time of a callback.
//!
//! Only this stage makes a [`VerifiedMessage`], and no provider can leave it out.

use super::event::ProviderEvent;
use super::receive::Received;

/// Why a callback is refused. The reasons are our own words and quote nothing of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// The signature is missing, wrong, or by a key that is not ours: 401.
    Forged(&'static str),
    /// The message is genuine but outside of its time window: 401. The signature is checked first, so that a wrong
    /// clock can be told from an attack.
    Expired {
        /// The message's time less ours, in milliseconds.
        skew_ms: i64,
    },
    /// A probe that the provider sends to see whether signatures are checked (WeChat Pay's SIGNTEST): 401.
    Probe,
    /// The message cannot be parsed: 400.
    Malformed(&'static str),
}

/// A channel of a provider, with its keys prepared. The methods that verify have no defaults, so a provider without
/// verification does not compile.
pub trait Verifier: Send + Sync + std::fmt::Debug {
    /// The fields that it reads from a verified message; they may borrow from the received bytes.
    type Message<'a>;

    /// Checks the signature and the window at `now_ms` (milliseconds since 1970), and decrypts.
    fn verify<'a>(&self, received: &'a Received, now_ms: u64) -> Result<Self::Message<'a>, VerifyError>;

    /// Gives the meaning of a message.
    fn normalise(&self, message: Self::Message<'_>, received: &Received) -> ProviderEvent;

    /// The time at which a message was sent by its signed headers, in seconds since 1970; `None` where a provider has
    /// no such header. The ledger learns from it whether its own clock is right.
    fn sent<'a>(&self, received: &'a Received) -> Option<&'a str>;
}

/// A [`Verifier`] of any provider.
pub trait Verify: Send + Sync + std::fmt::Debug {
    /// Verifies and normalises a message. No other function makes a [`VerifiedMessage`].
    fn verify(&self, received: Received, now_ms: u64) -> Result<VerifiedMessage, VerifyError>;

    /// The time at which a message was sent by its signed headers, in milliseconds since 1970; `None` without such a
    /// header.
    fn sent_ms(&self, verified: &VerifiedMessage) -> Option<i64>;
}

impl<V: Verifier> Verify for V {
    fn verify(&self, received: Received, now_ms: u64) -> Result<VerifiedMessage, VerifyError> {
        let message = Verifier::verify(self, &received, now_ms)?;
        let event = self.normalise(message, &received);
        Ok(VerifiedMessage { received, event })
    }

    fn sent_ms(&self, verified: &VerifiedMessage) -> Option<i64> {
        self.sent(&verified.received)?.parse::<i64>().ok()?.checked_mul(1_000)
    }
}

/// A message with a proved sender, and its meaning.
#[derive(Clone, Debug)]
pub struct VerifiedMessage {
    received: Received,
    event: ProviderEvent,
}

impl VerifiedMessage {
    /// The message as received.
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// The meaning of the message.
    pub fn event(&self) -> &ProviderEvent {
        &self.event
    }

    /// The parts: what was received, and its meaning.
    pub fn into_parts(self) -> (Received, ProviderEvent) {
        (self.received, self.event)
    }
}
