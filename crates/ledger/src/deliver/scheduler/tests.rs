//! The desk before answers that are made up.

use super::*;
use crate::deliver::due::TAIL;
use crate::rows::Outgoing;

const NOW: i64 = 1_795_232_280_000;

fn to(merchant: &str) -> To {
    To::Merchant(merchant.to_owned())
}

fn event(seq: i64, merchant: &str) -> Parcel {
    Parcel::from(Outgoing {
        seq,
        id: Uuid::from_u128(seq as u128),
        kind: "payment.posted".into(),
        transaction_id: Uuid::nil(),
        order_id: None,
        merchant: merchant.into(),
        body: "{}".into(),
        created_at: NOW - 1,
        state: EventState::Pending,
        attempts: 0,
        round: 0,
        next_attempt_at: Some(NOW - 1),
        last_status: None,
        delivered_at: None,
    })
}

/// The same parcel after a change of its event.
fn with(parcel: &Parcel, change: impl FnOnce(&mut Outgoing)) -> Parcel {
    let mut parcel = parcel.clone();
    change(&mut parcel.event);
    parcel
}

fn delivered(parcel: &Parcel) -> Parcel {
    with(parcel, |event| (event.state, event.next_attempt_at) = (EventState::Delivered, None))
}

fn configure<'a>(desk: &mut Scheduler, merchants: impl IntoIterator<Item = &'a str>) {
    desk.addresses(merchants.into_iter().map(|name| (to(name), Bounds::default())));
}

/// A desk that has nothing to ask any more.
fn desk(merchants: &[&str]) -> Scheduler {
    let mut desk = Scheduler::default();
    configure(&mut desk, merchants.iter().copied());
    let question = desk.question(NOW).unwrap();
    assert_eq!((question.tail, question.names, question.scans.len()), (None, true, merchants.len()));
    let scans = vec![vec![]; merchants.len()];
    desk.answer(&question, DueEvents { scans, ..DueEvents::default() });
    assert_eq!(desk.question(NOW), None);
    desk
}

/// New events come.
fn come(desk: &mut Scheduler, events: Vec<Parcel>) {
    desk.wake();
    let question = desk.question(NOW).unwrap();
    let tail = events.last().map_or(question.tail.unwrap(), |event| event.seq);
    let scans = vec![vec![]; question.scans.len()];
    let new = events.into_iter().map(|event| (event, false)).collect();
    desk.answer(&question, DueEvents { tail, new, scans, ..DueEvents::default() });
}

fn seqs(events: &[Parcel]) -> Vec<i64> {
    events.iter().map(|event| event.seq).collect()
}

#[test]
fn a_merchant_has_sixteen_under_way_and_another_is_not_kept_waiting() {
    let mut desk = desk(&["a", "b"]);
    come(&mut desk, (1..=40).map(|seq| event(seq, "a")).chain([event(41, "b")]).collect());
    let launched = desk.launch(NOW);
    assert_eq!(launched.iter().filter(|event| event.event.merchant == "a").count(), 16);
    assert_eq!(launched.iter().filter(|event| event.event.merchant == "b").count(), 1);
    assert_eq!(desk.launch(NOW), []);
    desk.tried(&to("a"), true, NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [17]);
}

