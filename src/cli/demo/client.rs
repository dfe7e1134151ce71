//! A client: one kept HTTP/1.1 connection, one request at a time, no request without an end.
//!
//! It repeats nothing: a request that broke is told as broken, so that no retry of the client can hide one that the
//! gateway should have made.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest a request may take before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A kept connection.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: HeaderValue,
}

/// An answer, read to its end.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: String,
    /// Whether it says that its connection closes.
    pub closes: bool,
}

/// Why there is no answer.
pub enum Broken {
    /// The connection was closed while it was idle: the request never left.
    Unsent,
    /// Anything else.
    Lost(String),
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Connection, String> {
        let opened = async {
            let stream = TcpStream::connect(address).await.map_err(|e| format!("connecting: {e}"))?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| format!("connecting: {e}"))
        };
        let (sender, connection) = timeout(PATIENCE, opened).await.map_err(|_| "connecting took too long")??;
        // Its end is seen by the sender; it ends with it, too.
        tokio::spawn(async { drop(connection.await) });
        let host = HeaderValue::from_str(&address.to_string()).map_err(|e| e.to_string())?;
        Ok(Connection { sender, host })
    }

    /// Whether the other side has closed it.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and reads its answer.
    pub async fn ask(&mut self, method: &str, path: &str) -> Result<Answer, Broken> {
        self.ask_with(method, path, None).await
    }

    /// Sends a request with one more header and reads its answer.
    pub async fn ask_with(
        &mut self,
        method: &str,
        path: &str,
        more: Option<(HeaderName, &str)>,
    ) -> Result<Answer, Broken> {
        let mut headers = vec![];
        headers.extend(more.map(|(name, value)| (name, value.to_owned())));
        self.send(method, path, headers, Bytes::new()).await
    }

    /// Sends a JSON document with more headers and reads the answer.
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Answer, Broken> {
        let mut all = vec![(header::CONTENT_TYPE, "application/json".to_owned())];
        all.extend(headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())));
        self.send("POST", path, all, body.into()).await
    }

    async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: Vec<(HeaderName, String)>,
        body: Bytes,
    ) -> Result<Answer, Broken> {
        let lost = |what: &str, e: &dyn std::fmt::Display| Broken::Lost(format!("{method} {path}: {what}: {e}"));
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, &self.host);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).map_err(|e| lost("no request", &e))?;
        let answered = async {
            self.sender.ready().await.map_err(|_| Broken::Unsent)?;
            let answer = match self.sender.send_request(request).await {
                Ok(answer) => answer,
                Err(e) if e.is_canceled() => return Err(Broken::Unsent),
                Err(e) => return Err(lost("no answer", &e)),
            };
            let (head, body) = answer.into_parts();
            let closes =
                head.headers.get(header::CONNECTION).is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"close"));
            let body = body.collect().await.map_err(|e| lost("the answer broke off", &e))?.to_bytes();
            Ok(Answer { status: head.status, body: String::from_utf8_lossy(&body).into_owned(), closes })
        };
        match timeout(PATIENCE, answered).await {
            Ok(answered) => answered,
            Err(_) => Err(lost("no answer", &format!("within {} s", PATIENCE.as_secs()))),
        }
    }
}

/// One request over a connection of its own.
pub async fn once(address: SocketAddr, method: &str, path: &str) -> Result<Answer, String> {
    once_with(address, method, path, None).await
}

/// The same with one more header.
pub async fn once_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    more: Option<(HeaderName, &str)>,
) -> Result<Answer, String> {
    let mut connection = Connection::open(address).await?;
    connection.ask_with(method, path, more).await.map_err(|broken| match broken {
        Broken::Unsent => format!("{method} {path}: the connection was closed"),
        Broken::Lost(why) => why,
    })
}
