//! Backends in this process: each does with every request what its test tells it to.
//!
//! A thread a connection; they are few. Dropping an origin closes its socket and every connection it has.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::wait::{PATIENCE, eventually};

/// What a backend does with a request.
#[derive(Clone)]
pub enum Act {
    /// An answer with this status, headers and body.
    Answer(u16, Vec<(String, String)>, String),
    /// Waits until the gate is opened, then does the other.
    When(Arc<Gate>, Box<Act>),
    /// These bytes, then the end.
    Raw(Vec<u8>, End),
    /// `101 Switching Protocols`, then sends back what comes.
    Echo,
}

/// What follows raw bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    Close,
    Reset,
    Hang,
    /// The connection takes another request.
    Keep,
}

impl Act {
    pub fn ok() -> Act {
        Act::status(200)
    }

    pub fn status(status: u16) -> Act {
        Act::Answer(status, vec![], String::new())
    }

    pub fn body(body: &str) -> Act {
        Act::Answer(200, vec![], body.to_owned())
    }

    pub fn reset() -> Act {
        Act::Raw(vec![], End::Reset)
    }

    pub fn hang() -> Act {
        Act::Raw(vec![], End::Hang)
    }

    pub fn when(gate: &Arc<Gate>, act: Act) -> Act {
        Act::When(gate.clone(), Box::new(act))
    }
}

/// Holds requests back until it is opened.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    pub fn new() -> Arc<Gate> {
        Arc::default()
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let open = self.open.lock().unwrap();
        drop(self.changed.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap());
    }
}

/// A request as a backend saw it.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    /// Number of the connection it came over.
    pub connection: usize,
}

impl Seen {
    /// A header; several of a name are joined with `|`.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

type Script = Box<dyn Fn(&Seen) -> Act + Send + Sync>;

struct Shared {
    name: String,
    script: Mutex<Arc<Script>>,
    seen: Mutex<Vec<Seen>>,
    hits: AtomicUsize,
    probes: AtomicUsize,
    healthy: AtomicBool,
    keep_seen: AtomicBool,
    connections: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
    ended: AtomicBool,
}

/// A backend.
pub struct Origin {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Origin {
    /// A backend that answers 200 with its name.
    pub fn start(name: &str) -> Origin {
        Self::start_on(name, 0)
    }

