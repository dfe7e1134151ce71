//! The command line: answers on stdout, errors on stderr, 0 done, 1 the answer is no, 2 wrong use.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::nginx::Nginx;
use crate::support::processes::{copy_program, write_program};
use crate::support::*;

const GOOD: &str = "[upstream.app]\nservers = [\"127.0.0.1:9\"]\n\
    [route.orders]\nhosts = [\"api.example.com\"]\npaths = [\"/orders/*\"]\nmethods = [\"GET\"]\nupstream = \"app\"\n\
    strip_prefix = \"/orders\"\nallow = [\"10.0.0.0/8\"]\nrequest_headers = { remove = [\"x-debug\"] }\n\
    [route.old]\npaths = [\"/old\"]\nredirect = { to = \"/new\" }\n\
    response_headers = { add = { vary = \"accept\" } }\nrequest_headers = { remove = [\"x-debug\"] }\n";

fn prepared(config: &str) -> World {
    let world = World::prepare();
    world.write(config);
    world
}

#[track_caller]
fn done(output: &Output, code: i32) -> String {
    let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "stdout: {out}\nstderr: {error}");
    assert!(code == 0 || code == 1 && !out.is_empty() || !error.is_empty(), "a failure that says nothing");
    out.into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    let out = done(output, code);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn check_says_ok_or_every_finding() {
    let world = prepared(GOOD);
    assert_eq!(done(&world.cli(&["check", "-c", "tollgate.toml"]), 0), "ok: 1 listener, 1 upstream, 2 routes\n");
    assert_eq!(json(&world.cli(&["check", "-c", "tollgate.toml", "--json"]), 0), Value::Array(vec![]));
    world.write("[route.a]\nhostz = []\nupstream = \"ap\"\n[upstream.app]\nservers = [\"127.0.0.1:9\"]\n");
    let output = world.cli(&["check", "-c", "tollgate.toml"]);
    done(&output, 1);
    let told = stderr(&output);
    assert!(told.contains("tollgate.toml:10:1:") && told.contains("did you mean `hosts`"), "{told}");
    let findings = json(&world.cli(&["--json", "check", "-c", "tollgate.toml"]), 1);
    for finding in findings.as_array().unwrap() {
        let keys: Vec<&String> = finding.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["file", "line", "column", "text", "message", "hint", "severity"]);
        assert_eq!(finding["severity"], "error");
    }
    assert_eq!((&findings[0]["line"], &findings[0]["text"]), (&10.into(), &"hostz".into()));
    let missing = world.cli(&["check", "-c", "none.toml"]);
    done(&missing, 1);
    assert!(stderr(&missing).contains("none.toml: cannot be read"), "{}", stderr(&missing));
}

#[test]
fn what_is_unwise_is_said_and_keeps_nothing_from_being_served() {
    let unwise = GOOD.replace("[route.old]", "[route.rest]\nupstream = \"app\"\n[route.old]");
    let mut world = World::start(GOOD);
    world.push(&unwise);
    let reloaded = world.admin(get("/api/v1/config")).json();
    assert_eq!((&reloaded["revision"], &reloaded["last_error"]), (&2.into(), &Value::Null));
    let warned = "which lets in other addresses, unlike route `orders`";
    let lines = |world: &World| {
        let said = world.messages();
        said.lines().filter(|line| line.contains(warned)).map(str::to_owned).collect::<Vec<_>>()
    };
    // It is said once the revision is served.
    let line = eventually("the warning", || lines(&world).pop());
    assert!(lines(&world).len() == 1 && line.contains("WARN"), "{}", world.messages());
    assert_eq!(world.admin(post("/api/v1/config/reload", "")).status, 200);
    let output = world.cli(&["check", "-c", "tollgate.toml"]);
    assert_eq!(done(&output, 0), "ok: 1 listener, 1 upstream, 3 routes\n");
    let told = stderr(&output);
    assert!(told.contains("tollgate.toml:11:1: warning: ") && told.contains(warned), "{told}");
    assert!(told.ends_with("\n1 warning\n"), "{told}");
    let findings = json(&world.cli(&["check", "--json", "-c", "tollgate.toml"]), 0);
    assert_eq!((&findings[0]["severity"], &findings[0]["line"]), (&"warning".into(), &11.into()));
    let strict = world.cli(&["check", "--strict", "-c", "tollgate.toml"]);
    assert_eq!((strict.status.code(), stderr(&strict)), (Some(1), told));
    assert_eq!(json(&world.cli(&["check", "--strict", "--json", "-c", "tollgate.toml"]), 1), findings);
    world.stop();
    assert_eq!(lines(&world).len(), 1, "what is served already is not warned about again");
    assert!(world.run(), "it starts");
    eventually("the warning", || lines(&world).pop());
    assert_eq!(lines(&world).len(), 1, "{}", world.messages());
    world.write(GOOD);
    assert_eq!(done(&world.cli(&["check", "--strict", "-c", "tollgate.toml"]), 0).lines().count(), 1);
}

