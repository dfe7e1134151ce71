//! Hot swap: every way a change can come, and every reason it is refused for.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread;

use rustix::process::Signal;

use crate::support::*;

fn says(text: &str) -> String {
    format!(
        r#"
    [route.all]
    respond = {{ body = "{text}" }}
    "#
    )
}

#[track_caller]
fn serves(world: &World, text: &str) {
    eventually(text, || (world.ask(get("/")).text() == text).then_some(()));
}

#[test]
fn a_file_renamed_over_or_written_in_place_is_served() {
    let world = World::start(&says("one"));
    assert_eq!(world.ask(get("/")).text(), "one");
    world.write(&says("two"));
    serves(&world, "two");
    fs::write(world.config_path(), world.complete(&says("three"))).unwrap();
    serves(&world, "three");
    assert_eq!(world.config()["history"][0]["trigger"], "file");
    world.metric_reaches("tollgate_config_reloads_total", &["result=\"applied\""], 2.0);
    world.metric_reaches("tollgate_config_revision_info", &["revision=\"3\""], 1.0);
    let text = world.admin(get("/metrics")).text();
    assert_eq!(text.lines().filter(|line| line.starts_with("tollgate_config_revision_info{")).count(), 1);
}

/// A folder as Kubernetes mounts it: `tollgate.toml` → `..data/tollgate.toml`, `..data` → a folder of the version.
#[test]
fn a_swapped_symlink_is_served() {
    for whole_folder in [false, true] {
        let mut world = World::prepare();
        let mount = world.path("mount");
        let publish = |world: &World, version: &str, text: &str| {
            fs::create_dir_all(mount.join(version)).unwrap();
            let state = world.path("state");
            let server = format!(
                r"
            [server]
            threads = 1
            state_dir = {:?}
            ",
                state.to_str().unwrap()
            );
            fs::write(mount.join(version).join("tollgate.toml"), world.complete(&(server + &says(text)))).unwrap();
            symlink(version, mount.join("..tmp")).unwrap();
            fs::rename(mount.join("..tmp"), mount.join("..data")).unwrap();
        };
        publish(&world, "..v1", "one");
        symlink("..data/tollgate.toml", mount.join("tollgate.toml")).unwrap();
        world.spawn(&if whole_folder { mount.clone() } else { mount.join("tollgate.toml") });
        eventually("it serves", || world.try_ask(&get("/")).ok());
        serves(&world, "one");
        publish(&world, "..v2", "two");
        serves(&world, "two");
        fs::remove_dir_all(mount.join("..v1")).unwrap();
        publish(&world, "..v3", "three");
        serves(&world, "three");
    }
}

#[test]
fn a_folder_is_read_in_name_order_and_files_may_come_and_go() {
    let mut world = World::prepare();
    let folder = world.path("conf.d");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("10-base.toml"), world.complete("")).unwrap();
    fs::write(
        folder.join("20-app.toml"),
        r#"
    [route.a]
    paths = ["/a"]
    respond = { body = "a" }
    "#,
    )
    .unwrap();
    fs::write(folder.join(".hidden.toml"), "nonsense").unwrap();
    world.spawn(&folder);
    eventually("it serves", || world.try_ask(&get("/")).ok());
    assert_eq!(world.ask(get("/a")).text(), "a");
    fs::write(
        folder.join("30-more.toml"),
        r#"
    [route.b]
    paths = ["/b"]
    respond = { body = "b" }
    "#,
    )
    .unwrap();
    eventually("the new file's route", || (world.ask(get("/b")).text() == "b").then_some(()));
    fs::remove_file(folder.join("20-app.toml")).unwrap();
    eventually("the removed file's route is gone", || (world.ask(get("/a")).status == 404).then_some(()));
}

#[test]
fn without_watching_sighup_and_the_api_reload() {
    let config = |text: &str| {
        format!(
            r"
    [reload]
    watch = false
    {}",
            says(text)
        )
    };
    let world = World::start(&config("one"));
    world.write(&config("two"));
    assert!(wait::stays(std::time::Duration::from_millis(1500), || world.ask(get("/")).text() == "one"));
    world.signal(Signal::HUP);
    serves(&world, "two");
    world.write(&config("three"));
    let answer = world.admin(post("/api/v1/config/reload", ""));
    assert_eq!((answer.status, answer.json()["revision"].as_u64()), (200, Some(3)));
    assert_eq!(world.ask(get("/")).text(), "three", "the answer comes when it is served");
    let triggers: Vec<_> = world.config()["history"].as_array().unwrap().iter().map(|r| r["trigger"].clone()).collect();
    assert_eq!(triggers, ["api", "sighup", "start"]);
}

#[test]
fn a_refused_configuration_leaves_the_running_one_whole_and_is_told() {
    let origin = Origin::start("a");
    let good = format!(
        r#"
    {}[route.all]
    upstream = "app"
    "#,
        fleet("app", &[&origin])
    );
    let world = World::start(&good);
    let bad = good.replace("upstream = \"app\"", "upstream = \"ap\"\nhostz = [\"x\"]")
        + r#"
        [route.new]
        paths = ["/new"]
        respond = {}
        "#;
    world.write(&bad);
    let error = eventually("last_error", || Some(world.config()["last_error"].clone()).filter(|e| !e.is_null()));
    assert_eq!(error["trigger"], "file");
    let findings = error["findings"].as_array().unwrap();
    assert!(findings.len() == 2, "all findings at once: {findings:?}");
    for finding in findings {
        let placed = finding["line"].as_u64() > Some(0) && finding["column"].as_u64() > Some(0);
        assert!(placed && finding["file"].as_str().unwrap().ends_with("tollgate.toml"), "{finding}");
        assert!(finding["hint"].as_str().unwrap().contains("did you mean"), "{finding}");
    }
    assert_eq!(world.ask(get("/new")).server(), "a", "nothing of it is applied");
    assert_eq!(world.revision(), 1);
    assert!(world.metric("tollgate_config_reloads_total", &["result=\"refused\""]) >= 1.0);
    assert!(world.messages().contains("configuration refused"));
    let answer = world.admin(post("/api/v1/config/reload", ""));
    assert_eq!((answer.status, answer.json()["findings"].as_array().map(Vec::len)), (422, Some(2)));
    world.push(&format!("{good}# mended\n"));
    assert!(world.config()["last_error"].is_null());
}

