//! observe: what the gateway says of the requests it served, in metrics and in its access log.

use std::fs;

use rustix::process::Signal;

use crate::support::client::request;
use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;

#[test]
fn a_log_line_tells_a_request_whole() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    world.ask(get("/a/./b?secret=1").host("Shop.Example:81").header("user-agent", "probe \"1\"\u{e9}"));
    let line = world.log_line("/a/./b");
    let time = line["time"].as_str().unwrap();
    assert!(time.len() == 24 && &time[10..11] == "T" && &time[19..20] == "." && time.ends_with('Z'), "{time}");
    for (field, expected) in [
        ("client", "127.0.0.1".into()),
        ("method", "GET".into()),
        ("host", "Shop.Example:81".into()),
        ("status", 200.into()),
        ("bytes", 1.into()),
        ("route", "all".into()),
        ("attempts", 1.into()),
        ("upstream", "app".into()),
        ("server", origin.address().into()),
        ("revision", 1.into()),
        ("user_agent", "probe \"1\"\u{e9}".into()),
    ] as [(&str, serde_json::Value); 11]
    {
        assert_eq!(line[field], expected, "{field} in {line}");
    }
    assert!(line["duration_ms"].as_f64() >= line["upstream_ms"].as_f64(), "{line}");
    for empty in ["app", "arm", "bucket", "release", "rescued", "error"] {
        assert!(line.get(empty).is_none(), "{empty} is empty and still there: {line}");
    }
    assert!(!fs::read_to_string(world.path("access.log")).unwrap().contains("secret"), "a query was logged");
}

#[test]
fn the_very_first_request_is_logged() {
    let mut world = World::prepare();
    world.write(
        r"
    [route.all]
    respond = {}
    ",
    );
    for n in 0..10 {
        let path = format!("/first/{n}");
        world.spawn(&world.config_path());
        eventually("it takes connections", || world.try_ask(&get(&path)).ok());
        world.log_line(&path);
        world.stop();
    }
}

#[test]
fn hostile_bytes_do_not_break_a_line() {
    let world = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    let mut connection = world.connect();
    connection.send(b"GET /x%0a\"y\\ HTTP/1.1\r\nhost: a\r\nuser-agent: \xff\xfe\"\\\t\r\n\r\n").unwrap();
    let status = connection.answer(false).unwrap().status;
    world.ask(get("/after"));
    world.log_line("/after");
    // `log_lines` has parsed every line.
    assert!(world.log_lines().len() >= if status == 200 { 2 } else { 1 });
}

#[test]
fn sampling_spares_good_answers_and_never_bad_ones() {
    let config = |percent: &str| {
        format!(
            r#"
            [log]
            access = "./access.log"
            sample_percent = {percent}
            [route.good]
            paths = ["/good"]
            respond = {{}}
            [route.bad]
            respond = {{ status = 500 }}
            "#
        )
    };
    let world = World::start(&config("0"));
    let mut connection = world.connect();
    for _ in 0..50 {
        connection.ask(&get("/good")).unwrap();
    }
    connection.ask(&get("/bad")).unwrap();
    world.log_line("/bad");
    assert_eq!(world.log_lines().len(), 1);
    world.push(&config("50"));
    for _ in 0..200 {
        connection.ask(&get("/good")).unwrap();
    }
    connection.ask(&get("/end")).unwrap();
    world.log_line("/end");
    let logged = world.log_lines().iter().filter(|line| line["path"] == "/good").count();
    assert!((50..150).contains(&logged), "{logged} of 200 at 50 %");
}

#[test]
fn the_log_goes_where_it_is_pointed_and_off_is_off() {
    let config = |log: &str| {
        format!(
            r#"
    [log]
    access = "{log}"
    [route.all]
    respond = {{}}
    "#
        )
    };
    let world = World::start(&config("stdout"));
    world.ask(get("/stdout"));
    let stdout = || fs::read_to_string(world.path("stdout.log")).unwrap();
    eventually("a line on stdout", || stdout().contains("\"/stdout\"").then_some(()));
    world.push(&config("off"));
    world.ask(get("/off"));
    world.push(&config("./access.log"));
    world.ask(get("/file"));
    world.log_line("/file");
    assert!(!stdout().contains("/off") && world.log_lines().len() == 1);
    assert_eq!(world.metric("tollgate_log_dropped_total", &[]), 0.0);
}

#[test]
fn sigusr1_reopens_a_rotated_log() {
    let world = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    world.ask(get("/before"));
    world.log_line("/before");
    fs::rename(world.path("access.log"), world.path("access.log.1")).unwrap();
    world.signal(Signal::USR1);
    eventually("the new file", || world.path("access.log").exists().then_some(()));
    world.ask(get("/after"));
    world.log_line("/after");
    assert!(!fs::read_to_string(world.path("access.log.1")).unwrap().contains("/after"));
}

#[test]
fn a_full_disk_drops_lines_and_counts_them_but_no_request() {
    let world = World::start(
        r#"
    [log]
    access = "/dev/full"
    [route.all]
    respond = {}
    "#,
    );
    for _ in 0..3 {
        assert_eq!(world.ask(get("/")).status, 200);
    }
    world.metric_reaches("tollgate_log_dropped_total", &[], 3.0);
}

#[test]
fn requests_are_counted_by_route_and_class() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::status(seen.path[1..].parse().unwrap_or(200)));
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    for path in ["/200", "/204", "/302", "/404", "/404", "/500"] {
        world.ask(get(path));
    }
    for (class, count) in [("2xx", 2.0), ("3xx", 1.0), ("4xx", 2.0), ("5xx", 1.0)] {
        let labels = ["route=\"all\"", "arm=\"none\"", &format!("status_class=\"{class}\"")];
        world.metric_reaches("tollgate_requests_total", &labels, count);
    }
    world.metric_reaches("tollgate_request_duration_seconds_count", &["route=\"all\""], 6.0);
    assert!(world.metric("tollgate_request_duration_seconds_bucket", &["le=\"+Inf\""]) >= 6.0);
    let server = format!("server=\"{}\"", origin.address());
    world.metric_reaches("tollgate_upstream_requests_total", &[&server, "outcome=\"success\""], 5.0);
    world.metric_reaches("tollgate_upstream_requests_total", &[&server, "outcome=\"failure\""], 1.0);
}

#[test]
fn no_request_makes_a_series() {
    let world = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    let series = || {
        let text = world.admin(get("/metrics")).text();
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    world.ask(get("/warm"));
    world.metric_reaches("tollgate_requests_total", &[], 1.0);
    let before = series();
    for n in 0..30 {
        let odd = request(["GET", "PUT", "BREW"][n % 3], &format!("/{n}")).host(&format!("h{n}.example"));
        world.ask(odd.header("x-request-id", n).header("user-agent", n));
    }
    world.metric_reaches("tollgate_requests_total", &[], 31.0);
    assert_eq!(series(), before);
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let origin = Origin::start("a");
    let world = World::start(&format!("{}{ROUTE}", fleet("app", &[&origin])));
    world.ask(get("/"));
    world.metric_reaches("tollgate_requests_total", &[], 1.0);
    let answer = world.admin(get("/metrics"));
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")));
    let text = answer.text();
    let mut series = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        assert!(value.parse::<f64>().is_ok() && key.starts_with("tollgate_"), "{line}");
        assert!(series.insert(key.to_owned()), "{key} twice");
    }
    for name in tollgate::telemetry::names::ALL {
        let told = |line: &&str| line.starts_with(&format!("# TYPE {} ", name.name));
        assert!(text.lines().filter(told).count() <= 1, "{}", name.name);
    }
}
