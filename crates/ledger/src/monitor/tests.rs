//! The monitor before a real table in SQLite's memory and a real folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use uuid::Uuid;

use super::alarms::Alarm;
use super::ticker::{MonitorState, Parts, Ticker, Verification};
use super::{Monitor, Watched};
use crate::anchor::{self, Anchor};
use crate::deliver::tests::outbox::Memory;
use crate::journal::{Raised, Standing};
use crate::metrics::LedgerSeries;
use crate::rows::{Anomaly, Outgoing, Transaction, Typed};
use crate::skew::Skew;
use crate::store::{Reader, StoreError};
use crate::stored_enum::{AnomalyKind, AnomalyState, EventState, TxState};
use base::units::Nanos;
use providers::event::Kind;

const NOW: i64 = 1_795_232_280_000;
const HOUR: i64 = 3_600_000;

struct State {
    memory: Memory,
    standing: Standing,
    head: Option<(i64, Vec<u8>)>,
    recorded_at: i64,
    raised: Vec<Raised>,
    commits: usize,
    /// Whether what is raised is written, but too late for an answer.
    late: bool,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<State>>);

impl Watched for Fake {
    fn standing(&self) -> Standing {
        self.0.lock().standing
    }

    fn head(&self) -> Option<(i64, Vec<u8>)> {
        self.0.lock().head.clone()
    }

    fn recorded_at(&self) -> i64 {
        self.0.lock().recorded_at
    }

    fn raise(&self, raised: Vec<Raised>) -> bool {
        self.0.lock().commits += 1;
        raised.into_iter().for_each(|raised| self.raise_one(raised));
        !self.0.lock().late
    }

    fn read<T>(&self, read: impl FnOnce(&mut dyn Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
        read(&mut self.0.lock().memory)
    }
}

impl Fake {
    fn raise_one(&self, raised: Raised) {
        let mut state = self.0.lock();
        let seq = 1_000 + state.raised.len() as i64;
        state.memory.insert(
            Anomaly {
                seq,
                id: Uuid::now_v7(),
                kind: raised.kind,
                channel: raised.channel.clone(),
                merchant: raised.merchant.clone(),
                transaction_id: raised.transaction_id,
                evidence_id: None,
                detail: raised.detail.clone(),
                opened_at: NOW,
                state: AnomalyState::Open,
            }
            .row(),
        );
        state.raised.push(raised);
    }
}

struct Scene {
    fake: Fake,
    folder: tempfile::TempDir,
    series: Arc<LedgerSeries>,
    skew: Arc<Mutex<Skew>>,
    told: Arc<Mutex<Vec<Alarm>>>,
    verified: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Scene {
        let state = State {
            memory: Memory::new(),
            standing: Standing::Active,
            head: None,
            recorded_at: 0,
            raised: vec![],
            commits: 0,
            late: false,
        };
        Scene {
            fake: Fake(Arc::new(Mutex::new(state))),
            folder: tempfile::tempdir().unwrap(),
            series: Arc::default(),
            skew: Arc::default(),
            told: Arc::default(),
            verified: Arc::default(),
        }
    }

    fn parts(&self) -> Parts {
        let (told, verified) = (Arc::clone(&self.told), Arc::clone(&self.verified));
        Parts {
            anchor: self.anchor(),
            folder: self.folder.path().to_owned(),
            series: Arc::clone(&self.series),
            skew: Arc::clone(&self.skew),
            verify: Arc::new(move || {
                verified.fetch_add(1, Ordering::SeqCst);
                Ok(Verification { sequence: 7, at_ms: NOW as u64, ok: true })
            }),
            tell: Arc::new(move |message| told.lock().push(message)),
        }
    }

    fn watch(&self) -> (Ticker<Fake>, Arc<Mutex<MonitorState>>) {
        let shared = Arc::new(Mutex::new(MonitorState::default()));
        (Ticker::new(self.fake.clone(), self.parts(), Arc::clone(&shared)), shared)
    }

    fn anchor(&self) -> std::path::PathBuf {
        anchor::path(self.folder.path())
    }

