//! `state_dir/control.sock`: the socket by which `tollgate upgrade` reaches the process that runs with this
//! `state_dir`.
//!
//! Only the socket's owner may use it (mode 0600), because its clients can start programs as the gateway's user. It is
//! created under another name and renamed over an existing one, so that it is never half made and a dead process's
//! socket is replaced. If another process answers on it, its socket stays: of two gateways with one `state_dir` the
//! first gets the commands. A path that is too long for a socket's address is reached through `/proc/self/fd`. Both
//! sides send JSON, one object on each line.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};

use super::UpgradeError;

const NAME: &str = "control.sock";
/// Maximum length of a socket's path in bytes, by unix(7).
const PATH_MAX: usize = 107;
const BACKLOG: i32 = 16;
/// Maximum number of concurrent commands; more are closed.
const AT_ONCE: usize = 16;
/// Maximum size of a question, in bytes.
const QUESTION_MAX: u64 = 64 << 10;
/// How long a command may take to ask, or to read.
const PATIENCE: Duration = Duration::from_secs(5);

/// A command's request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Hand over to a new process.
    Upgrade {
        /// Absolute path; without it, the running process's own executable as it is on the disk.
        binary: Option<PathBuf>,
        /// Time limit for each step of the new process, in seconds.
        timeout_s: u64,
    },
}

/// The answers: any number of steps, then one of the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// A completed step.
    Step(String),
    /// The new process serves.
    Done {
        /// Its process id.
        pid: u32,
        /// Its version.
        version: String,
    },
    /// The old process goes on, or the reason says what else happened.
    Failed(UpgradeError),
}

/// The control socket of this process.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    file: (u64, u64),
}

/// The path of the socket for this `state_dir`.
pub fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(NAME)
}

