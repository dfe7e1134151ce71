//! Tollgate.

pub mod config;
pub mod health;
pub mod pool;
pub mod units;
