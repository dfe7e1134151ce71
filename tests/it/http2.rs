//! HTTP/2 to clients, in the clear and over TLS, before servers that speak HTTP/1.1.

mod ends;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::nginx::Nginx;
use crate::support::wait::PATIENCE;
use crate::support::*;

const LISTENER: &str = r#"
[[listener]]
address = "$LISTEN"
h2c = true
"#;
const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { timeout(PATIENCE * 4, work).await.expect("it ends") })
}

/// A connection to the gateway.
async fn connect(port: u16) -> SendRequest<Bytes> {
    let tcp = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    client
}

/// How the body of a request is sent and ended.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// With the head.
    Head,
    /// With the last part.
    Part,
    /// With an empty part of its own.
    Empty,
    /// With several empty parts.
    Empties,
    /// With trailers.
    Trailers,
}

const ENDINGS: [Ending; 5] = [Ending::Head, Ending::Part, Ending::Empty, Ending::Empties, Ending::Trailers];

async fn send(
    client: &mut SendRequest<Bytes>,
    path: &str,
    (ending, with_length, parts): (Ending, bool, usize),
) -> Result<Response<h2::RecvStream>, h2::Error> {
    let (method, parts) = if matches!(ending, Ending::Head) { ("GET", 0) } else { ("POST", parts) };
    let body: Vec<u8> = vec![b'x'; 10 * parts];
    let mut request = Request::builder().method(method).uri(format!("http://a.example{path}"));
    if with_length && !matches!(ending, Ending::Head) {
        request = request.header("content-length", body.len());
    }
    poll_fn(|cx| client.poll_ready(cx)).await?;
    let (answer, mut stream) = client.send_request(request.body(()).unwrap(), matches!(ending, Ending::Head))?;
    let chunks: Vec<&[u8]> = body.chunks(10).collect();
    for (i, part) in chunks.iter().enumerate() {
        let last = i + 1 == chunks.len() && matches!(ending, Ending::Part);
        stream.send_data(Bytes::copy_from_slice(part), last)?;
    }
    match ending {
        Ending::Part if chunks.is_empty() => stream.send_data(Bytes::new(), true)?,
        Ending::Head | Ending::Part => {}
        Ending::Empty => stream.send_data(Bytes::new(), true)?,
        Ending::Empties => {
            stream.send_data(Bytes::new(), false)?;
            stream.send_data(Bytes::new(), true)?;
        }
        Ending::Trailers => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            stream.send_trailers(trailers)?;
        }
    }
    answer.await
}

async fn text(answer: Response<h2::RecvStream>) -> String {
    let (mut body, mut read) = (answer.into_body(), vec![]);
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        body.flow_control().release_capacity(part.len()).unwrap();
        read.extend_from_slice(&part);
    }
    String::from_utf8(read).unwrap()
}

/// Bodies that end in every way, beside clients of HTTP/1.1 on the same pooled connections: how many answers were not
/// those of their requests.
fn wrong_answers(rounds: usize) -> (usize, usize) {
    let nginx = Nginx::start("$request_method $uri $content_length");
    let world = World::start(&format!(
        r#"
    {LISTENER}[upstream.app]
    servers = ["127.0.0.1:{}"]
    {ROUTE}"#,
        nginx.port
    ));
    let port = world.port;
    let beside = std::thread::spawn(move || {
        let (mut asked, mut wrong) = (0, 0);
        let mut connection = Connection::to(port).unwrap();
        for n in 0..rounds * 10 {
            let path = format!("/beside/{n}");
            match connection.ask(&get(&path).host("a.example")) {
                Ok(answer) => {
                    wrong += usize::from(answer.status != 200 || !answer.text().starts_with(&format!("GET {path} ")))
                }
                Err(_) => {
                    wrong += 1;
                    connection = Connection::to(port).unwrap();
                }
            }
            asked += 1;
        }
        (asked, wrong)
    });
    let (mut asked, mut wrong) = run(async {
        let mut client = connect(port).await;
        let (mut asked, mut wrong) = (0, 0);
        for n in 0..rounds {
            // A connection may bring a hundred empty parts; then its codec takes it for a flood.
            if n % 40 == 0 {
                client = connect(port).await;
            }
            for ending in ENDINGS {
                for with_length in [false, true] {
                    let path = format!("/{n}/{ending:?}/{with_length}");
                    let how = (ending, with_length, n % 4);
                    let answer = send(&mut client, &path, how).await;
                    let right = match answer {
                        Ok(answer) => {
                            let status = answer.status();
                            let body = text(answer).await;
                            status == 200 && body.contains(&format!(" {path} "))
                        }
                        Err(_) => false,
                    };
                    asked += 1;
                    wrong += usize::from(!right);
                }
            }
        }
        (asked, wrong)
    });
    let (others, others_wrong) = beside.join().unwrap();
    asked += others;
    wrong += others_wrong;
    (asked, wrong)
}

