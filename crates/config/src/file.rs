//! The file form of a configuration: every table and key of it, with the place of each value.
//!
//! `merge` reads the files into one tree, and `decode` turns each table of it into one of the forms here, finding
//! by finding. A value's type checks what one value alone can show; `check` checks what several values show
//! together. A key that a later version owns is [`Reserved`]: it parses and is refused. The descriptions double as
//! those of the JSON Schema.

pub mod caller;
pub mod cohort;
pub mod decode;
pub mod defaults;
pub mod http;
pub mod ledger;
pub mod listener;
pub mod located;
pub mod merge;
pub mod net;
pub mod notify;
pub mod number;
pub mod release;
pub mod route;
pub mod scalar;
pub mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;

use self::caller::{AppForm, AuthForm, LimitForm};
use self::cohort::CohortForm;
use self::ledger::channel::ChannelForm;
use self::ledger::{LedgerForm, MerchantForm};
use self::listener::ListenerForm;
use self::located::{Located, Reserved, Table};
use self::notify::NotifyForm;
use self::number::{Number, Percent};
use self::release::ReleaseForm;
use self::route::RouteForm;
use self::scalar::{FilePath, FromText, Size, Word};
use self::upstream::UpstreamForm;
use super::findings::Findings;
use super::source::Source;
use super::source_map::{SourceMap, Span};

/// The whole file form.
#[derive(Debug, Default)]
pub struct ConfigForm {
    /// `[server]`
    pub server: Option<Item<ServerForm>>,
    /// `[[listener]]`
    pub listeners: Vec<Item<ListenerForm>>,
    /// `[admin]`
    pub admin: Option<Item<AdminForm>>,
    /// `[trusted]`
    pub trusted: Option<Item<TrustedForm>>,
    /// `[log]`
    pub log: Option<Item<LogForm>>,
    /// `[reload]`
    pub reload: Option<Item<ReloadForm>>,
    /// `[upstream.*]`, in the order written
    pub upstreams: Vec<Item<UpstreamForm>>,
    /// `[route.*]`, in the order written
    pub routes: Vec<Item<RouteForm>>,
    /// `[auth.*]`, in the order written
    pub auths: Vec<Item<AuthForm>>,
    /// `[app.*]`, in the order written
    pub apps: Vec<Item<AppForm>>,
    /// `[limit.*]`, in the order written
    pub limits: Vec<Item<LimitForm>>,
    /// `[cohort.*]`, in the order written
    pub cohorts: Vec<Item<CohortForm>>,
    /// `[release.*]`, in the order written
    pub releases: Vec<Item<ReleaseForm>>,
    /// `[notify.*]`, in the order written
    pub notify: Vec<Item<NotifyForm>>,
    /// `[ledger]`
    pub ledger: Option<Item<LedgerForm>>,
    /// `[ledger.channel.*]`, in the order written
    pub channels: Vec<Item<ChannelForm>>,
    /// `[ledger.merchant.*]`, in the order written
    pub merchants: Vec<Item<MerchantForm>>,
    /// Whether every file could be parsed and every section was a table: only then can a key be reported as missing.
    pub whole: bool,
}

/// One written table.
#[derive(Debug)]
pub struct Item<T> {
    /// Its last key: `orders` of `[upstream.orders]`.
    pub name: String,
    /// The place of the table.
    pub span: Span,
    /// The part of it that could be read.
    pub form: T,
    /// Whether all of it could be read: only then can a key be reported as missing in it.
    pub whole: bool,
}

/// Stack for reading: the parser allows some thousand levels of nesting, and each needs a frame.
const STACK: usize = 64 << 20;

