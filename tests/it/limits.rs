//! limit: how often and how many at once, per key, and what clients are told of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::{Answer, Connection, Request};
use crate::support::wait::{Finally, PATIENCE, within};
use crate::support::*;

/// Three requests an hour and key: what is spent does not come back within a test.
fn hourly(key: &str) -> String {
    format!(
        r#"
        [limit.hourly]
        key = [{key}]
        rate = "3/h"
        burst = 3
        [route.all]
        respond = {{}}
        limits = ["hourly"]
        "#
    )
}

/// Asks until it is refused; how often it was not.
#[track_caller]
fn admitted(world: &World, request: &Request) -> usize {
    let mut connection = world.connect();
    let statuses = (0..100).map(|_| connection.ask(request).unwrap().status);
    let admitted = statuses.take_while(|status| *status == 200).count();
    assert_eq!(connection.ask(request).unwrap().status, 429);
    admitted
}

/// All values of a header, as one list.
fn list(answer: &Answer, name: &str) -> String {
    let values = answer.headers.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
    values.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_burst_is_admitted_and_every_answer_tells_what_is_left() {
    let world = World::start(&hourly("\"ip\""));
    for left in [2, 1, 0] {
        let answer = world.ask(get("/"));
        assert_eq!(answer.status, 200);
        assert_eq!(list(&answer, "ratelimit-policy"), "\"hourly\";q=3;w=3600");
        let told = list(&answer, "ratelimit");
        assert!(told.starts_with(&format!("\"hourly\";r={left};t=1")), "{told}");
        assert_eq!(answer.header("retry-after"), None);
    }
    let answer = world.ask(get("/refused"));
    answer.is_problem(429, "rate_limited");
    let document = answer.json();
    assert_eq!(document["limit"], "hourly");
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1_190..=1_200).contains(&wait), "a token comes back in twenty minutes: {wait}");
    let detail = document["detail"].as_str().unwrap();
    assert_eq!(detail, format!("The limit `hourly` is used up. Try again in {wait} s."));
    assert_eq!(list(&answer, "ratelimit"), format!("\"hourly\";r=0;t={wait}"));
    assert_eq!(list(&answer, "ratelimit-policy"), "\"hourly\";q=3;w=3600");
    assert_eq!(world.log_line("/refused")["error"], "rate_limited");
    assert_eq!(world.metric("tollgate_limited_total", &["limit=\"hourly\""]), 1.0);
    assert_eq!(world.metric("tollgate_rejected_total", &["reason=\"rate_limited\""]), 1.0);
}

#[test]
fn spent_tokens_come_back_with_time() {
    let world = World::start(
        r#"
        [limit.quick]
        rate = "20/s"
        burst = 1
        [route.all]
        respond = {}
        limits = ["quick"]
        "#,
    );
    let begun = Instant::now();
    let mut admitted = 0;
    while admitted < 40 {
        admitted += u32::from(world.ask(get("/")).status == 200);
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1_940), "39 tokens of a twentieth of a second each came in {took:?}");
}

#[test]
fn what_a_key_is_made_of_is_counted_apart() {
    for (key, mine, other) in [
        ("\"header:x-tenant\"", get("/").header("x-tenant", "a"), get("/").header("x-tenant", "b")),
        ("\"cookie:uid\"", get("/").header("cookie", "x=1; uid=a"), get("/").header("cookie", "x=1; uid=b")),
        ("\"query:user\"", get("/?x=1&user=a"), get("/?user=b&x=1")),
        ("\"header:x-a\", \"query:b\"", get("/?b=1").header("x-a", "1"), get("/?b=2").header("x-a", "1")),
    ] {
        let world = World::start(&hourly(key));
        assert_eq!((admitted(&world, &mine), admitted(&world, &other)), (3, 3), "{key}");
        // Who leaves it away shares with all who do, and with those whose part is empty.
        assert_eq!(admitted(&world, &get("/")), 3, "{key}");
        let empty = get("/?user=&b=").header("x-tenant", "").header("cookie", "uid=").header("x-a", "");
        assert_eq!(admitted(&world, &empty), 0, "{key}");
    }
    let world = World::start(&hourly("\"ip\""));
    let ask = |last| (0..5).filter(|_| world.ask_from([127, 0, 0, last], get("/")).status == 200).count();
    assert_eq!((ask(1), ask(2), ask(1)), (3, 3, 0));
    let world = World::start(&hourly("\"app\", \"user\""));
    assert_eq!((admitted(&world, &get("/")), admitted(&world, &get("/?again"))), (3, 0), "nobody is one key");
}

