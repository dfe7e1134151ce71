//! What a service manager is told, read at a notify socket of the test's own.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use super::*;

/// What was told next: its lines.
#[track_caller]
fn told(socket: &UnixDatagram) -> Vec<String> {
    let mut text = [0; 4096];
    let count = socket.recv(&mut text).expect("a word to the service manager");
    String::from_utf8_lossy(&text[..count]).lines().map(str::to_owned).collect()
}

#[track_caller]
fn is_ready(socket: &UnixDatagram, pid: Pid) {
    let said = told(socket);
    let main = format!("MAINPID={}", pid.as_raw_nonzero());
    assert!(said.contains(&"READY=1".to_owned()) && said.contains(&main), "{said:?} is not {main}");
}

#[track_caller]
fn is_reloading(socket: &UnixDatagram) {
    let said = told(socket);
    let since = said.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
    assert!(said.contains(&"RELOADING=1".to_owned()) && since.is_some_and(|since| since > 0), "{said:?}");
}

#[track_caller]
fn main_process_moves(world: &mut World, socket: &UnixDatagram, origin: &Origin) {
    socket.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    world.boot(&config("500ms", origin));
    let old = world.pid();
    is_ready(socket, old);
    // One that fails: the old one is ready again.
    assert_eq!(asked(world, &["/bin/false"]).0, Some(1));
    is_reloading(socket);
    is_ready(socket, old);
    let new = upgraded(world, &[]);
    is_reloading(socket);
    is_ready(socket, new);
    world.ends_well();
    // The old one's end is no word of the service's.
    kill_process(new, Signal::TERM).unwrap();
    let said = told(socket);
    assert!(said.contains(&"STOPPING=1".to_owned()), "{said:?}");
    eventually("the end", || world.processes().is_empty().then_some(()));
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut [0; 64]).is_err(), "nothing more is told");
}

#[test]
fn the_main_process_moves_to_the_new_one() {
    let origin = Origin::start("a");
    let mut world = World::prepare();
    let path = world.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    world.layer = vec![("NOTIFY_SOCKET".into(), path.into())];
    main_process_moves(&mut world, &socket, &origin);
}

#[test]
fn an_abstract_socket_does_as_well() {
    let origin = Origin::start("a");
    let mut world = World::prepare();
    let name = format!("tollgate-it-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    world.layer = vec![("NOTIFY_SOCKET".into(), format!("@{name}").into())];
    main_process_moves(&mut world, &socket, &origin);
}
