//! Leases: a member of a pool, and the place that a request holds at it for one attempt.
//!
//! The lease counts the request in and, when dropped, out: also where a hook panics or a client goes away. The
//! forwarding code reports its outcome at most once; a lease dropped without an outcome says nothing about the server.
//! It does not hold the connection.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::choose::Fleet;
use super::outlier::Ejection;
use super::state::State;
use super::tried::Tried;
use base::units::Nanos;

/// The latency that a failure counts as where latency decides: a server that refuses at once must
/// not look like the fastest.
const FAILURE: Duration = Duration::from_secs(1);

/// One server of a pool.
pub struct Member<T> {
    /// Its address.
    pub address: SocketAddr,
    /// Its share relative to the others; 0 drains it.
    pub weight: u16,
    /// What is known of it; passes to the next pool that has its address.
    pub state: Arc<State>,
    /// The pool owner's data of the member.
    pub attached: T,
    pub(super) fleet: Arc<Fleet>,
    pub(super) index: usize,
}

/// The place of a request at a member.
pub struct Lease<T> {
    member: Arc<Member<T>>,
    since: Nanos,
    /// The member's number of ejections when the lease began.
    generation: u32,
    /// Whether it is the one request of a probation.
    probing: bool,
}

impl<T> Lease<T> {
    /// Counts a request in; `None` where the member was meanwhile filled up to its `places`, or its probation taken.
    pub(super) fn take(member: &Arc<Member<T>>, down: bool, now: Nanos, places: Option<u32>) -> Option<Lease<T>> {
        let state = &member.state;
        if !state.enter(places) {
            return None;
        }
        state.asked(now);
        let probing = state.on_probation(now) && !state.cold.probing.swap(true, Relaxed);
        let lease = Lease { member: Arc::clone(member), since: now, generation: state.ejections(), probing };
        let taken = !down && !probing && state.on_probation(now);
        (!taken).then_some(lease)
    }

    /// Marks the member as tried, for the next `Pick` of this request.
    pub fn mark(&self, tried: &mut Tried) {
        tried.add(self.member.state.id);
    }

    /// Reports that the server answered well, with its head after `latency`.
    pub fn succeeded(&self, latency: Duration, now: Nanos) {
        let state = &self.member.state;
        state.hot.latency.observe(latency, now);
        state.note_success(self.generation, now);
    }

    /// Reports that the server failed; returns the ejection if that ejected it.
    pub fn failed(&self, now: Nanos) -> Option<Ejection> {
        let fleet = &self.member.fleet;
        if fleet.by_latency() {
            self.member.state.hot.latency.observe(now.since(self.since).max(FAILURE), now);
        }
        fleet.note_failure(self.member.index, self.generation, now)
    }

    /// The member, to keep beyond the lease.
    pub fn member(&self) -> &Arc<Member<T>> {
        &self.member
    }
}

impl<T> Deref for Lease<T> {
    type Target = Member<T>;

    fn deref(&self) -> &Member<T> {
        &self.member
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        if self.probing {
            self.member.state.cold.probing.store(false, Relaxed);
        }
        self.member.state.leave();
    }
}
