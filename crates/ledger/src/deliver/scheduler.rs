//! The choice of events to send next, and of questions to the store. Pure: it reads no clock and no store.
//!
//! Each address has a lane (a merchant's url of the configuration, and each endpoint): a short queue of events that may go out now, and a place in the store up to which it has
//! seen what is due. Events that do not fit into a queue stay in the store: the lane is then `behind` and asks again
//! when there is room. A place never comes closer to now than `LAG_MS`, since later writes may stand before it. Each
//! lane looks again from its place once a second. Now and then, and after the clock was set back, it looks from the
//! beginning, since rows written then stand before all places.
//!
//! An event is known from its queueing until its mark is kept, and no known event is queued again. An answer to a
//! question asked before a mark was kept may still show the old event, which stays known until that answer is in. If
//! all merchants together have too many events under way, each may still have one. Merchants that hang, or fail every
//! time, do not count for the others, so merchants that answer stay fast. One that fails every time gets one event
//! after the other, slowly, until it takes one.
//!
//! An endpoint may bound its lane: so many events per second, so many under way, or none while it is paused. Lanes of
//! endpoints may be thousands, so a question scans a part of them, in turns, and each looks again less often. What is
//! redelivered tells its lane.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use uuid::Uuid;

use super::due::{BEGINNING, DueEvents, Question, Scan, is_due};
use super::pace::Pace;
use super::parcel::{Parcel, To};
use crate::journal::Fresh;
use crate::stored_enum::EventState;

/// The most events under way to one merchant.
const LANE_MAX: usize = 16;
/// The most events under way to answering merchants together, except for the first of each.
const ALL_MAX: usize = 256;
/// Events under way at which hanging merchants get no more, except for the first of each.
const HANG_MAX: usize = 1_024;
/// Time without an answer after which a merchant counts as hanging.
const HANGS_MS: i64 = 1_000;
/// The most events that wait in a lane.
const QUEUE_MAX: usize = 64;
/// The most known events of a lane: queued, under way, or not marked yet.
const KNOWN_MAX: usize = 1_024;
/// The most orders of one question.
const FREED_MAX: usize = 256;
/// The most orders that wait for a question; above, each merchant looks again from its place.
const FREED_WAIT: usize = 4_096;
/// The longest that a commit may take which writes an event with an earlier time.
const LAG_MS: i64 = 10_000;
/// Failures in a row after which a merchant is served slowly.
const FAILURES: u32 = 8;
/// Least time between two events to such a merchant.
const SLOW_MS: i64 = 20;

/// The most scans of one question.
const SCANS_MAX: usize = 256;
/// Looks of a merchant's lane for each of an endpoint's.
const LOOKS: usize = 8;

/// The bounds of a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The most events per second.
    pub rate: Option<u32>,
    /// The most events under way.
    pub concurrency: Option<u32>,
    /// Whether all wait.
    pub paused: bool,
}

/// All lanes.
#[derive(Debug, Default)]
pub struct Scheduler {
    lanes: BTreeMap<To, Lane>,
    /// The last `seq` seen, of an event or of another row.
    tail: Option<i64>,
    /// The last row that was announced, now and at the time of the question.
    heard: i64,
    asked_upto: i64,
    /// Whether there may be events after it.
    fresh: bool,
    /// Whether to ask for the merchants with pending events.
    names: bool,
    freed: VecDeque<(To, Uuid)>,
    /// Whether a question is under way.
    asking: bool,
    /// The latest time of a question, by a clock that may be set back.
    latest: i64,
    /// Events marked during a question.
    limbo: Vec<(To, i64)>,
    under_way: usize,
    /// The lane that goes first, in turns.
    turn: usize,
    /// The lane after which the next question scans.
    scanned: Option<To>,
    /// The number of looks.
    looks: usize,
    /// Merchants that were reported as unknown.
    told: BTreeSet<String>,
}

/// The lane of an address.
#[derive(Debug)]
struct Lane {
    configured: bool,
    bounds: Bounds,
    pace: Pace,
    queue: VecDeque<Parcel>,
    known: HashSet<i64>,
    under_way: usize,
    behind: bool,
    place: (i64, i64),
    /// When the earliest event that failed here is due.
    next_at: Option<i64>,
    failures: u32,
    not_before: i64,
    /// When it answered last, or was sent an event with none under way.
    moved_at: i64,
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            configured: false,
            bounds: Bounds::default(),
            pace: Pace::default(),
            queue: VecDeque::new(),
            known: HashSet::new(),
            under_way: 0,
            behind: true,
            place: BEGINNING,
            next_at: None,
            failures: 0,
            not_before: 0,
            moved_at: 0,
        }
    }
}

