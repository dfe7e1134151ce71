//! Who is calling: API keys, signed requests and tokens, judged without a socket, a clock or a file.
//!
//! Everything here is pure: time comes as seconds since 1970, requests as borrowed text. `proxy/authenticate` is its
//! hand on the request way, `config/check` reads its keys. All cryptography is `ring`'s. What is refused is told as a
//! sentence for the honest developer who has to mend it; it never says whether a key exists.
//!
//! | module | is |
//! |---|---|
//! | [`apps`] | the apps and what they prove, as the configuration gives them |
//! | [`keys`] | the apps' keys: whose an API key is, and the secret of a `keyid` |
//! | [`signature`] | HTTP Message Signatures (RFC 9421), hmac-sha256 |
//! | [`digest`] | `Content-Digest` (RFC 9530) |
//! | [`nonce`] | what was signed once is not taken twice |
//! | [`jwt`] | bearer tokens: JWS with RS256, ES256, EdDSA |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod apps;
pub mod digest;
pub mod jwt;
pub mod keys;
pub mod nonce;
pub mod signature;
