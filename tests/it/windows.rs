//! HTTP/2 clients that take their time, or take nothing.

use std::time::{Duration, Instant};

use crate::support::frames::*;
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

/// Reads an answer in windows of this size, each opened so long after the one before was used up.
fn read_slowly(client: &mut Frames, stream: u32, (window, pause): (usize, Duration)) -> (usize, Option<u32>) {
    let (mut bytes, mut left) = (0, window);
    loop {
        let frame = client.next().expect("the answer goes on");
        match frame.kind {
            DATA if frame.stream == stream => {
                bytes += frame.payload.len();
                left -= frame.payload.len();
                if frame.ends() {
                    return (bytes, None);
                }
                if left == 0 {
                    std::thread::sleep(pause);
                    client.open(0, window as u32);
                    client.open(stream, window as u32);
                    left = window;
                }
            }
            RST_STREAM if frame.stream == stream => return (bytes, Some(frame.code())),
            _ => {}
        }
    }
}

#[test]
fn a_client_that_opens_its_window_late_gets_the_whole_answer() {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(4_000)));
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let mut client = Frames::connect(world.port, 100);
    client.get(1, "a.example", "/");
    client.until(DATA);
    std::thread::sleep(Duration::from_millis(3_000));
    client.open(1, 60_000);
    let mut bytes = 100;
    loop {
        let frame = client.until(DATA);
        bytes += frame.payload.len();
        if frame.ends() {
            break;
        }
    }
    assert_eq!(bytes, 4_000);
}

fn a_slow_reader_gets(bytes: usize, pause: Duration) {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(bytes)));
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let mut client = Frames::connect(world.port, 65_535);
    let begun = Instant::now();
    client.get(1, "a.example", "/");
    assert_eq!(read_slowly(&mut client, 1, (65_535, pause)), (bytes, None));
    eprintln!("{bytes} bytes at windows of 64 KiB and {pause:?} between them: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_slow_reader_gets_every_byte() {
    a_slow_reader_gets(1 << 20, Duration::from_millis(150));
}

#[test]
#[ignore = "long"]
fn long_a_slow_reader_gets_every_byte_of_ten_mebibytes() {
    a_slow_reader_gets(10 << 20, Duration::from_millis(250));
}

#[test]
fn who_sends_on_although_he_has_the_answer_is_told_to_stop() {
    let origin = Origin::start("a");
    let early = b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nno.";
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.push(&format!(
        r#"
    {LISTENER}[upstream.app]
    servers = ["{}"]
    {ROUTE}"#,
        server.local_addr().unwrap()
    ));
    let mut client = Frames::connect(world.port, 65_535);
    let head = block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
    client.send(&frame(HEADERS, END_HEADERS, 1, &head)).unwrap();
    let mut server = server.accept().unwrap().0;
    std::io::Write::write_all(&mut server, early).unwrap();
    assert!(client.until(DATA).ends());
    let begun = Instant::now();
    let stopped = loop {
        assert!(begun.elapsed() < Duration::from_secs(10), "nobody told it to stop");
        client.send(&frame(DATA, 0, 1, b"more")).unwrap();
        if let Some(reset) = client.within(Duration::from_millis(100)).into_iter().find(|f| f.kind == RST_STREAM) {
            break reset;
        }
    };
    assert_eq!(stopped.stream, 1);
}

/// 100 streams without a window, each with a head that points many times at one entry of the table.
fn starving(client: &mut Frames) -> Vec<Frame> {
    let entry = b"\x82\x86\x84\x01\x01a\x40\x01b\x03val";
    for n in 0..100 {
        let block = [if n == 0 { &entry[..] } else { b"\x82\x86\x84\x01\x01a" }, &[0xbe; 95]].concat();
        client.send(&frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block)).unwrap();
    }
    client.within(Duration::from_secs(1))
}

#[test]
fn who_opens_no_window_is_served_little_and_may_ask_again() {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(300_000)));
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let mut client = Frames::connect(world.port, 0);
    let frames = starving(&mut client);
    let refused = frames.iter().filter(|it| it.kind == RST_STREAM).inspect(|it| assert_eq!(it.code(), 7)).count();
    assert_eq!(refused, 98, "REFUSED_STREAM: nothing was done for them");
    assert_eq!(world.metric("tollgate_rejected_total", &["window_shut"]), 98.0);
    eventually("two are served", || (origin.hits() == 2).then_some(()));
    assert_eq!(world.ask(get("/")).status, 200, "others are served");
    // With a window it is a client like any other.
    (0..2).for_each(|n| client.open(2 * n + 1, 1 << 20));
    client.open(0, 1 << 20);
    let mut ended = 0;
    while ended < 2 {
        ended += usize::from(client.until(DATA).ends());
    }
    client.get(201, "a", "/");
    client.open(201, 1 << 20);
    client.open(0, 1 << 20);
    while !client.until(DATA).ends() {}
}

