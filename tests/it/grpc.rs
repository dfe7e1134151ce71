//! gRPC through the gateway, with the library that most people use on both sides (`tests/grpc/calls.py`).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::support::*;

/// A server of gRPC's own library.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `tests/grpc/calls.py`
pub fn script() -> Command {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/grpc/calls.py");
    let mut command = Command::new(python::environment("grpc"));
    command.arg(script);
    command
}

/// Starts one; `how` is `broken` or nothing.
pub fn server(how: &[&str]) -> Server {
    let mut process = script().arg("serve").args(how).stdout(Stdio::piped()).spawn().unwrap();
    let mut port = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut port).unwrap();
    Server { process, port: port.trim().parse().expect("the server's port") }
}

#[test]
fn every_kind_of_call() {
    let (server, dead) = (server(&[]), Dead::new());
    let world = World::start(&format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        h2c = true
        [upstream.calls]
        servers = ["127.0.0.1:{}"]
        http2 = true
        adaptive = true
        [upstream.dead]
        servers = ["{}"]
        http2 = true
        [route.calls]
        paths = ["/tests.Calls/*"]
        upstream = "calls"
        compress = true
        [route.dead]
        paths = ["/tests.Dead/*"]
        upstream = "dead"
        [route.denied]
        paths = ["/tests.Denied/*"]
        upstream = "calls"
        deny = ["127.0.0.0/8"]
        "#,
        server.port,
        dead.address()
    ));
    let output = script().args(["call", &world.port.to_string()]).output().unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{wrong}");
    assert_eq!(said.lines().count(), 10, "{said}");
    // Logs and metrics know what a refusal was.
    let line = world.log_line("/tests.Denied/Method");
    assert_eq!((&line["status"], &line["error"]), (&403.into(), &"forbidden".into()));
    assert_eq!(world.metric("tollgate_rejected_total", &["reason=\"forbidden\""]), 1.0);
}

#[test]
fn a_refusal_is_a_success_to_nobody_who_does_not_speak_grpc() {
    let world = World::start(
        r#"
    [route.one]
    paths = ["/one"]
    respond = {}
    "#,
    );
    // It is spoken by POST over HTTP/2 alone; anybody can name the media type.
    world.ask(post("/a.B/C", "x").header("content-type", "application/grpc+proto")).is_problem(404, "no_route");
    let asked = world.ask(get("/nope.js").header("content-type", "application/grpc"));
    asked.is_problem(404, "no_route");
    assert_eq!(asked.header("cache-control"), Some("no-store"));
    world.ask(post("/a.B/C", "x").header("content-type", "application/grpc-web")).is_problem(404, "no_route");
}
