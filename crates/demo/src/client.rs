//! A client for everything but the gateway: HTTP/1.1 without TLS, each request with its own connection and time limit.
//!
//! It retries nothing. The clients of the gateway are in [`crate::door`].

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest time of a request before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// An answer, read to its end.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: String,
}

/// Sends one request.
pub async fn once(address: SocketAddr, method: &str, path: &str) -> Result<Answer, String> {
    once_with(address, method, path, &[], "").await
}

/// Sends one request with more headers and a body.
pub async fn once_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    more: &[(HeaderName, &str)],
    body: &str,
) -> Result<Answer, String> {
    let why = |what: &str, e: &dyn std::fmt::Display| format!("{method} {path}: {what}: {e}");
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address.to_string());
    for (name, value) in more {
        request = request.header(name, *value);
    }
    let request =
        request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).map_err(|e| why("no request", &e))?;
    let answered = async {
        let stream = TcpStream::connect(address).await.map_err(|e| why("connecting", &e))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| why("connecting", &e))?;
        // It ends with the sender.
        tokio::spawn(async { drop(connection.await) });
        let answer = sender.send_request(request).await.map_err(|e| why("no answer", &e))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|e| why("the answer broke off", &e))?.to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let late = |_| why("no answer", &format!("within {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, answered).await.map_err(late)?
}
