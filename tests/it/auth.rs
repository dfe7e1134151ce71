//! authenticate: who calls is proven, told to the server, and cannot be forged.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::caller::{self, Issuer, content_digest, now_s, signed};
use crate::support::*;

const APPS: &str = r#"
[auth.keys]
kind = "api_key"
[auth.signed]
kind = "hmac"
[auth.users]
kind = "jwt"
issuer = "https://id.example"
audience = "api"
jwks_file = "users.jwks"
user_claim = "sub"
[app.acme]
keys = [{ id = "k1", secret_file = "acme.k1" }, { id = "k2", secret_file = "acme.k2" }]
[app.bolt]
keys = [{ id = "k1", secret_file = "bolt.k1" }]
[app.late]
status = "pending"
keys = [{ id = "late", secret_file = "late.k1" }]
[app.gone]
status = "suspended"
keys = [{ id = "gone", secret_file = "gone.k1" }]
"#;

const ROUTES: &str = r#"
[route.open]
paths = ["/open/*"]
upstream = "app"
[route.keys]
paths = ["/keys/*"]
auth = ["keys"]
upstream = "app"
[route.signed]
paths = ["/signed/*"]
auth = ["signed"]
upstream = "app"
[route.users]
paths = ["/users/*"]
auth = ["users"]
upstream = "app"
[route.both]
paths = ["/both/*"]
auth = ["keys", "signed", "users"]
upstream = "app"
[route.said]
paths = ["/said"]
auth = ["keys"]
respond = { body = "hello" }
"#;

const SECRET: &str = "acme-secret-one";

struct Door {
    origin: Origin,
    issuer: Issuer,
    world: World,
}

fn door() -> Door {
    door_at("")
}

/// A door with a listener of its own.
fn door_at(listener: &str) -> Door {
    let (origin, issuer) = (Origin::start("a"), Issuer::new());
    let mut world = World::prepare();
    let hash = ring::digest::digest(&ring::digest::SHA256, b"bolt-secret");
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    for (name, content) in [
        ("acme.k1", format!("{SECRET}\n")),
        ("acme.k2", "acme-secret-two".into()),
        ("bolt.k1", format!("sha256:{hex}\n")),
        ("late.k1", "late-secret".into()),
        ("gone.k1", "gone-secret".into()),
        ("users.jwks", issuer.jwks()),
    ] {
        world.write_as(name, content.as_bytes());
    }
    world.boot(&format!("{listener}{}{APPS}{ROUTES}", fleet("app", &[&origin])));
    Door { origin, issuer, world }
}

impl Door {
    fn claims(&self) -> Value {
        json!({"iss": "https://id.example", "aud": ["api"], "sub": "user-7", "exp": now_s() + 60})
    }

    fn bearer(&self, claims: &Value) -> String {
        format!("Bearer {}", self.issuer.token("ES256", claims))
    }

    #[track_caller]
    fn refuses(&self, request: Request, challenge: &str, detail: &str) {
        let before = self.origin.hits();
        let answer = self.world.ask(request);
        answer.is_problem(401, "unauthorized");
        let told = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains(detail), "{told}");
        assert_eq!(answer.header("www-authenticate"), Some(challenge), "{told}");
        assert_eq!(self.origin.hits(), before, "it went through");
    }

    #[track_caller]
    fn passes(&self, request: Request, app: Option<&str>) {
        let answer = self.world.ask(request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.origin.last().header("x-tollgate-app"), app);
    }
}