#[test]
fn what_is_chosen_at_start_needs_an_upgrade() {
    let world = World::start(&says("one"));
    let moved = free_address();
    for (change, message) in [
        (format!("[[listener]]\naddress = \"$LISTEN\"\n[[listener]]\naddress = \"{moved}\"\n"), "listening on"),
        (format!("[[listener]]\naddress = \"{moved}\"\n"), "no longer listening"),
        (format!("[admin]\naddress = \"{moved}\"\n"), "admin address"),
        ("[server]\nthreads = 1\n".to_owned(), "threads"),
        ("[server]\nthreads = 2\nshutdown_grace = \"1s\"\n".to_owned(), "shutdown_grace"),
        ("[server]\nthreads = 2\nstate_dir = \"elsewhere\"\n".to_owned(), "state_dir"),
    ] {
        world.write(&format!("{change}{}", says("two")));
        let answer = world.admin(post("/api/v1/config/reload?force=true", ""));
        assert_eq!(answer.status, 422, "{change}");
        let findings = answer.json()["findings"].clone();
        let told = findings.as_array().unwrap().iter().map(|f| f["message"].as_str().unwrap().to_owned());
        let told: Vec<String> = told.collect();
        assert!(told.iter().all(|m| m.contains("tollgate upgrade")), "{told:?}");
        assert!(told.iter().any(|m| m.contains(message)), "{told:?}");
        assert_eq!(world.ask(get("/")).text(), "one");
    }
}

fn free_address() -> String {
    format!("127.0.0.1:{}", world::free_port())
}

#[test]
fn a_revision_that_drops_too_much_must_be_forced() {
    let config = |routes: usize| {
        let route = |n| {
            format!(
                r#"
        [route.r{n}]
        paths = ["/{n}"]
        respond = {{ body = "{n}" }}
        "#
            )
        };
        format!(
            r"
        [reload]
        removal_max_percent = 50
        watch = false
        {}",
            (0..routes).map(route).collect::<String>()
        )
    };
    let world = World::start(&config(10));
    world.push(&config(5));
    world.write(&config(2));
    let answer = world.admin(post("/api/v1/config/reload", ""));
    assert_eq!(answer.status, 422);
    let message = answer.json()["findings"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("3 of 5 routes") && message.contains("removal_max_percent"), "{message}");
    assert_eq!(world.ask(get("/4")).text(), "4");
    assert_eq!(world.admin(post("/api/v1/config/reload?force=true", "")).status, 200);
    assert_eq!(world.ask(get("/4")).status, 404);
}

#[test]
fn a_revision_that_drops_too_many_servers_must_be_forced() {
    let origins: Vec<Origin> = ["a", "b", "c"].into_iter().map(Origin::start).collect();
    let config = |count: usize| {
        let servers: Vec<&Origin> = origins.iter().take(count).collect();
        format!(
            r#"
            [reload]
            removal_max_percent = 40
            watch = false
            {}[route.all]
            upstream = "app"
            "#,
            fleet("app", &servers)
        )
    };
    let world = World::start(&config(3));
    world.write(&config(1));
    let answer = world.admin(post("/api/v1/config/reload", ""));
    assert!(answer.status == 422 && answer.text().contains("2 of 3 servers"), "{}", answer.text());
    world.push(&config(2));
}

#[test]
fn a_request_keeps_the_configuration_it_began_with() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.does(Act::when(&gate, Act::ok()));
    let config = |mark: &str| {
        let rules = format!("response_headers = {{ set = {{ \"x-mark\" = \"{mark}\" }} }}\n");
        format!(
            r#"
        {}[route.all]
        upstream = "app"
        {rules}"#,
            fleet("app", &[&origin])
        )
    };
    let world = World::start(&config("old"));
    thread::scope(|scope| {
        let held = scope.spawn(|| world.ask(get("/held")));
        eventually("the request is in flight", || (origin.hits() == 1).then_some(()));
        world.push(&config("new"));
        world.push(
            r#"
        [route.other]
        paths = ["/other"]
        respond = {}
        "#,
        );
        gate.open();
        let answer = held.join().unwrap();
        assert_eq!((answer.status, answer.header("x-mark")), (200, Some("old")));
    });
    assert_eq!(world.log_line("/held")["revision"], 1);
    world.ask(get("/")).is_problem(404, "no_route");
}

#[test]
fn what_servers_and_counters_know_outlives_a_push() {
    let origin = Origin::start("a");
    let config = |more: &str| {
        format!(
            r#"
    {}[route.all]
    upstream = "app"
    {more}"#,
            fleet("app", &[&origin])
        )
    };
    let world = World::start(&config(""));
    let mut connection = world.connect();
    for n in 0..5 {
        assert_eq!(connection.ask(&get("/")).unwrap().status, 200);
        world.push(&config(&format!(
            r#"
        [route.r{n}]
        paths = ["/{n}"]
        respond = {{}}
        "#
        )));
    }
    world.metric_reaches("tollgate_requests_total", &["route=\"all\""], 5.0);
    assert_eq!(origin.connections(), 1, "pooled connections outlive a push");
}
