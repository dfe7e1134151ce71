//! What tests stand on: a gateway process, backends, a client that sends exactly what it is told.

pub mod api;
pub mod caller;
pub mod client;
pub mod clock;
pub mod disk;
pub mod frames;
pub mod ledger;
pub mod merchants;
pub mod nginx;
pub mod origin;
pub mod postgres;
pub mod processes;
pub mod providers;
pub mod python;
pub mod secure;
pub mod signer;
pub mod users;
pub mod wait;
pub mod world;

pub use client::{Connection, Request, delete, get, post};
pub use origin::{Act, Dead, Gate, Gone, Origin, fleet};
pub use users::{Users, by};
pub use wait::eventually;
pub use world::World;