    fn head(&self, seq: i64, link: &[u8]) {
        let mut state = self.fake.0.lock();
        state.head = Some((seq, link.to_vec()));
        let sql = "INSERT INTO chain (seq, rows, link) VALUES (?1, x'', ?2)";
        state.memory.0.execute(sql, rusqlite::params![seq, link]).unwrap();
    }

    fn told(&self) -> Vec<String> {
        // How much room this machine has is not the test's.
        self.told
            .lock()
            .iter()
            .map(|alarm| format!("ledger.{}", alarm.kind.label()))
            .filter(|event| event != "ledger.low_disk")
            .collect()
    }

    fn raised(&self) -> Vec<AnomalyKind> {
        self.fake.0.lock().raised.iter().map(|raised| raised.kind).collect()
    }

    fn parked(&self, seq: i64, recorded_at: i64) -> Uuid {
        let id = Uuid::from_u128(seq as u128);
        let row = Transaction {
            seq,
            id,
            evidence_id: None,
            provider: "stripe".into(),
            account: String::new(),
            kind: Kind::Refund,
            key: seq.to_string(),
            channel: "card".into(),
            merchant: "shop".into(),
            out_trade_no: None,
            channel_txn_no: None,
            of: None,
            amount_minor: Some(1),
            stated_trade_no: None,
            stated_minor: Some(1),
            stated_currency: None,
            currency: None,
            occurred_at: recorded_at,
            recorded_at,
            first_state: TxState::Parked,
            state: TxState::Parked,
            order_id: None,
            payment_txn_no: None,
            fee_minor: None,
            refunded_minor: 0,
            held_minor: 0,
            out_refund_no: None,
        };
        self.fake.0.lock().memory.insert(row.row());
        id
    }

