//! Requests in every state that a client and a server can leave them in: all of them end, and nothing stays.
//!
//! Kinds: an upload, a tunnel, an answer. Clients: leave, stay and read nothing, close their sending half, open no window,
//! send a part by HTTP/2 and no more. Servers: serve, or are frozen (SIGSTOP), before or in the middle.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::frames::*;
use crate::support::nginx::Nginx;
use crate::support::wait::within;
use crate::support::*;

/// Requests that an upstream has in a round: as many as it may.
const ROUND: usize = 50;
/// The longest that anything may take: ten seconds over which a body is measured, and the other limits of a second.
const LIMITS: Duration = Duration::from_secs(25);

/// A client in the middle of something.
enum Client {
    Stays { _connection: Connection },
    Frames { _frames: Frames },
    Left,
}

fn upload() -> Vec<u8> {
    let head = b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n";
    [&head[..], &[b'x'; 100_000]].concat()
}

/// The `n`th client of an upstream.
fn begin(world: &World, host: &str, n: usize) -> Client {
    let upgrade = || get("/ws").host(host).header("connection", "upgrade").header("upgrade", "websocket").bytes();
    let sent = match n % 3 {
        0 => String::from_utf8(upload()).unwrap().replace("host: a", &format!("host: {host}")).into_bytes(),
        1 => upgrade(),
        _ => get("/big").host(host).bytes(),
    };
    match n % 5 {
        3 => {
            let mut frames = Frames::connect(world.port, 0);
            frames.get(1, host, "/big");
            return Client::Frames { _frames: frames };
        }
        4 => {
            let mut frames = Frames::connect(world.port, 65_535);
            let head = [(":method", "POST"), (":scheme", "http"), (":authority", host), (":path", "/up")];
            frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&head))).unwrap();
            frames.send(&frame(DATA, 0, 1, &[b'x'; 10_000])).unwrap();
            return Client::Frames { _frames: frames };
        }
        _ => {}
    }
    let mut connection = world.connect();
    // The gateway may be quicker with its refusal.
    let _ = connection.send(&sent);
    match n % 5 {
        0 => Client::Left,
        1 => {
            connection.finish();
            Client::Stays { _connection: connection }
        }
        _ => Client::Stays { _connection: connection },
    }
}

fn sockets(world: &World) -> usize {
    let number = rustix::process::Pid::as_raw_nonzero(world.pid());
    let fds = fs::read_dir(format!("/proc/{number}/fd")).unwrap().flatten();
    fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))).count()
}

fn config(servers: &[Nginx]) -> String {
    let mut text = r#"
    [server]
    threads = 2
    shutdown_grace = "2s"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    header_timeout = "1s"
    idle_timeout = "1s"
    "#
    .to_owned();
    for (n, server) in servers.iter().enumerate() {
        text.push_str(&format!(
            r#"
            [upstream.u{n}]
            servers = ["{}"]
            max_requests_per_server = {ROUND}
            retry.attempts = 1
            timeout = {{ connect = "1s", first_byte = "1s", read = "1s", write = "1s" }}
            outlier.consecutive_failures = 1000000
            [route.u{n}]
            hosts = ["u{n}"]
            upstream = "u{n}"
            "#,
            server.address()
        ));
    }
    text
}

fn in_flight(world: &World) -> f64 {
    let upstreams = world.admin(get("/api/v1/upstreams")).json();
    let servers = upstreams.as_array().unwrap().iter().flat_map(|upstream| upstream["servers"].as_array().unwrap());
    servers.map(|server| server["in_flight"].as_f64().unwrap()).sum()
}

fn every_state(upstreams: usize, rounds: usize) {
    let (echo, sink) = (Origin::start("echo"), Origin::start("sink"));
    echo.does(Act::Echo);
    let location = format!(
        "root .; location /up {{ proxy_pass http://{}; proxy_request_buffering off; client_max_body_size 0; }}\n\
         location /ws {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;\n\
         proxy_set_header Connection upgrade; }}",
        sink.address(),
        echo.address()
    );
    let servers: Vec<Nginx> = (0..upstreams).map(|_| Nginx::with("listen 127.0.0.1:$PORT;", &location, &[])).collect();
    servers.iter().for_each(|server| fs::write(server.path("big"), vec![b'x'; 20_000_000]).unwrap());
    let mut world = World::start(&config(&servers));
    let quiet = sockets(&world);
    let freeze = |signal| servers.iter().for_each(|server| server.signal(signal));
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        if round % 3 == 1 {
            freeze(Signal::STOP);
        }
        let begun = Instant::now();
        let clients: Vec<Client> = (0..ROUND * upstreams)
            .map(|n| begin(&world, &format!("u{}", n % upstreams), n / upstreams + round))
            .collect();
        asked += clients.len();
        if round % 3 == 2 {
            freeze(Signal::STOP);
        }
        let ended = within(LIMITS, || {
            let open = world.metric("tollgate_connections", &[]);
            (in_flight(&world) == 0.0 && open == 0.0).then_some(())
        });
        let left = (in_flight(&world), world.metric("tollgate_connections", &[]));
        assert!(ended.is_some(), "round {round}: (in flight, connections) = {left:?}");
        slowest = slowest.max(begun.elapsed());
        freeze(Signal::CONT);
        drop(clients);
        for n in 0..upstreams {
            let answer = world.ask(request_of(n));
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        }
        // The requests just made keep their connections to servers.
        let open = within(LIMITS, || (sockets(&world) <= quiet + 2 * upstreams).then_some(()));
        assert!(open.is_some(), "round {round}: {} sockets, {quiet} before", sockets(&world));
    }
    assert_eq!(world.metric("tollgate_stuck_requests_total", &[]), 0.0);
    let _last: Vec<Client> = (0..ROUND).map(|n| begin(&world, "u0", n)).collect();
    freeze(Signal::STOP);
    let begun = Instant::now();
    world.signal(Signal::TERM);
    world.ended();
    let shutdown = begun.elapsed();
    freeze(Signal::CONT);
    assert!(shutdown < Duration::from_secs(6), "a grace of 2 s took {shutdown:?}");
    eprintln!(
        "{asked} requests in every state: all ended within {:.1} s, none stuck; a shutdown took {:.1} s",
        slowest.as_secs_f64(),
        shutdown.as_secs_f64()
    );
}

fn request_of(n: usize) -> Request {
    get("/ok").host(&format!("u{n}")).target("/nginx.conf")
}

#[test]
fn nothing_stays_of_a_hundred_and_fifty_requests_in_every_state() {
    every_state(1, 3);
}

#[test]
#[ignore = "long: scripts/test --long"]
fn long_nothing_stays_of_two_thousand_requests_in_every_state() {
    every_state(8, 6);
}
