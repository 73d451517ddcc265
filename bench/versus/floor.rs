//! A lower bound of the cost of a wait that another thread can end. It is `std::net` with a poll(2) on the socket and
//! a wake handle before every read, in a process with a second thread. No socket that waits like this can be faster.
//! The rest of `sockeye`'s cost is `sockeye`'s own.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fd::OwnedFd;

use crate::api::{BenchStream, SharedStream};

pub struct Floor {
    stream: TcpStream,
    wake: OwnedFd,
    deadline: OnceLock<Instant>,
}

impl BenchStream for Floor {
    fn open(address: SocketAddr) -> io::Result<Self> {
        have_a_second_thread();
        let stream = <TcpStream as BenchStream>::open(address)?;
        stream.set_nonblocking(true)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { stream, wake, deadline: OnceLock::new() })
    }

    fn connect_and_close(address: SocketAddr) -> io::Result<()> {
        have_a_second_thread();
        <TcpStream as BenchStream>::connect_and_close(address)
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let left = match self.deadline.get() {
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                Some(Timespec::try_from(left).map_err(io::Error::other)?)
            }
            None => None,
        };
        let mut descriptors =
            [PollFd::new(&self.stream, PollFlags::IN), PollFd::new(&self.wake, PollFlags::IN)];
        poll(&mut descriptors, left.as_ref())?;
        if !descriptors[1].revents().is_empty() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        BenchStream::read(&self.stream, buf)
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        loop {
            match BenchStream::write(&self.stream, buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None)?;
                }
                result => return result,
            }
        }
    }

    fn limit_reads(&self, limit: Duration) -> io::Result<()> {
        self.deadline.get_or_init(|| Instant::now() + limit);
        Ok(())
    }
}

impl SharedStream for Floor {
    fn interrupt(&self) -> io::Result<()> {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    fn expire(&self) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "its deadline is set once"))
    }
}

/// Starts a second thread. With it the kernel counts references to descriptors, and the C library makes its calls
/// cancellable.
fn have_a_second_thread() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            loop {
                thread::park();
            }
        });
    });
}