    fn pending(&self, seq: i64, created_at: i64) {
        let row = Outgoing {
            seq,
            id: Uuid::from_u128(seq as u128),
            kind: "payment.posted".into(),
            transaction_id: Uuid::nil(),
            order_id: None,
            merchant: "shop".into(),
            body: "{}".into(),
            created_at,
            state: EventState::Pending,
            attempts: 0,
            round: 0,
            next_attempt_at: Some(created_at),
            last_status: None,
            delivered_at: None,
        };
        self.fake.0.lock().memory.insert(row.row());
    }
}

fn second(n: u64) -> Nanos {
    Nanos((1_000 + n) * 1_000_000_000)
}

fn read(path: &Path) -> Option<Anchor> {
    anchor::read(path).unwrap()
}

#[test]
fn the_anchor_follows_the_head_and_is_written_once_more_at_the_end() {
    let scene = Scene::new();
    let (mut watch, shared) = scene.watch();
    watch.tick(second(0), NOW);
    assert_eq!(read(&scene.anchor()), None, "there is nothing to anchor");
    scene.head(5, b"five");
    watch.tick(second(1), NOW);
    let five = Anchor::new(5, b"five", NOW as u64);
    assert_eq!((read(&scene.anchor()), shared.lock().anchored.clone()), (Some(five.clone()), Some(five.clone())));
    watch.tick(second(2), NOW + 9_000);
    assert_eq!(read(&scene.anchor()), Some(five), "the same head is not written again");
    scene.head(8, b"eight");
    watch.end(NOW + 10_000);
    assert_eq!(read(&scene.anchor()).unwrap().sequence, 8);
    assert_eq!((scene.raised(), scene.told()), (vec![], vec![]));
}

#[test]
fn an_anchor_that_the_books_do_not_go_through_is_kept_and_told_once() {
    let ahead = Anchor::new(9, b"nine", 0);
    let other = Anchor::new(5, b"other", 0);
    for wrong in [ahead, other] {
        let scene = Scene::new();
        anchor::write(&scene.anchor(), &wrong).unwrap();
        scene.head(5, b"five");
        let (mut watch, shared) = scene.watch();
        for n in 0..10 {
            watch.tick(second(n), NOW + n as i64 * 1_000);
        }
        watch.end(NOW);
        assert_eq!((read(&scene.anchor()), shared.lock().anchored.clone()), (Some(wrong.clone()), Some(wrong)));
        assert_eq!(scene.raised(), [AnomalyKind::Tampered]);
        assert_eq!(scene.told(), ["ledger.tampered"]);
        // After a restart the open anomaly is not raised a second time.
        let (mut watch, _) = scene.watch();
        watch.tick(second(20), NOW);
        assert_eq!(scene.raised(), [AnomalyKind::Tampered]);
    }
}

#[test]
fn an_anchor_within_the_books_goes_on() {
    let scene = Scene::new();
    scene.head(5, b"five");
    scene.head(8, b"eight");
    anchor::write(&scene.anchor(), &Anchor::new(5, b"five", 0)).unwrap();
    let (mut watch, _) = scene.watch();
    watch.tick(second(0), NOW);
    assert_eq!(read(&scene.anchor()).unwrap().sequence, 8);
    assert_eq!(scene.raised(), []);
}

#[test]
fn a_process_on_standby_writes_no_anchor_and_verifies_nothing() {
    let scene = Scene::new();
    scene.fake.0.lock().standing = Standing::Standby;
    scene.head(5, b"five");
    let (mut watch, _) = scene.watch();
    watch.tick(second(0), NOW);
    watch.end(NOW);
    assert_eq!(read(&scene.anchor()), None);
    assert_eq!(scene.verified.load(Ordering::SeqCst), 0);
}

#[test]
fn what_waits_is_shown_and_told_when_it_waits_for_long() {
    let scene = Scene::new();
    let stuck = scene.parked(1, NOW - 2 * HOUR);
    scene.parked(2, NOW - 1_000);
    scene.pending(3, NOW - 30_000);
    scene.pending(4, NOW - 20_000);
    let (mut watch, _) = scene.watch();
    watch.tick(second(0), NOW);
    watch.tick(second(5), NOW);
    let series = &scene.series;
    assert_eq!((series.outbox.get(), series.outbox_oldest.get()), (2.0, 30.0));
    assert_eq!((series.parked_oldest.get(), series.anomalies.get()), (7_200.0, 1.0));
    assert!(series.disk.get() > 0.0);
    assert_eq!(scene.raised(), [AnomalyKind::StuckPending]);
    assert_eq!(scene.fake.0.lock().raised[0].transaction_id, Some(stuck));
    assert_eq!(scene.told(), ["ledger.parked_old"]);
    watch.tick(second(10), NOW + HOUR);
    assert_eq!(scene.raised(), [AnomalyKind::StuckPending; 2], "the second one is old, too");
    assert_eq!(scene.told(), ["ledger.parked_old", "ledger.undelivered"]);
    let (mut watch, _) = scene.watch();
    watch.tick(second(20), NOW + HOUR);
    assert_eq!(scene.raised().len(), 2, "once for each transaction, restarts or not");
}

#[test]
fn anomalies_that_a_person_must_decide_are_told() {
    let scene = Scene::new();
    let raise = |kind| {
        scene.fake.raise(vec![Raised {
            kind,
            channel: "card".into(),
            merchant: "shop".into(),
            transaction_id: None,
            detail: "x".into(),
        }])
    };
    let (mut watch, _) = scene.watch();
    raise(AnomalyKind::StuckPending);
    watch.tick(second(0), NOW);
    assert_eq!(scene.told(), Vec::<String>::new(), "others tell it");
    raise(AnomalyKind::OverRefund);
    watch.tick(second(2), NOW + 2_000);
    raise(AnomalyKind::AmountMismatch);
    watch.tick(second(4), NOW + 4_000);
    assert_eq!(scene.told(), ["ledger.anomalies"]);
    watch.tick(second(400), NOW + 400_000);
    assert_eq!(scene.told(), ["ledger.anomalies"; 2]);
    let text = scene.told.lock()[1].text.clone();
    assert!(text.contains("1 amount_mismatch, 1 over_refund"), "{text}");
}

#[test]
fn many_that_are_stuck_are_raised_in_few_commits() {
    let scene = Scene::new();
    for seq in 1..=150 {
        scene.parked(seq, NOW - 2 * HOUR + seq);
    }
    let (mut watch, _) = scene.watch();
    (0..9).for_each(|at| watch.tick(second(at), NOW));
    assert_eq!((scene.raised().len(), scene.fake.0.lock().commits), (150, 2));
}

#[test]
fn what_is_written_too_late_for_an_answer_is_not_raised_again() {
    let scene = Scene::new();
    for seq in 1..=3 {
        scene.parked(seq, NOW - 2 * HOUR + seq);
    }
    scene.fake.0.lock().late = true;
    let (mut watch, _) = scene.watch();
    (0..9).for_each(|at| watch.tick(second(at), NOW));
    assert_eq!(scene.raised().len(), 3);
}

#[test]
fn nothing_is_asked_for_while_the_question_before_is_not_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (pending, asked) = (super::Pending::default(), AtomicUsize::new(0));
    let ask = |answer: tokio::sync::oneshot::Receiver<()>| {
        let ask = || -> super::Asking {
            asked.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { answer.await.map_err(|_| crate::journal::CommitError::Failed) })
        };
        pending.ask(&runtime, ask, std::time::Duration::from_millis(20))
    };
    let ready = || {
        let (answer, asks) = tokio::sync::oneshot::channel();
        answer.send(()).unwrap();
        asks
    };
    let (hangs, asks) = tokio::sync::oneshot::channel();
    assert!(!ask(asks) && !ask(ready()) && !ask(ready()));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    hangs.send(()).unwrap();
    assert!(!ask(ready()), "that is the answer to the first question");
    assert!(ask(ready()));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn a_clock_that_is_wrong_and_a_store_that_failed_are_told() {
    let scene = Scene::new();
    (0..5).for_each(|_| scene.skew.lock().genuine(400_000, false, NOW));
    let (mut watch, _) = scene.watch();
    watch.tick(second(0), NOW);
    assert_eq!(scene.series.skew.get(), 400.0);
    assert_eq!(scene.told(), ["ledger.clock_skew"]);
    scene.fake.0.lock().standing = Standing::Failed;
    watch.tick(second(1), NOW);
    assert_eq!(scene.told(), ["ledger.clock_skew", "ledger.store_failed"]);
}

