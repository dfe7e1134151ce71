//! Cohorts, releases and notify: what their author is told, and what is understood.

use gray::user_source::EXAMPLES;
use std::time::Duration;

use http::Method;

use super::*;
use crate::diff::Diff;
use crate::model::NotifyFormat;
use base::units::{BasisPoints, Share};
use gray::bucket::Hash;
use gray::settings::{Layer, OnFail, Release, Rule};
use gray::user_source::UserSource;

/// Two upstreams, a route to the first one, one to neither: eight lines, so that what follows begins at line 9.
pub(super) const BASE: &str = "[upstream.a]\nservers = [\"127.0.0.1:1\"]\n[upstream.b]\nservers = [\"127.0.0.1:2\"]\n\
                    [route.r]\nupstream = \"a\"\n[route.s]\nrespond = { status = 200 }\nhosts = [\"s\"]\n";
/// What a release needs, on lines 10 to 12.
const RELEASE: &str = "[release.x]\nroutes = [\"r\"]\ncanary = \"b\"\n";
const STEPS: &str = "steps = [{ percent = 1 }, { percent = 10 }]\n";

/// Everything that is found in a release that has these lines from line 13 on.
fn told(lines: &str) -> Vec<String> {
    found(&format!("{BASE}{RELEASE}{lines}"))
}

/// The only release of these lines.
fn release(lines: &str) -> Release {
    meant(&format!("{BASE}{RELEASE}{lines}")).releases.remove(0)
}

fn points(percent: f64) -> BasisPoints {
    BasisPoints::percent(percent).expect("a share")
}

#[test]
fn a_bare_release_has_the_defaults_of_the_reference() {
    let bare = release(STEPS);
    let reference = load(&conf().join("reference.toml")).expect("it loads").config.releases.remove(0);
    assert_eq!((&*bare.name, bare.salt.as_deref()), ("x", None));
    assert_eq!(*bare.salt(), format!("x\0{}", &bare.definition[..16]));
    assert_eq!((&bare.user, bare.hash, bare.holdback), (&reference.user, reference.hash, reference.holdback));
    assert_eq!(bare.rescue, reference.rescue);
    assert_eq!(bare.judge.slo, None);
    assert_eq!(reference.judge.slo, Some(Duration::from_millis(300)));
    assert_eq!(bare.judge.false_alarm, 0.001);
    assert_eq!((bare.judge.min_users, bare.judge.max_wait), (20, Duration::from_secs(86_400)));
    assert_eq!(bare.judge.settle, Duration::from_secs(30));
    assert_eq!(bare.judge.on_fail, OnFail::Rollback);
    assert_eq!(bare.user, [UserSource::Ip]);
    assert_eq!((bare.rescue.on.connect, bare.rescue.on.reset, bare.rescue.on.timeout), (true, true, true));
    assert_eq!(bare.rescue.on.statuses, [500, 502, 503, 504]);
    let methods = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE];
    assert_eq!((&bare.rescue.methods[..], bare.rescue.budget), (&methods[..], Share::ALL));
    assert_eq!(bare.steps.iter().map(|step| step.hold).sum::<Duration>(), Duration::ZERO);
    assert_eq!((bare.routes, bare.canary, bare.layer), (vec![0], 1, None));
    assert!(bare.include.is_empty() && bare.exclude.is_empty());
}

#[test]
fn defaults_hold_beside_the_keys_that_are_given() {
    let it = release(&format!("{STEPS}rescue = {{ methods = [\"POST\"] }}\njudge.on_fail = \"hold\"\nsalt = \"\""));
    assert_eq!(it.rescue.methods, [Method::POST]);
    assert!(it.rescue.on.connect && it.rescue.on.statuses.contains(&504));
    assert_eq!((it.judge.on_fail, it.judge.min_users, &*it.salt()), (OnFail::Hold, 20, ""));
    let it = release(&format!("{STEPS}rescue.on = [503]\nrescue.budget_percent = 0.5"));
    assert!(!(it.rescue.on.connect || it.rescue.on.reset || it.rescue.on.timeout));
    assert_eq!((&it.rescue.on.statuses[..], it.rescue.budget), (&[503][..], Share::percent(0.5).expect("a share")));
}

