//! A ledger process with all five channels and two merchants, its folder, its disk, and its books over HTTP.
//!
//! `state/` in its folder is what may fail and be lost; configuration, secrets and what the processes say lie beside it.
//! A second process on the same store is another [`Process`] of the same [`Ledger`].

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::client::{Answer, Connection, Request, get};
use super::clock::Clock;
use super::disk::Disk;
use super::merchants::{MERCHANTS, Merchants};
use super::processes::kill_in_folder;
use super::providers::{APP_ID, CHANNELS, Channel, MCHID, SELLER_ID, SERIAL, hex, keys, random};
use super::wait::{PATIENCE, eventually, within};
use super::world::{executable, free_port};

/// Whose each channel's money is.
pub fn merchant_of(channel: Channel) -> &'static str {
    if matches!(channel, Channel::Alipay | Channel::Card | Channel::Generic) { MERCHANTS[0] } else { MERCHANTS[1] }
}

/// A ledger and its surroundings.
pub struct Ledger {
    folder: TempDir,
    /// Under `state/`.
    pub disk: Disk,
    pub merchants: Merchants,
    /// The platform's.
    pub token: String,
    /// `sqlite:ledger.db`, or of PostgreSQL.
    store: String,
    /// More tables of the configuration.
    pub more: String,
    /// Every secret that was written into a file.
    pub secrets: Vec<String>,
    processes: usize,
}

/// `tollgate ledger run`, which may be killed and run again.
pub struct Process {
    pub port: u16,
    name: String,
    folder: PathBuf,
    child: Option<Child>,
    /// Within `tollgate run`.
    embedded: bool,
    /// The file of the clock it goes by, where that is not this machine's.
    clock: Option<Clock>,
}

impl Ledger {
    /// A folder with a configuration, on SQLite; no process yet.
    pub fn prepare() -> Ledger {
        Self::on("sqlite:ledger.db")
    }

    /// The same on another store.
    pub fn on(store: &str) -> Ledger {
        let folder = tempfile::Builder::new().prefix("tollgate-it-ledger-").tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let disk = Disk::under(&folder.path().join("state"));
        let (merchants, token) = (Merchants::start(), hex(&random::<24>()));
        let mut ledger = Ledger {
            folder,
            disk,
            merchants,
            token,
            store: store.to_owned(),
            more: String::new(),
            secrets: vec![],
            processes: 0,
        };
        ledger.write_secrets();
        ledger
    }

    /// Its power may be lost.
    pub fn with_power(mut self) -> Ledger {
        self.disk = self.disk.with_power();
        self
    }

    /// Prepares and starts.
    #[track_caller]
    pub fn start() -> (Ledger, Process) {
        let mut ledger = Ledger::prepare();
        let process = ledger.run();
        (ledger, process)
    }

    fn write_secrets(&mut self) {
        let keys = keys();
        let key = hex(&random::<32>());
        let files = [
            ("ledger.key", key.as_str()),
            ("ledger.token", &self.token),
            ("stripe.whsec", &keys.stripe),
            ("standard.whsec", &keys.standard),
            ("generic.key", &keys.generic),
            ("apiv3.key", &keys.api_v3),
            ("shop.whsec", &self.merchants.secrets[0]),
            ("stall.whsec", &self.merchants.secrets[1]),
        ];
        let folder = self.folder.path().join("secrets");
        fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
            self.secrets.push(text.to_owned());
        }
        fs::write(folder.join("alipay.pem"), &keys.alipay.public_pem).unwrap();
        fs::write(folder.join("wechat.pem"), &keys.wechat.public_pem).unwrap();
    }

    /// `[ledger]` and its tables, at this address.
    pub fn tables(&self, port: u16) -> String {
        let merchant = |channel: Channel| merchant_of(channel);
        let mut text = format!(
            "[ledger]\naddress = \"127.0.0.1:{port}\"\nstore = {:?}\n\
             encryption_key_files = [\"secrets/ledger.key\"]\ntoken_file = \"secrets/ledger.token\"\n\
             delivery_backoff = [{}]\ndelivery_timeout = \"5s\"\n",
            self.store,
            ["\"100ms\""; 200].join(", ")
        );
        for channel in CHANNELS {
            let keys = match channel {
                Channel::Alipay => format!(
                    "provider = \"alipay\"\napp_id = \"{APP_ID}\"\nseller_id = \"{SELLER_ID}\"\n\
                     public_key_files = [\"secrets/alipay.pem\"]"
                ),
                Channel::Wechat => format!(
                    "provider = \"wechatpay\"\nmchid = \"{MCHID}\"\napi_v3_key_file = \"secrets/apiv3.key\"\n\
                     platform_keys = [{{ serial = \"{SERIAL}\", file = \"secrets/wechat.pem\" }}]"
                ),
                Channel::Card => "provider = \"stripe\"\nsecret_files = [\"secrets/stripe.whsec\"]\n\
                     fee = { percent = 0.6, fixed_minor = 3, minimum_minor = 5, rounding = \"half_even\" }"
                    .to_owned(),
                Channel::Standard => {
                    "provider = \"standardwebhooks\"\nsecret_files = [\"secrets/standard.whsec\"]".to_owned()
                }
                Channel::Generic => "provider = \"hmac\"\nsecret_files = [\"secrets/generic.key\"]\n\
                     header = \"x-signature\"\nencoding = \"hex\""
                    .to_owned(),
            };
            text.push_str(&format!(
                "[ledger.channel.{}]\nmerchant = {:?}\n{keys}\n",
                channel.name(),
                merchant(channel)
            ));
        }
        for name in MERCHANTS {
            text.push_str(&format!(
                "[ledger.merchant.{name}]\nurl = \"http://{}/{name}\"\nsecret_file = \"secrets/{name}.whsec\"\n\
                 allow_private = true\n",
                self.merchants.address()
            ));
        }
        text + &self.more
    }

    /// Another process, which is not run yet. Two that run share `state/`.
    pub fn process(&mut self) -> Process {
        self.processes += 1;
        let (port, name) = (free_port(), format!("ledger{}", self.processes));
        let text = format!(
            "[server]\nthreads = 2\nstate_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:{}\"\n\
             [route.none]\nrespond = {{ status = 404 }}\n{}",
            free_port(),
            self.tables(port)
        );
        fs::write(self.path(&format!("{name}.toml")), text).unwrap();
        Process { port, name, folder: self.folder.path().to_owned(), child: None, embedded: false, clock: None }
    }

    /// Another process, which serves.
    #[track_caller]
    pub fn run(&mut self) -> Process {
        let mut process = self.process();
        process.run(&self.disk);
        process
    }

    /// Another process, which serves and goes by this clock.
    #[track_caller]
    pub fn run_by(&mut self, clock: &Clock) -> Process {
        let mut process = self.process();
        process.clock = Some(clock.clone());
        process.run(&self.disk);
        process
    }

    /// Another process, which serves within a gateway.
    #[track_caller]
    pub fn run_embedded(&mut self) -> Process {
        let mut process = self.process();
        process.embedded = true;
        process.run(&self.disk);
        process
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `tollgate ledger …` of the first process's configuration.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(executable());
        command.arg("ledger").args(arguments).args(["-c", "ledger1.toml"]).stdin(Stdio::null());
        command.current_dir(self.folder.path()).output().unwrap()
    }
}

