//! The same requests and answers on both ways: what servers and clients see, and what is logged, must be the same.
//!
//! A seed makes a request, with or without faults, and the server's answer to it. Names are compared without case and
//! order of different names; `date` is the gateway's own. A failing run is repeated by its seed.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::{ROUTE, WAYS, start};
use crate::support::wait::{PATIENCE, eventually};
use crate::support::*;

/// splitmix64: a seed gives the same choices again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 33) as usize % sides.max(1)
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }

    fn text(&mut self, longest: usize) -> String {
        let length = self.roll(longest + 1);
        (0..length).map(|at| char::from(b'a' + ((at + length) % 26) as u8)).collect()
    }
}

const METHODS: [&str; 9] = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
const TARGETS: [&str; 14] = [
    "/",
    "/a/b?x=1&y=%20",
    "/%7Euser/./c",
    "/a/../b?q",
    "//double",
    "/?only",
    "http://localhost/absolute?z",
    "http://localhost",
    "http://localhost?query",
    "/a;b=c",
    "/{curly}|[x]",
    "/%00",
    "/x y",
    "/prefixed/path",
];
const FIELDS: [&str; 26] = [
    "accept: */*",
    "Accept-Encoding: gzip, br;q=0.5",
    "cookie: a=1; b=2",
    "X-Dup: one",
    "x-dup: two",
    "connection: keep-alive",
    "connection: keep-alive, te",
    "connection: close",
    "te: trailers",
    "keep-alive: timeout=5",
    "proxy-connection: keep-alive",
    "proxy-authorization: basic x",
    "upgrade: h2c",
    "x-forwarded-for: 203.0.113.9, 10.0.0.1",
    "forwarded: for=1.2.3.4",
    "x-forwarded-host: other.test",
    "x-tollgate-app: me",
    "x_tollgate_app: me",
    "user-agent: differential/1",
    "x-empty:",
    "x-wide: \t a\tb  ",
    "x-latin: \u{e9}",
    "x-removed: by a rule",
    "trailer: x-sum",
    "content_length: 3",
    "x bad: name",
];

/// A request, in the parts in which it is sent.
fn request(seed: u64) -> (String, Vec<Vec<u8>>) {
    let mut dice = Dice(seed);
    let method = dice.one(&METHODS);
    let mut text = format!("{method} {} HTTP/1.1\r\nHost: localhost\r\nx-seed: {seed}\r\n", dice.one(&TARGETS));
    text += &format!("x-request-id: seed-{seed}\r\n");
    for _ in 0..dice.roll(5) {
        // Faults are rare, so that most requests are served.
        let known = if dice.roll(6) == 0 { FIELDS.len() } else { FIELDS.len() - 2 };
        text += &format!("{}\r\n", FIELDS[dice.roll(known)]);
    }
    let longest = if dice.roll(8) == 0 { 30_000 } else { 200 };
    let body = dice.text(longest);
    let has_body = !matches!(method, "GET" | "HEAD") && dice.roll(4) > 0;
    if has_body && dice.roll(6) == 0 {
        text += "expect: 100-continue\r\n";
    }
    let mut bytes = match (has_body, dice.roll(2)) {
        (false, _) => format!("{text}\r\n").into_bytes(),
        (true, 0) => format!("{text}content-length: {}\r\n\r\n{body}", body.len()).into_bytes(),
        (true, _) => format!("{text}transfer-encoding: chunked\r\n\r\n{}", chunked(&body, &mut dice)).into_bytes(),
    };
    let mut parts = Vec::new();
    while bytes.len() > 1 && parts.len() < 2 && dice.roll(3) == 0 {
        let rest = bytes.split_off(1 + dice.roll(bytes.len() - 1));
        parts.push(std::mem::replace(&mut bytes, rest));
    }
    parts.push(bytes);
    (method.to_owned(), parts)
}

fn chunked(body: &str, dice: &mut Dice) -> String {
    let (mut text, mut rest) = (String::new(), body);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(1 + dice.roll(rest.len()));
        text += &format!("{:x}{}\r\n{chunk}\r\n", chunk.len(), dice.one(&["", "", ";ext", ";a=b"]));
        rest = after;
    }
    text + dice.one(&["0\r\n\r\n", "0\r\n\r\n", "00\r\nx-sum: 1\r\n\r\n"])
}

