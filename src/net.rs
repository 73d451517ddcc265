//! Types with the names and methods of `std::net`: replace `use std::net::TcpStream` by `use sockeye::net::TcpStream`.
//!
//! Each is a [`Socket`] or a [`Listener`] underneath: any thread can end its calls, and all promises of these types hold.
//! [`TcpStream::socket`] and [`TcpListener::listener`] return it, for what `std` lacks. Streams of a [`Connector`] with
//! rules, over TLS or through a proxy become such streams by `TryFrom`.
//!
//! ```
//! use std::io::{Read, Write};
//! use sockeye::net::{Shutdown, TcpListener, TcpStream};
//!
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! client.write_all(b"hello")?;
//! client.shutdown(Shutdown::Write)?;
//!
//! let (mut server, from) = listener.accept()?;
//! assert_eq!(from, client.local_addr()?);
//! let mut greeting = String::new();
//! server.read_to_string(&mut greeting)?;
//! assert_eq!(greeting, "hello");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Differences to `std`
//!
//! These are intended:
//!
//! - Connecting: the addresses of a name race (RFC 8305), and the error names all of them. It takes 30 s at most, after
//!   the lookup. Port 0 is refused. A stream never connects to itself.
//! - `TCP_NODELAY` is on.
//! - Dropping the last clone closes gracefully, in the background, also if data is unread. The peer sees an end and no
//!   reset. A process that exits does not wait for that.
//! - A reset is reported by every later read and write. It never looks like an end.
//! - `shutdown(Read)` drops incoming data on every system, also data that has arrived before. `shutdown` fails with
//!   `NotConnected` on every system once the stream has ended, and returns after the data is with the kernel. So
//!   `shutdown(Write)` waits for a write that another thread is making; the write timeout limits that.
//! - `peer_addr` and `local_addr` keep working after the connection has ended. An IPv4 client of a listener on `[::]` has
//!   an IPv4 address.
//! - Clones share one descriptor, and cloning never fails. `into_raw_fd` does not exist: use [`Socket::detach`]. Nor do
//!   `from_raw_fd` and `FromRawFd`: convert a stream of `std`.
//! - The descriptor's own mode and timeouts belong to the crate. `set_nonblocking` and the timeouts apply to calls of
//!   these types only.
//! - In non-blocking mode, a call also fails with `WouldBlock` while another thread makes the same call on a clone.
//! - Timeouts are exact to about a millisecond. A timeout bounds the wait for the turn among several readers too.
//! - `take_error` returns the failure of the stream, once for each clone. A read or write does not consume it.
//! - `set_ttl` sets the hop limit of an IPv6 stream too, where `std` sets an option that has no effect.
//! - [`TcpListener::incoming`] ends when the listener is closed.
//! - If a connection begins with a PROXY header, `accept` waits for that, for at most the handshake timeout. It does so in
//!   non-blocking mode, too. On Windows, it waits for a TLS handshake likewise.
//! - A listener completes up to 4096 connections ahead of `accept`, instead of 128. Errors of clients never come out of
//!   `accept`, and without a descriptor it waits.
//! - An `io::Error` contains the crate's [`Error`], with the operating system's in its source. Its `raw_os_error` is
//!   `None`.
//! - Unstable methods, such as `set_linger`, are missing.

mod descriptor;
mod kind;
mod listener;
mod stream;

pub use std::net::Shutdown;

pub use self::listener::{Incoming, TcpListener};
pub use self::stream::TcpStream;

#[cfg(doc)]
use crate::{Connector, Error, Listener, Socket};
