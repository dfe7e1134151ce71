//! Tests of the supervisor against servers of their own, on ports that the kernel assigns.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::Instant as Start;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use balance::settings::{Balance, Outlier};
use balance::{Pool, Settings, Spec};
use base::units::Share;

/// A server that answers with a variable status; 0: not at all.
struct Backend {
    address: SocketAddr,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicUsize>,
    head: Arc<Mutex<String>>,
}

impl Backend {
    async fn start(status: u16) -> Backend {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Backend {
            address: listener.local_addr().unwrap(),
            status: Arc::new(AtomicU16::new(status)),
            asked: Arc::default(),
            head: Arc::default(),
        };
        let (status, asked, head) = (backend.status.clone(), backend.asked.clone(), backend.head.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (status, asked, head) = (status.clone(), asked.clone(), head.clone());
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let read = stream.read(&mut buffer).await.unwrap_or(0);
                    *head.lock() = String::from_utf8_lossy(&buffer[..read]).into_owned();
                    asked.fetch_add(1, SeqCst);
                    match status.load(SeqCst) {
                        0 => tokio::time::sleep(Duration::from_secs(60)).await,
                        // An answer whose body never ends: the head must be enough.
                        status => {
                            let answer = format!(
                                "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 {status} X\r\ncontent-length: 9\r\n\r\n"
                            );
                            let _ = stream.write_all(answer.as_bytes()).await;
                            tokio::time::sleep(Duration::from_secs(60)).await
                        }
                    }
                });
            }
        });
        backend
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn state() -> Arc<State> {
    let outlier = Outlier { consecutive_failures: 0, eject_for: Duration::from_secs(1), max_ejected: Share::ALL };
    let settings = Settings { balance: Balance::Random, slow_start: None, max_in_flight: None, outlier };
    let spec = Spec { address: ([127, 0, 0, 1], 1).into(), weight: 1, attached: () };
    Pool::new(settings, vec![spec], None, Nanos(0)).members()[0].state.clone()
}

fn supervisor() -> Supervisor {
    let start = Start::now();
    Supervisor::new(Handle::current(), Arc::new(move || Nanos(start.elapsed().as_nanos() as u64)))
}

fn target(address: SocketAddr, state: &Arc<State>, path: Option<&str>) -> ProbeTarget {
    let health = Health {
        path: path.map(str::to_owned),
        interval: Duration::from_millis(30),
        timeout: Duration::from_millis(500),
        unhealthy_after: 2,
        healthy_after: 2,
    };
    let peer = HttpPeer::new(address, false, String::new());
    ProbeTarget { upstream: "orders".into(), address, state: state.clone(), health, peer }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Start::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Start::now() < deadline, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_probes_follow_the_status() {
    let backend = Backend::start(204).await;
    let (supervisor, state) = (supervisor(), state());
    supervisor.sync(vec![target(backend.address, &state, Some("/up?deep=1"))]);
    until("it was probed", || backend.asked() > 2).await;
    assert!(state.healthy());
    let head = backend.head.lock().to_lowercase();
    assert!(head.starts_with("get /up?deep=1 http/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {}\r\n", backend.address)), "{head}");
    backend.status.store(500, SeqCst);
    until("a 500 makes it unhealthy", || !state.healthy()).await;
    backend.status.store(302, SeqCst);
    until("a 302 makes it healthy", || state.healthy()).await;
    backend.status.store(404, SeqCst);
    until("a 404 makes it unhealthy", || !state.healthy()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_times_out() {
    let backend = Backend::start(0).await;
    let (supervisor, state) = (supervisor(), state());
    let mut silent = target(backend.address, &state, Some("/"));
    silent.health.timeout = Duration::from_millis(50);
    supervisor.sync(vec![silent]);
    until("it is unhealthy", || !state.healthy()).await;
    assert!(backend.asked() >= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_probes_follow_the_port() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (supervisor, state) = (supervisor(), state());
    supervisor.sync(vec![target(address, &state, None)]);
    listener.accept().await.unwrap();
    assert!(state.healthy());
    drop(listener);
    until("nobody listens", || !state.healthy()).await;
    // Unchanged by a `sync` that changes nothing but the peer.
    supervisor.sync(vec![target(address, &state, None)]);
    assert!(!state.healthy());
    supervisor.sync(vec![]);
    assert!(supervisor.is_empty());
    until("nobody probes, so it is healthy", || state.healthy()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constant_syncing_neither_starts_again_nor_starves() {
    let backend = Backend::start(503).await;
    let (supervisor, state) = (supervisor(), state());
    let start = Start::now();
    let mut rounds = 0;
    while state.healthy() {
        assert!(start.elapsed() < Duration::from_secs(10), "no probe got through {rounds} syncs");
        let mut again = target(backend.address, &state, Some("/"));
        again.health.interval = Duration::from_millis(200 + rounds % 7);
        supervisor.sync(vec![again]);
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(supervisor.len(), 1);
    assert!(backend.asked() <= 4, "{} probes: tasks were doubled", backend.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_came_back_with_a_new_state_is_a_new_target() {
    let backend = Backend::start(500).await;
    let (supervisor, old, new) = (supervisor(), state(), state());
    supervisor.sync(vec![target(backend.address, &old, Some("/"))]);
    until("the old one is unhealthy", || !old.healthy()).await;
    supervisor.sync(vec![target(backend.address, &new, Some("/"))]);
    until("the new one is unhealthy", || !new.healthy()).await;
    until("the old one is let go", || old.healthy()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_interval_counts_at_once() {
    let backend = Backend::start(200).await;
    let (supervisor, state) = (supervisor(), state());
    let mut slow = target(backend.address, &state, Some("/"));
    slow.health.interval = Duration::from_secs(3_600);
    supervisor.sync(vec![slow]);
    until("the first probe, which does not wait an hour", || backend.asked() == 1).await;
    supervisor.sync(vec![target(backend.address, &state, Some("/"))]);
    until("the next ones", || backend.asked() > 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_upstream_is_probed_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (status, asked) = (Arc::new(AtomicU16::new(200)), Arc::new(Mutex::new(Vec::new())));
    let (answer, seen) = (status.clone(), asked.clone());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, seen) = (answer.clone(), seen.clone());
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut asked = 0;
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    asked += 1;
                    assert!(!request.headers().contains_key("host"), "strict servers refuse it beside :authority");
                    seen.lock().push((asked, request.uri().to_string()));
                    let head = http::Response::builder().status(answer.load(SeqCst)).body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                }
            });
        }
    });
    let (supervisor, state) = (supervisor(), state());
    let mut over_h2 = target(address, &state, Some("/up"));
    over_h2.peer.options.set_http_version(2, 2);
    supervisor.sync(vec![over_h2]);
    until("it was probed", || asked.lock().len() > 3).await;
    assert!(state.healthy());
    let uri = format!("http://{address}/up");
    assert!(asked.lock().iter().all(|seen| *seen == (1, uri.clone())), "a connection each: {:?}", asked.lock());
    status.store(503, SeqCst);
    until("a 503 makes it unhealthy", || !state.healthy()).await;
}
