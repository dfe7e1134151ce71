//! The checked form: defaults, merging, and which routes tie.

use std::time::Duration;

use super::*;
use crate::diff::Diff;
use crate::model::{Action, HostPattern, PathPattern, Piece, Servers};
use balance::settings::{Balance, HashKey};
use base::units::Share;

#[test]
fn every_file_in_conf_loads() {
    let files = conf_files();
    assert!(files.len() >= 9);
    for path in files {
        if let Err(findings) = load(&path) {
            panic!("{}", findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n"));
        }
    }
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = meant("[upstream.a]\nservers = [\"127.0.0.1:1\"]");
    let reference = load(&conf().join("reference.toml")).expect("it loads").config;
    let (bare, full) = (&config.upstreams[0], &reference.upstreams[0]);
    assert_eq!((&bare.outlier, &bare.timeout, &bare.retry), (&full.outlier, &full.timeout, &full.retry));
    assert_eq!((&config.log, &config.reload), (&reference.log, &reference.reload));
    assert_eq!(config.listeners[0].idle_timeout, reference.listeners[0].idle_timeout);
    let diff = Diff::between(&config, &reference);
    assert_eq!(diff.settings, ["admin.address", "ledger"]);
    assert_eq!((bare.balance.clone(), &bare.health, bare.http2), (Balance::RoundRobin, &None, false));
    assert_eq!(full.balance, Balance::Hash(HashKey::Ip));
    assert_eq!(bare.timeout.connect, Some(Duration::from_secs(1)));
    assert_eq!(bare.timeout.total, None);
    assert_eq!(config.server.state_dir, conf().join("state"));
}

#[test]
fn bounds_of_the_process_come_from_the_machine_and_are_chosen_at_start() {
    let of = |text: &str| meant(text);
    let bare = of("");
    assert_eq!(bare.server.max_connections, base::machine::open_files() / 10 * 9);
    assert_eq!(bare.server.memory_max, base::machine::memory() / 4);
    let own = of("[server]\nmax_connections = 7\nmemory_max = \"32MiB\"");
    assert_eq!((own.server.max_connections, own.server.memory_max), (7, 32 << 20));
    let told: Vec<String> =
        crate::restart_required::findings(&own, &bare, false).into_iter().map(|it| it.message).collect();
    assert_eq!(
        told,
        [
            "a change of `max_connections` from 7 needs `tollgate upgrade`: it is chosen at start",
            "a change of `memory_max` from 33554432 bytes needs `tollgate upgrade`: it is chosen at start",
        ]
    );
    assert_eq!(Diff::between(&own, &bare).settings, ["server.max_connections", "server.memory_max"]);
}

#[test]
fn files_merge_by_table_and_lists_of_tables_append() {
    let one = "[server]\nthreads = 2\n[[listener]]\naddress = \"127.0.0.1:1\"\n[route.b]\nrespond = {}";
    let two = "[server]\nshutdown_grace = \"3s\"\n[[listener]]\naddress = \"127.0.0.1:2\"\n[route.a]\nrespond = {}\n\
               paths = [\"/a\"]\n[route.b]\nscheme = \"http\"";
    let config = load_texts(&[one, two]).expect("it merges").config;
    assert_eq!((config.server.threads, config.server.shutdown_grace), (2, Duration::from_secs(3)));
    let ports: Vec<u16> = config.listeners.iter().map(|it| it.address.port()).collect();
    assert_eq!(ports, [1, 2]);
    // In the order written, not in that of the names.
    let names: Vec<&str> = config.routes.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["b", "a"]);
    assert!(config.routes[0].scheme.is_some());
    let place = &config.routes[1].place;
    assert_eq!((&*place.file, place.line, &*place.text), ("b.toml", 5, "[route.a]"));
}

#[test]
fn a_folder_is_read_in_name_order_without_dot_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
    write("b.toml", "[route.second]\nrespond = {}\npaths = [\"/2\"]");
    write("a.toml", "[[listener]]\naddress = \"127.0.0.1:1\"\n[route.first]\nrespond = {}");
    write(".hidden.toml", "this is not TOML");
    write("note.txt", "neither is this");
    write("admin.token", "word\n");
    write("c.toml", "[admin]\naddress = \"0.0.0.0:9\"\ntoken_file = \"admin.token\"");
    let loaded = load(folder.path()).expect("it loads");
    let names: Vec<&str> = loaded.config.routes.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!(loaded.source.root, folder.path());
    assert_eq!(loaded.config.files, [folder.path().join("admin.token")]);
    let token = loaded.config.admin.and_then(|admin| admin.token).expect("a token");
    assert_eq!(&*token.0, b"word");
}

