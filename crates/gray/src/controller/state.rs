//! The states of a release, and an operator's orders in each of them.
//!
//! An abort always works. A release that was taken back starts again only by `resume`, from its first step and with
//! fresh evidence, or as a new definition.

use serde::{Deserialize, Serialize};

/// The state of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Steps follow each other.
    Running,
    /// An operator stopped the steps.
    Paused,
    /// The gateway stopped the steps: see the report.
    Held,
    /// The gateway took it back.
    RolledBack,
    /// The last step is done.
    Promoted,
    /// An operator took it back.
    Aborted,
}

impl ReleaseState {
    /// All of them.
    pub const ALL: [ReleaseState; 6] = [
        ReleaseState::Running,
        ReleaseState::Paused,
        ReleaseState::Held,
        ReleaseState::RolledBack,
        ReleaseState::Promoted,
        ReleaseState::Aborted,
    ];

    /// The name, as in the API and in metrics.
    pub fn label(self) -> &'static str {
        match self {
            ReleaseState::Running => "running",
            ReleaseState::Paused => "paused",
            ReleaseState::Held => "held",
            ReleaseState::RolledBack => "rolled_back",
            ReleaseState::Promoted => "promoted",
            ReleaseState::Aborted => "aborted",
        }
    }

    /// Whether the release was taken back: no user is on the canary any more.
    pub fn is_back(self) -> bool {
        matches!(self, ReleaseState::RolledBack | ReleaseState::Aborted)
    }
}

/// An operator's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop the steps.
    Pause,
    /// Go on, or start again.
    Resume,
    /// Go to the next step at once.
    Promote,
    /// Take the release back at once.
    Abort,
}

impl Order {
    /// The name, as in the API.
    pub fn label(self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Promote => "promote",
            Order::Abort => "abort",
        }
    }
}

/// The effect of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another state, the same step.
    Become(ReleaseState),
    /// The first step, with fresh evidence.
    StartAgain,
    /// The next step, or the end.
    NextStep,
    /// Nothing: it is so already.
    Stay,
    /// An error: the order does not apply.
    Refuse,
}

/// The effect of an order in a state.
pub fn next(state: ReleaseState, order: Order) -> Next {
    match (order, state) {
        (Order::Abort, ReleaseState::Aborted | ReleaseState::RolledBack) | (Order::Pause, ReleaseState::Paused) => {
            Next::Stay
        }
        (Order::Abort, _) => Next::Become(ReleaseState::Aborted),
        (Order::Pause, ReleaseState::Running | ReleaseState::Held) => Next::Become(ReleaseState::Paused),
        (Order::Resume, ReleaseState::Paused | ReleaseState::Held) => Next::Become(ReleaseState::Running),
        (Order::Resume, ReleaseState::RolledBack | ReleaseState::Aborted) => Next::StartAgain,
        (Order::Promote, ReleaseState::Running | ReleaseState::Paused | ReleaseState::Held) => Next::NextStep,
        (Order::Pause | Order::Resume | Order::Promote, _) => Next::Refuse,
    }
}
