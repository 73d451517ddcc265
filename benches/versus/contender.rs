//! Who is measured: each contender is a client of its own make.
//!
//! One that is a blocking stream in this process implements [`Wire`], and [`Shared`] where several threads
//! may use it at the same time, which some workloads ask for. One that is no such stream (an async runtime,
//! another language) brings a `start` of its own and answers [`io::ErrorKind::Unsupported`] to what it cannot
//! do; that is then skipped, with its words.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::args::Task;
use crate::tls::client::{SecureSocket, StreamOwned};
use crate::workload::{self, Turn};

/// All that are measured unless something else is asked for, the reference first.
pub static ALL: [&Contender; 2] = [REFERENCE, MEASURED];

/// What the others are compared with.
pub static REFERENCE: &Contender = &Contender {
    name: "std",
    start: workload::start::<TcpStream>,
    over_tls: Some(SECURE_REFERENCE),
    is_judged: false,
};

static MEASURED: &Contender = &Contender {
    name: "sockeye",
    start: workload::start::<sockeye::Socket>,
    over_tls: Some(SECURE_MEASURED),
    is_judged: true,
};

static SECURE_REFERENCE: &Contender = &Contender {
    name: "StreamOwned",
    start: workload::start_unshared::<StreamOwned>,
    over_tls: None,
    is_judged: false,
};

static SECURE_MEASURED: &Contender = &Contender {
    name: "sockeye over TLS",
    start: workload::start::<SecureSocket>,
    over_tls: None,
    is_judged: true,
};

/// What it is about is in its module.
pub static FLOOR: Contender =
    Contender { name: "floor", start: FLOOR_START, over_tls: None, is_judged: false };

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
    /// Whether the workloads' aims are its own.
    pub is_judged: bool,
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
}