#[test]
fn a_made_up_value_beside_the_real_one_is_no_fresh_key() {
    let query = |made_up: &str| get(&format!("/?user={made_up}&user=a"));
    let spelt = |value: &str| get(&format!("/?us%65r={value}"));
    let cookie = |made_up: &str| get("/").header("cookie", format!("uid={made_up}; uid=a"));
    let header = |made_up: &str| get("/").header("x-tenant", made_up).header("x-tenant", "a");
    for (key, request) in [
        ("\"query:user\"", &query as &dyn Fn(&str) -> Request),
        ("\"cookie:uid\"", &cookie),
        ("\"header:x-tenant\"", &header),
    ] {
        let world = World::start(&hourly(key));
        assert_eq!(admitted(&world, &request("b1")), 3, "{key}");
        assert_eq!(admitted(&world, &request("b2")), 0, "{key}");
        assert_eq!(admitted(&world, &get("/")), 0, "whoever leaves it away shares with those who double it: {key}");
    }
    let world = World::start(&hourly("\"query:user\""));
    assert_eq!((admitted(&world, &get("/?user=ab")), admitted(&world, &spelt("%61b"))), (3, 0), "one spelling");
}

#[test]
fn routes_share_a_limit_unless_its_key_names_them() {
    let config = |key: &str| {
        format!(
            r#"
        {}[route.b]
        paths = ["/b"]
        respond = {{}}
        limits = ["hourly"]
        "#,
            hourly(key)
        )
    };
    let world = World::start(&config(""));
    assert_eq!((admitted(&world, &get("/")), admitted(&world, &get("/b"))), (3, 0));
    let world = World::start(&config("\"route\""));
    assert_eq!((admitted(&world, &get("/")), admitted(&world, &get("/b"))), (3, 3));
}

#[test]
fn a_request_that_one_limit_refuses_burns_nothing_of_the_others() {
    let world = World::start(
        r#"
        [limit.wide]
        rate = "10/h"
        burst = 10
        [limit.narrow]
        key = ["query:user"]
        rate = "2/h"
        burst = 2
        concurrency = 7
        [route.all]
        respond = {}
        limits = ["wide", "narrow"]
        "#,
    );
    // One connection: its next request is read when the one before has ended.
    let mut one = world.connect();
    let answer = one.ask(&get("/?user=a")).unwrap();
    let policy = "\"wide\";q=10;w=3600, \"narrow\";q=2;w=3600, \
                  \"narrow.concurrency\";q=7;qu=\"concurrent-requests\"";
    assert_eq!(list(&answer, "ratelimit-policy"), policy);
    let told = list(&answer, "ratelimit");
    assert!(told.starts_with("\"wide\";r=9;t=") && told.contains("\"narrow\";r=1;t="), "{told}");
    assert!(told.ends_with("\"narrow.concurrency\";r=6"), "{told}");
    assert_eq!(admitted(&world, &get("/?user=a")), 1);
    let refused = one.ask(&get("/?user=a")).unwrap();
    refused.is_problem(429, "rate_limited");
    assert_eq!(refused.json()["limit"], "narrow");
    let told = list(&refused, "ratelimit");
    assert!(told.starts_with("\"wide\";r=8;") && told.contains("\"narrow\";r=0;"), "{told}");
    assert!(told.ends_with("\"narrow.concurrency\";r=7"), "nothing is in flight: {told}");
    // Eight are left of ten, although three were refused besides.
    let users = ["b", "c", "d", "e"].map(|user| admitted(&world, &get(&format!("/?user={user}"))));
    assert_eq!(users, [2, 2, 2, 2]);
    let refused = world.ask(get("/?user=f"));
    assert_eq!(refused.json()["limit"], "wide");
}