#[test]
fn a_release_is_kept_as_it_was_written() {
    let text = format!(
        "{BASE}[route.t]\nupstream = \"a\"\nhosts = [\"t\"]\n[cohort.c]\nany = [{{ app = \"acme\" }}]\n[cohort.d]\n\
         any = [{{ percent = 5 }}, {{ percent = 0.01, salt = \"\" }}, {{ header = \"X-Beta\", equals = \"1\" }}, \
         {{ cookie = \"b\", equals = \"\" }}]\n[release.x]\nroutes = [\"t\", \"r\"]\ncanary = \"b\"\nhash = \"nginx\"\n\
         user = [\"header:X-User\", \"cookie:uid\", \"app\", \"claim\", \"ip\"]\ninclude = [\"d\"]\nexclude = [\"c\"]\n\
         layer = {{ name = \"l\", from = 33.33, to = 83.34 }}\nholdback = 20\n\
         steps = [{{ percent = 0.01, hold = \"5m\" }}, {{ percent = 50.01 }}]\n"
    );
    let config = meant(&text);
    let it = &config.releases[0];
    assert_eq!((&it.routes[..], it.canary, it.hash), (&[2, 0][..], 1, Hash::Nginx));
    assert_eq!((&it.include[..], &it.exclude[..]), (&[1][..], &[0][..]));
    let header = UserSource::Header("x-user".parse().expect("a name"));
    let user = [header, UserSource::Cookie("uid".into()), UserSource::App, UserSource::Claim, UserSource::Ip];
    assert_eq!(it.user, user);
    assert_eq!(it.layer, Some(Layer { name: "l".into(), from: points(33.33), to: points(83.34) }));
    assert_eq!((it.steps[0].percent, it.steps[0].hold), (points(0.01), Duration::from_secs(300)));
    // The holdback is taken from the range, at the last step only.
    assert_eq!(
        (it.range(), it.share(0), it.share(1), it.share(9)),
        (points(50.01), points(0.01), points(30.01), points(30.01))
    );
    assert_eq!(config.cohorts[0].any, [Rule::App("acme".into())]);
    let rules = [
        Rule::Percent { share: points(5.0), salt: "d".into() },
        Rule::Percent { share: points(0.01), salt: String::new() },
        Rule::Header("x-beta".parse().expect("a name"), "1".parse().expect("a value")),
        Rule::Cookie("b".into(), String::new()),
    ];
    assert_eq!(config.cohorts[1].any, rules);
    assert!(config.cohorts.iter().all(|cohort| cohort.users.is_none()));
}

#[test]
fn names_that_lead_nowhere_get_a_suggestion() {
    let text = format!(
        "{BASE}[cohort.staff]\nany = [{{ app = \"x\" }}]\n[release.x]\nroutes = [\"rr\", \"s\", \"r\", \"r\"]\ncanary = \"bb\"\n\
         include = [\"staf\"]\nexclude = [\"staff\", \"staff\"]\nuser = [\"ip\", \"ip\"]\n{STEPS}"
    );
    assert_eq!(
        found(&text),
        [
            "13:11 there is no route `rr` -> did you mean `r`? routes: r, s",
            "13:17 route `s` forwards to no upstream: it has no stable version -> name routes with an `upstream`; a canned \
             answer has no versions",
            "13:27 this route is listed twice -> the other one is at a.toml:13; keep one",
            "14:10 there is no upstream `bb` -> did you mean `b`? upstreams: a, b",
            "15:12 there is no cohort `staf` -> did you mean `staff`? cohorts: staff",
            "16:21 this cohort is listed twice -> the other one is at a.toml:16; keep one",
            "17:15 this source is listed twice -> the other one is at a.toml:17; keep one",
        ]
    );
    let bare = "[release.x]\nroutes = [\"r\"]\ncanary = \"b\"\ninclude = [\"c\"]\nsteps = [{ percent = 1 }]";
    assert_eq!(
        found(bare),
        [
            "2:11 there is no route `r` -> add it: [route.r] upstream = \"name\"",
            "3:10 there is no upstream `b` -> add it: [upstream.b] servers = [\"127.0.0.1:9001\"]",
            "4:12 there is no cohort `c` -> add it: [cohort.c] users_file = \"cohorts/staff.txt\"",
        ]
    );
}

