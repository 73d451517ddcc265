//! How a socket ends: closing and aborting, errors and ends.
//!
//! # Closing
//!
//! | | what is written but unsent | the peer sees | blocked reads and writes | waits for |
//! |---|---|---|---|---|
//! | [`close()`](crate::Socket::close) | handed to the kernel, within the close timeout | (close_notify,) FIN | `Closed` | that hand-over |
//! | [`abort()`](crate::Socket::abort) | dropped | a reset | `Closed` | nothing |
//! | [`Writer::close()`](crate::Writer::close) | handed to the kernel | (close_notify,) FIN | reading goes on | that hand-over, within the write limits |
//! | [`Writer::abort()`](crate::Writer::abort) | dropped | a reset | `Closed` | nothing |
//! | the last handle dropped | as `close()`, in the background | (close_notify,) FIN | | nothing |
//! | close or abort while connecting | | the attempt or handshake ends at once | `Closed` | nothing |
//! | `Writer::close()` while connecting | handed to the kernel | (close_notify,) FIN | reading goes on | the connection, and that hand-over |
//!
//! Each may be called from any thread and any number of times. A write that `close` ends while it is blocked
//! first tells how much of it was taken, and exactly that is delivered.
//!
//! Bytes that nobody has read when a descriptor is closed make the kernel send a reset, which can
//! destroy what the peer has not read yet. So after its FIN this side goes on to drop what comes: what
//! is there already before `close` returns, the rest in the background, for at most 2 s and 1 MiB, and
//! for at most 1,024 sockets at a time. A process that exits takes that with it: end `main` with a
//! `close` of what matters.
//!
//! What [`closed`](crate::Socket::closed) says afterwards is the first outcome, and that stays: `Ok` after a
//! clean end, after a `close` that handed everything over, and after one that cancelled an attempt;
//! [`TimedOut`](crate::ErrorKind::TimedOut) where the close timeout passed first, which resets the
//! connection; [`Closed`](crate::ErrorKind::Closed) after an abort; the cause where the connection failed
//! before.
//!
//! # Kept for later
//!
//! A pool should not lend a connection that the peer has ended meanwhile.
//! [`Socket::health`](crate::Socket::health) looks at the wire, without waiting and without taking data, and says
//! whether it is still [`Idle`](crate::Health::Idle). Its documentation has a pool of twenty lines.
//! Where something is [`Unread`](crate::Health::Unread) that nobody asked for, the next answer would not be the one
//! to the next question: such a connection is not to be used again either. And since the peer may end a
//! connection while a request is on its way, a request that may be sent twice still wants to be.
//!
//! # Errors and ends
//!
//! `Ok(0)` from a read is the peer's clean end, never anything else. A reset is
//! [`Reset`](crate::ErrorKind::Reset), to readers, writers and `closed` alike, although the kernel tells
//! it only to whoever asks first. Every waiter gets the same error, and once a socket has failed every later
//! read, write and wait gives that failure; `close` gives `Ok`, as there is nothing left to close. Limits
//! that end one call only are [retryable](crate::Error::is_retryable): nothing was taken, the call can be
//! repeated.
//!
//! (One `Ok(0)` says something else, to whoever asked for it: that [reading was
//! cancelled](crate::Reader::cancel). And a buffer without room reads nothing, at once.)
//!
//! | The connection | a read gives | a write gives | `closed` gives |
//! |---|---|---|---|
//! | couldn't be made | why | why | why |
//! | ended cleanly | `Ok(0)` | `Closed` | `Ok` |
//! | was reset | what came before and is still there, then `Reset` | `Reset` | `Reset` |
//! | has a peer that the system gave up | `Lost` | `Lost` | `Lost` |
//! | ended over TLS without close_notify | what came before, then `Truncated` | `Truncated` | `Truncated` |
//! | failed in TLS | what came before, then `Tls` | `Tls` | `Tls` |
//! | was closed here | `Closed` | `Closed` | `Ok` |
//! | was aborted here | `Closed` | `Closed` | `Closed` |
//! | was upgraded: the old socket | `Upgraded` | `Upgraded` | `Ok` |
//!
//! Reads and writes carry the [`Error`](crate::Error) within their `io::Error`;
//! [`Error::from_io`](crate::Error::from_io) gives it back, with its [kind](crate::ErrorKind):
//!
//! ```
//! use std::io::{self, Read};
//! use sockeye::{Error, ErrorKind};
//!
//! fn explain(error: &io::Error) -> &'static str {
//!     match Error::from_io(error).map(Error::kind) {
//!         Some(ErrorKind::Resolve) => "there is no such host",
//!         Some(ErrorKind::Connect) => "nobody answers there",
//!         Some(ErrorKind::Tls) => "the server can't prove who it is",
//!         Some(ErrorKind::Reset | ErrorKind::Lost | ErrorKind::Truncated) => "the connection broke",
//!         Some(ErrorKind::TimedOut) => "it took too long",
//!         Some(_) | None => "something else went wrong",
//!     }
//! }
//! # let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let port = nobody.local_addr()?.as_socket().unwrap().port();
//! let mut socket = sockeye::connect(("127.0.0.1", port))?; // where nobody listens
//! let error = socket.read(&mut [0; 64]).unwrap_err();
//! assert_eq!(explain(&error), "nobody answers there");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