#[test]
fn requests_in_flight_are_counted_until_they_end() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    let held = gate.clone();
    origin.script(move |seen| match seen.path.as_str() {
        "/held" => Act::when(&held, Act::ok()),
        "/socket" => Act::Echo,
        "/hang" => Act::hang(),
        _ => Act::ok(),
    });
    let world = World::start(&format!(
        r#"
        {}[limit.few]
        key = ["ip"]
        concurrency = 2
        [route.all]
        upstream = "app"
        limits = ["few"]
        "#,
        fleet("app", &[&origin])
    ));
    let refused = |why: &str| {
        let answer = world.ask(get("/"));
        answer.is_problem(429, "concurrency_limited");
        assert_eq!(answer.header("retry-after"), Some("1"), "{why}");
        assert_eq!(list(&answer, "ratelimit"), "\"few\";r=0", "{why}");
        assert_eq!(list(&answer, "ratelimit-policy"), "\"few\";q=2;qu=\"concurrent-requests\"");
        assert_eq!(answer.json()["limit"], "few");
    };
    // A connection on which a request was alone in flight; its next one is read when that one has ended.
    let all_are_back = |why: &str| {
        let mut alone = world.connect();
        let free = || {
            let answer = alone.ask(&get("/")).unwrap();
            (answer.status == 200 && list(&answer, "ratelimit") == "\"few\";r=1").then_some(())
        };
        assert!(within(PATIENCE, free).is_some(), "{why}: not all were given back");
        alone
    };
    // Requests that wait for their answer.
    let mut waiting: Vec<Connection> = (0..2).map(|_| world.connect()).collect();
    for connection in &mut waiting {
        connection.send(&get("/held").bytes()).unwrap();
    }
    eventually("both are at the server", || (origin.hits() == 2).then_some(()));
    refused("two wait");
    assert_eq!(world.ask_from([127, 0, 0, 9], get("/")).status, 200, "another address");
    gate.open();
    waiting.iter_mut().for_each(|connection| assert_eq!(connection.answer(false).unwrap().status, 200));
    // A client that leaves.
    let mut leaving = all_are_back("they were answered");
    let before = origin.hits();
    leaving.send(&get("/hang").bytes()).unwrap();
    let mut socket = world.connect();
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    let answer = socket.ask(&upgrade).unwrap();
    assert_eq!(answer.status, 101);
    assert!(list(&answer, "ratelimit").starts_with("\"few\";r="), "{:?}", answer.headers);
    socket.send(b"ping").unwrap();
    assert_eq!(socket.exactly(4).unwrap(), b"ping");
    eventually("both are at the server", || (origin.hits() == before + 2).then_some(()));
    refused("one hangs and one is a WebSocket");
    drop(leaving);
    eventually("the one that left was given back", || (world.ask(get("/")).status == 200).then_some(()));
    drop(socket);
    all_are_back("the WebSocket ended");
    assert!(world.metric("tollgate_rejected_total", &["reason=\"concurrency_limited\""]) >= 2.0);
}

#[test]
fn counts_survive_a_reload() {
    let world = World::start(&hourly("\"ip\""));
    assert_eq!(admitted(&world, &get("/")), 3);
    // Another route comes, another limit before this one, and numbers change.
    world.push(&format!(
        r#"
        [limit.another]
        rate = "1/h"
        {}[route.a]
        paths = ["/a"]
        respond = {{}}
        limits = ["another"]
        "#,
        hourly("\"ip\"")
    ));
    assert_eq!(admitted(&world, &get("/")), 0);
    assert_eq!(admitted(&world, &get("/a")), 1);
    // What was spent takes as long to come back; a burst of thirty an hour has it in six minutes, not an hour.
    world.push(&hourly("\"ip\"").replace("3/h", "30/h").replace("burst = 3", "burst = 30"));
    assert_eq!(admitted(&world, &get("/")), 0);
    // Another key is another limit.
    world.push(&hourly("\"header:x-a\""));
    assert_eq!(admitted(&world, &get("/")), 3);
}

#[test]
fn what_the_server_says_of_limits_stays_and_the_operator_has_the_last_word() {
    let origin = Origin::start("a");
    origin.does(Act::Answer(200, vec![("ratelimit".into(), "\"own\";r=5;t=1".into())], String::new()));
    let config = format!("{}{}", fleet("app", &[&origin]), hourly("").replace("respond = {}", "upstream = \"app\""));
    let world = World::start(&config);
    let told = list(&world.ask(get("/")), "ratelimit");
    assert!(told.starts_with("\"own\";r=5;t=1, \"hourly\";r=2;"), "{told}");
    world.push(&format!("{config}response_headers = {{ remove = [\"ratelimit\", \"ratelimit-policy\"] }}\n"));
    let answer = world.ask(get("/"));
    assert_eq!((list(&answer, "ratelimit"), list(&answer, "ratelimit-policy")), (String::new(), String::new()));
    // An answer that the gateway makes after the limits had room.
    drop(origin);
    let answer = world.ask(get("/"));
    assert!(answer.status >= 500 && list(&answer, "ratelimit").starts_with("\"hourly\";r=0;"), "{:?}", answer.headers);
}

