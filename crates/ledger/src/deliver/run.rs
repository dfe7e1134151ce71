//! The loop of deliveries, which asks the store, sends events and marks results.
//!
//! One question and one mark are under way at a time. Questions take at most a third of the time, however long an
//! answer takes. Results are collected for a few milliseconds, and while the previous mark is under way. A failed mark
//! is repeated until it is kept, and nothing is sent meanwhile: an event that cannot be marked would be sent again and
//! again. Only marks that the store itself refuses are given up, after `MARKS` tries; their events are found, and sent,
//! again. When the process loses the books, all state is dropped, and an attempt that ends later marks nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Outbox;
use super::address::{self, Address};
use super::backoff;
use super::due::{DueEvents, Question};
use super::parcel::{Parcel, To};
use super::results::{Results, Tried, endpoint_of};
use super::scheduler::Scheduler;
use crate::endpoints::settings::Settings;
use crate::journal::{CommitError, Health};
use crate::keys::DataKey;
use crate::rows::{Attempt, Endpoint, Outgoing};
use crate::store::StoreError;
use crate::stored_enum::EventState;
use base::clock;
use base::units::Nanos;
use config::model::ledger::Ledger;
use http_client::webhook::{Answer, Sender};

/// Time for which results are collected.
const COLLECT: Duration = Duration::from_millis(3);
/// Results that are marked without further collecting, and the most of one mark.
const BATCH: (usize, usize) = (256, 1_024);
/// Time between two looks for each merchant.
const TICK: Duration = Duration::from_secs(1);
/// Least time between two looks from the beginning, and the same as a multiple of the last one's duration.
const SWEEP: (Duration, u32) = (Duration::from_secs(60), 100);
/// Shortest time between two questions.
const BREATH: Duration = Duration::from_millis(1);
/// Time to rest after a failed question, and after a failed mark.
const REST: Duration = Duration::from_secs(1);
/// Tries of a mark that the store itself refuses.
const MARKS: u32 = 10;
/// Time at the end for attempts under way, and then for the last mark.
const GRACE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(2));

/// An event of the loop.
enum RunEvent {
    Tried(u64, Box<Tried>),
    Found(u64, Question, Result<DueEvents, StoreError>, Duration),
    Marked(u64, Results, Result<(), CommitError>),
    Endpoints(u64, Result<Vec<(Endpoint, Settings)>, StoreError>),
}

/// The state of the loop.
pub struct Run<O> {
    config: Arc<ArcSwap<Ledger>>,
    /// The configuration from which `addresses` were made.
    seen: Option<Arc<Ledger>>,
    addresses: HashMap<To, Arc<Address>>,
    /// The endpoints of the books, as they were read last.
    endpoints: Vec<(Endpoint, Settings)>,
    /// Whether to read them again, and whether that is under way.
    reread: bool,
    reading: bool,
    /// The keys that encrypted the answers that are not marked yet.
    keys: Vec<Arc<DataKey>>,
    outbox: Arc<O>,
    client: Sender,
    desk: Scheduler,
    sender: mpsc::UnboundedSender<RunEvent>,
    news: mpsc::UnboundedReceiver<RunEvent>,
    active: bool,
    /// The number of changes of the writer; news from an earlier era are dropped.
    era: u64,
    results: Results,
    /// When the first of the results came.
    since: Option<Nanos>,
    marking: bool,
    /// Whether the last mark failed.
    unmarked: bool,
    ask_at: Nanos,
    mark_at: Nanos,
    tick_at: Nanos,
    sweep_at: Nanos,
    sweeping: bool,
}

impl<O: Outbox> Run<O> {
    /// A loop that does not run yet.
    pub fn new(config: Arc<ArcSwap<Ledger>>, outbox: O, client: Sender) -> Run<O> {
        let (sender, news) = mpsc::unbounded_channel();
        Run {
            config,
            seen: None,
            addresses: HashMap::new(),
            endpoints: vec![],
            reread: true,
            reading: false,
            keys: vec![],
            outbox: Arc::new(outbox),
            client,
            desk: Scheduler::default(),
            sender,
            news,
            active: false,
            era: 0,
            results: Results::default(),
            since: None,
            marking: false,
            unmarked: false,
            ask_at: Nanos(0),
            mark_at: Nanos(0),
            tick_at: Nanos(0),
            sweep_at: Nanos(0),
            sweeping: false,
        }
    }

