//! The new process, as the old one sees it: started, heard, and ended when it fails.
//!
//! Each step has the same time limit; a process that says what it works on gets that time again, up to `PATIENCE_MAX`
//! times. A process that ends, stays silent, or sends what Tollgate never sends, fails the upgrade with a message for
//! the operator. It is killed and reaped by its process id; a process started by a script in between sees its channel
//! closed and ends by itself.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use super::UpgradeError;
use super::channel::{Broken, Channel, FromNew, FromOld, PROTOCOL, VARIABLE};
use base::clock;

/// How many times its limit a step may take while the new process says that it works.
const PATIENCE_MAX: u32 = 10;
/// How long a process whose channel closed may take to end by itself.
const END: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);

/// A process that should take over.
#[derive(Debug)]
pub struct ChildProcess {
    child: Child,
    channel: Channel,
    binary: PathBuf,
    patience: Duration,
    /// Its process id, once it has sent it.
    pub pid: u32,
    /// Its version, likewise.
    pub version: String,
}

impl ChildProcess {
    /// Starts `binary run -c conf`; each of its steps may take `patience`.
    pub fn start(binary: &Path, conf: &Path, patience: Duration) -> Result<ChildProcess, UpgradeError> {
        let name = binary.display();
        let (channel, theirs) =
            Channel::pair().map_err(|e| UpgradeError::new(format!("no channel to a new process: {e}")))?;
        let mut command = Command::new(binary);
        command.args(["run", "-c"]).arg(conf).env(VARIABLE, PROTOCOL.to_string()).stdin(theirs);
        let child = command.spawn().map_err(|e| {
            let what = match e.kind() {
                std::io::ErrorKind::NotFound => "there is no such file, or what runs it is missing",
                std::io::ErrorKind::PermissionDenied => "it is no file that this gateway's user may execute",
                _ => "it is no program for this machine",
            };
            UpgradeError::new(format!("{name} cannot be started: {what} ({e})"))
        })?;
        // Otherwise this process's own copy would keep the channel open after the new one has ended.
        drop(command);
        let pid = child.id();
        Ok(ChildProcess { child, channel, binary: binary.to_owned(), patience, pid, version: String::new() })
    }

    /// Reads its identity, and passes the sockets.
    pub fn greet(
        &mut self,
        sockets: Vec<(SocketAddr, OwnedFd)>,
        wanted: &dyn Fn() -> bool,
    ) -> Result<(), UpgradeError> {
        let FromNew::Hello { protocol, version, pid } = self.next("it said who it is", wanted, &mut |_| {})? else {
            return Err(self.odd("it said something else before it said who it is"));
        };
        if protocol != PROTOCOL {
            return Err(UpgradeError::new(format!(
                "{} is Tollgate {version}, which hands over by another protocol ({protocol}, not {PROTOCOL}): start it \
                 anew instead",
                self.binary.display()
            )));
        }
        (self.version, self.pid) = (version, pid);
        let welcome =
            FromOld::Welcome { protocol, version: env!("CARGO_PKG_VERSION").to_owned(), sockets: sockets.len() };
        self.say(&welcome)?;
        for (address, socket) in &sockets {
            let passed = self.channel.pass(&FromOld::Socket { address: *address }, socket.as_fd());
            passed.map_err(|e| UpgradeError::new(format!("the socket of {address} could not be passed: {e}")))?;
        }
        Ok(())
    }

    /// Sends a message.
    pub fn say(&mut self, message: &FromOld) -> Result<(), UpgradeError> {
        self.channel.say(message).map_err(|_| self.gone("it was told to go on"))
    }

    /// Its next message that is not about work; `what` completes "before …".
    pub fn next(
        &mut self,
        what: &str,
        wanted: &dyn Fn() -> bool,
        tell: &mut dyn FnMut(String),
    ) -> Result<FromNew, UpgradeError> {
        let at_last = clock::now().after(self.patience * PATIENCE_MAX);
        loop {
            let until = clock::now().after(self.patience).min(at_last);
            match self.channel.hear(until, wanted) {
                Ok(FromNew::Working { what }) => tell(format!("the new process: {what}")),
                Ok(FromNew::Refused { reason, findings }) => return Err(UpgradeError { reason, findings }),
                Ok(word) => return Ok(word),
                Err(Broken::Closed) => return Err(self.gone(what)),
                Err(Broken::Garbled(why)) => return Err(self.odd(&format!("what it says is not understood: {why}"))),
                Err(Broken::Unwanted) => {
                    return Err(UpgradeError::new("the running process was told to end: there is no upgrade any more"));
                }
                Err(Broken::Late) => {
                    return Err(UpgradeError::new(format!(
                        "{} has taken more than {:?} before {what}: it hangs, or is no Tollgate; --timeout gives it \
                         longer",
                        self.binary.display(),
                        self.patience
                    )));
                }
            }
        }
    }

    fn gone(&mut self, what: &str) -> UpgradeError {
        let how = match self.ended_within(END) {
            Some(status) => format!("ended ({status})"),
            None => "closed its channel".to_owned(),
        };
        let name = self.binary.display();
        UpgradeError::new(format!(
            "{name} {how} before {what}: it is broken, or no Tollgate that can take over; what it said is where the \
             gateway's own messages go"
        ))
    }

    fn odd(&self, what: &str) -> UpgradeError {
        UpgradeError::new(format!("{} is no Tollgate that can take over: {what}", self.binary.display()))
    }

    fn ended_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let until = clock::now().after(limit);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if clock::now() < until => std::thread::sleep(LOOK),
                _ => return None,
            }
        }
    }

    /// Ends it, whatever it does; returns once it has ended.
    pub fn end(mut self) {
        // A process that has ended already cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
