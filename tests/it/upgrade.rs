//! `tollgate upgrade`: a new process takes over, and no client notices; one that fails leaves the old one as it was.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::release::{between, on_canary, order, stands, try_order};
use crate::support::processes::{copy_program, write_program};
use crate::support::wait::{Finally, within};
use crate::support::*;

mod long;
mod manager;
mod refused;

/// A gateway before this backend.
fn config(grace: &str, origin: &Origin) -> String {
    format!(
        r#"
        [server]
        threads = 2
        shutdown_grace = "{grace}"
        {}[route.all]
        upstream = "app"
        "#,
        fleet("app", &[origin])
    )
}

/// What `tollgate upgrade --json` says; with its exit code.
#[track_caller]
fn asked(world: &World, arguments: &[&str]) -> (Option<i32>, Value) {
    let conf = world.config_path();
    let output = world.cli(&[&["upgrade", "--json", "-c", conf.to_str().unwrap()], arguments].concat());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = serde_json::from_str(&said)
        .unwrap_or_else(|e| panic!("{e}: {said} {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), said)
}

/// An upgrade that must be done; the new process.
#[track_caller]
fn upgraded(world: &World, arguments: &[&str]) -> Pid {
    let (code, said) = asked(world, arguments);
    assert_eq!((code, &said["result"]), (Some(0), &"done".into()), "{said:#} {}", world.messages());
    Pid::from_raw(said["pid"].as_i64().unwrap() as i32).unwrap()
}

/// Waits until only this process is left.
#[track_caller]
fn only(world: &mut World, pid: Pid) {
    let left = within(wait::PATIENCE, || {
        // The first one is our child: it is gone once it was noticed.
        world.is_alive();
        (world.processes() == [pid]).then_some(())
    });
    assert!(left.is_some(), "{pid:?} should be alone: {:?} {}", world.processes(), world.messages());
}

/// A program in the world's folder.
fn script(world: &World, text: &str) -> String {
    let path = world.path("program");
    write_program(&path, text.as_bytes());
    path.to_str().unwrap().to_owned()
}

/// What clients met.
#[derive(Default)]
struct Met {
    answered: AtomicUsize,
    /// Refused, reset, cut, or another status than 200.
    failed: AtomicUsize,
    /// Asked to go.
    closed: AtomicUsize,
}

impl Met {
    /// Answered, failed, closed.
    fn count(&self) -> (usize, usize, usize) {
        let get = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (get(&self.answered), get(&self.failed), get(&self.closed))
    }

    /// Waits for so many more answers.
    #[track_caller]
    fn answers(&self, more: usize) {
        let until = self.count().0 + more;
        eventually("load", || (self.count().0 >= until).then_some(()));
    }
}

/// Asks until told to stop, over one connection as long as that is kept.
fn client(world: &World, keep: bool, done: &AtomicBool, met: &Met) {
    let add = |counter: &AtomicUsize| counter.fetch_add(1, Ordering::SeqCst);
    let mut kept = None;
    while !done.load(Ordering::SeqCst) {
        let connection = kept.take().map_or_else(|| Connection::to(world.port), Ok);
        match connection.and_then(|mut connection| Ok((connection.ask(&get("/"))?, connection))) {
            Ok((answer, connection)) if answer.status == 200 => {
                add(&met.answered);
                if answer.header("connection") == Some("close") {
                    add(&met.closed);
                } else if keep {
                    kept = Some(connection);
                }
            }
            other => {
                eprintln!("{:?}", other.map(|(answer, _)| answer));
                add(&met.failed);
            }
        }
    }
}

#[test]
fn no_request_fails_under_load_and_every_one_is_logged() {
    let origin = Origin::start("a");
    origin.forget();
    let mut world = World::start(&config("10s", &origin));
    let (done, met) = (AtomicBool::new(false), Met::default());
    let mut last = world.pid();
    thread::scope(|scope| {
        let _end = Finally(&done);
        for _ in 0..8 {
            scope.spawn(|| client(&world, true, &done, &met));
        }
        scope.spawn(|| client(&world, false, &done, &met));
        for _ in 0..3 {
            met.answers(300);
            let next = upgraded(&world, &[]);
            assert_ne!(next, last);
            last = next;
        }
    });
    let (answered, failed, closed) = met.count();
    assert_eq!(failed, 0, "of {answered}");
    assert!(closed > 0, "nobody was asked to go");
    only(&mut world, last);
    let lines = eventually("all lines", || Some(world.log_lines()).filter(|lines| lines.len() >= answered));
    assert_eq!(lines.len(), answered);
}

#[test]
fn the_old_process_lets_everything_end_by_itself() {
    let origin = Origin::start("a");
    let gate = Gate::new();
    origin.script({
        let gate = gate.clone();
        move |seen| match &*seen.path {
            "/held" => Act::when(&gate, Act::ok()),
            "/socket" => Act::Echo,
            _ => Act::ok(),
        }
    });
    let mut world = World::start(&config("1500ms", &origin));
    let mut socket = world.connect();
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(socket.ask(&upgrade).unwrap().status, 101);
    let (mut kept, mut silent) = (world.connect(), world.connect());
    assert_eq!(kept.ask(&get("/")).unwrap().status, 200);
    assert_eq!(silent.ask(&get("/")).unwrap().status, 200);
    let old = world.pid();
    let (held, new) = thread::scope(|scope| {
        let held = scope.spawn(|| world.ask(get("/held")));
        eventually("it is in flight", || (origin.hits() == 4).then_some(()));
        let new = upgraded(&world, &[]);
        assert_ne!(world.ask(get("/")).header("connection"), Some("close"), "the new process serves");
        let last = kept.ask(&get("/")).unwrap();
        assert_eq!((last.status, last.header("connection")), (200, Some("close")), "served, and asked to go");
        kept.closed_after();
        let waited = silent.closed_after();
        assert!(waited > Duration::from_millis(200), "silent connections close at the grace's end: {waited:?}");
        assert!(!held.is_finished() && world.processes().contains(&old));
        gate.open();
        (held.join().unwrap(), new)
    });
    assert_eq!((held.status, held.header("connection")), (200, Some("close")));
    for text in ["one", "two"] {
        socket.send(text.as_bytes()).unwrap();
        assert_eq!(socket.exactly(3).unwrap(), text.as_bytes());
        assert!(world.processes().contains(&old), "it lives as long as its connections");
    }
    socket.finish();
    drop(socket);
    world.ends_well();
    assert_eq!(world.ask(get("/")).status, 200);
    only(&mut world, new);
}

#[test]
fn an_old_process_takes_no_socket_away() {
    let origin = Origin::start("a");
    origin.does(Act::Echo);
    let mut world = World::start(&config("300ms", &origin));
    let (control, old_one) = (world.path("state/control.sock"), world.path("old.sock"));
    // Whatever lies under the name when the old process ends is the new one's, even if it looks like the old one's own.
    fs::hard_link(&control, &old_one).unwrap();
    let mut socket = world.connect();
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(socket.ask(&upgrade).unwrap().status, 101);
    let new = upgraded(&world, &[]);
    fs::rename(&control, world.path("new.sock")).unwrap();
    fs::rename(&old_one, &control).unwrap();
    socket.finish();
    drop(socket);
    world.ends_well();
    only(&mut world, new);
    assert!(control.exists(), "{}", world.messages());
}

#[test]
fn a_signal_ends_what_a_drained_process_still_has() {
    let origin = Origin::start("a");
    origin.does(Act::Echo);
    let mut world = World::start(&config("300ms", &origin));
    let mut socket = world.connect();
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    assert_eq!(socket.ask(&upgrade).unwrap().status, 101);
    upgraded(&world, &[]);
    assert!(wait::stays(Duration::from_millis(900), || world.is_alive()), "nothing is cut at the grace's end");
    world.signal(Signal::TERM);
    world.ends_well();
    socket.closed_after();
    assert!(world.ask(get("/health")).status < 600, "the new one serves");
}

#[test]
fn what_is_chosen_at_start_is_taken_over() {
    let origin = Origin::start("a");
    let world = World::start(&config("500ms", &origin));
    let other = world::free_port();
    let text = format!(
        r#"
        [[listener]]
        address = "127.0.0.1:{other}"
        [[listener]]
        address = "$LISTEN"
        {}"#,
        config("400ms", &origin).replace("threads = 2", "threads = 3")
    );
    world.write(&text);
    let answer = world.admin(post("/api/v1/config/reload", ""));
    assert_eq!(answer.status, 422);
    assert!(answer.text().contains("tollgate upgrade"), "{}", answer.text());
    upgraded(&world, &[]);
    assert_eq!(Connection::to(other).unwrap().ask(&get("/")).unwrap().status, 200);
    assert_eq!(world.ask(get("/")).status, 200);
    assert!(world.messages().contains("with 3 workers"), "{}", world.messages());
    assert_eq!(world.revision(), 2);
    // And away again.
    let away = text.replace("        [[listener]]\n        address = \"$LISTEN\"\n", "");
    assert_ne!(away, text);
    world.write(&away);
    let (_, said) = asked(&world, &[]);
    assert!(said["steps"].to_string().contains("is not in the configuration any more"), "{said:#}");
    eventually("the old address is closed", || Connection::to(world.port).is_err().then_some(()));
    assert_eq!(Connection::to(other).unwrap().ask(&get("/")).unwrap().status, 200);
}

#[test]
fn another_state_dir_is_taken_over_when_the_old_one_is_named() {
    let origin = Origin::start("a");
    let world = World::start(&config("500ms", &origin));
    world.write(&config("500ms", &origin).replace("threads = 2", "threads = 2\nstate_dir = \"elsewhere\""));
    let (code, said) = asked(&world, &[]);
    assert_eq!(code, Some(1), "{said:#}");
    assert!(said["reason"].as_str().unwrap().contains("--state-dir"), "{said:#}");
    let old = world.path("state");
    upgraded(&world, &["--state-dir", old.to_str().unwrap()]);
    assert_eq!(world.ask(get("/")).status, 200);
    assert!(world.path("elsewhere/control.sock").exists());
    upgraded(&world, &[]);
}

#[test]
fn releases_and_revisions_go_on_where_they_were() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let gray = between(&stable, &canary).steps(&[(10.0, "1h"), (50.0, "1h"), (100.0, "1h")]);
    let mut world = gray.start();
    order(&world, "promote");
    let on = on_canary(&world, 200);
    let last = upgraded(&world, &[]);
    assert_eq!(stands(&world), ("running".into(), 2, 50.0));
    assert_eq!(on_canary(&world, 200), on, "a user stays on one version");
    // What is taken back in the new process is taken back in the old one, too, while it drains.
    let user = crate::release::a_user(&world, true);
    only(&mut world, last);
    let mut kept = world.connect();
    assert_eq!(kept.ask(&by(&user, "/")).unwrap().server(), "canary");
    upgraded(&world, &[]);
    assert_eq!(order(&world, "abort").0, "aborted");
    thread::sleep(Duration::from_millis(500));
    let last = kept.ask(&by(&user, "/")).unwrap();
    assert_eq!((last.server(), last.header("connection")), ("stable", Some("close")));
    upgraded(&world, &[]);
    assert_eq!(stands(&world), ("aborted".into(), 2, 0.0));
    assert!(try_order(&world, "resume").status == 200);
    // A rollback of the configuration, too.
    world.push(
        &gray
            .clone()
            .table(
                r#"
    [route.more]
    paths = ["/more"]
    respond = { body = "more" }"#,
            )
            .text(),
    );
    assert_eq!(world.ask(get("/more")).text(), "more");
    assert_eq!(world.admin(post("/api/v1/config/rollback", "")).status, 200);
    assert_eq!(world.revision(), 1);
    upgraded(&world, &[]);
    assert_eq!(world.revision(), 1, "what was rolled back does not come again by an upgrade");
    assert_eq!(world.ask(get("/more")).server(), "stable");
}

#[test]
fn a_server_known_to_be_dead_is_not_tried_again() {
    let (origin, dead) = (Origin::start("a"), Dead::new());
    let world = World::start(&format!(
        r#"
        [upstream.app]
        servers = [{:?}, {:?}]
        [upstream.app.health]
        interval = "30s"
        timeout = "1s"
        unhealthy_after = 1
        [route.all]
        upstream = "app"
        "#,
        origin.address(),
        dead.address()
    ));
    let down = |world: &World| world.server(&dead.address())["healthy"] == false;
    eventually("the probe has found it", || down(&world).then_some(()));
    upgraded(&world, &[]);
    assert!(down(&world), "{}", world.server(&dead.address()));
}

#[test]
fn what_was_installed_over_the_executable_is_started() {
    let origin = Origin::start("a");
    let mut world = World::prepare();
    let (installed, new) = (world.path("bin-tollgate"), world.path("bin-new"));
    let copy = |to: &PathBuf| copy_program(&world::executable(), to);
    copy(&installed);
    world.executable = installed.clone();
    world.boot(&config("500ms", &origin));
    for _ in 0..2 {
        copy(&new);
        fs::rename(&new, &installed).unwrap();
        let pid = upgraded(&world, &[]);
        let running = fs::read_link(format!("/proc/{}/exe", pid.as_raw_nonzero())).unwrap();
        assert_eq!(running, fs::canonicalize(&installed).unwrap(), "the new file, not the deleted one");
        assert_eq!(world.ask(get("/")).status, 200);
    }
}

#[test]
fn a_new_process_that_dies_later_is_a_gateway_that_died() {
    let origin = Origin::start("a");
    let world = World::start(&config("500ms", &origin));
    let pid = upgraded(&world, &[]);
    kill_process(pid, Signal::KILL).unwrap();
    eventually("it is gone", || Connection::to(world.port).is_err().then_some(()));
    let (code, said) = asked(&world, &[]);
    assert_eq!(code, Some(1));
    assert!(said["reason"].as_str().unwrap().contains("nobody answers"), "{said:#}");
}
