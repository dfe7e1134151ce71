//! Servers of HTTP/2 that say they have not processed a request: it is sent again, whatever its method.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use http::Response;
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::support::frames::{GOAWAY, HEADERS, SETTINGS, frame};
use crate::support::nginx::Nginx;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

/// A gateway before a server of HTTP/2.
fn before(port: u16) -> World {
    World::start(&format!(
        r#"
    [upstream.app]
    servers = ["127.0.0.1:{port}"]
    http2 = true
    {ROUTE}"#
    ))
}

/// So many POSTs at once, each on a connection of its own: the statuses of those that did not get what they sent.
fn posts(world: &World, clients: usize, each: usize) -> Vec<u16> {
    std::thread::scope(|scope| {
        let one = move |client: usize| {
            let (mut connection, mut wrong) = (world.connect(), vec![]);
            for n in 0..each {
                let text = format!("{client}/{n}");
                let answer = connection.ask(&post(&format!("/{text}"), text.clone()));
                if !answer.as_ref().is_ok_and(|answer| answer.status == 200 && answer.text() == text) {
                    wrong.push(answer.map_or(0, |answer| answer.status));
                    connection = world.connect();
                }
            }
            wrong
        };
        let clients: Vec<_> = (0..clients).map(|client| scope.spawn(move || one(client))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// A server that sends bodies back and refuses some streams; the count of all it took or refused.
struct Refuses {
    port: u16,
    seen: Arc<AtomicUsize>,
    _runtime: tokio::runtime::Runtime,
}

impl Refuses {
    /// Refuses a request of this path, where `first` says whether the path was not refused before.
    fn when(refuses: impl Fn(&str, bool) -> bool + Send + Sync + 'static) -> Refuses {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
        let counts = seen.clone();
        let (refuses, refused) = (Arc::new(refuses), Arc::new(Mutex::new(HashSet::new())));
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (counts, refuses, refused) = (counts.clone(), refuses.clone(), refused.clone());
                tokio::spawn(async move {
                    let Ok(mut connection) = h2::server::handshake(tcp).await else { return };
                    while let Some(Ok((request, mut answer))) = connection.accept().await {
                        counts.fetch_add(1, Ordering::Relaxed);
                        let path = request.uri().path().to_owned();
                        let first = !refused.lock().contains(&path);
                        if refuses(&path, first) {
                            refused.lock().insert(path);
                            answer.send_reset(Reason::REFUSED_STREAM);
                            continue;
                        }
                        tokio::spawn(async move {
                            let mut body = request.into_body();
                            let mut read = vec![];
                            while let Some(Ok(part)) = body.data().await {
                                read.extend_from_slice(&part);
                            }
                            let mut body = answer.send_response(Response::new(()), false).unwrap();
                            body.send_data(Bytes::from(read), true).unwrap();
                        });
                    }
                });
            }
        });
        Refuses { port, seen, _runtime: runtime }
    }

    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }
}

#[test]
fn posts_survive_a_server_that_closes_its_connections() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&String::from_utf8_lossy(&seen.body)));
    let behind = format!("proxy_pass http://{};", origin.address());
    let nginx = Nginx::with("listen 127.0.0.1:$PORT http2; keepalive_requests 60;", &behind, &[]);
    let world = before(nginx.port);
    let wrong = posts(&world, 40, 50);
    assert_eq!(wrong, Vec::<u16>::new(), "of 2,000");
    let retries = world.metric("tollgate_retries_total", &[]);
    assert!(retries > 0.0, "no stream was left unprocessed: nothing was tried");
    assert_eq!(origin.hits(), 2_000, "each was processed once");
    assert_eq!(world.server(&format!("127.0.0.1:{}", nginx.port))["ejected_until"], serde_json::Value::Null);
}

#[test]
fn posts_survive_a_server_that_refuses_streams() {
    let server = Refuses::when(|path, first| first && path.ends_with(['4', '9']));
    let world = before(server.port);
    let wrong = posts(&world, 4, 50);
    assert_eq!(wrong, Vec::<u16>::new(), "of 200");
    assert_eq!(server.seen(), 200 + 40, "each was processed once");
}

#[test]
fn a_server_that_refuses_everything_is_asked_a_bounded_number_of_times() {
    let server = Refuses::when(|_, _| true);
    let world = before(server.port);
    world.ask(post("/", "x")).is_problem(502, "bad_gateway");
    assert_eq!(server.seen(), 3, "once for nothing, and `retry.attempts`");
}

/// A server that answers each head by a GOAWAY that leaves it out, with this code; the count of heads.
fn leaves(code: u8) -> (u16, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counts = heads.clone();
    let one = move |mut stream: std::net::TcpStream, counts: Arc<AtomicUsize>| -> std::io::Result<()> {
        stream.read_exact(&mut [0; 24])?;
        stream.write_all(&frame(SETTINGS, 0, 0, &[]))?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head)?;
            stream.read_exact(&mut vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize])?;
            if head[3] == HEADERS {
                counts.fetch_add(1, Ordering::Relaxed);
                stream.write_all(&frame(GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, code]))?;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let counts = counts.clone();
            std::thread::spawn(move || one(stream, counts));
        }
    });
    (port, heads)
}

#[test]
fn a_server_that_only_says_goodbye_is_asked_a_bounded_number_of_times() {
    // `retry.attempts`, after four for nothing; one where it says that it has too much to do.
    for (code, heads) in [(0, 6), (11, 3)] {
        let (port, seen) = leaves(code);
        let world = before(port);
        for body in [vec![], vec![b'x'; 1_000], vec![b'x'; 64 << 10]] {
            seen.store(0, Ordering::Relaxed);
            world.ask(post("/", body)).is_problem(502, "bad_gateway");
            let seen = seen.load(Ordering::Relaxed);
            assert!((1..=heads).contains(&seen), "{seen} of {heads}, code {code}");
        }
        seen.store(0, Ordering::Relaxed);
        world.ask(delete("/")).is_problem(502, "bad_gateway");
        assert_eq!(seen.load(Ordering::Relaxed), heads, "code {code}");
    }
}
