//! The floor of `scripts/bench`: a Pingora proxy that does nothing but proxy.
//!
//! It exists so that Tollgate's cost can be told as a ratio to what the library under it costs by itself. It has the
//! profile, the allocator, the threads and the pool of the gateway, and nothing else: peers are built once and cloned
//! per request, the next one is picked by a counter, and there are no timeouts, no log, no metrics and no retries.
//!
//! `cargo build --release --bench bare` builds it under the very profile that the gateway is shipped with
//! (`[profile.release]`; `bench`, which `cargo bench` would use, only inherits from it).
//!
//! Not covered: TLS, HTTP/2, graceful shutdown (it is ended by a signal and keeps nothing).

use std::process::exit;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use clap::{ArgAction, Parser};
use pingora::prelude::{HttpPeer, ProxyHttp, Result, Server, Session};
use pingora::server::configuration::ServerConf;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Proxies every request to the next one of its upstreams, and does nothing else.
#[derive(Parser)]
#[command(name = "bare")]
struct Arguments {
    /// Where to listen, as HOST:PORT.
    listen: Option<String>,
    /// The servers behind, each HOST:PORT; taken in turn.
    upstreams: Vec<std::net::SocketAddr>,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Idle upstream connections that are kept, per thread.
    #[arg(long, default_value_t = 128)]
    pool: usize,
    /// What `cargo bench` passes to every bench; there is nothing to measure without a load.
    #[arg(long, hide = true, action = ArgAction::SetTrue)]
    bench: bool,
}

struct Bare {
    peers: Vec<HttpPeer>,
    turn: AtomicUsize,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(self.peers[turn % self.peers.len()].clone()))
    }
}

fn main() {
    let arguments = Arguments::parse();
    let Some(listen) = arguments.listen else {
        println!("bare: the floor of scripts/bench, which starts it with a listen address and upstreams");
        exit(if arguments.bench { 0 } else { 2 });
    };
    if arguments.upstreams.is_empty() || arguments.threads == 0 {
        eprintln!("bare: give at least one upstream after the listen address, and at least one thread");
        exit(2);
    }
    let conf = ServerConf {
        threads: arguments.threads,
        upstream_keepalive_pool_size: arguments.pool,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let bare = Bare {
        peers: arguments.upstreams.iter().map(|address| HttpPeer::new(address, false, String::new())).collect(),
        turn: AtomicUsize::new(0),
    };
    let mut service = pingora::proxy::http_proxy_service(&server.configuration, bare);
    service.add_tcp(&listen);
    server.add_service(service);
    server.run_forever();
}
