//! The form of `[upstream.NAME]`.
//!
//! An entry of `servers` is a string or a table, and one of `retry.on` a word or a status: both are read by hand, since
//! serde's untagged enums could only say that nothing fits.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor, value::MapAccessDeserializer};

use super::Sub;
use super::at::At;
use super::http::ProbePath;
use super::net::HostName;
use super::number::{Number, Percent};
use super::word::{FilePath, OneOf, Spelt, Word, shown};
use crate::findings::suggest;
use balance::attempt::AttemptFailure;
use balance::settings::HashKey;

/// A set of servers and how they are used.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// Addresses, or tables of address and weight. Exactly one of servers and dns.
    pub servers: Option<At<Vec<At<Entry>>>>,
    /// A name whose every address is a server, instead of servers.
    pub dns: Sub<Dns>,
    /// How a server is picked. Default "round_robin".
    pub balance: Option<Word<Balance>>,
    /// What is hashed where balance = "hash": "header:NAME", "cookie:NAME", "query:NAME", "path" or "ip" (default).
    pub hash_key: Option<Word<HashKey>>,
    /// How long a server that comes (back) takes to its full share. Absent: none.
    pub slow_start: Option<Word<Duration>>,
    /// Requests in flight a server takes at most. Absent: no limit.
    pub max_requests_per_server: Option<At<Number<1, { u32::MAX as u64 }>>>,
    /// HTTPS to the servers. Absent: plain.
    pub tls: Sub<Tls>,
    /// HTTP/2 to the servers (gRPC). Default false.
    pub http2: Option<bool>,
    /// A limit of requests in flight that finds itself by latency; what is over it gets 503. Default false.
    pub adaptive: Option<bool>,
    /// Active probes. Absent: none.
    pub health: Sub<Health>,
    /// Passive ejection: failures in a row, then out, longer each time.
    pub outlier: Sub<Outlier>,
    /// Time limits; "0s": none.
    pub timeout: Sub<Timeout>,
    /// Retries, each on another server where there is one.
    pub retry: Sub<Retry>,
}

/// A name whose every address is a server.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// Host name. REQUIRED.
    #[schemars(required)]
    pub name: Option<Word<HostName>>,
    /// Port of every server. REQUIRED.
    #[schemars(required)]
    pub port: Option<At<Number<1, 65_535>>>,
    /// Time between two look-ups. Default "5s".
    pub refresh: Option<Word<Duration>>,
}

/// HTTPS to the servers.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Name asked for and verified. Default: the DNS name, else the server's IP address.
    pub sni: Option<Word<HostName>>,
    /// PEM file of the certificates trusted instead of the system's.
    pub ca: Option<Word<FilePath>>,
    /// Whether the server's certificate is verified. Default true.
    pub verify: Option<bool>,
}

/// Active probes.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// HTTP path asked for. Absent: a TCP connect.
    pub path: Option<Word<ProbePath>>,
    /// Time between two probes of a server. Default "2s".
    pub interval: Option<Word<Duration>>,
    /// Time a probe may take. Default "1s".
    pub timeout: Option<Word<Duration>>,
    /// Failures in a row that make a server unhealthy. Default 2.
    pub unhealthy_after: Option<At<Number<1, 1000>>>,
    /// Successes in a row that make it healthy again. Default 2.
    pub healthy_after: Option<At<Number<1, 1000>>>,
}

/// Passive ejection.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Failures in a row that eject a server; 0 switches ejection off. Default 5.
    pub consecutive_failures: Option<At<Number<0, 1_000_000>>>,
    /// Length of the first ejection; each further one is longer. Default "10s".
    pub eject_for: Option<Word<Duration>>,
    /// Percent of the servers that may be out at once. Default 50.
    pub max_ejected_percent: Option<At<Percent<100>>>,
}

/// Time limits.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeout {
    /// TCP and TLS set-up. Default "1s".
    pub connect: Option<Word<Duration>>,
    /// To the answer's head, per attempt; "0s": read alone counts. Default "0s".
    pub first_byte: Option<Word<Duration>>,
    /// Between two reads of the answer. Default "60s".
    pub read: Option<Word<Duration>>,
    /// Between two writes of the request. Default "60s".
    pub write: Option<Word<Duration>>,
    /// All attempts together; "0s": none; not after 101. Default "0s".
    pub total: Option<Word<Duration>>,
}

/// Retries.
#[derive(Debug, Default, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Tries in all, the first one included. Default 2.
    pub attempts: Option<At<Number<1, 100>>>,
    /// What is retried: "connect", "reset", "timeout", and statuses from 400 to 599. Default ["connect", "reset",
    /// "timeout"].
    pub on: Option<Vec<At<Failure>>>,
    /// Retries allowed, in percent of the requests of the last 10 s. Default 20.
    pub budget_percent: Option<At<Percent<1_000_000>>>,
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

/// The table form of an entry of `servers`.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntryTable {
    /// IP address and port. REQUIRED.
    #[schemars(required)]
    address: Option<Word<SocketAddr>>,
    /// Share relative to the others; 0 drains. Default 1.
    weight: Option<Number<0, 65_535>>,
}

/// An entry of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it listens.
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
                let address = SocketAddr::spell(text).map_err(|_| {
                    let hint =
                        "an IP address and a port, such as \"127.0.0.1:9001\"; for a name use `dns = { name, port }`";
                    E::custom(format!("`{}` is not an address\n{hint}", shown(text)))
                })?;
                Ok(Entry { address: Some(address), weight: None })
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

/// A failure, and its status where that is what is listed: an entry of `retry.on`, and of `rescue.on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(pub AttemptFailure, pub u16);

/// Those that have a word; statuses are numbers.
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
