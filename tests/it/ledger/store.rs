//! The two stores: the same checks over both, then what only one of them does.

mod alike;
mod plans;
mod postgres;
mod rows;
