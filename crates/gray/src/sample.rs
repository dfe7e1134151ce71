//! Samples: what the judge learns of one request, as a small value made at its end and put into a buffer of the thread.
//!
//! A sample holds no strings: routes, servers and cohorts are numbers, resolved where a report is written. A user is a
//! hash of the user key; two users share one with a probability that does not matter to a count.

use balance::attempt::AttemptFailure;

/// The version of a backend that a user is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Arm {
    /// The route's own upstream.
    Stable = 0,
    /// The release's upstream.
    Canary = 1,
}

impl Arm {
    /// Both, in the order of their numbers.
    pub const ALL: [Arm; 2] = [Arm::Stable, Arm::Canary];

    /// The name: `stable` or `canary`.
    pub fn label(self) -> &'static str {
        match self {
            Arm::Stable => "stable",
            Arm::Canary => "canary",
        }
    }
}

/// How the first attempt at the arm's upstream ended. Retries and rescues do not count: both arms must be measured
/// alike, and only the canary has a rescue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An answer below 500 that `rescue.on` does not list.
    Good,
    /// A failure. `Status` is an answer from 500 up, one that `rescue.on` lists, or one whose gRPC status
    /// says that the server failed.
    Failed(AttemptFailure),
    /// The client left before its answer: how it would have ended is unknown, only that it took this long.
    Left,
}

impl Ending {
    /// Whether the arm failed.
    pub fn is_failure(self) -> bool {
        matches!(self, Ending::Failed(_))
    }
}

/// A request of a release's routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Hash of the user key; 0 without one.
    pub user: u64,
    /// The time from the request's head to the head of the first attempt's answer, or to its failure, or until the
    /// client left, in microseconds.
    pub micros: u32,
    /// The number of the server of the first attempt; 0 where there was none.
    pub server: u32,
    /// The status of the first attempt's answer; 0 without an answer, [`GRPC`] and more where its
    /// gRPC status is a failure.
    pub status: u16,
    /// The route, as an index into the release's list.
    pub route: u16,
    /// The first sixteen cohorts of the configuration that hold the user, a bit each.
    pub cohorts: u16,
    /// The number of the app; 0 without one.
    pub app: u32,
    /// The number of the release's step in which the user was put on their arm.
    pub step: u16,
    /// The user's version.
    pub arm: Arm,
    /// How it ended.
    pub ending: Ending,
    /// Whether another attempt answered after a failure.
    pub saved: bool,
    /// Whether the server had its first request at least `judge.settle` before.
    pub warm: bool,
    /// Whether chance alone put the user on this arm, so that they may be compared: they have a key, lie in the layer's
    /// range and are in no cohort that is included or excluded.
    pub judged: bool,
}

/// Every request of a release writes one.
const _: () = assert!(size_of::<Sample>() == 40);

/// The offset of a gRPC status, which keeps it apart from those of HTTP.
pub const GRPC: u16 = 1_000;

/// gRPC statuses that blame the server: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
/// UNAVAILABLE and DATA_LOSS.
const GRPC_FAILURES: [u16; 6] = [2, 4, 8, 13, 14, 15];

/// The failure that a `grpc-status` value says; `None` where it is not a failure, or not a number.
pub fn grpc_failure(sent: &[u8]) -> Option<u16> {
    let status: u16 = std::str::from_utf8(sent).ok()?.parse().ok()?;
    GRPC_FAILURES.contains(&status).then_some(GRPC + status)
}

/// A status for display: `503`, `gRPC 14`.
pub fn status_text(status: u16) -> String {
    match status.checked_sub(GRPC) {
        Some(status) => format!("gRPC {status}"),
        None => status.to_string(),
    }
}

impl Sample {
    /// Whether the server refused: an answer from 400 to 499 that does not count as a failure.
    pub fn is_refusal(&self) -> bool {
        self.ending == Ending::Good && (400..500).contains(&self.status)
    }
}

#[cfg(test)]
impl Sample {
    /// What tests begin with: a request that went well, on a warm server, in the first step.
    pub(crate) const fn good(user: u64, arm: Arm) -> Sample {
        Sample {
            user,
            micros: 1_000,
            server: 1,
            status: 200,
            route: 0,
            cohorts: 0,
            app: 0,
            step: 1,
            arm,
            ending: Ending::Good,
            saved: false,
            warm: true,
            judged: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_blames_the_server_is_a_failure_of_grpc() {
        let failures: Vec<u16> =
            (0..=16).filter(|status| grpc_failure(status.to_string().as_bytes()).is_some()).collect();
        assert_eq!(failures, GRPC_FAILURES);
        assert_eq!((grpc_failure(b""), grpc_failure(b"14 "), grpc_failure(b"-2")), (None, None, None));
        assert_eq!(grpc_failure(b"14").map(status_text).as_deref(), Some("gRPC 14"));
        assert_eq!(status_text(503), "503");
    }
}