impl Process {
    /// Starts it and waits until it serves.
    #[track_caller]
    pub fn run(&mut self, disk: &Disk) {
        self.spawn(disk);
        let served = within(PATIENCE, || self.stands(200));
        assert_eq!(served, Some(true), "the ledger does not serve: {}", self.messages());
    }

    /// Starts it. What it says is added to what was said before.
    pub fn spawn(&mut self, disk: &Disk) {
        let open = |end: &str| {
            let path = self.folder.join(format!("{}.{end}", self.name));
            File::options().create(true).append(true).open(path).unwrap()
        };
        let mut command = Command::new(executable());
        let words: &[&str] = if self.embedded { &["run"] } else { &["ledger", "run"] };
        command.args(words).args(["-c", &format!("{}.toml", self.name)]).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(open("out")).stderr(open("err"));
        let command = disk.over(&mut command);
        if let Some(clock) = &self.clock {
            clock.over(command);
        }
        self.child = Some(command.spawn().unwrap());
    }

    /// Whether `/readyz` says this; false where it has ended.
    fn stands(&mut self, status: u16) -> Option<bool> {
        if self.child.as_mut()?.try_wait().unwrap().is_some() {
            return Some(false);
        }
        (self.ready() == Some(status)).then_some(true)
    }

    /// What `/readyz` says.
    pub fn ready(&self) -> Option<u16> {
        self.ask(&get("/readyz")).ok().map(|answer| answer.status)
    }

    /// Waits until `/readyz` says this.
    #[track_caller]
    pub fn becomes(&mut self, status: u16) {
        let seen = within(PATIENCE, || self.stands(status));
        assert_eq!(seen, Some(true), "/readyz is {:?}, not {status}: {}", self.ready(), self.messages());
    }

    /// Asks over a connection of its own.
    pub fn ask(&self, request: &Request) -> io::Result<Answer> {
        Connection::to(self.port)?.ask(request)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it runs")), signal).unwrap();
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Waits for it to end.
    pub fn ended(&mut self) -> ExitStatus {
        let child = self.child.as_mut().expect("it runs");
        let status = eventually("the end of the ledger", || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// `tollgate upgrade` of it.
    #[track_caller]
    pub fn upgrade(&self) -> Output {
        let mut command = Command::new(executable());
        command.args(["upgrade", "-c", &format!("{}.toml", self.name)]).current_dir(&self.folder);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// What it said on stderr, in all its lives.
    pub fn messages(&self) -> String {
        fs::read_to_string(self.folder.join(format!("{}.err", self.name))).unwrap_or_default()
    }

    /// The books as this process tells them.
    pub fn books<'a>(&'a self, token: &'a str) -> Books<'a> {
        Books { port: self.port, token }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.embedded {
            kill_in_folder(&self.folder);
        }
        let said = self.messages();
        if std::thread::panicking() {
            let end = said.char_indices().rev().nth(4000).map_or(0, |(at, _)| at);
            eprintln!("--- {} said, in the end:\n{}\n---", self.name, &said[end..]);
        }
        assert!(std::thread::panicking() || !said.contains("panicked at"), "the ledger panicked: {said}");
    }
}

/// The books over HTTP.
#[derive(Clone, Copy)]
pub struct Books<'a> {
    port: u16,
    token: &'a str,
}

impl Books<'_> {
    /// One document.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let request = get(path).header("authorization", format!("Bearer {}", self.token));
        let answer = Connection::to(self.port).and_then(|mut connection| connection.ask(&request));
        let answer = answer.unwrap_or_else(|e| panic!("no answer to {path}: {e}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// All of a list, newest first, page after page.
    #[track_caller]
    pub fn all(&self, path: &str) -> Vec<Value> {
        let mut rows = vec![];
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=1000{cursor}"));
            rows.extend(page["data"].as_array().expect("a list").iter().cloned());
            let Some(next) = page["next"].as_str() else { return rows };
            let next = percent_encoding::utf8_percent_encode(next, percent_encoding::NON_ALPHANUMERIC);
            cursor = format!("&cursor={next}");
        }
    }
}

/// Every file below a folder.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
