//! The requests of an HTTP/1.x connection, one after the other: each takes the [`lane`], or Pingora's way.
//!
//! Pipelined requests wait in the connection, so neither way sees two.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;

use super::ListeningSocket;
use tokio::io::AsyncWriteExt;

use crate::problem::Reason;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::watch::ClientWatch;
use crate::proxy::lane;

/// Pingora's value for a connection that it does not close by itself; the watch does.
const FOR_EVER: u64 = 0;

/// Serves the connection until it ends.
pub async fn serve(door: &Arc<ListeningSocket>, connection: Connection, from: IpAddr, watch: &ClientWatch) {
    let mut kept = Some(Box::new(connection));
    while let Some(mut connection) = kept {
        // A client that sends requests without a pause must not keep the thread from others.
        tokio::task::consume_budget().await;
        if !matches!(poll_fn(|cx| connection.poll_head(cx)).await, Ok(true)) {
            break;
        }
        kept = match lane::take(&door.gateway, connection) {
            Ok(taken) => match taken.serve(&door.gateway).await {
                (connection, true) => Some(connection),
                (mut connection, false) => {
                    // The client may be gone.
                    let _ = AsyncWriteExt::shutdown(&mut connection).await;
                    None
                }
            },
            Err(connection) => Box::pin(by_pingora(door, connection)).await,
        };
    }
    if watch.was_dropped() {
        door.unseen(Reason::BadRequest, from);
    }
}

/// Serves one request; the connection, if its client may send another one.
async fn by_pingora(door: &Arc<ListeningSocket>, connection: Box<Connection>) -> Option<Box<Connection>> {
    let mut session = ServerSession::new_http1(connection);
    session.set_keepalive(Some(FOR_EVER));
    let kept = door.proxy.process_new_http(session, &door.shutdown).await?;
    kept.consume().0.into_any().downcast().ok()
}
