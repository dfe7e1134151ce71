//! The checks from the file form to the model: names resolve, files are read, values that depend on each other agree.
//!
//! Everything is checked, whatever was found before. But a table that could not be read whole is never said to lack
//! something, since the misspelt key is the finding. Defaults are in the form already (`file::defaults`): a key with a
//! default is absent only where it could not be read, and then nothing is served. Of two things that collide the later
//! one gets the finding, which names the earlier one.

pub mod caller;
pub mod cohort;
pub mod files;
pub mod ledger;
pub mod listener;
pub mod names;
pub mod notify;
pub mod release;
pub mod release_conflicts;
pub mod route;
pub mod route_conflicts;
pub mod unreachable;
pub mod upstream;
pub mod users;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::file::located::Located;
use super::file::number::{Number, Percent};
use super::file::scalar::{OneOf, Size, Text, Word};
use super::file::{self, AccessLogTarget, ConfigForm, Item, Sub, defaults};
use super::findings::Findings;
use super::model::{AccessLog, Admin, Config, Log, Reload, Server};
use super::source::Source;
use super::source_map::{SourceMap, Span};
use base::machine;
use base::units::Share;

/// The least value of `memory_max`.
const MEMORY_LEAST: u64 = 16 << 20;

/// The state that the checks of all tables share.
pub struct Check<'c, 'p> {
    source: &'c Source,
    places: &'c SourceMap,
    pub(crate) findings: &'c mut Findings<'p>,
    /// Files read besides the configuration itself.
    files: BTreeSet<PathBuf>,
}

/// Checks the whole form. The result may be served only if there are no findings, now or before.
pub fn check(form: &ConfigForm, source: &Source, places: &SourceMap, findings: &mut Findings<'_>) -> Option<Config> {
    let mut check = Check { source, places, findings, files: BTreeSet::new() };
    let server = check.server(form.server.as_ref());
    let listeners = check.listeners(form);
    let admin = form.admin.as_ref().and_then(|item| check.admin(item, &form.listeners));
    let trusted = form.trusted.as_ref().map(|item| item.form.proxies.iter().map(|at| at.value.0).collect());
    let log = check.log(form.log.as_ref());
    let reload = reload(form.reload.as_ref());
    let upstreams = form.upstreams.iter().filter_map(|item| check.upstream(item)).collect();
    let auths = form.auths.iter().filter_map(|item| check.auth(item)).collect();
    let limits = form.limits.iter().map(|item| check.limit(item)).collect();
    let apps = check.apps(form);
    let routes = check.routes(form);
    let cohorts = form.cohorts.iter().map(|item| check.cohort(item)).collect();
    let releases = check.releases(form);
    let notify = form.notify.iter().filter_map(|item| check.notify(item)).collect();
    let ledger = check.ledger(form, &server.state_dir);
    let config = Config {
        server,
        listeners,
        admin,
        trusted: trusted.unwrap_or_default(),
        log,
        reload,
        upstreams,
        routes,
        auths,
        apps,
        limits,
        cohorts,
        releases,
        notify,
        ledger,
        files: check.files.into_iter().collect(),
    };
    (findings.count() == 0).then_some(config)
}

impl Check<'_, '_> {
    fn server(&mut self, item: Option<&Item<file::ServerForm>>) -> Server {
        let default = defaults::left_out("server");
        let form = item.map_or(&default, |item| &item.form);
        let memory = form.memory_max.as_ref();
        if let Some(at) = memory.filter(|at| (1..MEMORY_LEAST).contains(&at.value.0.0)) {
            let hint = "at least \"16MiB\", or \"0B\" for a quarter of the machine's memory";
            self.findings.at(&at.span, "with so little memory hardly a request could be served", hint);
        }
        let state_dir = form.state_dir.as_ref().map_or("", |at| &at.value.0.0);
        Server {
            threads: number(&form.threads) as usize,
            state_dir: self.source.root.join(state_dir),
            shutdown_grace: duration(&form.shutdown_grace),
            max_connections: match number(&form.max_connections) {
                0 => (machine::open_files() / 10 * 9).max(1),
                max => max as usize,
            },
            memory_max: match memory.map_or(0, |at| at.value.0.0) {
                0 => machine::memory() / 4,
                max => max,
            },
            place: item.map_or_else(|| self.places.nowhere(), |item| self.places.place(&item.span)),
        }
    }

    fn admin(
        &mut self,
        item: &Item<file::AdminForm>,
        listeners: &[Item<file::listener::ListenerForm>],
    ) -> Option<Admin> {
        let form = &item.form;
        let token = form.token_file.as_ref().map(|at| self.token(at));
        let (address, span) = address_of(item, form.address.as_ref())?;
        let others = listeners.iter().filter_map(|item| item.form.address.as_ref());
        if let Some(other) = others.into_iter().find(|other| collide(other.value.0, address)) {
            self.collision(span, &format!("a listener has `{address}` already"), &other.span);
        }
        if form.token_file.is_none() && !address.ip().is_loopback() && item.whole {
            let hint = "add `token_file = \"secrets/admin.token\"`, or listen on 127.0.0.1";
            self.findings.at(span, "the admin address is not a loopback one and needs a `token_file`", hint);
        }
        Some(Admin { address, token: token.flatten(), place: self.places.place(span) })
    }

