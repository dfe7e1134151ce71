//! An HTTP/2 connection's requests, side by side.
//!
//! The bounds are Pingora's safe ones: 100 streams at once, windows of 64 KiB for a whole connection. A header list may
//! have twice `head_max` in the codec, which refuses without a word, so that what is too large is mostly refused by us.
//! On top of them a client is sent away that resets what it asks for, over and over, that lets many answers starve, or
//! whose heads have absurdly many fields ([`crate::proxy::frames`]). An idle client is told to go before the connection closes, and so are all when the
//! process drains, and one whose certificate would not let it in any more; streams that are open then are finished.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, SocketDigest, Stream};

use super::ListeningSocket;
use super::room::StreamRoom;
use crate::problem::Reason;
use crate::proxy::connection::{Connection, Peer};
use crate::proxy::frames::Wrong;
use crate::proxy::watch::ClientWatch;
use base::clock;

/// Streams at once.
const STREAMS: u32 = 100;
/// Bytes that may wait for one client of all it sends, and of each stream that it is sent.
const WINDOW: u32 = 64 << 10;
const SEND_BYTES: usize = 16 << 10;
/// A client that opens hardly any window may have so many streams served at once; more are refused, unseen by any stage.
const UNFED_MAX: usize = 2;
/// A connection ends once so many of its streams broke HTTP.
const BROKEN_MAX: u32 = 32;

/// What a field of a head takes beside its value.
const FIELD_BYTES: u64 = 104;

/// What is left to a client that sends although he has the whole answer.
const OVERTIME: Duration = Duration::from_secs(1);

/// What the streams of a connection share.
#[derive(Default)]
struct Shared {
    active: AtomicUsize,
}

/// Serves the connection until it ends. `peer` is what each of its streams knows of it.
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
        // Accepting also drives the connection, so it goes on while it leaves.
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
                    // A stream that came in the moment in which the last one ended.
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
            // It is over already: a connection of nothing else is idle.
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

/// The next request. The connection hands on one new head at a time, and the next one once the codec has given out the
/// request of the one before, or has refused it.
async fn next(
    connection: &mut h2::server::Connection<Stream, Bytes>,
    digest: Arc<Digest>,
    watch: &ClientWatch,
) -> pingora::Result<Option<H2Accept>> {
    let mut accepting = pin!(HttpSession::from_h2_conn(connection, digest));
    poll_fn(|cx| {
        let accepted = accepting.as_mut().poll(cx);
        if accepted.is_pending() && watch.was_refused() {
            cx.waker().wake_by_ref();
        }
        accepted
    })
    .await
}

/// What a stream knows of its connection, in the form in which Pingora carries it.
fn digest(stream: Peer, socket: &Arc<SocketDigest>) -> pingora::Result<Arc<Digest>> {
    Ok(Arc::new(Digest {
        ssl_digest: None,
        timing_digest: Vec::new(),
        proxy_digest: Some(stream.carried()?),
        socket_digest: Some(socket.clone()),
    }))
}

/// Begins to serve a stream, or refuses it: nothing was done for it then, so it may be sent again, and what it held is
/// given back.
fn begin(
    door: &Arc<ListeningSocket>,
    mut session: HttpSession,
    (active, connection): (Active, &ClientWatch),
    (watch, peer): (Arc<ClientWatch>, &Peer),
) {
    // Itself is one of them.
    let others = active.shared.active.load(Ordering::Relaxed) - 1;
    let room = match connection.unfed() > UNFED_MAX && others >= UNFED_MAX {
        true => Err(Reason::WindowShut),
        false => door.room.stream(head_bytes(&session)).ok_or(Reason::Overloaded),
    };
    match room {
        Ok(room) => {
            let task = tokio::spawn(one(door.clone(), session, watch.clone(), (active, room)));
            watch.runs_in(task.abort_handle());
            peer.sweeper.follow_stream(&watch);
        }
        Err(reason) => {
            session.shutdown_with_reason(h2::Reason::REFUSED_STREAM);
            door.refused(reason);
        }
    }
}

/// What a head takes in memory, at most: values that point at one entry of the table share it.
fn head_bytes(session: &HttpSession) -> u64 {
    let headers = &session.req_header().headers;
    headers.iter().map(|(_, value)| FIELD_BYTES + value.len() as u64).sum()
}

/// The codec's word for it.
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

/// Serves one stream.
async fn one(door: Arc<ListeningSocket>, session: HttpSession, watch: Arc<ClientWatch>, _held: (Active, StreamRoom)) {
    let mut session = ServerSession::new_http2(session);
    // Nobody would wait any longer for a client that opens no window.
    session.set_write_timeout(Some(door.patience().idle));
    tokio::select! {
        _ = door.proxy.process_new_http(session, &door.shutdown) => {}
        () = sends_on(&watch) => {}
    }
}

/// A client that goes on sending although he has his whole answer is told to stop (RFC 9113, section 8.1).
async fn sends_on(watch: &ClientWatch) {
    watch.sent_on().await;
    tokio::time::sleep(OVERTIME).await;
}

/// Counts a stream as open while it is served; the last one that ends leaves the connection idle.
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
