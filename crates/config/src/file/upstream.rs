//! The form of `[upstream.NAME]`.
//!
//! An entry of `servers` is a string or a table, and one of `retry.on` a word or a status. Both are read by hand, since
//! serde's untagged enums could only report that nothing matches.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::Sub;
use super::http::ProbePath;
use super::located::Located;
use super::net::HostName;
use super::number::{Number, Percent};
use super::scalar::{FilePath, FromText, OneOf, Word, shown};
use crate::findings::suggest;
use balance::attempt::AttemptFailure;
use balance::settings::HashKey;

/// A set of servers and how they are used.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamForm {
    /// Addresses, or tables of address and weight. Exactly one of servers and dns.
    pub servers: Option<Located<Vec<Located<Entry>>>>,
    /// A host name; each of its addresses is a server. Instead of servers.
    pub dns: Sub<DnsForm>,
    /// How a server is picked.
    #[schemars(extend("default" = "round_robin"))]
    pub balance: Option<Word<Balance>>,
    /// What is hashed: "header:NAME", "cookie:NAME", "query:NAME", "path" or "ip".
    #[schemars(extend("default" = "ip", "x-with" = ["balance", "hash"]))]
    pub hash_key: Option<Word<HashKey>>,
    /// How long a server that comes (back) takes to reach its full share. Absent: none.
    pub slow_start: Option<Word<Duration>>,
    /// Requests in flight that a server takes at most; uploads take at most three quarters of it. When all servers are
    /// full: 503. Absent: no limit.
    pub max_requests_per_server: Option<Located<Number<1, { u32::MAX as u64 }>>>,
    /// HTTPS to the servers. Absent: plain.
    pub tls: Sub<TlsForm>,
    /// HTTP/2 to the servers (gRPC).
    #[schemars(extend("default" = false))]
    pub http2: Option<bool>,
    /// A limit of requests in flight that adapts to latency. A request beyond it gets 503; a request counts once its
    /// body is complete.
    #[schemars(extend("default" = false))]
    pub adaptive: Option<bool>,
    /// Active probes. Absent: none.
    pub health: Sub<HealthForm>,
    /// Passive ejection: after failures in a row a server gets no requests for a while, each time for longer.
    #[schemars(extend("default" = {}))]
    pub outlier: Sub<OutlierForm>,
    /// Time limits. "0s": no limit.
    #[schemars(extend("default" = {}))]
    pub timeout: Sub<TimeoutForm>,
    /// Retries of requests that may be repeated, each on another server where there is one.
    #[schemars(extend("default" = {}))]
    pub retry: Sub<RetryForm>,
}

/// A name whose every address is a server.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsForm {
    /// Host name.
    #[schemars(required)]
    pub name: Option<Word<HostName>>,
    /// Port of every server.
    #[schemars(required)]
    pub port: Option<Located<Number<1, 65_535>>>,
    /// Time between two lookups, at least "1s".
    #[schemars(extend("default" = "5s"))]
    pub refresh: Option<Word<Duration>>,
}

/// HTTPS to the servers.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsForm {
    /// Name that is asked for and verified. Absent: the DNS name, else the server's IP address.
    pub sni: Option<Word<HostName>>,
    /// PEM file of the certificates that are trusted instead of the system's.
    pub ca: Option<Word<FilePath>>,
    /// Whether the server's certificate is verified.
    #[schemars(extend("default" = true))]
    pub verify: Option<bool>,
}

/// Active probes.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthForm {
    /// HTTP path of the probe; 2xx and 3xx are healthy. Absent: a TCP connect.
    pub path: Option<Word<ProbePath>>,
    /// Time between two probes of a server.
    #[schemars(extend("default" = "2s"))]
    pub interval: Option<Word<Duration>>,
    /// Time that a probe may take.
    #[schemars(extend("default" = "1s"))]
    pub timeout: Option<Word<Duration>>,
    /// Failures in a row that make a server unhealthy.
    #[schemars(extend("default" = 2))]
    pub unhealthy_after: Option<Located<Number<1, 1000>>>,
    /// Successes in a row that make it healthy again.
    #[schemars(extend("default" = 2))]
    pub healthy_after: Option<Located<Number<1, 1000>>>,
}

/// Passive ejection.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierForm {
    /// Failures in a row that eject a server. 0: never.
    #[schemars(extend("default" = 5))]
    pub consecutive_failures: Option<Located<Number<0, 1_000_000>>>,
    /// Length of the first ejection. Each further one is longer.
    #[schemars(extend("default" = "10s"))]
    pub eject_for: Option<Word<Duration>>,
    /// Percent of the servers that may be ejected at once.
    #[schemars(extend("default" = 50))]
    pub max_ejected_percent: Option<Located<Percent<100>>>,
}

