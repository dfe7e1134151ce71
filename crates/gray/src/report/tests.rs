//! Tests of the report: a page and JSON of one made by hand.

use super::*;
use balance::attempt::AttemptFailure;

/// Of a canary with one bad server.
fn facts() -> IncidentFacts {
    let place = Place {
        parts: vec![Part::Server(2), Part::Class(5)],
        llr: 301.5,
        explains: 0.981,
        bad: 412,
        of: 420,
        requests: 1_204,
    };
    let server = |number| (number == 2).then(|| "127.0.0.1:9002".to_owned());
    let names = PlaceNames { route: &|_| None, server: &server, cohort: &|_| None, app: &|_| None };
    let point = |n: u32| Point {
        at: format!("2026-11-21T15:{:02}:00.000Z", n % 60),
        evidence: Evidence { errors: 1.2_f64.powi(n as i32), refusals: 1.0, latency: 1.0, feedback: 0.5 },
        percent: 1.0,
    };
    IncidentFacts {
        release: "orders-v2".into(),
        at: "2026-11-21T15:30:12.123Z".into(),
        kind: Kind::Worse,
        action: Action::RolledBack,
        reason: String::new(),
        change: Change {
            canary: "orders-v2".into(),
            stable: vec!["orders".into()],
            routes: vec!["orders".into(), "refunds".into()],
            user: vec!["header:x-user-id".into(), "ip".into()],
            hash: "xxh3".into(),
            salt: "orders-v2".into(),
            step: 2,
            steps: 3,
            percent: 10.0,
            started_at: "2026-11-21T15:00:00.000Z".into(),
        },
        since: Some("2026-11-21T15:30:09.000Z".into()),
        evidence: Evidence { errors: f64::INFINITY, refusals: 1.0, latency: 1.5, feedback: f64::NAN },
        threshold: 1_000.0,
        trajectory: (0..200).map(point).collect(),
        users_harmed: 1,
        rescued: 419,
        not_rescued: 1,
        arms: Arms {
            stable: ArmView { requests: 24_000, users: 2_000, errors: 3, p50_ms: Some(4.2), p99_ms: Some(96.0) },
            canary: ArmView { requests: 2_408, users: 210, errors: 420, p50_ms: Some(4.4), p99_ms: None },
        },
        include: Apart { requests: 40, errors: 7 },
        places: vec![PlaceView::new(&place, "failures", &names)],
        outside: None,
    }
}

#[test]
fn the_page_says_what_happened_where_and_how_to_go_on() {
    let report = Report::new(facts());
    let page = report.markdown();
    let wanted = [
        "# orders-v2 was taken back",
        "orders-v2 is worse than stable: 420 of its 2,408 requests failed (17.4 %), of stable 0.013 %.",
        "bad since 2026-11-21T15:30:09.000Z",
        "Rolled back from step 2 of 3, 10 % of users; everybody is on stable.",
        "1 user met a failure of the canary; 419 failures rescued by stable, 1 not",
        "7 of 40 requests failed",
        "| canary | 2,408 | 210 | 420 | 17.4 % | 4.4 ms | – |",
        "1. server 127.0.0.1:9002, status 5xx: 412 of 420 failures (98.1 % of the excess, in 1,204 requests)",
        "Look first at server 127.0.0.1:9002, status 5xx.",
        "▁▁▁▁",
        "`tollgate release resume orders-v2`",
        "Report `20261121T153012.123Z-orders-v2`",
    ];
    for wanted in wanted {
        assert!(page.contains(wanted), "{wanted:?} is not in\n{page}");
    }
}

#[test]
fn json_is_snake_case_and_comes_back() {
    let report = Report::new(facts());
    let text = serde_json::to_string(&report).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["kind"], "worse");
    assert_eq!(value["action"], "rolled_back");
    assert_eq!(value["arms"]["canary"]["p99_ms"], serde_json::Value::Null);
    assert_eq!(value["trajectory"].as_array().unwrap().len(), POINTS);
    assert_eq!(value["trajectory"][0]["percent"], 1.0);
    assert_eq!(value["places"][0]["parts"][1], serde_json::json!({"dimension": "status", "value": "5xx"}));
    let back: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (&back.id, &back.facts.places, &back.facts.arms),
        (&report.id, &report.facts.places, &report.facts.arms)
    );
    assert_eq!(
        back.facts.evidence,
        Evidence { errors: f64::MAX, refusals: 1.0, latency: 1.5, feedback: 1.0 },
        "no infinity in JSON"
    );
}

