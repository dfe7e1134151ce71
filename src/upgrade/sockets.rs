//! Listening sockets: taken over from the process before, or bound; all of them kept, to be passed on.
//!
//! A socket is known by its address as the configuration writes it, not by what it is for: an address that was the
//! admin's and is a listener's now keeps its socket and its queue of connections. Whoever accepts has a copy of his own,
//! so a socket is closed only once [`Sockets::close`] let go of the one that is kept here.

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
    /// Passed by the process before, and not asked for yet.
    inherited: HashMap<SocketAddr, TcpListener>,
}

impl Sockets {
    /// With those that the process before has passed. The runtime is any.
    pub fn new(runtime: Handle, inherited: Vec<(SocketAddr, OwnedFd)>) -> Sockets {
        let inherited = inherited.into_iter().map(|(address, socket)| (address, socket.into())).collect();
        Sockets { runtime, known: Mutex::new(Known { ours: HashMap::new(), inherited }) }
    }

    /// A copy of the socket of an address, which does not block; bound if there is none yet.
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

    /// Copies of all of them, to be passed on.
    pub fn all(&self) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let known = self.known.lock();
        known.ours.iter().map(|(address, socket)| Ok((*address, socket.try_clone()?.into()))).collect()
    }

    /// Addresses that were inherited, and nobody has asked for.
    pub fn unwanted(&self) -> Vec<SocketAddr> {
        self.known.lock().inherited.keys().copied().collect()
    }

    /// Lets go of those.
    pub fn close_unwanted(&self) {
        self.known.lock().inherited.clear();
    }

    /// Lets go of all of them: each closes with the last one who accepts.
    pub fn close(&self) {
        *self.known.lock() = Known::default();
    }
}
