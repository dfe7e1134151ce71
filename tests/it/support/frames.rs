//! HTTP/2 as its bytes: frames that a client makes by hand, as no library would send them.

use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use super::wait::PATIENCE;

/// Frame types (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// `SETTINGS_INITIAL_WINDOW_SIZE`
pub const INITIAL_WINDOW: u16 = 4;

/// A frame.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of a RST_STREAM or a GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
    }

    pub fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block of literals that are not indexed, without Huffman's code.
pub fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "short texts only");
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The block of `GET path` for a host.
pub fn get_block(host: &str, path: &str) -> Vec<u8> {
    block(&[(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)])
}

/// A connection without TLS.
pub struct Frames {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Frames {
    /// Connects and says what opens a connection, with this initial window for each stream.
    pub fn connect(port: u16, window: u32) -> Frames {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        let setting = [&INITIAL_WINDOW.to_be_bytes()[..], &window.to_be_bytes()].concat();
        stream.write_all(&frame(SETTINGS, 0, 0, &setting)).unwrap();
        Frames { stream, read: vec![] }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Asks by a head that ends its stream.
    pub fn get(&mut self, stream: u32, host: &str, path: &str) {
        self.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_block(host, path))).unwrap();
    }

    /// Opens the window of a stream, or of the connection (0).
    pub fn open(&mut self, stream: u32, bytes: u32) {
        self.send(&frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())).unwrap();
    }

    /// The next frame; settings and pings are acknowledged on the way.
    pub fn next(&mut self) -> io::Result<Frame> {
        loop {
            // A frame is taken whole or stays: the rest of it may come after the time of this read.
            let head: [u8; 9] = self.peek(9)?.try_into().expect("nine bytes");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.peek(9 + length)?;
            let payload = self.read.drain(..9 + length).skip(9).collect();
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame { kind: head[3], flags: head[4], stream, payload };
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(&self::frame(SETTINGS, ACK, 0, &[]))?,
                PING if frame.flags & ACK == 0 => self.send(&self::frame(PING, ACK, 0, &frame.payload))?,
                SETTINGS | PING => {}
                _ => return Ok(frame),
            }
        }
    }

    /// Waits for a frame of this kind, and gives it out.
    #[track_caller]
    pub fn until(&mut self, kind: u8) -> Frame {
        loop {
            match self.next() {
                Ok(frame) if frame.kind == kind => return frame,
                Ok(_) => {}
                Err(e) => panic!("no frame of type {kind} came: {e}"),
            }
        }
    }

    /// Frames that come within a time.
    pub fn within(&mut self, time: Duration) -> Vec<Frame> {
        let end = Instant::now() + time;
        let mut frames = vec![];
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.stream.set_read_timeout(Some(left)).unwrap();
            match self.next() {
                Ok(frame) => frames.push(frame),
                Err(_) => break,
            }
        }
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        frames
    }

    /// The next bytes, which stay.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        let mut part = [0; 16 << 10];
        while self.read.len() < count {
            match super::client::read(&mut self.stream, &mut part)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.read.extend_from_slice(&part[..n]),
            }
        }
        Ok(&self.read[..count])
    }
}
