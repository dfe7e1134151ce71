//! The words of findings: each table is a text and everything it must be told, in order.

use super::*;

/// Checks every text against all of its findings.
fn golden(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(found(text), *expected, "\n{text}");
    }
}

#[test]
fn misspelt_keys_get_a_suggestion_and_what_is_allowed() {
    golden(&[
        (
            "[server]\nthread = 1",
            &["2:1 unknown key `thread` -> did you mean `threads`? allowed here: threads, state_dir, shutdown_grace, \
                 max_connections, memory_max"],
        ),
        (
            "[upstreams.a]",
            &[
                "1:2 unknown key `upstreams` -> did you mean `upstream`? allowed here: server, listener, admin, trusted, \
               log, reload, upstream, route, auth, app, limit, cohort, release, notify, ledger",
            ],
        ),
        (
            "[upstream.a]\nservers = [{ adress = \"127.0.0.1:1\" }]\ntimeout.conect = \"1s\"",
            &[
                "2:14 unknown key `adress` -> did you mean `address`? allowed here: address, weight",
                "3:9 unknown key `conect` -> did you mean `connect`? allowed here: connect, first_byte, read, write, total",
            ],
        ),
        (
            "[upstream.orders]\nservers = [\"127.0.0.1:1\"]\n[route.a]\nupstream = \"ordres\"",
            &["4:12 there is no upstream `ordres` -> did you mean `orders`? upstreams: orders"],
        ),
    ]);
}

#[test]
fn several_errors_of_one_table_are_all_found() {
    golden(&[(
        "[upstream.a]\nservers = [\"127.0.0.1:1\", \"x\", 3]\nbalance = \"hsh\"\nhttp2 = 3\n\
         timeout.read = \"1x\"\nretry = { attempts = 0, on = [\"rest\", 302] }\nhealth = true\nslow_start = 5",
        &[
            "2:27 `x` is not an address -> an IP address and a port, such as \"127.0.0.1:9001\"; for a name use \
             `dns = { name, port }`",
            "2:32 expected a server, found integer `3` -> such as \"127.0.0.1:9001\" or `{ address = \
             \"127.0.0.1:9001\", weight = 2 }`",
            "3:11 `hsh` is not a way to balance -> did you mean `hash`? allowed: round_robin, random, least_request, \
             peak_ewma, hash",
            "4:9 expected true or false, found integer `3` -> write it without quotes",
            "5:16 `1x` is not a duration -> such as \"250ms\", \"2s\", \"5m\" or \"1h\"",
            "6:22 `0` is out of range -> a whole number from 1 to 100",
            "6:31 `rest` is not a kind of failure -> did you mean `reset`? allowed, beside statuses without quotes: \
             connect, reset, timeout",
            "6:39 `302` is not the status of a failure -> a status from 400 to 599",
            "7:10 expected a table, found boolean `true` -> such as `{ key = value }`",
            "8:14 expected a duration, found integer `5` -> such as \"250ms\", \"2s\", \"5m\" or \"1h\"",
        ],
    )]);
}

#[test]
fn what_is_missing_is_found_at_its_table_but_only_where_all_was_understood() {
    golden(&[
        (
            "[upstream.a]\n[upstream.b]\ndns = {}\n[route.r]",
            &[
                "1:1 the upstream has neither `servers` nor `dns` -> add `servers = [\"127.0.0.1:9001\"]`, or `dns = { \
                 name = \"orders.internal\", port = 8080 }`",
                "3:7 `name` is missing -> add it: name = \"orders.internal\"",
                "3:7 `port` is missing -> add it: port = 8080",
                "4:1 the route does nothing -> add exactly one of `upstream = \"name\"`, `redirect = { to = ... }`, \
                 `respond = { status = 200 }`, `ledger = true`",
            ],
        ),
        ("[route.r]\nrespond = 1", &["2:11 expected a table, found integer `1` -> such as `{ key = value }`"]),
        ("[[listener]]", &["1:1 `address` is missing -> add it: address = \"127.0.0.1:8080\""]),
    ]);
    let nothing = load_texts(&["\n\n\n"]).expect_err("there is no listener");
    assert_eq!((nothing[0].line, &*nothing[0].message), (0, "there is no `[[listener]]`"));
}

