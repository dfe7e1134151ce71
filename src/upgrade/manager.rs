//! Notifications to the service manager: ready, the main process, reloading, stopping (sd_notify(3)).
//!
//! `NOTIFY_SOCKET` names a Unix datagram socket, by a path or, after `@`, by an abstract name. Without the variable, or
//! without a receiver, nothing happens: a missing manager must not end a gateway. After a hand-over only the new
//! process sends: the manager would take the end of the old one for the service's.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use base::clock;

/// This process serves, and is the main one.
pub fn ready() {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    tell(&format!("READY=1\nMAINPID={pid}\nSTATUS=tollgate {version} serves"));
}

/// An upgrade has begun; [`ready`], sent by either process, ends it.
pub fn reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS=handing over to a new process", clock::monotonic_us()));
}

/// This process drains, and the service ends with it.
pub fn stopping() {
    tell("STOPPING=1\nSTATUS=draining");
}

fn tell(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = || {
        let bytes = name.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address)
    };
    if let Err(e) = told() {
        log::warn!("the service manager at {} could not be told: {e}", name.display());
    }
}