/// Time limits.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutForm {
    /// TCP and TLS setup.
    #[schemars(extend("default" = "1s"))]
    pub connect: Option<Word<Duration>>,
    /// From the complete request to the answer's head, per attempt. "0s": only read counts.
    #[schemars(extend("default" = "0s"))]
    pub first_byte: Option<Word<Duration>>,
    /// Between two reads of the answer, once the request is sent.
    #[schemars(extend("default" = "60s"))]
    pub read: Option<Word<Duration>>,
    /// Between two writes of the request.
    #[schemars(extend("default" = "60s"))]
    pub write: Option<Word<Duration>>,
    /// All attempts together; not after 101.
    #[schemars(extend("default" = "0s"))]
    pub total: Option<Word<Duration>>,
}

/// Retries.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryForm {
    /// Attempts in all, including the first.
    #[schemars(extend("default" = 2))]
    pub attempts: Option<Located<Number<1, 100>>>,
    /// Failures that are retried: "connect", "reset", "timeout", and statuses from 400 to 599.
    #[schemars(extend("default" = ["connect", "reset", "timeout"]))]
    pub on: Option<Vec<Located<Failure>>>,
    /// Retries allowed, in percent of the requests of the last 10 s; never below 10 a second.
    #[schemars(extend("default" = 20))]
    pub budget_percent: Option<Located<Percent<1_000_000>>>,
}

/// `balance`, without the key of "hash".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`balance::settings::Balance` says it")]
pub enum Balance {
    RoundRobin,
    Random,
    LeastRequest,
    PeakEwma,
    Hash,
}

impl OneOf for Balance {
    const WHAT: &'static str = "a way to balance";
    const EXAMPLE: &'static str = "\"round_robin\"";
    const WORDS: &'static [(&'static str, Self)] = &[
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("least_request", Balance::LeastRequest),
        ("peak_ewma", Balance::PeakEwma),
        ("hash", Balance::Hash),
    ];
}

/// The weight of an entry without one.
const WEIGHT: u64 = 1;

/// The table form of an entry of `servers`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryTable {
    /// IP address and port.
    #[schemars(required)]
    address: Option<Word<SocketAddr>>,
    /// Share relative to the others; 0 drains.
    #[schemars(extend("default" = WEIGHT))]
    weight: Option<Number<0, 65_535>>,
}

/// An entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its address.
    pub address: Option<SocketAddr>,
    /// Its share relative to the others.
    pub weight: Option<u64>,
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Entry;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server, such as \"127.0.0.1:9001\" or `{ address = \"127.0.0.1:9001\", weight = 2 }`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
                let address = SocketAddr::from_text(text).map_err(|_| {
                    let hint =
                        "an IP address and a port, such as \"127.0.0.1:9001\"; for a name use `dns = { name, port }`";
                    E::custom(format!("`{}` is not an address\n{hint}", shown(text)))
                })?;
                Ok(Entry { address: Some(address), weight: Some(WEIGHT) })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entry, A::Error> {
                let table = EntryTable::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Entry { address: table.address.map(|at| at.value.0), weight: table.weight.map(|weight| weight.0) })
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

impl JsonSchema for Entry {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Entry".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<EntryTable>()] })
    }
}

/// A failure, with its status where a status is listed: an entry of `retry.on` and of `rescue.on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub AttemptFailure, pub u16);

/// The failures with a word; statuses are numbers.
const WORDS: [AttemptFailure; 3] = [AttemptFailure::Connect, AttemptFailure::Reset, AttemptFailure::Timeout];

impl<'de> Deserialize<'de> for Failure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Failures;
        impl Visitor<'_> for Failures {
            type Value = Failure;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a failure, such as \"connect\", \"reset\", \"timeout\" or a status like 503")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Failure, E> {
                let found = WORDS.into_iter().find(|failure| failure.label() == text);
                found.map(|failure| Failure(failure, 0)).ok_or_else(|| {
                    let hint =
                        suggest(text, &WORDS.map(AttemptFailure::label), "allowed, beside statuses without quotes");
                    E::custom(format!("`{}` is not a kind of failure\n{hint}", shown(text)))
                })
            }
            fn visit_i64<E: Error>(self, status: i64) -> Result<Failure, E> {
                let in_range = u16::try_from(status).ok().filter(|status| (400..=599).contains(status));
                let refuse =
                    || E::custom(format!("`{status}` is not the status of a failure\na status from 400 to 599"));
                in_range.map(|status| Failure(AttemptFailure::Status, status)).ok_or_else(refuse)
            }
        }
        deserializer.deserialize_any(Failures)
    }
}

impl JsonSchema for Failure {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Failure".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let status = json_schema!({ "type": "integer", "minimum": 400, "maximum": 599 });
        json_schema!({ "anyOf": [{ "enum": WORDS.map(AttemptFailure::label) }, status] })
    }
}