#[test]
fn bodies_that_end_in_every_way_leave_no_byte_for_the_next_client() {
    let (asked, wrong) = wrong_answers(40);
    assert_eq!(wrong, 0, "of {asked}");
}

#[test]
#[ignore = "long: a hundred thousand requests"]
fn long_bodies_that_end_in_every_way() {
    let (asked, wrong) = wrong_answers(5_000);
    println!("HTTP/2 bodies ended in every way beside HTTP/1.1 clients: {wrong} wrong answers of {asked}");
    assert!(asked >= 100_000);
    assert_eq!(wrong, 0);
}

#[test]
fn requests_are_served_side_by_side_and_told_apart() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&seen.path));
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    run(async {
        let client = connect(world.port).await;
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..50 {
            let mut client = client.clone();
            asked.spawn(async move {
                let path = format!("/{n}");
                let answer = send(&mut client, &path, (Ending::Part, true, n % 3)).await.unwrap();
                assert_eq!(answer.status(), 200);
                assert_eq!(text(answer).await, path);
            });
        }
        while let Some(done) = asked.join_next().await {
            done.unwrap();
        }
    });
    assert_eq!(origin.last().header("host"), Some("a.example"));
    assert_eq!(world.ask(get("/old")).text(), "/old", "HTTP/1.1 is spoken beside it");
    let line = world.log_line("/7");
    assert_eq!((line["host"].as_str(), line["status"].as_u64()), (Some("a.example"), Some(200)));
}

#[test]
fn what_would_be_read_differently_as_http1_is_refused() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let refused = |uri: &'static str, name: &'static str, value: &'static str| {
        let port = world.port;
        run(async move {
            let mut client = connect(port).await;
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let request = Request::builder().uri(uri).header(name, value).body(()).unwrap();
            client.send_request(request, true).unwrap().0.await.map(|answer| answer.status().as_u16())
        })
    };
    assert_eq!(refused("http://a.example/", "content_length", "3").unwrap(), 400);
    assert_eq!(refused("http://a.example/", "expect", "more").unwrap(), 417);
    assert_eq!(refused("http://a.example/a^b\"c", "x", "y").unwrap(), 400);
    assert_eq!(origin.hits(), 0);
    world.metric_reaches("tollgate_rejected_total", &["reason=\"bad_request\""], 2.0);
}

/// A codec's table makes a byte of each line that stands in the head again.
#[test]
fn few_bytes_do_not_become_a_large_head() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let status = |name: &'static str, times: usize| {
        let port = world.port;
        run(async move {
            let mut client = connect(port).await;
            let mut request = Request::get("http://a.example/");
            for _ in 0..times {
                request = request.header(name, "v".repeat(3_900));
            }
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            client.send_request(request.body(()).unwrap(), true).unwrap().0.await.unwrap().status().as_u16()
        })
    };
    assert_eq!(["x-a", "cookie"].map(|name| status(name, 2)), [200, 200]);
    assert_eq!(["x-a", "cookie"].map(|name| status(name, 12)), [431, 431]);
    assert_eq!(origin.hits(), 2);
}

