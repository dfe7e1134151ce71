//! The ledger, from outside.

//! The ledger from outside.

//! The ledger, from outside: what reaches it, what it answers, what it keeps.

//! The ledger from outside: nothing lost, nothing twice.

mod archive;
mod clock;
mod crash;
mod disk;
mod endpoints;
mod failover;
mod front;
mod hanging;
mod invariants;
mod keys;
mod model;
mod older;
mod orders;
mod outcalls;
mod parked;
mod parties;
mod provider;
mod reconcile;
mod resolve;
mod route;
mod secrets;
mod senders;
mod stall;
mod store;
mod transfers;
mod unreadable;
mod upgrade;
