//! The choice of events to send next, and of questions to the store. Pure: it reads no clock and no store.
//!
//! Each merchant has a lane: a short queue of events that may go out now, and a place in the store up to which it has
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

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

use uuid::Uuid;

use super::due::{BEGINNING, DueEvents, Question, Scan, TAIL, is_due};
use crate::journal::Fresh;
use crate::rows::Outgoing;
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

/// All lanes.
#[derive(Debug, Default)]
pub struct Scheduler {
    lanes: BTreeMap<String, MerchantQueue>,
    /// The last `seq` seen, of an event or of another row.
    tail: Option<i64>,
    /// The last row that was announced, now and at the time of the question.
    heard: i64,
    asked_upto: i64,
    /// Whether there may be events after it.
    fresh: bool,
    /// Whether to ask for the merchants with pending events.
    names: bool,
    freed: VecDeque<Uuid>,
    /// Whether a question is under way.
    asking: bool,
    /// The latest time of a question, by a clock that may be set back.
    latest: i64,
    /// Events marked during a question.
    limbo: Vec<(String, i64)>,
    under_way: usize,
    /// The lane that goes first, in turns.
    turn: usize,
    /// Merchants that were reported as unknown.
    told: BTreeSet<String>,
}

/// The lane of a merchant.
#[derive(Debug)]
struct MerchantQueue {
    configured: bool,
    queue: VecDeque<Outgoing>,
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

impl Default for MerchantQueue {
    fn default() -> MerchantQueue {
        MerchantQueue {
            configured: true,
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

impl MerchantQueue {
    fn room(&self) -> usize {
        (QUEUE_MAX - self.queue.len().min(QUEUE_MAX)).min(KNOWN_MAX - self.known.len().min(KNOWN_MAX))
    }

    /// How long it must wait for a slow merchant's turn; 0 for not at all. A clock that was set back delays nothing.
    fn held(&self, now_ms: i64) -> i64 {
        let wait = self.not_before - now_ms;
        if self.is_failing() && (1..=SLOW_MS).contains(&wait) { wait } else { 0 }
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
        self.under_way == 0 || (!self.is_failing() && self.under_way < LANE_MAX && room)
    }
}

impl Scheduler {
    /// Sets the configured merchants.
    pub fn merchants<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.lanes.values_mut().for_each(|lane| lane.configured = false);
        for name in names {
            let lane = self.lanes.entry(name.to_owned()).or_default();
            (lane.configured, lane.behind, lane.place) = (true, true, BEGINNING);
        }
        for lane in self.lanes.values_mut().filter(|lane| !lane.configured) {
            for event in lane.queue.drain(..) {
                lane.known.remove(&event.seq);
            }
        }
        self.told.clear();
        self.names = true;
    }

    /// Forgets all but the merchants: another process may have had the books.
    pub fn reset(&mut self) {
        let lanes = std::mem::take(&mut self.lanes);
        let names = lanes.iter().filter(|(_, lane)| lane.configured).map(|(name, _)| name.as_str());
        *self = Scheduler::default();
        self.merchants(names);
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
        for (event, is_first) in fresh.events.into_iter().filter(|(event, _)| event.seq > tail) {
            match event.order_id.filter(|_| !is_first) {
                // If an earlier one is pending, its end asks for this order again.
                Some(order) if self.freed.len() < FREED_WAIT => self.freed.push_back(order),
                Some(_) => self.look_again(false),
                None => self.came(event, false, now_ms),
            }
        }
        self.tail = Some(tail.max(fresh.upto));
    }

    fn came(&mut self, event: Outgoing, waits: bool, now_ms: i64) {
        let Some(lane) = self.lanes.get_mut(&event.merchant) else { return };
        if lane.room() > 0 && !waits && is_due(&event, now_ms) {
            self.accept(event);
        } else if !waits && let Some(at) = event.next_attempt_at {
            lane.behind = true;
            lane.place = lane.place.min((at, event.seq - 1));
        }
    }

    /// Makes each merchant look again from its place on, or from the beginning.
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
        for (name, lane) in self.lanes.iter_mut().filter(|(_, lane)| lane.configured) {
            if lane.next_at.is_some_and(|at| at <= now_ms) {
                (lane.next_at, lane.behind) = (None, true);
            }
            let room = lane.room();
            if lane.behind && room > 0 && lane.queue.len() <= QUEUE_MAX / 2 {
                let limit = room + lane.known.len();
                question.scans.push(Scan { merchant: name.clone(), behind: lane.place, limit });
            }
        }
        let nothing = question.scans.is_empty() && self.freed.is_empty();
        if nothing && !self.fresh && !self.names && self.tail.is_some() {
            return None;
        }
        question.freed = self.freed.drain(..self.freed.len().min(FREED_MAX)).collect();
        (self.asking, self.fresh, self.names) = (true, false, false);
        self.asked_upto = self.heard;
        Some(question)
    }

    /// Takes the answer; returns merchants with pending events that are not configured, each once.
    pub fn answer(&mut self, question: &Question, found: DueEvents) -> Vec<String> {
        // The answer holds all rows announced before the question, unless it is cut. What came in memory meanwhile may
        // lie behind it.
        let seen = if found.new.len() < TAIL { self.asked_upto.max(found.tail) } else { found.tail };
        self.tail = self.tail.max(Some(seen));
        self.fresh |= found.new.len() == TAIL;
        found.freed.into_iter().for_each(|event| self.came(event, false, question.now_ms));
        found.new.into_iter().for_each(|(event, waits)| self.came(event, waits, question.now_ms));
        for (scan, events) in question.scans.iter().zip(found.scans) {
            let last = events.last().map(|event| (event.next_attempt_at.unwrap_or_default(), event.seq));
            if let Some(lane) = self.lanes.get_mut(&scan.merchant)
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
            events.into_iter().for_each(|event| self.accept(event));
        }
        self.asked();
        let unknown = found.names.into_iter().filter(|name| !self.lanes.get(name).is_some_and(|lane| lane.configured));
        unknown.filter(|name| self.told.insert(name.clone())).collect()
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
        for (merchant, seq) in std::mem::take(&mut self.limbo) {
            self.forget(&merchant, seq);
        }
    }

    fn accept(&mut self, event: Outgoing) {
        if let Some(lane) = self.lanes.get_mut(&event.merchant)
            && lane.configured
            && event.state == EventState::Pending
            && lane.known.insert(event.seq)
        {
            lane.queue.push_back(event);
        }
    }

    fn forget(&mut self, merchant: &str, seq: i64) {
        if let Some(lane) = self.lanes.get_mut(merchant) {
            lane.known.remove(&seq);
        }
    }

    /// Events to be sent now, with merchants in turns.
    pub fn launch(&mut self, now_ms: i64) -> Vec<Outgoing> {
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
                    && let Some(event) = lane.queue.pop_front()
                {
                    if lane.under_way == 0 {
                        lane.moved_at = now_ms;
                    }
                    lane.under_way += 1;
                    lane.not_before = now_ms + SLOW_MS;
                    answering += usize::from(lane.answers(now_ms));
                    self.under_way += 1;
                    launched.push(event);
                }
            }
            if launched.len() == before {
                return launched;
            }
        }
    }

