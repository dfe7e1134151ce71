//! The memory that clients make this process hold, in one account with one bound.
//!
//! It counts what grows with what clients send or leave waiting: requests, their bodies, compression and header lists.
//! A holder asks before it holds more; without room it refuses the request, or does without. Dropping gives back what
//! is held. Connections, streams and their heads stop at three quarters of the bound, and so do the contents, bodies
//! and encoders: whichever side fills up leaves the other a quarter, so that uploads exclude no client. Streams stop at
//! half, so that they exclude no connection. Requests can do without encoders, so these stop when half is held, and one
//! client has a share of that half: compression for some clients never causes a refusal for others. A request of
//! HTTP/1.1 without a body touches none of this.
//!
//! The sums are exact: the total held is never above the bound. They are relaxed, because nothing else depends on them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Places of clients; clients with the same place share its part.
const CLIENTS: usize = 4_096;
/// A client's part of the bound, and its minimum for a small bound.
const CLIENT_PART: u64 = 64;
const CLIENT_MIN: u64 = 4 << 20;

/// What the memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// State of requests.
    Requests,
    /// Bodies of requests: what is read, and what is kept for another attempt.
    Bodies,
    /// Compression of answers under way.
    Encoders,
    /// Heads of HTTP/2.
    HeaderLists,
}

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Kind; 4] = [Kind::Requests, Kind::Bodies, Kind::Encoders, Kind::HeaderLists];

    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Requests => "requests",
            Kind::Bodies => "bodies",
            Kind::Encoders => "encoders",
            Kind::HeaderLists => "header_lists",
        }
    }

    /// The side of the account: requests and heads, or contents.
    fn side(self) -> usize {
        match self {
            Kind::Requests | Kind::HeaderLists => 0,
            Kind::Bodies | Kind::Encoders => 1,
        }
    }
}

/// The account.
#[derive(Debug)]
pub struct Account {
    max: u64,
    total: AtomicU64,
    sides: [AtomicU64; 2],
    kinds: [AtomicU64; Kind::ALL.len()],
    /// Memory that clients hold for encoders.
    clients: Box<[AtomicU64]>,
    /// Keyed, so that clients cannot choose their places.
    places: ahash::RandomState,
}

impl Account {
    /// An account with a bound of `max` bytes.
    pub fn new(max: u64) -> Account {
        Account {
            max,
            total: AtomicU64::new(0),
            sides: Default::default(),
            kinds: Default::default(),
            clients: std::iter::repeat_with(AtomicU64::default).take(CLIENTS).collect(),
            places: ahash::RandomState::new(),
        }
    }

    /// Takes this many bytes; `None` without room.
    pub fn try_hold(self: &Arc<Self>, kind: Kind, bytes: u64) -> Option<Held> {
        self.take(kind, bytes, self.three_quarters(), self.max).then(|| self.held_of(kind, bytes))
    }

    /// Takes this many bytes for a stream; `None` if connections and streams hold half.
    pub fn try_hold_for_stream(self: &Arc<Self>, kind: Kind, bytes: u64) -> Option<Held> {
        self.take(kind, bytes, self.max / 2, self.max).then(|| self.held_of(kind, bytes))
    }

    /// Takes this many bytes for an encoder of a client's answer; `None` without room, or if the client has its part.
    pub fn try_hold_encoder(self: &Arc<Self>, client: IpAddr, bytes: u64) -> Option<Held> {
        let place = self.place(client);
        let part = (self.max / CLIENT_PART).max(CLIENT_MIN);
        if !add(&self.clients[place], bytes, part) {
            return None;
        }
        if !self.take(Kind::Encoders, bytes, self.three_quarters(), self.max / 2) {
            self.clients[place].fetch_sub(bytes, Relaxed);
            return None;
        }
        let mut held = self.held_of(Kind::Encoders, bytes);
        held.place = Some(place);
        Some(held)
    }

    /// Bytes held now.
    pub fn held(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize].load(Relaxed)
    }

    fn three_quarters(&self) -> u64 {
        self.max / 4 * 3
    }

    fn held_of(self: &Arc<Self>, kind: Kind, bytes: u64) -> Held {
        Held { of: self.clone(), kind, bytes, place: None }
    }

    /// Takes this many bytes if its side then holds at most `side_max`, and all together at most `total_max`.
    fn take(&self, kind: Kind, bytes: u64, side_max: u64, total_max: u64) -> bool {
        let side = &self.sides[kind.side()];
        if !add(side, bytes, side_max) {
            return false;
        }
        if !add(&self.total, bytes, total_max) {
            side.fetch_sub(bytes, Relaxed);
            return false;
        }
        self.kinds[kind as usize].fetch_add(bytes, Relaxed);
        true
    }

    fn give_back(&self, kind: Kind, bytes: u64) {
        self.total.fetch_sub(bytes, Relaxed);
        self.sides[kind.side()].fetch_sub(bytes, Relaxed);
        self.kinds[kind as usize].fetch_sub(bytes, Relaxed);
    }

    /// One place for an IPv4 address, or for the network of an IPv6 client.
    fn place(&self, client: IpAddr) -> usize {
        let network = match client.to_canonical() {
            IpAddr::V4(v4) => u64::from(v4.to_bits()),
            IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
        };
        self.places.hash_one(network) as usize % CLIENTS
    }
}

