//! The story: its acts in order, the promises made in them, and its end.
//!
//! A promise is a fact that the load or the gateway's own API can show. A broken promise does not end the story, so
//! that one run shows all that is wrong. Only a failed wait ends it, since then there is nothing to go on with.

mod books;
mod death;
mod fault;
mod front;
mod payments;
mod purchase;
mod push;
mod release;
mod start;
mod stop;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Serialize;
use serde_json::json;

use crate::admin::Admin;
use crate::backend::Account;
use crate::book::{Book, Counts, Ticket};
use crate::client::{self, Answer, PATIENCE};
use crate::conf::{BACKENDS, Conf, SHOP};
use crate::door::{Broken, Connection, Door};
use crate::load::Load;
use crate::payment::Secrets;
use crate::stage::{Folder, Ports, Process, Tollgate, until};
use crate::tell::Tell;
use base::clock;
use base::units::Nanos;

/// The longest wait for anything but a request.
const LIMIT: Duration = Duration::from_secs(15);
/// Lines of a log that are shown after a broken promise.
const LOG_TAIL: usize = 15;

/// A promise, and whether it was kept.
#[derive(Serialize)]
struct Promise {
    promise: String,
    kept: bool,
}

/// The state of the story. Fields are dropped in this order: the load first, the folder last.
struct Story<'a> {
    tell: &'a Tell,
    tollgate: Tollgate,
    load: Option<Load>,
    visitor: Visitor,
    gateway: Process,
    backends: Vec<Process>,
    conf: Conf,
    secrets: Secrets,
    admin: Admin,
    book: Arc<Book>,
    phase: Ticket,
    promises: Vec<Promise>,
    folder: Folder,
    _ports: Ports,
}

/// The result of the story.
pub struct Outcome {
    phases: Vec<Counts>,
    promises: Vec<Promise>,
    stopped: Option<String>,
    logs: String,
    took: Duration,
}

/// Tells the story; an error means that it could not begin.
pub async fn tell(tell: &Tell, tollgate: Tollgate) -> Result<Outcome, String> {
    let begun = clock::now();
    tell.line("tollgate demo: three backends, a gateway before them, and a load that counts every answer.");
    tell.line("It takes about 45 seconds, stays on 127.0.0.1, and leaves nothing behind. Ctrl-C ends it.");
    let mut story = Story::begin(tell, tollgate).await?;
    let stopped = story.acts().await.err().map(|why| story.cut_short(why));
    let logs = ["gateway.log", "ledger.log"].map(|name| log_tail(&story.folder, name)).concat();
    let Story { book, promises, .. } = story;
    Ok(Outcome { phases: book.all(), promises, stopped, logs, took: clock::now().since(begun) })
}

impl Story<'_> {
    async fn acts(&mut self) -> Result<(), String> {
        self.all_serve().await?;
        self.front_door().await?;
        self.one_dies().await?;
        self.one_fails().await?;
        self.new_route().await?;
        self.ten_pushes().await?;
        self.bad_push().await?;
        self.way_back().await?;
        self.good_release().await?;
        self.bad_release().await?;
        let paid = self.payments().await?;
        self.books_agree(paid).await?;
        self.graceful_stop().await
    }

    /// Notes a promise, and prints whether it was kept.
    fn promise(&mut self, kept: bool, text: impl Into<String>) {
        let promise = text.into();
        self.tell.promise(kept, &promise);
        self.promises.push(Promise { promise, kept });
    }

    /// Ends the current phase once no request of it is in flight, and begins the next one.
    async fn turn(&mut self, next: &'static str) -> Result<Counts, String> {
        let ended = std::mem::replace(&mut self.phase, self.book.begin(next));
        self.settle(ended).await
    }

    /// Why the story could not go on, with the counts of the current phase.
    fn cut_short(&mut self, why: String) -> String {
        let counts = self.book.counts(self.phase);
        if counts.failed > 0 {
            self.tell.counts(&counts);
            self.promise(false, format!("{}: no request failed", counts.phase));
        }
        match self.gateway.ended() {
            Some(status) if !status.success() => format!("{why}; the gateway has ended ({status})"),
            _ => why,
        }
    }

    /// Waits for a phase's last answers, prints its counts, and checks the promise that nothing failed.
    async fn settle(&mut self, phase: Ticket) -> Result<Counts, String> {
        let book = self.book.clone();
        let settled = async || book.is_settled(phase).then_some(());
        until("the answers in flight", PATIENCE + LIMIT, settled).await?;
        let counts = book.counts(phase);
        self.tell.counts(&counts);
        self.promise(counts.failed == 0, format!("{}: no request failed", counts.phase));
        if counts.closed > 0 {
            self.promise(false, format!("{}: no connection was closed unasked", counts.phase));
        }
        Ok(counts)
    }

    /// Writes the configuration beside its place and renames it over the old one; returns when that began.
    fn push(&self) -> Result<Nanos, String> {
        let begun = clock::now();
        let (beside, file) = (self.folder.at("gateway.toml.new"), self.folder.at("gateway.toml"));
        let pushed = std::fs::write(&beside, self.conf.text()).and_then(|()| std::fs::rename(&beside, &file));
        pushed.map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(begun)
    }

    /// Waits until a backend answers under a path; returns how long that took.
    async fn served(&mut self, path: &str, since: Nanos) -> Result<Duration, String> {
        let visitor = &mut self.visitor;
        let look = async || match visitor.status(path).await {
            Ok(200) => Some(Ok(clock::now().since(since))),
            Ok(404) => None,
            Ok(other) => Some(Err(format!("GET {path}: {other}"))),
            Err(why) => Some(Err(why)),
        };
        until(&format!("{path} to be answered"), LIMIT, look).await?
    }

    /// Turns the knobs of a backend; returns their settings and the counts so far.
    async fn knob(&self, backend: usize, knobs: &str) -> Result<Account, String> {
        let answer = client::once(self.conf.servers[backend], "POST", &format!("/knobs?{knobs}")).await?;
        let account = serde_json::from_str(&answer.body).ok().filter(|_| answer.status.is_success());
        account.ok_or_else(|| format!("{} refused its knobs: {}", BACKENDS[backend], answer.body))
    }

    async fn shares(&self, time: Duration) -> Counts {
        let before = self.book.counts(self.phase);
        tokio::time::sleep(time).await;
        self.book.counts(self.phase).since(&before)
    }
}

