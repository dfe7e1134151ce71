//! Tests of the counts.

use super::*;
use balance::attempt::AttemptFailure;

/// Counts a request of a user who tells all that there is to tell.
fn observe(cells: &mut Breakdown, seen: &Sample) {
    let told = Told { failure: seen.ending.is_failure(), refusal: seen.is_refusal(), slow: seen.micros > 9 };
    cells.observe(seen, told);
}

fn seen(arm: Arm, app: u32, ending: Ending) -> Sample {
    let status = if ending == Ending::Failed(AttemptFailure::Status) { 503 } else { 200 };
    Sample { micros: 10, server: 4, status, route: 2, cohorts: 0b101, app, ending, ..Sample::good(1, arm) }
}

fn at(seconds: u64) -> Nanos {
    Nanos(seconds * 1_000_000_000)
}

fn requests(cells: &Breakdown, span: Span) -> u64 {
    cells.cells(span).iter().map(|cell| cell.counts.requests).sum()
}

#[test]
fn a_cell_says_what_was_seen() {
    let mut cells = Breakdown::new(at(0));
    for ending in
        [Ending::Failed(AttemptFailure::Status), Ending::Failed(AttemptFailure::Reset), Ending::Good, Ending::Left]
    {
        observe(&mut cells, &seen(Arm::Canary, 7, ending));
    }
    observe(
        &mut cells,
        &Sample {
            judged: false,
            server: 0,
            app: 0,
            status: 0,
            ..seen(Arm::Stable, 0, Ending::Failed(AttemptFailure::Connect))
        },
    );
    let all = cells.cells(Span::Recent);
    let outcomes: Vec<CellOutcome> = all.iter().map(|cell| cell.outcome).collect();
    let reset = CellOutcome::Broken(AttemptFailure::Reset);
    assert_eq!(
        outcomes,
        [CellOutcome::Broken(AttemptFailure::Connect), CellOutcome::Fine, reset, CellOutcome::Status(503)]
    );
    assert_eq!((all[0].arm, all[0].judged, all[0].server, all[0].app), (Arm::Stable, false, None, None));
    assert_eq!(all[1].counts, Counts { requests: 2, bad: 0, refused: 0, slow: 2 }, "a client that left is no failure");
    let canary = Cell {
        arm: Arm::Canary,
        judged: true,
        outcome: CellOutcome::Status(503),
        route: Some(2),
        server: Some(4),
        cohorts: 0b101,
        app: Some(7),
        counts: Counts { requests: 1, bad: 1, refused: 0, slow: 1 },
    };
    assert_eq!(all[3], canary);
    assert_eq!(cells.sum(Arm::Canary, true), Counts { requests: 4, bad: 2, refused: 0, slow: 4 });
    assert_eq!(cells.sum(Arm::Stable, false).bad, 1, "counted apart");
    assert_eq!(cells.sum(Arm::Stable, true), Counts::default());
}

#[test]
fn every_ending_and_every_border_comes_back() {
    let numbers = [(0, 1, 0, 1), (u16::MAX - 1, u32::MAX - 1, u16::MAX, u32::from(u16::MAX) - 1)];
    for ending in [
        Ending::Good,
        Ending::Failed(AttemptFailure::Status),
        Ending::Failed(AttemptFailure::Connect),
        Ending::Failed(AttemptFailure::Reset),
        Ending::Failed(AttemptFailure::Timeout),
    ] {
        for (route, server, cohorts, app) in numbers {
            for arm in Arm::ALL {
                let one = Sample { route, server, cohorts, app, ..seen(arm, 1, ending) };
                let cell = CellKey::new(&one, CellOutcome::of(&one)).cell(Counts::default());
                assert_eq!((cell.arm, cell.outcome), (arm, CellOutcome::of(&one)));
                let places = (cell.route, cell.server, cell.cohorts, cell.app);
                assert_eq!(places, (Some(route), Some(server), cohorts, Some(app)));
            }
        }
    }
}

#[test]
fn the_recent_span_forgets_and_the_total_does_not() {
    let mut cells = Breakdown::new(at(0));
    for second in 0..300 {
        cells.advance(at(second));
        observe(&mut cells, &seen(Arm::Stable, 1, Ending::Good));
    }
    assert_eq!((requests(&cells, Span::Recent), requests(&cells, Span::Total)), (120, 300));
    cells.advance(at(300));
    assert_eq!((requests(&cells, Span::Recent), requests(&cells, Span::Total)), (100, 300), "never less than 100 s");
    cells.advance(at(100_000));
    assert_eq!((requests(&cells, Span::Recent), requests(&cells, Span::Total)), (0, 300), "after a long pause");
    observe(&mut cells, &seen(Arm::Stable, 1, Ending::Good));
    cells.advance(at(100_019));
    assert_eq!(requests(&cells, Span::Recent), 1, "and then it goes on in slices of the same length");
    cells.clear(at(100_020));
    assert_eq!(requests(&cells, Span::Total), 0);
}

#[test]
fn too_many_keys_are_folded_step_by_step_and_none_is_lost() {
    let mut cells = Breakdown::new(at(0));
    for app in 1..=30_000 {
        observe(&mut cells, &seen(Arm::Stable, app, Ending::Good));
    }
    let all = cells.cells(Span::Total);
    assert_eq!(all.len(), CELLS + 1);
    let folded = all.iter().find(|cell| cell.app.is_none()).unwrap();
    assert_eq!((folded.counts.requests, folded.cohorts), (10_000, 0));
    assert_eq!((folded.route, folded.server), (Some(2), Some(4)), "route and server are still told apart");
    for server in 1..=40_000 {
        observe(&mut cells, &Sample { server, ..seen(Arm::Canary, 1, Ending::Failed(AttemptFailure::Status)) });
    }
    let all = cells.cells(Span::Total);
    assert_eq!(all.len(), 2 * CELLS + 1);
    assert_eq!(requests(&cells, Span::Total), 70_000);
    let folded = all.iter().find(|cell| cell.route.is_none()).unwrap();
    assert_eq!((folded.arm, folded.outcome, folded.server), (Arm::Canary, CellOutcome::Status(503), None));
}
