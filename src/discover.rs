//! Servers by DNS name: repeats the look-up of each name, and applies changes to its upstream.
//!
//! A look-up that fails, or finds nothing, changes nothing: the last known addresses stay in use, and one log message
//! reports it until it works again. Answers come from the system's resolver, so `/etc/hosts` and search domains apply.
//! It does not show TTLs; `refresh` decides.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::runtime::snapshot::{Snapshot, Upstream};
use base::clock;

/// How long a new configuration waits for names without a known address.
const FIRST: Duration = Duration::from_secs(2);

/// Looks up all names without a known address concurrently; call it before a snapshot is served.
pub fn first(snapshot: &Snapshot, runtime: &Handle) {
    let unknown = snapshot.resolved().filter(|(upstream, ..)| upstream.pool().members().is_empty());
    let look_ups: Vec<_> = unknown
        .map(|(upstream, name, port, _)| {
            let (upstream, name) = (upstream.clone(), name.clone());
            runtime.spawn(async move {
                let found = tokio::time::timeout(FIRST, look_up(&name, port)).await.unwrap_or_default();
                match found.is_empty() {
                    true => log::warn!("upstream {}: {name} has no address yet", upstream.name),
                    false => drop(upstream.resolve(found, clock::now())),
                }
            })
        })
        .collect();
    for look_up in look_ups {
        let _ = runtime.block_on(look_up);
    }
}

/// Follows the names of a snapshot until it is dropped; `changed` is called after a pool has changed.
pub fn follow(snapshot: &Arc<Snapshot>, runtime: &Handle, changed: impl Fn() + Clone + Send + 'static) {
    for (upstream, name, port, refresh) in snapshot.resolved() {
        let (upstream, name, changed) = (Arc::downgrade(upstream), name.clone(), changed.clone());
        runtime.spawn(async move { follow_name(&upstream, &name, port, refresh, changed).await });
    }
}

async fn follow_name(upstream: &Weak<Upstream>, name: &str, port: u16, refresh: Duration, changed: impl Fn()) {
    let mut failing = false;
    loop {
        tokio::time::sleep(refresh).await;
        let found = look_up(name, port).await;
        let Some(upstream) = upstream.upgrade() else { return };
        if found.is_empty() != failing {
            failing = found.is_empty();
            match failing {
                true => log::warn!("upstream {}: {name} cannot be resolved, known addresses go on", upstream.name),
                false => log::info!("upstream {}: {name} resolves again", upstream.name),
            }
        }
        if !found.is_empty() && upstream.resolve(found, clock::now()) {
            log::info!("upstream {}: the addresses of {name} changed", upstream.name);
            changed();
        }
    }
}

async fn look_up(name: &str, port: u16) -> Vec<SocketAddr> {
    tokio::net::lookup_host((name, port)).await.map(Iterator::collect).unwrap_or_default()
}
