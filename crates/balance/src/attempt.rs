//! Failures of attempts: the one vocabulary for them in retries, rescues, metrics and the judge's evidence.
//!
//! Events that are not failures have no place here: a client that left, a pause, a connection that was closed
//! while it waited in the pool.

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum AttemptFailure {
    /// An answer whose status counts as a failure.
    Status = 1,
    /// No connection, or no server to connect to.
    Connect,
    /// The connection broke, before the answer or in it.
    Reset,
    /// A time limit passed.
    Timeout,
}

impl AttemptFailure {
    /// All, in the order of their numbers.
    pub const ALL: [AttemptFailure; 4] =
        [AttemptFailure::Status, AttemptFailure::Connect, AttemptFailure::Reset, AttemptFailure::Timeout];

    /// The name in configurations, metrics and reports.
    pub fn label(self) -> &'static str {
        match self {
            AttemptFailure::Status => "status",
            AttemptFailure::Connect => "connect",
            AttemptFailure::Reset => "reset",
            AttemptFailure::Timeout => "timeout",
        }
    }
}

/// The failures that `retry.on` or `rescue.on` lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureSet {
    /// Whether `"connect"` is listed.
    pub connect: bool,
    /// Whether `"reset"` is listed.
    pub reset: bool,
    /// Whether `"timeout"` is listed.
    pub timeout: bool,
    /// The statuses listed, 400 to 599.
    pub statuses: Vec<u16>,
}

impl FailureSet {
    /// Whether a failure is listed; `status` is that of the answer, if there was one.
    pub fn lists(&self, failure: AttemptFailure, status: u16) -> bool {
        match failure {
            AttemptFailure::Status => self.statuses.contains(&status),
            AttemptFailure::Connect => self.connect,
            AttemptFailure::Reset => self.reset,
            AttemptFailure::Timeout => self.timeout,
        }
    }
}

/// From failures, each with the status of its answer where it has one.
impl FromIterator<(AttemptFailure, u16)> for FailureSet {
    fn from_iter<I: IntoIterator<Item = (AttemptFailure, u16)>>(listed: I) -> FailureSet {
        let mut set = FailureSet::default();
        for (failure, status) in listed {
            match failure {
                AttemptFailure::Status => set.statuses.push(status),
                AttemptFailure::Connect => set.connect = true,
                AttemptFailure::Reset => set.reset = true,
                AttemptFailure::Timeout => set.timeout = true,
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lists_what_it_was_made_of() {
        let set: FailureSet = [(AttemptFailure::Reset, 0), (AttemptFailure::Status, 503)].into_iter().collect();
        let listed = AttemptFailure::ALL.map(|failure| set.lists(failure, 503));
        assert_eq!(listed, [true, false, true, false]);
        assert!(!set.lists(AttemptFailure::Status, 500));
    }
}