impl Control {
    /// Creates the socket, and answers on threads of its own. Without `over`, an error if another process answers on
    /// it.
    pub fn open(
        state_dir: &Path,
        over: bool,
        answer: impl Fn(Question, &mut dyn FnMut(Told)) + Send + Sync + 'static,
    ) -> io::Result<Control> {
        let path = path(state_dir);
        if !over && connect(&path).is_ok() {
            let taken = "another process answers there, and goes on answering";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, taken));
        }
        let listener = listen(&path)?;
        let meta = fs::symlink_metadata(&path)?;
        let work = move || take(&listener, &Arc::new(answer));
        std::thread::Builder::new().name("control".into()).spawn(work)?;
        Ok(Control { path, file: (meta.dev(), meta.ino()) })
    }

    /// Removes the socket's name, unless it belongs to another process by now. Not for a process that has handed over:
    /// the new one may put its socket there between the check and the removal.
    pub fn close(&self) {
        let now = fs::symlink_metadata(&self.path).map(|meta| (meta.dev(), meta.ino()));
        if now.is_ok_and(|now| now == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let own = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&own);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    with_address(&own, |address| socket.bind(address))?;
    let made = fs::set_permissions(&own, fs::Permissions::from_mode(0o600))
        .and_then(|()| socket.listen(BACKLOG))
        .and_then(|()| fs::rename(&own, path));
    if let Err(e) = made {
        let _ = fs::remove_file(&own);
        return Err(e);
    }
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    with_address(path, |address| socket.connect(address))?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

/// Calls with the address of a path of any length.
fn with_address<T>(path: &Path, call: impl FnOnce(&SockAddr) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() <= PATH_MAX {
        return call(&SockAddr::unix(path)?);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    call(&SockAddr::unix(short)?)
}

fn take<A>(listener: &UnixListener, answer: &Arc<A>)
where
    A: Fn(Question, &mut dyn FnMut(Told)) + Send + Sync + 'static,
{
    let busy = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else {
            // Without file descriptors the next try would fail at once.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        if busy.fetch_add(1, Ordering::AcqRel) >= AT_ONCE {
            busy.fetch_sub(1, Ordering::AcqRel);
            continue;
        }
        let (answer, one) = (answer.clone(), busy.clone());
        let work = move || {
            // A command that has left needs no answer; its request is performed nevertheless.
            let _ = serve(&stream, &*answer);
            one.fetch_sub(1, Ordering::AcqRel);
        };
        if std::thread::Builder::new().name("control".into()).spawn(work).is_err() {
            busy.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn serve(stream: &UnixStream, answer: &impl Fn(Question, &mut dyn FnMut(Told))) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(QUESTION_MAX)).read_line(&mut line)?;
    let mut tell = |told: Told| {
        let _ = say(stream, &told);
    };
    match serde_json::from_str(&line) {
        Ok(question) => answer(question, &mut tell),
        Err(e) => {
            tell(Told::Failed(UpgradeError::new(format!("the running process does not understand the question: {e}"))))
        }
    }
    Ok(())
}

fn say(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    stream.write_all(format!("{}\n", serde_json::to_string(message)?).as_bytes())
}

/// Asks the process that runs with this `state_dir`; `heard` is called with each step. Returns the last answer.
pub fn ask(state_dir: &Path, question: &Question, mut heard: impl FnMut(String)) -> Result<Told, UpgradeError> {
    let path = path(state_dir);
    let no = |e: io::Error| {
        let what = match e.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nobody answers there any more".to_owned(),
            io::ErrorKind::PermissionDenied => "it is another user's: ask as that user, or as root".to_owned(),
            _ => e.to_string(),
        };
        UpgradeError::new(format!(
            "no running gateway at {}: {what}; one that was started with another state_dir is named by --state-dir",
            path.display()
        ))
    };
    let stream = connect(&path).map_err(no)?;
    say(&stream, question).map_err(no)?;
    for line in BufReader::new(&stream).lines() {
        match line.map(|line| serde_json::from_str(&line)) {
            Ok(Ok(Told::Step(step))) => heard(step),
            Ok(Ok(end)) => return Ok(end),
            Ok(Err(e)) => {
                return Err(UpgradeError::new(format!("what the running process says is not understood: {e}")));
            }
            Err(_) => break,
        }
    }
    Err(UpgradeError::new("the running process ended before the upgrade did"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgrade() -> Question {
        Question::Upgrade { binary: Some("/bin/new".into()), timeout_s: 3 }
    }

    fn answered(state_dir: &Path) -> (Vec<String>, Result<Told, UpgradeError>) {
        let mut steps = vec![];
        let end = ask(state_dir, &upgrade(), |step| steps.push(step));
        (steps, end)
    }

    fn open(state_dir: &Path, over: bool, name: &'static str) -> io::Result<Control> {
        Control::open(state_dir, over, move |question, tell| {
            assert_eq!(question, upgrade());
            tell(Told::Step(name.into()));
            tell(Told::Done { pid: 7, version: "1".into() });
        })
    }

    #[test]
    fn a_question_is_answered_and_only_the_owner_may_ask() {
        let folder = tempfile::tempdir().unwrap();
        let control = open(folder.path(), false, "one").unwrap();
        let mode = fs::metadata(path(folder.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let done = Told::Done { pid: 7, version: "1".into() };
        assert_eq!(answered(folder.path()), (vec!["one".to_owned()], Ok(done)));
        control.close();
        assert!(answered(folder.path()).1.unwrap_err().reason.contains("no such socket"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_only_by_its_heir() {
        let folder = tempfile::tempdir().unwrap();
        drop(listen(&path(folder.path())).unwrap());
        assert!(answered(folder.path()).1.unwrap_err().reason.contains("nobody answers"));
        let first = open(folder.path(), false, "first").unwrap();
        assert_eq!(open(folder.path(), false, "second").unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(answered(folder.path()).0, ["first"]);
        let _second = open(folder.path(), true, "second").unwrap();
        first.close();
        assert_eq!(answered(folder.path()).0, ["second"], "the first one took its own name away only");
    }

    #[test]
    fn a_path_may_be_long() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(100)).join("y".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let _control = open(&deep, false, "deep").unwrap();
        assert_eq!(answered(&deep).0, ["deep"]);
    }

    #[test]
    fn what_is_no_question_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let _control = open(folder.path(), false, "one").unwrap();
        let mut stream = connect(&path(folder.path())).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert!(said.contains("does not understand"), "{said}");
    }
}
