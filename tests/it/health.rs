//! health and ejection: which servers count as up, by probes and by what requests met.

use crate::support::*;

const ROUTE: &str = r#"
[route.all]
upstream = "app"
"#;
const PROBES: &str = r#"
[upstream.app.health]
path = "/health"
interval = "50ms"
timeout = "1s"
unhealthy_after = 3
healthy_after = 2
"#;

fn healthy(world: &World, origin: &Origin, expected: bool) {
    eventually("the server's health", || (world.server(&origin.address())["healthy"] == expected).then_some(()));
}

fn servers_of(world: &World, count: usize) -> Vec<String> {
    let mut connection = world.connect();
    let mut servers: Vec<String> = (0..count).map(|_| connection.ask(&get("/")).unwrap().server().to_owned()).collect();
    servers.sort();
    servers.dedup();
    servers
}

#[test]
fn probes_take_a_server_out_and_bring_it_back_by_count() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let world = World::start(&format!("{}{PROBES}{ROUTE}", fleet("app", &[&a, &b])));
    assert_eq!(servers_of(&world, 6), ["a", "b"]);
    let before = a.probes();
    a.set_healthy(false);
    healthy(&world, &a, false);
    assert!(a.probes() >= before + 3, "three failures in a row, not fewer");
    assert_eq!(servers_of(&world, 6), ["b"]);
    let label = format!("server=\"{}\"", a.address());
    world.metric_reaches("tollgate_upstream_healthy", &[&label], 0.0);
    a.set_healthy(true);
    healthy(&world, &a, true);
    assert_eq!(servers_of(&world, 6), ["a", "b"]);
    world.metric_reaches("tollgate_upstream_healthy", &["upstream=\"app\""], 2.0);
}

#[test]
fn tcp_probes_see_a_server_die_and_return() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let probes = PROBES.replace("path = \"/health\"\n", "");
    let world = World::start(&format!("{}{probes}{ROUTE}", fleet("app", &[&a, &b])));
    let port = b.port;
    drop(b);
    eventually("b is out", || (world.server(&format!("127.0.0.1:{port}"))["healthy"] == false).then_some(()));
    assert_eq!(servers_of(&world, 4), ["a"]);
    let b = Origin::start_on("b", port);
    healthy(&world, &b, true);
    assert_eq!(servers_of(&world, 4), ["a", "b"]);
}

#[test]
fn a_fleet_that_is_down_is_tried_and_the_metric_says_so() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let world = World::start(&format!("{}{PROBES}{ROUTE}", fleet("app", &[&a, &b])));
    world.metric_reaches("tollgate_upstream_panic", &["upstream=\"app\""], 0.0);
    for origin in [&a, &b] {
        origin.set_healthy(false);
        healthy(&world, origin, false);
    }
    world.metric_reaches("tollgate_upstream_panic", &["upstream=\"app\""], 1.0);
    assert_eq!(servers_of(&world, 6), ["a", "b"], "all are tried rather than nobody served");
    a.set_healthy(true);
    healthy(&world, &a, true);
    world.metric_reaches("tollgate_upstream_panic", &["upstream=\"app\""], 0.0);
    assert_eq!(servers_of(&world, 6), ["a"]);
}

#[test]
fn failures_in_a_row_eject_and_time_brings_back() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let outlier = r#"
    [upstream.app.outlier]
    consecutive_failures = 3
    eject_for = "1s"
    "#;
    let world = World::start(&format!("{}{outlier}{ROUTE}", fleet("app", &[&a, &b])));
    a.does(Act::status(500));
    let mut connection = world.connect();
    let failed = (0..30).filter(|_| connection.ask(&get("/")).unwrap().status == 500).count();
    assert_eq!(failed, 3, "after three failures nobody asks it");
    let state = world.server(&a.address());
    assert!(state["ejected_until"].is_string() && state["healthy"] == true, "{state}");
    world.metric_reaches("tollgate_upstream_healthy", &["upstream=\"app\""], 1.0);
    a.does(Act::ok());
    eventually("it is asked again", || (connection.ask(&get("/")).unwrap().server() == "a").then_some(()));
    assert_eq!(world.server(&a.address())["ejected_until"], serde_json::Value::Null);
    world.metric_reaches("tollgate_upstream_healthy", &["upstream=\"app\""], 2.0);
    assert!(world.messages().contains("ejected"));
}

#[test]
fn no_more_than_the_share_is_ejected() {
    let origins: Vec<Origin> = ["a", "b", "c", "d"].into_iter().map(Origin::start).collect();
    origins.iter().for_each(|origin| origin.does(Act::status(500)));
    let outlier = r#"
    [upstream.app.outlier]
    consecutive_failures = 2
    eject_for = "1h"
    max_ejected_percent = 50
    "#;
    let world = World::start(&format!("{}{outlier}{ROUTE}", fleet("app", &origins.iter().collect::<Vec<_>>())));
    let mut connection = world.connect();
    (0..40).for_each(|_| drop(connection.ask(&get("/")).unwrap()));
    let ejected = |origin: &&Origin| world.server(&origin.address())["ejected_until"].is_string();
    assert_eq!(origins.iter().filter(ejected).count(), 2);
}

#[test]
fn health_outlives_a_push() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let outlier = r#"
    [upstream.app.outlier]
    consecutive_failures = 2
    eject_for = "1h"
    "#;
    let config = |route: &str| format!("{}{outlier}{ROUTE}{route}", fleet("app", &[&a, &b]));
    let world = World::start(&config(""));
    a.does(Act::status(500));
    (0..8).for_each(|_| drop(world.ask(get("/"))));
    let before = world.server(&a.address());
    assert!(before["ejected_until"].is_string());
    a.does(Act::ok());
    world.push(&config(
        r#"
    [route.new]
    paths = ["/new"]
    respond = {}
    "#,
    ));
    assert_eq!(world.server(&a.address())["ejections"], before["ejections"]);
    assert!(world.server(&a.address())["ejected_until"].is_string());
    assert_eq!(servers_of(&world, 6), ["b"]);
}
