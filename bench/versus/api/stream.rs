//! The connections of the contenders that are blocking streams in this process.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

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
