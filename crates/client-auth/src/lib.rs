//! Client authentication: API keys, signed requests and tokens, verified without a socket, a clock or a file.
//!
//! The crate is pure: time comes as seconds since 1970, requests as borrowed text. `proxy/authenticate` applies it to
//! requests, and `config/check` reads its keys. All cryptography is `ring`'s. A refusal is a sentence for the honest
//! developer who has to mend it; it never says whether a key exists.
//!
//! | module | is |
//! |---|---|
//! | [`apps`] | the apps and their keys, as the configuration gives them |
//! | [`keys`] | lookups: the app of an API key, and the secret of a `keyid` |
//! | [`signature`] | HTTP Message Signatures (RFC 9421), hmac-sha256 |
//! | [`digest`] | `Content-Digest` (RFC 9530) |
//! | [`nonce`] | replay protection: a signature is accepted only once |
//! | [`jwt`] | bearer tokens: JWS with RS256, ES256, EdDSA |

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod apps;
pub mod digest;
pub mod jwt;
pub mod keys;
pub mod nonce;
pub mod signature;
