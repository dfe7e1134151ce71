//! The clients of the gateway: HTTP/2 over TLS, trusting only its certificate, with a time limit for each request.
//!
//! They retry nothing: a broken request is reported as broken, so that no retry of a client can hide one that the
//! gateway should have made. A request that the server did not process, by its GOAWAY (RFC 9113, section 6.8), counts
//! as not sent. Raw bytes over HTTP/1.1 are for requests that no honest client can send.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderName, Request, header};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{Answer, PATIENCE};

/// The name in the gateway's certificate.
pub const NAME: &str = "localhost";
/// HTTP/2 in ALPN.
pub const H2: &str = "h2";
/// HTTP/1.1 in ALPN.
pub const HTTP1: &str = "http/1.1";

/// The gateway, as a client reaches it.
#[derive(Clone)]
pub struct Door {
    /// The gateway's listener.
    pub address: SocketAddr,
    trusted: Arc<RootCertStore>,
    http2: TlsConnector,
}

/// A kept connection. Its copies share it, so they can send at once.
#[derive(Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    origin: Arc<str>,
    /// The version of TLS in use.
    pub tls: Arc<str>,
}

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes requests.
    Open,
    /// The gateway announced that it takes no more.
    Leaving,
    /// It was closed without notice.
    Closed,
}

/// Why there is no answer.
pub enum Broken {
    /// The request was not sent, because of this state of the connection.
    Unsent(Standing),
    /// Any other reason.
    Lost(String),
}

impl Door {
    /// A way to the gateway at an address that shows this certificate.
    pub fn new(address: SocketAddr, certificate: CertificateDer<'static>) -> Result<Door, String> {
        let mut trusted = RootCertStore::empty();
        trusted.add(certificate).map_err(|e| format!("the gateway's certificate cannot be trusted: {e}"))?;
        let trusted = Arc::new(trusted);
        Ok(Door { address, http2: connector(&trusted, &[H2])?, trusted })
    }

    /// The scheme and authority of its URLs.
    pub fn origin(&self) -> String {
        format!("https://{NAME}:{}", self.address.port())
    }

    /// Connects.
    pub async fn open(&self) -> Result<Connection, String> {
        let opened = async {
            let stream = self.connect(&self.http2).await?;
            let session = stream.get_ref().1;
            if session.alpn_protocol() != Some(H2.as_bytes()) {
                return Err("connecting: the gateway does not speak HTTP/2".to_owned());
            }
            let tls = session.protocol_version().and_then(|version| version.as_str()).unwrap_or("unknown");
            let (sender, connection) =
                h2::client::handshake(stream).await.map_err(|e| format!("connecting: HTTP/2: {e}"))?;
            // The sender sees how the connection ended; it ends with the last sender, too.
            tokio::spawn(async { drop(connection.await) });
            Ok(Connection { sender, origin: self.origin().into(), tls: tls.replace("v1_", " 1.").into() })
        };
        timeout(PATIENCE, opened).await.map_err(|_| "connecting took too long")?
    }

    /// The protocol that the gateway picks from those that a client offers.
    pub async fn picks(&self, offered: &[&str]) -> Result<String, String> {
        let stream = self.connect(&connector(&self.trusted, offered)?).await?;
        let picked = stream.get_ref().1.alpn_protocol().unwrap_or_default();
        Ok(String::from_utf8_lossy(picked).into_owned())
    }

    /// Sends these bytes over HTTP/1.1, and reads until the gateway closes.
    pub async fn raw(&self, said: &str) -> Result<String, String> {
        let heard = async {
            let mut stream = self.connect(&connector(&self.trusted, &[HTTP1])?).await?;
            stream.write_all(said.as_bytes()).await.map_err(|e| format!("saying it: {e}"))?;
            let mut heard = vec![];
            stream.read_to_end(&mut heard).await.map_err(|e| format!("hearing the answer: {e}"))?;
            Ok(String::from_utf8_lossy(&heard).into_owned())
        };
        timeout(PATIENCE, heard).await.map_err(|_| "the gateway neither answers nor closes")?
    }

    async fn connect(&self, connector: &TlsConnector) -> Result<TlsStream<TcpStream>, String> {
        let stream = TcpStream::connect(self.address).await.map_err(|e| format!("connecting: {e}"))?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        let name = ServerName::try_from(NAME).map_err(|e| e.to_string())?;
        connector.connect(name, stream).await.map_err(|e| format!("connecting: TLS: {e}"))
    }
}

fn connector(trusted: &Arc<RootCertStore>, offered: &[&str]) -> Result<TlsConnector, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|e| e.to_string())?;
    let mut config = builder.with_root_certificates(trusted.clone()).with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Ok(Arc::new(config).into())
}

impl Connection {
    /// The state of the connection.
    pub fn standing(&self) -> Standing {
        match self.sender.clone().poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Err(e)) => ended(&e),
            _ => Standing::Open,
        }
    }

    /// Whether the connection takes requests.
    pub fn is_open(&self) -> bool {
        self.standing() == Standing::Open
    }

    /// Sends a request with more headers and reads its answer.
    pub async fn ask(&self, method: &str, path: &str, more: &[(HeaderName, &str)]) -> Result<Answer, Broken> {
        self.send(method, path, more.iter().cloned(), Bytes::new()).await
    }

    /// Sends a JSON document with more headers and reads the answer.
    pub async fn post(&self, path: &str, more: &[(&'static str, String)], body: Vec<u8>) -> Result<Answer, Broken> {
        let more = more.iter().map(|(name, value)| (HeaderName::from_static(name), &**value));
        let json = [(header::CONTENT_TYPE, "application/json")];
        self.send("POST", path, json.into_iter().chain(more), body.into()).await
    }

    async fn send<'a>(
        &self,
        method: &str,
        path: &str,
        headers: impl Iterator<Item = (HeaderName, &'a str)>,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let lost = |what: &str, e: &dyn std::fmt::Display| Broken::Lost(format!("{method} {path}: {what}: {e}"));
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.origin));
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(()).map_err(|e| lost("no request", &e))?;
        let mut sender = self.sender.clone();
        let answered = async {
            poll_fn(|cx| sender.poll_ready(cx)).await.map_err(|e| Broken::Unsent(ended(&e)))?;
            let sent = sender.send_request(request, body.is_empty());
            let (answer, mut stream) = sent.map_err(|e| Broken::Unsent(ended(&e)))?;
            if !body.is_empty() {
                stream.send_data(body, true).map_err(|e| lost("the request broke off", &e))?;
            }
            let (head, body) = match answer.await {
                Ok(answer) => answer.into_parts(),
                Err(e) if ended(&e) == Standing::Leaving => return Err(Broken::Unsent(Standing::Leaving)),
                Err(e) => return Err(lost("no answer", &e)),
            };
            let body = read(body).await.map_err(|e| lost("the answer broke off", &e))?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        let late = |_| lost("no answer", &format!("within {} s", PATIENCE.as_secs()));
        timeout(PATIENCE, answered).await.map_err(late)?
    }
}

/// The state of a connection that fails with this error.
fn ended(e: &h2::Error) -> Standing {
    let told = e.is_go_away() && e.is_remote() && e.reason() == Some(Reason::NO_ERROR);
    if told { Standing::Leaving } else { Standing::Closed }
}

async fn read(mut body: RecvStream) -> Result<String, h2::Error> {
    let mut read = vec![];
    while let Some(part) = body.data().await.transpose()? {
        body.flow_control().release_capacity(part.len())?;
        read.extend_from_slice(&part);
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}
