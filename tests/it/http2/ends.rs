//! Where streams end: at a length of nothing, and with their client.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use http::Request;

use super::{LISTENER, ROUTE, connect, run, text};
use crate::support::*;

#[test]
fn a_length_of_nothing_is_no_body_wherever_its_stream_ends() {
    let origin = Origin::start("a");
    origin.script(|seen| Act::body(&format!("{} {}", seen.method, seen.body.len())));
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let port = world.port;
    run(async move {
        let mut client = connect(port).await;
        for method in ["GET", "POST"] {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let request = Request::builder().method(method).uri("http://a.example/").header("content-length", "0");
            let (answer, mut stream) = client.send_request(request.body(()).unwrap(), false).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200, "{method}");
            assert_eq!(text(answer).await, format!("{method} 0"));
            let _ = stream.send_data(Bytes::new(), true);
        }
    });
}

#[test]
fn a_client_that_closes_its_connection_leaves_nothing_behind() {
    let origin = Origin::start("a");
    origin.does(Act::hang());
    let world = World::start(&format!("{LISTENER}{}{ROUTE}", fleet("app", &[&origin])));
    let (port, hits) = (world.port, &origin);
    run(async move {
        let mut client = connect(port).await;
        let mut asked = Vec::new();
        for (path, method) in [("/get", "GET"), ("/post", "POST")] {
            poll_fn(|cx| client.poll_ready(cx)).await.unwrap();
            let request = Request::builder().method(method).uri(format!("http://a.example{path}")).body(()).unwrap();
            let (answer, mut stream) = client.send_request(request, method == "GET").unwrap();
            if method == "POST" {
                stream.send_data(Bytes::from_static(b"whole"), true).unwrap();
            }
            asked.push(answer);
        }
        while hits.hits() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    // The runtime is gone, and its connection with it.
    for path in ["/get", "/post"] {
        let line = world.log_line(path);
        assert_eq!((line["status"].as_u64(), line["attempts"].as_u64()), (Some(499), Some(1)), "{line}");
    }
    let upstreams = world.admin(get("/api/v1/upstreams")).json();
    assert_eq!(upstreams[0]["servers"][0]["in_flight"], 0, "{upstreams}");
}
