//! Mutated raw requests, each before a tagged one on its connection: nobody gets an answer of another's, nothing hangs,
//! and nothing reaches a server that it could read in two ways.
//!
//! The backend gives each answer the tag of the request that it answers, and clients share its connections. Each
//! exchange has dice of its own, so one that fails is repeated by the seed and its number.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Dice;
use crate::support::wait::PATIENCE;
use crate::support::*;

/// Clients at a time: they mostly wait.
const CLIENTS: usize = 48;
/// After a silence of this long a client sends no more, which must end the exchange.
const SILENCE: Duration = Duration::from_millis(100);
/// Failures after which it is given up.
const FAILURES_SHOWN: usize = 5;
/// Where a tag stands in a request to be.
const TAG: &str = "TAG";

/// What mutations begin with.
const REQUESTS: &[&str] = &[
    "GET /m?a=1 HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nAccept: */*\r\n\r\n",
    "HEAD /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\n\r\n",
    "GET http://a/m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nCookie: a=b\r\n\r\n",
    "GET /m HTTP/1.0\r\nHost: a\r\nx-tag: TAG\r\nConnection: keep-alive\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\n\r\n",
    "POST /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nContent-Length: 11\r\n\r\nhello world",
    "POST /m HTTP/1.1\r\nHost: a\r\nContent-Length: 48\r\nx-tag: TAG\r\n\r\nGET /inner HTTP/1.1\r\nHost: a\r\nx-tag: inner\r\n\r\n--",
    "PUT /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    "PUT /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nTransfer-Encoding: chunked\r\n\r\na\r\nGET /inner\r\n0\r\nx-sum: 1\r\n\r\n",
    "POST /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "GET /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "POST /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
    "GET /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\n\r\nPOST /m HTTP/1.1\r\nHost: a\r\nx-tag: TAG\r\nContent-Length: 2\r\n\r\n{}",
];

/// What mutations put in.
const PIECES: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    "0",
    "\r\n0\r\n\r\n",
    "0\r\n\r\n",
    "ffffffffffffffff\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 9999\r\n",
    "Content-Length : 5\r\n",
    "Content_Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\tchunked\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, upgrade, x-tag\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "Host: b\r\n",
    " folded\r\n",
    "HTTP/1.0",
    "HTTP/1.1",
    "GET /inner HTTP/1.1\r\nHost: a\r\nx-tag: inner\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "5;a=b\r\nhello\r\n",
    "5;a=\"\r\n",
    "HEAD",
    "POST",
];

/// The tag of an exchange's mutated or its plain request: another's is known for what it is, a damaged one is nobody's.
fn tag(id: usize) -> String {
    let sum = (id as u32).wrapping_mul(0x9E37_79B9).rotate_left(13) ^ 0x7011_6A7E;
    format!("{id:08x}{sum:08x}")
}

/// Whose tag it is.
fn owner(text: &str) -> Option<usize> {
    let id = usize::from_str_radix(text.get(..8)?, 16).ok()?;
    (tag(id) == text).then_some(id)
}

fn mutated(dice: &mut Dice, tag: &str) -> Vec<u8> {
    let mut bytes = REQUESTS[dice.roll(REQUESTS.len())].replace(TAG, tag).into_bytes();
    for _ in 0..dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(24)).min(bytes.len());
        let piece = PIECES[dice.roll(PIECES.len())].bytes();
        match dice.roll(8) {
            0 if at < bytes.len() => bytes[at] = dice.roll(256) as u8,
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..end, piece)),
            3 => drop(bytes.splice(at..at, piece)),
            // A whole line, at the start of another.
            4 | 5 => {
                let line = |(at, two): (usize, &[u8])| (two == b"\r\n").then_some(at + 2);
                let starts: Vec<usize> = bytes.windows(2).enumerate().filter_map(line).collect();
                if let Some(&start) = starts.get(dice.roll(starts.len())) {
                    bytes.splice(start..start, piece);
                }
            }
            6 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            7 if dice.roll(4) == 0 => bytes.truncate(at),
            _ => {
                if let Some(digit) = bytes[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                    *digit = b'0' + dice.roll(10) as u8;
                }
            }
        }
    }
    bytes
}

/// What came of an exchange.
#[derive(Debug, Default)]
struct Came {
    bytes: Vec<u8>,
    /// The plain request was answered.
    answered: bool,
}

impl Came {
    /// Of the first answer.
    fn status(&self) -> u16 {
        let text = self.bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok());
        text.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    fn tags(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        let values = text.split("x-tag: ").skip(1).map(|rest| rest.chars().take_while(|c| !c.is_control()).collect());
        values.collect()
    }
}