#[test]
fn who_lets_many_answers_starve_is_sent_away() {
    let origin = Origin::start("a");
    origin.does(Act::body(&"x".repeat(100_000)));
    let world = World::start(&format!("{LISTENER}idle_timeout = \"1s\"\n{}{ROUTE}", fleet("app", &[&origin])));
    let mut client = Frames::connect(world.port, 65_535);
    (0..20).for_each(|n| client.get(2 * n + 1, "a", "/"));
    let away = client.until(GOAWAY);
    assert_eq!(away.code(), 11, "ENHANCE_YOUR_CALM");
    eventually("all is given back", || (world.server(&origin.address())["in_flight"] == 0).then_some(()));
}

#[test]
fn what_a_client_must_not_do_ends_its_connection() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let post = block(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")]);
    let begun = frame(HEADERS, END_HEADERS, 1, &post);
    let reset = [&begun[..], &frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes())].concat();
    let update = frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes());
    for (bytes, code) in [
        ([&reset[..], &frame(DATA, 0, 1, b"late")].concat(), 5),
        ([&reset[..], &frame(HEADERS, END_STREAM | END_HEADERS, 1, &post)].concat(), 5),
        ([&begun[..], &update, &update].concat(), 3),
        (frame(HEADERS, END_STREAM | END_HEADERS, 1, &[&get_block("a", "/")[..], &[0x90; 201]].concat()), 11),
    ] {
        let mut client = Frames::connect(world.port, 65_535);
        client.send(&bytes).unwrap();
        let ended = loop {
            match client.next().expect("it is told") {
                frame if matches!(frame.kind, GOAWAY | RST_STREAM) => break frame,
                _ => {}
            }
        };
        assert_eq!(ended.code(), code, "{ended:?}");
    }
}

#[test]
fn who_resets_what_the_gateway_answers_itself_is_sent_away() {
    let world = World::start(&format!(
        r#"
    {LISTENER}[route.none]
    hosts = ["b"]
    respond = {{ status = 200 }}
    "#
    ));
    let mut client = Frames::connect(world.port, 65_535);
    let mut told = vec![];
    for n in 0..1_000 {
        let asked = frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &get_block("a", "/"));
        if client.send(&[asked, frame(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes())].concat()).is_err() {
            break;
        }
        if n % 50 == 49 {
            told.extend(client.within(Duration::from_millis(50)));
        }
    }
    told.extend(client.within(Duration::from_millis(500)));
    let away = told.iter().find(|frame| frame.kind == GOAWAY).expect("it is sent away");
    assert_eq!(away.code(), 11);
}

#[test]
#[ignore = "long: half a minute"]
fn long_an_answer_that_goes_on_is_never_stuck() {
    // Pingora's own streams, of which we see no byte, and limits that together are shorter than the answer.
    let nginx = crate::support::nginx::Nginx::with("listen 127.0.0.1:$PORT http2;", "root .; limit_rate 1k;", &[]);
    std::fs::write(nginx.path("slow"), vec![b'x'; 32 << 10]).unwrap();
    let world = World::start(&format!(
        r#"
        {LISTENER}idle_timeout = "1s"
        header_timeout = "1s"
        [upstream.app]
        servers = ["{}"]
        http2 = true
        timeout = {{ connect = "1s", first_byte = "1s", read = "2s", write = "1s" }}
        {ROUTE}"#,
        nginx.address()
    ));
    let mut client = Frames::connect(world.port, 1 << 20);
    let begun = Instant::now();
    client.get(1, "a.example", "/slow");
    let mut bytes = 0;
    loop {
        let frame = client.until(DATA);
        bytes += frame.payload.len();
        if frame.ends() {
            break;
        }
    }
    assert_eq!(bytes, 32 << 10);
    assert!(begun.elapsed() > Duration::from_secs(24), "{:?} is too quick to tell anything", begun.elapsed());
}
