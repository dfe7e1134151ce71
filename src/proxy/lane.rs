//! The lane: a request of HTTP/1.1 to servers of HTTP/1.1, in a straight line.
//!
//! | module | is |
//! |---|---|
//! | [`answer`] | the head of a server's answer, and where its body ends |
//! | [`wire`] | heads as bytes |
//! | [`workspace`] | buffers, kept for the next request |

pub mod answer;
pub mod wire;
pub mod workspace;
