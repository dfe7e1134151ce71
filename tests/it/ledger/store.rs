//! The two stores: the same checks over both, then what only one of them does.

pub(super) mod alike;
mod plans;
mod postgres;
pub(super) mod rows;
