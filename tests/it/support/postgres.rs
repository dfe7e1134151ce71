//! A PostgreSQL server of a test's own: in a temporary folder, on a port the kernel assigns, which can be stopped,
//! killed and started again. It refuses to run as root, so root runs it as another user.

use std::fs;
use std::io::Read;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use postgres::{Client, NoTls};
use rustix::process::{Pid, Signal, getuid, kill_process};
use tempfile::TempDir;

use super::wait::{PATIENCE, within};
use super::world::free_port;

/// How long a server may take that was killed while a million rows were read and written.
const RECOVERY: Duration = Duration::from_secs(120);

/// A server.
pub struct Postgres {
    pub port: u16,
    folder: TempDir,
    settings: Vec<String>,
    child: Option<Child>,
}

const MISSING: &str =
    "PostgreSQL is missing; install it: sudo apt-get install postgresql (or run scripts/test as root)";

/// Where its programs are: Debian keeps them off the PATH.
fn programs() -> PathBuf {
    let configured = Command::new("pg_config").arg("--bindir").output().ok();
    let configured = configured.map(|said| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim()));
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    versions.sort_by_key(|path| {
        path.parent().and_then(|version| version.file_name()?.to_str()?.parse::<u32>().ok()).unwrap_or(0)
    });
    let others = ["/usr/local/pgsql/bin", "/usr/local/bin", "/usr/bin"].map(PathBuf::from);
    let mut places = configured.into_iter().chain(versions.into_iter().rev()).chain(others);
    places.find(|path| path.join("initdb").exists() && path.join("postgres").exists()).expect(MISSING)
}

/// Whom root runs it as.
fn user() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user that is not root"))
}

fn command(program: &str) -> Command {
    let program = programs().join(program);
    let Some((user, group)) = user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).arg("--clear-groups").arg(program);
    command
}

impl Postgres {
    /// A server as it comes.
    pub fn start() -> Postgres {
        Self::with(&[])
    }

    /// A server with these settings.
    pub fn with(settings: &[(&str, &str)]) -> Postgres {
        let folder = tempfile::Builder::new().prefix("tollgate-it-postgres-").tempdir().unwrap();
        if let Some((user, group)) = user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let made = command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=tollgate", "--encoding=UTF8", "--locale=C", "--pgdata"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut server = Postgres { port: free_port(), folder, settings, child: None };
        server.again();
        server
    }

    /// A standby that has all that this server has, and must confirm each commit from now on.
    pub fn standby(&self) -> Postgres {
        let folder = tempfile::Builder::new().prefix("tollgate-it-standby-").tempdir().unwrap();
        if let Some((user, group)) = user() {
            chown(folder.path(), Some(user), Some(group)).unwrap();
        }
        let copied = command("pg_basebackup")
            .args(["--no-sync", "--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--pgdata"])
            .arg(folder.path().join("data"))
            .args(["--dbname", &format!("postgres://tollgate@127.0.0.1:{}", self.port)])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(copied.status.success(), "pg_basebackup: {}", String::from_utf8_lossy(&copied.stderr));
        let mut standby = Postgres { port: free_port(), folder, settings: vec![], child: None };
        standby.again();
        let mut primary = Self::client(&self.url());
        primary.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
        primary.batch_execute("SELECT pg_reload_conf()").unwrap();
        let in_step = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
        let confirms = within(PATIENCE, || (!primary.query(in_step, &[]).unwrap().is_empty()).then_some(()));
        assert!(confirms.is_some(), "the standby does not follow: {}", standby.said());
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        Self::client(&self.url()).query_one("SELECT pg_promote()", &[]).unwrap();
    }

    /// Starts it, on the same port.
    pub fn again(&mut self) {
        assert!(self.child.is_none(), "it runs");
        // After a kill the last of its processes may still be there, for as long as what they are asked takes: then it does
        // not start yet. What was not written back is written again first.
        let started = within(RECOVERY, || {
            let mut child = self.spawn();
            let up = within(RECOVERY, || {
                if child.try_wait().unwrap().is_some() {
                    return Some(false);
                }
                Client::connect(&self.url(), NoTls).is_ok().then_some(true)
            });
            if up == Some(true) {
                self.child = Some(child);
                return Some(());
            }
            let _ = child.kill();
            let _ = child.wait();
            let said = self.said();
            assert!(said.contains("in use") || said.contains("lock file"), "PostgreSQL does not start: {said}");
            std::thread::sleep(Duration::from_millis(100));
            None
        });
        assert!(started.is_some(), "PostgreSQL does not start: {}", self.said());
    }

    fn spawn(&self) -> Child {
        let log = fs::File::create(self.log()).unwrap();
        let mut command = command("postgres");
        command.arg("-D").arg(self.folder.path().join("data")).args(["-p", &self.port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=30"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("postgres.log")
    }

    /// The folder of all its tables.
    pub fn tables(&self) -> PathBuf {
        self.folder.path().join("data/base")
    }

    /// What it wrote into its log.
    pub fn said(&self) -> String {
        let mut said = vec![];
        let _ = fs::File::open(self.log()).and_then(|mut file| file.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    }

    /// Where it listens, with the database that is always there.
    pub fn url(&self) -> String {
        self.database("postgres")
    }

    /// The URL of a database.
    pub fn database(&self, name: &str) -> String {
        format!("postgres://tollgate@127.0.0.1:{}/{name}?sslmode=disable", self.port)
    }

    /// The URL of both servers: whichever writes is taken.
    pub fn url_with(&self, other: &Postgres) -> String {
        let (one, other) = (self.port, other.port);
        format!("postgres://tollgate@127.0.0.1:{one},127.0.0.1:{other}/postgres?sslmode=disable")
    }

    /// A connection to a database by its URL.
    pub fn client(url: &str) -> Client {
        Client::connect(url, NoTls).unwrap()
    }

    /// Makes a database; its URL.
    pub fn create(&self, name: &str) -> String {
        Self::client(&self.url()).batch_execute(&format!("CREATE DATABASE {name}")).unwrap();
        self.database(name)
    }

    /// Ends it as an operator does: sessions are cut off, everything is written.
    pub fn stop_fast(&mut self) {
        self.end(Signal::INT);
    }

    /// Kills it: it has to recover.
    pub fn kill9(&mut self) {
        self.end(Signal::KILL);
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let _ = kill_process(Pid::from_child(&child), signal);
        if within(PATIENCE, || child.try_wait().ok().flatten()).is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // At once, without a checkpoint.
        self.end(Signal::QUIT);
    }
}
