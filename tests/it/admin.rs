//! The admin listener: what it answers, and to whom.

use crate::support::client::request;
use crate::support::*;

#[test]
fn health_readiness_and_unknown_calls() {
    let world = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    assert_eq!(world.admin(get("/healthz")).status, 200);
    assert_eq!(world.admin(get("/readyz")).status, 200);
    let unknown = world.admin(get("/api/v1/nothing"));
    assert_eq!((unknown.status, unknown.header("content-type")), (404, Some("application/problem+json")));
    assert_eq!(world.admin(get("/api/v1/config/reload")).status, 405);
    assert_eq!(world.admin(request("DELETE", "/api/v1/config")).status, 405);
}

#[test]
fn the_token_opens_everything_but_health_and_readiness_needs_none() {
    let mut world = World::prepare();
    world.write_as("admin.token", b"s3cret\n");
    world.boot(
        r#"
    [admin]
    address = "$ADMIN"
    token_file = "admin.token"
    [route.all]
    respond = {}
    "#,
    );
    for open in ["/healthz", "/readyz"] {
        assert_eq!(world.admin(get(open)).status, 200);
    }
    for closed in [get("/metrics"), get("/api/v1/config"), get("/api/v1/upstreams"), post("/api/v1/config/reload", "")]
    {
        let answer = world.admin(closed.clone());
        assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true), "{closed:?}");
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer", "Basic s3cret", ""] {
            assert_eq!(world.admin(closed.clone().header("authorization", wrong)).status, 401, "{wrong}");
        }
        assert_eq!(world.admin(closed.header("authorization", "bearer s3cret")).status, 200);
    }
    world.write_as("admin.token", b"other");
    eventually("the new token", || {
        let asked = get("/metrics").header("authorization", "Bearer other");
        (world.admin(asked).status == 200).then_some(())
    });
    assert_eq!(world.admin(get("/metrics").header("authorization", "Bearer s3cret")).status, 401);
    assert!(!world.admin(get("/api/v1/config").header("authorization", "Bearer other")).text().contains("s3cret"));
}

#[test]
fn no_web_page_gets_in() {
    let world = World::start(
        r"
    [route.all]
    respond = {}
    ",
    );
    let ours = format!("127.0.0.1:{}", world.admin_port);
    for host in ["evil.example", &format!("evil.example:{}", world.admin_port), "127.0.0.1:1", "10.0.0.1"] {
        let answer = world.admin_raw(post("/api/v1/config/reload", "").host(host));
        assert_eq!(answer.status, 403, "Host {host}");
        assert_eq!(world.admin_raw(get("/metrics").host(host)).status, 403);
    }
    for origin in ["http://evil.example", "null", "https://127.0.0.1", &format!("https://{ours}")] {
        let answer = world.admin_raw(post("/api/v1/config/rollback", "").host(&ours).header("origin", origin));
        assert_eq!(answer.status, 403, "Origin {origin}");
    }
    let own = post("/api/v1/config/reload", "").host(&ours).header("origin", format!("http://{ours}"));
    assert_eq!(world.admin_raw(own).status, 200);
    let named = get("/healthz").host(&format!("localhost:{}", world.admin_port));
    assert_eq!(world.admin_raw(named).status, 200);
}

#[test]
fn upstreams_tell_how_their_servers_are() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let world = World::start(&format!(
        r#"
        [upstream.app]
        balance = "peak_ewma"
        servers = ["{}", {{ address = "{}", weight = 3 }}]
        [route.all]
        upstream = "app"
        "#,
        a.address(),
        b.address()
    ));
    for _ in 0..20 {
        world.ask(get("/"));
    }
    let all = world.admin(get("/api/v1/upstreams")).json();
    assert_eq!(
        (&all[0]["upstream"], &all[0]["balance"], &all[0]["panic"]),
        (&"app".into(), &"peak_ewma".into(), &false.into())
    );
    // An answer may reach its client a moment before it is booked.
    let server =
        eventually("nothing is in flight", || Some(world.server(&b.address())).filter(|s| s["in_flight"] == 0));
    assert_eq!((&server["healthy"], &server["weight"]), (&true.into(), &3.into()));
    assert!(server["ejected_until"].is_null() && server["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{server}");
}
