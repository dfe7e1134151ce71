//! The monitor's work of each second.
//!
//! **Anchor.** When this process gets the books, it compares the anchor on the disk with them before it replaces it. An
//! anchor that is ahead of the books, or of another chain, stays as it is: it is the proof. Then `tampered` is raised
//! and reported, and this process writes no more anchors; once the matter is cleared up, a person deletes the file.
//! Rows without an anchor are reported once, and an anchor is written: an attacker who cut the end may have removed it.
//!
//! **Disk.** Little room is less than 256 MiB, or less than 1 % of the file system if that is more, up to 4 GiB.
//!
//! **Waits.** An hour is long, for a parked transaction (each raises `stuck_pending` once) and for a pending event. The
//! open anomaly of a dead event reports it. Other open anomalies are told at once, and those that come after within five
//! minutes.
//!
//! **Clock.** A row is never recorded before an earlier one. After this clock, or another writer's, was ahead, rows are
//! recorded in the future until that time is passed. Deliveries go by the clock, but ages counted from such rows are
//! too small, so `parked_old` and `undelivered` come late. Therefore the state has an alarm of its own.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use uuid::Uuid;

use super::Watched;
use super::alarms::{Alarm, AlarmKind, Book};
use super::queries::{self, Failing, Waiting};
use crate::anchor::{self, Anchor};
use crate::journal::{Raised, Standing};
use crate::metrics::LedgerSeries;
use crate::skew::Skew;
use crate::stored_enum::{AnomalyKind, StoredEnum};
use base::clock;
use base::units::Nanos;

/// Time between two looks at what waits.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two verifications.
const VERIFY: Duration = Duration::from_secs(3_600);
/// Time between two log lines about a store that cannot be read.
const COMPLAIN: Duration = Duration::from_secs(60);
/// How far the books may be ahead of this clock.
const AHEAD_MS: i64 = 60_000;
/// The age from which a wait counts as long.
const LONG_MS: i64 = 3_600_000;
/// The time without a success after which an endpoint is reported.
const DAY_MS: i64 = 24 * 3_600_000;
const MIB: u64 = 1 << 20;
/// The niceness of the verification's thread.
const NICE: i32 = 10;

/// The result of a verification of all books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// The last verified place.
    pub sequence: i64,
    /// When it ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// Whether everything was as it was written.
    pub ok: bool,
}

/// Verifies all books; an error says why that was not possible.
pub type Verify = Arc<dyn Fn() -> Result<Verification, String> + Send + Sync>;

/// Sends an alarm; never waits.
pub type Tell = Arc<dyn Fn(Alarm) + Send + Sync>;

/// The parts of a monitor.
pub struct Parts {
    /// The anchor's file.
    pub anchor: PathBuf,
    /// A folder on the disk that the ledger fills.
    pub folder: PathBuf,
    /// The metrics that it sets.
    pub series: Arc<LedgerSeries>,
    /// Clock differences of genuine messages.
    pub skew: Arc<Mutex<Skew>>,
    /// Verifies all books.
    pub verify: Verify,
    /// Sends an alarm.
    pub tell: Tell,
}

/// What other threads read.
#[derive(Debug, Default)]
pub struct MonitorState {
    /// The anchor on the disk.
    pub anchored: Option<Anchor>,
    /// The last verification.
    pub verified: Option<Verification>,
    /// Whether a verification is under way.
    verifying: bool,
}

/// Whether the anchor may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The anchor is not compared yet.
    Unknown,
    /// The chain goes through the anchor.
    Holds,
    /// The chain does not go through it; whether an anomaly reports that.
    Broken(bool),
}

/// The monitor's state.
pub struct Ticker<W> {
    books: W,
    parts: Parts,
    shared: Arc<Mutex<MonitorState>>,
    book: Book,
    active: bool,
    trust: Trust,
    look: Option<Waiting>,
    look_at: Nanos,
    verify_at: Nanos,
    complain_at: Nanos,
    /// Transactions that were raised as stuck; `None` before they are read.
    stuck: Option<HashSet<Uuid>>,
    stuck_place: (i64, i64),
}

impl<W: Watched> Ticker<W> {
    /// The state for these books.
    pub fn new(books: W, parts: Parts, shared: Arc<Mutex<MonitorState>>) -> Ticker<W> {
        let zero = Nanos(0);
        Ticker {
            books,
            parts,
            shared,
            book: Book::default(),
            active: false,
            trust: Trust::Unknown,
            look: None,
            look_at: zero,
            verify_at: zero,
            complain_at: zero,
            stuck: None,
            stuck_place: (i64::MIN, i64::MIN),
        }
    }