#[test]
fn an_early_answer_ends_the_request_although_its_body_does_not() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let own = r#"
    [route.own]
    paths = ["/own"]
    respond = { status = 200, body = "early" }
    "#;
    world.push(&format!("{LISTENER}{}{ROUTE}{own}", fleet("app", &[&origin])));
    run(async {
        let mut client = connect(world.port).await;
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        let request = Request::post("http://a.example/own").body(()).unwrap();
        let (answer, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"a beginning"), false).unwrap();
        assert_eq!(text(answer.await.unwrap()).await, "early");
        let reset = timeout(Duration::from_secs(10), poll_fn(|cx| stream.poll_reset(cx))).await;
        assert!(reset.is_ok(), "the client is told to stop");
    });
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_sent_away() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let own = r#"
    [route.own]
    paths = ["/own"]
    respond = { body = "own" }
    "#;
    let world = World::start(&format!("{LISTENER}{}{ROUTE}{own}", fleet("app", &[&origin])));
    let streams = run(async {
        let mut client = connect(world.port).await;
        let mut streams = 0;
        for _ in 0..5_000 {
            if poll_fn(|cx| client.poll_ready(cx)).await.is_err() {
                break;
            }
            let request = Request::get("http://a.example/x").body(()).unwrap();
            let Ok((_, mut stream)) = client.send_request(request, true) else { break };
            stream.send_reset(h2::Reason::CANCEL);
            streams += 1;
            if streams % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        streams
    });
    assert!(streams < 5_000, "the connection goes on for ever");
    assert_eq!(world.ask(get("/own")).text(), "own", "others are served as before");
}

/// A frame.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Kind, stream and payload of the next frame; none where the connection has ended.
fn next_frame(tcp: &mut std::net::TcpStream) -> Option<(u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    tcp.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let mut payload = vec![0; length];
    tcp.read_exact(&mut payload).ok()?;
    Some((head[3], u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]), payload))
}

#[test]
fn resets_of_what_the_gateway_answers_itself_are_counted() {
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const GO_AWAY: u8 = 7;
    let own = r#"
    [route.own]
    paths = ["/own"]
    respond = { body = "own" }
    "#;
    let world = World::start(&format!("{LISTENER}{own}"));
    let mut tcp = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, world.port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    tcp.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    let mut said = None;
    let streams: Vec<u32> = (1..2_000).step_by(2).collect();
    // So many at once that the codec below does not mind; each is over before its 404 can be sent.
    'all: for some in streams.chunks(10) {
        let asked = some.iter().flat_map(|stream| {
            let reset = frame(RESET, 0, *stream, &8_u32.to_be_bytes());
            [frame(HEADERS, 5, *stream, b"\x82\x86\x84\x41\x01a"), reset].concat()
        });
        let bytes: Vec<u8> = asked.chain(frame(PING, 0, 0, &[0; 8])).collect();
        if tcp.write_all(&bytes).is_err() {
            break;
        }
        loop {
            match next_frame(&mut tcp) {
                Some((PING, ..)) => break,
                Some((GO_AWAY, _, last)) => {
                    said = Some((some[0], last[4..8].to_vec()));
                    break 'all;
                }
                Some(_) => {}
                None => break 'all,
            }
        }
        // Whoever is served has time to be counted.
        std::thread::sleep(Duration::from_millis(2));
    }
    let (stream, code) = said.expect("sent away before a thousand streams");
    assert_eq!(code, 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
    assert!(stream > 2 * 150, "sent away as early as stream {stream}");
    assert_eq!(world.ask(get("/own")).text(), "own", "others are served as before");
}

