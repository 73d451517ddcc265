//! Who is measured: each contender is a client of its own make.
//!
//! One that is a blocking stream in this process implements [`Wire`], and [`Shared`] where several threads
//! may use it at the same time, which some workloads ask for. One that is no such stream (an async runtime,
//! another language) brings a `start` of its own and answers [`io::ErrorKind::Unsupported`] to what it cannot
//! do; that is then skipped, with its words. Those that come after the second are peers: nothing is aimed at
//! for them, and they are compared like the second.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::args::Task;
use crate::go;
use crate::tls::client::{SecureSocket, StreamOwned};
use crate::tokio_peer;
use crate::workload::{self, Turn};

/// All that are measured unless something else is asked for, the reference first.
pub static ALL: [&Contender; 5] = [REFERENCE, MEASURED, TOKIO_CURRENT, TOKIO_MULTI, GO];

/// The reference, and what it is all about.
pub static WITHOUT_PEERS: [&Contender; 2] = [REFERENCE, MEASURED];

/// What the others are compared with.
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

/// What it is about is in its module.
pub static FLOOR: Contender =
    Contender { name: "floor", start: FLOOR_START, over_tls: None, role: Role::Bound };

#[cfg(target_os = "linux")]
const FLOOR_START: fn(&Task) -> io::Result<Turn> = workload::start::<crate::floor::Floor>;
#[cfg(not(target_os = "linux"))]
const FLOOR_START: fn(&Task) -> io::Result<Turn> =
    |_| Err(io::Error::new(io::ErrorKind::Unsupported, "the floor is known for Linux only"));

pub struct Contender {
    pub name: &'static str,
    /// Makes everything ready and returns what does one turn.
    pub start: fn(&Task) -> io::Result<Turn>,
    /// Who stands in for it where TLS is spoken.
    pub over_tls: Option<&'static Contender>,
    pub role: Role,
}

/// What a contender is measured for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// To compare the others with.
    Reference,
    /// The workloads' aims are its own.
    Judged,
    /// To be outrun.
    Peer,
    /// To show what is possible.
    Bound,
}

pub fn named(name: &str) -> Option<&'static Contender> {
    let in_plaintext = || ALL.into_iter().chain([&FLOOR]);
    let over_tls = in_plaintext().filter_map(|contender| contender.over_tls);
    let mut known = in_plaintext().chain(over_tls);
    known.find(|contender| contender.name == name)
}

/// A blocking connection whose methods take `&self`, as the workloads use it.
pub trait Wire: Sized + Send + 'static {
    /// An established connection with `TCP_NODELAY`, as is `sockeye`'s default.
    fn open(address: SocketAddr) -> io::Result<Self>;

    /// Connects and closes in the words of this contender's everyday user, without extra options.
    fn connect_and_close(address: SocketAddr) -> io::Result<()>;

    /// One call.
    fn read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// One call.
    fn write(&self, buf: &[u8]) -> io::Result<usize>;

    /// Bounds the reads that follow: by a deadline where the contender has them, else by a timeout.
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

/// One that several threads may use at the same time.
pub trait Shared: Wire + Sync {
    /// Ends the connection and with it another thread's blocked read.
    fn interrupt(&self) -> io::Result<()>;

    /// Ends another thread's blocked read by a deadline that is over, and leaves the connection as it is.
    fn expire(&self) -> io::Result<()>;
}

impl Wire for TcpStream {
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

impl Shared for TcpStream {
    fn interrupt(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Both)
    }

    fn expire(&self) -> io::Result<()> {
        let text = "a limit is looked at when a read begins";
        Err(io::Error::new(io::ErrorKind::Unsupported, text))
    }
}

impl Wire for sockeye::Socket {
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

impl Shared for sockeye::Socket {
    fn interrupt(&self) -> io::Result<()> {
        Ok(self.close()?)
    }

    fn expire(&self) -> io::Result<()> {
        self.set_read_deadline(Some(Instant::now()));
        Ok(())
    }
}
