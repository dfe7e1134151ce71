//! The messages between the two processes of an upgrade: frames over a pair of Unix sockets.
//!
//! A frame is its length (4 bytes, big endian) and one JSON object. A listening socket is passed with the frame that
//! names its address (`SCM_RIGHTS`, unix(7)). The first frame of either side carries [`PROTOCOL`]: sides with different
//! protocols part before anything has changed. Later protocols must keep `hello`, `welcome` and `refused` readable.
//! Unknown fields are ignored, so that a newer process may send more.
//!
//! The new process gets its end as standard input, which needs no unsafe code and passes through shell scripts; the
//! variable [`VARIABLE`] says so.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use base::clock;
use base::finding::Finding;
use base::units::Nanos;

/// The version of this protocol.
pub const PROTOCOL: u32 = 1;
/// Set for the new process: its standard input is the channel.
pub const VARIABLE: &str = "TOLLGATE_UPGRADE";

/// Maximum size of a frame: a configuration may have many findings.
const FRAME_MAX: usize = 64 << 20;
/// How long a frame may wait for the other side to read.
const WRITE: Duration = Duration::from_secs(10);
/// Interval of checks whether waiting is still wanted.
const SLICE: Duration = Duration::from_millis(50);
/// Maximum number of sockets that one read may bring.
const SOCKETS: usize = 16;

/// A message of the old process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FromOld {
    /// First message: how many sockets follow.
    Welcome {
        /// See [`PROTOCOL`].
        protocol: u32,
        /// Of the old executable.
        version: String,
        /// How many [`FromOld::Socket`] follow.
        sockets: usize,
    },
    /// A listening socket, which is passed with it.
    Socket {
        /// Its address, as the configuration writes it.
        address: SocketAddr,
    },
    /// The embedded ledger, if there was one, is closed: its store is free.
    Books,
    /// The content of `state_dir` is final.
    State {
        /// Servers that probes found unhealthy: upstream and address.
        down: Vec<(String, SocketAddr)>,
    },
    /// From now on the new process serves.
    Go,
}

/// A message of the new process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum FromNew {
    /// First message: its identity.
    Hello {
        /// See [`PROTOCOL`].
        protocol: u32,
        /// Of the new executable.
        version: String,
        /// Its process id, which differs from that of the started process if that is a script.
        pid: u32,
    },
    /// It works on this: a reason to wait longer.
    Working {
        /// A description.
        what: String,
    },
    /// It will not serve, and ends.
    Refused {
        /// The reason.
        reason: String,
        /// Findings in the configuration.
        findings: Vec<Finding>,
    },
    /// The configuration is good, and every socket is bound.
    Prepared {
        /// Notes for the operator.
        notes: Vec<String>,
    },
    /// The ledger's store is open, or there is no ledger.
    Opened {
        /// Notes for the operator.
        notes: Vec<String>,
    },
    /// It has built what it will serve.
    Ready,
    /// It accepts connections.
    Serving,
}

/// Why no more messages come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The other side closed its end, most likely because it ended.
    Closed,
    /// It sent nothing in time.
    Late,
    /// The waiting side no longer wants it.
    Unwanted,
    /// It sent something other than a frame of this protocol.
    Garbled(String),
}

/// One end of the channel.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    bytes: Vec<u8>,
    sockets: VecDeque<OwnedFd>,
}

