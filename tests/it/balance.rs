//! balance: which server takes a request.

use std::collections::BTreeMap;
use std::thread;

use crate::support::nginx::Nginx;
use crate::support::*;

fn route() -> &'static str {
    r#"
    [route.all]
    upstream = "app"
    "#
}

/// How many of `count` requests each server took.
fn spread(world: &World, count: usize) -> BTreeMap<String, usize> {
    let mut connection = world.connect();
    let mut taken = BTreeMap::new();
    for _ in 0..count {
        let answer = connection.ask(&get("/")).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        *taken.entry(answer.server().to_owned()).or_default() += 1;
    }
    taken
}

fn weighted(balance: &str, servers: &[(&Origin, u16)]) -> String {
    let member =
        |(origin, weight): &(&Origin, u16)| format!("{{ address = {:?}, weight = {weight} }}", origin.address());
    let servers: Vec<String> = servers.iter().map(member).collect();
    format!(
        r#"
    [upstream.app]
    servers = [{}]
    balance = "{balance}"
    {}"#,
        servers.join(", "),
        route()
    )
}

#[test]
fn round_robin_is_exact_over_a_cycle_and_smooth() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let world = World::start(&weighted("round_robin", &[(&a, 3), (&b, 1)]));
    assert_eq!(spread(&world, 40), BTreeMap::from([("a".into(), 30), ("b".into(), 10)]));
    let mut connection = world.connect();
    let row: String = (0..8).map(|_| connection.ask(&get("/")).unwrap().server().to_owned()).collect();
    assert!(!row.contains("bb") && !row.contains("aaaa"), "{row} comes in bursts");
}

#[test]
fn every_algorithm_spreads_by_weight() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    for (balance, fewest) in [("random", 60), ("least_request", 60), ("peak_ewma", 1)] {
        let world = World::start(&weighted(balance, &[(&a, 1), (&b, 1)]));
        let taken = spread(&world, 200);
        assert!(taken.len() == 2 && taken.values().all(|n| *n >= fewest), "{balance}: {taken:?}");
    }
}

#[test]
fn least_request_avoids_a_busy_server() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gate = Gate::new();
    a.does(Act::when(&gate, Act::ok()));
    let world = World::start(&weighted("least_request", &[(&a, 1), (&b, 1)]));
    thread::scope(|scope| {
        while a.hits() == 0 {
            let before = a.hits() + b.hits();
            scope.spawn(|| world.ask(get("/held")));
            eventually("the request arrives", || (a.hits() + b.hits() > before).then_some(()));
        }
        assert_eq!(spread(&world, 20), BTreeMap::from([("b".into(), 20)]), "one in flight at a, none at b");
        gate.open();
    });
}

#[test]
fn weight_zero_drains() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let world = World::start(&weighted("round_robin", &[(&a, 1), (&b, 1)]));
    assert_eq!(spread(&world, 10).len(), 2);
    world.push(&weighted("round_robin", &[(&a, 1), (&b, 0)]));
    assert_eq!(spread(&world, 10), BTreeMap::from([("a".into(), 10)]));
    assert_eq!(world.server(&b.address())["weight"], 0);
    world.push(&weighted("round_robin", &[(&a, 0), (&b, 0)]));
    world.ask(get("/")).is_problem(503, "no_server");
}

#[test]
fn a_server_at_its_limit_is_passed_over_and_a_full_fleet_gets_503() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let gate = Gate::new();
    for origin in [&a, &b] {
        origin.does(Act::when(&gate, Act::ok()));
    }
    let world = World::start(&format!("{}max_requests_per_server = 1\n{}", fleet("app", &[&a, &b]), route()));
    thread::scope(|scope| {
        let held: Vec<_> = (0..2).map(|_| scope.spawn(|| world.ask(get("/held")))).collect();
        eventually("both are busy", || (a.hits() == 1 && b.hits() == 1).then_some(()));
        assert_eq!(world.server(&a.address())["in_flight"], 1);
        let answer = world.ask(get("/third"));
        answer.is_problem(503, "saturated");
        assert_eq!(answer.header("retry-after"), Some("1"));
        gate.open();
        assert!(held.into_iter().all(|held| held.join().unwrap().status == 200));
    });
    assert_eq!(world.ask(get("/")).status, 200, "what was in flight is given back");
    eventually("nothing is in flight", || (world.server(&a.address())["in_flight"] == 0).then_some(()));
}

