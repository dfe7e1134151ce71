//! Listening sockets: taken over from the old process, or bound; all of them kept for passing on.
//!
//! A socket is known by its address as the configuration writes it, not by its purpose: if the admin's address becomes
//! a listener's, it keeps its socket and its queue of connections. Every acceptor has a copy of its own, so a socket
//! closes only after [`Sockets::close`] has dropped the one that is kept here.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use base::socket;

/// The listening sockets of the process.
#[derive(Debug)]
pub struct Sockets {
    runtime: Handle,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    ours: HashMap<SocketAddr, TcpListener>,
    /// Passed by the old process, and not used yet.
    inherited: HashMap<SocketAddr, TcpListener>,
}

impl Sockets {
    /// With the sockets that the old process passed. Any runtime will do.
    pub fn new(runtime: Handle, inherited: Vec<(SocketAddr, OwnedFd)>) -> Sockets {
        let inherited = inherited.into_iter().map(|(address, socket)| (address, socket.into())).collect();
        Sockets { runtime, known: Mutex::new(Known { ours: HashMap::new(), inherited }) }
    }

    /// A non-blocking copy of the socket of an address, which is bound if it is new.
    pub fn listen(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let mut known = self.known.lock();
        if let Some(socket) = known.ours.get(&address) {
            return socket.try_clone();
        }
        let socket = match known.inherited.remove(&address) {
            Some(socket) => socket,
            None => {
                let _entered = self.runtime.enter();
                socket::listen(address)?.into_std()?
            }
        };
        socket.set_nonblocking(true)?;
        let copy = socket.try_clone()?;
        known.ours.insert(address, socket);
        Ok(copy)
    }

    /// The same, for use in the runtime around the caller.
    pub fn listen_here(&self, address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.listen(address)?)
    }

    /// Copies of all of them, for passing on.
    pub fn all(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let known = self.known.lock();
        known.ours.iter().map(|(address, socket)| Ok((*address, socket.try_clone()?.into()))).collect()
    }

    /// Inherited addresses that nothing uses.
    pub fn unwanted(&self) -> Vec<SocketAddr> {
        self.known.lock().inherited.keys().copied().collect()
    }

    /// Closes those.
    pub fn close_unwanted(&self) {
        self.known.lock().inherited.clear();
    }

    /// Drops all of them: each closes with its last acceptor.
    pub fn close(&self) {
        *self.known.lock() = Known::default();
    }
}