impl Channel {
    /// Two ends; the second one becomes the standard input of the new process.
    pub fn pair() -> io::Result<(Channel, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Channel::over(ours)?, theirs.into()))
    }

    /// The end of a process that was started for an upgrade.
    pub fn of_stdin() -> io::Result<Channel> {
        let end = io::stdin().as_fd().try_clone_to_owned()?;
        // No other code may read from it or keep it open.
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        Channel::over(end.into())
    }

    fn over(stream: UnixStream) -> io::Result<Channel> {
        // A file passed off as a channel fails here.
        stream.peer_addr()?;
        stream.set_write_timeout(Some(WRITE))?;
        Ok(Channel { stream, bytes: vec![], sockets: VecDeque::new() })
    }

    /// Sends a message.
    pub fn say(&self, message: &impl Serialize) -> io::Result<()> {
        (&self.stream).write_all(&frame(message)?)
    }

    /// Sends a message, and passes a socket with it.
    pub fn pass(&self, message: &impl Serialize, socket: BorrowedFd<'_>) -> io::Result<()> {
        let bytes = frame(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let sockets = [socket];
        if !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let sent = sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
        (&self.stream).write_all(&bytes[sent..])
    }

    /// Waits for a message until a time, as long as it is `wanted`.
    pub fn hear<T: DeserializeOwned>(&mut self, until: Nanos, wanted: impl Fn() -> bool) -> Result<T, Broken> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(message);
            }
            if !wanted() {
                return Err(Broken::Unwanted);
            }
            let left = until.since(clock::now());
            if left.is_zero() {
                return Err(Broken::Late);
            }
            let slice = Timespec::try_from(left.min(SLICE)).map_err(|e| Broken::Garbled(e.to_string()))?;
            let mut polled = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut polled, Some(&slice)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => self.read()?,
                Err(_) => return Err(Broken::Closed),
            }
        }
    }

    /// The socket that came with the last message.
    pub fn socket(&mut self) -> Option<OwnedFd> {
        self.sockets.pop_front()
    }

    fn read(&mut self) -> Result<(), Broken> {
        let mut part = [0; 16 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let count = match recvmsg(&self.stream, &mut [IoSliceMut::new(&mut part)], &mut beside, flags) {
            Ok(received) => received.bytes,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(_) => return Err(Broken::Closed),
        };
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(sockets) = message {
                self.sockets.extend(sockets);
            }
        }
        if count == 0 {
            return Err(Broken::Closed);
        }
        self.bytes.extend_from_slice(&part[..count]);
        Ok(())
    }

    /// The first message, once it is complete.
    fn whole<T: DeserializeOwned>(&mut self) -> Result<Option<T>, Broken> {
        let Some((length, rest)) = self.bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_MAX {
            return Err(Broken::Garbled(format!("a frame of {length} bytes")));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(frame).map_err(|e| Broken::Garbled(e.to_string()))?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }
}

fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let text = serde_json::to_vec(message)?;
    let length = u32::try_from(text.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], &text].concat())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn soon() -> Nanos {
        clock::now().after(Duration::from_secs(10))
    }

    fn ends() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel::over(theirs.into()).unwrap())
    }

    #[test]
    fn a_socket_arrives_with_its_address_and_still_listens() {
        let (ours, mut theirs) = ends();
        let sockets: Vec<_> = (0..40).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for socket in &sockets {
                    let message = FromOld::Socket { address: socket.local_addr().unwrap() };
                    ours.pass(&message, socket.as_fd()).unwrap();
                }
            });
            for _ in 0..sockets.len() {
                let Ok(FromOld::Socket { address }) = theirs.hear(soon(), || true) else { panic!("no socket") };
                let socket = TcpListener::from(theirs.socket().unwrap());
                assert_eq!(socket.local_addr().unwrap(), address);
                let mut client = TcpStream::connect(address).unwrap();
                socket.accept().unwrap().0.write_all(b"x").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
        });
    }

    #[test]
    fn a_long_message_comes_whole_and_what_is_no_frame_is_told() {
        let (ours, mut theirs) = ends();
        let long = FromNew::Refused { reason: "x".repeat(3_000_000), findings: vec![] };
        std::thread::scope(|scope| {
            scope.spawn(|| ours.say(&long).unwrap());
            assert_eq!(theirs.hear::<FromNew>(soon(), || true), Ok(long.clone()));
        });
        (&ours.stream).write_all(b"HTTP/1.1 400 Bad Request\r\n").unwrap();
        assert!(matches!(theirs.hear::<FromNew>(soon(), || true), Err(Broken::Garbled(_))));
    }

    #[test]
    fn waiting_ends_by_time_by_will_and_by_the_other_end() {
        let (ours, mut theirs) = ends();
        assert_eq!(theirs.hear::<FromNew>(clock::now(), || true), Err(Broken::Late));
        assert_eq!(theirs.hear::<FromNew>(soon(), || false), Err(Broken::Unwanted));
        drop(ours);
        assert_eq!(theirs.hear::<FromNew>(soon(), || true), Err(Broken::Closed));
    }

    #[test]
    fn what_a_newer_process_adds_is_passed_over() {
        let (ours, mut theirs) = ends();
        let newer =
            serde_json::json!({ "is": "hello", "protocol": 2, "version": "9.0.0", "pid": 7, "more": [1, 2, 3] });
        ours.say(&newer).unwrap();
        let hello = FromNew::Hello { protocol: 2, version: "9.0.0".into(), pid: 7 };
        assert_eq!(theirs.hear(soon(), || true), Ok(hello));
    }
}
