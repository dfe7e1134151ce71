//! What is legal and hardly meant, and what must not be warned about.

use std::time::{Duration, Instant};

use super::*;

/// Every warning as `line message -> hint`, of a text that is given a listener and upstreams at its end.
fn warned(text: &str) -> Vec<String> {
    let rest = "[upstream.app]\nservers = [\"127.0.0.1:1\"]\n[upstream.other]\nservers = [\"127.0.0.1:1\"]\n\
                [auth.keys]\nkind = \"api_key\"\n[auth.signed]\nkind = \"hmac\"\n[limit.few]\nrate = \"1/s\"\n\
                [limit.many]\nrate = \"9/s\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n";
    let loaded = load_texts(&[&format!("{text}\n{rest}")]).expect("it is legal");
    loaded.warnings.iter().map(|it| format!("{} {} -> {}", it.line, it.message, it.hint)).collect()
}

fn golden(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(warned(text), *expected, "\n{text}");
    }
}

const OPEN: &str = "[route.rest]\nupstream = \"app\"\n";

#[test]
fn what_gets_around_a_routes_conditions_is_named() {
    golden(&[
        (
            &format!("{OPEN}[route.admin]\nupstream = \"app\"\npaths = [\"/admin/*\"]\nauth = [\"keys\"]"),
            &[
                "3 `/admin`, which `/admin/*` does not take, reaches upstream `app` by route `rest`, which does not ask \
               for auth `keys`, unlike route `admin` -> add \"/admin\" to `paths` of route `admin`, or ask for the same \
               in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!(
                "{OPEN}[route.read]\nupstream = \"app\"\nmethods = [\"GET\"]\nauth = [\"keys\"]\ndeny = [\"10.0.0.1\"]"
            ),
            &[
                "3 a request with another method, such as FOO, reaches upstream `app` by route `rest`, which does not ask \
               for auth `keys` and lets in other addresses, unlike route `read` -> list in route `rest` the methods \
               that it may take, or ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!("{OPEN}[route.api]\nupstream = \"app\"\nhosts = [\"api.example.com\"]\nlimits = [\"few\"]"),
            &[
                "3 a request for another host reaches upstream `app` by route `rest`, which has no limits, unlike route \
               `api` -> name in route `rest` the hosts that it may take, or ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!("{OPEN}[route.one]\nupstream = \"app\"\nheaders = {{ x-a = \"1\" }}\nallow = [\"10.0.0.0/8\"]"),
            &[
                "3 a request without header `x-a` reaches upstream `app` by route `rest`, which lets in other addresses, \
               unlike route `one` -> take `headers` out of route `one`, or ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!("{OPEN}[route.one]\nupstream = \"app\"\nscheme = \"https\"\nauth = [\"keys\"]"),
            &[
                "3 a request by http reaches upstream `app` by route `rest`, which does not ask for auth `keys`, unlike \
               route `one` -> take `scheme` out of route `one`, or ask for the same in route `rest` at a.toml:1",
            ],
        ),
    ]);
}

#[test]
fn what_gets_around_a_routes_paths_is_named() {
    golden(&[
        (
            &format!("{OPEN}[route.one]\nupstream = \"app\"\npaths = [\"/admin\", \"/admin/*\"]\nauth = [\"keys\"]"),
            &[
                "3 `/ADMIN`, which a server may take for `/admin`, reaches upstream `app` by route `rest`, which does not \
               ask for auth `keys`, unlike route `one` -> give route `rest` narrower `paths` or an upstream of its own, \
               or ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!(
                "{OPEN}[route.one]\nupstream = \"app\"\npaths = [\"/one\"]\nauth = [\"keys\"]\n\
                 [route.two]\nupstream = \"app\"\npaths = [\"/two\"]\nallow = [\"10.0.0.0/8\"]"
            ),
            &[
                "3 `/ONE`, which a server may take for `/one`, reaches upstream `app` by route `rest`, which does not ask \
               for auth `keys`, unlike route `one` and 1 more -> give route `rest` narrower `paths` or an \
               upstream of its own, or ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            &format!("{OPEN}[route.one]\nupstream = \"app\"\npaths = [\"~^/v[0-9]+/admin\"]\nauth = [\"keys\"]"),
            &[
                "3 a path that `~^/v[0-9]+/admin` does not match reaches upstream `app` by route `rest`, which does not \
               ask for auth `keys`, unlike route `one` -> ask for the same in route `rest` at a.toml:1",
            ],
        ),
        (
            "[route.admin]\nupstream = \"app\"\npaths = [\"/admin\", \"/admin/*\"]\nauth = [\"keys\"]\n\
             [route.shop]\nupstream = \"app\"\nhosts = [\"shop.example.com\"]\nlimits = [\"many\"]",
            &[
                "1 a request for host `shop.example.com` reaches upstream `app` by route `shop`, which does not ask for \
               auth `keys`, unlike route `admin` -> name `shop.example.com` in `hosts` of route `admin`, or ask for the \
               same in route `shop` at a.toml:5",
            ],
        ),
        (
            "[route.partners]\nupstream = \"app\"\npaths = [\"/partners/*\"]\nauth = [\"signed\"]\n\
             [route.rest]\nupstream = \"app\"\nauth = [\"keys\"]\nallow = [\"10.0.0.0/8\"]",
            &["1 `/partners`, which `/partners/*` does not take, reaches upstream `app` by route `rest`, which does \
                 not ask for auth `signed`, unlike route `partners` -> add \"/partners\" to `paths` of route \
                 `partners`, or ask for the same in route `rest` at a.toml:5"],
        ),
    ]);
}

