//! route: which route takes a request, who may use it, and what a route answers by itself.

use crate::support::client::request;
use crate::support::*;

/// A route that answers with its own name.
fn says(name: &str, conditions: &str) -> String {
    format!(
        r#"
    [route.{name}]
    {conditions}
    respond = {{ body = "{name}" }}
    "#
    )
}

fn routes(routes: &[(&str, &str)]) -> World {
    World::start(&routes.iter().map(|(name, conditions)| says(name, conditions)).collect::<String>())
}

#[track_caller]
fn takes(world: &World, route: &str, request: Request) {
    let answer = world.ask(request.clone());
    assert_eq!((answer.status, answer.text().as_str()), (200, route), "{request:?}");
}

#[test]
fn the_best_host_wins_and_shuts_out_no_other() {
    let world = routes(&[
        ("exact", "hosts = [\"api.example.org\"]\npaths = [\"/only-here\"]"),
        ("longer", "hosts = [\"*.b.example.org\"]"),
        ("shorter", "hosts = [\"*.example.org\"]"),
        ("any", ""),
    ]);
    takes(&world, "exact", get("/only-here").host("API.Example.org:8080"));
    takes(&world, "shorter", get("/elsewhere").host("api.example.org"));
    takes(&world, "longer", get("/").host("a.b.example.org"));
    takes(&world, "longer", get("/").host("x.a.b.example.org"));
    takes(&world, "shorter", get("/").host("b.example.org"));
    takes(&world, "any", get("/").host("example.org"));
    takes(&world, "any", get("/only-here").host("elsewhere.net"));
}

#[test]
fn exact_paths_beat_prefixes_beat_regexes() {
    let world = routes(&[
        ("exact", "paths = [\"/a/b\"]"),
        ("deep", "paths = [\"/a/b/*\"]"),
        ("shallow", "paths = [\"/a/*\"]"),
        ("regex", "paths = [\"~^/(a|v[0-9]+)/\"]"),
        ("later", "paths = [\"~/x$\"]"),
    ]);
    takes(&world, "exact", get("/a/b?c=d"));
    takes(&world, "deep", get("/a/b/c"));
    takes(&world, "shallow", get("/a/bc"));
    takes(&world, "shallow", get("/a/x"));
    takes(&world, "regex", get("/v12/x"));
    takes(&world, "later", get("/y/x"));
    world.ask(get("/a")).is_problem(404, "no_route");
    world.ask(get("/ab")).is_problem(404, "no_route");
}

#[test]
fn paths_are_compared_normalised() {
    let world = routes(&[("secret", "paths = [\"/admin/*\"]"), ("open", "paths = [\"/open/*\"]")]);
    for path in ["/open/../admin/x", "/open/%2e%2e/admin/x", "//admin/x", "/%61dmin/x", "/./admin/x"] {
        takes(&world, "secret", get(path));
    }
}

#[test]
fn methods_headers_and_more_conditions_decide() {
    let world = routes(&[
        ("reads", "paths = [\"/x\"]\nmethods = [\"GET\"]"),
        (
            "acme",
            r#"
        paths = ["/x"]
        methods = ["GET"]
        headers = { "x-tenant" = "acme" }"#,
        ),
        ("writes", "paths = [\"/x\"]\nmethods = [\"POST\", \"DELETE\"]"),
    ]);
    takes(&world, "reads", get("/x"));
    takes(&world, "acme", get("/x").header("X-Tenant", "acme"));
    takes(&world, "reads", get("/x").header("x-tenant", "acme2"));
    // The server may read any line, so all of them must say it.
    for (one, other, route) in [("acme", "other", "reads"), ("other", "acme", "reads"), ("acme", "acme", "acme")] {
        takes(&world, route, get("/x").header("x-tenant", one).header("x-tenant", other));
        let lines = [format!("x-tenant: {one}"), format!("x-tenant: {other}")];
        let asked = ["explain", "-c", "tollgate.toml", "GET", "http://a/x", "--json", "-H", &lines[0], "-H", &lines[1]];
        let told: serde_json::Value = serde_json::from_slice(&world.cli(&asked).stdout).unwrap();
        assert_eq!(told["route"], route);
    }
    takes(&world, "writes", post("/x", "body"));
    takes(&world, "writes", delete("/x"));
    world.ask(request("PATCH", "/x")).is_problem(404, "no_route");
}

#[test]
fn get_takes_head_too_and_the_answer_has_no_body() {
    let world = routes(&[("reads", "methods = [\"GET\"]")]);
    let mut connection = world.connect();
    let head = connection.ask(&request("HEAD", "/")).unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    let next = connection.ask(&get("/")).unwrap();
    assert_eq!(next.text(), "reads", "no byte of a body came with HEAD");
}

#[test]
fn the_scheme_is_believed_from_trusted_proxies_only() {
    let config = r#"
    [trusted]
    proxies = ["127.0.0.2"]
    "#
    .to_owned()
        + &says("plain", "scheme = \"http\"")
        + &says("secure", "scheme = \"https\"");
    let world = World::start(&config);
    let asked = || get("/").header("x-forwarded-proto", "https");
    assert_eq!(world.ask_from([127, 0, 0, 2], asked()).text(), "secure");
    assert_eq!(world.ask_from([127, 0, 0, 1], asked()).text(), "plain");
    assert_eq!(world.ask_from([127, 0, 0, 2], get("/")).text(), "plain");
}