#[test]
fn an_app_has_limits_of_its_own() {
    let config = r#"
    [limit.gold]
    key = ["app"]
    rate = "4/h"
    burst = 4
    [limit.all]
    key = ["app"]
    rate = "3/h"
    burst = 3
    [auth.keys]
    kind = "api_key"
    [app.rich]
    limits = ["gold"]
    keys = [{ id = "k", secret_file = "rich" }]
    [app.poor]
    limits = ["all"]
    keys = [{ id = "k", secret_file = "poor" }]
    [route.gold]
    paths = ["/gold"]
    respond = {}
    auth = ["keys"]
    [route.both]
    paths = ["/both"]
    respond = {}
    auth = ["keys"]
    limits = ["all"]
    "#;
    let mut world = World::prepare();
    world.write_as("rich", b"rich-secret");
    world.write_as("poor", b"poor-secret");
    world.boot(config);
    let (rich, poor) =
        (|path| get(path).header("x-api-key", "rich-secret"), |path| get(path).header("x-api-key", "poor-secret"));
    let answer = world.ask(rich("/both"));
    let told = list(&answer, "ratelimit");
    assert!(told.starts_with("\"all\";r=2;") && told.contains("\"gold\";r=3;"), "{told}");
    assert_eq!(admitted(&world, &rich("/both")), 2);
    assert_eq!(admitted(&world, &rich("/gold")), 1, "what the route refused cost its own limit nothing");
    let told = list(&world.ask(poor("/both")), "ratelimit");
    assert!(told.starts_with("\"all\";r=2;") && !told.contains(','), "named by both, asked once: {told}");
    assert_eq!(admitted(&world, &poor("/both")), 2);
    assert_eq!(admitted(&world, &poor("/gold")), 0);
    // Who is not known is not counted.
    let answer = world.ask(get("/both"));
    assert_eq!((answer.status, list(&answer, "ratelimit")), (401, String::new()));
    // Numbers of apps and limits move, and names keep what was counted.
    let more = r#"
    [app.first]
    limits = ["none"]
    [limit.none]
    concurrency = 1
    "#;
    world.push(&format!("{more}{config}"));
    assert_eq!(admitted(&world, &rich("/gold")), 0);
    let asked = ["explain", "-c", "tollgate.toml", "GET", "http://a/both", "-H", "x-api-key: rich-secret", "--json"];
    let told: serde_json::Value = serde_json::from_slice(&world.cli(&asked).stdout).unwrap();
    assert_eq!((&told["app"], &told["limits"]), (&"rich".into(), &serde_json::json!(["all", "gold"])));
}

#[test]
fn explain_names_them() {
    let world = World::start(&hourly(""));
    let told = world.cli(&["explain", "-c", "tollgate.toml", "GET", "http://a/", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["limits"], serde_json::json!(["hourly"]));
}

/// Eight connections ask at about `rate` together for `time`, without ever waiting for each other; requests asked and
/// admitted.
fn pressed(world: &World, rate: u64, time: Duration) -> (u64, u64) {
    const CONNECTIONS: u64 = 8;
    let (asked, admitted) = (AtomicU64::new(0), AtomicU64::new(0));
    let over = AtomicBool::new(false);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..CONNECTIONS {
            let (asked, admitted, over) = (&asked, &admitted, &over);
            scope.spawn(move || {
                let _over = Finally(over);
                let mut connection = world.connect();
                for turn in 0.. {
                    let due = begun + Duration::from_secs_f64((turn * CONNECTIONS + n) as f64 / rate as f64);
                    if due >= begun + time || over.load(Ordering::Relaxed) && turn == 0 {
                        return;
                    }
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    let status = connection.ask(&get("/")).unwrap().status;
                    assert!(matches!(status, 200 | 429), "{status}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    admitted.fetch_add(u64::from(status == 200), Ordering::Relaxed);
                }
            });
        }
    });
    (asked.into_inner(), admitted.into_inner())
}

#[test]
#[ignore = "long: scripts/test --long"]
fn long_run_at_twice_the_rate() {
    const RATE: u64 = 500;
    const BURST: u64 = 200;
    const SECONDS: u64 = 60;
    let world = World::start(&format!(
        r#"
        [limit.a]
        rate = "{RATE}/s"
        burst = {BURST}
        [route.all]
        respond = {{}}
        limits = ["a"]
        "#
    ));
    let begun = Instant::now();
    let (asked, admitted) = pressed(&world, 2 * RATE, Duration::from_secs(SECONDS));
    let took = begun.elapsed().as_secs_f64();
    let allowed = RATE as f64 * took + BURST as f64;
    println!("| limit | connections | seconds | asked | admitted | rate x time + burst | off by |");
    println!("|---|---|---|---|---|---|---|");
    let off = (admitted as f64 / allowed - 1.0) * 100.0;
    println!("| {RATE}/s, burst {BURST} | 8 | {took:.2} | {asked} | {admitted} | {allowed:.0} | {off:.2} % |");
    assert!(asked as f64 >= 1.9 * RATE as f64 * took, "only {asked} requests were made");
    assert!(off.abs() <= 1.0 && admitted as f64 <= allowed, "{admitted} of {allowed}");
}