    /// Does everything that is due.
    pub fn tick(&mut self, now: Nanos, wall: i64) {
        let standing = self.books.standing();
        let active = standing == Standing::Active;
        if active && !self.active {
            // Another process may have written meanwhile.
            (self.trust, self.stuck, self.stuck_place) = (Trust::Unknown, None, (i64::MIN, i64::MIN));
            (self.look_at, self.verify_at) = (now, now);
        }
        self.active = active;
        if active {
            self.anchor(wall);
            self.verify(now);
        }
        if now >= self.look_at {
            let began = clock::now();
            self.look(now);
            // Cheap reads run each second; expensive ones take a fiftieth of the time.
            self.look_at = now.after(LOOK.max(clock::now().since(began) * 50));
            if active && let Err(e) = self.stuck(wall) {
                log::warn!("ledger: parked transactions cannot be read: {e}");
            }
        }
        self.clock(wall);
        self.disk(wall);
        self.waits(active, wall);
        let failed = (standing == Standing::Failed).then(|| {
            "the store failed: nothing is written or acknowledged any more; mend the disk, then start again".to_owned()
        });
        self.alarm(AlarmKind::StoreFailed, failed, wall);
    }

    /// Writes the anchor once more.
    pub fn end(&mut self, wall: i64) {
        if self.active && self.trust == Trust::Holds {
            self.anchor(wall);
        }
    }

    fn anchor(&mut self, wall: i64) {
        if self.trust == Trust::Unknown {
            self.compare(wall);
        }
        if self.trust == Trust::Broken(false) {
            let detail = "the anchor is ahead of the books or of another chain: rows at the end were removed, or the \
                          books were replaced; the anchor is kept as it is, see `tollgate ledger verify`";
            if self.tampered(detail) {
                self.trust = Trust::Broken(true);
            }
        }
        let Some((sequence, link)) = self.books.head().filter(|_| self.trust == Trust::Holds) else { return };
        let known = |known: &Anchor| (known.sequence, &known.head) == (sequence, &base::hex::encode(&link));
        if self.shared.lock().anchored.as_ref().is_some_and(known) {
            return;
        }
        let anchor = Anchor::new(sequence, &link, u64::try_from(wall).unwrap_or_default());
        match anchor::write(&self.parts.anchor, &anchor) {
            Ok(()) => {
                log::info!("ledger: anchored: sequence {sequence}, head {}", anchor.head);
                self.shared.lock().anchored = Some(anchor);
            }
            Err(e) => log::error!("{}: the anchor cannot be written: {e}", self.parts.anchor.display()),
        }
    }

    /// Compares the anchor on the disk with the books.
    fn compare(&mut self, wall: i64) {
        let holds = match anchor::read(&self.parts.anchor) {
            Ok(None) => {
                self.no_anchor(wall);
                Ok(true)
            }
            Ok(Some(anchor)) => {
                let holds = self.books.read(|reader| anchor.holds(reader)).map_err(|e| e.to_string());
                self.shared.lock().anchored = Some(anchor);
                holds
            }
            // Only the ledger writes the file, and never a part of it.
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => Ok(false),
            Err(e) => Err(e.to_string()),
        };
        match holds {
            Ok(true) => self.trust = Trust::Holds,
            Ok(false) => {
                self.trust = Trust::Broken(false);
                log::error!(
                    "{}: the books do not go through this anchor: they were cut or replaced. It is kept as it is; when \
                     the matter is cleared up, delete it and start again",
                    self.parts.anchor.display()
                );
            }
            Err(e) => log::error!("{}: the anchor cannot be compared yet: {e}", self.parts.anchor.display()),
        }
    }

    /// Reports rows without an anchor: it is then unknown whether some are missing at their end.
    fn no_anchor(&mut self, wall: i64) {
        let Some((rows, _)) = self.books.head() else { return };
        let text = format!(
            "there is no anchor beside {rows} rows: whether rows at the end were removed cannot be told; expected only \
             where the books, or this state_dir, are new to this machine"
        );
        self.alarm(AlarmKind::NoAnchor, Some(text), wall);
    }

    /// Raises `tampered`, unless one is open; returns whether there is one now.
    fn tampered(&mut self, detail: &str) -> bool {
        let is_open = self.books.read(queries::look).map(|look| open(&look, AnomalyKind::Tampered) > 0);
        is_open.unwrap_or(false)
            || self.books.raise(vec![Raised {
                kind: AnomalyKind::Tampered,
                channel: String::new(),
                merchant: String::new(),
                transaction_id: None,
                detail: detail.to_owned(),
            }])
    }

