//! Upgrades that fail: the old process goes on as if nobody had asked.

use std::time::Instant;

use super::*;

/// Holds that the old process serves as before, on connections old and new.
#[track_caller]
fn goes_on(world: &mut World, kept: &mut Connection, pid: Pid) {
    assert!(world.is_alive());
    let answer = kept.ask(&get("/")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_ne!(answer.header("connection"), Some("close"), "nobody is asked to go");
    assert_eq!(world.ask(get("/")).status, 200);
    assert_eq!(world.admin(get("/readyz")).status, 200);
    only(world, pid);
}

#[test]
fn a_program_that_does_not_take_over_leaves_the_old_process_serving() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("10s", &origin));
    let (mut kept, pid) = (world.connect(), world.pid());
    fs::write(world.path("text"), "no program").unwrap();
    write_program(&world.path("bytes"), &[0x7f, b'E', b'L', b'F', 9, 9]);
    let path = |name: &str| world.path(name).to_str().unwrap().to_owned();
    let garbage = "#!/bin/sh\necho hello >&0\nexec sleep 30\n";
    let cases: Vec<(String, &str)> = vec![
        (path("none"), "there is no such file"),
        (path("text"), "may execute"),
        (path("bytes"), "no program for this machine"),
        ("/bin/true".to_owned(), "ended (exit status: 0)"),
        ("/bin/false".to_owned(), "ended (exit status: 1)"),
        ("#!/bin/sh\nkill -9 $$\n".to_owned(), "ended (signal: 9"),
        ("#!/bin/sh\nexec sleep 30\n".to_owned(), "it hangs, or is no Tollgate"),
        (garbage.to_owned(), "is no Tollgate that can take over"),
    ];
    for (program, said) in cases {
        let program = if program.starts_with('#') { script(&world, &program) } else { program };
        let begun = Instant::now();
        let (code, told) = asked(&world, &["--timeout", "1", &program]);
        assert_eq!((code, &told["result"]), (Some(1), &"failed".into()), "{told:#}");
        assert!(told["reason"].as_str().unwrap().contains(said), "{program}: {told:#}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        goes_on(&mut world, &mut kept, pid);
    }
    // A script that ends in the real one is as good as that.
    let through = format!("#!/bin/sh\nexec {} \"$@\"\n", world::executable().display());
    let new = upgraded(&world, &[&script(&world, &through)]);
    drop(kept);
    only(&mut world, new);
}

#[test]
fn a_configuration_with_findings_is_refused_with_all_of_them() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("10s", &origin));
    let (mut kept, pid) = (world.connect(), world.pid());
    world.write(&format!(
        r#"
    {}[route.b]
    upstream = "nowhere"
    body_maximum = 3
    "#,
        config("10s", &origin)
    ));
    let (code, told) = asked(&world, &[]);
    assert_eq!(code, Some(1));
    assert_eq!(told["findings"].as_array().unwrap().len(), 2, "{told:#}");
    let output = world.cli(&["upgrade", "-c", "tollgate.toml"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("has findings") && said.contains("body_maximum"), "{said}");
    goes_on(&mut world, &mut kept, pid);
}

#[test]
fn an_address_that_is_taken_is_refused() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("10s", &origin));
    let (mut kept, pid) = (world.connect(), world.pid());
    let other = Origin::start("another program");
    let text = format!(
        r"
    [[listener]]
    address = {:?}
    {}",
        other.address(),
        config("10s", &origin)
    );
    world.write(&text);
    let (code, told) = asked(&world, &[]);
    assert_eq!(code, Some(1));
    let reason = told["reason"].as_str().unwrap();
    assert!(reason.contains(&other.address()) && reason.contains("in use"), "{told:#}");
    goes_on(&mut world, &mut kept, pid);
}

#[test]
fn of_two_upgrades_at_once_the_second_is_refused() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("10s", &origin));
    let (mut kept, pid) = (world.connect(), world.pid());
    let hangs = script(&world, "#!/bin/sh\nexec sleep 30\n");
    thread::scope(|scope| {
        let first = scope.spawn(|| asked(&world, &["--timeout", "3", &hangs]));
        eventually("it is under way", || world.messages().contains("is started as process").then_some(()));
        let begun = Instant::now();
        let (code, told) = asked(&world, &[]);
        assert_eq!(code, Some(1));
        assert!(told["reason"].as_str().unwrap().contains("another upgrade is under way"), "{told:#}");
        assert!(begun.elapsed() < Duration::from_secs(2), "it does not wait");
        assert!(first.join().unwrap().1["reason"].as_str().unwrap().contains("it hangs"));
    });
    goes_on(&mut world, &mut kept, pid);
}

#[test]
fn a_signal_to_the_old_process_ends_the_upgrade_and_drains() {
    let origin = Origin::start("a");
    let mut world = World::start(&config("10s", &origin));
    let hangs = script(&world, "#!/bin/sh\nexec sleep 30\n");
    let told = thread::scope(|scope| {
        let first = scope.spawn(|| asked(&world, &[&hangs]));
        eventually("it is under way", || world.messages().contains("is started as process").then_some(()));
        world.signal(Signal::TERM);
        first.join().unwrap()
    });
    assert_eq!(told.0, Some(1));
    assert!(told.1["reason"].as_str().unwrap().contains("was told to end"), "{:#}", told.1);
    world.ends_well();
    eventually("the new process is gone, too", || world.processes().is_empty().then_some(()));
    assert!(!world.path("state/control.sock").exists(), "nothing is left that answers");
}

#[test]
fn who_asks_wrongly_or_nobody_is_told_so() {
    let world = World::prepare();
    world.write(
        r"
    [route.all]
    respond = {}
    ",
    );
    let code = |arguments: &[&str]| world.cli(arguments).status.code();
    assert_eq!(code(&["upgrade"]), Some(2));
    assert_eq!(code(&["upgrade", "-c", "none.toml"]), Some(2));
    assert_eq!(code(&["upgrade", "-c", "tollgate.toml", "--timeout", "0"]), Some(2));
    let output = world.cli(&["upgrade", "-c", "tollgate.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("no running gateway at") && said.contains("state/control.sock"), "{said}");
}

#[test]
fn a_second_gateway_on_one_state_dir_leaves_the_first_ones_socket_alone() {
    let origin = Origin::start("a");
    let first = World::start(&config("10s", &origin));
    let mut second = World::prepare();
    let shared = first.path("state");
    let shared = format!("threads = 2\nstate_dir = {:?}", shared.to_str().unwrap());
    second.boot(&config("10s", &origin).replace("threads = 2", &shared));
    assert!(second.messages().contains("will not reach this process"), "{}", second.messages());
    second.stop();
    upgraded(&first, &[]);
}