#[test]
fn a_trajectory_keeps_its_ends() {
    let all = facts().trajectory;
    let kept = thinned(all.clone());
    assert_eq!((kept.len(), kept.first(), kept.last()), (POINTS, all.first(), all.last()));
    assert_eq!(thinned(all[..POINTS].to_vec()), all[..POINTS]);
    assert_eq!(thinned(all[..POINTS + 1].to_vec()).len(), POINTS);
}

#[test]
fn every_finding_has_its_sentences() {
    let page = |kind, action, change: &dyn Fn(&mut IncidentFacts)| {
        let mut facts = IncidentFacts { kind, action, places: vec![], ..facts() };
        change(&mut facts);
        Report::new(facts).markdown()
    };
    let outside = Outside {
        upstream: "payments".into(),
        route: "orders".into(),
        status: "5xx".into(),
        stable_share: 0.21,
        canary_share: 0.2,
    };
    let outside = page(Kind::Outside, Action::Reported, &|facts| facts.outside = Some(outside.clone()));
    assert!(outside.contains("the cause is outside of the release, upstream payments route orders status 5xx (21.0 % of stable's requests fail, 20.0 % of the canary's)"), "{outside}");
    assert!(outside.contains("## Where\n\n- upstream payments\n"), "{outside}");
    let untrusted = page(Kind::Untrusted, Action::Held, &|facts| facts.reason = "Stable differs from itself.".into());
    assert!(untrusted.contains("nothing was concluded about the canary. Stable differs from itself."), "{untrusted}");
    assert!(untrusted.starts_with("# orders-v2 is held: the comparison cannot be trusted"), "{untrusted}");
    let none = page(Kind::NoEvidence, Action::Held, &|_| ());
    assert!(
        none.contains("Step 2 of 3 got no evidence") && none.contains("tollgate release promote orders-v2"),
        "{none}"
    );
    let watch = page(Kind::Watch, Action::Reported, &|_| ());
    assert!(watch.contains("does worse than stable did before") && watch.contains("tollgate release abort"), "{watch}");
    let slow = page(Kind::Worse, Action::Held, &|facts| {
        facts.evidence = Evidence { errors: 1.0, refusals: 1.0, latency: 2e3, feedback: 1.0 };
        facts.arms.canary.p99_ms = Some(812.0);
    });
    assert!(slow.contains("slower, p99 812 ms against 96 ms, median 4.4 ms against 4.2 ms"), "{slow}");
    let quiet = page(Kind::Worse, Action::RolledBack, &|facts| facts.trajectory.clear());
    assert!(quiet.contains("| errors | 1.8e308 |  |"), "{quiet}");
}

#[test]
fn a_place_without_names_shows_numbers_and_one_without_a_location_is_the_whole_canary() {
    let names = PlaceNames { route: &|_| None, server: &|_| None, cohort: &|_| None, app: &|_| None };
    let view = |parts| {
        PlaceView::new(
            &Place { parts, llr: 1.0, explains: 1.0, bad: 1_234, of: 1_234, requests: 9 },
            "failures",
            &names,
        )
    };
    assert_eq!(view(vec![]).text, "the whole canary: 1,234 of 1,234 failures");
    let whole = view(vec![Part::Failure(AttemptFailure::Reset)]);
    assert_eq!(whole.text, "the whole canary, ending reset: 1,234 of 1,234 failures");
    let all = view(vec![Part::Route(1), Part::Server(2), Part::Cohort(3), Part::App(4), Part::Status(503)]);
    assert_eq!(all.text, "route #1, server #2, cohort #3, app #4, status 503: 1,234 of 1,234 failures");
}

#[test]
fn an_id_is_safe_bounded_and_sorts_by_time() {
    assert_eq!(id("2026-11-21T15:30:12.123Z", "orders-v2"), "20261121T153012.123Z-orders-v2");
    assert_eq!(id("2026-11-21T15:30:12.123Z", "../é/x y"), "20261121T153012.123Z-_____x_y");
    assert!(id("2026-11-21T15:30:12.123Z", &"x".repeat(1_000)).len() < 128);
    assert!(id("2026-11-21T15:30:12.123Z", "z") < id("2026-11-21T15:30:12.124Z", "a"));
}

#[test]
fn names_do_not_break_a_table() {
    let mut facts = facts();
    facts.change.canary = "a|b\nc".into();
    facts.places[0].text = "server x\n# not a headline".into();
    let page = Report::new(facts).markdown();
    assert!(!page.contains("\n# not a headline") && page.contains("`a b c`"), "{page}");
}
