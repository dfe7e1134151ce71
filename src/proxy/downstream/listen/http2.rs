//! The requests of an HTTP/2 connection, side by side.
//!
//! The bounds are Pingora's safe ones: 100 streams at once, windows of 64 KiB for a whole connection. In the codec,
//! which refuses without an answer, a header list may have twice `head_max`, so that mostly the gateway itself refuses
//! one that is too large. Beyond them, the connection ends if its client repeatedly resets its requests, lets many
//! answers starve, or sends heads with far too many fields ([`crate::proxy::downstream::frames`]). An idle client is
//! sent a GOAWAY before its connection closes. So are all clients when the process drains, and a client whose certificate would not
//! be admitted any more; open streams are finished.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, SocketDigest};

use super::ListeningSocket;
use super::room::StreamRoom;
use crate::problem::Reason;
use crate::proxy::downstream::connection::{Connection, Peer, carried};
use crate::proxy::downstream::frames::Wrong;
use crate::proxy::downstream::watch::ClientWatch;
use crate::proxy::lane;
use crate::proxy::lane::stream::Stream;
use base::clock;

/// Concurrent streams.
const STREAMS: u32 = 100;
/// Bytes that may wait of all that a client sends, and of each stream sent to it.
const WINDOW: u32 = 64 << 10;
const SEND_BYTES: usize = 16 << 10;
/// Streams served at once for a client that opens hardly any window; more are refused, before any stage.
const UNFED_MAX: usize = 2;
/// A connection ends once this many of its streams broke HTTP.
const BROKEN_MAX: u32 = 32;

/// Size of a header field in memory besides its value.
const FIELD_BYTES: u64 = 104;

/// Extra time for a client that sends although it has the whole answer.
const OVERTIME: Duration = Duration::from_secs(1);

/// State that the streams of a connection share.
#[derive(Default)]
struct Shared {
    active: AtomicUsize,
}

/// Serves the connection until it ends. `peer` is the template for the peers of its streams.
pub async fn serve(door: &Arc<ListeningSocket>, connection: Connection, peer: Peer, watch: &Arc<ClientWatch>) {
    let socket = connection.socket();
    let Ok(mut connection) = handshake(Box::new(connection), Some(options(&peer))).await else { return };
    let shared = Arc::new(Shared::default());
    let mut shutdown = door.shutdown.clone();
    let (mut broken, mut leaving, mut wrong) = (0, *shutdown.borrow(), false);
    if leaving {
        connection.graceful_shutdown();
    }
    watch.will_say_goodbye();
    loop {
        let stream = peer.for_stream();
        let stream_watch = stream.watch.clone();
        let Ok(digest) = digest(stream, &socket) else { return };
        // Accepting also drives the connection, so it goes on while the connection drains.
        let accepted = loop {
            tokio::select! {
                biased;
                was = watch.broken(), if !wrong => {
                    wrong = true;
                    door.unseen(Reason::BadRequest, peer.address);
                    connection.abrupt_shutdown(goodbye(was));
                    continue;
                }
                _ = shutdown.wait_for(|draining| *draining), if !leaving => (),
                () = watch.late(), if !leaving => {
                    // A stream arrived in the moment in which the last one ended.
                    if shared.active.load(Ordering::Acquire) > 0 {
                        watch.stays();
                        continue;
                    }
                }
                accepted = next(&mut connection, digest.clone(), watch) => break accepted,
            }
            leaving = true;
            connection.graceful_shutdown();
        };
        let Ok(Some(accepted)) = accepted else { return };
        let opened = watch.take_opened();
        watch.has_head();
        let active = Active::new(&shared, watch);
        watch.busy();
        match accepted {
            H2Accept::Session(session) => {
                if let Some(opened) = opened.filter(|_| !session.is_body_empty()) {
                    watch.follows_upload(opened, &stream_watch, clock::now);
                }
                let stranger = peer.shown.as_ref().is_some_and(|shown| !door.lets_in(shown));
                begin(door, session, (active, watch), (stream_watch, &peer));
                if stranger && !leaving {
                    leaving = true;
                    connection.graceful_shutdown();
                }
            }
            // The stream is over already: a connection of only such streams is idle.
            H2Accept::Rejected => {
                broken += 1;
                door.unseen(Reason::BadRequest, peer.address);
            }
        }
        if broken >= BROKEN_MAX {
            connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
        }
    }
}