/// Reads every file of `source` into the form.
pub fn read(source: &Source, places: &SourceMap, findings: &mut Findings<'_>) -> ConfigForm {
    let form = std::thread::scope(|scope| {
        let read = || {
            let mut sheets = merge::sheets(source, places, findings);
            decode::document(merge::tree(&mut sheets, places, findings), findings)
        };
        let reader = std::thread::Builder::new().name("config".into()).stack_size(STACK).spawn_scoped(scope, read);
        reader.map(|reader| reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    form.unwrap_or_else(|error| {
        findings.nowhere(format!("no thread could be started to read it: {error}"), "see the limits of the process");
        ConfigForm::default()
    })
}

/// A Tollgate configuration. Several files of one folder are merged by table.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Tollgate")]
#[allow(dead_code, reason = "it is only looked at: the schema and the list of tables come from it")]
pub struct Document {
    server: Option<ServerForm>,
    // One file of a folder may lack it, so it is not required here.
    listener: Option<Vec<ListenerForm>>,
    admin: Option<AdminForm>,
    trusted: Option<TrustedForm>,
    log: Option<LogForm>,
    reload: Option<ReloadForm>,
    /// Sets of servers, by name.
    upstream: Option<BTreeMap<String, UpstreamForm>>,
    /// Which request goes where, by name. The best route wins, whatever the order.
    route: Option<BTreeMap<String, RouteForm>>,
    /// How callers of a route prove who they are, by name.
    auth: Option<BTreeMap<String, AuthForm>>,
    /// Developers' applications, by name.
    app: Option<BTreeMap<String, AppForm>>,
    /// Rate and concurrency limits, by name.
    limit: Option<BTreeMap<String, LimitForm>>,
    /// Named sets of users.
    cohort: Option<BTreeMap<String, CohortForm>>,
    /// Gray releases, by name.
    release: Option<BTreeMap<String, ReleaseForm>>,
    /// Where reports and alarms go, by name.
    notify: Option<BTreeMap<String, NotifyForm>>,
    ledger: Option<LedgerForm>,
    /// Not yet in this version: feature switches.
    flag: Option<Reserved>,
    /// Not yet in this version: where feature switches are served.
    flags: Option<Reserved>,
}

/// The process.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerForm {
    /// Worker threads. 0: one per core.
    #[schemars(extend("default" = 0))]
    pub threads: Option<Located<Number<0, 1024>>>,
    /// Folder for revisions, the state of releases, fault reports and the embedded ledger.
    #[schemars(extend("default" = "state"))]
    pub state_dir: Option<Word<FilePath>>,
    /// How long a shutdown waits for requests in flight.
    #[schemars(extend("default" = "10s"))]
    pub shutdown_grace: Option<Word<Duration>>,
    /// Client connections on all listeners together. A connection beyond it is closed unanswered. 0: nine tenths of the
    /// limit of open files.
    #[schemars(extend("default" = 0))]
    pub max_connections: Option<Located<Number<0, { u32::MAX as u64 }>>>,
    /// Memory for requests, bodies, encoders and header lists, at least "16MiB". "0B": a quarter of the machine's
    /// memory.
    #[schemars(extend("default" = "0B"))]
    pub memory_max: Option<Word<Size>>,
}

/// The operator's own listener: API, health, metrics. Absent: none.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminForm {
    /// IP address and port of API, health and metrics.
    #[schemars(extend("default" = "127.0.0.1:9900"))]
    pub address: Option<Word<SocketAddr>>,
    /// File with the bearer token. Required when the address is not a loopback address.
    pub token_file: Option<Word<FilePath>>,
}

/// Whom the gateway believes.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrustedForm {
    /// Networks whose X-Forwarded-* and PROXY headers are believed. If they call a client by something that is not an
    /// address, the client is 0.0.0.0, and any allow or deny keeps it out.
    #[schemars(extend("default" = []))]
    #[serde(default)]
    pub proxies: Vec<Word<IpNet>>,
}

/// The access log.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogForm {
    /// "stdout", "off", or a path that contains a "/".
    #[schemars(extend("default" = "stdout"))]
    pub access: Option<Word<AccessLogTarget>>,
    /// Percent of answers below 500 that are logged. The others are always logged.
    #[schemars(extend("default" = 100))]
    pub sample_percent: Option<Located<Percent<100>>>,
}

/// `log.access`, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLogTarget {
    /// `stdout`
    Stdout,
    /// `off`
    Off,
    /// A path.
    File(String),
}

impl FromText for AccessLogTarget {
    const WHAT: &'static str = "a place for the access log";
    const EXAMPLE: &'static str = "\"stdout\", \"off\" or a path with a \"/\", such as \"logs/access.log\"";
    fn schema() -> schemars::Schema {
        schemars::json_schema!({ "pattern": "^(stdout|off|.*/.*)$" })
    }
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "stdout" => Ok(AccessLogTarget::Stdout),
            "off" => Ok(AccessLogTarget::Off),
            path if path.contains('/') && !path.ends_with('/') && !path.contains('\0') => {
                Ok(AccessLogTarget::File(path.to_owned()))
            }
            _ => Err(scalar::not_a::<Self>(text)),
        }
    }
}

/// How a new configuration is taken.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadForm {
    /// Whether file changes are followed.
    #[schemars(extend("default" = true))]
    pub watch: Option<bool>,
    /// Not yet in this version: a new revision serves a share of users first.
    #[expect(dead_code, reason = "for the schema; reading it is what refuses it")]
    pub stage: Option<Reserved>,
    /// Percent of all routes, or of all servers. A revision that drops more is refused unless it is forced.
    #[schemars(extend("default" = 100))]
    pub removal_max_percent: Option<Located<Percent<100>>>,
    /// Revisions kept.
    #[schemars(extend("default" = 50))]
    pub history: Option<Located<Number<1, 10_000>>>,
}

/// A table in a table.
pub type Sub<T> = Option<Located<Table<T>>>;