impl Lane {
    fn room(&self) -> usize {
        (QUEUE_MAX - self.queue.len().min(QUEUE_MAX)).min(KNOWN_MAX - self.known.len().min(KNOWN_MAX))
    }

    /// How long it must wait for a slow merchant's turn or for its rate; 0 for not at all. A clock that was set back
    /// delays nothing.
    fn held(&self, now_ms: i64) -> i64 {
        let wait = self.not_before - now_ms;
        let slow = if self.is_failing() && (1..=SLOW_MS).contains(&wait) { wait } else { 0 };
        slow.max(self.bounds.rate.map_or(0, |rate| self.pace.wait(rate, now_ms)))
    }

    fn is_failing(&self) -> bool {
        self.failures >= FAILURES
    }

    /// Whether it answers, as far as is known. After the clock was set, its next answer makes it known again.
    fn answers(&self, now_ms: i64) -> bool {
        !self.is_failing() && (self.under_way == 0 || (0..=HANGS_MS).contains(&(now_ms - self.moved_at)))
    }

    /// Whether it may have one more event: `answering` are under way to answering merchants, `all` to all of them.
    fn has_slot(&self, now_ms: i64, answering: usize, all: usize) -> bool {
        let room = if self.answers(now_ms) { answering < ALL_MAX } else { all < HANG_MAX };
        let most = self.bounds.concurrency.map_or(LANE_MAX, |most| most as usize);
        let is_free = self.under_way == 0 || (!self.is_failing() && self.under_way < most && room);
        is_free && !self.bounds.paused
    }

    /// Whether the store is asked for it.
    fn scans(&self) -> bool {
        self.configured && !self.bounds.paused && self.behind && self.room() > 0 && self.queue.len() <= QUEUE_MAX / 2
    }
}

impl Scheduler {
    /// Sets the addresses with their bounds. A new one, or one that is paused no more, looks from the beginning.
    pub fn addresses(&mut self, addresses: impl IntoIterator<Item = (To, Bounds)>) {
        let mut before = std::mem::take(&mut self.lanes);
        for (to, bounds) in addresses {
            let mut lane = before.remove(&to).unwrap_or_default();
            if !lane.configured || lane.bounds.paused {
                (lane.behind, lane.place) = (true, BEGINNING);
            }
            (lane.configured, lane.bounds) = (true, bounds);
            self.lanes.insert(to, lane);
        }
        for (to, mut lane) in before {
            lane.configured = false;
            for parcel in lane.queue.drain(..) {
                lane.known.remove(&parcel.seq);
            }
            // What is under way there is counted to its end.
            if !lane.known.is_empty() {
                self.lanes.insert(to, lane);
            }
        }
        self.told.clear();
        self.names = true;
    }

    /// Forgets all but the merchants: another process may have had the books.
    pub fn reset(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        let configured = lanes.into_iter().filter(|(_, lane)| lane.configured).map(|(to, lane)| (to, lane.bounds));
        *self = Scheduler::default();
        self.addresses(configured);
    }

    /// Says that there may be new events.
    pub fn wake(&mut self) {
        self.fresh = true;
    }

    /// Takes events that were just committed. If they may not be all new ones, the store is asked.
    pub fn fresh(&mut self, fresh: Fresh, now_ms: i64) {
        self.heard = self.heard.max(fresh.upto);
        let Some(tail) = self.tail.filter(|tail| *tail >= fresh.after) else {
            self.fresh = true;
            return;
        };
        for (parcel, is_first) in fresh.events.into_iter().filter(|(parcel, _)| parcel.seq > tail) {
            match parcel.event.order_id.filter(|_| !is_first) {
                // If an earlier one is pending, its end asks for this order again.
                Some(order) if self.freed.len() < FREED_WAIT => self.freed.push_back((parcel.to, order)),
                Some(_) => self.look_again(false),
                None => self.came(parcel, false, now_ms),
            }
        }
        self.tail = Some(tail.max(fresh.upto));
    }

    fn came(&mut self, parcel: Parcel, waits: bool, now_ms: i64) {
        let Some(lane) = self.lanes.get_mut(&parcel.to) else { return };
        if lane.room() > 0 && !waits && is_due(&parcel.event, now_ms) {
            self.accept(parcel);
        } else if !waits && let Some(at) = parcel.event.next_attempt_at {
            lane.behind = true;
            lane.place = lane.place.min((at, parcel.seq - 1));
        }
    }

