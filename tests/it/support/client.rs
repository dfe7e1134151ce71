//! An HTTP/1.1 client that sends exactly what it is told and keeps what it gets, byte for byte.
//!
//! Libraries repair requests and pool connections; these tests are about just that. Every read has a time limit.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::wait::PATIENCE;

/// A request to be.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

/// `GET target`
pub fn get(target: &str) -> Request {
    request("GET", target)
}

/// `DELETE target`
pub fn delete(target: &str) -> Request {
    request("DELETE", target)
}

/// `POST target`
pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    Request { body: Some(body.into()), ..request("POST", target) }
}

/// Any method.
pub fn request(method: &str, target: &str) -> Request {
    Request { method: method.into(), target: target.into(), headers: vec![], body: None }
}

impl Request {
    /// Adds a header.
    pub fn header(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same under a prefix.
    pub fn under(mut self, prefix: &str) -> Self {
        self.target.insert_str(0, prefix);
        self
    }

    /// Asks for another host than `localhost`.
    pub fn host(self, host: &str) -> Self {
        self.header("host", host)
    }

    /// With a body.
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// For another target.
    pub fn target(mut self, target: &str) -> Self {
        self.target = target.to_owned();
        self
    }

    /// By another method.
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let named = |name: &str| self.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !named("host") {
            text.push_str("host: localhost\r\n");
        }
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = self.body.as_ref().filter(|_| !named("transfer-encoding") && !named("content-length")) {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), self.body.as_deref().unwrap_or_default()].concat()
    }

    fn has_bodiless_answer(&self) -> bool {
        self.method == "HEAD"
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}: {}", self.status, self.text()))
    }

    /// Which backend answered: they sign with their name.
    pub fn server(&self) -> &str {
        self.header("x-server").unwrap_or("none")
    }

    /// Holds the answer against what every refusal of the gateway must look like.
    #[track_caller]
    pub fn is_problem(&self, status: u16, label: &str) {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document = self.json();
        assert_eq!(document["type"], format!("urn:tollgate:problem:{label}"), "{document}");
        assert_eq!(document["status"], status);
        let told = document["detail"].as_str().is_some_and(|d| !d.is_empty()) && document["title"].is_string();
        assert!(told, "{document}");
        assert_eq!(self.header("x-request-id"), document["request_id"].as_str());
        let all = format!("{:?} {}", self.headers, self.text());
        assert!(!all.contains("127.0.0."), "an address leaks: {all}");
    }
}

/// A connection to the gateway.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn to(port: u16) -> io::Result<Connection> {
        Self::from(Ipv4Addr::LOCALHOST, port)
    }

    /// Connects from an address of 127.0.0.0/8, all of which are this machine.
    pub fn from(source: Ipv4Addr, port: u16) -> io::Result<Connection> {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = if source == Ipv4Addr::LOCALHOST {
            TcpStream::connect(to)?
        } else {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::from((source, 0)).into())?;
            socket.connect(&to.into())?;
            TcpStream::from(socket)
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, buffer: vec![] })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request and reads its answer.
    pub fn ask(&mut self, request: &Request) -> io::Result<Answer> {
        // A gateway that does not want the body may answer and close before all of it is sent.
        let sent = self.send(&request.bytes());
        self.answer(request.has_bodiless_answer()).map_err(|e| sent.err().unwrap_or(e))
    }

    /// Reads an answer; `head_only` where it has no body whatever its headers say.
    pub fn answer(&mut self, head_only: bool) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let text = String::from_utf8_lossy(&head).into_owned();
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).ok_or_else(|| odd(&text))?;
        let split = |line: &str| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()));
        let mut answer = Answer { status, headers: lines.filter_map(split).collect(), body: vec![] };
        if !(head_only || matches!(status, 100..=199 | 204 | 304)) {
            answer.body = self.body(&answer)?;
        }
        Ok(answer)
    }

    fn body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            let mut body = vec![];
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16).map_err(|_| odd("chunk size"))?;
                body.extend(self.exactly(size)?);
                self.exactly(2)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        if let Some(length) = answer.header("content-length") {
            return self.exactly(length.parse().map_err(|_| odd(length))?);
        }
        while self.fill().is_ok() {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            self.fill()?;
        }
    }

    /// Reads this many bytes.
    pub fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut part = [0; 16 * 1024];
        match read(&mut self.stream, &mut part)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                self.buffer.extend_from_slice(&part[..n]);
                Ok(())
            }
        }
    }

    /// Waits for the other end to close; how long that took.
    #[track_caller]
    pub fn closed_after(&mut self) -> Duration {
        let begun = Instant::now();
        match read(&mut self.stream, &mut [0]) {
            Ok(0) => {}
            Ok(_) => panic!("bytes came where the connection should have been closed"),
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset => {}
            Err(e) => panic!("the connection was not closed: {e}"),
        }
        begun.elapsed()
    }

    /// Closes the sending side.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// Reads once, also where a signal interrupts: a socket with a timeout is not resumed by the kernel (signal(7)).
pub fn read(stream: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn odd(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {text:?}"))
}