/// A client besides the load that sends requests to the gateway, over a kept connection.
struct Visitor {
    door: Door,
    connection: Option<Connection>,
    answers: u64,
}

impl Visitor {
    /// Sends a request; returns the status of the answer.
    async fn status(&mut self, path: &str) -> Result<u16, String> {
        self.ask("GET", path, &[]).await.map(|answer| answer.status.as_u16())
    }

    /// Sends a request with more headers.
    async fn ask(&mut self, method: &str, path: &str, more: &[(HeaderName, &str)]) -> Result<Answer, String> {
        loop {
            let connection = self.connection().await?;
            match connection.ask(method, path, more).await {
                Ok(answer) => {
                    self.answers += 1;
                    return Ok(answer);
                }
                Err(Broken::Unsent(_)) => {}
                Err(Broken::Lost(why)) => return Err(why),
            }
        }
    }

    /// The connection, or a new one if the last takes no more requests.
    async fn connection(&mut self) -> Result<Connection, String> {
        if !self.connection.as_ref().is_some_and(Connection::is_open) {
            self.connection = None;
        }
        match &self.connection {
            Some(connection) => Ok(connection.clone()),
            None => Ok(self.connection.insert(self.door.open().await?).clone()),
        }
    }
}

/// The last lines of a process's output.
fn log_tail(folder: &Folder, name: &str) -> String {
    let Ok(log) = std::fs::read_to_string(folder.at(name)) else { return String::new() };
    let tail: Vec<&str> = log.lines().rev().take(LOG_TAIL).collect();
    let tail: String = tail.iter().rev().map(|line| format!("\n  | {line}")).collect();
    format!("\nthe end of {name}:{tail}")
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

/// The shop's backends with their shares of the answers.
fn shares(counts: &Counts) -> String {
    let share = |name: &&str| format!("{name} {:.1} %", counts.percent(name));
    BACKENDS[..SHOP].iter().map(share).collect::<Vec<_>>().join("   ")
}

impl Outcome {
    /// Prints the result; 0 if every promise was kept.
    pub fn conclude(self, tell: &Tell) -> ExitCode {
        let Outcome { phases, promises, stopped, logs, took } = self;
        let broken: Vec<&str> = promises.iter().filter(|p| !p.kept).map(|p| &*p.promise).collect();
        let ok = broken.is_empty() && stopped.is_none();
        if tell.json {
            let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
            let summary =
                json!({ "ok": ok, "seconds": seconds, "phases": phases, "promises": promises, "error": stopped });
            crate::tell::print(format_args!("{summary:#}"));
        }
        tell.heading("Summary");
        tell.table(&phases);
        if ok {
            tell.line("");
            tell.say(format_args!("All {} promises held, in {:.0} s.", promises.len(), took.as_secs_f64()));
            tell.heading("What to try next");
            tell.say("README.md                the first gateway of your own, step by step");
            tell.say(
                "conf/quickstart.toml     the smallest useful configuration: tollgate run -c conf/quickstart.toml",
            );
            tell.say("conf/reference.toml      every key, with its default");
            tell.say("scripts/test             the tests");
            return ExitCode::SUCCESS;
        }
        let broken: String = broken.iter().map(|promise| format!("\n  broken: {promise}")).collect();
        let stopped = stopped.map(|why| format!("\n  it could not go on: {why}")).unwrap_or_default();
        crate::fail(format_args!(
            "not every promise held{broken}{stopped}{logs}\n\
                 Run it again; if it stays so, report it with all of this output."
        ))
    }
}