#[test]
fn every_key_of_an_app_opens_and_nothing_else_does() {
    let door = door();
    for (key, app) in [(SECRET, "acme"), ("acme-secret-two", "acme"), ("bolt-secret", "bolt")] {
        door.passes(get("/keys/x").header("x-api-key", key), Some(app));
    }
    assert_eq!(door.origin.last().header("x-api-key"), Some("bolt-secret"), "credentials stay in the request");
    let challenge = "ApiKey header=\"x-api-key\"";
    door.refuses(get("/keys/x"), challenge, "Send the key");
    door.refuses(get("/keys/x").header("x-api-key", ""), challenge, "Send the key");
    door.refuses(get("/keys/x").header("x-api-key", "acme-secret"), challenge, "No app has the key");
    let twice = get("/keys/x").header("x-api-key", SECRET).header("x-api-key", SECRET);
    door.refuses(twice, challenge, "more than once");
    door.refuses(get("/said"), challenge, "Send the key");
    assert_eq!(door.world.ask(get("/said").header("x-api-key", SECRET)).text(), "hello");
    for (key, label) in [("late-secret", "app_pending"), ("gone-secret", "app_suspended")] {
        door.world.ask(get(&format!("/keys/{label}")).header("x-api-key", key)).is_problem(403, label);
    }
    let line = door.world.log_line("/keys/app_pending");
    assert_eq!((&line["app"], &line["error"], &line["status"]), (&json!("late"), &json!("app_pending"), &json!(403)));
    door.world.metric_reaches("tollgate_rejected_total", &["reason=\"unauthorized\""], 5.0);
    door.world.metric_reaches("tollgate_rejected_total", &["reason=\"app_pending\""], 1.0);
}

#[test]
fn keys_rotate_with_their_files() {
    let door = door();
    let asks = |key: &str| door.world.ask(get("/keys/x").header("x-api-key", key)).status;
    assert_eq!((asks(SECRET), asks("acme-secret-new")), (200, 401));
    door.world.write_as("acme.k1", b"acme-secret-new");
    eventually("the new key", || (asks("acme-secret-new") == 200).then_some(()));
    assert_eq!((asks(SECRET), asks("acme-secret-two")), (401, 200));
}

#[test]
fn nobody_but_the_gateway_names_the_app() {
    let door = door();
    for forged in ["x-tollgate-app", "X-Tollgate-App"] {
        door.passes(get("/open/x").header(forged, "acme"), None);
        assert_eq!(door.origin.last().header("x-tollgate-app"), None, "{forged}");
        door.passes(get("/keys/x").header("x-api-key", "bolt-secret").header(forged, "acme"), Some("bolt"));
    }
    // What a server might take for it does not come in.
    for lookalike in ["x_tollgate_app", "x-tollgate_app", "x.tollgate.app"] {
        door.world.ask(get("/open/x").header(lookalike, "acme")).is_problem(400, "bad_request");
    }
    // Nor what it might take for the key that was judged.
    let keyed = get("/keys/x").header("x-api-key", "bolt-secret").header("x_api_key", "acme-secret-one");
    door.world.ask(keyed).is_problem(400, "bad_request");
    // A client may say what belongs to its connection; the app's name does not.
    let named = get("/keys/x").header("x-api-key", "bolt-secret").header("connection", "x-tollgate-app, keep-alive");
    door.world.ask(named).is_problem(400, "bad_request");
    door.passes(get("/open/x").header("x-tollgate-apps", "1"), None);
    assert_eq!(door.origin.last().header("x-tollgate-apps"), Some("1"), "another header stays");
}

#[test]
fn tokens_of_the_issuer_open() {
    let door = door();
    let claims = door.claims();
    for alg in ["ES256", "EdDSA"] {
        let token = format!("Bearer {}", door.issuer.token(alg, &claims));
        door.passes(get("/users/x").header("authorization", token), None);
    }
    door.passes(get("/users/x").header("authorization", door.bearer(&claims).replace("Bearer", "bearer")), None);
    door.refuses(get("/users/x"), "Bearer", "Send one token");
    door.refuses(get("/users/x").header("authorization", "Basic YTpi"), "Bearer", "Send one token");
    let good = door.bearer(&claims);
    let twice = get("/users/x").header("authorization", &good).header("authorization", &good);
    door.refuses(twice, "Bearer", "Send one token");
    let with = |key: &str, value: Value| {
        let mut claims = door.claims();
        claims[key] = value;
        get("/users/x").header("authorization", door.bearer(&claims))
    };
    let invalid = "Bearer error=\"invalid_token\"";
    door.refuses(with("exp", json!(now_s() - 61)), invalid, "expired");
    door.refuses(with("nbf", json!(now_s() + 300)), invalid, "not valid yet");
    door.refuses(with("aud", json!("web")), invalid, "audience");
    door.refuses(with("iss", json!("https://other.example")), invalid, "issuer");
    let stranger = format!("Bearer {}", Issuer::new().token("ES256", &claims));
    door.refuses(get("/users/x").header("authorization", stranger), invalid, "signature does not hold");
    door.refuses(get("/users/x").header("authorization", "Bearer x"), invalid, "not a signed JWT");
    // The issuer's next keys come with its file.
    let next = Issuer::new();
    door.world.write_as("users.jwks", next.jwks().as_bytes());
    let token = format!("Bearer {}", next.token("EdDSA", &claims));
    let asks = |token: &str| door.world.ask(get("/users/x").header("authorization", token)).status;
    eventually("the new keys", || (asks(&token) == 200).then_some(()));
    assert_eq!(asks(&good), 401);
}

