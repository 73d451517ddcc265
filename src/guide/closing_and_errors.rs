//! Closing, aborting, errors, and how to distinguish a clean end from a failure.
//!
//! # Closing
//!
//! | | accepted but unsent data is | the peer sees | blocked reads and writes | waits for |
//! |---|---|---|---|---|
//! | [`close()`](crate::Socket::close) | handed to the kernel, within the close timeout | (close_notify,) FIN |
//! `Closed` | that hand-over |
//! | [`abort()`](crate::Socket::abort) | dropped | RST | `Closed` | nothing |
//! | [`Writer::close()`](crate::Writer::close) | handed to the kernel | (close_notify,) FIN | reading continues | that
//! hand-over, within the write limits |
//! | [`Writer::abort()`](crate::Writer::abort) | dropped | RST | `Closed` | nothing |
//! | the last handle dropped | as `close()`, in the background | (close_notify,) FIN | | nothing |
//! | close or abort while connecting | | the attempt or handshake ends at once | `Closed` | nothing |
//! | `Writer::close()` while connecting | handed to the kernel | (close_notify,) FIN | reading continues | the
//! connection, and that hand-over |
//!
//! Any thread may call these, any number of times. If `close` ends a blocked write, that write returns the number of
//! bytes that were accepted. The peer receives exactly these bytes.
//!
//! If a descriptor is closed with unread bytes, the kernel sends a reset, which can destroy data that the peer has
//! not read yet. So this side keeps draining after its FIN. Bytes that have arrived are dropped before `close`
//! returns. The event loop drops the rest, for at most 2 s and 1 MiB a socket, and for at most 1,024 sockets at a
//! time. A process that exits takes the event loop with it: close important sockets before `main` ends.
//!
//! [`closed`](crate::Socket::closed) returns the first outcome, which never changes:
//!
//! - `Ok` after a clean end, after a `close` that handed everything over, and after a `close` that cancelled an
//!   attempt;
//! - [`TimedOut`](crate::ErrorKind::TimedOut) if the close timeout passed first, which resets the connection;
//! - [`Closed`](crate::ErrorKind::Closed) after an abort;
//! - the cause, if the connection failed before.
//!
//! # Idle connections in a pool
//!
//! A pool should not lend a connection that the peer has ended.
//! [`Socket::health`](crate::Socket::health) checks the connection without waiting and takes no data. It returns
//! [`Idle`](crate::Health::Idle) if the connection can be used. Discard a connection with
//! [`Unread`](crate::Health::Unread) data too: the next reply would not answer the next request. The peer may still
//! end a connection while a request is on its way, so repeat requests that may be sent twice. A recipe shows
//! [a pool](super::recipes#a-pool).
//!
//! # Errors and ends
//!
//! `Ok(0)` from a read is the peer's clean end. There are two exceptions: [reading was
//! cancelled](crate::Reader::cancel), or the buffer is empty.
//!
//! Readers, writers and `closed` all report a reset as [`Reset`](crate::ErrorKind::Reset), although the kernel reports
//! it only once. After a failure every later read, write and wait returns that failure. `close` returns `Ok`, because
//! nothing is left to close. A limit that ends one call is [retryable](crate::Error::is_retryable): the call took
//! nothing and can be repeated.
//!
//! | The connection | a read returns | a write returns | `closed` returns |
//! |---|---|---|---|
//! | could not be made | the cause | the cause | the cause |
//! | ended cleanly | `Ok(0)` | `Closed` | `Ok` |
//! | was reset | the data that the kernel still has, then `Reset` | `Reset` | `Reset` |
//! | was given up by the kernel | `Lost` | `Lost` | `Lost` |
//! | ended over TLS without close_notify | the data before it, then `Truncated` | `Truncated` | `Truncated` |
//! | failed in TLS | the data before it, then `Tls` | `Tls` | `Tls` |
//! | was closed here | `Closed` | `Closed` | `Ok` |
//! | was aborted here | `Closed` | `Closed` | `Closed` |
//! | was upgraded: the old socket | `Upgraded` | `Upgraded` | `Ok` |
//!
//! The `io::Error` of a read or write contains the crate's [`Error`](crate::Error).
//! [`Error::from_io`](crate::Error::from_io) returns it, with its [kind](crate::ErrorKind):
//!
//! ```
//! use std::io::{self, Read};
//! use sockeye::{Error, ErrorKind};
//!
//! fn explain(error: &io::Error) -> &'static str {
//!     match Error::from_io(error).map(Error::kind) {
//!         Some(ErrorKind::Resolve) if error.kind() == io::ErrorKind::NotFound => "there is no such host",
//!         Some(ErrorKind::Resolve) => "the name server does not answer",
//!         Some(ErrorKind::Connect) => "nothing answers there",
//!         Some(ErrorKind::Tls) => "the server cannot be trusted",
//!         Some(ErrorKind::Reset | ErrorKind::Lost | ErrorKind::Truncated) => "the connection broke",
//!         Some(ErrorKind::TimedOut) => "it took too long",
//!         Some(_) | None => "something else went wrong",
//!     }
//! }
//! # let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # unused.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let port = unused.local_addr()?.as_socket().unwrap().port();
//! let mut socket = sockeye::connect(("127.0.0.1", port))?; // a port without a listener
//! let error = socket.read(&mut [0; 64]).unwrap_err();
//! assert_eq!(explain(&error), "nothing answers there");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ---
//! Previous: [half-open sockets](super::half_open). Next: [deadlines](super::deadlines).