#[test]
fn heads_have_one_reading_here_too() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    run(async {
        let mut client = connect(world.port).await;
        let refused =
            |path: &str, status: u16| (Request::get(format!("http://a.example{path}")).body(()).unwrap(), status);
        let mut asked: Vec<_> =
            ["/a/..%2Fb", "/a/%2e%2e%5Cb", "/a/..;/b", "/a%00"].map(|path| refused(path, 400)).into();
        let (mut expecting, status) = refused("/expecting", 417);
        expecting.headers_mut().insert("expect", "foo".parse().unwrap());
        asked.push((expecting, status));
        let (mut long, status) = refused("/method", 400);
        *long.method_mut() = "A".repeat(33).parse().unwrap();
        asked.push((long, status));
        let (mut spoken, status) = refused("/spelt", 400);
        spoken.headers_mut().insert("x_real_ip", "10.0.0.1".parse().unwrap());
        asked.push((spoken, status));
        for (request, status) in asked {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let shown = format!("{request:?}");
            let answer = client.send_request(request, true).unwrap().0.await.unwrap();
            assert_eq!(answer.status(), status, "{shown}");
        }
        assert_eq!(origin.hits(), 0);
        assert_eq!(text(send(&mut client, "/a%2Fb", (Ending::Head, false, 0)).await.unwrap()).await, "a");
        // A refusal in gRPC's terms is kept by no cache.
        let grpc = Request::post("http://a.example/a/..%2Fb").header("content-type", "application/grpc");
        poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
        let answer = client.send_request(grpc.body(()).unwrap(), true).unwrap().0.await.unwrap();
        assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"13".parse().unwrap()));
        assert_eq!(answer.headers()["cache-control"], "no-store");
    });
    assert_eq!(world.log_line("/a%00")["error"], "path");
}

#[test]
fn options_of_everything_are_told() {
    let world = World::start(&format!(
        r#"
    {LISTENER}[route.own]
    respond = {{ body = "own" }}
    "#
    ));
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    };
    // `:method OPTIONS`, `:scheme http`, `:path *`, `:authority a`, each without the table.
    let head = b"\x02\x07OPTIONS\x86\x04\x01*\x41\x01a";
    let mut connection = world.connect();
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b""), &frame(1, 5, 1, head)].concat();
    connection.send(&preface).unwrap();
    let answer = loop {
        let start = connection.exactly(9).unwrap();
        let length = usize::from(start[1]) << 8 | usize::from(start[2]);
        let payload = connection.exactly(length).unwrap();
        if start[3] == 1 {
            break payload;
        }
    };
    assert_eq!(answer.first(), Some(&0x89), "204 of the static table: {}", answer.escape_ascii());
    let line = world.log_line("*");
    assert_eq!((&line["method"], &line["status"]), (&"OPTIONS".into(), &204.into()));
}

#[test]
fn an_idle_client_is_told_to_go_and_a_stop_finishes_what_is_open() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.does(Act::when(&gate, Act::body("late")));
    let mut world = World::start(&format!("{LISTENER}idle_timeout = \"1s\"\n{}{ROUTE}", fleet("app", &[&origin])));
    run(async {
        let mut idle = connect(world.port).await;
        gate.open();
        assert_eq!(text(send(&mut idle, "/", (Ending::Head, false, 0)).await.unwrap()).await, "late");
        let gone = async {
            while poll_fn(|cx| idle.poll_ready(cx)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, gone).await.expect("the idle connection ends");
    });
    let gate = Gate::new();
    origin.does(Act::when(&gate, Act::body("late")));
    run(async {
        let mut client = connect(world.port).await;
        let waiting =
            tokio::spawn(async move { text(send(&mut client, "/", (Ending::Head, false, 0)).await.unwrap()).await });
        while origin.hits() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.signal(rustix::process::Signal::TERM);
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.open();
        assert_eq!(waiting.await.unwrap(), "late");
    });
    world.ends_well();
}