#[test]
fn signed_requests_reach_the_server_with_their_body_however_it_comes() {
    let door = door();
    door.passes(signed("k2", "acme-secret-two", "GET", "/signed/a?b=%2F&c").whole(), Some("acme"));
    door.passes(signed("acme/k1", SECRET, "GET", "/signed/a").whole(), Some("acme"));
    for size in [0, 1, 1_000, 65_535, 65_536] {
        let body: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
        let one = signed("acme/k1", SECRET, "POST", "/signed/a").body(body.clone());
        door.passes(one.whole(), Some("acme"));
        assert_eq!(door.origin.last().body, body, "{size} bytes at once");
        let mut connection = door.world.connect();
        let one = signed("acme/k1", SECRET, "POST", "/signed/chunks").body(body.clone());
        connection.send(&one.chunked(4_000)).unwrap();
        assert_eq!(connection.answer(false).unwrap().status, 200, "{size} bytes in chunks");
        assert_eq!(door.origin.last().body, body, "{size} bytes in chunks");
        // The connection goes on where the body ended.
        let answer = connection.ask(&get("/open/next")).unwrap();
        assert_eq!((answer.status, &*door.origin.last().path), (200, "/open/next"));
    }
    let mut connection = door.world.connect();
    let one = signed("acme/k1", SECRET, "POST", "/signed/waits").body("hello");
    let head = one.head().header("expect", "100-continue").header("content-length", 5);
    connection.send(&head.bytes()).unwrap();
    assert_eq!(connection.answer(true).unwrap().status, 100);
    connection.send(b"hello").unwrap();
    assert_eq!(connection.answer(false).unwrap().status, 200);
    assert_eq!(door.origin.last().body, b"hello");
}

/// Sends a signed request over HTTP/2; `trailers`: whether they end it. Its status.
async fn over_http2(port: u16, one: &caller::Signed, sent: &[u8], trailers: bool) -> u16 {
    let tcp = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (mut client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut head = http::Request::builder().method(&*one.method).uri(format!("http://{}{}", one.host, one.target));
    for (name, value) in one.fields() {
        head = head.header(name, value);
    }
    let (answer, mut stream) = client.send_request(head.body(()).unwrap(), false).unwrap();
    for part in sent.chunks(3_000) {
        stream.send_data(Bytes::copy_from_slice(part), false).unwrap();
    }
    if trailers {
        let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("x-end"), "1".parse().unwrap())]);
        stream.send_trailers(trailers).unwrap();
    } else {
        stream.send_data(Bytes::new(), true).unwrap();
    }
    answer.await.unwrap().status().as_u16()
}