#[test]
fn what_a_release_lacks_is_found() {
    let release = |lines: &str| found(&format!("{BASE}[release.x]\n{lines}"));
    let steps = "steps = [{ percent = 1, hold = \"10m\" }, { percent = 100, hold = \"1h\" }]";
    assert_eq!(
        release(""),
        [
            "10:1 `canary` is missing -> add it: canary = \"name\", the upstream with the new version",
            "10:1 `routes` is missing -> add it: routes = [\"name\"]",
            &format!("10:1 `steps` is missing -> add it: {steps}"),
        ]
    );
    assert_eq!(
        release("routes = []\ncanary = \"a\"\nuser = []\nsteps = []\nlayer = {}"),
        [
            "11:10 `routes` is empty -> name at least one route that forwards to an upstream",
            "13:8 `user` is empty -> name where the user key comes from, or remove `user`: the default is [\"ip\"]",
            &format!("14:9 `steps` is empty -> name at least one: {steps}"),
            "15:9 `from` is missing -> add it: from = 0",
            "15:9 `name` is missing -> add it: name = \"checkout\"",
            "15:9 `to` is missing -> add it: to = 50",
        ]
    );
    // A misspelt key is the finding, not the one that is missing for it.
    assert_eq!(
        release("route = [\"r\"]\ncanary = \"b\"\nsteps = [{ percnt = 1 }]\njudge.slow = 1"),
        [
            "11:1 unknown key `route` -> did you mean `routes`? allowed here: routes, canary, user, hash, salt, include, \
             exclude, layer, steps, holdback, rescue, judge",
            "13:12 unknown key `percnt` -> did you mean `percent`? allowed here: percent, hold",
            "14:7 unknown key `slow` -> did you mean `slo`? allowed here: false_alarm, slo, settle, min_users, max_wait, on_fail",
        ]
    );
    assert_eq!(
        release("routes = [\"r\"]\ncanary = \"a\"\nsteps = [{}]"),
        [
            "12:10 the canary is the upstream of route `r` itself -> name the upstream with the new version: stable is \
             the route's own",
            "13:10 `percent` is missing -> add it: percent = 1",
        ]
    );
}

#[test]
fn values_of_a_release_are_judged_one_by_one() {
    let lines = "user = [\"header:a b\", \"cookie:\", \"other:x\", \"IP\"]\nhash = \"growthbook\"\nholdback = -1\n\
                 layer = { name = \"\", from = 0.123, to = 101 }\n\
                 steps = [{ percent = 0 }, { percent = 0.001 }, { percent = 99.999, hold = \"1d\" }, { percent = 1e300 }]\n\
                 rescue = { on = [399, \"never\"], methods = [\"get\"], budget_percent = 101 }\n\
                 judge = { false_alarm = 0, slo = \"0s\", min_users = -1, max_wait = \"0s\", on_fail = \"stop\" }";
    assert_eq!(
        told(lines),
        [
            "13:9 `a b` is not a header name -> such as \"x-tenant\"",
            "13:23 `` is not a cookie name -> such as \"uid\"",
            &format!("13:34 `other:x` is not a source of the user key -> such as {EXAMPLES}"),
            &format!("13:45 `IP` is not a source of the user key -> such as {EXAMPLES}"),
            "14:8 `growthbook` is not a hash -> did you mean `growthbook2`? allowed: xxh3, growthbook2, unleash, \
             launchdarkly, flagd2, nginx",
            "15:12 `-1` is out of range -> a number of percent from 0 to 100",
            "16:18 `` is not a name -> such as \"orders\"",
            "16:29 `0.123` is finer than 0.01 -> users are counted in steps of 0.01 percent: such as 0.12",
            "16:41 `101` is out of range -> a number of percent from 0 to 100",
            "17:22 `0` is out of range -> a number of percent from 0.01 to 100",
            "17:39 `0.001` is finer than 0.01 -> users are counted in steps of 0.01 percent: such as 0.01",
            "17:60 `99.999` is finer than 0.01 -> users are counted in steps of 0.01 percent: such as 100",
            "17:75 `1d` is not a duration -> such as \"250ms\", \"2s\", \"5m\" or \"1h\"",
            "17:95 `1e300` is out of range -> a number of percent from 0.01 to 100",
            "18:18 `399` is not the status of a failure -> a status from 400 to 599",
            "18:23 `never` is not a kind of failure -> allowed, beside statuses without quotes: connect, reset, timeout",
            "18:44 `get` is not a method: methods are upper-case -> write \"GET\"",
            "18:69 `101` is out of range -> a number of percent from 0 to 100",
            "19:25 `0` is out of range -> a chance above 0, at most 0.5, such as 0.001",
            "19:34 this must be longer than nothing -> such as \"1s\"",
            "19:52 `-1` is out of range -> a whole number from 0 to 1000000000",
            "19:67 this must be longer than nothing -> such as \"1s\"",
            "19:83 `stop` is not what follows a verdict -> allowed: rollback, hold, report",
        ]
    );
    let alarm = |chance: &str| told(&format!("{STEPS}judge.false_alarm = {chance}"));
    for good in ["0.5", "1e-9"] {
        assert_eq!(alarm(good), [""; 0], "{good}");
    }
    for bad in ["0.51", "-0.1", "nan", "1", "inf"] {
        let expected = format!(
            "14:21 `{}` is out of range -> a chance above 0, at most 0.5, such as 0.001",
            bad.replace("nan", "NaN")
        );
        assert_eq!(alarm(bad), [expected], "{bad}");
    }
}