const STATUSES: [&str; 12] = [
    "200 OK",
    "200 OK",
    "200 OK",
    "200",
    "201 Created",
    "204 No Content",
    "206 Partial Content",
    "304 Not Modified",
    "404 Not here at all",
    "500 Internal Server Error",
    "503 Service Unavailable",
    "299 Odd",
];
const ANSWERED: [&str; 16] = [
    "Content-Type: text/html",
    "content-type: application/json",
    "set-cookie: a=1",
    "set-cookie: b=2",
    "connection: keep-alive",
    "Connection: close",
    "connection: x-own",
    "x-own: y",
    "keep-alive: timeout=30",
    "server: mine",
    "date: Mon, 01 Jan 2024 00:00:00 GMT",
    "x-request-id: of the server",
    "etag: \"a\"",
    "x-hidden: by a rule",
    "upgrade: h2c",
    "folded: a\r\n b",
];

/// The answer to a request, and whether the server closes after it.
fn answer(seed: u64, method: &str) -> (Vec<u8>, bool) {
    let mut dice = Dice(!seed);
    let mut text = String::new();
    if dice.roll(12) == 0 {
        text += "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    }
    let status = dice.one(&STATUSES);
    let version = if dice.roll(12) == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
    text += &format!("{version} {status}\r\n");
    for _ in 0..dice.roll(5) {
        let line = dice.one(&ANSWERED);
        // Of two lines about the connection Pingora's codec reads one: it may keep a connection that its server closes.
        if !(line.contains("onnection:") && text.contains("onnection:")) {
            text += &format!("{line}\r\n");
        }
    }
    // A server that closes without a word races with the next request, on either way.
    let mut close = text.contains("Connection: close");
    let longest = if dice.roll(6) == 0 { 40_000 } else { 700 };
    let body = dice.text(longest);
    let bodiless = method == "HEAD" || matches!(&status[..3], "204" | "304");
    let framed = match dice.roll(if bodiless { 2 } else { 8 }) {
        0 => format!("{text}content-length: {}\r\n\r\n{body}", body.len()),
        1 => format!("{text}transfer-encoding: chunked\r\n\r\n{}", chunked(&body, &mut dice)),
        2 => format!("{text}content-length: {0}\r\ncontent-length: {0}\r\n\r\n{body}", body.len()),
        3 => format!("{text}content-length: 7\r\nTransfer-Encoding: chunked\r\n\r\n{}", chunked(&body, &mut dice)),
        4 | 5 => {
            close = true;
            format!("{text}\r\n{body}")
        }
        6 => {
            close = true;
            format!("{text}content-length: {}\r\n\r\n{body}", body.len() + 1 + dice.roll(9))
        }
        _ => format!("{text}content-length: {}\r\n\r\n{body}", body.len()),
    };
    let mut bytes = framed.into_bytes();
    if bodiless {
        let head = bytes.windows(4).rposition(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
        let first = String::from_utf8_lossy(&bytes).rfind(status).unwrap_or(0);
        let end = bytes[first..].windows(4).position(|four| four == b"\r\n\r\n").map_or(head, |at| first + at + 4);
        bytes.truncate(end);
    }
    (bytes, close)
}

/// A message as it was seen: names in lower case, the values of each in their order.
type Fields = BTreeMap<String, Vec<String>>;

fn fields(head: &str) -> Fields {
    let mut fields = Fields::new();
    for line in head.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        fields.entry(name.to_lowercase()).or_default().push(value.trim().to_owned());
    }
    fields
}

/// One end of a connection, read message by message.
struct Reader {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Reader {
    fn new(stream: TcpStream) -> Reader {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Reader { stream, bytes: Vec::new() }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut part = [0; 16 << 10];
        match self.stream.read(&mut part)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.bytes.extend_from_slice(&part[..count]);
                Ok(())
            }
        }
    }

    fn until(&mut self, end: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|bytes| bytes == end) {
                return Ok(self.bytes.drain(..at + end.len()).collect());
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() < count {
            self.more()?;
        }
        Ok(self.bytes.drain(..count).collect())
    }

    fn head(&mut self) -> io::Result<(String, Fields)> {
        let head = self.until(b"\r\n\r\n")?;
        let head: String = head.iter().map(|byte| char::from(*byte)).collect();
        let first = head.split("\r\n").next().unwrap_or_default().to_owned();
        Ok((first, fields(&head)))
    }

    /// The body behind a head; `to_the_end`: one without framing ends with the connection.
    fn body(&mut self, fields: &Fields, to_the_end: bool) -> io::Result<Vec<u8>> {
        if fields.get("transfer-encoding").is_some_and(|codings| codings.join(",").ends_with("chunked")) {
            let mut body = Vec::new();
            loop {
                let line = self.until(b"\r\n")?;
                let size = String::from_utf8_lossy(&line);
                let size = usize::from_str_radix(size.trim().split(';').next().unwrap_or_default(), 16);
                let size = size.map_err(|_| io::Error::other("a chunk's size"))?;
                body.extend(self.exactly(size)?);
                self.exactly(2)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match fields.get("content-length").and_then(|lengths| lengths[0].parse().ok()) {
            Some(length) => self.exactly(length),
            None if to_the_end => {
                while self.more().is_ok() {}
                Ok(std::mem::take(&mut self.bytes))
            }
            None => Ok(Vec::new()),
        }
    }
}

/// What a server saw: by seed, every request with its head and body.
type Seen = Arc<Mutex<BTreeMap<u64, Vec<(String, Fields, Result<Vec<u8>, String>)>>>>;

/// A server whose answers follow from the seeds in the requests.
fn server(seen: Seen) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let accepts = listener.try_clone().unwrap();
    thread::spawn(move || {
        for stream in accepts.incoming().map_while(Result::ok) {
            let seen = seen.clone();
            thread::spawn(move || serve(Reader::new(stream), &seen));
        }
    });
    listener
}

fn serve(mut reader: Reader, seen: &Seen) {
    while let Ok((line, fields)) = reader.head() {
        let seed = fields.get("x-seed").and_then(|seed| seed[0].parse().ok()).unwrap_or_default();
        if fields.contains_key("expect") && seed % 2 == 0 {
            let _ = reader.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = reader.body(&fields, false).map_err(|e| e.kind().to_string());
        let method = line.split(' ').next().unwrap_or_default().to_owned();
        seen.lock().unwrap().entry(seed).or_default().push((line, fields, body));
        let (answer, close) = answer(seed, &method);
        if reader.stream.write_all(&answer).is_err() || close {
            let _ = reader.stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// What a client saw: the heads, the body, and whether the connection goes on.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    heads: Vec<(String, Fields)>,
    body: Result<String, String>,
    goes_on: bool,
}

fn ask(port: u16, kept: &mut Option<Reader>, seed: u64) -> Got {
    let (method, parts) = request(seed);
    let mut reader = kept.take().unwrap_or_else(|| Reader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()));
    for part in &parts {
        // A gateway that has refused the head may have closed already.
        let _ = reader.stream.write_all(part);
    }
    let mut got = Got { heads: vec![], body: Ok(String::new()), goes_on: false };
    loop {
        let (line, mut fields) = match reader.head() {
            Ok(head) => head,
            Err(e) => {
                got.body = Err(e.kind().to_string());
                return got;
            }
        };
        fields.remove("date");
        fields.remove("x-tollgate-way");
        let status: u16 = line.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let bodiless = method == "HEAD" || matches!(status, 204 | 304);
        got.goes_on = fields.get("connection").is_none_or(|options| options != &["close"]);
        got.heads.push((line, fields.clone()));
        if status < 200 {
            continue;
        }
        let body = if bodiless { Ok(vec![]) } else { reader.body(&fields, true) };
        got.body = body.map(|body| String::from_utf8_lossy(&body).into_owned()).map_err(|e| e.kind().to_string());
        // A refused head has no id of its own.
        let made = fields.get("x-request-id").map(|ids| ids[0].clone()).filter(|id| !id.starts_with("seed-"));
        if let (Some(made), Ok(body)) = (made, &mut got.body) {
            *body = body.replace(&made, "");
            got.heads.iter_mut().for_each(|(_, fields)| drop(fields.remove("x-request-id")));
        }
        if got.goes_on && got.body.is_ok() {
            *kept = Some(reader);
        }
        return got;
    }
}

/// Where the lane does better than Pingora's codec, and is meant to.
fn pardoned(got: &mut Got) {
    // A 100 does not end the connection of a client that then sends its whole body.
    if got.heads.len() > 1 {
        got.goes_on = true;
        got.heads.iter_mut().for_each(|(_, fields)| drop(fields.remove("connection")));
    }
    if got.body.is_err() {
        // How much of a broken answer has come is a matter of time: Pingora's codec may not even send the head.
        *got = Got { heads: vec![], body: Err("broken".to_owned()), goes_on: false };
    }
}

/// Asks both ways; returns how many requests there were.
fn compare(seeds: std::ops::Range<u64>, threads: u64) -> usize {
    let seen: [Seen; 2] = Default::default();
    let servers = seen.each_ref().map(|seen| server(seen.clone()));
    let worlds = [0, 1].map(|at| {
        let (way, server) = (WAYS[at], &servers[at]);
        start(
            way,
            &format!(
                r#"
                [server]
                threads = 1
                [upstream.app]
                servers = ["{}"]
                [upstream.app.outlier]
                consecutive_failures = 0
                {ROUTE}
                request_headers = {{ remove = ["x-removed"], set = {{ "x-set" = "1" }}, add = {{ "x-dup" = "three" }} }}
                response_headers = {{ remove = ["x-hidden"], add = {{ "vary" = "accept" }} }}
                [route.prefixed]
                paths = ["/prefixed/*"]
                upstream = "app"
                strip_prefix = "/prefixed"
                "#,
                server.local_addr().unwrap()
            ),
        )
    });
    let each = (seeds.end - seeds.start) / threads;
    thread::scope(|scope| {
        for first in (0..threads).map(|thread| seeds.start + thread * each) {
            let ports = worlds.each_ref().map(|world| world.port);
            scope.spawn(move || {
                let mut kept = [None, None];
                for seed in first..first + each {
                    let [mut lane, mut pingora] = [0, 1].map(|way| ask(ports[way], &mut kept[way], seed));
                    pardoned(&mut lane);
                    pardoned(&mut pingora);
                    let (_, parts) = request(seed);
                    let text = parts.concat();
                    assert_eq!(lane, pingora, "seed {seed}: {}", text[..text.len().min(500)].escape_ascii());
                    if lane.goes_on != kept[0].is_some() || kept[0].is_some() != kept[1].is_some() {
                        kept = [None, None];
                    }
                }
            });
        }
    });
    let [lane, pingora] = seen.each_ref().map(|seen| seen.lock().unwrap());
    for seed in seeds.clone() {
        assert_eq!(lane.get(&seed), pingora.get(&seed), "what the server saw of seed {seed}");
    }
    let logs = worlds.each_ref().map(|world| lines(world, (each * threads) as usize));
    assert!(!logs[0].is_empty());
    for (id, line) in &logs[0] {
        assert_eq!(Some(line), logs[1].get(id), "the log of {id}");
    }
    (each * threads) as usize
}

/// The lines of the access log by the requests' ids, without times and ports.
fn lines(world: &World, count: usize) -> BTreeMap<String, serde_json::Value> {
    let whole = eventually("the log is written", || Some(world.log_lines()).filter(|lines| lines.len() >= count));
    let lines = whole.into_iter().map(|mut line| {
        let object = line.as_object_mut().unwrap();
        for time in ["time", "duration_ms", "upstream_ms", "server"] {
            object.remove(time);
        }
        (object["request_id"].as_str().unwrap_or_default().to_owned(), line)
    });
    lines.filter(|(id, _)| id.starts_with("seed-")).collect()
}

#[test]
fn generated_requests_are_the_same_on_both_ways() {
    let begun = std::time::Instant::now();
    compare(1..3_001, 2);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
#[ignore = "long: a hundred thousand requests"]
fn long_generated_requests_are_the_same_on_both_ways() {
    let asked = compare(1_000_000..1_100_000, 4);
    println!("generated requests, each on both ways: {asked}, none told apart");
}
