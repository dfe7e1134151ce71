//! The settings of an upstream for its pool, valid by construction.

use std::time::Duration;

use http::HeaderName;

use base::units::Share;

/// `balance`, with `hash_key`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// Smooth weighted round robin.
    RoundRobin,
    /// Weighted random.
    Random,
    /// The less loaded one of two weighted random choices.
    LeastRequest,
    /// The one of two weighted random choices with less latency times load.
    PeakEwma,
    /// Consistent hash (Ketama) over a part of the request.
    Hash(HashKey),
}

/// `hash_key`: the part of a request that is hashed; a request without it is hashed by client address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// `header:NAME`
    Header(HeaderName),
    /// `cookie:NAME`
    Cookie(String),
    /// `query:NAME`
    Query(String),
    /// `path`, as routed
    Path,
    /// `ip` (default)
    Ip,
}

/// `.outlier`
#[derive(Clone, Debug, PartialEq)]
pub struct Outlier {
    /// Failures in a row that eject a server; 0 switches ejection off.
    pub consecutive_failures: u32,
    /// The length of the first ejection; each further one is longer.
    pub eject_for: Duration,
    /// The share of an upstream's servers that may be ejected at once.
    pub max_ejected: Share,
}
