//! One gateway process with a folder, a configuration and ports of its own; all of it is gone with the test.
//!
//! A configuration is written without what every test needs: `[[listener]]`, `[admin]`, `[log]` and `[server]` are
//! added where it has none. `$LISTEN` and `$ADMIN` in it stand for the addresses.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Connection, Request, get, post};
use super::disk::Disk;
use super::processes::{in_folder, kill_in_folder};
use super::wait::{eventually, within};

/// A gateway and its surroundings.
pub struct World {
    folder: TempDir,
    pub port: u16,
    pub admin_port: u16,
    process: Option<Child>,
    /// Read from `[admin] token_file` by the test that writes one.
    pub token: Option<String>,
    /// What its process finds in its environment; of a disk that fails on demand, and what else a test sets.
    pub layer: Vec<(OsString, OsString)>,
    /// Started instead of the one under test.
    pub executable: PathBuf,
}

/// Messages that a failing test shows.
const LINES_SHOWN: usize = 30;

/// The executable under test. It is started in other folders, so its path is absolute.
pub fn executable() -> PathBuf {
    let named = std::env::var_os("TOLLGATE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_tollgate").into());
    std::path::absolute(named).unwrap()
}

/// A port that was free a moment ago. It lies below those that the kernel gives to outgoing connections (from 32768
/// on), else one of them could take it while a server is started again.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two runs at once begin at different places.
    let begin = std::process::id().wrapping_mul(7919);
    let mut ports = std::iter::repeat_with(|| {
        let n = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        10_240 + (n % 20_000) as u16
    });
    ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()).unwrap()
}

impl World {
    /// Starts a gateway with this configuration and waits until it serves.
    #[track_caller]
    pub fn start(config: &str) -> World {
        let mut world = World::prepare();
        world.boot(config);
        world
    }

    /// A folder and ports, and no gateway yet.
    pub fn prepare() -> World {
        let folder = tempfile::Builder::new().prefix("tollgate-it-").tempdir().unwrap();
        World {
            folder,
            port: free_port(),
            admin_port: free_port(),
            process: None,
            token: None,
            layer: vec![],
            executable: executable(),
        }
    }

    /// From its next start on it runs over this disk.
    pub fn layered(&mut self, disk: &Disk) {
        let mut command = Command::new("true");
        let set = disk.over(&mut command).get_envs();
        self.layer = set.filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
    }

    /// Writes the configuration and starts; with other ports when somebody was quicker.
    #[track_caller]
    pub fn boot(&mut self, config: &str) {
        for _ in 0..5 {
            self.write(config);
            if self.run() {
                return;
            }
            assert!(self.messages().contains("Address already in use"), "no start: {}", self.messages());
            (self.port, self.admin_port) = (free_port(), free_port());
        }
        panic!("no free ports");
    }

    /// Starts the process with the configuration as it stands; whether it serves.
    pub fn run(&mut self) -> bool {
        self.spawn(&self.config_path());
        let served = within(super::wait::PATIENCE, || {
            if self.process.as_mut()?.try_wait().unwrap().is_some() {
                return Some(false);
            }
            let ready = Connection::to(self.admin_port).and_then(|mut c| c.ask(&self.with_host(get("/readyz"))));
            ready.is_ok_and(|answer| answer.status == 200).then_some(true)
        });
        served.expect("the gateway neither serves nor ends")
    }

    /// Starts the process with `-c path`.
    pub fn spawn(&mut self, path: &Path) {
        let messages = fs::File::create(self.path("messages.log")).unwrap();
        let lines = fs::File::create(self.path("stdout.log")).unwrap();
        let child = Command::new(&self.executable)
            .args(["run", "-c"])
            .arg(path)
            .current_dir(self.folder.path())
            .env("USER", "tester")
            .envs(self.layer.iter().cloned())
            .stdin(Stdio::null())
            .stdout(lines)
            .stderr(messages)
            .spawn();
        self.process = Some(child.unwrap_or_else(|e| panic!("{} does not start: {e}", self.executable.display())));
    }

    /// A command of the same executable, in this folder.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(executable());
        command.args(arguments).current_dir(self.folder.path()).env("USER", "tester").stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The process's number.
    pub fn pid(&self) -> Pid {
        Pid::from_child(self.process.as_ref().expect("it runs"))
    }

    /// Waits for the process to end.
    pub fn ended(&mut self) -> ExitStatus {
        let mut child = self.process.take().expect("it runs");
        eventually("the end of the gateway", || child.try_wait().unwrap())
    }

    /// Waits for the end of the process, which must be a good one.
    #[track_caller]
    pub fn ends_well(&mut self) {
        let status = self.ended();
        assert!(status.success(), "{status}: {}", self.messages());
    }

