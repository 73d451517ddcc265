//! The contenders. Each is a client with its own implementation.
//!
//! A contender that is a blocking stream in this process implements [`BenchStream`]. If several threads may use it at the
//! same time, it also implements [`SharedStream`], which some workloads need. Other contenders (an async runtime, another
//! language) have their own `start`. It returns [`io::ErrorKind::Unsupported`] with a reason for a workload that the
//! contender cannot do, and the report shows that as skipped. The contenders after the second are peers: no aims apply
//! to them, and they are compared in the same way as the second.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::args::ClientArgs;
use crate::go;
use crate::tls::client::{SecureSocket, StreamOwned};
use crate::tokio_peer;
use crate::workload::{self, Slice};

/// The contenders that are measured by default, the reference first.
pub static ALL: [&Contender; 5] = [REFERENCE, MEASURED, TOKIO_CURRENT, TOKIO_MULTI, GO];

/// The reference and `sockeye`.
pub static WITHOUT_PEERS: [&Contender; 2] = [REFERENCE, MEASURED];

/// The contender to which the others are compared.
pub static REFERENCE: &Contender = &Contender {
    name: "std",
    start: workload::start::<TcpStream>,
    over_tls: Some(SECURE_REFERENCE),
    role: Role::Reference,
};

static MEASURED: &Contender = &Contender {
    name: "sockeye",
    start: workload::start::<sockeye::Socket>,
    over_tls: Some(SECURE_MEASURED),
    role: Role::Judged,
};

static TOKIO_CURRENT: &Contender = &Contender {
    name: "tokio, one thread",
    start: tokio_peer::start_current,
    over_tls: Some(SECURE_TOKIO_CURRENT),
    role: Role::Peer,
};

static TOKIO_MULTI: &Contender = &Contender {
    name: "tokio, multi-thread",
    start: tokio_peer::start_multi,
    over_tls: Some(SECURE_TOKIO_MULTI),
    role: Role::Peer,
};

static GO: &Contender =
    &Contender { name: "Go", start: go::start, over_tls: Some(SECURE_GO), role: Role::Peer };

static SECURE_REFERENCE: &Contender = &Contender {
    name: "StreamOwned",
    start: workload::start_unshared::<StreamOwned>,
    over_tls: None,
    role: Role::Reference,
};

static SECURE_MEASURED: &Contender = &Contender {
    name: "sockeye over TLS",
    start: workload::start::<SecureSocket>,
    over_tls: None,
    role: Role::Judged,
};

static SECURE_TOKIO_CURRENT: &Contender = &Contender {
    name: "tokio-rustls, one thread",
    start: tokio_peer::start_current_over_tls,
    over_tls: None,
    role: Role::Peer,
};

static SECURE_TOKIO_MULTI: &Contender = &Contender {
    name: "tokio-rustls, multi-thread",
    start: tokio_peer::start_multi_over_tls,
    over_tls: None,
    role: Role::Peer,
};

static SECURE_GO: &Contender =
    &Contender { name: "Go over TLS", start: go::start, over_tls: None, role: Role::Peer };

/// Its module explains its purpose.
pub static FLOOR: Contender =
    Contender { name: "floor", start: FLOOR_START, over_tls: None, role: Role::Bound };

#[cfg(target_os = "linux")]
const FLOOR_START: fn(&ClientArgs) -> io::Result<Slice> = workload::start::<crate::floor::Floor>;
#[cfg(not(target_os = "linux"))]
const FLOOR_START: fn(&ClientArgs) -> io::Result<Slice> =
    |_| Err(io::Error::new(io::ErrorKind::Unsupported, "the floor is known for Linux only"));

pub struct Contender {
    pub name: &'static str,
    /// Prepares a client and returns the function that takes one turn.
    pub start: fn(&ClientArgs) -> io::Result<Slice>,
    /// The contender that takes its place in workloads over TLS.
    pub over_tls: Option<&'static Contender>,
    pub role: Role,
}

/// The purpose of measuring a contender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The others are compared to it.
    Reference,
    /// The workloads' aims apply to it.
    Judged,
    /// It is to be outrun.
    Peer,
    /// It shows the limit of what is possible.
    Bound,
}

pub fn named(name: &str) -> Option<&'static Contender> {
    let in_plaintext = || ALL.into_iter().chain([&FLOOR]);
    let over_tls = in_plaintext().filter_map(|contender| contender.over_tls);
    let mut known = in_plaintext().chain(over_tls);
    known.find(|contender| contender.name == name)
}

/// A blocking connection whose methods take `&self`, as the workloads use it.
pub trait BenchStream: Sized + Send + 'static {
    /// Returns an established connection with `TCP_NODELAY`, which is `sockeye`'s default.
    fn open(address: SocketAddr) -> io::Result<Self>;

    /// Connects and closes as a typical program would, without extra options.
    fn connect_and_close(address: SocketAddr) -> io::Result<()>;

    /// Makes one read call.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Makes one write call.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Limits later reads: by a deadline if the contender has deadlines, otherwise by a timeout.
    fn limit_reads(&self, limit: Duration) -> io::Result<()>;

    fn write_all(&self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let taken = self.write(buf)?;
            buf = &buf[taken..];
        }
        Ok(())
    }

    fn read_exact(&self, buf: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.read(&mut buf[filled..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => filled += more,
            }
        }
        Ok(())
    }
}

/// A connection that several threads may use at the same time.
pub trait SharedStream: BenchStream + Sync {
    /// Closes the connection, which ends another thread's blocked read.
    fn interrupt(&self) -> io::Result<()>;

    /// Ends another thread's blocked read by a deadline in the past. The connection stays open.
    fn expire(&self) -> io::Result<()>;
}

impl BenchStream for TcpStream {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        drop(TcpStream::connect(address)?);
        Ok(())
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, buf)
    }

    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

impl SharedStream for TcpStream {
    fn interrupt(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }

    fn expire(&self) -> io::Result<()> {
        let text = "a blocked read ignores a new limit";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

impl BenchStream for sockeye::Socket {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let socket = sockeye::connect(address)?;
        socket.opened()?;
        Ok(socket)
    }

    fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        let socket = sockeye::connect(address)?;
        socket.opened()?;
        socket.close()?;
        Ok(())
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Read::read(&mut &*self, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        Write::write(&mut &*self, buf)
    }

    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.set_read_deadline(Some(Instant::now() + limit));
        Ok(())
    }
}

impl SharedStream for sockeye::Socket {
    fn interrupt(&self) -> io::Result<()> {
        Ok(self.close()?)
    }

    fn expire(&self) -> io::Result<()> {
        self.set_read_deadline(Some(Instant::now()));
        Ok(())
    }
}