    /// Whether a merchant's last attempt failed.
    pub fn fails(&self, merchant: &str) -> bool {
        self.lanes.get(merchant).is_some_and(|lane| lane.failures > 0)
    }

    /// Takes the end of an attempt. A failed one may be a timeout, which is not an answer.
    pub fn tried(&mut self, merchant: &str, delivered: bool, now_ms: i64) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(lane) = self.lanes.get_mut(merchant) {
            lane.under_way = lane.under_way.saturating_sub(1);
            lane.failures = if delivered { 0 } else { lane.failures.saturating_add(1) };
            if delivered {
                lane.moved_at = now_ms;
            }
        }
    }

    /// Takes marks that are kept or given up; events of the latter are looked for from the beginning.
    pub fn settled(&mut self, marks: &[Outgoing], kept: bool) {
        for mark in marks {
            if self.asking {
                self.limbo.push((mark.merchant.clone(), mark.seq));
            } else {
                self.forget(&mark.merchant, mark.seq);
            }
            let Some(lane) = self.lanes.get_mut(&mark.merchant) else { continue };
            match (kept, mark.next_attempt_at, mark.order_id) {
                (false, ..) => (lane.behind, lane.place) = (true, BEGINNING),
                (true, Some(at), _) => lane.next_at = Some(lane.next_at.map_or(at, |earlier| earlier.min(at))),
                (true, None, Some(order)) => self.freed.push_back(order),
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
            let held = (!lane.queue.is_empty()).then(|| lane.held(now_ms)).filter(|wait| *wait > 0);
            // During a question, its answer comes first.
            let next_at = lane.next_at.filter(|_| !self.asking);
            [held, next_at.map(|at| (at - now_ms).max(0))]
        });
        waits.flatten().min()
    }
}

#[cfg(test)]
mod tests;