/// The next request. The connection hands on one new head at a time; the next follows once the codec has given out the
/// request of the one before, or has refused it.
///
/// A stream that answers wakes its connection, which the runtime runs next, before other streams that are ready. So it
/// goes behind them once, and their answers leave with one write.
async fn next(
    connection: &mut h2::server::Connection<pingora::protocols::Stream, Bytes>,
    digest: Arc<Digest>,
    watch: &ClientWatch,
) -> pingora::Result<Option<H2Accept>> {
    let mut accepting = pin!(HttpSession::from_h2_conn(connection, digest));
    let mut behind = true;
    poll_fn(|cx| {
        if !behind {
            behind = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        behind = false;
        let accepted = accepting.as_mut().poll(cx);
        if accepted.is_pending() && watch.was_refused() {
            cx.waker().wake_by_ref();
        }
        accepted
    })
    .await
}

/// A stream's peer, in the form in which Pingora carries it.
fn digest(stream: Peer, socket: &Arc<SocketDigest>) -> pingora::Result<Arc<Digest>> {
    Ok(Arc::new(Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: Some(carried(Arc::new(stream))?),
        socket_digest: Some(socket.clone()),
    }))
}

/// Begins to serve a stream, or refuses it: then nothing was done for it, so the client may send it again, and what it
/// held is given back.
fn begin(
    door: &Arc<ListeningSocket>,
    mut session: HttpSession,
    (active, connection): (Active, &ClientWatch),
    (watch, peer): (Arc<ClientWatch>, &Peer),
) {
    // The stream itself is one of them.
    let others = active.shared.active.load(Ordering::Relaxed) - 1;
    let room = match connection.unfed() > UNFED_MAX && others >= UNFED_MAX {
        true => Err(Reason::WindowShut),
        false => door.room.stream(head_bytes(&session)).ok_or(Reason::Overloaded),
    };
    match room {
        Ok(room) => {
            let Some(stream) = stream(door, session) else { return };
            // In a box: the runtime moves a task several times before it runs.
            let task = tokio::spawn(Box::pin(one(door.clone(), stream, watch.clone(), (active, room))));
            watch.runs_in(task.abort_handle());
            peer.sweeper.follow_stream(&watch);
        }
        Err(reason) => {
            session.shutdown_with_reason(h2::Reason::REFUSED_STREAM);
            door.refused(reason);
        }
    }
}

/// Maximum memory of a head: values that refer to one entry of the table share it.
fn head_bytes(session: &HttpSession) -> u64 {
    let headers = &session.req_header().headers;
    headers.iter().map(|(_, value)| FIELD_BYTES + value.len() as u64).sum()
}

/// The codec's error code for it.
fn goodbye(wrong: Wrong) -> h2::Reason {
    match wrong {
        Wrong::StreamClosed => h2::Reason::STREAM_CLOSED,
        Wrong::FlowControl => h2::Reason::FLOW_CONTROL_ERROR,
        Wrong::TooManyFields | Wrong::TooManyStreams | Wrong::TooManyResets | Wrong::Starves => {
            h2::Reason::ENHANCE_YOUR_CALM
        }
    }
}

fn options(peer: &Peer) -> H2Options {
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(2 * peer.bounds.limits().head_max as u32)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buffer_size(SEND_BYTES);
    options
}

/// The stream of a session. A client that opens no window gets no more time than one that takes nothing.
fn stream(door: &ListeningSocket, session: HttpSession) -> Option<Box<Stream>> {
    let peer = Peer::carried_by(session.digest())?.clone();
    Some(Stream::new(session, peer, door.patience().idle))
}

/// Serves one stream.
async fn one(door: Arc<ListeningSocket>, stream: Box<Stream>, watch: Arc<ClientWatch>, _held: (Active, StreamRoom)) {
    let served = async {
        match lane::take_stream(&door.gateway, stream) {
            Ok(taken) => drop(taken.serve(&door.gateway).await),
            Err(stream) => {
                let session = Box::new(ServerSession::new_http2(stream.into_session()));
                drop(Box::pin(door.proxy.process_new_http(*session, &door.shutdown)).await);
            }
        }
    };
    tokio::select! {
        () = served => {}
        () = sends_on(&watch) => {}
    }
}

/// Resets the stream of a client that goes on sending although it has its whole answer (RFC 9113, section 8.1).
async fn sends_on(watch: &ClientWatch) {
    watch.sent_on().await;
    tokio::time::sleep(OVERTIME).await;
}

/// Counts a stream as open while it is served; the last one to end leaves the connection idle.
struct Active {
    shared: Arc<Shared>,
    connection: Arc<ClientWatch>,
}

impl Active {
    fn new(shared: &Arc<Shared>, connection: &Arc<ClientWatch>) -> Active {
        shared.active.fetch_add(1, Ordering::AcqRel);
        Active { shared: shared.clone(), connection: connection.clone() }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if self.shared.active.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.connection.ended(clock::now());
        }
    }
}