#[test]
fn signed_requests_over_http2_are_judged_alike() {
    let door = door_at(
        r#"
    [[listener]]
    address = "$LISTEN"
    h2c = true
    "#,
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (size, trailers) in [(0, false), (1, false), (65_536, false), (10, true), (65_536, true)] {
        let body: Vec<u8> = (0..size).map(|n| b'a' + (n % 23) as u8).collect();
        let one = signed("acme/k1", SECRET, "POST", "/signed/two?x=1").body(body.clone());
        let asked = |sent: &[u8]| runtime.block_on(over_http2(door.world.port, &one, sent, trailers));
        assert_eq!(asked(&[&body[..], b"more"].concat()), if size > 65_000 { 413 } else { 401 }, "{size}");
        assert_eq!(asked(&body), 200, "{size} {trailers}");
        let seen = door.origin.last();
        assert_eq!((seen.body, seen.headers.get("x-tollgate-app").map(String::as_str)), (body, Some("acme")));
    }
    let bare = signed("acme/k1", SECRET, "POST", "/signed/two");
    assert_eq!(runtime.block_on(over_http2(door.world.port, &bare, b"x", false)), 401, "its body is not covered");
}

#[test]
fn a_signed_body_over_64_kib_is_too_large() {
    let door = door();
    let one = signed("acme/k1", SECRET, "POST", "/signed/a").body(vec![b'x'; 65_537]);
    door.world.ask(one.whole()).is_problem(413, "signed_body_too_large");
    let mut connection = door.world.connect();
    connection.send(&one.chunked(10_000)).unwrap();
    connection.answer(false).unwrap().is_problem(413, "signed_body_too_large");
    assert_eq!(door.origin.hits(), 0);
    door.world.metric_reaches("tollgate_rejected_total", &["reason=\"signed_body_too_large\""], 2.0);
}

#[test]
fn what_was_signed_is_what_comes_and_it_comes_once() {
    let door = door();
    let challenge = "Signature";
    let one = signed("acme/k1", SECRET, "POST", "/signed/a").body("pay 10");
    // Nothing of a refused request uses up its nonce.
    door.refuses(one.head().with_body("pay 99"), challenge, "does not fit Content-Digest");
    let other = one.head().header("content-digest", content_digest(b"pay 99")).with_body("pay 99");
    door.refuses(other, challenge, "signature is not that of");
    door.refuses(one.head().with_body("pay 10 and more"), challenge, "does not fit Content-Digest");
    door.passes(one.whole(), Some("acme"));
    door.refuses(one.whole(), challenge, "`nonce` was used before");
    let again = one.clone();
    door.refuses(again.whole(), challenge, "`nonce` was used before");
    let mut fresh = signed("acme/k1", SECRET, "POST", "/signed/a").body("pay 10");
    fresh.nonce.clone_from(&one.nonce);
    fresh.created += 1;
    door.refuses(fresh.whole(), challenge, "`nonce` was used before");
    door.passes(signed("k2", "acme-secret-two", "GET", "/signed/a").whole(), Some("acme"));
    // A push changes nothing about what was taken.
    door.world.push(&format!(
        r#"
        {}{APPS}{ROUTES}
        [route.more]
        paths = ["/more"]
        respond = {{}}
        "#,
        fleet("app", &[&door.origin])
    ));
    door.refuses(one.whole(), challenge, "`nonce` was used before");
}

#[test]
fn a_signature_is_judged_by_its_key_time_and_what_it_covers() {
    let door = door();
    let challenge = "Signature";
    let with = |change: &dyn Fn(&mut caller::Signed)| {
        let mut one = signed("acme/k1", SECRET, "GET", "/signed/a");
        change(&mut one);
        one.whole()
    };
    door.refuses(get("/signed/a"), challenge, "Sign the request");
    assert!(door.world.ask(get("/signed/a")).header("accept-signature").unwrap().contains("@target-uri"));
    door.refuses(with(&|one| one.secret = "wrong".into()), challenge, "signature is not that of");
    door.refuses(with(&|one| one.keyid = "acme/k9".into()), challenge, "signature is not that of");
    door.refuses(with(&|one| one.keyid = "k1".into()), challenge, "Several apps");
    // Only its hash is known, so it signs nothing.
    door.refuses(
        with(&|one| (one.keyid, one.secret) = ("bolt/k1".into(), "bolt-secret".into())),
        challenge,
        "not that of",
    );
    door.refuses(with(&|one| one.created -= 400), challenge, "too far from");
    door.refuses(with(&|one| one.created += 400), challenge, "too far from");
    door.refuses(with(&|one| one.created = now_s() - 200), challenge, "older than what this gateway remembers");
    door.refuses(with(&|one| one.more = ";alg=\"ed25519\"".into()), challenge, "`alg`");
    door.refuses(with(&|one| one.more = format!(";expires={}", now_s() - 5)), challenge, "expired");
    door.refuses(signed("acme/k1", SECRET, "POST", "/signed/a").head().with_body("x"), challenge, "must cover");
    let moved = signed("acme/k1", SECRET, "GET", "/signed/a").head();
    door.refuses(moved.clone().target("/signed/b"), challenge, "signature is not that of");
    door.refuses(moved.method("DELETE"), challenge, "signature is not that of");
    door.world.ask(signed("late", "late-secret", "GET", "/signed/a").whole()).is_problem(403, "app_pending");
    door.passes(with(&|one| one.more = format!(";alg=\"hmac-sha256\";expires={}", now_s() + 50)), Some("acme"));
    let odd =
        signed("acme/k1", SECRET, "POST", "/signed/a").body("x").whole().header("content-digest", "sha-256=:AA==:");
    door.refuses(odd, challenge, "signature is not that of");
}

#[test]
fn all_proofs_of_a_route_must_hold_and_be_of_one_app() {
    let door = door();
    let token = door.bearer(&door.claims());
    let with = |key: &str, keyid: &str, secret: &str| {
        signed(keyid, secret, "GET", "/both/x").whole().header("x-api-key", key).header("authorization", &token)
    };
    door.passes(with(SECRET, "acme/k1", SECRET), Some("acme"));
    door.passes(with("acme-secret-two", "acme/k1", SECRET), Some("acme"));
    door.refuses(with("bolt-secret", "acme/k1", SECRET), "Signature", "of two apps");
    door.refuses(with("wrong", "acme/k1", SECRET), "ApiKey header=\"x-api-key\"", "No app has");
    door.refuses(with(SECRET, "acme/k1", "wrong"), "Signature", "signature is not that of");
    let one = signed("acme/k1", SECRET, "GET", "/both/x").whole().header("x-api-key", SECRET);
    door.refuses(one.clone(), "Bearer", "Send one token");
    // It was refused for its token, so its signature is still good.
    door.passes(one.header("authorization", &token), Some("acme"));
}

#[test]
fn apps_and_claims_are_users_and_cohorts_of_releases() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let issuer = Issuer::new();
    let mut world = World::prepare();
    let files = ["acme.k1", "acme.k2", "bolt.k1", "late.k1", "gone.k1"];
    files.iter().for_each(|name| world.write_as(name, name.as_bytes()));
    world.write_as("users.jwks", issuer.jwks().as_bytes());
    let config = format!(
        r#"
        {}{}{APPS}[route.keys]
        paths = ["/keys/*"]
        auth = ["keys"]
        upstream = "stable"
        [route.users]
        paths = ["/users/*"]
        auth = ["users"]
        upstream = "stable"
        [cohort.partners]
        any = [{{ app = "acme" }}]
        [release.v2]
        routes = ["keys", "users"]
        canary = "canary"
        user = ["claim", "app"]
        include = ["partners"]
        steps = [{{ percent = 0.01, hold = "1h" }}]
        "#,
        fleet("stable", &[&stable]),
        fleet("canary", &[&canary]),
    );
    world.boot(&config);
    let by_key = |key: &str| world.ask(get("/keys/x").header("x-api-key", key)).server().to_owned();
    assert_eq!((by_key("acme.k1"), by_key("bolt.k1")), ("canary".into(), "stable".into()));
    let token =
        issuer.token("EdDSA", &json!({"iss": "https://id.example", "aud": "api", "sub": "u-1", "exp": now_s() + 60}));
    let bearer = format!("Bearer {token}");
    assert_eq!(world.ask(get("/users/x").header("authorization", &bearer)).server(), "stable");
    let explained = |arguments: &[&str]| -> Value {
        let config = world.config_path();
        let all = [&["explain", "--json", "-c", config.to_str().unwrap(), "GET"], arguments].concat();
        let output = world.cli(&all);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
    };
    let acme = explained(&["http://h/keys/x", "-H", "x-api-key: acme.k1"]);
    assert_eq!((&acme["app"], &acme["user"], &acme["arm"]), (&json!("acme"), &json!("acme"), &json!("canary")));
    assert_eq!(acme["cohorts"], json!(["partners"]));
    let user = explained(&["http://h/users/x", "-H", &format!("authorization: {bearer}")]);
    assert_eq!((&user["app"], &user["user"], &user["arm"]), (&Value::Null, &json!("u-1"), &json!("stable")));
    let nobody = explained(&["http://h/keys/x", "-H", "x-api-key: wrong"]);
    assert!(nobody["app"].is_null() && nobody["why"].to_string().contains("401"), "{nobody}");
    let line = world.log_line("/keys/x");
    assert_eq!((&line["app"], &line["release"]), (&json!("acme"), &json!("v2")));
}
