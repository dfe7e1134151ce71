//! Users who are on a version because somebody said so, and that `explain` says of each user what the gateway does.

use std::collections::BTreeMap;
use std::fs;

use super::*;

const COHORTS: &str = r#"
[cohort.staff]
users_file = "staff.txt"
[cohort.vip]
users_file = "vip.txt"
[cohort.beta]
any = [{ header = "x-beta", equals = "1" }, { cookie = "beta", equals = "1" }]
[cohort.fifth]
any = [{ percent = 20, salt = "beta-2026" }]
"#;

/// A release with cohorts at so many percent; the files' users are those named.
#[track_caller]
fn with_cohorts(percent: f64, staff: &str, vip: &str) -> (Origin, Origin, World) {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut world = World::prepare();
    world.write_as("staff.txt", staff.as_bytes());
    world.write_as("vip.txt", vip.as_bytes());
    let release = between(&stable, &canary)
        .steps(&[(percent, "1h"), (50.0, "1h"), (100.0, "1h")])
        .key("include = [\"staff\", \"beta\"]")
        .key("exclude = [\"vip\"]")
        .table(COHORTS);
    world.boot(&release.text());
    (stable, canary, world)
}

#[test]
fn exclude_beats_include_beats_percent() {
    let (_stable, _canary, world) = with_cohorts(0.01, "# who works here\nann\n\n  bob  \r\nzoë\n", "bob\ncarl\n");
    for (user, server) in
        [("ann", "canary"), ("zoë", "canary"), ("bob", "stable"), ("carl", "stable"), ("dora", "stable")]
    {
        assert_eq!(server_of(&world, user), server, "{user}");
    }
    assert_eq!(world.ask(by("carl", "/").header("x-beta", "1")).server(), "stable", "an excluded user cannot opt in");
    (0..2).for_each(|_| drop(order(&world, "promote")));
    for (user, server) in [("ann", "canary"), ("bob", "stable"), ("carl", "stable"), ("dora", "canary")] {
        assert_eq!(server_of(&world, user), server, "{user}, at 100 %");
    }
    // Those of include and exclude are not there by chance, so they are no users of the comparison.
    let users = eventually("what was asked is counted", || {
        let view = view(&world);
        let arms = &view["arms"];
        let requests = |arm: &str| arms[arm]["requests"].as_u64().unwrap_or_default();
        (requests("stable") + requests("canary") == 10)
            .then(|| (arms["stable"]["users"].clone(), arms["canary"]["users"].clone()))
    });
    assert_eq!(users, (1.into(), 1.into()), "dora alone, on both");
    order(&world, "abort");
    for user in ["ann", "bob", "carl", "dora"] {
        assert_eq!(server_of(&world, user), "stable", "an abort takes the include users too");
    }
}

#[test]
fn a_header_or_a_cookie_opts_in_without_a_user_key() {
    let (_stable, _canary, world) = with_cohorts(0.01, "ann\n", "vip\n");
    assert_eq!(world.ask(get("/")).server(), "stable");
    assert_eq!(world.ask(get("/").header("x-beta", "1")).server(), "canary");
    for (cookies, server) in [
        ("beta=1", "canary"),
        ("a=b; beta=1; c=d", "canary"),
        ("beta=0", "stable"),
        ("beta=10", "stable"),
        ("xbeta=1", "stable"),
        ("beta", "stable"),
    ] {
        assert_eq!(world.ask(get("/").header("cookie", cookies)).server(), server, "{cookies}");
    }
    for value in ["0", "11", ""] {
        assert_eq!(world.ask(get("/").header("x-beta", value)).server(), "stable", "{value}");
    }
    let failed = world.metric("tollgate_rescues_total", &[]);
    assert_eq!(failed, 0.0);
}

#[test]
fn a_changed_file_is_followed_without_a_restart() {
    let (_stable, _canary, world) = with_cohorts(0.01, "ann\n", "");
    assert_eq!((server_of(&world, "ann"), server_of(&world, "ben")), ("canary".into(), "stable".into()));
    world.write_as("staff.txt", b"ben\n");
    eventually("the new cohort", || (server_of(&world, "ben") == "canary").then_some(()));
    assert_eq!(server_of(&world, "ann"), "stable");
    fs::write(world.path("staff.txt"), "ann\nben\n").unwrap();
    eventually("a file written in place", || (server_of(&world, "ann") == "canary").then_some(()));
    assert_eq!(stands(&world), ("running".into(), 1, 0.01), "a cohort's users are no part of the definition");
}

