//! A channel that is ready to take callbacks: its provider's keys are prepared once per configuration.

use std::sync::Arc;

use config::model::ledger::Channel;
use providers::receive::Received;
use providers::verify::{VerifiedMessage, Verify, VerifyError};

/// A channel with its keys prepared.
#[derive(Debug)]
pub struct Prepared {
    channel: Arc<Channel>,
    verifier: Box<dyn Verify>,
}

impl Prepared {
    /// Prepares a channel's keys.
    pub fn new(channel: Arc<Channel>) -> Prepared {
        let verifier = channel.prepare();
        Prepared { channel, verifier }
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The time at which a message was sent by its signed headers, in milliseconds since 1970; `None` without such a
    /// header.
    pub fn sent_ms(&self, verified: &VerifiedMessage) -> Option<i64> {
        self.verifier.sent_ms(verified)
    }

    /// Verifies a message and gives its meaning.
    pub fn verify(&self, received: Received, now_ms: u64) -> Result<VerifiedMessage, VerifyError> {
        self.verifier.verify(received, now_ms)
    }
}