    /// The look of each second: merchants look again from their places on, and a part of the endpoints in turns.
    pub fn look(&mut self) {
        self.fresh = true;
        self.looks = self.looks.wrapping_add(1);
        for (at, (to, lane)) in self.lanes.iter_mut().enumerate() {
            lane.behind |= matches!(to, To::Merchant(_)) || at % LOOKS == self.looks % LOOKS;
        }
    }

    /// Makes these look again from their places on: something of theirs was put back.
    pub fn look_at(&mut self, addresses: impl IntoIterator<Item = To>) {
        for to in addresses {
            self.lanes.entry(to).and_modify(|lane| lane.behind = true);
        }
    }

    /// Makes each address look again from its place on, or from the beginning.
    pub fn look_again(&mut self, from_the_beginning: bool) {
        self.fresh = true;
        for lane in self.lanes.values_mut() {
            lane.behind = true;
            if from_the_beginning {
                lane.place = BEGINNING;
            }
        }
    }

    /// The next question; `None` while another one is under way or if there is nothing to ask.
    pub fn question(&mut self, now_ms: i64) -> Option<Question> {
        if self.asking {
            return None;
        }
        if now_ms < self.latest - LAG_MS / 2 {
            self.look_again(true);
            self.latest = now_ms;
        }
        self.latest = self.latest.max(now_ms);
        let mut question = Question { now_ms, tail: self.tail, names: self.names, ..Question::default() };
        question.endpoints = self.lanes.keys().any(|to| matches!(to, To::Endpoint(_)));
        question.scans = self.scans(now_ms);
        let nothing = question.scans.is_empty() && self.freed.is_empty();
        if nothing && !self.fresh && !self.names && self.tail.is_some() {
            return None;
        }
        question.freed = self.freed.drain(..self.freed.len().min(FREED_MAX)).collect();
        (self.asking, self.fresh, self.names) = (true, false, false);
        self.asked_upto = self.heard;
        Some(question)
    }

    /// The scans of the next question, in turns.
    fn scans(&mut self, now_ms: i64) -> Vec<Scan> {
        let mut scans = vec![];
        for (to, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.configured) {
            if lane.next_at.is_some_and(|at| at <= now_ms) {
                (lane.next_at, lane.behind) = (None, true);
            }
            if lane.scans() {
                scans.push(Scan { to: to.clone(), behind: lane.place, limit: lane.room() + lane.known.len() });
            }
        }
        if scans.len() > SCANS_MAX {
            let first = scans.partition_point(|scan| Some(&scan.to) <= self.scanned.as_ref());
            let first = first % scans.len();
            scans.rotate_left(first);
            scans.truncate(SCANS_MAX);
        }
        self.scanned = scans.last().map(|scan| scan.to.clone());
        scans
    }

    /// Takes the answer; returns merchants with pending events that are not configured, each once.
    pub fn answer(&mut self, question: &Question, found: DueEvents) -> Vec<String> {
        // The answer holds all rows announced before the question, unless it is cut. What came in memory meanwhile may
        // lie behind it.
        let seen = if found.cut { found.tail } else { self.asked_upto.max(found.tail) };
        self.tail = self.tail.max(Some(seen));
        self.fresh |= found.cut;
        found.freed.into_iter().for_each(|parcel| self.came(parcel, false, question.now_ms));
        found.new.into_iter().for_each(|(parcel, waits)| self.came(parcel, waits, question.now_ms));
        for (scan, events) in question.scans.iter().zip(found.scans) {
            let last = events.last().map(|parcel| (parcel.event.next_attempt_at.unwrap_or_default(), parcel.seq));
            if let Some(lane) = self.lanes.get_mut(&scan.to)
                // Otherwise it was set back meanwhile.
                && lane.place == scan.behind
            {
                let edge = (question.now_ms - LAG_MS, i64::MIN);
                let full = events.len() >= scan.limit;
                lane.behind = full;
                lane.place = match last {
                    // From the beginning, later times are found, too; those that did not fit are found only from there.
                    Some(last) if full && scan.behind == BEGINNING && last > edge => BEGINNING,
                    Some(last) if full => lane.place.max(last.min(edge)),
                    _ => lane.place.max(edge),
                };
            }
            events.into_iter().for_each(|parcel| self.accept(parcel));
        }
        self.asked();
        let is_configured =
            |name: &String| self.lanes.get(&To::Merchant(name.clone())).is_some_and(|lane| lane.configured);
        let unknown: Vec<String> = found.names.into_iter().filter(|name| !is_configured(name)).collect();
        unknown.into_iter().filter(|name| self.told.insert(name.clone())).collect()
    }