#[test]
fn what_can_only_be_meant_is_not_warned_about() {
    let admin = "[route.admin]\nupstream = \"app\"\npaths = [\"/admin/*\"]\nauth = [\"keys\"]\n";
    for (text, why) in [
        (format!("{admin}[route.b]\nupstream = \"other\""), "another upstream"),
        (format!("{admin}[route.b]\nredirect = {{ to = \"/\" }}"), "no upstream"),
        (format!("{admin}[route.b]\nupstream = \"app\"\npaths = [\"/public/*\"]"), "they do not meet"),
        (format!("{admin}[route.b]\nupstream = \"app\"\npaths = [\"/admin/health\"]"), "an exception within it"),
        (format!("{admin}[route.b]\nupstream = \"app\"\npaths = [\"/admin\"]"), "an exception beside it"),
        (format!("{admin}[route.b]\nupstream = \"app\"\npaths = [\"/admin/*\"]\nmethods = [\"GET\"]"), "reads are open"),
        (format!("{admin}[route.b]\nupstream = \"app\"\nhosts = [\"a.x\"]\npaths = [\"/admin/*\"]"), "open on a host"),
        (format!("{admin}[route.b]\nupstream = \"app\"\nauth = [\"signed\", \"keys\"]"), "the other one asks for more"),
        (
            "[route.a]\nupstream = \"app\"\nmethods = [\"POST\", \"PUT\"]\nauth = [\"keys\"]\n\
             [route.b]\nupstream = \"app\"\nmethods = [\"GET\"]"
                .to_owned(),
            "both say what they take",
        ),
        (
            "[route.a]\nupstream = \"app\"\npaths = [\"/a\"]\nlimits = [\"few\"]\n[route.b]\nupstream = \"app\"".to_owned(),
            "a limit of a path",
        ),
        (
            "[route.a]\nupstream = \"app\"\npaths = [\"/a/*\"]\nlimits = [\"few\"]\n\
             [route.b]\nupstream = \"app\"\nlimits = [\"many\"]"
                .to_owned(),
            "the other one is limited, too",
        ),
        (
            "[route.a]\nupstream = \"app\"\npaths = [\"/a/*\"]\nallow = [\"10.0.0.0/8\"]\n[route.b]\nupstream = \"app\"\n\
             allow = [\"10.1.0.0/16\"]"
                .to_owned(),
            "it lets in fewer",
        ),
        ("[route.a]\nupstream = \"app\"\ncompress = true".to_owned(), "public pages"),
        ("[route.a]\nrespond = {}\nauth = [\"keys\"]\ncompress = true".to_owned(), "nothing of a server"),
    ] {
        assert_eq!(warned(&text), [""; 0], "{why}:\n{text}");
    }
}

#[test]
fn tokens_for_anybody_and_compressed_secrets_are_warned_about() {
    golden(&[
        (
            "[auth.users]\nkind = \"jwt\"\njwks_file = \"secrets-example/users.jwks\"",
            &[
                "1 auth `users` has no `audience`: a token that was made for another application passes -> add what `aud` \
               says in tokens for this one, such as audience = \"users\"",
            ],
        ),
        (
            "[route.a]\nupstream = \"app\"\nauth = [\"keys\"]\ncompress = true",
            &[
                "1 route `a` compresses answers to callers that it knows: where one holds a secret beside what the request \
               says, its length tells the secret (BREACH) -> keep `compress` for a route of what is public, or for \
               answers that repeat no input",
            ],
        ),
    ]);
}

#[test]
fn the_examples_are_wise() {
    for path in conf_files() {
        assert_eq!(load(&path).expect("it loads").warnings, [], "{}", path.display());
    }
}

type Conditions = fn(usize) -> String;

/// Thousands alike: the conditions of the route with a number, and whether any is warned about.
const MANY: [(&str, Conditions, bool); 5] = [
    ("hosts", |n| format!("hosts = [\"h{n}.x\"]\npaths = [\"/a\"]\nauth = [\"keys\"]"), false),
    ("paths", |n| format!("paths = [\"/a{n}/*\"]\nauth = [\"keys\"]"), true),
    ("tenants", |n| format!("headers = {{ x-t = \"{n}\" }}\nauth = [\"keys\"]"), true),
    ("open hosts", |n| if n % 2 == 0 { format!("hosts = [\"h{n}.x\"]") } else { MANY[1].1(n) }, true),
    ("regexes", |n| if n < 100 { format!("paths = [\"~^/{n}/x\"]") } else { MANY[0].1(n) }, false),
];

#[test]
fn ten_thousand_routes_are_looked_at_in_no_time() {
    for (what, conditions, are) in MANY {
        let route = |n| format!("[route.r{n}]\nupstream = \"app\"\n{}\n", conditions(n));
        let mut all: String = (0..10_000).map(route).collect();
        all.push_str("[route.open]\nhosts = [\"open.x\"]\nupstream = \"app\"\npaths = [\"/*\"]\n[upstream.app]\n");
        all.push_str("servers = [\"127.0.0.1:1\"]\n[auth.keys]\nkind = \"api_key\"\n");
        let config = meant(&all);
        let began = Instant::now();
        let warnings = crate::unwise::warnings(&config);
        println!("{what}: {:?}", began.elapsed());
        // Some tenths of a second where nobody else works.
        assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        assert_eq!(!warnings.is_empty(), are, "{what}: {:?}", warnings.first());
    }
}
