//! 64 senders that behave like payment providers: one callback after the other, each sent until it is acknowledged.
//!
//! A sender makes up orders from its seed: a payment, none to three refunds, some before their payment, some twice. What
//! was acknowledged is recorded with what it means; that record is what the books are held against. How far a sender
//! gets, and what meets a fault, is not decided by the seed.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::client::{Connection, Request};
use crate::support::eventually;
use crate::support::providers::{CHANNELS, Callback, Channel, Refund};

/// How many there are.
pub const SENDERS: usize = 64;
/// What a sender waits before it tries again: far less than any provider does.
const AGAIN: Duration = Duration::from_millis(15);

/// What the senders know together.
#[derive(Default)]
pub struct Record {
    /// Acknowledged, each once, in no order.
    acknowledged: Mutex<Vec<Callback>>,
    /// Answers that no provider should ever get.
    wrong: Mutex<Vec<String>>,
    /// Where to: one or two ledgers.
    ports: Vec<AtomicU16>,
    finish: AtomicBool,
    rest: AtomicBool,
    /// Sent, and no answer came.
    pub unanswered: AtomicUsize,
    /// 503.
    pub refused: AtomicUsize,
    /// Acknowledged again.
    pub duplicates: AtomicUsize,
    count: AtomicUsize,
}

/// The senders at work.
pub struct Senders {
    pub record: Arc<Record>,
    threads: Vec<JoinHandle<()>>,
}

impl Senders {
    /// They begin; each waits `pace` between two callbacks.
    pub fn begin(seed: u64, pace: Duration, ports: &[u16]) -> Senders {
        let ports = ports.iter().map(|port| AtomicU16::new(*port)).collect();
        let record = Arc::new(Record { ports, ..Record::default() });
        let sender = |n: usize| {
            let record = record.clone();
            let rng = fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003) + n as u64);
            thread::spawn(move || Sender { n, rng, pace, record, connection: None, at: n }.works())
        };
        Senders { threads: (0..SENDERS).map(sender).collect(), record }
    }

    /// Callbacks acknowledged so far.
    pub fn acknowledged(&self) -> usize {
        self.record.count.load(SeqCst)
    }

    /// Waits until so many more are acknowledged.
    #[track_caller]
    pub fn acknowledge(&self, more: usize) {
        let until = self.acknowledged() + more;
        eventually("callbacks are acknowledged", || (self.acknowledged() >= until).then_some(()));
    }

    /// Waits until so many more are refused.
    #[track_caller]
    pub fn are_refused(&self, more: usize) {
        let until = self.record.refused.load(SeqCst) + more;
        eventually("callbacks are refused", || (self.record.refused.load(SeqCst) >= until).then_some(()));
    }

    /// What is acknowledged so far, while they go on.
    pub fn so_far(&self) -> Vec<Callback> {
        self.record.acknowledged.lock().unwrap().clone()
    }

    /// Looks at the books, the first and the second time beside writes. From the third look on the senders begin nothing
    /// new meanwhile: a look takes longer the more there is, so the books would grow without bound.
    pub fn beside_or_at_rest(&self, time: usize, look: impl FnOnce()) {
        self.record.rest.store(time > 2, SeqCst);
        look();
        self.record.rest.store(false, SeqCst);
    }

    /// They end their orders, and stop: all that was ever sent is acknowledged then.
    #[track_caller]
    pub fn finish(&mut self) -> Vec<Callback> {
        self.record.finish.store(true, SeqCst);
        eventually("the senders' end", || self.threads.iter().all(JoinHandle::is_finished).then_some(()));
        self.threads.drain(..).for_each(|sender| sender.join().unwrap());
        let wrong = self.record.wrong.lock().unwrap().clone();
        assert!(wrong.is_empty(), "answers that no provider should get: {wrong:#?}");
        self.so_far()
    }

    /// For a run's last line.
    pub fn figures(&self) -> String {
        let get = |count: &AtomicUsize| count.load(SeqCst);
        format!(
            "{} callbacks acknowledged, {} unanswered, {} refused with 503, {} duplicates acknowledged",
            self.acknowledged(),
            get(&self.record.unanswered),
            get(&self.record.refused),
            get(&self.record.duplicates)
        )
    }
}

impl Drop for Senders {
    fn drop(&mut self) {
        // Where a test fails, nobody waits for them: they give up within a try.
        self.record.finish.store(true, SeqCst);
        self.record.ports.iter().for_each(|port| port.store(0, SeqCst));
    }
}