#[test]
fn shares_are_met_exactly_or_refused() {
    let step = |percent: &str| told(&format!("steps = [{{ percent = {percent} }}]"));
    for (percent, hundredths) in
        [("0.01", 1), ("0.07", 7), ("33.33", 3333), ("0.29", 29), ("100", 10_000), ("1.10", 110)]
    {
        let it = release(&format!("steps = [{{ percent = {percent} }}]"));
        assert_eq!(it.steps[0].percent.hundredths(), hundredths, "{percent}");
    }
    for percent in ["1e-12", "33.333", "0.010000001", "100.01", "-0.0", "nan"] {
        assert_eq!(step(percent).len(), 1, "{percent}: {:?}", step(percent));
    }
}

#[test]
fn shares_grow_within_the_layer_and_leave_room_for_the_holdback() {
    let grow = "steps = [\n{ percent = 10 },\n{ percent = 10 },\n{ percent = 5 },\n{ percent = 20 }]";
    let hint = "the other one is at a.toml:14; write the steps in rising order";
    assert_eq!(
        told(grow),
        [
            format!("15:13 shares must grow: step 2 has 10 %, step 1 before it has 10 % -> {hint}"),
            format!("16:13 shares must grow: step 3 has 5 %, step 1 before it has 10 % -> {hint}"),
        ]
    );
    let layer = |from: &str, to: &str| format!("layer = {{ name = \"l\", from = {from}, to = {to} }}\n");
    assert_eq!(told(&format!("{}{STEPS}", layer("90", "100"))), [""; 0]);
    assert_eq!(
        told(&format!("{}{STEPS}", layer("20", "29.99"))),
        [
            "14:39 this step is beyond the layer's range: 10 % of all users, where it has 9.99 % -> at most 9.99, or a wider \
          `from` and `to`"
        ]
    );
    for (from, to) in [("50", "50"), ("60", "50")] {
        let told = told(&format!("{}{STEPS}", layer(from, to)));
        let expected = format!(
            "13:39 the layer's range is empty: from {from} % to {to} % -> `to` must be above `from`, such as from = 0, to = 50"
        );
        assert_eq!(told, [expected]);
    }
    let kept = |steps: &str, holdback: &str| told(&format!("steps = [{steps}]\nholdback = {holdback}"));
    for (steps, holdback) in
        [("{ percent = 100 }", "99.99"), ("{ percent = 5 }", "90"), ("{ percent = 9 }, { percent = 100 }", "90")]
    {
        assert_eq!(kept(steps, holdback), [""; 0], "{steps} {holdback}");
    }
    assert_eq!(
        kept("{ percent = 5 }", "100"),
        ["14:12 a holdback of 100 % leaves nobody on the canary -> less than 100, or smaller steps before the last"]
    );
    assert_eq!(
        kept("{ percent = 9 }, { percent = 100 }", "91"),
        ["14:12 a holdback of 91 % leaves 9 % for the last step, no more than the 9 % of step 1 -> less than 91, or \
          smaller steps before the last"]
    );
    let within = told(&format!("{}{STEPS}holdback = 9", layer("0", "10")));
    assert_eq!(
        within,
        [
            "15:12 a holdback of 9 % leaves 1 % for the last step, no more than the 1 % of step 1 -> less than 9, or smaller \
          steps before the last"
        ]
    );
}