    /// Runs until `stop` is sent or dropped.
    pub async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        loop {
            self.step();
            let pause = self.pause();
            tokio::select! {
                _ = &mut stop => break,
                Some(news) = self.news.recv() => {
                    self.take(news);
                    while let Ok(news) = self.news.try_recv() {
                        self.take(news);
                    }
                }
                () = self.outbox.woken() => self.hear(),
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.finish().await;
    }

    fn hear(&mut self) {
        let news = self.outbox.news();
        if let Some(fresh) = news.fresh {
            self.desk.fresh(fresh, wall_ms());
        }
        if news.look {
            self.desk.wake();
        }
        self.desk.look_at(news.again);
        self.reread |= news.endpoints;
    }

    /// Starts everything that is due.
    fn step(&mut self) {
        self.configure();
        let active = self.outbox.active();
        if active != self.active {
            self.active = active;
            self.forget();
        }
        if !active {
            return;
        }
        self.read_endpoints();
        let now = clock::now();
        if now >= self.tick_at {
            self.tick_at = now.after(TICK);
            self.sweeping = now >= self.sweep_at;
            if self.sweeping {
                self.sweep_at = now.after(SWEEP.0);
            }
            if self.sweeping { self.desk.look_again(true) } else { self.desk.look() }
        }
        let wall = wall_ms();
        if !self.unmarked {
            for parcel in self.desk.launch(wall) {
                self.send(parcel);
            }
        }
        if now >= self.ask_at
            && let Some(question) = self.desk.question(wall)
        {
            self.ask(question);
        }
        self.mark(now);
    }

    fn configure(&mut self) {
        let config = self.config.load_full();
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &config)) {
            return;
        }
        self.seen = Some(config);
        self.readdress();
    }

    /// Makes the addresses anew, of the configuration and of the books.
    fn readdress(&mut self) {
        let Some(config) = &self.seen else { return };
        self.addresses = address::all(config, &self.endpoints);
        self.desk.addresses(self.addresses.iter().map(|(to, address)| (to.clone(), address.bounds)));
    }

    fn read_endpoints(&mut self) {
        if self.reading || !std::mem::take(&mut self.reread) {
            return;
        }
        self.reading = true;
        let (outbox, sender, era) = (Arc::clone(&self.outbox), self.sender.clone(), self.era);
        tokio::task::spawn_blocking(move || drop(sender.send(RunEvent::Endpoints(era, outbox.endpoints()))));
    }

    fn endpoints_read(&mut self, read: Result<Vec<(Endpoint, Settings)>, StoreError>) {
        self.reading = false;
        match read {
            Ok(endpoints) => {
                self.endpoints = endpoints;
                self.readdress();
            }
            Err(e) => {
                log::error!("ledger: the endpoints of merchants cannot be read, once more soon: {e}");
                self.reread = true;
            }
        }
    }

    /// Drops all state: another process may have had the books, or gets them.
    fn forget(&mut self) {
        self.era += 1;
        self.desk.reset();
        (self.results, self.since, self.keys) = (Results::default(), None, vec![]);
        (self.reread, self.reading) = (true, false);
        (self.marking, self.unmarked) = (false, false);
        (self.ask_at, self.mark_at, self.tick_at) = (Nanos(0), Nanos(0), Nanos(0));
    }

    fn send(&self, parcel: Parcel) {
        let (sender, era) = (self.sender.clone(), self.era);
        let tried =
            move |parcel, (answer, body), took| RunEvent::Tried(era, Box::new(Tried { parcel, answer, body, took }));
        let Some(address) = self.addresses.get(&parcel.to).cloned() else {
            // The scheduler knows the same addresses; if it did not, the slot must not be lost.
            let silence = (Answer::Silence("it is not configured"), vec![]);
            let _ = self.sender.send(tried(parcel, silence, Duration::ZERO));
            return;
        };
        let client = self.client.clone();
        tokio::spawn(async move {
            let begun = clock::now();
            let answer = address.send(&client, &parcel.event).await;
            // After the end there is no receiver.
            let _ = sender.send(tried(parcel, answer, clock::now().since(begun)));
        });
    }

    fn ask(&self, question: Question) {
        let (outbox, sender, era) = (Arc::clone(&self.outbox), self.sender.clone(), self.era);
        tokio::task::spawn_blocking(move || {
            let start = clock::now();
            let found = outbox.ask(&question);
            let _ = sender.send(RunEvent::Found(era, question, found, clock::now().since(start)));
        });
    }

    fn mark(&mut self, now: Nanos) {
        let Some(since) = self.since else { return };
        let ripe = self.results.parcels.len() >= BATCH.0 || now.since(since) >= COLLECT;
        if self.marking || !ripe || now < self.mark_at {
            return;
        }
        self.marking = true;
        let results = self.next_results();
        let marks = results.marks(&self.keys);
        let (outbox, sender, era) = (Arc::clone(&self.outbox), self.sender.clone(), self.era);
        tokio::spawn(async move {
            let kept = outbox.mark(marks).await;
            let _ = sender.send(RunEvent::Marked(era, results, kept));
        });
    }

    /// The oldest results.
    fn next_results(&mut self) -> Results {
        let parcels: Vec<_> = self.results.parcels.drain(..self.results.parcels.len().min(BATCH.1)).collect();
        if self.results.parcels.is_empty() {
            self.since = None;
        }
        Results { parcels, tried: std::mem::take(&mut self.results.tried) }
    }

    fn take(&mut self, news: RunEvent) {
        match news {
            RunEvent::Tried(era, tried) if era == self.era => self.tried(*tried),
            RunEvent::Endpoints(era, read) if era == self.era => self.endpoints_read(read),
            RunEvent::Found(era, question, found, took) if era == self.era => self.found(question, found, took),
            RunEvent::Marked(era, marks, kept) if era == self.era => self.marked(marks, kept),
            // The books were lost meanwhile.
            _ => {}
        }
    }

    fn tried(&mut self, Tried { parcel, answer, body, took }: Tried) {
        let waits = self.seen.as_ref().map(|config| config.delivery_backoff.as_slice()).unwrap_or_default();
        let now = wall_ms();
        let after = backoff::after(&parcel.event, answer, waits, now, fastrand::f64());
        self.tell(&parcel.to, &after, answer, now);
        let delivered = after.state == EventState::Delivered;
        self.desk.tried(&parcel.to, delivered, now);
        let health = match (delivered, after.last_status) {
            (true, _) => Health::Works,
            (false, Some(410)) => Health::Gone(now),
            (false, _) => Health::Fails(now),
        };
        let attempt = Attempt {
            event_seq: after.seq,
            at: now,
            endpoint_id: address::id(&parcel.to),
            status: after.last_status,
            latency_ms: i64::try_from(took.as_millis()).unwrap_or(i64::MAX),
            body: self.sealed(after.id, &body),
        };
        self.results.parcels.push((Parcel { event: after, ..parcel }, attempt, health));
        self.since.get_or_insert(clock::now());
    }

    /// The beginning of an answer, encrypted: it may hold anything.
    fn sealed(&mut self, event: Uuid, body: &[u8]) -> Option<(Uuid, Vec<u8>)> {
        let key = self.outbox.sealing().filter(|_| !body.is_empty())?;
        if self.keys.iter().all(|known| known.id() != key.id()) {
            self.keys.push(key.clone());
        }
        Some((key.id(), key.seal("attempts", "body", event, body)))
    }

    fn tell(&self, to: &To, after: &Outgoing, answer: Answer, now: i64) {
        let (merchant, id, tries) = (&after.merchant, after.id, after.attempts);
        let endpoint = endpoint_of(to).map(|id| format!(", endpoint {id}")).unwrap_or_default();
        match (after.state, after.next_attempt_at) {
            (EventState::Delivered, _) => {
                log::debug!("ledger: merchant {merchant}{endpoint}: event {id} is delivered");
            }
            (_, Some(at)) => {
                // An address that is down for days is logged once, not once for each of its events.
                let level = if self.desk.fails(to) { log::Level::Debug } else { log::Level::Warn };
                log::log!(
                    level,
                    "ledger: merchant {merchant}{endpoint}: event {id} failed, once more in {:.1} s: {}",
                    (at - now) as f64 / 1_000.0,
                    answer.text()
                );
            }
            _ => log::error!(
                "ledger: merchant {merchant}{endpoint}: event {id} is dead after {tries} tries: {}; \
                 POST /v1/events/{id}/redeliver sends it again",
                answer.text()
            ),
        }
    }

    fn found(&mut self, question: Question, found: Result<DueEvents, StoreError>, took: Duration) {
        let now = clock::now();
        match found {
            Ok(found) => {
                for name in self.desk.answer(&question, found) {
                    log::warn!(
                        "ledger: events wait for merchant {name}, which is not configured: they are sent when there is a \
                         [ledger.merchant.{name}] again"
                    );
                }
                self.ask_at = now.after(BREATH.max(took * 2));
                if self.sweeping {
                    self.sweep_at = now.after(SWEEP.0.max(took * SWEEP.1));
                }
            }
            Err(e) => {
                log::error!("ledger: what is due for merchants cannot be read, once more in a second: {e}");
                self.desk.no_answer(question);
                self.ask_at = now.after(REST);
            }
        }
    }

    fn marked(&mut self, mut marks: Results, kept: Result<(), CommitError>) {
        // Earlier commits are known by then, so that marked events do not arrive as new ones.
        self.hear();
        self.marking = false;
        match kept {
            Ok(()) => {
                self.unmarked = false;
                self.desk.settled(&marks.parcels(), true);
            }
            Err(why) if why != CommitError::Refused || marks.tried + 1 < MARKS => {
                // If the queue is only full, arrived events are still sent: the number known of each merchant is
                // bounded.
                self.unmarked |= why != CommitError::Overloaded;
                log::warn!("ledger: {} deliveries cannot be marked yet: {why:?}", marks.parcels.len());
                // The same marks again, before those that came meanwhile.
                marks.parcels.append(&mut self.results.parcels);
                self.results = Results { tried: marks.tried + u32::from(why == CommitError::Refused), ..marks };
                self.since.get_or_insert(clock::now());
                self.mark_at = clock::now().after(REST);
            }
            Err(why) => {
                self.unmarked = false;
                log::error!(
                    "ledger: {} deliveries could not be marked, they will be sent again: {why:?}",
                    marks.parcels.len()
                );
                self.desk.settled(&marks.parcels(), false);
                self.mark_at = clock::now().after(REST);
            }
        }
    }

    /// The time until the loop must act by itself.
    fn pause(&self) -> Duration {
        let now = clock::now();
        if !self.active {
            return TICK;
        }
        let mut pause = self.tick_at.since(now);
        if let Some(wait) = self.desk.wait(wall_ms()) {
            let wait = Duration::from_millis(u64::try_from(wait).unwrap_or_default());
            pause = pause.min(wait.max(self.ask_at.since(now)));
        }
        if let Some(since) = self.since
            && !self.marking
        {
            pause = pause.min(since.after(COLLECT).since(now).max(self.mark_at.since(now)));
        }
        // A question may wait only for its time.
        if self.ask_at > now {
            pause = pause.min(self.ask_at.since(now));
        }
        pause.max(BREATH)
    }

    /// Lets attempts under way end, and marks the results.
    async fn finish(mut self) {
        let until = clock::now().after(GRACE.0);
        while self.active && self.outbox.active() && (self.desk.under_way() > 0 || self.marking) {
            match tokio::time::timeout(until.since(clock::now()), self.news.recv()).await {
                Ok(Some(news)) => self.take(news),
                _ => break,
            }
        }
        while self.active && self.outbox.active() && !self.results.parcels.is_empty() {
            let marks = self.next_results().marks(&self.keys);
            let kept = tokio::time::timeout(GRACE.1, self.outbox.mark(marks)).await;
            if !matches!(kept, Ok(Ok(()))) {
                return log::warn!("ledger: the last deliveries could not be marked, they will be sent again");
            }
        }
    }
}

fn wall_ms() -> i64 {
    i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX)
}