    fn verify(&mut self, now: Nanos) {
        if now < self.verify_at || std::mem::replace(&mut self.shared.lock().verifying, true) {
            return;
        }
        self.verify_at = now.after(VERIFY);
        let (verify, shared) = (Arc::clone(&self.parts.verify), Arc::clone(&self.shared));
        let work = move || {
            // On Linux this applies to the thread only; if it is refused, the thread takes its full share.
            let _ = rustix::process::nice(NICE);
            // A panic must not prevent the next verification.
            let verified = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| verify()))
                .unwrap_or_else(|_| Err("it panicked".to_owned()));
            let mut shared = shared.lock();
            shared.verifying = false;
            match verified {
                Ok(verified) => {
                    log::info!("ledger: verified up to sequence {}: ok {}", verified.sequence, verified.ok);
                    shared.verified = Some(verified);
                }
                Err(e) => log::error!("ledger: the books could not be verified: {e}"),
            }
        };
        if let Err(e) = std::thread::Builder::new().name("ledger-verify".into()).spawn(work) {
            log::error!("ledger: no thread to verify the books: {e}");
            self.shared.lock().verifying = false;
        }
    }

    fn look(&mut self, now: Nanos) {
        match self.books.read(queries::look) {
            Ok(look) => {
                let series = &self.parts.series;
                series.outbox.set(look.pending as f64);
                series.anomalies.set(look.anomalies.values().map(|(count, _)| count).sum::<i64>() as f64);
                self.look = Some(look);
            }
            // On standby there may be no store yet.
            Err(e) if self.active && now >= self.complain_at => {
                self.complain_at = now.after(COMPLAIN);
                log::error!("ledger: what waits in the books cannot be read: {e}");
            }
            Err(_) => {}
        }
    }

    /// Raises `stuck_pending` once for each transaction that has been parked for long.
    fn stuck(&mut self, wall: i64) -> Result<(), crate::store::StoreError> {
        if self.stuck.is_none() {
            self.stuck = Some(self.books.read(queries::stuck)?);
        }
        let (before, place) = (wall - LONG_MS, self.stuck_place);
        let found = self.books.read(|reader| queries::parked(reader, before, place))?;
        let Some(last) = found.last().map(|parked| parked.place) else { return Ok(()) };
        let known = self.stuck.get_or_insert_default();
        let new: Vec<_> = found.into_iter().filter(|parked| !known.contains(&parked.id)).collect();
        let ids: Vec<Uuid> = new.iter().map(|parked| parked.id).collect();
        let raised = new.into_iter().map(|parked| Raised {
            kind: AnomalyKind::StuckPending,
            channel: parked.channel,
            merchant: parked.merchant,
            transaction_id: Some(parked.id),
            detail: "parked for more than an hour: what it is of has not come".to_owned(),
        });
        if ids.is_empty() || self.books.raise(raised.collect()) {
            known.extend(ids);
            self.stuck_place = last;
        } else {
            // They may be written later; then the books say so.
            self.stuck = None;
        }
        Ok(())
    }

    fn clock(&mut self, wall: i64) {
        let (median, wrong) = {
            let skew = self.parts.skew.lock();
            (skew.median_ms(wall), skew.wrong_ms(wall))
        };
        self.parts.series.skew.set(median.unwrap_or_default() as f64 / 1_000.0);
        let text = wrong.map(|wrong| {
            let (seconds, way) = (wrong.unsigned_abs() / 1_000, if wrong > 0 { "behind" } else { "ahead" });
            format!("by the times of genuine messages, this clock is about {seconds} s {way}: callbacks may be refused")
        });
        self.alarm(AlarmKind::ClockSkew, text, wall);
        let ahead = self.books.recorded_at() - wall;
        let text = (ahead > AHEAD_MS).then(|| {
            let seconds = ahead / 1_000;
            format!(
                "the last row is recorded {seconds} s ahead of this clock: it was ahead, or is behind now; rows are \
                 recorded at that time until it is passed, events are sent by this clock"
            )
        });
        self.alarm(AlarmKind::ClockAhead, text, wall);
    }

    fn disk(&mut self, wall: i64) {
        let Ok(disk) = rustix::fs::statvfs(&self.parts.folder) else { return };
        let (free, whole) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
        self.parts.series.disk.set(free as f64);
        let text =
            (free < least(whole)).then(|| format!("{} MiB are free where the ledger keeps its files", free / MIB));
        self.alarm(AlarmKind::LowDisk, text, wall);
    }

    fn waits(&mut self, active: bool, wall: i64) {
        let Some(look) = &self.look else { return };
        let age = |since: Option<i64>| since.map_or(0, |since| (wall - since).max(0));
        let (parked, pending) = (age(look.parked_since), age(look.pending_since));
        self.parts.series.parked_oldest.set(parked as f64 / 1_000.0);
        self.parts.series.outbox_oldest.set(pending as f64 / 1_000.0);
        // The process that writes the books reports them.
        if !active {
            return;
        }
        let parked = (parked > LONG_MS).then(|| {
            format!("the oldest callback is parked for {} minutes: what it is of has not come", parked / 60_000)
        });
        let dead = open(look, AnomalyKind::Undelivered);
        let undelivered = match (dead, pending > LONG_MS) {
            (0, false) => None,
            (0, true) => Some(format!("an event waits for its merchant for {} minutes", pending / 60_000)),
            (dead, _) => Some(format!("{dead} anomalies say that merchants did not get an event")),
        };
        let failing = failing(&look.failing, wall);
        let verified = self.shared.lock().verified.as_ref().is_some_and(|verified| !verified.ok);
        let tampered = if matches!(self.trust, Trust::Broken(_)) {
            Some("the books do not go through their anchor: they were cut or replaced")
        } else if verified {
            Some("the last verification of the books found changed or missing rows: run `tollgate ledger verify`")
        } else {
            (open(look, AnomalyKind::Tampered) > 0).then_some("an open anomaly says that the books were changed")
        };
        let (decide, last) = to_decide(look);
        self.alarm(AlarmKind::ParkedOld, parked, wall);
        let grown = self.book.grown(AlarmKind::Anomalies, decide, last, wall);
        self.send(grown);
        self.alarm(AlarmKind::Undelivered, undelivered, wall);
        self.alarm(AlarmKind::EndpointFailing, failing, wall);
        self.alarm(AlarmKind::Tampered, tampered.map(str::to_owned), wall);
    }

    fn alarm(&mut self, kind: AlarmKind, state: Option<String>, wall: i64) {
        let alarm = self.book.look(kind, state, wall);
        self.send(alarm);
    }

    fn send(&self, alarm: Option<Alarm>) {
        let Some(alarm) = alarm else { return };
        log::error!("ledger: alarm {}: {}", alarm.kind.label(), alarm.text);
        (self.parts.tell)(alarm);
    }
}