    /// Takes a failed question, to be asked again.
    pub fn no_answer(&mut self, question: Question) {
        self.freed.extend(question.freed);
        self.names |= question.names;
        self.fresh = true;
        self.asked();
    }

    fn asked(&mut self) {
        self.asking = false;
        for (to, seq) in std::mem::take(&mut self.limbo) {
            self.forget(&to, seq);
        }
    }

    fn accept(&mut self, parcel: Parcel) {
        if let Some(lane) = self.lanes.get_mut(&parcel.to)
            && lane.configured
            && parcel.event.state == EventState::Pending
            && lane.known.insert(parcel.seq)
        {
            lane.queue.push_back(parcel);
        }
    }

    fn forget(&mut self, to: &To, seq: i64) {
        if let Some(lane) = self.lanes.get_mut(to) {
            lane.known.remove(&seq);
        }
    }

    /// Events to be sent now, with merchants in turns.
    pub fn launch(&mut self, now_ms: i64) -> Vec<Parcel> {
        let mut launched = vec![];
        self.turn = self.turn.wrapping_add(1);
        let first = self.turn % self.lanes.len().max(1);
        let answering = self.lanes.values().filter(|lane| lane.answers(now_ms));
        let mut answering: usize = answering.map(|lane| lane.under_way).sum();
        loop {
            let before = launched.len();
            let (early, late): (Vec<_>, Vec<_>) = self
                .lanes
                .values_mut()
                .enumerate()
                .filter(|(_, lane)| !lane.queue.is_empty())
                .partition(|(at, _)| *at < first);
            for (_, lane) in late.into_iter().chain(early) {
                if lane.has_slot(now_ms, answering, self.under_way)
                    && lane.held(now_ms) == 0
                    && let Some(parcel) = lane.queue.pop_front()
                {
                    if lane.under_way == 0 {
                        lane.moved_at = now_ms;
                    }
                    lane.under_way += 1;
                    lane.not_before = now_ms + SLOW_MS;
                    lane.bounds.rate.iter().for_each(|rate| lane.pace.takes(*rate, now_ms));
                    answering += usize::from(lane.answers(now_ms));
                    self.under_way += 1;
                    launched.push(parcel);
                }
            }
            if launched.len() == before {
                return launched;
            }
        }
    }

    /// Whether the last attempt at an address failed.
    pub fn fails(&self, to: &To) -> bool {
        self.lanes.get(to).is_some_and(|lane| lane.failures > 0)
    }

    /// Takes the end of an attempt. A failed one may be a timeout, which is not an answer.
    pub fn tried(&mut self, to: &To, delivered: bool, now_ms: i64) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(to) {
            lane.under_way = lane.under_way.saturating_sub(1);
            lane.failures = if delivered { 0 } else { lane.failures.saturating_add(1) };
            if delivered {
                lane.moved_at = now_ms;
            }
        }
    }

    /// Takes marks that are kept or given up; events of the latter are looked for from the beginning.
    pub fn settled(&mut self, marks: &[Parcel], kept: bool) {
        for mark in marks {
            if self.asking {
                self.limbo.push((mark.to.clone(), mark.seq));
            } else {
                self.forget(&mark.to, mark.seq);
            }
            let Some(lane) = self.lanes.get_mut(&mark.to) else { continue };
            match (kept, mark.event.next_attempt_at, mark.event.order_id) {
                (false, ..) => (lane.behind, lane.place) = (true, BEGINNING),
                (true, Some(at), _) => lane.next_at = Some(lane.next_at.map_or(at, |earlier| earlier.min(at))),
                (true, None, Some(order)) => self.freed.push_back((mark.to.clone(), order)),
                (true, None, None) => {}
            }
        }
    }

    /// The number of events under way.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Milliseconds until there is something to do, as far as is known.
    pub fn wait(&self, now_ms: i64) -> Option<i64> {
        let lanes = self.lanes.values().filter(|lane| lane.configured);
        let waits = lanes.flat_map(|lane| {
            let waits = !lane.queue.is_empty() && !lane.bounds.paused;
            let held = waits.then(|| lane.held(now_ms)).filter(|wait| *wait > 0);
            // During a question, its answer comes first.
            let next_at = lane.next_at.filter(|_| !self.asking);
            [held, next_at.map(|at| (at - now_ms).max(0))]
        });
        waits.flatten().min()
    }
}

#[cfg(test)]
mod tests;