struct Sender {
    n: usize,
    rng: fastrand::Rng,
    pace: Duration,
    record: Arc<Record>,
    connection: Option<Connection>,
    /// Which ledger it turns to.
    at: usize,
}

impl Sender {
    fn works(mut self) {
        for order in 0.. {
            if self.record.finish.load(SeqCst) {
                return;
            }
            let mut sent: Vec<Callback> = vec![];
            for callback in order_of(&mut self.rng, &format!("{}x{order}", self.n)) {
                while self.record.rest.load(SeqCst) && !self.record.finish.load(SeqCst) {
                    thread::sleep(AGAIN);
                }
                let again = sent.contains(&callback);
                if !self.delivers(&callback) {
                    return;
                }
                if again {
                    self.record.duplicates.fetch_add(1, SeqCst);
                } else {
                    self.record.acknowledged.lock().unwrap().push(callback.clone());
                    self.record.count.fetch_add(1, SeqCst);
                    sent.push(callback);
                }
                thread::sleep(self.pace);
            }
        }
    }

    /// Sends until it is acknowledged; false where the test is over.
    fn delivers(&mut self, callback: &Callback) -> bool {
        loop {
            let port = self.record.ports[self.at % self.record.ports.len()].load(SeqCst);
            if port == 0 {
                return false;
            }
            match self.tries(port, &callback.request()) {
                Some(answer) if callback.channel.is_acknowledged(&answer) => return true,
                Some(answer) if answer.status == 503 => {
                    self.record.refused.fetch_add(1, SeqCst);
                }
                Some(answer) => {
                    let said = format!("{} {} to {callback:?}", answer.status, answer.text());
                    self.record.wrong.lock().unwrap().push(said);
                    return false;
                }
                None => {}
            }
            self.at += 1;
            thread::sleep(AGAIN);
        }
    }

    fn tries(&mut self, port: u16, request: &Request) -> Option<crate::support::client::Answer> {
        let mut connection = match self.connection.take() {
            Some(connection) if self.record.ports.len() == 1 => connection,
            _ => Connection::to(port).ok()?,
        };
        let Ok(answer) = connection.ask(request) else {
            self.record.unanswered.fetch_add(1, SeqCst);
            return None;
        };
        if answer.header("connection") != Some("close") {
            self.connection = Some(connection);
        }
        Some(answer)
    }
}

/// A payment with its refunds, in the order in which they are sent, some of them again.
pub fn order_of(rng: &mut fastrand::Rng, name: &str) -> Vec<Callback> {
    let channel = CHANNELS[rng.usize(..CHANNELS.len())];
    let (total, count) = (rng.i64(100..100_000), rng.usize(..4));
    let number = |what: &str| format!("{what}{name}{}", channel.name());
    let payment = Callback { channel, refund: None, payment: number("P"), out_trade_no: number("T"), total };
    let mut cumulative = 0;
    let mut sent: Vec<Callback> = (0..count)
        .map(|n| {
            let left = total - cumulative;
            // The last of three is the whole of what is left: the order is refunded then.
            let amount = if n == 2 { left } else { rng.i64(1..=left / 3) };
            cumulative += amount;
            Callback {
                refund: Some(Refund { number: number(&format!("R{n}-")), amount, cumulative }),
                ..payment.clone()
            }
        })
        .collect();
    // Alipay tells a sum: out of order its parts cannot be told apart, so its refunds keep their order.
    if channel != Channel::Alipay {
        rng.shuffle(&mut sent);
    }
    let place = if rng.u8(..4) == 0 { rng.usize(..=sent.len()) } else { 0 };
    sent.insert(place, payment);
    for at in (0..sent.len()).rev() {
        if rng.u8(..8) == 0 {
            let again = rng.usize(at + 1..=sent.len());
            sent.insert(again, sent[at].clone());
        }
    }
    sent
}

#[test]
fn a_seed_gives_the_same_callbacks_and_all_kinds_of_them() {
    let orders = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..200).map(|n| order_of(&mut rng, &n.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(orders(1), orders(1));
    assert_ne!(orders(1), orders(2));
    let early = |order: &[Callback]| order[0].refund.is_some();
    let twice = |order: &[Callback]| order.iter().any(|c| order.iter().filter(|other| *other == c).count() > 1);
    let whole = |order: &[Callback]| order.iter().any(|c| c.refund.as_ref().is_some_and(|r| r.cumulative == c.total));
    for kind in [early, twice, whole] {
        assert!(orders(1).iter().any(|order| kind(order)) && !orders(1).iter().all(|order| kind(order)));
    }
}
