//! The senders: keep-alive HTTP/1.1 straight at the ledger's address, signed callbacks only.
//!
//! Closed loop: each sender waits for its answer. Open loop: callbacks are due at a fixed rate whatever the answers do,
//! and latency counts from when one was due, so that a ledger that stands still is seen by all that were due meanwhile.
//! Only a 200 with the provider's own success counts; anything else is a problem, which makes the run invalid.

use std::cell::{Cell, RefCell};
use std::io::BufRead;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::clock;
use base::units::Nanos;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::corpus::{Keys, PROVIDERS, REPEATS, sendings};
use super::merchant;

/// Signed again this long after it was signed, a callback would be out of its window.
const FRESH: Duration = Duration::from_secs(280);

/// What is asked on standard input.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Signs so many callbacks; those before are forgotten.
    Sign(usize),
    /// Each sender waits for its answer.
    Closed { port: u16, senders: usize, seconds: f64 },
    /// So many are due each second.
    Open { port: u16, rate: f64, seconds: f64, connections: usize },
    /// How many deliveries the merchant has taken.
    Delivered,
}

/// What there is to send.
struct Corpus {
    requests: Vec<(usize, Vec<u8>)>,
    sendings: Vec<usize>,
    next: Cell<usize>,
    until: Nanos,
}

impl Corpus {
    /// The next sending: its place, its provider and its bytes; `None` at the end.
    fn next(&self) -> Option<(usize, usize, &[u8])> {
        let place = self.next.get();
        let (provider, request) = &self.requests[*self.sendings.get(place)?];
        self.next.set(place + 1);
        Some((place, *provider, request))
    }
}

/// What a run saw.
#[derive(Default)]
struct Seen {
    micros: Vec<u32>,
    repeats: usize,
    problems: usize,
    first: Vec<String>,
    /// The last answer.
    end: Nanos,
    exhausted: bool,
}

impl Seen {
    fn wrong(&mut self, why: String) {
        self.problems += 1;
        if self.first.len() < 5 {
            self.first.push(why);
        }
    }

    fn told(mut self, began: Nanos) -> Value {
        self.micros.sort_unstable();
        let at = |share: f64| self.micros.get((self.micros.len() as f64 * share) as usize).or(self.micros.last());
        let seconds = self.end.since(began).as_secs_f64();
        json!({"answers": self.micros.len(), "repeats": self.repeats, "seconds": seconds,
            "per_second": self.micros.len() as f64 / seconds.max(1e-9), "p50_us": at(0.5), "p90_us": at(0.9),
            "p99_us": at(0.99), "p999_us": at(0.999), "max_us": self.micros.last(), "exhausted": self.exhausted,
            "problems": self.problems, "first_problems": self.first})
    }
}

/// Does what standard input says until it ends.
pub fn serve(secrets: &Path) -> Result<(), String> {
    let keys = Keys::read(secrets)?;
    let (port, taken) = merchant::start().map_err(|e| format!("the merchant: {e}"))?;
    println!("{}", json!({"merchant": port}));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut corpus = None;
    let mut signed = 0;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| e.to_string())?;
        let order = serde_json::from_str(&line).map_err(|e| format!("{line}: {e}"))?;
        let answer = match order {
            Order::Sign(count) => {
                let began = clock::now();
                drop(corpus.take());
                corpus = Some(Rc::new(sign(&keys, signed, count)));
                signed += count;
                json!({"signed": count, "seconds": clock::now().since(began).as_secs_f64()})
            }
            Order::Delivered => json!({"delivered": taken.load(Ordering::Relaxed)}),
            sent => {
                let corpus = corpus.clone().ok_or("nothing is signed")?;
                runtime.block_on(tokio::task::LocalSet::new().run_until(send(sent, corpus, &taken)))
            }
        };
        println!("{answer}");
    }
    Ok(())
}

fn sign(keys: &Keys, from: usize, count: usize) -> Corpus {
    let until = clock::now().after(FRESH);
    let requests = keys.sign_all(from, count, |message| (message.provider, message.request()));
    Corpus { requests, sendings: sendings(count), next: Cell::new(0), until }
}