#[test]
fn patterns_are_kept_in_their_normal_form() {
    let config = meant(
        "[route.a]\nhosts = [\"API.Example.com\", \"*.Example.org\"]\npaths = [\"/a//b/%7e\", \"/x/../y/*\", \"/*\", \"~^/z$\"]\n\
         redirect = { to = \"https://{host}/new{path}{query}\" }\n[route.b]\nhosts = [\"*\"]\nrespond = {}",
    );
    let route = &config.routes[0];
    let hosts = [HostPattern::Exact("api.example.com".into()), HostPattern::Suffix(".example.org".into())];
    assert_eq!(route.hosts, hosts);
    let paths = format!("{:?}", route.paths);
    assert_eq!(paths, "[Exact(\"/a/b/~\"), Prefix(\"/y/\"), Prefix(\"/\"), Regex(Regex(\"^/z$\"))]");
    assert!(matches!(route.paths[3], PathPattern::Regex(_)));
    let text = |text: &str| Piece::Text(text.into());
    let to = vec![text("https://"), Piece::Host, text("/new"), Piece::Path, Piece::Query];
    assert!(matches!(&route.action, Action::Redirect { to: pieces, status } if *pieces == to && *status == 308));
    assert!(config.routes[1].hosts.is_empty());
}

#[test]
fn tls_asks_for_the_dns_name_or_the_address() {
    let config = meant(
        "[upstream.a]\ndns = { name = \"A.b\", port = 1 }\ntls = {}\n[upstream.b]\nservers = [\"[::1]:1\"]\ntls = {}\n\
         [upstream.c]\nservers = [\"[::1]:1\"]\ntls = { sni = \"x.y\", verify = false }",
    );
    let names: Vec<_> = config.upstreams.iter().filter_map(|it| it.tls.as_ref()).map(|tls| &*tls.sni).collect();
    assert_eq!(names, ["a.b", "::1", "x.y"]);
    assert!(matches!(&config.upstreams[0].servers, Servers::Dns { port: 1, refresh, .. } if refresh.as_secs() == 5));
}

#[test]
fn routes_tie_only_where_one_request_could_match_both_equally_well() {
    let tie = |one: &str, other: &str| {
        let text = format!("[route.a]\nrespond = {{}}\n{one}\n[route.b]\nrespond = {{}}\n{other}");
        found(&text).len() == 1
    };
    let ties = [
        ("", ""),
        ("", "allow = [\"10.0.0.0/8\"]"),
        ("paths = [\"/x\", \"/y\"]", "paths = [\"/y\", \"/z\"]"),
        ("paths = [\"/x\"]", "paths = [\"//%78\"]"),
        ("paths = [\"~a\"]", "paths = [\"~a\"]"),
        ("hosts = [\"A.b\"]", "hosts = [\"a.b\", \"c.d\"]"),
        ("hosts = [\"*\"]", ""),
        ("methods = [\"GET\", \"POST\"]", "methods = [\"POST\"]"),
        ("methods = [\"GET\"]", "methods = [\"HEAD\"]"),
        ("methods = [\"GET\"]", "scheme = \"http\""),
        ("headers = { a = \"1\" }", "headers = { b = \"1\" }"),
        ("headers = { a = \"1\" }", "headers = { A = \"1\" }"),
        ("headers = { a = \"1\" }", "methods = [\"GET\"]"),
    ];
    let clear = [
        ("paths = [\"/x\"]", ""),
        ("paths = [\"/x\"]", "paths = [\"/x/*\"]"),
        ("paths = [\"~a\"]", "paths = [\"~b\"]"),
        ("hosts = [\"a.b\"]", "hosts = [\"*.b\"]"),
        ("methods = [\"GET\"]", ""),
        ("methods = [\"GET\"]", "methods = [\"POST\"]"),
        ("headers = { a = \"1\" }", "headers = { a = \"2\" }"),
        ("headers = { a = \"1\" }", "headers = { a = \"1\", b = \"1\" }"),
        ("headers = { a = \"1\", b = \"1\" }", "headers = { a = \"2\", c = \"1\" }"),
        ("scheme = \"http\"", "scheme = \"https\""),
    ];
    for (one, other) in ties {
        assert!(tie(one, other), "{one:?} and {other:?} tie");
    }
    for (one, other) in clear {
        assert!(!tie(one, other), "{one:?} and {other:?} do not tie");
    }
    let told = found("[route.a]\nrespond = {}\n[route.b]\nrespond = {}");
    let expected = "3:1 route `b` ties with route `a`: one request could match both equally well -> the other one is at \
                    a.toml:1; give one of them another host, path or condition";
    assert_eq!(told, [expected]);
}