    /// A backend on a port, where one was before.
    pub fn start_on(name: &str, port: u16) -> Origin {
        let socket = eventually("the port is free", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        let port = socket.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            script: Mutex::new(Arc::new(Box::new(|_| Act::ok()))),
            seen: Mutex::default(),
            hits: AtomicUsize::new(0),
            probes: AtomicUsize::new(0),
            healthy: AtomicBool::new(true),
            keep_seen: AtomicBool::new(true),
            connections: AtomicUsize::new(0),
            streams: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let own = shared.clone();
        std::thread::spawn(move || accept(&socket, &own));
        Origin { port, shared }
    }

    /// Does this with every request from now on.
    pub fn does(&self, act: Act) {
        self.script(move |_| act.clone());
    }

    /// Decides by the request.
    pub fn script(&self, script: impl Fn(&Seen) -> Act + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(Box::new(script));
    }

    /// What `/health` says: 200 or 500.
    pub fn set_healthy(&self, healthy: bool) {
        self.shared.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Only counts requests from now on: for load.
    pub fn forget(&self) {
        self.shared.keep_seen.store(false, Ordering::SeqCst);
    }

    /// Requests so far, probes of `/health` apart.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// Probes of `/health` so far.
    pub fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The last request.
    #[track_caller]
    pub fn last(&self) -> Seen {
        self.shared.seen.lock().unwrap().last().cloned().expect("a request reached the backend")
    }

    /// Its address in a configuration.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Closes the connections it has, and keeps listening.
    pub fn hang_up(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
        self.hang_up();
    }
}

/// A server that answers no SYN, as a machine that is gone: a listener with a full queue.
pub struct Gone {
    listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Gone {
    pub fn start() -> Gone {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let connect = |_| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok();
        Gone { listener, _queue: (0..3).filter_map(connect).collect() }
    }

    pub fn address(&self) -> String {
        self.listener.local_addr().unwrap().as_socket().unwrap().to_string()
    }
}

/// `[upstream.NAME]` with these servers; further keys may follow it.
pub fn fleet(name: &str, servers: &[&Origin]) -> String {
    let servers: Vec<String> = servers.iter().map(|origin| format!("{:?}", origin.address())).collect();
    format!(
        r"
    [upstream.{name}]
    servers = [{}]
    ",
        servers.join(", ")
    )
}

/// An address where connections are refused, and nobody else can listen meanwhile.
pub struct Dead {
    pub port: u16,
    _socket: Socket,
}

impl Dead {
    pub fn new() -> Dead {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        Dead { port, _socket: socket }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn accept(socket: &TcpListener, shared: &Arc<Shared>) {
    for stream in socket.incoming() {
        if shared.ended.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.connections.fetch_add(1, Ordering::SeqCst);
        if let Ok(copy) = stream.try_clone() {
            shared.streams.lock().unwrap().push(copy);
        }
        let shared = shared.clone();
        // A client that leaves ends its connection's thread with an error.
        std::thread::spawn(move || drop(serve(&stream, number, &shared)));
    }
}

fn serve(mut stream: &TcpStream, number: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read_request(&mut reader, number)? {
        let act = if seen.path.starts_with("/health") {
            shared.probes.fetch_add(1, Ordering::SeqCst);
            Act::status(if shared.healthy.load(Ordering::SeqCst) { 200 } else { 500 })
        } else {
            if shared.keep_seen.load(Ordering::SeqCst) {
                shared.seen.lock().unwrap().push(seen.clone());
            }
            shared.hits.fetch_add(1, Ordering::SeqCst);
            let script = shared.script.lock().unwrap().clone();
            script(&seen)
        };
        if !act_on(act, &mut stream, &mut reader, &seen, &shared.name)? {
            // The copy that `hang_up` closes would keep the socket open.
            return stream.shutdown(Shutdown::Both);
        }
    }
    Ok(())
}

/// Does it; false where the connection ends with it.
fn act_on(
    act: Act,
    stream: &mut &TcpStream,
    reader: &mut BufReader<&TcpStream>,
    seen: &Seen,
    name: &str,
) -> io::Result<bool> {
    match act {
        Act::Answer(status, headers, body) => {
            let body = if body.is_empty() { name.to_owned() } else { body };
            let length = body.len();
            let mut head = format!("HTTP/1.1 {status} Status\r\nx-server: {name}\r\ncontent-length: {length}\r\n");
            headers.iter().for_each(|(n, v)| head.push_str(&format!("{n}: {v}\r\n")));
            let body = if seen.method == "HEAD" { "" } else { &body };
            stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
            Ok(true)
        }
        Act::When(gate, act) => {
            gate.wait();
            act_on(*act, stream, reader, seen, name)
        }
        Act::Raw(bytes, end) => {
            stream.write_all(&bytes)?;
            match end {
                End::Close => {}
                End::Reset => SockRef::from(*stream).set_linger(Some(Duration::ZERO))?,
                End::Hang => drop(io::copy(reader, &mut io::sink())),
                End::Keep => return Ok(true),
            }
            Ok(false)
        }
        Act::Echo => {
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")?;
            io::copy(reader, stream)?;
            Ok(false)
        }
    }
}

fn read_request(reader: &mut BufReader<&TcpStream>, connection: usize) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen { connection, ..Seen::default() };
    (seen.method, seen.path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        seen.headers.entry(name).and_modify(|v| *v = format!("{v}|{value}")).or_insert_with(|| value.to_owned());
    }
    if seen.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk)?;
            seen.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Ok(Some(seen));
            }
        }
    }
    let length = seen.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    seen.body.resize(length, 0);
    reader.read_exact(&mut seen.body)?;
    Ok(Some(seen))
}
