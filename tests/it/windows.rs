//! HTTP/2 clients that take their time, or take nothing.

use std::time::{Duration, Instant};

use crate::support::frames::{DATA, END_HEADERS, Frames, HEADERS, RST_STREAM, block, frame};
use crate::support::*;

const LISTENER: &str = "[[listener]]\naddress = \"$LISTEN\"\nh2c = true\n";
const ROUTE: &str = "[route.all]\nupstream = \"app\"\n";

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
    world.push(&format!("{LISTENER}[upstream.app]\nservers = [\"{}\"]\n{ROUTE}", server.local_addr().unwrap()));
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
