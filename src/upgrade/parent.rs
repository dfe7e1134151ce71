//! The old process, as the new one sees it.
//!
//! The new process goes from step to step as the old one says; if the old one is gone before it said `go`, the new one
//! ends too: whoever supervises them starts one anew, and two may never serve one `state_dir`. After `go` the channel
//! stays open and says nothing more; its end is the end of the old process.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::channel::{Broken, Channel, FromNew, FromOld, PROTOCOL, VARIABLE};
use base::clock;
use base::finding::Finding;
use base::units::Nanos;

/// Between two words about what is worked on.
const BEAT: Duration = Duration::from_secs(1);
/// The old process decides how long it waits; we wait longer than it ever does.
const FOR_EVER: Duration = Duration::from_secs(7 * 86_400);

/// The way to the process before.
#[derive(Debug)]
pub struct Parent {
    channel: Channel,
    went: bool,
}

impl Parent {
    /// Whether this process was started to take over; then it greets.
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

    /// The sockets of the process before.
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

    /// Says that all is prepared; returns once the old ledger is closed.
    pub fn prepared(&mut self, notes: Vec<String>) -> Result<(), String> {
        self.say(&FromNew::Prepared { notes })?;
        match self.hear()? {
            FromOld::Books => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Says that the store is open; returns once the old process' state is the last word, with what probes have found.
    pub fn opened(&mut self, notes: Vec<String>) -> Result<Vec<(String, SocketAddr)>, String> {
        self.say(&FromNew::Opened { notes })?;
        match self.hear()? {
            FromOld::State { down } => Ok(down),
            _ => Err(unexpected()),
        }
    }

    /// Says that it could serve; returns once it is to.
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

    /// Says that it serves; calls `standalone_ledger` when the process before has ended.
    pub fn serving(mut self, alone: impl FnOnce() + Send + 'static) {
        // Who asked for the upgrade may have to be told otherwise; serving goes on.
        let _ = self.say(&FromNew::Serving);
        let wait = move || {
            while !matches!(self.channel.hear::<FromOld>(far(), || true), Err(Broken::Closed | Broken::Garbled(_))) {}
            alone();
        };
        if let Err(e) = std::thread::Builder::new().name("predecessor".into()).spawn(wait) {
            log::warn!("the end of the process before will not be noticed: {e}");
        }
    }

    /// Says that it will not serve, unless that was promised already.
    pub fn refuse(&self, reason: String, findings: Vec<Finding>) {
        if !self.went {
            let _ = self.say(&FromNew::Refused { reason, findings });
        }
    }

    /// Works, and says so every second.
    pub fn working<T: Send>(&self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let (done, over) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                let begun = clock::now();
                while over.recv_timeout(BEAT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    let seconds = clock::now().since(begun).as_secs();
                    // A process before that has gone is noticed at the next step.
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
