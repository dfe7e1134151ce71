//! The requests of an HTTP/1.x connection, one after the other.
//!
//! The loop is that of Pingora's `ServerApp`, with the timeouts of Tollgate's watch. Pipelined requests wait in the
//! connection, so Pingora never sees two.

use std::net::IpAddr;
use std::sync::Arc;

use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;

use super::ListeningSocket;
use crate::problem::Reason;
use crate::proxy::downstream::connection::Connection;
use crate::proxy::downstream::watch::ClientWatch;

/// Pingora's value for a connection that it does not close by itself; the watch does.
const FOR_EVER: u64 = 0;

/// Serves the connection until it ends.
pub async fn serve(door: &Arc<ListeningSocket>, connection: Connection, from: IpAddr, watch: &ClientWatch) {
    let mut session = ServerSession::new_http1(Box::new(connection));
    session.set_keepalive(Some(FOR_EVER));
    let mut kept = door.proxy.process_new_http(session, &door.shutdown).await;
    while let Some((stream, settings)) = kept.map(|kept| kept.consume()) {
        // A client that sends requests without a pause must not keep the thread from others.
        tokio::task::consume_budget().await;
        let mut session = ServerSession::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        kept = door.proxy.process_new_http(session, &door.shutdown).await;
    }
    if watch.was_dropped() {
        door.unseen(Reason::BadRequest, from);
    }
}