#[test]
fn what_a_later_version_owns_is_refused_by_name() {
    golden(&[(
        "[reload]\nstage = { percent = 1 }\n[flags]\naddress = \"x\"\n[route.a]\nrespond = {}\n\
         [[listener]]\naddress = \"127.0.0.1:1\"\n[flag.new]\non = true",
        &[
            "2:1 `stage` is not yet in this version -> remove it for now",
            "3:2 `flags` is not yet in this version -> remove the table for now",
            "9:2 `flag` is not yet in this version -> remove the table for now",
        ],
    )]);
}

#[test]
fn values_that_disagree() {
    golden(&[
        (
            "[admin]\naddress = \"0.0.0.0:8080\"",
            &[
                "2:11 a listener has `0.0.0.0:8080` already -> the other one is at a.toml:4; keep one",
                "2:11 the admin address is not a loopback one and needs a `token_file` -> add `token_file = \
                 \"secrets/admin.token\"`, or listen on 127.0.0.1",
            ],
        ),
        (
            "[upstream.a]\nservers = [\"127.0.0.1:1\", { address = \"127.0.0.1:1\" }]\n[upstream.b]\nservers = []",
            &[
                "2:27 this server is listed twice -> the other one is at a.toml:2; keep one",
                "4:11 `servers` is empty -> name at least one server; weight 0 drains one",
            ],
        ),
        (
            "[route.a]\nupstream = \"u\"\nrespond = { status = 204, body = \"x\" }\n[upstream.u]\n\
             servers = [\"127.0.0.1:1\"]\ndns = { name = \"x\", port = 1 }",
            &[
                "3:11 `respond` beside `upstream`: a route does one thing -> keep exactly one of upstream, redirect, respond, ledger",
                "3:34 an answer with status 204 has no body -> remove `body`, or use 200",
                "6:7 an upstream has either `servers` or `dns`, not both -> keep one of them: fixed addresses, or a name",
            ],
        ),
        (
            "[route.a]\nredirect = { to = \"https://{hst}/\", status = 305 }",
            &[
                "2:19 `{hst}` is not a variable of a redirect -> did you mean `host`? allowed in braces: scheme, host, \
                 path, query",
                "2:46 `305` is not a status of a redirect -> 301, 302, 303, 307 or 308",
            ],
        ),
        (
            "[route.a]\nrespond = { headers = { \"Content-Length\" = \"1\" } }\npaths = [\"~(\"]\n\
             request_headers = { remove = [\"host\"], add = { Host = \"b\", te = \"c\" } }",
            &[
                "2:25 `content-length` may not be set -> the gateway itself says how a message is framed",
                "3:10 the regex is not valid: unclosed group -> the syntax is that of docs.rs/regex",
                "4:31 `host` may not be removed -> the gateway keeps what frames and addresses a message",
                "4:48 `host` may not be added -> a message has one such line: use `set`",
                "4:60 `te` may not be added -> the gateway itself says how a message is framed",
            ],
        ),
        (
            "[log]\nsample_percent = 101\naccess = \"stdot\"\n[server]\nthreads = -1\nshutdown_grace = \"999999h\"",
            &[
                "2:18 `101` is out of range -> a number of percent from 0 to 100",
                "3:10 `stdot` is not a place for the access log -> such as \"stdout\", \"off\" or a path with a \"/\", \
                 such as \"logs/access.log\"",
                "5:11 `-1` is out of range -> a whole number from 0 to 1024",
                "6:18 `999999h` is longer than 366 days -> a shorter duration, such as \"24h\"",
            ],
        ),
        (
            "[upstream.a]\nservers = [\"127.0.0.1:1\", \"127.0.0.2:1\"]\ntls = {}\nhealth.interval = \"0s\"",
            &[
                "3:7 servers at several addresses need one name to verify -> add `sni = \"orders.internal\"`: the name \
                 that all their certificates carry",
                "4:19 this must be longer than nothing -> such as \"1s\"",
            ],
        ),
    ]);
}