#[test]
fn wrong_use_is_two_and_help_is_zero() {
    let world = prepared(GOOD);
    for wrong in [
        &["chek"][..],
        &["check"],
        &["run", "-c"],
        &["explain", "-c", "tollgate.toml", "GET"],
        &["explain", "-c", "tollgate.toml", "GET", "http://a/", "-H", "no header"],
        &["config", "history"],
        &["config", "rollback", "-c", "tollgate.toml", "x"],
        &["--nonsense"],
    ] {
        let output = world.cli(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty(), "{wrong:?}");
    }
    assert_eq!(world.cli(&[]).status.code(), Some(2));
    for right in [&["--help"][..], &["--version"], &["run", "--help"]] {
        assert!(!done(&world.cli(right), 0).is_empty());
    }
}

#[test]
fn explain_names_route_upstream_and_reasons() {
    let world = prepared(GOOD);
    let asked = ["explain", "-c", "tollgate.toml", "GET", "http://api.example.com/orders/7?x=1"];
    let text = done(&world.cli(&asked), 0);
    let forwarded = ["forwarded to upstream app as /7", "headers of the request: removed x-debug"];
    for part in ["orders", "app", "host api.example.com, exactly", "/orders/*"].into_iter().chain(forwarded) {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let told = json(&world.cli(&[&asked[..], &["--json", "--client", "10.1.1.1"]].concat()), 0);
    let keys: Vec<&String> = told.as_object().unwrap().keys().collect();
    let expected = ["route", "app", "limits", "user", "release", "bucket", "cohorts", "arm", "upstream", "why"];
    assert_eq!(keys, expected);
    assert_eq!((&told["route"], &told["upstream"], &told["arm"]), (&"orders".into(), &"app".into(), &Value::Null));
    assert!(told["why"].to_string().contains("may use it"));
    let kept_out = json(&world.cli(&[&asked[..], &["--json", "--client", "192.0.2.1"]].concat()), 0);
    assert!(kept_out["why"].to_string().contains("403"), "{kept_out}");
    assert!(!kept_out["why"].to_string().contains("forwarded"), "{kept_out}");
    let spelt = json(&world.cli(&[&asked[..], &["--json", "-H", "X_Debug: 1"]].concat()), 0);
    assert!(spelt["why"].to_string().contains("400") && !spelt["why"].to_string().contains("forwarded"), "{spelt}");
    let redirect = json(&world.cli(&["explain", "--json", "-c", "tollgate.toml", "HEAD", "/old", "-H", "host: x"]), 0);
    assert_eq!((&redirect["route"], &redirect["upstream"]), (&"old".into(), &Value::Null));
    let why = redirect["why"].to_string();
    assert!(why.contains("headers of the response: added vary") && !why.contains("headers of the request"), "{why}");
    let none = json(&world.cli(&["explain", "--json", "-c", "tollgate.toml", "POST", "http://b/x"]), 1);
    assert!(none["route"].is_null() && none["why"].to_string().contains("404"), "{none}");
    let url = "http://api.example.com/orders/..%2Fx";
    let refused = json(&world.cli(&["explain", "--json", "-c", "tollgate.toml", "GET", url]), 1);
    assert!(refused["route"].is_null() && refused["why"].to_string().contains("400 (`path`)"), "{refused}");
}

#[test]
fn diff_tells_what_moves() {
    let world = prepared(GOOD);
    let new = GOOD.replace("127.0.0.1:9", "127.0.0.1:10").replace("[route.old]", "[route.older]");
    world.write_as("new.toml", world.complete(&new).as_bytes());
    let text = done(&world.cli(&["diff", "tollgate.toml", "new.toml"]), 0);
    for line in ["+ server 127.0.0.1:10 of app", "- server 127.0.0.1:9 of app", "+ route older", "- route old"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let told = json(&world.cli(&["diff", "--json", "tollgate.toml", "new.toml"]), 0);
    assert_eq!(told["routes"]["added"], serde_json::json!(["older"]));
    assert_eq!(done(&world.cli(&["diff", "tollgate.toml", "tollgate.toml"]), 0), "no difference\n");
    world.write_as("bad.toml", b"x = 1\n");
    done(&world.cli(&["diff", "tollgate.toml", "bad.toml"]), 1);
}

#[test]
fn schema_is_a_json_schema() {
    let schema = json(&World::prepare().cli(&["schema"]), 0);
    assert!(schema["$schema"].as_str().is_some_and(|s| s.contains("2020-12")));
    assert!(schema["properties"]["listener"].is_object() && schema["properties"]["route"].is_object());
}

#[test]
fn config_commands_talk_to_the_running_gateway() {
    let mut world = World::prepare();
    world.write_as("admin.token", b"s3cret\n");
    world.token = Some("s3cret".into());
    let says = |text: &str| {
        format!(
            "[admin]\naddress = \"$ADMIN\"\ntoken_file = \"admin.token\"\n[route.all]\nrespond = {{ body = \"{text}\" }}\n"
        )
    };
    world.boot(&says("one"));
    world.push(&says("two"));
    world.push(&says("three"));
    let text = done(&world.cli(&["config", "history", "-c", "tollgate.toml"]), 0);
    assert!(text.lines().count() == 4 && text.contains("* 3 "), "{text}");
    let told = json(&world.cli(&["config", "history", "-c", "tollgate.toml", "--json"]), 0);
    assert_eq!(told.as_array().map(Vec::len), Some(3));

    let text = done(&world.cli(&["config", "rollback", "-c", "tollgate.toml"]), 0);
    assert_eq!(text, "revision 2 is served\n");
    assert_eq!(world.ask(get("/")).text(), "two");
    let admin = format!("http://127.0.0.1:{}/", world.admin_port);
    let by_url = ["--admin", &admin, "--token-file", "admin.token"];
    let rolled = json(&world.cli(&[&["config", "--json", "rollback", "1"][..], &by_url].concat()), 0);
    assert_eq!(rolled["revision"], 1);
    assert_eq!(done(&world.cli(&[&["config", "confirm"][..], &by_url].concat()), 0), "revision 1 is served\n");

    let refused = world.cli(&["config", "rollback", "77", "-c", "tollgate.toml"]);
    done(&refused, 1);
    assert!(stderr(&refused).contains("77 is not kept"), "{}", stderr(&refused));
    let no_token = world.cli(&["config", "history", "--admin", &admin]);
    done(&no_token, 1);
    assert!(stderr(&no_token).contains("token"), "{}", stderr(&no_token));
    world.stop();
    let gone = world.cli(&["config", "history", "-c", "tollgate.toml"]);
    done(&gone, 1);
    assert!(stderr(&gone).contains("is the gateway running?"), "{}", stderr(&gone));
}

#[test]
fn run_says_why_it_cannot_serve() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let world = prepared(&format!("[[listener]]\naddress = \"{address}\"\n[route.all]\nrespond = {{}}\n"));
    let output = world.cli(&["run", "-c", "tollgate.toml"]);
    done(&output, 1);
    assert!(stderr(&output).contains(&address.to_string()), "{}", stderr(&output));
    let findings = World::prepare().cli(&["run", "--json", "-c", "none.toml"]);
    assert_eq!(json(&findings, 1).as_array().map(Vec::len), Some(1));
}

#[test]
fn an_admin_address_that_sends_on_and_on_is_not_read_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 16]).unwrap();
        let sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok();
        sent && std::iter::repeat_with(|| stream.write_all(&[b' '; 1 << 16])).take(2_000).any(|sent| sent.is_err())
    });
    let ran = Command::new(world::executable()).args(["release", "list", "--admin", &url]).output().unwrap();
    done(&ran, 1);
    assert!(stderr(&ran).contains("its answer is longer than 32 MiB"), "{}", stderr(&ran));
    assert!(server.join().unwrap(), "it read all of 125 MiB");
}

