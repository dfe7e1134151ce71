//! The clients' side of the way: from an accepted connection to bytes that have one reading.
//!
//! | module | is |
//! |---|---|
//! | [`listen`] | the listeners: PROXY header, TLS, HTTP/1.1 or HTTP/2 |
//! | [`connection`] | a client's connection as Pingora's codec reads it: nothing passes that has not been judged |
//! | [`framing`] | where the messages of an HTTP/1.1 connection end |
//! | [`frames`] | the frames of an HTTP/2 connection, read beside its codec |
//! | [`watch`] | slow clients: how long a head, a body and an answer may take |

pub mod connection;
pub mod frames;
pub mod framing;
pub mod listen;
pub mod watch;