#[test]
fn hosts_and_paths_are_told_what_is_wrong() {
    golden(&[(
        "[route.a]\nrespond = {}\nhosts = [\"a.*\", \"*\", \"https://x\", \"x:80\", \"bücher.de\", \"a..b\"]\n\
         paths = [\"a\", \"/a*\", \"/a?b\", \"/a b\", \"/x\", \"/x\", \"/a/..%2Fb\"]\nmethods = [\"get\"]",
        &[
            "3:10 `a.*`: `*` may only be the whole first label -> such as \"*.example.com\", or \"*\" for every host",
            "3:22 `https://x` is a URL, not a host -> only the name, such as \"api.example.com\"",
            "3:35 `x:80` has a port -> only the name: hosts are compared without the port",
            "3:43 `bücher.de` is not ASCII -> the name as it travels, which begins with `xn--`",
            "3:56 `a..b` is not a host -> such as \"api.example.com\", \"*.example.com\" or \"*\"",
            "4:10 `a` does not begin with `/` -> such as \"/orders\", \"/orders/*\" or \"~^/v[0-9]+/orders\"",
            "4:15 `/a*`: `*` may only stand at the end, after a `/` -> \"/orders/*\", or a regex such as \"~^/orders\"",
            "4:22 `/a?b` has a query or a fragment -> only the path: paths are compared without the query",
            "4:30 `/a b` holds a character that never travels in a path -> write it as `%20`",
            "4:44 this path is listed twice -> the other one is at a.toml:4; keep one",
            "4:50 `/a/..%2Fb` has a dot segment that only some servers see, and no request gets in with one -> write the \
             path without dots, `%00` and `\\`",
            "5:12 `get` is not a method: methods are upper-case -> write \"GET\"",
        ],
    )]);
}

#[test]
fn an_empty_allow_does_not_let_everyone_in() {
    golden(&[(
        "[route.a]\nrespond = {}\nallow = []\ndeny = [\"10.0.0.0/33\"]\n[route.b]\nrespond = {}\nallow = []",
        &[
            "4:9 `10.0.0.0/33` is not a network -> such as \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"",
            "5:1 route `b` ties with route `a`: one request could match both equally well -> the other one is at \
             a.toml:1; give one of them another host, path or condition",
            "7:9 `allow` is empty -> name the networks that may use the route, or remove `allow` to let all in",
        ],
    )]);
}

#[test]
fn a_finding_has_exactly_the_seven_keys_of_the_design() {
    let finding = &load_texts(&["x = 1"]).expect_err("unknown")[0];
    let value = serde_json::to_value(finding).expect("JSON");
    let keys: Vec<_> = value.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["file", "line", "column", "text", "message", "hint", "severity"]);
    assert_eq!(value["severity"], "error");
    let warning = base::finding::Place::default().warning("m", "h");
    assert_eq!((serde_json::to_value(&warning).expect("JSON")["severity"].as_str()), Some("warning"));
    assert_eq!(
        base::finding::Place { line: 3, column: 1, ..base::finding::Place::file("f") }.warning("m", "").to_string(),
        "f:3:1: warning: m"
    );
    let before: Finding = serde_json::from_value(serde_json::json!({
        "file": "f", "line": 1, "column": 1, "text": "", "message": "m", "hint": ""
    }))
    .expect("as an older process says it");
    assert_eq!(before.severity, base::finding::Severity::Error);
}

