//! The ledger's own listener: HTTP/1.1, connections bounded, a head in `HEAD`, closed gracefully at the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// The most connections at once; more wait in the socket's queue.
const CONNECTIONS: usize = 8192;
/// Time for a request's head.
const HEAD: Duration = Duration::from_secs(10);
/// The most bytes of a head.
const HEAD_BYTES: usize = 64 << 10;
/// Time that connections have to end by themselves.
const END: Duration = Duration::from_secs(5);

/// Listens at an address, without blocking.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

/// Serves until `stop` is set, and then until requests in flight are answered, for at most `END`.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Without file descriptors, another accept would fail at once.
                log::warn!("the ledger could not take a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            one(stream, router, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    // Each connection holds a permit, so all permits together mean that no connection is left.
    let _ = tokio::time::timeout(END, room.acquire_many(CONNECTIONS as u32)).await;
}

async fn one(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // Answers are small and must not wait to be joined.
    let _ = stream.set_nodelay(true);
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(HEAD_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    tokio::select! {
        // A broken connection is not worth a log line.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