#[test]
fn unleash_is_asked_for_whole_percents_only() {
    let unleash = |lines: &str| told(&format!("hash = \"unleash\"\n{lines}"));
    assert_eq!(unleash(STEPS), [""; 0]);
    assert_eq!(
        unleash("steps = [{ percent = 0.5 }, { percent = 100 }]"),
        [
            "14:22 unleash knows whole percents only: 0.5 % is none of 100 % -> a whole number of percent of 100 %, or another \
          `hash`"
        ]
    );
    // In half of the users, half a percent is a whole one.
    assert_eq!(unleash("layer = { name = \"l\", from = 0, to = 50 }\nsteps = [{ percent = 0.5 }]"), [""; 0]);
    assert_eq!(
        unleash("holdback = 0.5\nsteps = [{ percent = 100 }]"),
        [
            "14:12 unleash knows whole percents only: the last step's 99.5 % is none of 100 % -> a whole number of percent of \
          100 %, or another `hash`"
        ]
    );
    assert_eq!(told("steps = [{ percent = 0.5 }]"), [""; 0]);
}

#[test]
fn a_cohort_is_either_included_or_excluded() {
    let text =
        format!("{BASE}[cohort.c]\nany = [{{ app = \"x\" }}]\n{RELEASE}{STEPS}exclude = [\"c\"]\ninclude = [\"c\"]");
    assert_eq!(
        found(&text),
        ["17:12 cohort `c` is both included and excluded -> the other one is at a.toml:16; keep one"]
    );
}

#[test]
fn two_releases_never_want_the_same_user_of_a_route() {
    // A second route, and what both releases add to their tables.
    let both = |one: &str, other: &str, routes: &str| {
        let second = format!("[release.y]\nroutes = {routes}\ncanary = \"b\"\n{STEPS}{other}\n");
        let more = "[route.t]\nupstream = \"a\"\nhosts = [\"t\"]\n";
        found(&format!("{BASE}{RELEASE}{STEPS}{one}\n{second}{more}"))
    };
    let layer = |name: &str, from: u32, to: u32| format!("layer = {{ name = \"{name}\", from = {from}, to = {to} }}");
    let hint = "end it first, or give both a `layer` of one name with ranges that do not meet";
    let taken = [format!("16:16 route `r` has release `x` already -> the other one is at a.toml:10; {hint}")];
    let shared = "[\"t\", \"r\"]";
    assert_eq!(both("", "", "[\"t\"]"), [""; 0]);
    assert_eq!(both("", "", shared), taken);
    assert_eq!(both(&layer("l", 0, 50), "", shared), taken);
    assert_eq!(both("", &layer("l", 0, 50), shared), taken);
    assert_eq!(both(&layer("l", 0, 50), &layer("m", 50, 100), shared), taken);
    assert_eq!(both(&layer("l", 0, 50), &layer("l", 50, 100), shared), [""; 0]);
    assert_eq!(both(&layer("l", 50, 100), &layer("l", 0, 50), shared), [""; 0]);
    let meet =
        ["19:9 ranges of layer `l` meet: 49 to 100 here, 0 to 50 in release `x` -> the other one is at a.toml:14; \
                 begin where it ends, or end where it begins"];
    for routes in [shared, "[\"t\"]"] {
        assert_eq!(both(&layer("l", 0, 50), &layer("l", 49, 100), routes), meet);
    }
    // Who is told apart by another key is another user.
    let keyed = format!("{}\nuser = [\"cookie:uid\"]", layer("l", 50, 100));
    assert_eq!(
        both(&layer("l", 0, 50), &keyed, shared),
        [
            "16:16 releases of one layer on route `r` must tell users apart alike: release `x` has another `user` -> the other \
          one is at a.toml:10; write the same `user` in both"
        ]
    );
    assert_eq!(both(&layer("l", 0, 50), &keyed, "[\"t\"]"), [""; 0]);
}

