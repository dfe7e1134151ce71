//! Endpoints: the addresses of a merchant's that its events are sent to, beside the configuration's url.
//!
//! | module | is |
//! |---|---|
//! | [`filter`] | the event types that an endpoint takes |
//! | [`settings`] | what is sealed of an endpoint, and its checks |
//! | [`template`] | a body of the receiver's own shape, filled from an event |
//! | [`change`] | what callers of the API ask the writer to do |
//!
//! A merchant's url in the configuration is an endpoint too. It has no row: its id follows from the merchant's name.

pub mod change;
pub mod filter;
pub mod settings;
pub mod template;

use ring::digest;
use uuid::Uuid;

/// The most endpoints of a merchant.
pub const ENDPOINTS_MAX: usize = 5_000;

/// The id of the endpoint that the configuration gives to a merchant.
pub fn configured(merchant: &str) -> Uuid {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"tollgate configured endpoint of ");
    context.update(merchant.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