#[test]
fn a_file_that_vanishes_or_holds_junk_is_refused_and_the_old_cohort_goes_on() {
    let (_stable, _canary, world) = with_cohorts(0.01, "ann\n", "");
    let revision = world.revision();
    let refused = |file: &str, line: Option<u64>| {
        let answer = world.admin(post("/api/v1/config/reload", ""));
        assert_eq!(answer.status, 422, "{}", answer.text());
        let findings = answer.json()["findings"].clone();
        let finding = &findings[0];
        let names = |key: &str| finding[key].as_str().is_some_and(|text| text.contains(file));
        assert!(names("file") || names("message") || names("text"), "{findings:#}");
        if let Some(line) = line {
            assert_eq!((names("file"), &finding["line"]), (true, &line.into()), "{findings:#}");
        }
        assert_eq!(world.revision(), revision);
        assert_eq!(server_of(&world, "ann"), "canary", "the old cohort goes on");
        let check = world.cli(&["check", "-c", "tollgate.toml"]);
        let said = String::from_utf8_lossy(&check.stderr).into_owned();
        assert!(check.status.code() == Some(1) && said.contains(file), "{said}");
    };
    fs::remove_file(world.path("staff.txt")).unwrap();
    eventually("it is told", || (!world.config()["last_error"].is_null()).then_some(()));
    refused("staff.txt", None);
    world.write_as("staff.txt", b"ann\nben\n\xff\xfe junk\n");
    refused("staff.txt", Some(3));
    world.write_as("staff.txt", b"ann\nb\x00b\n");
    refused("staff.txt", Some(2));
    world.write_as("staff.txt", b"ann\nben\n");
    eventually("a good one is served again", || (server_of(&world, "ben") == "canary").then_some(()));
}

#[test]
fn a_cohort_of_a_percent_is_on_the_canary_beside_the_share() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let world = between(&stable, &canary)
        .key("include = [\"fifth\"]")
        .table("[cohort.fifth]\nany = [{ percent = 20, salt = \"s\" }]")
        .start();
    let on = on_canary(&world, 1000).iter().filter(|on| **on).count() as f64;
    // 20 % and 10 % of the rest, by two hashes that know nothing of each other.
    assert!((on - 280.0).abs() <= 3.0 * (1000.0_f64 * 0.28 * 0.72).sqrt(), "{on} of 1000");
}