/// Sends the mutated request and the plain one, in one to three parts, and takes what comes.
fn exchange(port: u16, bytes: &[u8], plain: &str, dice: &mut Dice) -> Result<Came, String> {
    let odd = |e: io::Error| e.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(odd)?;
    stream.set_nodelay(true).map_err(odd)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(odd)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(odd)?;
    let (mut rest, mark) = (bytes, format!("x-tag: {plain}\r\n"));
    let request = format!("GET /plain HTTP/1.1\r\nHost: a\r\nx-tag: {plain}\r\n\r\n");
    let whole = [bytes, request.as_bytes()].concat();
    for _ in 0..dice.roll(3) {
        let (part, after) = rest.split_at(dice.roll(rest.len() + 1));
        rest = after;
        // Whoever is refused early finds the connection closed: what came tells why.
        let _ = stream.write_all(part);
        thread::yield_now();
    }
    let _ = stream.write_all(&whole[bytes.len() - rest.len()..]);
    let (mut came, begun, mut part) = (Came::default(), Instant::now(), [0; 4096]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Ok(came),
            Ok(count) => came.bytes.extend_from_slice(&part[..count]),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                drop(stream.shutdown(Shutdown::Write));
            }
            Err(_) => return Ok(came),
        }
        came.answered = came.bytes.windows(mark.len()).any(|window| window == mark.as_bytes());
        if came.answered {
            return Ok(came);
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("it hangs after {} bytes", came.bytes.len()));
        }
    }
}

/// A backend that knows one reading only, and keeps what it could not read.
struct Strict {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    odd: Mutex<Vec<String>>,
    ended: AtomicBool,
    /// It now and then gives an answer the tag of the one before.
    confused: bool,
    last: Mutex<String>,
    answers: AtomicUsize,
}

impl Strict {
    fn start(confused: bool) -> Strict {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let shared = Arc::new(Shared { confused, ..Shared::default() });
        let own = shared.clone();
        thread::spawn(move || {
            for stream in socket.incoming().take_while(|_| !own.ended.load(Ordering::SeqCst)) {
                let (shared, mut stream) = (own.clone(), stream.unwrap());
                thread::spawn(move || {
                    if let Err(what) = shared.serve(&mut stream) {
                        shared.odd.lock().unwrap().push(what);
                    }
                });
            }
        });
        Strict { port, shared }
    }
}