#[test]
fn a_route_that_no_request_can_reach_is_found() {
    let hint = |at: &str| {
        format!(
            "see {at}; of one host an exact path wins over a prefix, a prefix over a regex, and any path over none: give \
             this route such a path, or remove it"
        )
    };
    let route = |name: &str, rest: &str| format!("[route.{name}]\nrespond = {{}}\n{rest}\n");
    for (routes, expected) in [
        ([route("a", "paths = [\"/*\"]"), route("b", "paths = [\"~^/x\"]")], Some("b")),
        ([route("a", "paths = [\"~^/x\"]"), route("b", "paths = [\"/*\"]")], Some("a")),
        ([route("a", "paths = [\"/*\"]"), route("b", "headers = { x-a = \"1\" }")], Some("b")),
        ([route("a", "paths = [\"/x/*\"]"), route("b", "paths = [\"~^/x/[0-9]+\"]\nmethods = [\"GET\"]")], Some("b")),
        ([route("a", "paths = [\"~^/\"]"), route("b", "paths = [\"~^/x\", \"~^/y\"]")], Some("b")),
        ([route("a", "paths = [\"~.*\"]\nmethods = [\"GET\"]"), route("b", "methods = [\"HEAD\"]")], Some("b")),
        ([route("a", "hosts = [\"*.x\"]\npaths = [\"/*\"]"), route("b", "hosts = [\"*.x\"]")], Some("b")),
        // Each of these is asked for something.
        ([route("a", "paths = [\"~^/x\"]"), route("b", "paths = [\"~^/\"]")], None),
        ([route("a", "paths = [\"/x/*\"]"), route("b", "paths = [\"~^/x\"]")], None),
        ([route("a", "paths = [\"/x/*\"]"), route("b", "paths = [\"~^/x/|^/y\"]")], None),
        ([route("a", "paths = [\"/*\"]\nmethods = [\"GET\"]"), route("b", "")], None),
        ([route("a", "paths = [\"/*\"]\nheaders = { x-a = \"1\" }"), route("b", "paths = [\"~x\"]")], None),
        ([route("a", "paths = [\"/*\"]\nscheme = \"http\""), route("b", "")], None),
        ([route("a", "hosts = [\"a.x\"]\npaths = [\"/*\"]"), route("b", "hosts = [\"a.x\", \"b.x\"]")], None),
        ([route("a", "paths = [\"/*\"]"), route("b", "paths = [\"~^/x\", \"/x\"]")], None),
        ([route("a", "paths = [\"/*\"]"), route("b", "paths = [\"/x/*\"]")], None),
    ] {
        let text = routes.concat();
        let expected = expected.map(|name| {
            let (by, at) = if name == "a" { ("b", "a.toml:4") } else { ("a", "a.toml:1") };
            let line = if name == "a" { 1 } else { 1 + routes[0].lines().count() };
            format!("{line}:1 no request can reach route `{name}`: route `{by}` takes all of them -> {}", hint(at))
        });
        assert_eq!(found(&text), Vec::from_iter(expected), "\n{text}");
    }
    let both = route("a", "paths = [\"/*\"]\nscheme = \"http\"") + &route("b", "paths = [\"/*\"]\nscheme = \"https\"");
    let expected = "9:1 no request can reach route `c`: routes `a`, `b` take all of them -> ";
    assert_eq!(found(&(both + &route("c", ""))), [expected.to_owned() + &hint("a.toml:1, a.toml:5")]);
}

#[test]
fn a_bound_that_would_serve_nobody_is_found() {
    golden(&[(
        "[server]\nmemory_max = \"1MiB\"\nmax_connections = -1",
        &[
            "2:14 with so little memory hardly a request could be served -> at least \"16MiB\", or \"0B\" for a quarter \
             of the machine's memory",
            "3:19 `-1` is out of range -> a whole number from 0 to 4294967295",
        ],
    )]);
}

#[test]
fn syntax_errors_are_found_beside_the_others_but_not_their_echo() {
    let all = found("[route.a]\nupstream = \nx y\n[server]\nthread = 1");
    assert_eq!(all.len(), 3, "{all:#?}");
    assert!(all[0].starts_with("2:12 this is not TOML: "), "{}", all[0]);
    assert!(all[1].starts_with("3:3 this is not TOML: "), "{}", all[1]);
    assert!(all[2].starts_with("5:1 unknown key `thread`"), "{}", all[2]);
}

#[test]
fn a_key_set_twice_names_both_places() {
    let findings =
        load_texts(&["[server]\nthreads = 1\n", "\n[server]\nthreads = 2\n[[listener]]\naddress = \"[::1]:1\""]);
    let findings = findings.expect_err("twice");
    assert_eq!(findings.len(), 1);
    let finding = &findings[0];
    assert_eq!((&*finding.file, finding.line, finding.column), ("b.toml", 3, 1));
    assert_eq!(finding.message, "`threads` is set twice");
    assert_eq!(finding.hint, "it is also set at a.toml:2; keep one");
}

#[test]
fn many_findings_are_counted_not_listed() {
    let text: String = (0..3000).map(|n| format!("[route.r{n}]\nx = 1\n")).collect();
    let all = found(&text);
    assert_eq!(all.len(), crate::findings::LIMIT + 1);
    assert_eq!(
        all.last().map(String::as_str),
        Some("0:0 and 2000 more findings -> mend the first ones and check again")
    );
}

#[test]
fn files_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let message = |path: &Path| load(path).expect_err("unreadable")[0].message.clone();
    assert!(message(&folder.path().join("none.toml")).starts_with("cannot be read: No such file"));
    assert_eq!(message(folder.path()), "the folder holds no `*.toml` file");
    let junk = folder.path().join("junk.toml");
    std::fs::write(&junk, b"[server]\nx\xff").expect("written");
    let findings = load(folder.path()).expect_err("not UTF-8");
    assert_eq!((findings[0].line, findings[0].column), (2, 2));
    assert_eq!(findings[0].message, "the text is not UTF-8 from here on");
}