#[test]
fn a_rule_asks_for_one_thing() {
    let text = "[cohort.a]\n[cohort.b]\nany = []\n[cohort.c]\nany = [\n{},\n{ header = \"x\" },\n{ cookie = \"x\", app = \"y\", \
                equals = \"1\" },\n{ percent = 5, equals = \"1\" },\n{ app = \"y\", salt = \"s\" },\n{ header = \"a b\", \
                equals = \"1\" },\n{ cookie = \"x\", equals = \"1;2\" },\n{ percent = 0.001 }]";
    let one = "exactly one of header, cookie, app, percent";
    assert_eq!(
        found(text),
        [
            "1:1 the cohort names nobody -> add `users_file = \"cohorts/staff.txt\"`, or `any = [{ header = \"x-beta\", \
             equals = \"1\" }]`, or both",
            "3:7 `any` is empty -> add a rule: any = [{ header = \"x-beta\", equals = \"1\" }]; or remove it",
            &format!("8:23 `app` beside `cookie`: a rule asks for one thing -> {one}; make another rule of it"),
            "9:25 `equals` says nothing here: it belongs to header or cookie -> remove it",
            "10:21 `salt` says nothing here: it belongs to percent -> remove it",
            "11:12 `a b` is not a header name -> such as \"x-tenant\"",
            "12:26 no request can carry this value -> no blanks around it, no control characters, and in a cookie no `;`",
            "13:13 `0.001` is finer than 0.01 -> users are counted in steps of 0.01 percent: such as 0",
        ]
    );
    // Only what could be read whole is said to lack something.
    assert_eq!(
        found("[cohort.c]\nany = [\n{},\n{ header = \"x\" },\n{ percent = 0 }]"),
        [&format!("3:1 the rule asks for nothing -> {one}"), "4:1 `equals` is missing -> add it: equals = \"1\""]
    );
}

#[test]
fn notify_needs_a_url_that_can_be_posted_to() {
    let url = |url: &str| found(&format!("[notify.n]\nurl = \"{url}\""));
    for good in ["http://a", "https://a.b:8443/x?y=z", "HTTP://[::1]:80/", "http://127.0.0.1:9300/alerts"] {
        assert_eq!(url(good), [""; 0], "{good}");
    }
    for bad in [
        "",
        "/alerts",
        "ftp://a/",
        "http://",
        "http://:80/",
        "a.b:80",
        "http://a:0/",
        "http://a:70000/",
        "http://a b/",
        "http://10.0.0.256/",
    ] {
        let told = url(bad);
        assert!(
            told.len() == 1 && told[0].starts_with(&format!("2:7 `{bad}` is not a URL -> such as")),
            "{bad}: {told:?}"
        );
    }
    let secret =
        "2:7 the URL carries a user or a password -> name only host and path; `secret_file` signs what is posted";
    assert_eq!(url("https://user:secret@a/"), [secret]);
    assert_eq!(
        url("http://a/#b"),
        ["2:7 `http://a/#b` has a fragment, which never travels -> remove what begins with `#`"]
    );
    assert_eq!(
        found("[notify.n]\nformat = \"webhok\"\n[notify.m]"),
        [
            "2:10 `webhok` is not a format of reports -> did you mean `webhook`? allowed: webhook, alertmanager",
            "3:1 `url` is missing -> add it: url = \"http://127.0.0.1:9300/alerts\"",
        ]
    );
    assert_eq!(
        found("[notify.n]\nurl = \"http://a\"\nformat = \"alertmanager\"\nsecret_file = \"x\""),
        [
            "4:15 only webhooks are signed: Alertmanager takes no secret -> remove `secret_file`, or use format = \"webhook\""
        ]
    );
    let config = meant("[notify.n]\nurl = \"http://a\"\n[notify.m]\nurl = \"http://b\"\nformat = \"alertmanager\"");
    let formats: Vec<_> = config.notify.iter().map(|it| (&*it.name, &*it.url, it.format)).collect();
    assert_eq!(formats, [("n", "http://a", NotifyFormat::Webhook), ("m", "http://b", NotifyFormat::Alertmanager)]);
}

