//! The verdict of validation on a request, for later stages. They do not read it from the headers again: a second
//! reading is a second opinion.

/// What a valid head says of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it asks for a WebSocket.
    pub upgrade: bool,
    /// Whether it has an `Upgrade` that is ignored, as RFC 9110, section 7.8, allows.
    pub other_upgrade: bool,
    /// The client wants the connection to end with the answer.
    pub close: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// HTTP/1.0: no chunks, and no answer before the answer.
    pub http10: bool,
}

impl Verdict {
    /// The verdict in one byte.
    pub fn bits(self) -> u8 {
        u8::from(self.upgrade)
            | u8::from(self.close) << 1
            | u8::from(self.expects_continue) << 2
            | u8::from(self.http10) << 3
            | u8::from(self.other_upgrade) << 4
    }

    /// The verdict of [`Verdict::bits`].
    pub fn of_bits(bits: u8) -> Verdict {
        let is = |bit: u8| bits & 1 << bit != 0;
        Verdict { upgrade: is(0), close: is(1), expects_continue: is(2), http10: is(3), other_upgrade: is(4) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_survives_its_byte() {
        for bits in 0..32 {
            assert_eq!(Verdict::of_bits(bits).bits(), bits);
        }
    }
}