#[test]
fn however_many_hang_each_merchant_has_one_under_way() {
    let names: Vec<String> = (0..30).map(|at| format!("m{at:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut desk = desk(&names);
    let events = names.iter().take(20).enumerate();
    let many = events.flat_map(|(at, name)| (1..=20).map(move |n| event((at * 20 + n) as i64, name)));
    come(&mut desk, many.collect());
    let hanging = desk.launch(NOW).len();
    assert!((ALL_MAX..ALL_MAX + 20).contains(&hanging), "{hanging}");
    come(&mut desk, vec![event(1_000, "m29")]);
    assert_eq!(seqs(&desk.launch(NOW)), [1_000]);
}

#[test]
fn those_that_hang_or_fail_do_not_count_for_those_that_answer() {
    let names: Vec<String> = (0..30).map(|at| format!("m{at:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut desk = desk(&names);
    let many = (0..20).flat_map(|at| (1..=20).map(move |n| (at, n)));
    come(&mut desk, many.map(|(at, n)| event((at * 20 + n) as i64, names[at])).collect());
    let hanging = desk.launch(NOW);
    assert!(hanging.len() >= ALL_MAX);
    // None of them has answered.
    let later = NOW + HANGS_MS + 1;
    let healthy = || (1_000..1_030).map(|seq| event(seq, "m29")).collect::<Vec<_>>();
    come(&mut desk, healthy());
    let launched = desk.launch(later);
    assert_eq!(launched.iter().filter(|event| event.event.merchant == "m29").count(), LANE_MAX);
    assert!(desk.under_way() <= 21 * LANE_MAX);
    // They were given up: each is asked for one at a time.
    hanging.iter().chain(&launched).for_each(|event| desk.tried(&event.to, event.event.merchant == "m29", later));
    let again = desk.launch(later + SLOW_MS);
    assert_eq!(again.iter().filter(|event| event.event.merchant == "m00").count(), 1);
    assert_eq!(again.iter().filter(|event| event.event.merchant == "m29").count(), 30 - LANE_MAX);
}

#[test]
fn an_answer_that_was_asked_for_before_the_mark_sends_nothing_twice() {
    let mut desk = desk(&["a"]);
    come(&mut desk, vec![event(1, "a")]);
    let sent = desk.launch(NOW);
    desk.look_again(false);
    let question = desk.question(NOW).unwrap();
    desk.tried(&to("a"), true, NOW);
    desk.settled(&[delivered(&sent[0])], true);
    desk.answer(&question, DueEvents { tail: 1, scans: vec![vec![event(1, "a")]], ..DueEvents::default() });
    assert_eq!(desk.launch(NOW), []);
    // What is asked afterwards counts again, as when an event is asked for by hand.
    desk.look_again(false);
    let question = desk.question(NOW).unwrap();
    desk.answer(&question, DueEvents { tail: 1, scans: vec![vec![event(1, "a")]], ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(NOW)), [1]);
}

#[test]
fn what_does_not_fit_into_the_queue_is_asked_for_when_there_is_room() {
    let mut desk = desk(&["a"]);
    come(&mut desk, (1..=100).map(|seq| event(seq, "a")).collect());
    let sent = desk.launch(NOW);
    assert_eq!(desk.question(NOW), None, "the queue is more than half full");
    for sent in &sent {
        desk.tried(&to("a"), true, NOW);
        desk.settled(&[delivered(sent)], true);
    }
    desk.launch(NOW);
    let question = desk.question(NOW).expect("there is room now");
    let scan = &question.scans[0];
    assert!(scan.behind.0 <= NOW - LAG_MS, "{scan:?}");
    assert_eq!(scan.limit, 32 + 48, "as much as there is room for, and what is known");
}

#[test]
fn a_place_follows_the_answers_and_stays_behind_now() {
    let mut desk = desk(&["a"]);
    let ask = |desk: &mut Scheduler, now: i64, due: Vec<Parcel>| {
        desk.look_again(false);
        let question = desk.question(now).unwrap();
        desk.answer(&question, DueEvents { tail: 0, scans: vec![due], ..DueEvents::default() });
        question.scans[0].clone()
    };
    ask(&mut desk, NOW, vec![]);
    let scan = ask(&mut desk, NOW + 1_000, vec![]);
    assert_eq!(scan.behind, (NOW - LAG_MS, i64::MIN));
    desk.look_again(true);
    let old =
        (1..=64).map(|seq| Parcel::from(Outgoing { next_attempt_at: Some(NOW - 50_000), ..event(seq, "a").event }));
    let scan = ask(&mut desk, NOW + 1_000, old.collect());
    assert_eq!(scan.behind, BEGINNING);
    desk.launch(NOW);
    assert_eq!(desk.lanes[&to("a")].place, (NOW - 50_000, 64), "full: it goes on behind the last one");
    assert!(desk.lanes[&to("a")].behind);
}

#[test]
fn the_next_of_an_order_is_asked_for_when_one_is_delivered_or_dead_and_not_when_it_failed() {
    let mut desk = desk(&["a"]);
    let order = Uuid::from_u128(9);
    let of_order = Parcel::from(Outgoing { order_id: Some(order), ..event(1, "a").event });
    come(&mut desk, vec![of_order.clone()]);
    desk.launch(NOW);
    desk.tried(&to("a"), false, NOW);
    desk.settled(&[with(&of_order, |event| event.next_attempt_at = Some(NOW + 5_000))], true);
    assert_eq!((desk.question(NOW), desk.wait(NOW)), (None, Some(5_000)));
    desk.wake();
    desk.question(NOW).unwrap();
    assert_eq!(desk.wait(NOW + 6_000), None, "nothing can be done before the answer");
    desk.asked();
    assert_eq!(desk.question(NOW + 5_000).unwrap().scans.len(), 1, "at its time");
    desk.asked();
    desk.settled(&[delivered(&of_order)], true);
    let question = desk.question(NOW).unwrap();
    assert_eq!(question.freed, [(to("a"), order)]);
    desk.no_answer(question);
    assert_eq!(desk.question(NOW).unwrap().freed, [(to("a"), order)], "it is not forgotten");
}

#[test]
fn a_merchant_that_always_fails_is_asked_slowly_until_it_takes_one() {
    let mut desk = desk(&["a"]);
    come(&mut desk, (1..=60).map(|seq| event(seq, "a")).collect());
    for _ in 0..FAILURES {
        desk.launch(NOW);
        desk.tried(&to("a"), false, NOW);
    }
    while desk.under_way() > 0 {
        desk.tried(&to("a"), false, NOW);
    }
    assert_eq!(desk.launch(NOW).len(), 0);
    assert_eq!(desk.wait(NOW), Some(SLOW_MS));
    assert_eq!(desk.launch(NOW + SLOW_MS).len(), 1);
    assert_eq!(desk.launch(NOW + SLOW_MS).len(), 0);
    desk.tried(&to("a"), true, NOW);
    assert!(desk.launch(NOW + SLOW_MS).len() > 4);
}

#[test]
fn marks_that_were_not_kept_are_looked_for_from_the_beginning() {
    let mut desk = desk(&["a"]);
    come(&mut desk, vec![event(1, "a")]);
    let sent = desk.launch(NOW);
    desk.tried(&to("a"), true, NOW);
    assert_eq!(desk.question(NOW), None);
    desk.settled(&[delivered(&sent[0])], false);
    let question = desk.question(NOW).unwrap();
    assert_eq!(question.scans[0].behind, BEGINNING);
    desk.answer(&question, DueEvents { tail: 1, scans: vec![vec![event(1, "a")]], ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(NOW)), [1]);
}

#[test]
fn events_of_a_merchant_that_is_gone_wait_and_are_said_once() {
    let mut desk = desk(&["a"]);
    come(&mut desk, vec![event(1, "a"), event(2, "gone")]);
    configure(&mut desk, ["b"]);
    assert_eq!(desk.launch(NOW), []);
    let question = desk.question(NOW).unwrap();
    let names = vec!["a".to_owned(), "b".to_owned(), "gone".to_owned()];
    let found = DueEvents { tail: 2, scans: vec![vec![]], names, ..DueEvents::default() };
    assert_eq!(desk.answer(&question, found.clone()), ["a", "gone"]);
    assert_eq!(desk.answer(&question, found), [""; 0]);
    configure(&mut desk, ["a"]);
    let question = desk.question(NOW).unwrap();
    assert_eq!(question.scans[0].behind, BEGINNING);
    desk.answer(&question, DueEvents { tail: 2, scans: vec![vec![event(1, "a")]], ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(NOW)), [1], "and come when it is back");
}

#[test]
fn after_the_clock_was_set_back_new_events_go_at_once_and_places_begin_anew() {
    let mut desk = desk(&["a"]);
    let back = NOW - 6 * 3_600_000;
    let question = desk.question(back).unwrap();
    assert_eq!(question.scans[0].behind, BEGINNING, "what is written now stands before the place");
    desk.answer(&question, DueEvents { scans: vec![vec![]], ..DueEvents::default() });
    desk.wake();
    let question = desk.question(back).unwrap();
    let new = vec![(event(1, "a"), false), (Parcel::from(Outgoing { round: 1, ..event(2, "a").event }), false)];
    desk.answer(&question, DueEvents { tail: 2, new, ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(back)), [1], "only what was tried waits for its time");
}

#[test]
fn all_that_a_clock_left_ahead_goes_out_as_fast_as_its_merchant_takes_it() {
    let mut desk = desk(&["a"]);
    let ahead = |seq| Parcel::from(Outgoing { next_attempt_at: Some(NOW + 3_600_000), ..event(seq, "a").event });
    let mut pending: Vec<Parcel> = (1..=500).map(ahead).collect();
    desk.look_again(true);
    for _ in 0..40 {
        if let Some(question) = desk.question(NOW) {
            // As the store answers: what lies ahead is found from the beginning only.
            let found = |scan: &Scan| match scan.behind == BEGINNING {
                true => pending.iter().take(scan.limit).cloned().collect(),
                false => vec![],
            };
            let scans = question.scans.iter().map(found).collect();
            desk.answer(&question, DueEvents { tail: 500, scans, ..DueEvents::default() });
        }
        let sent = desk.launch(NOW);
        sent.iter().for_each(|event| desk.tried(&event.to, true, NOW));
        desk.settled(&sent.iter().map(delivered).collect::<Vec<_>>(), true);
        pending.retain(|event| sent.iter().all(|sent| sent.seq != event.seq));
    }
    assert_eq!(pending.len(), 0);
}

#[test]
fn what_is_committed_goes_out_without_a_question() {
    let mut desk = desk(&["a"]);
    let fresh = |after, upto, events: Vec<(Parcel, bool)>| Fresh { after, upto, events };
    desk.answer(&Question::default(), DueEvents { tail: 7, ..DueEvents::default() });
    let order = Uuid::from_u128(9);
    let of_order = |seq| Parcel::from(Outgoing { order_id: Some(order), ..event(seq, "a").event });
    desk.fresh(fresh(7, 12, vec![(event(8, "a"), true), (of_order(10), true), (of_order(12), false)]), NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [8, 10], "another one of the order may be before the third");
    let question = desk.question(NOW).unwrap();
    assert_eq!((question.tail, question.freed.as_slice()), (Some(12), &[(to("a"), order)][..]));
    // Committed while the store is asked: the answer neither brings them again nor takes the place back.
    desk.fresh(fresh(12, 14, vec![(event(13, "a"), true)]), NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [13]);
    let new = vec![(event(13, "a"), false)];
    desk.answer(&question, DueEvents { tail: 13, new, ..DueEvents::default() });
    desk.fresh(fresh(14, 15, vec![(event(15, "a"), true)]), NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [15]);
    assert_eq!(desk.question(NOW), None);
}

#[test]
fn what_is_not_known_to_be_all_is_asked_for() {
    let mut desk = desk(&["a"]);
    let gap = Fresh { after: 5, upto: 6, events: vec![(event(6, "a"), true)] };
    desk.fresh(gap, NOW);
    assert_eq!(desk.launch(NOW), []);
    let question = desk.question(NOW).unwrap();
    assert_eq!(question.tail, Some(0));
    let new = vec![(event(3, "a"), false), (event(6, "a"), false)];
    desk.answer(&question, DueEvents { tail: 6, new, ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(NOW)), [3, 6]);
}

#[test]
fn what_has_no_room_is_found_in_the_store() {
    let mut desk = desk(&["a"]);
    let events = (1..=100).map(|seq| (event(seq, "a"), true)).collect();
    desk.fresh(Fresh { after: 0, upto: 100, events }, NOW);
    let sent = desk.launch(NOW);
    sent.iter().for_each(|event| desk.tried(&event.to, true, NOW));
    desk.settled(&sent.iter().map(delivered).collect::<Vec<_>>(), true);
    while !desk.launch(NOW).is_empty() {
        (0..16).for_each(|_| desk.tried(&to("a"), true, NOW));
    }
    let question = desk.question(NOW).expect("the rest");
    assert!(question.scans[0].behind < (NOW - 1, 65), "{question:?}");
}

#[test]
fn after_a_gap_it_hears_again_as_soon_as_the_store_has_answered() {
    let mut desk = desk(&["a"]);
    // Each commit ends with rows that are no events, as those of a fee are.
    desk.fresh(Fresh { after: 20, upto: 28, events: vec![(event(24, "a"), true)] }, NOW);
    let question = desk.question(NOW).unwrap();
    desk.answer(&question, DueEvents { tail: 24, new: vec![(event(24, "a"), false)], ..DueEvents::default() });
    desk.fresh(Fresh { after: 28, upto: 36, events: vec![(event(32, "a"), true)] }, NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [24, 32]);
    assert_eq!(desk.question(NOW), None);
    // Where the answer was not all that is new, what was heard of may lie behind it.
    desk.fresh(Fresh { after: 40, upto: 2_000, events: vec![] }, NOW);
    let question = desk.question(NOW).unwrap();
    let new = (100..100 + TAIL as i64).map(|seq| (event(seq, "b"), false)).collect();
    desk.answer(&question, DueEvents { tail: 99 + TAIL as i64, cut: true, new, ..DueEvents::default() });
    assert_eq!(desk.question(NOW).unwrap().tail, Some(99 + TAIL as i64));
}

#[test]
fn orders_that_go_on_take_no_more_room_than_others() {
    let mut desk = desk(&["down"]);
    for n in 0..2_000 {
        let event = Parcel::from(Outgoing { order_id: Some(Uuid::from_u128(n as u128)), ..event(n + 1, "down").event });
        desk.fresh(Fresh { after: n, upto: n + 1, events: vec![(event.clone(), false)] }, NOW);
        if let Some(question) = desk.question(NOW) {
            let scans = vec![vec![]; question.scans.len()];
            desk.answer(&question, DueEvents { tail: n + 1, freed: vec![event], scans, ..DueEvents::default() });
        }
    }
    assert!(desk.lanes[&to("down")].queue.len() <= QUEUE_MAX, "{}", desk.lanes[&to("down")].queue.len());
    (0..10_000).for_each(|n| {
        let event =
            Parcel::from(Outgoing { order_id: Some(Uuid::from_u128(n as u128)), ..event(n + 2_001, "down").event });
        desk.fresh(Fresh { after: n + 2_000, upto: n + 2_001, events: vec![(event, false)] }, NOW);
    });
    assert!(desk.freed.len() <= FREED_WAIT && desk.lanes[&to("down")].behind);
}

fn endpoint(n: u128) -> To {
    To::Endpoint(Uuid::from_u128(n))
}

fn to_endpoint(seq: i64, n: u128) -> Parcel {
    Parcel { to: endpoint(n), ..event(seq, "a") }
}

/// A desk of one merchant and of endpoints with bounds, which has nothing to ask any more.
fn desk_of(endpoints: &[(u128, Bounds)]) -> Scheduler {
    let mut desk = Scheduler::default();
    let endpoints = endpoints.iter().map(|(n, bounds)| (endpoint(*n), *bounds));
    desk.addresses([(to("a"), Bounds::default())].into_iter().chain(endpoints));
    while let Some(question) = desk.question(NOW) {
        let scans = vec![vec![]; question.scans.len()];
        desk.answer(&question, DueEvents { scans, ..DueEvents::default() });
    }
    desk
}

#[test]
fn an_endpoint_has_its_own_bounds() {
    let bounds = |rate, concurrency, paused| Bounds { rate, concurrency, paused };
    let mut desk = desk_of(&[
        (1, bounds(None, Some(2), false)),
        (2, bounds(Some(10), None, false)),
        (3, bounds(None, None, true)),
        (4, bounds(None, Some(40), false)),
    ]);
    let all = (1..=4).flat_map(|n| (0..50).map(move |at| to_endpoint(100 * n as i64 + at, n)));
    come(&mut desk, all.collect());
    let launched = desk.launch(NOW);
    let count = |n| launched.iter().filter(|parcel| parcel.to == endpoint(n)).count();
    assert_eq!([count(1), count(2), count(3), count(4)], [2, 2, 0, 40]);
    desk.tried(&endpoint(1), true, NOW);
    assert_eq!(seqs(&desk.launch(NOW)), [102]);
    assert_eq!(desk.wait(NOW), Some(100), "the next of ten a second");
    assert_eq!(seqs(&desk.launch(NOW + 100)), [202]);
}

#[test]
fn one_that_is_paused_no_more_is_looked_for_from_the_beginning() {
    let paused = Bounds { paused: true, ..Bounds::default() };
    let mut desk = desk_of(&[(1, paused)]);
    desk.look_again(true);
    let question = desk.question(NOW).unwrap();
    assert_eq!(question.scans.iter().map(|scan| &scan.to).collect::<Vec<_>>(), [&to("a")], "nobody asks while it is");
    desk.answer(&question, DueEvents { scans: vec![vec![]], ..DueEvents::default() });
    desk.addresses([(to("a"), Bounds::default()), (endpoint(1), Bounds::default())]);
    let question = desk.question(NOW).unwrap();
    assert_eq!((&question.scans[0].to, question.scans[0].behind), (&endpoint(1), BEGINNING));
    let scans = vec![vec![to_endpoint(7, 1)]];
    desk.answer(&question, DueEvents { scans, ..DueEvents::default() });
    assert_eq!(seqs(&desk.launch(NOW)), [7]);
}

#[test]
fn a_question_scans_a_part_of_many_lanes_in_turns() {
    let endpoints: Vec<_> = (1..=600).map(|n| (n, Bounds::default())).collect();
    let mut desk = desk_of(&endpoints);
    desk.look_again(true);
    let mut scanned = HashSet::new();
    for _ in 0..3 {
        let question = desk.question(NOW).unwrap();
        assert!(question.scans.len() <= SCANS_MAX);
        scanned.extend(question.scans.iter().map(|scan| scan.to.clone()));
        let scans = vec![vec![]; question.scans.len()];
        desk.answer(&question, DueEvents { scans, ..DueEvents::default() });
    }
    assert_eq!(scanned.len(), 601);
    desk.look_at([endpoint(600)]);
    assert_eq!(desk.question(NOW).unwrap().scans.len(), 1);
}
