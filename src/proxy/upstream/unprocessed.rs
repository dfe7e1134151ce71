//! Requests that an HTTP/2 server reports as not processed: these may be sent again, whatever their method (RFC 9113,
//! section 8.7).

use h2::Reason;
use pingora::Error;

/// How the server reported that it has not processed a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprocessed {
    /// It closes the connection in order, and served fewer streams (GOAWAY with NO_ERROR).
    Closing,
    /// It refused this stream (RST_STREAM with REFUSED_STREAM), or all that it has not begun (GOAWAY with an error).
    Refused,
}

impl Unprocessed {
    /// Reads the error of an attempt at a server. The codec reports a server's GOAWAY only to streams beyond the last
    /// one that the server has taken, and to those that were not sent at all.
    pub fn of(e: &Error) -> Option<Unprocessed> {
        let e = e.root_cause().downcast_ref::<h2::Error>().filter(|e| e.is_remote())?;
        match e.reason()? {
            Reason::NO_ERROR if e.is_go_away() => Some(Unprocessed::Closing),
            _ if e.is_go_away() => Some(Unprocessed::Refused),
            Reason::REFUSED_STREAM => Some(Unprocessed::Refused),
            _ => None,
        }
    }

    /// How often a request is sent again for this reason without costing a try. A server that refuses is overloaded;
    /// one that closes a connection accepts the next one, on which the request is alone.
    pub fn free_max(self) -> u32 {
        match self {
            Unprocessed::Closing => 4,
            Unprocessed::Refused => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use pingora::{ErrorType, OrErr};

    use super::*;

    #[test]
    fn only_what_the_server_says_counts() {
        let ours: Result<(), _> = Err(h2::Error::from(Reason::REFUSED_STREAM));
        let e = ours.or_err(ErrorType::H2Error, "made here").unwrap_err();
        assert_eq!(Unprocessed::of(&e), None);
        assert_eq!(Unprocessed::of(&Error::new(ErrorType::H2Error)), None);
    }
}
