//! **verify**: who sent it, and when. Only this stage makes a [`VerifiedMessage`] message, and no provider can leave it out.

use super::event::ProviderEvent;
use super::receive::Received;
use config::model::ledger::Channel;

/// Why a callback is refused. The reasons are ours: nothing of the message stands in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// No signature, a wrong one, or one of a key that is not ours: 401.
    Forged(&'static str),
    /// Genuine, but outside of its time window: 401. The signature is checked first, so that a clock that is wrong can
    /// be told from an attack.
    Expired {
        /// The message's time less ours, in milliseconds.
        skew_ms: i64,
    },
    /// A probe that the provider sends to see whether signatures are checked (WeChat Pay's SIGNTEST): 401.
    Probe,
    /// Cannot be parsed: 400.
    Malformed(&'static str),
}

/// A payment provider. There is no default: a provider without verification does not compile.
pub trait Provider: Send + Sync + std::fmt::Debug {
    /// What it reads out of a message it has verified; it may point into what was received.
    type Message<'a>;

    /// Checks signature and window at `now_ms` (milliseconds since 1970), and decrypts.
    fn verify<'a>(&self, received: &'a Received, now_ms: u64) -> Result<Self::Message<'a>, VerifyError>;

    /// What the message means.
    fn normalise(&self, message: Self::Message<'_>, received: &Received, channel: &Channel) -> ProviderEvent;
}

/// A message whose sender is proved, and what it means.
#[derive(Clone, Debug)]
pub struct VerifiedMessage {
    received: Received,
    event: ProviderEvent,
}

impl VerifiedMessage {
    /// What came.
    pub fn received(&self) -> &Received {
        &self.received
    }

    /// What it means.
    pub fn event(&self) -> &ProviderEvent {
        &self.event
    }

    /// Both.
    pub fn into_parts(self) -> (Received, ProviderEvent) {
        (self.received, self.event)
    }
}

/// Verifies and normalises: the only way to a [`VerifiedMessage`].
pub fn verify<P: Provider>(
    provider: &P,
    channel: &Channel,
    received: Received,
    now_ms: u64,
) -> Result<VerifiedMessage, VerifyError> {
    let message = provider.verify(&received, now_ms)?;
    let event = provider.normalise(message, &received, channel);
    Ok(VerifiedMessage { received, event })
}