async fn send(order: Order, corpus: Rc<Corpus>, taken: &Arc<AtomicU64>) -> Value {
    let (before, seen) = (taken.load(Ordering::Relaxed), Rc::new(RefCell::new(Seen::default())));
    let began = clock::now();
    match order {
        Order::Closed { port, senders, seconds } => {
            let until = began.after(Duration::from_secs_f64(seconds));
            let sender = |_| tokio::task::spawn_local(closed(port, corpus.clone(), seen.clone(), until));
            join((0..senders).map(sender).collect()).await;
        }
        Order::Open { port, rate, seconds, connections } => {
            let due = Rc::new(Due { permits: Semaphore::new(0), began, rate, taken: Cell::new(0) });
            let sender = |_| tokio::task::spawn_local(open(port, corpus.clone(), seen.clone(), due.clone()));
            let senders: Vec<_> = (0..connections).map(sender).collect();
            due.pace(seconds).await;
            join(senders).await;
        }
        Order::Sign(_) | Order::Delivered => {}
    }
    let delivered = taken.load(Ordering::Relaxed) - before;
    let mut seen = seen.take();
    if corpus.until < clock::now() {
        seen.wrong("the run was longer than callbacks are good for".into());
    }
    let mut told = seen.told(began);
    told["delivered"] = json!(delivered);
    told
}

async fn join(senders: Vec<tokio::task::JoinHandle<()>>) {
    for sender in senders {
        // A sender that panicked has said so, and its answers are missing.
        let _ = sender.await;
    }
}

async fn closed(port: u16, corpus: Rc<Corpus>, seen: Rc<RefCell<Seen>>, until: Nanos) {
    let mut connection = match Connection::open(port).await {
        Ok(connection) => connection,
        Err(e) => return seen.borrow_mut().wrong(format!("no connection: {e}")),
    };
    loop {
        let began = clock::now();
        if began >= until {
            return;
        }
        let Some(sending) = corpus.next() else { return seen.borrow_mut().exhausted = true };
        if !connection.ask(sending, began, &seen).await {
            return;
        }
    }
}

/// What is due: permits are given at the rate, each for the next place.
struct Due {
    permits: Semaphore,
    began: Nanos,
    rate: f64,
    taken: Cell<u64>,
}

impl Due {
    async fn pace(&self, seconds: f64) {
        let (all, mut given) = ((self.rate * seconds) as u64, 0);
        while given < all {
            let due = ((clock::now().since(self.began).as_secs_f64() * self.rate) as u64 + 1).min(all);
            self.permits.add_permits((due - given) as usize);
            given = due;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while self.permits.available_permits() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.permits.close();
    }

    /// When the next callback is, or was, due; `None` at the end.
    async fn next(&self) -> Option<Nanos> {
        self.permits.acquire().await.ok()?.forget();
        let place = self.taken.replace(self.taken.get() + 1);
        Some(self.began.after(Duration::from_secs_f64(place as f64 / self.rate)))
    }
}

async fn open(port: u16, corpus: Rc<Corpus>, seen: Rc<RefCell<Seen>>, due: Rc<Due>) {
    let mut connection = match Connection::open(port).await {
        Ok(connection) => connection,
        Err(e) => return seen.borrow_mut().wrong(format!("no connection: {e}")),
    };
    while let Some(due) = due.next().await {
        let Some(sending) = corpus.next() else { return seen.borrow_mut().wrong("too few were signed".into()) };
        if !connection.ask(sending, due, &seen).await {
            return;
        }
    }
}

/// A kept connection to the ledger.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(port: u16) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: Vec::with_capacity(1024) })
    }

    /// Sends one and reads its answer; whether the connection may be used again.
    async fn ask(&mut self, sending: (usize, usize, &[u8]), began: Nanos, seen: &RefCell<Seen>) -> bool {
        let (place, provider, request) = sending;
        let answer = async {
            self.stream.write_all(request).await?;
            merchant::read(&mut self.stream, &mut self.buffer).await
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
        let (end, mut seen) = (clock::now(), seen.borrow_mut());
        seen.end = end;
        match answer {
            Ok(Ok(Some((body, length)))) => {
                let good =
                    self.buffer.starts_with(b"HTTP/1.1 200 ") && self.buffer[body..length] == *PROVIDERS[provider].1;
                if good {
                    seen.micros.push((end.since(began).as_nanos() / 1000) as u32);
                    seen.repeats += usize::from(place % REPEATS == REPEATS - 1);
                } else {
                    seen.wrong(String::from_utf8_lossy(&self.buffer[..length]).into_owned());
                }
                self.buffer.drain(..length);
                true
            }
            Ok(Ok(None)) => {
                seen.wrong("the connection was closed".into());
                false
            }
            Ok(Err(e)) => {
                seen.wrong(format!("no answer: {e}"));
                false
            }
            Err(_) => {
                seen.wrong("no answer within 10 s".into());
                false
            }
        }
    }
}
