//! Tollgate.

pub mod cli;
pub mod config;
pub mod health;
pub mod path;
pub mod pool;
pub mod units;