    /// Ends the process with SIGTERM and waits.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        self.ends_well();
    }

    /// Every process that works in the folder.
    pub fn processes(&self) -> Vec<Pid> {
        in_folder(self.folder.path())
    }

    /// Whether the process has not ended.
    pub fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `-c` names.
    pub fn config_path(&self) -> PathBuf {
        self.path("tollgate.toml")
    }

    /// Replaces the configuration, atomically.
    pub fn write(&self, config: &str) {
        self.write_as("tollgate.toml", self.complete(config).as_bytes());
    }

    /// Replaces a file of the folder, atomically.
    pub fn write_as(&self, name: &str, content: &[u8]) {
        fs::write(self.path(".new"), content).unwrap();
        fs::rename(self.path(".new"), self.path(name)).unwrap();
    }

    /// The configuration with what it does not say.
    pub fn complete(&self, config: &str) -> String {
        let mut text = String::new();
        for (header, table) in [
            ("[server]", "[server]\nthreads = 2\n"),
            ("[[listener]]", "[[listener]]\naddress = \"$LISTEN\"\n"),
            ("[admin]", "[admin]\naddress = \"$ADMIN\"\n"),
            ("[log]", "[log]\naccess = \"./access.log\"\n"),
        ] {
            if !config.contains(header) {
                text.push_str(table);
            }
        }
        text.push_str(config);
        text.replace("$LISTEN", &format!("127.0.0.1:{}", self.port))
            .replace("$ADMIN", &format!("127.0.0.1:{}", self.admin_port))
    }

    /// A connection to the listener.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::to(self.port).expect("the listener takes connections")
    }

    /// Asks over a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: Request) -> Answer {
        self.try_ask(&request).unwrap_or_else(|e| panic!("no answer to {request:?}: {e}"))
    }

    /// Asks over a connection of its own; an error where no whole answer comes.
    pub fn try_ask(&self, request: &Request) -> io::Result<Answer> {
        Connection::to(self.port)?.ask(request)
    }

    /// Asks from another address of this machine.
    #[track_caller]
    pub fn ask_from(&self, source: [u8; 4], request: Request) -> Answer {
        let mut connection = Connection::from(source.into(), self.port).expect("the listener takes connections");
        connection.ask(&request).unwrap_or_else(|e| panic!("no answer to {request:?}: {e}"))
    }

    fn with_host(&self, request: Request) -> Request {
        let request = request.header("host", format!("127.0.0.1:{}", self.admin_port));
        match &self.token {
            Some(token) => request.header("authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    /// Asks the admin listener.
    #[track_caller]
    pub fn admin(&self, request: Request) -> Answer {
        self.admin_raw(self.with_host(request))
    }

    /// Asks the admin listener with the request's own Host and no token.
    #[track_caller]
    pub fn admin_raw(&self, request: Request) -> Answer {
        let asked = Connection::to(self.admin_port).and_then(|mut connection| connection.ask(&request));
        asked.unwrap_or_else(|e| panic!("no answer from the admin listener: {e}; {}", self.messages()))
    }

    /// `GET /api/v1/config`
    #[track_caller]
    pub fn config(&self) -> Value {
        self.admin(get("/api/v1/config")).json()
    }

    /// The revision that is served.
    #[track_caller]
    pub fn revision(&self) -> u64 {
        self.config()["revision"].as_u64().unwrap()
    }

    /// Replaces the configuration and waits until it is served.
    #[track_caller]
    pub fn push(&self, config: &str) {
        self.write(config);
        let answer = self.admin(post("/api/v1/config/reload", ""));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// What is said of a server in `GET /api/v1/upstreams`.
    #[track_caller]
    pub fn server(&self, address: &str) -> Value {
        let upstreams = self.admin(get("/api/v1/upstreams")).json();
        let servers = upstreams.as_array().unwrap().iter().flat_map(|u| u["servers"].as_array().unwrap());
        servers.into_iter().find(|server| server["server"] == address).cloned().unwrap_or_default()
    }

    /// Sum of the series of a metric that have these labels, `name="value"` each.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.admin(get("/metrics")).text();
        let series = text.lines().filter(|line| {
            let named = line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
            named && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until a metric has a value.
    #[track_caller]
    pub fn metric_reaches(&self, name: &str, labels: &[&str], value: f64) {
        let seen = within(super::wait::PATIENCE, || (self.metric(name, labels) == value).then_some(()));
        assert!(seen.is_some(), "{name} {labels:?} is {}, not {value}", self.metric(name, labels));
    }

    /// Lines of the access log so far.
    pub fn log_lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("access.log")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }

    /// Waits for the line of the request to this path.
    #[track_caller]
    pub fn log_line(&self, path: &str) -> Value {
        eventually("a line in the access log", || self.log_lines().into_iter().find(|line| line["path"] == path))
    }

    /// What the process said on stderr.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.path("messages.log")).unwrap_or_default()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_in_folder(self.folder.path());
        let said = self.messages();
        if std::thread::panicking() && !said.is_empty() {
            let lines: Vec<&str> = said.lines().collect();
            let end = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!("--- the gateway said, in the end:\n{}\n---", lines[end..].join("\n"));
        }
        assert!(std::thread::panicking() || !said.contains("panicked at"), "the gateway panicked: {said}");
        assert!(
            std::thread::panicking() || !said.contains("nothing moved for longer"),
            "the last resort was needed: {said}"
        );
    }
}
