//! The form of `[[listener]]`.
//!
//! Size limits of heads end at the limits of the parser below, so that no setting promises more than is kept.

use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Sub;
use super::located::{Located, Table};
use super::number::Number;
use super::scalar::{FilePath, Size, Word};

/// Where clients connect.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerForm {
    /// IP address and port.
    #[schemars(required)]
    pub address: Option<Word<SocketAddr>>,
    /// HTTP/2 without TLS, beside HTTP/1.1. Not together with tls.
    #[schemars(extend("default" = false))]
    pub h2c: Option<Located<bool>>,
    /// Every connection begins with a PROXY header (v1 or v2) from trusted.proxies. A connection from any other address
    /// is closed.
    #[schemars(extend("default" = false))]
    pub proxy_protocol: Option<Located<bool>>,
    /// Time for the whole head; PROXY header and TLS handshake have as much each. HTTP/2: until the first complete
    /// HEADERS.
    #[schemars(extend("default" = "10s"))]
    pub header_timeout: Option<Word<Duration>>,
    /// How long a kept connection may stay without a request, and how long a client may take nothing of its answer.
    #[schemars(extend("default" = "60s"))]
    pub idle_timeout: Option<Word<Duration>>,
    /// Bytes a second, over any 10 s of waiting for a request body. Less: 408. "0B": no limit.
    #[schemars(extend("default" = "500B"))]
    pub body_min_rate: Option<Word<Size>>,
    /// Size of a head, from "1KiB" to "512KiB". More: 431.
    #[schemars(extend("default" = "64KiB"))]
    pub head_max: Option<Word<Size>>,
    /// Number of headers. More: 431.
    #[schemars(extend("default" = 100))]
    pub headers_max: Option<Located<Number<1, 256>>>,
    /// Length of a request target, from "64B" to "60KiB". More: 414.
    #[schemars(extend("default" = "16KiB"))]
    pub uri_max: Option<Word<Size>>,
    /// Connections of one client address; with IPv6 of one /64. A connection beyond it is closed unanswered. 0: no
    /// limit.
    #[schemars(extend("default" = 0))]
    pub max_connections_per_ip: Option<Located<Number<0, { u32::MAX as u64 }>>>,
    /// HTTPS: TLS 1.2 and 1.3, HTTP/1.1 and HTTP/2 by ALPN. Absent: plain.
    pub tls: Sub<ListenerTlsForm>,
}

/// HTTPS.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerTlsForm {
    /// Certificates with their keys, PEM. The name that the client asks for (SNI) picks one; the first serves the names
    /// that none covers. Followed when the files change.
    #[schemars(required)]
    pub certificates: Option<Located<Vec<Located<Table<CertificateForm>>>>>,
    /// PEM file. A client certificate of these authorities is required, and must cover the host that is asked for (else
    /// 421). A connection ends (421) once the authorities change or its certificate has expired. Absent: none is asked
    /// for.
    pub client_ca: Option<Word<FilePath>>,
}

/// A certificate and its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateForm {
    /// PEM file with the chain, the server's own certificate first.
    #[schemars(required)]
    pub cert: Option<Word<FilePath>>,
    /// PEM file with its private key.
    #[schemars(required)]
    pub key: Option<Word<FilePath>>,
}
