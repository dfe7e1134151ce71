//! The long form: thirty upgrades in a row under load, with figures.

use std::time::Instant;

use super::*;

const UPGRADES: usize = 30;
const CLIENTS: usize = 16;

#[test]
#[ignore = "minutes"]
fn long_thirty_upgrades_in_a_row_fail_no_request() {
    let origin = Origin::start("a");
    origin.script(|seen| if seen.path == "/socket" { Act::Echo } else { Act::ok() });
    origin.forget();
    let mut world = World::start(&config("10s", &origin));
    let (done, kept, fresh) = (AtomicBool::new(false), Met::default(), Met::default());
    let upgrade = get("/socket").header("connection", "upgrade").header("upgrade", "websocket");
    let (mut last, mut sockets, mut took) = (world.pid(), vec![], vec![]);
    let begun = Instant::now();
    thread::scope(|scope| {
        let _end = Finally(&done);
        for _ in 0..CLIENTS {
            scope.spawn(|| client(&world, true, &done, &kept));
        }
        for _ in 0..2 {
            scope.spawn(|| client(&world, false, &done, &fresh));
        }
        for n in 0..UPGRADES {
            kept.answers(500);
            let mut socket = world.connect();
            assert_eq!(socket.ask(&upgrade).unwrap().status, 101);
            sockets.push(socket);
            let asked = Instant::now();
            last = upgraded(&world, &[]);
            took.push(asked.elapsed());
            for socket in &mut sockets {
                socket.send(b"ping").unwrap();
                assert_eq!(socket.exactly(4).unwrap(), b"ping", "after upgrade {n}");
            }
        }
    });
    let ((answered, failed, closed), (alone, refused, _)) = (kept.count(), fresh.count());
    assert_eq!((failed, refused), (0, 0), "of {answered} and {alone}");
    assert_eq!(world.processes().len(), UPGRADES + 1, "each old one lives for its socket");
    drop(sockets);
    only(&mut world, last);
    took.sort();
    println!(
        "{UPGRADES} upgrades in {:.1} s, each {} to {} ms, median {} ms: {answered} requests on kept connections and {alone} on \
         fresh ones, 0 failed; {closed} connections asked to go; {UPGRADES} WebSockets went on until they ended, \
         then all old processes were gone",
        begun.elapsed().as_secs_f64(),
        took[0].as_millis(),
        took[UPGRADES - 1].as_millis(),
        took[UPGRADES / 2].as_millis(),
    );
}