#[test]
fn ten_thousand_routes_are_checked_at_once() {
    let started = std::time::Instant::now();
    let by_path: String = (0..5000).map(|n| format!("[route.p{n}]\npaths = [\"/p{n}/*\"]\nrespond = {{}}\n")).collect();
    let by_tenant: String =
        (0..5000).map(|n| format!("[route.t{n}]\nheaders = {{ tenant = \"{n}\" }}\nrespond = {{}}\n")).collect();
    assert_eq!(meant(&(by_path + &by_tenant)).routes.len(), 10_000);
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(5), "{elapsed:?}");
    println!("10,000 routes: {elapsed:?}");
}

#[test]
fn a_diff_tells_what_moves() {
    let up = |servers: &str, more: &str| format!("[upstream.a]\nservers = [{servers}]\n{more}\n");
    let old = meant(
        &(up("\"127.0.0.1:1\", \"127.0.0.1:2\"", "")
            + "[route.x]\nupstream = \"a\"\n[route.y]\npaths = [\"/y\"]\nrespond = {}"),
    );
    let new = meant(
        &(up("{ address = \"127.0.0.1:1\", weight = 3 }, \"127.0.0.1:3\"", "timeout.read = \"1s\"")
            + "[log]\nsample_percent = 5\n[upstream.b]\nservers = [\"127.0.0.1:9\"]\n[route.x]\nupstream = \"b\"\n\
               methods = [\"GET\"]\n[route.z]\nrespond = {}"),
    );
    let lines = Diff::between(&old, &new).to_string();
    let expected = [
        "~ log.sample_percent",
        "+ upstream b",
        "~ upstream a: timeout",
        "~ server 127.0.0.1:1 of a: weight 1 -> 3",
        "- server 127.0.0.1:2 of a",
        "+ server 127.0.0.1:3 of a: weight 1",
        "+ server 127.0.0.1:9 of b: weight 1",
        "+ route z",
        "- route y",
        "~ route x: methods, upstream",
    ];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!(Diff::between(&old, &old).to_string(), "no difference");
    let share: Share = new.log.sample;
    assert!((share.fraction() - 0.05).abs() < 1e-9);
}

#[test]
fn a_thousand_releases_of_one_layer_are_checked_at_once() {
    let started = std::time::Instant::now();
    let releases: String = (0..1000)
        .map(|n| {
            let (from, to) = (f64::from(n) / 10.0, f64::from(n + 1) / 10.0);
            format!(
                "[release.x{n}]\nroutes = [\"r\"]\ncanary = \"b\"\nsteps = [{{ percent = 0.1 }}]\n\
                 layer = {{ name = \"l\", from = {from}, to = {to} }}\n"
            )
        })
        .collect();
    assert_eq!(meant(&(releases::BASE.to_owned() + &releases)).releases.len(), 1000);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn keys_of_a_kind_are_told_by_their_own_names() {
    let lines = |old: &str, new: &str| Diff::between(&meant(old), &meant(new)).to_string();
    let carts = "[upstream.carts]\nservers = [\"127.0.0.1:1\"]\nbalance = \"hash\"\n";
    let by = |key: &str| format!("{carts}hash_key = \"{key}\"\n");
    assert_eq!(lines(&by("path"), &by("cookie:cart")), "~ upstream carts: hash_key");
    assert_eq!(lines(&by("path"), &carts.replace("hash", "random")), "~ upstream carts: balance, hash_key");
    let signed = |skew: &str| format!("[auth.signed]\nkind = \"hmac\"\nclock_skew = \"{skew}\"\n");
    assert_eq!(lines(&signed("1m"), &signed("2m")), "~ auth signed: clock_skew");
    let key = |header: &str| format!("[auth.signed]\nkind = \"api_key\"\nheader = \"{header}\"\n");
    assert_eq!(lines(&key("x-a"), &key("x-b")), "~ auth signed: header");
    assert_eq!(lines(&signed("1m"), &key("x-b")), "~ auth signed: kind");
}
