//! Every pair of protocols: what a client speaks to the gateway, and what the gateway speaks to a server.
//!
//! Clients are `curl`. The server is a second gateway, which speaks all of them and passes everything to one origin; the
//! origin tells what it got. `tests/it/README.md` has the table of pairs.

use std::path::Path;
use std::process::Command;

use crate::support::origin::Seen;
use crate::support::secure::made;
use crate::support::world::free_port;
use crate::support::*;

/// What a client speaks, by options of `curl`, and the version that `curl` then reports.
const CLIENTS: [(&str, &[&str], &str); 4] = [
    ("http", &["--http1.1"], "1.1"),
    ("http", &["--http2-prior-knowledge"], "2"),
    ("https", &["--insecure", "--http1.1"], "1.1"),
    ("https", &["--insecure", "--http2"], "2"),
];

/// What the gateway speaks to a server.
const SERVERS: [&str; 4] = ["http1", "http2", "https1", "https2"];

/// Bytes of a body: more than any buffer on the way holds, and than the first window of HTTP/2.
const BODY: usize = 300_000;

/// A gateway that listens with and without TLS, and this configuration.
fn listening(secure_port: u16, config: &str) -> World {
    let mut world = World::prepare();
    let shown = made(&["a.example"]);
    world.write_as("a.crt", shown.cert.as_bytes());
    world.write_as("a.key", shown.key.as_bytes());
    world.boot(&format!(
        r#"
        [[listener]]
        address = "$LISTEN"
        h2c = true
        [[listener]]
        address = "127.0.0.1:{secure_port}"
        tls = {{ certificates = [{{ cert = "a.crt", key = "a.key" }}] }}
        {config}"#
    ));
    world
}

/// What the origin answers: what it got, and a body as long as that of the request.
fn told(seen: &Seen) -> Act {
    let proto = seen.header("x-forwarded-proto").unwrap_or_default();
    Act::body(&format!("{} {} {proto} {}", seen.method, seen.path, "x".repeat(seen.body.len())))
}

/// Version, status and body of an answer.
fn curl(options: &[&str], url: &str, body: Option<&Path>) -> (String, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_version} %{http_code}"]);
    if let Some(body) = body {
        command.arg("--data-binary").arg(format!("@{}", body.display()));
    }
    let output = command.args(options).arg(url).output().expect("curl is there: sudo apt-get install curl");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, summary) = text.rsplit_once('\n').unwrap_or_default();
    assert!(output.status.success(), "{url} {options:?}: {}", String::from_utf8_lossy(&output.stderr));
    (summary.to_owned(), body.to_owned())
}

#[test]
fn every_client_protocol_reaches_every_server_protocol() {
    let origin = Origin::start("a");
    origin.script(told);
    let (inner_port, outer_port) = (free_port(), free_port());
    let inner = listening(
        inner_port,
        &format!(
            r#"
    {}[route.all]
    upstream = "app"
    "#,
            fleet("app", &[&origin])
        ),
    );
    let mut config = String::new();
    for server in SERVERS {
        let (port, tls) = match server.starts_with("https") {
            true => (inner_port, "tls = { sni = \"a.example\", verify = false }"),
            false => (inner.port, ""),
        };
        config += &format!(
            r#"
            [upstream.{server}]
            servers = ["127.0.0.1:{port}"]
            http2 = {}
            {tls}
            [route.{server}]
            paths = ["/{server}/*"]
            strip_prefix = "/{server}"
            upstream = "{server}"
            "#,
            server.ends_with('2')
        );
    }
    let outer = listening(outer_port, &config);
    outer.write_as("body", &vec![b'x'; BODY]);
    for (scheme, options, version) in CLIENTS {
        let port = if scheme == "https" { outer_port } else { outer.port };
        for server in SERVERS {
            let url = format!("{scheme}://127.0.0.1:{port}/{server}/x");
            let summary = format!("{version} 200");
            // What the inner gateway says of its own client, which is not believed.
            let proto = server.trim_end_matches(['1', '2']);
            assert_eq!(curl(options, &url, None), (summary.clone(), format!("GET /x {proto} ")), "{url} {options:?}");
            let (got, body) = curl(options, &url, Some(&outer.path("body")));
            let begin = format!("POST /x {proto} ");
            assert!(got == summary && body.starts_with(&begin), "{url} {options:?}: {got} {:.60}", body);
            assert_eq!(body.len(), begin.len() + BODY, "{url} {options:?}");
        }
    }
}