/// What `explain` says of a user who asks for `/USER`.
fn explained(world: &World, user: &str) -> Value {
    let (url, header) = (format!("http://localhost/{user}"), format!("x-user-id: {user}"));
    let output = world.cli(&["explain", "-c", "tollgate.toml", "GET", &url, "-H", &header, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What the gateway did with each user who asked for `/USER`: its log's lines, by path.
#[track_caller]
fn lines_of(world: &World, users: &[String]) -> BTreeMap<String, Value> {
    let mut connection = world.connect();
    for user in users {
        assert_eq!(connection.ask(&by(user, &format!("/{user}"))).unwrap().status, 200);
    }
    eventually("the lines of all", || {
        let lines = world.log_lines().into_iter().map(|line| (line["path"].as_str().unwrap().to_owned(), line));
        let lines: BTreeMap<String, Value> = lines.collect();
        users.iter().all(|user| lines.contains_key(&format!("/{user}"))).then_some(lines)
    })
}

/// Holds `explain` against the gateway, with `border` the first bucket that is not on the canary.
#[track_caller]
fn agrees(world: &World, users: &[String], border: u64) {
    let lines = lines_of(world, users);
    let mut arms = BTreeMap::new();
    for user in users {
        let (said, line) = (explained(world, user), &lines[&format!("/{user}")]);
        for key in ["arm", "bucket", "release", "route", "upstream"] {
            assert_eq!(said[key], line[key], "{key} of {user}: {said:#} {line:#}");
        }
        assert_eq!(said["user"], **user);
        let cohorts: Vec<&str> =
            said["cohorts"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let is_in = |name: &str| cohorts.contains(&name);
        assert_eq!((is_in("staff"), is_in("vip")), (user.ends_with('7'), user.ends_with("77")), "{user}: {cohorts:?}");
        let canary = !is_in("vip") && (is_in("staff") || is_in("fifth") || said["bucket"].as_u64() < Some(border));
        assert_eq!(said["arm"] == "canary", canary, "{user}: {said:#}");
        *arms.entry(said["arm"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    assert!(arms.values().all(|count| *count > 10) && arms.len() == 2, "{arms:?}");
}

#[test]
fn explain_says_what_the_gateway_does() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut world = World::prepare();
    let users: Vec<String> = (0..200).map(|n| format!("u{n}")).collect();
    let of =
        |end: &str| users.iter().filter(|user| user.ends_with(end)).map(|user| format!("{user}\n")).collect::<String>();
    world.write_as("staff.txt", of("7").as_bytes());
    world.write_as("vip.txt", of("77").as_bytes());
    let release = between(&stable, &canary)
        .steps(&[(10.0, "1h"), (60.0, "1h")])
        .key("include = [\"staff\", \"fifth\"]")
        .key("exclude = [\"vip\"]")
        .table(COHORTS);
    world.boot(&release.text());
    agrees(&world, &users, 1000);
    // It reads the step that the gateway is at; paths are asked for once only, so other users.
    order(&world, "promote");
    let later: Vec<String> = (200..280).map(|n| format!("u{n}")).collect();
    world.write_as(
        "staff.txt",
        later.iter().filter(|u| u.ends_with('7')).map(|u| format!("{u}\n")).collect::<String>().as_bytes(),
    );
    world.write_as("vip.txt", b"u277\n");
    world.push(&release.text());
    agrees(&world, &later, 6000);
    order(&world, "abort");
    let said = explained(&world, "u207");
    assert_eq!((&said["arm"], &said["upstream"]), (&"stable".into(), &"stable".into()));
    assert!(said["why"].to_string().contains("aborted"), "{said:#}");
}

#[test]
fn requests_without_a_key_are_stables_until_everybody_is_on_the_canary() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let world = between(&stable, &canary).steps(&[(50.0, "1h"), (100.0, "1h")]).start();
    for n in 0..20 {
        assert_eq!(world.ask(get(&format!("/{n}"))).server(), "stable");
    }
    assert_eq!(world.ask(get("/").header("x-user-id", "")).server(), "stable", "an empty key is none");
    world.metric_reaches("tollgate_release_unkeyed_total", &["release=\"v2\""], 21.0);
    assert_eq!(view(&world)["unkeyed"], 21);
    let line = world.log_line("/3");
    assert_eq!((&line["arm"], line.get("bucket")), (&"stable".into(), None));
    order(&world, "promote");
    assert_eq!(world.ask(get("/")).server(), "canary");
    order(&world, "abort");
    assert_eq!(world.ask(get("/")).server(), "stable");
    // A holdback is drawn from those who have a key.
    world.push(&between(&stable, &canary).steps(&[(100.0, "1h")]).key("holdback = 5").key("salt = \"x\"").text());
    assert_eq!(stands(&world), ("running".into(), 1, 95.0));
    assert_eq!(world.ask(get("/")).server(), "canary");
}

#[test]
fn the_first_source_that_is_present_is_the_key() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let sources = "user = [\"header:x-user-id\", \"cookie:uid\", \"ip\"]";
    let world = between(&stable, &canary).steps(&[(50.0, "1h")]).key(sources).start();
    let by_cookie = |user: &str| get("/").header("cookie", format!("a=b; uid={user}"));
    let (mut seen, mut by_address) = (BTreeMap::new(), BTreeMap::new());
    for n in 0..40_u8 {
        let user = format!("u{n}");
        let server = server_of(&world, &user);
        assert_eq!(world.ask(by_cookie(&user)).server(), server, "the same key by another way");
        assert_eq!(world.ask(by(&user, "/").header("cookie", "uid=u7")).server(), server, "the header comes first");
        *seen.entry(server).or_insert(0) += 1;
        let server = world.ask_from([127, 0, 1, n + 1], get("/")).server().to_owned();
        assert_eq!(world.ask_from([127, 0, 1, n + 1], get("/again")).server(), server, "an address stays, too");
        *by_address.entry(server).or_insert(0) += 1;
    }
    assert!(seen.len() == 2 && by_address.len() == 2, "{seen:?} {by_address:?}");
    assert_eq!(world.metric("tollgate_release_unkeyed_total", &["release=\"v2\""]), 0.0);
}