impl Drop for Strict {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

/// Reads until the reader is content; none where the connection ended before.
fn until<T>(
    stream: &mut TcpStream,
    seen: &mut Vec<u8>,
    mut reader: impl FnMut(&[u8]) -> Result<Option<T>, String>,
) -> Result<Option<T>, String> {
    let mut part = [0; 16 << 10];
    loop {
        if let Some(done) = reader(seen)? {
            return Ok(Some(done));
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return Ok(None),
            Ok(count) => seen.extend_from_slice(&part[..count]),
        }
    }
}

impl Shared {
    /// Answers requests for as long as they come.
    fn serve(&self, stream: &mut TcpStream) -> Result<(), String> {
        let _ = stream.set_nodelay(true);
        let mut seen = vec![];
        while let Some(mut head) = until(stream, &mut seen, Head::read)? {
            seen.drain(..head.length);
            if self.confused {
                let before = std::mem::replace(&mut *self.last.lock().unwrap(), head.tag.clone());
                if self.answers.fetch_add(1, Ordering::Relaxed) % 50 == 49 {
                    head.tag = before;
                }
            }
            if head.upgrade {
                // What comes through the tunnel goes back.
                let sent = stream.write_all(head.answer().as_bytes()).and_then(|()| stream.write_all(&seen));
                drop(sent.and_then(|()| io::copy(&mut stream.try_clone()?, stream)));
                return Ok(());
            }
            let Some(body) = until(stream, &mut seen, |seen| head.body_end(seen))? else { return Ok(()) };
            seen.drain(..body);
            if stream.write_all(head.answer().as_bytes()).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What a request's head says, where that is one thing.
struct Head {
    length: usize,
    tag: String,
    body: Option<usize>,
    chunked: bool,
    upgrade: bool,
    is_head: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Result<Option<Head>, String> {
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut headers);
        let shown = || bytes.escape_ascii().to_string();
        let length = match request.parse(bytes).map_err(|e| format!("{e}: {}", shown()))? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let values = |name: &str| {
            let named = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            named.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect::<Vec<_>>()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        let one = values("host").len() == 1 && lengths.len() + codings.len() <= 1;
        let known = codings.iter().all(|coding| coding == "chunked");
        let body = lengths.first().map(|length| length.parse::<usize>());
        let (true, Ok(body)) = (one && known, body.transpose()) else {
            return Err(format!("two readings: {}", shown()));
        };
        Ok(Some(Head {
            length,
            tag: values("x-tag").join("|"),
            body,
            chunked: !codings.is_empty(),
            upgrade: values("upgrade") == ["websocket"],
            is_head: request.method == Some("HEAD"),
        }))
    }

    fn answer(&self) -> String {
        let tag = &self.tag;
        if self.upgrade {
            return format!(
                "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nx-tag: {tag}\r\n\r\n"
            );
        }
        let body = if self.is_head { "" } else { "ok" };
        format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-tag: {tag}\r\n\r\n{body}")
    }

    /// Where the body ends in these bytes, if it is all there.
    fn body_end(&self, bytes: &[u8]) -> Result<Option<usize>, String> {
        if !self.chunked {
            return Ok(Some(self.body.unwrap_or(0)).filter(|length| *length <= bytes.len()));
        }
        let mut at = 0;
        loop {
            let wrong = || format!("no chunk: {}", bytes.escape_ascii());
            let size = httparse::parse_chunk_size(&bytes[at..]).map_err(|_| wrong())?;
            let httparse::Status::Complete((line, size)) = size else { return Ok(None) };
            at += line + size as usize;
            if size == 0 {
                let mut trailers = [httparse::EMPTY_HEADER; 100];
                let end = httparse::parse_headers(&bytes[at..], &mut trailers).map_err(|_| wrong())?;
                return Ok(if let httparse::Status::Complete((end, _)) = end { Some(at + end) } else { None });
            }
            match bytes.get(at..at + 2) {
                Some(b"\r\n") => at += 2,
                Some(_) => return Err(wrong()),
                None => return Ok(None),
            }
        }
    }
}

/// One exchange; an error says what is wrong.
fn one(port: u16, number: usize, seed: u64) -> Result<Came, String> {
    let mut dice = Dice((seed ^ (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1);
    let bytes = mutated(&mut dice, &tag(2 * number));
    let said = |what: &str| format!("{what}: seed {seed:#x}, exchange {number}: {}", bytes.escape_ascii());
    let came = exchange(port, &bytes, &tag(2 * number + 1), &mut dice).map_err(|what| said(&what))?;
    if came.tags().iter().any(|text| owner(text).is_some_and(|id| id / 2 != number)) {
        return Err(said(&format!("an answer of another's, {}", came.bytes.escape_ascii())));
    }
    if !came.bytes.is_empty() && !came.bytes.starts_with(b"HTTP/1.1 ") {
        return Err(said(&format!("no answer, {}", came.bytes.escape_ascii())));
    }
    Ok(came)
}

/// What became of many exchanges.
#[derive(Default)]
struct Sum {
    /// Of plain requests.
    answered: usize,
    /// First statuses, and 0 where nothing came.
    statuses: BTreeMap<u16, usize>,
    failures: Vec<String>,
}

/// Has this many exchanges.
fn many(port: u16, count: usize, seed: u64) -> Sum {
    let (next, sum) = (AtomicUsize::new(0), Mutex::new(Sum::default()));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count || sum.lock().unwrap().failures.len() >= FAILURES_SHOWN {
                        return;
                    }
                    let came = one(port, number, seed);
                    let mut sum = sum.lock().unwrap();
                    match came {
                        Ok(came) => {
                            sum.answered += usize::from(came.answered);
                            *sum.statuses.entry(came.status()).or_default() += 1;
                        }
                        Err(what) => sum.failures.push(what),
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap()
}

fn world(origin: &Strict) -> World {
    let upstream = format!(
        r#"
    [upstream.app]
    servers = ["127.0.0.1:{}"]
    "#,
        origin.port
    );
    World::start(
        &(upstream
            + r#"
    [route.all]
    upstream = "app"
    body_max = "64KiB"
    "#),
    )
}

/// Sends this many, and tells what was made of them.
fn survives(count: usize, seed: u64) {
    let origin = Strict::start(false);
    let (mut world, begun) = (world(&origin), Instant::now());
    let Sum { answered, statuses, failures } = many(world.port, count, seed);
    println!(
        "{count} mutated requests, seed {seed:#x}: first statuses {statuses:?}, {answered} plain ones behind them \
         answered, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(*origin.shared.odd.lock().unwrap(), Vec::<String>::new(), "seed {seed:#x}");
    assert!(answered > count / 10 && answered < count * 9 / 10, "the mutations test nothing");
    let address = format!("127.0.0.1:{}", origin.port);
    eventually("all is given back", || (world.server(&address)["in_flight"] == 0).then_some(()));
    assert_eq!(world.metric("tollgate_stuck_requests_total", &[]), 0.0);
    assert_eq!(world.ask(get("/plain").header("x-tag", "end")).header("x-tag"), Some("end"));
    assert!(world.is_alive());
}

#[test]
fn a_mixed_up_answer_would_be_noticed() {
    let origin = Strict::start(true);
    let sum = many(world(&origin).port, 2_000, 0xBAD);
    assert!(sum.failures.iter().all(|what| what.starts_with("an answer of another's")), "{:?}", sum.failures);
    assert!(sum.failures.len() >= FAILURES_SHOWN, "{:?}", sum.failures);
}

#[test]
fn mutated_raw_requests_give_nobody_anothers_answer() {
    survives(5_000, 0x7011_6A7E);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn a_hundred_thousand_mutated_raw_requests_give_nobody_anothers_answer() {
    survives(100_000, 0x5EED);
}
