//! Harm that is no failure: a canary that refuses, one that fails in gRPC's terms, one that is slow for those who stay, and
//! one that takes from stable what both need. Each is taken back; what it cost until then is printed.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use super::*;
use crate::grpc;

fn healthy() -> (Origin, Origin) {
    let both = (Origin::start("stable"), Origin::start("canary"));
    both.0.forget();
    both.1.forget();
    both
}

/// Waits until it is taken back; why, as the log says it.
#[track_caller]
fn taken_back_for(world: &World, what: &str, since: Instant) -> String {
    becomes(world, "rolled_back");
    let took = since.elapsed();
    let said = eventually("the reason in the log", || {
        world.messages().lines().find(|line| line.contains("release v2: rolled_back:")).map(str::to_owned)
    });
    let sent = attempts_at_canary(world);
    println!("{what}: taken back after {took:?} and {sent} requests to the canary");
    said
}

/// What a canary does to its users, who are not rescued from it.
#[track_caller]
fn refuses(status: u16) {
    let (stable, canary) = healthy();
    canary.does(Act::status(status));
    let world = between(&stable, &canary).start();
    let crowd = Users::new(500, 800);
    let since = Instant::now();
    let said = crowd.while_(&world, || taken_back_for(&world, &format!("{status} to all"), since));
    assert!(said.contains("refuses more of its users") && said.contains("Decided by refusals"), "{said}");
    println!("{} answers of {status}", crowd.failures());
    // Everybody is on stable.
    let harmed = crowd.failures();
    crowd.while_(&world, || crowd.goes_round());
    assert_eq!(crowd.failures(), harmed);
}

#[test]
fn a_canary_that_lets_nobody_in_is_taken_back() {
    refuses(401);
}

#[test]
fn a_canary_that_takes_no_request_is_taken_back() {
    refuses(400);
}

#[test]
fn a_canary_that_lost_a_route_is_taken_back_and_the_route_named() {
    let (stable, canary) = healthy();
    // Stable knows not everything either.
    let known = |seen: &crate::support::origin::Seen| seen.path != "/gone";
    stable.script(move |seen| if known(seen) { Act::ok() } else { Act::status(404) });
    canary.script(move |seen| if known(seen) && seen.path != "/cart" { Act::ok() } else { Act::status(404) });
    let cart = r#"
    [route.cart]
    paths = ["/cart"]
    upstream = "stable""#;
    let text = between(&stable, &canary).steps(&[(20.0, "1h")]).table(cart).text();
    let world = World::start(&text.replace("routes = [\"shop\"]", "routes = [\"shop\", \"cart\"]"));
    let (shop, gone) = (Users::new(300, 300), Users::named("g", 300, 100).at("/gone"));
    let cart = Users::new(300, 300).at("/cart");
    let since = Instant::now();
    let said = shop.while_(&world, || {
        gone.while_(&world, || cart.while_(&world, || taken_back_for(&world, "404 on one route", since)))
    });
    shop.noticed_nothing();
    assert!(said.contains("Decided by refusals"), "{said}");
    let report = &world.admin(get("/api/v1/reports")).json()[0];
    let first = &report["places"][0];
    assert!(first["text"].as_str().unwrap_or_default().contains("route cart"), "{report:#}");
    assert!(report["evidence"]["refusals"].as_f64() >= Some(1000.0), "{report:#}");
    println!("{} answers of 404 on the route", cart.failures());
}

/// A release between two servers of gRPC, of which the canary's is broken.
#[track_caller]
fn fails_in_grpc(method: &str) {
    let (stable, canary) = (grpc::server(&[]), grpc::server(&["broken"]));
    let text = gray(&[format!("127.0.0.1:{}", stable.port)], &[format!("127.0.0.1:{}", canary.port)]).text();
    let text = text.replace("[route.shop]", "[route.shop]\npaths = [\"/tests.Calls/*\"]");
    let text = text.replace("servers = ", "http2 = true\nservers = ");
    let world = World::start(&format!(
        r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    {text}"#
    ));
    let mut users = grpc::script();
    users.args(["users", &world.port.to_string(), method]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let since = Instant::now();
    let mut users = users.spawn().expect("python starts");
    let said = taken_back_for(&world, &format!("UNAVAILABLE of {method}"), since);
    drop(users.stdin.take());
    let told = users.wait_with_output().expect("it ends");
    println!("calls that went well, and others: {}", String::from_utf8_lossy(&told.stdout));
    assert!(said.contains("Decided by errors"), "{said}");
    let report = &world.admin(get("/api/v1/reports")).json()[0];
    assert!(report["places"][0]["text"].as_str().unwrap_or_default().contains("status gRPC 14"), "{report:#}");
    assert_eq!(view(&world)["rescued"], 0, "an answer had begun");
}

#[test]
fn a_canary_that_is_unavailable_in_its_trailers_is_taken_back() {
    fails_in_grpc("Count");
}

#[test]
fn a_canary_that_is_unavailable_in_an_answer_of_trailers_alone_is_taken_back() {
    fails_in_grpc("Echo");
}

#[test]
fn a_canary_that_is_slow_for_users_who_come_back_is_taken_back() {
    let (stable, canary) = healthy();
    // The first answer is fast; whoever comes again waits for what was kept of him, long after the release began.
    let (known, begun) = (Mutex::new(HashSet::new()), Instant::now());
    canary.script(move |seen| {
        let user = seen.header("x-user-id").unwrap_or_default().to_owned();
        if !known.lock().unwrap().insert(user) && begun.elapsed() > Duration::from_secs(8) {
            std::thread::sleep(Duration::from_millis(90));
        }
        Act::ok()
    });
    let release = between(&stable, &canary).steps(&[(20.0, "1h")]);
    let world = release.table("[release.v2.judge]\nsettle = \"0s\"").start();
    let crowd = Users::new(400, 200);
    let since = Instant::now() + Duration::from_secs(8);
    let said = crowd.while_(&world, || taken_back_for(&world, "slow for those who come back", since));
    crowd.noticed_nothing();
    assert!(said.contains("Decided by latency"), "{said}");
}

#[test]
fn a_canary_that_exhausts_what_stable_needs_is_taken_back() {
    let (stable, canary) = healthy();
    // A pool of connections to a database that both use: the canary gives none of them back.
    let taken = Arc::new(AtomicUsize::new(0));
    let leaks = taken.clone();
    canary.script(move |_| if leaks.fetch_add(1, SeqCst) < 40 { Act::ok() } else { Act::status(503) });
    let empty = taken.clone();
    stable.script(move |_| if empty.load(SeqCst) < 40 { Act::ok() } else { Act::status(503) });
    let world = between(&stable, &canary).start();
    let crowd = Users::new(500, 800);
    let since = Instant::now();
    let said = crowd.while_(&world, || {
        let said = taken_back_for(&world, "exhausts what both use", since);
        // Without the canary the database recovers.
        taken.store(0, SeqCst);
        said
    });
    assert!(said.contains("Both arms fail since canary got 10 % of the users"), "{said}");
    println!("{} answers of 503", crowd.failures());
    let report = &world.admin(get("/api/v1/reports")).json()[0];
    assert_eq!((&report["kind"], &report["action"]), (&"shared".into(), &"rolled_back".into()), "{report:#}");
    assert_eq!(report["outside"]["status"], "503", "{report:#}");
    let harmed = crowd.failures();
    crowd.while_(&world, || crowd.goes_round());
    assert_eq!(crowd.failures(), harmed, "stable is well again");
}
