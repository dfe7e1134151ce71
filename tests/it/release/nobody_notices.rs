//! A canary that fails in any way costs no user an answer, and is taken back by itself within seconds.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::*;
use crate::support::world::free_port;

/// What was promised, and what a machine may add that others use as well.
const SOON: Duration = Duration::from_millis(1500 + 2000);
/// The same of one that worked before: what is over within two seconds is a hiccup of its server, and stable answers.
const LATER: Duration = Duration::from_millis(3500 + 2000);
const FIRST_BYTE: &str = "[upstream.canary.timeout]\nfirst_byte = \"200ms\"";

/// Answers with `violation` once it is told to, and notes when it did so first.
#[derive(Clone, Default)]
struct Violation {
    on: Arc<AtomicBool>,
    first: Arc<OnceLock<Instant>>,
}

impl Violation {
    fn now() -> Violation {
        let fault = Violation::default();
        fault.on.store(true, SeqCst);
        fault
    }

    /// Does this once it is told to.
    fn scripts(&self, canary: &Origin, act: impl Fn() -> Act + Send + Sync + 'static) {
        let own = self.clone();
        canary.forget();
        canary.script(move |_| match own.on.load(SeqCst) {
            true => {
                own.first.get_or_init(Instant::now);
                act()
            }
            false => Act::ok(),
        });
    }

    fn began(&self) -> Option<Instant> {
        self.first.get().copied()
    }
}

fn stable() -> Origin {
    let stable = Origin::start("stable");
    stable.forget();
    stable
}

/// Every request was answered, the canary's by stable, and soon there were none any more.
#[track_caller]
fn saved_everybody(world: &World, crowd: &Users, took: Duration, within: Duration) {
    crowd.noticed_nothing();
    let view = view(world);
    assert!(view["rescued"].as_u64() > Some(0), "{view:#}");
    assert_eq!(
        (&view["not_rescued"], &view["state"], &view["percent"]),
        (&0.into(), &"rolled_back".into(), &0.0.into())
    );
    println!("taken back {took:?} after the first failure, {} answered, {} rescued", crowd.answered(), view["rescued"]);
    assert!(took <= within, "taken back only {took:?} after the first failure");
}

/// A canary that does this from the start.
#[track_caller]
fn from_the_start(act: Act) {
    let (stable, canary) = (stable(), Origin::start("canary"));
    let fault = Violation::now();
    fault.scripts(&canary, move || act.clone());
    let world = between(&stable, &canary).table(FIRST_BYTE).start();
    let crowd = Users::new(500, 800);
    let took = crowd.while_(&world, || taken_back(&world, &crowd, || fault.began()));
    saved_everybody(&world, &crowd, took, SOON);
}

#[test]
fn a_canary_that_always_answers_500_hurts_nobody() {
    from_the_start(Act::status(500));
}

#[test]
fn a_canary_that_resets_its_connections_hurts_nobody() {
    from_the_start(Act::reset());
}

#[test]
fn a_canary_that_hangs_hurts_nobody() {
    from_the_start(Act::hang());
}

#[test]
fn a_canary_that_refuses_connections_hurts_nobody() {
    let (stable, dead) = (stable(), Dead::new());
    let world = gray(&[stable.address()], &[dead.address()]).start();
    let crowd = Users::new(500, 800);
    let began = Instant::now();
    let took = crowd.while_(&world, || taken_back(&world, &crowd, || Some(began)));
    saved_everybody(&world, &crowd, took, SOON);
}

#[test]
fn a_canary_that_dies_during_the_release_hurts_nobody() {
    let (stable, canary) = (stable(), Origin::start_on("canary", free_port()));
    canary.forget();
    let world = between(&stable, &canary).start();
    let crowd = Users::new(500, 800);
    let took = crowd.while_(&world, || {
        crowd.goes_round();
        assert_eq!(stands(&world), ("running".into(), 1, 10.0));
        assert!(canary.hits() > 0);
        let died = Instant::now();
        drop(canary);
        taken_back(&world, &crowd, || Some(died))
    });
    saved_everybody(&world, &crowd, took, LATER);
}

#[test]
fn a_canary_that_is_well_at_first_and_then_fails_every_other_time_hurts_nobody() {
    let (stable, canary) = (stable(), Origin::start("canary"));
    let (fault, turn) = (Violation::default(), AtomicUsize::new(0));
    fault.scripts(&canary, move || if turn.fetch_add(1, SeqCst) % 2 == 0 { Act::status(500) } else { Act::ok() });
    let world = between(&stable, &canary).start();
    let crowd = Users::new(500, 800);
    let took = crowd.while_(&world, || {
        crowd.goes_round();
        crowd.goes_round();
        assert_eq!(stands(&world), ("running".into(), 1, 10.0));
        fault.on.store(true, SeqCst);
        taken_back(&world, &crowd, || fault.began())
    });
    saved_everybody(&world, &crowd, took, LATER);
}

#[test]
fn a_release_of_one_route_leaves_the_others_alone() {
    let (stable, canary) = (stable(), Origin::start("canary"));
    let fault = Violation::now();
    fault.scripts(&canary, || Act::status(500));
    let other = r#"
    [route.other]
    paths = ["/other"]
    upstream = "canary""#;
    let world = between(&stable, &canary).table(other).start();
    let crowd = Users::new(500, 800);
    crowd.while_(&world, || becomes(&world, "rolled_back"));
    crowd.noticed_nothing();
    assert_eq!(world.ask(by("u1", "/other")).status, 500, "a route without a release is forwarded as ever");
    let without = ["route=\"other\"", "arm=\"none\"", "status_class=\"5xx\""];
    world.metric_reaches("tollgate_requests_total", &without, 1.0);
}
