//! The commands of `tollgate`, each a function that ends in an exit code: 0 done, 1 the answer is no, 2 wrong use.
//!
//! Answers go to stdout, errors to stderr; a reader that closes its end early is no error.

pub mod check;
pub mod diff;
pub mod schema;
