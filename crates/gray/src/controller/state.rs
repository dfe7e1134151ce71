//! The states of a release, and what an operator may do in each.
//!
//! An abort always works. What was taken back starts again only by `resume`, from its first step and with fresh
//! evidence, or as a new definition.

use serde::{Deserialize, Serialize};

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
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

impl State {
    /// All of them.
    pub const ALL: [State; 6] =
        [State::Running, State::Paused, State::Held, State::RolledBack, State::Promoted, State::Aborted];

    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Paused => "paused",
            State::Held => "held",
            State::RolledBack => "rolled_back",
            State::Promoted => "promoted",
            State::Aborted => "aborted",
        }
    }

    /// Whether nobody is on the canary any more.
    pub fn is_back(self) -> bool {
        matches!(self, State::RolledBack | State::Aborted)
    }
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Stop the steps.
    Pause,
    /// Go on, or start again.
    Resume,
    /// Go to the next step at once.
    Promote,
    /// Take it back at once.
    Abort,
}

impl Order {
    /// As it is written.
    pub fn label(self) -> &'static str {
        match self {
            Order::Pause => "pause",
            Order::Resume => "resume",
            Order::Promote => "promote",
            Order::Abort => "abort",
        }
    }
}

/// What an order leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another state, the same step.
    Become(State),
    /// The first step, with fresh evidence.
    StartAgain,
    /// The next step, or the end.
    NextStep,
    /// Nothing: it is so already.
    Stay,
    /// It cannot be.
    Refuse,
}

/// What follows an order in a state.
pub fn next(state: State, order: Order) -> Next {
    match (order, state) {
        (Order::Abort, State::Aborted | State::RolledBack) | (Order::Pause, State::Paused) => Next::Stay,
        (Order::Abort, _) => Next::Become(State::Aborted),
        (Order::Pause, State::Running | State::Held) => Next::Become(State::Paused),
        (Order::Resume, State::Paused | State::Held) => Next::Become(State::Running),
        (Order::Resume, State::RolledBack | State::Aborted) => Next::StartAgain,
        (Order::Promote, State::Running | State::Paused | State::Held) => Next::NextStep,
        (Order::Pause | Order::Resume | Order::Promote, _) => Next::Refuse,
    }
}