    fn log(&mut self, item: Option<&Item<file::LogForm>>) -> Log {
        let default = defaults::left_out("log");
        let form = item.map_or(&default, |item| &item.form);
        let access = match form.access.as_ref().map(|at| (&at.value.0, &at.span)) {
            None | Some((AccessLogTarget::Stdout, _)) => AccessLog::Stdout,
            Some((AccessLogTarget::Off, _)) => AccessLog::Off,
            Some((AccessLogTarget::File(path), span)) => {
                let path = self.source.root.join(path);
                if path.is_dir() || !path.parent().is_some_and(|folder| folder.is_dir()) {
                    let message =
                        format!("the access log cannot be written: {} is not a file in a folder", path.display());
                    self.findings.at(span, message, "make the folder first, or name a file in one that is there");
                }
                AccessLog::File(path)
            }
        };
        Log { access, sample: share(&form.sample_percent) }
    }

    /// Adds a finding for a missing key, in a table that could be read whole.
    fn missing(&mut self, whole: bool, table: &Span, key: &str, example: &str) {
        if whole {
            self.findings.at(table, format!("`{key}` is missing"), format!("add it: {example}"));
        }
    }

    /// Adds a finding for two things that collide; `first` is the one that may stay.
    pub(crate) fn collision(&mut self, at: &Span, message: &str, first: &Span) {
        let place = self.places.place(first);
        self.findings.at(at, message, format!("the other one is at {}:{}; keep one", place.file, place.line));
    }

    /// A duration that must be longer than zero.
    fn positive(&mut self, written: &Option<Word<Duration>>) -> Duration {
        written.as_ref().map_or(Duration::ZERO, |at| self.longer_than_nothing(at))
    }

    fn longer_than_nothing(&mut self, at: &Word<Duration>) -> Duration {
        if at.value.0.is_zero() {
            self.findings.at(&at.span, "this must be longer than nothing", "such as \"1s\"");
        }
        at.value.0
    }
}

fn reload(item: Option<&Item<file::ReloadForm>>) -> Reload {
    let default = defaults::left_out("reload");
    let form = item.map_or(&default, |item| &item.form);
    Reload {
        watch: form.watch.unwrap_or_default(),
        removal_max: share(&form.removal_max_percent),
        history: number(&form.history) as usize,
    }
}

/// Whether two sockets cannot both listen. Port 0 is a new port each time.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let overlap = a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
    one.port() == other.port() && one.port() != 0 && overlap
}

fn number<const MIN: u64, const MAX: u64>(written: &Option<Located<Number<MIN, MAX>>>) -> u64 {
    written.as_ref().map_or(MIN, |at| at.value.0)
}

fn share<const MAX: u32>(written: &Option<Located<Percent<MAX>>>) -> Share {
    written.as_ref().map_or(Share::ALL, |at| at.value.0)
}

fn duration(written: &Option<Word<Duration>>) -> Duration {
    written.as_ref().map_or(Duration::ZERO, |at| at.value.0)
}

fn size(written: &Option<Word<Size>>) -> u64 {
    written.as_ref().map_or(0, |at| at.value.0.0)
}

/// A table in a table, or its substitute.
fn table<'t, T>(written: &'t Sub<T>, none: &'t T) -> &'t T {
    written.as_ref().map_or(none, |at| &at.value.0)
}

/// A word from a list of words.
fn word<T: OneOf>(written: &Option<Word<T>>) -> T {
    written.as_ref().map_or_else(|| T::WORDS[0].1.clone(), |at| at.value.0.clone())
}

/// The address of a table, with its place: a default has the place of its table.
fn address_of<'i, T>(item: &'i Item<T>, address: Option<&'i Word<SocketAddr>>) -> Option<(SocketAddr, &'i Span)> {
    let at = address?;
    Some((at.value.0, if at.is_written() { &at.span } else { &item.span }))
}

/// The values without their places.
pub(crate) fn spelt<T: Clone>(words: &[Word<T>]) -> Vec<T> {
    words.iter().map(|Located { value: Text(value), .. }| value.clone()).collect()
}

/// Finds the values that occur twice, each with the span of the one before.
pub(crate) fn twice<'a, T: Eq + std::hash::Hash + 'a>(
    values: impl Iterator<Item = (T, &'a Span)>,
) -> Vec<(&'a Span, &'a Span)> {
    let mut seen: HashMap<T, &Span> = HashMap::new();
    let mut found = Vec::new();
    for (value, span) in values {
        if let Some(first) = seen.insert(value, span) {
            found.push((span, first));
        }
    }
    found
}
