//! The servers' side of the way: one attempt's connection.
//!
//! | module | is |
//! |---|---|
//! | [`connector`] | opens connections of HTTP/1.1, and reuses idle ones |
//! | [`idle_pool`] | the connections that wait for their next request |
//! | [`deadline`] | how long an attempt may take to connect, to answer and to go on |
//! | [`unprocessed`] | how a server says that it has not processed a request |

pub mod connector;
pub mod deadline;
pub mod idle_pool;
pub mod unprocessed;
