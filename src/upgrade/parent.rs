//! The old process, as the new one sees it.
//!
//! The old process leads the new one from step to step. If the old one is gone before it sent `go`, the new one ends
//! too: their supervisor starts a new one, and two processes may never serve one `state_dir`. After `go` the channel
//! stays open without messages; it closes when the old process ends.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::channel::{Broken, Channel, FromNew, FromOld, PROTOCOL, VARIABLE};
use base::clock;
use base::finding::Finding;
use base::units::Nanos;

/// Interval of messages about the work.
const BEAT: Duration = Duration::from_secs(1);
/// The old process decides how long it waits; this is longer than it ever does.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

/// The channel to the old process.
#[derive(Debug)]
pub struct Parent {
    channel: Channel,
    went: bool,
}

impl Parent {
    /// Whether this process was started to take over; if so it sends its greeting.
    pub fn inherited() -> Result<Option<Parent>, String> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let channel = Channel::of_stdin().map_err(|e| {
            format!("{VARIABLE} is set, which only `tollgate upgrade` does, but standard input is no channel ({e})")
        })?;
        let hello = FromNew::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
        };
        let heir = Parent { channel, went: false };
        heir.say(&hello)?;
        Ok(Some(heir))
    }

    /// The sockets of the old process.
    pub fn sockets(&mut self) -> Result<Vec<(SocketAddr, OwnedFd)>, String> {
        let FromOld::Welcome { protocol, version, sockets } = self.hear()? else { return Err(unexpected()) };
        if protocol != PROTOCOL {
            return Err(format!("Tollgate {version} hands over by another protocol ({protocol}, not {PROTOCOL})"));
        }
        let mut passed = vec![];
        for _ in 0..sockets {
            let FromOld::Socket { address } = self.hear()? else { return Err(unexpected()) };
            let socket = self.channel.socket().ok_or("a socket was named that did not come")?;
            passed.push((address, socket));
        }
        Ok(passed)
    }

    /// Reports that all is prepared; returns once the old ledger is closed.
    pub fn prepared(&mut self, notes: Vec<String>) -> Result<(), String> {
        self.say(&FromNew::Prepared { notes })?;
        match self.hear()? {
            FromOld::Books => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Reports that the store is open; returns once the old process's state is final, with what its probes found.
    pub fn opened(&mut self, notes: Vec<String>) -> Result<Vec<(String, SocketAddr)>, String> {
        self.say(&FromNew::Opened { notes })?;
        match self.hear()? {
            FromOld::State { down } => Ok(down),
            _ => Err(unexpected()),
        }
    }

    /// Reports that it could serve; returns once it must.
    pub fn ready(&mut self) -> Result<(), String> {
        self.say(&FromNew::Ready)?;
        match self.hear()? {
            FromOld::Go => {
                self.went = true;
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// Reports that it serves; calls `alone` when the old process has ended.
    pub fn serving(mut self, alone: impl FnOnce() + Send + 'static) {
        // The old process may have to report a failure to the command; serving goes on.
        let _ = self.say(&FromNew::Serving);
        let wait = move || {
            while !matches!(self.channel.hear::<FromOld>(far(), || true), Err(Broken::Closed | Broken::Garbled(_))) {}
            alone();
        };
        if let Err(e) = std::thread::Builder::new().name("predecessor".into()).spawn(wait) {
            log::warn!("the end of the process before will not be noticed: {e}");
        }
    }

    /// Reports that it will not serve, unless `go` has come already.
    pub fn refuse(&self, reason: String, findings: Vec<Finding>) {
        if !self.went {
            let _ = self.say(&FromNew::Refused { reason, findings });
        }
    }

    /// Works, and reports so every second.
    pub fn working<T: Send>(&self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (done, over) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let begun = clock::now();
                while over.recv_timeout(BEAT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    let seconds = clock::now().since(begun).as_secs();
                    // If the old process is gone, the next step notices.
                    let _ = self.say(&FromNew::Working { what: format!("{what}, for {seconds} s") });
                }
            });
            let answer = work();
            drop(done);
            answer
        })
    }

    fn say(&self, message: &FromNew) -> Result<(), String> {
        self.channel.say(message).map_err(|e| format!("the process before does not listen any more: {e}"))
    }

    fn hear(&mut self) -> Result<FromOld, String> {
        self.channel.hear(far(), || true).map_err(|broken| match broken {
            Broken::Garbled(why) => format!("what the process before says is not understood: {why}"),
            _ => "the process before has ended, or will not hand over".to_owned(),
        })
    }
}

fn far() -> Nanos {
    clock::now().after(FOR_EVER)
}

fn unexpected() -> String {
    "the process before said something out of turn".to_owned()
}