#[test]
fn a_server_that_joins_starts_slowly() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let config = |servers: &[&Origin]| format!("{}slow_start = \"1h\"\n{}", fleet("app", servers), route());
    let world = World::start(&config(&[&a]));
    assert_eq!(spread(&world, 5).len(), 1);
    world.push(&config(&[&a, &b]));
    // A tenth of a share is 182 of these; a fair draw is further off than this once in a million runs.
    let taken = spread(&world, 2_000);
    assert!((118..=247).contains(&taken["b"]), "{taken:?}: a server that just joined takes a tenth of its share");
    world.push(&format!("{}{}", fleet("app", &[&a, &b]), route()));
    let taken = spread(&world, 100);
    assert!((45..=55).contains(&taken["b"]), "{taken:?}: without slow_start it takes its share");
}

#[test]
fn a_hash_key_sticks_to_its_server_and_few_keys_move() {
    let origins: Vec<Origin> = ["a", "b", "c", "d"].into_iter().map(Origin::start).collect();
    let config = |servers: &[&Origin]| {
        format!(
            r#"
        {}balance = "hash"
        hash_key = "header:x-user-id"
        {}"#,
            fleet("app", servers),
            route()
        )
    };
    let all: Vec<&Origin> = origins.iter().collect();
    let world = World::start(&config(&all));
    let placed = |world: &World| -> Vec<String> {
        let mut connection = world.connect();
        let ask =
            |n: usize| connection.ask(&get("/").header("x-user-id", format!("user-{n}"))).unwrap().server().to_owned();
        (0..200).map(ask).collect()
    };
    let before = placed(&world);
    assert_eq!(before, placed(&world), "a key keeps its server");
    let used: std::collections::BTreeSet<&String> = before.iter().collect();
    assert_eq!(used.len(), 4);
    world.push(&config(&all[..3]));
    let after = placed(&world);
    let moved = before.iter().zip(&after).filter(|(old, new)| old != new && *old != "d").count();
    assert_eq!(moved, 0, "only keys of the server that left may move");
}

#[test]
fn hash_keys_are_cookies_queries_paths_and_addresses() {
    let origins: Vec<Origin> = ["a", "b", "c"].into_iter().map(Origin::start).collect();
    let all: Vec<&Origin> = origins.iter().collect();
    for key in ["cookie:uid", "query:u", "path", "ip"] {
        let world = World::start(&format!(
            r#"
            {}balance = "hash"
            hash_key = "{key}"
            {}"#,
            fleet("app", &all),
            route()
        ));
        let asked = |n: u8| {
            let request = get(&format!("/{n}?x=1&u=user{n}")).header("cookie", format!("other=1; uid=user{n}"));
            world.ask_from([127, 0, 7, n], request).server().to_owned()
        };
        let first: Vec<String> = (1..40).map(asked).collect();
        assert_eq!(first, (1..40).map(asked).collect::<Vec<_>>(), "{key}");
        let used: std::collections::BTreeSet<&String> = first.iter().collect();
        assert_eq!(used.len(), 3, "{key} decides nothing");
    }
}

#[test]
fn servers_are_found_by_name() {
    let origin = Origin::start("a");
    let world = World::start(&format!(
        r#"
        [upstream.app]
        dns = {{ name = "localhost", port = {}, refresh = "1s" }}
        {}"#,
        origin.port,
        route()
    ));
    for _ in 0..4 {
        assert_eq!(world.ask(get("/")).server(), "a");
    }
    assert_eq!(world.server(&origin.address())["healthy"], true);
}

#[test]
fn a_server_nobody_here_wrote_is_served_the_same() {
    let nginx = Nginx::start("$request_method $request_uri $http_host $http_x_forwarded_for");
    let world = World::start(&format!(
        r#"
    [upstream.app]
    servers = ["{}"]
    {}"#,
        nginx.address(),
        route()
    ));
    let mut connection = world.connect();
    for _ in 0..20 {
        let answer = connection.ask(&get("/x?y=z").host("shop.example")).unwrap();
        assert_eq!(answer.text(), "GET /x?y=z shop.example 127.0.0.1");
        assert!(answer.header("server").is_some_and(|server| server.starts_with("nginx")));
    }
}
