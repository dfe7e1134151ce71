//! A fault that both versions suffer from is nobody's release: it is told, and nothing is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use super::*;

/// Has a backend fail this percent of its requests, as long as it is not 0.
fn fails(origin: &Origin, percent: &Arc<AtomicU64>) {
    let (percent, turn) = (percent.clone(), AtomicUsize::new(0));
    origin.forget();
    origin.script(move |_| {
        // By turns, which follow no user.
        let turn = turn.fetch_add(7, SeqCst) as u64 % 100;
        if turn < percent.load(SeqCst) { Act::status(503) } else { Act::ok() }
    });
}

/// An outage of both of so many percent, then one of the canary alone.
#[track_caller]
fn outage(percent: u64) {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let (shared, own) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    fails(&stable, &shared);
    fails(&canary, &shared);
    let world = long_after_its_step(&between(&stable, &canary).steps(&[(20.0, "1h")]));
    let crowd = Users::new(400, 800);
    crowd.while_(&world, || {
        (0..3).for_each(|_| crowd.goes_round());
        crowd.noticed_nothing();
        shared.store(percent, SeqCst);
        // Long enough for the judge to have blamed the canary, had it wanted to.
        assert!(
            wait::stays(Duration::from_secs(4), || stands(&world) == ("running".into(), 1, 20.0)),
            "{:#}",
            view(&world)
        );
        eventually("a report", || view(&world)["report"].is_string().then_some(()));
        shared.store(0, SeqCst);
        (0..3).for_each(|_| crowd.goes_round());
        assert_eq!(stands(&world), ("running".into(), 1, 20.0), "{:#}", view(&world));
    });
    assert!(crowd.failures() > 0, "stable failed, so users saw it");
    let said = eventually("the report in the log", || {
        world.messages().lines().find(|line| line.contains("release v2: reported:")).map(str::to_owned)
    });
    assert!(said.contains("cause is outside") && said.contains("stable") && said.contains("503"), "{said}");
    // The judge goes on: users who come now meet a bad canary.
    fails(&canary, &own);
    own.store(100, SeqCst);
    let later = Users::named("later", 400, 800);
    later.while_(&world, || becomes(&world, "rolled_back"));
    later.noticed_nothing();
}

#[test]
fn an_outage_of_both_takes_nothing_back_and_a_later_fault_is_still_found() {
    outage(100);
}

#[test]
fn an_outage_of_a_third_takes_nothing_back_and_a_later_fault_is_still_found() {
    outage(30);
}

#[test]
fn users_who_met_the_outage_still_find_a_bad_canary() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let (shared, own) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    fails(&stable, &shared);
    fails(&canary, &shared);
    let world = long_after_its_step(&between(&stable, &canary).steps(&[(20.0, "1h")]));
    let crowd = Users::new(400, 800);
    crowd.while_(&world, || {
        (0..3).for_each(|_| crowd.goes_round());
        shared.store(100, SeqCst);
        eventually("a report", || view(&world)["report"].is_string().then_some(()));
        (0..2).for_each(|_| crowd.goes_round());
        shared.store(0, SeqCst);
        (0..4).for_each(|_| crowd.goes_round());
        fails(&canary, &own);
        own.store(100, SeqCst);
        becomes(&world, "rolled_back");
    });
}
