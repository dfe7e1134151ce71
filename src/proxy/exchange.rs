//! What the stages see of a request and its answer, whichever way carries them.
//!
//! Stages decide; a way moves bytes. There are two ways: Pingora's sessions, and the lane for HTTP/1.1
//! ([`lane`](super::lane)). Both implement [`Exchange`], so nothing is decided twice.

use bytes::Bytes;
use http::StatusCode;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use super::downstream::connection::Peer;
use super::reject::GRPC_STATUS;

/// A request and its answer.
pub trait Exchange: Send {
    /// The name of its way.
    const WAY: &'static str;

    /// The head of the request.
    fn asked(&self) -> &RequestHeader;

    /// The same, to change it.
    fn asked_mut(&mut self) -> &mut RequestHeader;

    /// The client's side of the connection.
    fn peer(&self) -> &Peer;

    /// Whether the request has a body, as far as is known: a chunked one may turn out to be empty.
    fn has_body(&mut self) -> bool;

    /// Whether the whole body was read.
    fn is_body_read(&mut self) -> bool;

    /// Whether all of the body that was read could be sent again.
    fn is_repeatable(&self) -> bool;

    /// The connection ends after the answer.
    fn ends_connection(&mut self);

    /// Status of the head that the client was sent last, informational or not.
    fn answered(&self) -> Option<StatusCode>;

    /// Whether that head refuses a gRPC call.
    fn refused_as_grpc(&self) -> bool;

    /// Bytes of the answer's body sent to the client, without their framing.
    fn bytes_sent(&self) -> u64;

    /// From now on keeps what is read of the body, as far as it could be sent again.
    fn keep_body(&mut self);

    /// Reads a part of the body; `None` after its end.
    fn read_body(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;

    /// Sends `100 Continue`.
    fn send_continue(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Sends a whole answer of the gateway. `bodiless`: the head alone, whatever length it says.
    fn send(&mut self, head: ResponseHeader, body: Bytes, bodiless: bool) -> impl Future<Output = Result<()>> + Send;
}

impl Exchange for Session {
    const WAY: &'static str = "pingora";

    fn asked(&self) -> &RequestHeader {
        self.req_header()
    }

    fn asked_mut(&mut self) -> &mut RequestHeader {
        self.req_header_mut()
    }

    fn peer(&self) -> &Peer {
        Peer::of(self)
    }

    fn has_body(&mut self) -> bool {
        !self.as_mut().is_body_empty()
    }

    fn is_body_read(&mut self) -> bool {
        self.as_mut().is_body_done()
    }

    fn is_repeatable(&self) -> bool {
        !self.as_ref().retry_buffer_truncated()
    }

    fn ends_connection(&mut self) {
        self.set_keepalive(None);
    }

    fn answered(&self) -> Option<StatusCode> {
        self.response_written().map(|head| head.status)
    }

    fn refused_as_grpc(&self) -> bool {
        self.response_written().is_some_and(|head| head.headers.contains_key(GRPC_STATUS))
    }

    fn bytes_sent(&self) -> u64 {
        self.body_bytes_sent() as u64
    }

    fn keep_body(&mut self) {
        self.as_mut().enable_retry_buffering();
    }

    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        self.as_mut().read_request_body().await
    }

    async fn send_continue(&mut self) -> Result<()> {
        self.as_mut().write_continue_response().await
    }

    async fn send(&mut self, head: ResponseHeader, body: Bytes, bodiless: bool) -> Result<()> {
        if head.headers.contains_key(GRPC_STATUS)
            && let ServerSession::H2(stream) = self.as_mut()
        {
            // Trailers must end the stream; Pingora would end it by an empty part of a body.
            return stream.write_response_header(Box::new(head), true);
        }
        self.write_response_header(Box::new(head), bodiless).await?;
        if !bodiless {
            self.write_response_body(Some(body), true).await?;
        }
        Ok(())
    }
}