#[test]
fn allow_and_deny_judge_the_client_and_deny_wins() {
    let config = r#"
    [trusted]
    proxies = ["127.0.0.9"]
    "#
    .to_owned()
        + &says("some", "allow = [\"127.0.0.0/30\", \"10.0.0.0/8\"]\ndeny = [\"127.0.0.2\", \"10.9.0.0/16\"]");
    let world = World::start(&config);
    assert_eq!(world.ask_from([127, 0, 0, 1], get("/")).status, 200);
    world.ask_from([127, 0, 0, 2], get("/")).is_problem(403, "forbidden");
    world.ask_from([127, 0, 0, 5], get("/")).is_problem(403, "forbidden");
    let through_proxy = |client: &str| world.ask_from([127, 0, 0, 9], get("/").header("x-forwarded-for", client));
    assert_eq!(through_proxy("10.1.1.1").status, 200);
    through_proxy("10.9.1.1").is_problem(403, "forbidden");
    through_proxy("10.1.1.1, 192.0.2.1").is_problem(403, "forbidden");
    world.metric_reaches("tollgate_rejected_total", &["reason=\"forbidden\""], 4.0);
}

#[test]
fn a_client_whom_a_trusted_proxy_does_not_name_is_in_no_network() {
    let config = r#"
    [trusted]
    proxies = ["10.0.0.0/8", "127.0.0.9"]
    "#
    .to_owned()
        + &says("inside", "paths = [\"/inside\"]\nallow = [\"127.0.0.0/8\", \"10.0.0.0/8\"]")
        + &says("outside", "paths = [\"/outside\"]\ndeny = [\"192.0.2.0/24\"]")
        + &says("open", "paths = [\"/open\"]\nlimits = [\"one\"]")
        + r#"
        [limit.one]
        key = ["ip"]
        rate = "1/h"
        burst = 1
        "#;
    let world = World::start(&config);
    let said = |path: &str, client: &str| world.ask_from([127, 0, 0, 9], get(path).header("x-forwarded-for", client));
    assert_eq!((said("/inside", "10.1.1.1").status, said("/inside", "").status), (200, 200));
    for unknown in ["unknown", "_hidden", "fe80::1%eth0", "192.0.2.1, unknown", "unknown, 10.1.1.1", "10.1.1.1, -"] {
        said("/inside", unknown).is_problem(403, "forbidden");
        said("/outside", unknown).is_problem(403, "forbidden");
    }
    // All of them are one client to a limit, and nobody else is.
    assert_eq!((said("/open", "unknown").status, said("/open", "-").status, said("/open", "").status), (200, 429, 200));
}

#[test]
fn a_request_without_a_route_gets_404_and_keeps_its_connection() {
    let world = routes(&[("one", "paths = [\"/one\"]")]);
    let mut connection = world.connect();
    connection.ask(&get("/none")).unwrap().is_problem(404, "no_route");
    assert_eq!(connection.ask(&get("/one")).unwrap().text(), "one");
    world.metric_reaches("tollgate_requests_total", &["route=\"\"", "status_class=\"4xx\""], 1.0);
}

#[test]
fn a_redirect_fills_its_template() {
    let world = World::start(
        r#"
        [trusted]
        proxies = ["127.0.0.2"]
        [route.secure]
        paths = ["/s/*"]
        redirect = { to = "https://{host}{path}{query}" }
        [route.moved]
        paths = ["/m"]
        redirect = { to = "{scheme}://new.example/here", status = 302 }
        "#,
    );
    let answer = world.ask(get("/s/a%20b?x=1&y=%2F").host("Shop.Example:8080"));
    assert_eq!((answer.status, answer.header("location")), (308, Some("https://shop.example/s/a%20b?x=1&y=%2F")));
    let answer = world.ask(get("/m?gone=1"));
    assert_eq!((answer.status, answer.header("location")), (302, Some("http://new.example/here")));
    let answer = world.ask_from([127, 0, 0, 2], get("/m").header("x-forwarded-proto", "https"));
    assert_eq!(answer.header("location"), Some("https://new.example/here"));
}

#[test]
fn a_canned_answer_is_given_as_written() {
    let world = World::start(
        r#"
        [route.note]
        respond = { status = 503, body = "Back at noon.\n", headers = { "retry-after" = "3600" } }
        [route.nothing]
        paths = ["/nothing"]
        respond = { status = 204 }
        "#,
    );
    let mut connection = world.connect();
    let answer = connection.ask(&get("/")).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (503, "Back at noon.\n"));
    assert_eq!(answer.header("retry-after"), Some("3600"));
    let empty = connection.ask(&get("/nothing")).unwrap();
    assert_eq!((empty.status, empty.header("content-length")), (204, None));
}

#[test]
fn a_body_that_nobody_reads_does_not_cost_the_client_its_answer() {
    let world = routes(&[("note", "paths = [\"/\"]\nbody_max = \"1MiB\"")]);
    for size in [10, 100_000, 5_000_000] {
        assert_eq!(world.ask(post("/", vec![b'x'; size])).status, if size < 1 << 20 { 200 } else { 413 }, "{size}");
        world.ask(post("/nowhere", vec![b'x'; size])).is_problem(404, "no_route");
    }
}

#[test]
fn a_body_over_the_routes_limit_gets_413() {
    let origin = Origin::start("a");
    let world = World::start(&format!(
        r#"
        {}[route.all]
        upstream = "app"
        body_max = "1KiB"
        "#,
        fleet("app", &[&origin])
    ));
    assert_eq!(world.ask(post("/", vec![b'x'; 1024])).status, 200);
    world.ask(post("/", vec![b'x'; 1025])).is_problem(413, "body_too_large");
    assert_eq!(origin.hits(), 1, "what is announced too long is not forwarded");
    let chunk = format!("800\r\n{}\r\n0\r\n\r\n", "x".repeat(0x800));
    world.ask(post("/chunked", chunk).header("transfer-encoding", "chunked")).is_problem(413, "body_too_large");
}