/// What is said of endpoints that have taken nothing for a day.
fn failing(endpoints: &[Failing], wall: i64) -> Option<String> {
    let long = endpoints.iter().filter(|endpoint| wall - endpoint.since >= DAY_MS);
    let (first, count) = (long.clone().next()?, long.count());
    let Failing { id, merchant, since } = first;
    let others = if count > 1 { format!(", and {} more", count - 1) } else { String::new() };
    let hours = (wall - since) / 3_600_000;
    Some(format!("endpoint {id} of merchant {merchant} has taken no event for {hours} hours{others}"))
}

/// The number of open anomalies of a kind.
fn open(look: &Waiting, kind: AnomalyKind) -> i64 {
    look.anomalies.get(kind.word()).map(|(count, _)| *count).unwrap_or_default()
}

/// Kinds of anomalies that other alarms tell.
const TOLD_OTHERWISE: [AnomalyKind; 3] = [AnomalyKind::Undelivered, AnomalyKind::Tampered, AnomalyKind::StuckPending];

/// What open anomalies a person must decide about, and the place of the last one.
fn to_decide(look: &Waiting) -> (Option<String>, i64) {
    let own = |kind: &str| TOLD_OTHERWISE.iter().all(|other| other.word() != kind);
    let open: Vec<_> = look.anomalies.iter().filter(|(kind, _)| own(kind)).collect();
    let last = open.iter().map(|(_, (_, last))| *last).max().unwrap_or_default();
    let counts: Vec<String> = open.iter().map(|(kind, (count, _))| format!("{count} {kind}")).collect();
    let text = format!("open anomalies: {}; GET /v1/anomalies?state=open names them", counts.join(", "));
    ((!open.is_empty()).then_some(text), last)
}

/// Free bytes below which the alarm is sent, for a file system of `whole` bytes.
fn least(whole: u64) -> u64 {
    (whole / 100).clamp(256 * MIB, 4_096 * MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_reported_after_a_day() {
        let one = |n, since| Failing { id: Uuid::from_u128(n), merchant: "shop".into(), since };
        assert_eq!(failing(&[one(1, 1)], DAY_MS), None);
        let text = failing(&[one(1, 0), one(2, 0), one(3, 9)], DAY_MS).unwrap();
        let id = Uuid::from_u128(1);
        assert_eq!(text, format!("endpoint {id} of merchant shop has taken no event for 24 hours, and 1 more"));
    }

    #[test]
    fn little_room_is_a_hundredth_between_two_bounds() {
        assert_eq!(least(10 << 30), 256 * MIB);
        assert_eq!(least(100 << 30), (100 << 30) / 100);
        assert_eq!(least(10 << 40), 4_096 * MIB);
    }
}