/// Adds, unless the sum would be more than `max`.
fn add(sum: &AtomicU64, bytes: u64, max: u64) -> bool {
    let more = |now: u64| now.checked_add(bytes).filter(|sum| *sum <= max);
    sum.fetch_update(Relaxed, Relaxed, more).is_ok()
}

/// A part of the account, given back by dropping.
#[derive(Debug)]
pub struct Held {
    of: Arc<Account>,
    kind: Kind,
    bytes: u64,
    /// The client's place, if it counts there as well.
    place: Option<usize>,
}

impl Held {
    /// Holds at least this many bytes from now on; without room it returns false and changes nothing.
    pub fn cover(&mut self, bytes: u64) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        debug_assert!(self.place.is_none(), "an encoder's room is its cost from the start");
        let covered = more == 0 || self.of.take(self.kind, more, self.of.three_quarters(), self.of.max);
        if covered {
            self.bytes += more;
        }
        covered
    }

    /// Holds at most this many bytes from now on.
    pub fn shrink(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        if less == 0 {
            return;
        }
        self.of.give_back(self.kind, less);
        if let Some(place) = self.place {
            self.of.clients[place].fetch_sub(less, Relaxed);
        }
        self.bytes -= less;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let account = Arc::new(Account::new(100));
        let mut body = account.try_hold(Kind::Bodies, 60).unwrap();
        assert!(account.try_hold(Kind::Requests, 41).is_none());
        let request = account.try_hold(Kind::Requests, 30).unwrap();
        assert!(body.cover(50) && body.cover(70) && !body.cover(71));
        assert_eq!(Kind::ALL.map(|kind| account.held(kind)), [30, 70, 0, 0]);
        body.shrink(20);
        body.shrink(30);
        assert!(account.held(Kind::Bodies) == 20 && body.cover(70));
        assert!(account.try_hold(Kind::HeaderLists, u64::MAX).is_none(), "no sum overflows");
        drop((body, request));
        assert_eq!(Kind::ALL.map(|kind| account.held(kind)), [0; 4]);
        assert_eq!(account.total.load(Relaxed), 0);
    }

    #[test]
    fn who_fills_one_side_leaves_the_other_a_quarter() {
        let account = Arc::new(Account::new(100));
        for (full, other) in [(Kind::Bodies, Kind::Requests), (Kind::HeaderLists, Kind::Bodies)] {
            let (mut held, mut part) = (account.try_hold(full, 70).unwrap(), account.try_hold(other, 5).unwrap());
            assert!(!held.cover(76) && held.cover(75), "{full:?}");
            assert!(!part.cover(26) && part.cover(25), "{other:?}");
        }
        let streams = account.try_hold_for_stream(Kind::Requests, 50);
        assert!(streams.is_some() && account.try_hold_for_stream(Kind::HeaderLists, 1).is_none());
        assert!(account.try_hold(Kind::Requests, 25).is_some(), "connections still come in");
    }

    #[test]
    fn what_can_be_done_without_leaves_half_and_each_client_has_a_part() {
        let max = 100 * CLIENT_MIN;
        let account = Arc::new(Account::new(max));
        let first: Vec<_> = (0..9).map_while(|_| account.try_hold_encoder(client(1), CLIENT_MIN / 4)).collect();
        assert_eq!(first.len(), 6, "a sixty-fourth of all");
        let mapped = "::ffff:10.0.0.1".parse().unwrap();
        assert!(account.try_hold_encoder(mapped, CLIENT_MIN / 4).is_none(), "another spelling is no other client");
        let all: Vec<_> = (2..250).filter_map(|n| account.try_hold_encoder(client(n), CLIENT_MIN)).collect();
        assert_eq!(account.held(Kind::Encoders), first.len() as u64 * (CLIENT_MIN / 4) + all.len() as u64 * CLIENT_MIN);
        assert!(account.held(Kind::Encoders) <= max / 2 && account.held(Kind::Encoders) > max / 2 - CLIENT_MIN);
        let rest = [Kind::Bodies, Kind::Requests].map(|kind| account.try_hold(kind, max / 4));
        assert!(rest.iter().all(Option::is_some), "either side has a quarter left");
        drop((first, all, rest));
        assert!(account.clients.iter().all(|held| held.load(Relaxed) == 0));
        assert_eq!(account.held(Kind::Encoders), 0);
        // An IPv6 network is one client.
        let six = |text: &str| account.place(text.parse().unwrap());
        assert_eq!(six("2001:db8::1"), six("2001:db8::ffff:2"));
    }

    #[test]
    fn threads_never_hold_more_than_there_is() {
        let account = Arc::new(Account::new(1_000));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for n in 0..2_000 {
                        let held = account.try_hold(Kind::ALL[n % 4], 200 + n as u64 % 7);
                        assert!(account.total.load(Relaxed) <= 1_000);
                        drop(held);
                    }
                });
            }
        });
        assert_eq!(account.total.load(Relaxed), 0);
    }
}
