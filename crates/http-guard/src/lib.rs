//! Validation of HTTP requests: a request that two servers could read differently is refused
//! before any server reads it.
//!
//! Between a client and a server stand two parsers, Pingora's and the server's. Where they disagree on where a request
//! ends, a client can place a request of its own before another client's (request smuggling). So the gateway checks the
//! raw bytes first and passes only what has one reading; the parsers behind it then have nothing to disagree on.
//!
//! | part | validates |
//! |---|---|
//! | [`head`] | the head of an HTTP/1.x request, on its raw bytes |
//! | [`h2`] | the head of an HTTP/2 request, as its codec has read it |
//! | [`chunked`] | the framing of a chunked body, while it passes |
//! | [`host`] | authorities |
//! | [`field`] | headers that frame a message or describe the connection |
//! | [`voice`] | headers that speak in the gateway's place |
//! | [`bytes`], [`violation`] | classes of bytes; why a request was refused |
//! | [`Verdict`] | what later stages need to know of a valid head |
//!
//! How the known families of request smuggling end here:
//!
//! | family | ends with |
//! |---|---|
//! | CL.TE, TE.CL | both headers at once are refused, in either order and any spelling |
//! | TE.TE | the only transfer coding is `chunked`, once, plainly written; names are tokens up to the colon, and lookalikes of the name are refused |
//! | CL.CL | one `Content-Length`, of digits alone |
//! | CL.0, 0.CL | no body with `GET`, `HEAD` and `TRACE`; `Expect` is `100-continue` or absent; an upgrade has no body |
//! | H2.CL, H2.TE | no connection headers in HTTP/2, and one length, which the codec checks against the frames |
//! | TERM.EXT, EXT.TERM | chunk extensions are well-formed, without control bytes, and go no further; no LF without CR |
//! | TERM.SPILL, SPILL.TERM, TWO.ONE, ONE.TWO | a chunk ends in CRLF where its size says |
//! | trailers that become headers | names that frame, route or authenticate are refused there |
//! | hop-by-hop abuse | `Connection` names only what belongs to a connection by definition |
//! | path confusion | no `%00`, and no dot segment by `%2F`, `%5C`, `\` or `;` |
//! | Host confusion | one valid `Host`, which an absolute target repeats byte by byte |
//!
//! The crate is pure: no socket, no clock. The connection's code reads the bytes, and limits how long that takes.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod bytes;
pub mod chunked;
pub mod field;
pub mod h2;
pub mod head;
pub mod host;
mod verdict;
pub mod violation;
pub mod voice;

pub use self::verdict::Verdict;