#[test]
fn a_gateway_that_is_frozen_is_not_waited_for_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The kernel accepts the connection, as it does for a process that is stopped.
    let begun = Instant::now();
    let ran = Command::new(world::executable()).args(["release", "list", "--admin", &url]).output().unwrap();
    done(&ran, 1);
    assert!(stderr(&ran).contains("no whole answer within 10 s"), "{}", stderr(&ran));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}

#[test]
fn the_demo_is_a_program_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let [own, demo] = ["tollgate", "tollgate-demo"].map(|name| folder.path().join(name));
    copy_program(&world::executable(), &own);
    let run = || Command::new(&own).args(["demo", "--json"]).env("PATH", folder.path().join("none")).output().unwrap();
    let missing = run();
    done(&missing, 1);
    assert!(stderr(&missing).contains("cargo build --release --package tollgate-demo"), "{}", stderr(&missing));
    write_program(&demo, b"#!/bin/sh\necho \"$@\"\nexit 3\n");
    let own = own.canonicalize().unwrap();
    let expected = (Some(3), format!("--tollgate {} --json\n", own.display()));
    let ran = run();
    assert_eq!((ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned()), expected);
}

#[test]
fn a_machine_without_certificates_of_authorities_still_speaks_http() {
    let made = secure::made(&["inside.example"]);
    let files = [("a.crt", made.cert.as_str()), ("a.key", made.key.as_str())];
    let listen = "listen 127.0.0.1:$PORT ssl; ssl_certificate a.crt; ssl_certificate_key a.key;";
    let secure = Nginx::with(listen, "return 200 seen;", &files);
    // One that cannot be read, and one with nothing in it, as where the package ca-certificates is missing.
    for bundle in ["none", "empty"] {
        let mut world = World::prepare();
        fs::create_dir(world.path("folder")).unwrap();
        fs::write(world.path("empty"), "").unwrap();
        let folder = if bundle == "none" { bundle } else { "folder" };
        let named = [("SSL_CERT_FILE", bundle), ("SSL_CERT_DIR", folder)];
        world.layer = named.map(|(name, path)| (name.into(), world.path(path).into())).to_vec();
        world.boot(&format!(
            r#"
            [upstream.seen]
            servers = [{:?}]
            tls = {{ verify = false }}
            health = {{ path = "/" }}
            [route.seen]
            upstream = "seen"
            "#,
            secure.address()
        ));
        assert!(world.messages().contains("no server is trusted over https"), "{bundle}: {}", world.messages());
        let answer = world.ask(get("/"));
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (200, "seen"),
            "{bundle}: what verifies nothing needs none"
        );
        let ask = |scheme: &str| {
            let admin = format!("{scheme}://127.0.0.1:{}", world.admin_port);
            let mut command = Command::new(world::executable());
            command.args(["config", "history", "--admin", &admin]).envs(world.layer.iter().cloned()).output().unwrap()
        };
        assert!(done(&ask("http"), 0).contains("* 1 "));
        done(&ask("https"), 1);
    }
}
