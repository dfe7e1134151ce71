//! The resources that the demo must release: processes, ports, a temporary folder.
//!
//! Each has a guard: whatever ends the demo, processes are killed by their own id and waited for, then the folder is
//! removed. A demo that is killed outright can do nothing more; on Linux its processes still end with it, but the
//! folder stays. Ports come from the kernel and stay reserved by a socket that does not listen, so a backend that died
//! finds its port free when it comes back.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpSocket;

/// Time between two looks in a wait.
const LOOK: Duration = Duration::from_millis(2);

/// A folder that is removed on drop, with its contents.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes a new folder that only its owner can read.
    pub fn new() -> Result<Folder, String> {
        let path = std::env::temp_dir().join(format!("tollgate-demo-{}-{:08x}", std::process::id(), fastrand::u32(..)));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|e| {
            format!("{} cannot be made: {e}; set TMPDIR to a folder that can be written", path.display())
        })?;
        Ok(Folder(path))
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a name in the folder.
    pub fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // There is no caller left for an error.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A child process that is killed and waited for on drop.
pub struct Process(Child);

impl Process {
    /// Starts a part of this very program; its output goes to `out` and `err`.
    pub fn part(arguments: &[impl AsRef<OsStr>], out: Stdio, err: Stdio) -> Result<Process, String> {
        Process::start(&own_path()?, arguments, out, err)
    }

    fn start(program: &Path, arguments: &[impl AsRef<OsStr>], out: Stdio, err: Stdio) -> Result<Process, String> {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(out).stderr(err).env_remove("TOLLGATE_LOG");
        // A group of its own: Ctrl-C is for the demo, which then ends its children in order.
        let child =
            command.process_group(0).spawn().map_err(|e| format!("{} cannot be started: {e}", program.display()))?;
        Ok(Process(child))
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Kills at once, as `kill -9` does.
    pub fn kill(&mut self) -> Result<(), String> {
        self.0.kill().and_then(|()| self.0.wait()).map(drop).map_err(|e| format!("process {}: {e}", self.id()))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<(), String> {
        let signalled = kill_process(Pid::from_child(&self.0), Signal::TERM);
        signalled.map_err(|e| format!("process {}: {e}", self.id()))
    }

    /// The exit status, if the process has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already is not an error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports of the loopback address that stay reserved until the drop.
pub struct Ports {
    _held: Vec<TcpSocket>,
}

impl Ports {
    /// Reserves `N` ports.
    pub fn reserve<const N: usize>() -> Result<(Ports, [SocketAddr; N]), String> {
        let failed = |e: io::Error| format!("no port on 127.0.0.1: {e}");
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
        let mut sockets = vec![];
        for address in &mut addresses {
            let socket = TcpSocket::new_v4().map_err(failed)?;
            socket.set_reuseaddr(true).map_err(failed)?;
            socket.bind(*address).map_err(failed)?;
            *address = socket.local_addr().map_err(failed)?;
            sockets.push(socket);
        }
        Ok((Ports { _held: sockets }, addresses))
    }
}

/// Waits until `look` returns a value, for at most `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, limit, found).await
}

/// Waits for `found`, for at most `limit`.
pub async fn within<T>(what: &str, limit: Duration, found: impl Future<Output = T>) -> Result<T, String> {
    let waited = tokio::time::timeout(limit, found).await;
    waited.map_err(|_| format!("waited {} s for {what}, in vain", limit.as_secs()))
}

/// The gateway's program.
pub struct Tollgate(PathBuf);

impl Tollgate {
    /// The named program, else the one beside this program.
    pub fn find(named: Option<PathBuf>) -> Result<Tollgate, String> {
        let path = match named {
            // A bare name would be looked for on the PATH when it is started.
            Some(path) => std::path::absolute(&path).map_err(|e| format!("{}: {e}", path.display()))?,
            None => own_path()?.with_file_name("tollgate"),
        };
        if path.is_file() {
            return Ok(Tollgate(path));
        }
        let why = "is not there; name the gateway's program: --tollgate PATH, or build it: cargo build --release";
        Err(format!("{} {why}", path.display()))
    }

    /// Starts a command that serves until it is ended, or the demo ends; its output goes to `err`.
    pub fn serve(&self, command: &[&str], conf: &Path, err: Stdio) -> Result<Process, String> {
        let mut arguments: Vec<&OsStr> = vec!["tollgate".as_ref(), self.0.as_ref()];
        arguments.extend(command.iter().map(OsStr::new));
        arguments.extend([OsStr::new("-c"), conf.as_ref()]);
        Process::part(&arguments, Stdio::null(), err)
    }

    /// Runs a command to its end; returns whether it succeeded, and its output.
    pub async fn tool(&self, folder: &Folder, arguments: &[&str]) -> Result<(bool, String), String> {
        let path = folder.at("answer.txt");
        let failed = |e: io::Error| format!("{}: {e}", path.display());
        let out = File::create(&path).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut process = Process::start(&self.0, arguments, out.into(), err.into())?;
        let what = format!("`tollgate {}`", arguments.join(" "));
        let status = until(&what, Duration::from_secs(15), async || process.ended()).await?;
        Ok((status.success(), fs::read_to_string(&path).map_err(failed)?))
    }
}

/// Replaces this process by another program, which ends when the demo does.
pub fn turn_into(program: &Path, arguments: &[OsString]) -> ExitCode {
    end_with_parent();
    let replaced = Command::new(program).args(arguments).exec();
    crate::fail(format!("{} cannot be started: {replaced}", program.display()))
}

fn own_path() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| format!("the program's own path is not known: {e}"))
}

/// Asks the kernel, if it supports that, to end this process when its parent ends.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}