#[test]
fn a_diff_tells_what_share_of_users_changes_arm() {
    let config = |lines: &str| meant(&format!("{BASE}{lines}"));
    let with = |lines: &str| config(&format!("{RELEASE}{lines}\n"));
    let lines = |old: &model::Config, new: &model::Config| Diff::between(old, new).to_string();
    let moved = |old: &str, new: &str| {
        let diff = Diff::between(&with(old), &with(new));
        diff.arms.first().map_or(0.0, |moved| moved.moved_percent)
    };
    let (none, one) = (config(""), with("steps = [{ percent = 1 }]"));
    assert_eq!(lines(&none, &one), "+ release x; 1 % of users change arm at step one");
    assert_eq!(lines(&one, &none), "- release x; 1 % of users change arm at step one");
    let again = with("steps = [{ percent = 1 }, { percent = 5 }]\nsalt = \"z\"");
    assert_eq!(lines(&one, &again), "~ release x: salt, steps; 1.98 % of users change arm at step one");
    assert_eq!(lines(&one, &with("steps = [{ percent = 1 }]\njudge.min_users = 5")), "~ release x: judge");
    // What is written out is what the default says.
    assert_eq!(lines(&one, &with("steps = [{ percent = 1, hold = \"0s\" }]\nuser = [\"ip\"]")), "no difference");
    let named = with("steps = [{ percent = 1 }]\nsalt = \"x\"");
    assert_eq!(lines(&one, &named), "~ release x: salt; 1.98 % of users change arm at step one");
    let [one, named] = [one, named].map(|config| config.releases[0].clone());
    assert!(named.is_defined_by(&one.definition) && !one.is_defined_by(&named.definition), "older builds knew no salt");
    assert_eq!(moved("steps = [{ percent = 1 }]", "steps = [{ percent = 30 }]"), 29.0);
    assert_eq!(moved("steps = [{ percent = 30 }]", "steps = [{ percent = 0.01 }]"), 29.99);
    // The holdback counts where the first step is the last one.
    assert_eq!(moved("steps = [{ percent = 100 }]", "steps = [{ percent = 100 }]\nholdback = 5"), 5.0);
    for other in ["hash = \"nginx\"", "user = [\"cookie:uid\"]", "layer = { name = \"l\", from = 0, to = 50 }"] {
        let steps = "steps = [{ percent = 50 }]";
        assert_eq!(moved(steps, &format!("{steps}\n{other}")), 50.0, "{other}");
    }
}

#[test]
fn a_diff_compares_releases_by_name() {
    let tables = "[cohort.c]\nany = [{ app = \"x\" }]\n[cohort.d]\nany = [{ app = \"y\" }]\n";
    let more = format!("include = [\"c\", \"d\"]\n{STEPS}[notify.n]\nurl = \"http://a\"\n");
    let old = meant(&format!("{BASE}{tables}{RELEASE}{more}"));
    // Another upstream, route and cohort before them moves every index, and nothing else.
    let before = "[upstream.0]\nservers = [\"127.0.0.1:7\"]\n[route.q]\nupstream = \"0\"\nhosts = [\"q\"]\n[cohort.b]\n\
                  any = [{ app = \"z\" }]\n";
    let swapped = more.replace("[\"c\", \"d\"]", "[\"d\", \"c\"]");
    let new = meant(&format!("{before}{BASE}{tables}{RELEASE}{swapped}"));
    let diff = Diff::between(&old, &new);
    assert_eq!((diff.releases, diff.arms, diff.notify), Default::default());
    assert_eq!(diff.cohorts.added, ["b"]);
    let text =
        format!("{before}{BASE}{tables}{RELEASE}{more}").replace("\"c\", \"d\"", "\"c\"").replace("\"y\"", "\"w\"");
    let text = text.replace("canary = \"b\"", "canary = \"0\"").replace("http://a", "http://b");
    let lines = Diff::between(&new, &meant(&text)).to_string();
    assert_eq!(
        lines,
        "~ cohort d: any\n~ release x: canary, include; 1.98 % of users change arm at step one\n~ notify n: url"
    );
}
