//! The byte stream of a client's connection: plain TCP, or TLS over it.
//!
//! The socket is shared, so that the sweeper can shut it down, and so that plain bytes before TLS can be read first. A
//! read that has emptied the socket says so, which spares the next read a system call.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A client's bytes.
#[derive(Debug)]
pub enum Transport {
    /// Plain TCP.
    Plain(Tcp),
    /// Under TLS.
    Tls(Box<TlsStream<Tcp>>),
}

impl Transport {
    /// The socket's file descriptor.
    pub fn fd(&self) -> RawFd {
        match self {
            Transport::Plain(tcp) => tcp.0.as_raw_fd(),
            Transport::Tls(tls) => tls.get_ref().0.0.as_raw_fd(),
        }
    }
}

macro_rules! either {
    ($self:expr, $transport:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Plain(tcp) => {
                let $transport = Pin::new(tcp);
                $call
            }
            Transport::Tls(tls) => {
                let $transport = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, it => it.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self, it => it.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self, it => it.poll_shutdown(cx))
    }
}

/// A shared socket.
#[derive(Clone, Debug)]
pub struct Tcp(pub Arc<TcpStream>);

impl AsyncRead for Tcp {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        poll_read(&self.0, cx, buf, usize::MAX)
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        poll_write(&self.0, cx, buf)
    }

    /// TLS has several records to write.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        poll_write_vectored(&self.0, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.0).shutdown(Shutdown::Write))
    }
}

/// Reads what is available, at most `max` bytes.
pub fn poll_read(stream: &TcpStream, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, max: usize) -> Poll<io::Result<()>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let (room, mut read) = (buf.remaining().min(max), 0);
        let tried = stream.try_io(Interest::READABLE, || {
            read = stream.try_read_buf(&mut (&mut *buf).limit(room))?;
            // A read that leaves room has emptied the socket: saying so now spares the next read a system call.
            if (1..room).contains(&read) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        match tried {
            _ if read > 0 => return Poll::Ready(Ok(())),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            tried => return Poll::Ready(tried),
        }
    }
}

/// Writes what fits of these parts: how many bytes, at least one.
pub fn poll_write_parts<W: AsyncWrite>(
    stream: Pin<&mut W>,
    cx: &mut Context<'_>,
    parts: [&[u8]; 3],
) -> Poll<io::Result<usize>> {
    let written = match parts {
        [one, [], []] | [[], one, []] | [[], [], one] => stream.poll_write(cx, one),
        _ => stream.poll_write_vectored(cx, &parts.map(IoSlice::new)),
    };
    match written {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        written => written,
    }
}

/// Writes what fits of several parts.
fn poll_write_vectored(stream: &TcpStream, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write_vectored(parts) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}

/// Writes what fits.
pub fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match stream.try_write(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