#[test]
fn books_that_are_more_than_a_minute_ahead_of_the_clock_are_told() {
    let scene = Scene::new();
    let (mut watch, _) = scene.watch();
    scene.fake.0.lock().recorded_at = NOW + 60_000;
    watch.tick(second(0), NOW);
    assert_eq!(scene.told(), [""; 0], "that is borne");
    scene.fake.0.lock().recorded_at = NOW + 6 * HOUR;
    watch.tick(second(1), NOW);
    assert_eq!(scene.told(), ["ledger.clock_ahead"]);
}

#[test]
fn rows_without_an_anchor_are_told_once_and_anchored() {
    let scene = Scene::new();
    scene.head(7, b"seven");
    let (mut watch, _) = scene.watch();
    (0..200).for_each(|at| watch.tick(second(at), NOW + at as i64 * 1_000));
    assert_eq!(scene.told(), ["ledger.no_anchor"]);
    assert_eq!(read(&scene.anchor()).unwrap().sequence, 7);
    let (mut watch, _) = scene.watch();
    watch.tick(second(300), NOW);
    assert_eq!(scene.told(), ["ledger.no_anchor"], "there is one now");
}

#[test]
fn a_monitor_that_hangs_keeps_nobody_from_ending() {
    let scene = Scene::new();
    let monitor = Monitor::start(scene.fake.clone(), scene.parts()).unwrap();
    let hangs = scene.fake.0.lock();
    let (began, most) = (base::clock::now(), std::time::Duration::from_millis(50));
    monitor.stop(most);
    let took = base::clock::now().since(began);
    assert!(took >= most && took < std::time::Duration::from_secs(5), "{took:?}");
    drop(hangs);
}

#[test]
fn the_books_are_verified_at_start_and_the_monitor_ends_when_told() {
    let scene = Scene::new();
    scene.head(5, b"five");
    let monitor = Monitor::start(scene.fake.clone(), scene.parts()).unwrap();
    let until = base::clock::now().after(std::time::Duration::from_secs(10));
    while monitor.verified().is_none() || monitor.anchored().is_none() {
        assert!(base::clock::now() < until, "not in time");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    scene.head(6, b"six");
    monitor.stop(super::LAST);
    assert_eq!(read(&scene.anchor()).unwrap().sequence, 6);
    assert_eq!(scene.verified.load(Ordering::SeqCst), 1);
}
