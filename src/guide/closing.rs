//! How a socket ends: closing and aborting, errors and ends.
//!
//! # Closing
//!
//! | | what is written but unsent | the peer sees | blocked reads and writes | waits for |
//! |---|---|---|---|---|
//! | [`close()`](crate::Socket::close) | handed to the kernel, within the close timeout | (close_notify,) FIN | `Closed` | that hand-over |
//! | [`abort()`](crate::Socket::abort) | dropped | a reset | `Closed` | nothing |
//! | [`Writer::close()`](crate::Writer::close) | handed to the kernel | (close_notify,) FIN | reading goes on | that hand-over |
//! | the last handle dropped | as `close()`, in the background | (close_notify,) FIN | | nothing |
//! | close or abort while connecting | | the attempt or handshake ends at once | `Closed` | nothing |
//!
//! Bytes that nobody has read when a descriptor is closed make the kernel send a reset, which can
//! destroy what the peer has not read yet. So after its FIN this side goes on to drop what comes: what
//! is there already before `close` returns, the rest in the background, for at most 2 s and 1 MiB, and
//! for at most 1,024 sockets at a time. A process that exits takes that with it: end `main` with a
//! `close` of what matters.
//!
//! # Errors and ends
//!
//! `Ok(0)` from a read is the peer's clean end, never anything else. A reset is
//! [`Reset`](crate::ErrorKind::Reset), to readers, writers and `closed` alike, although the kernel tells
//! it only to whoever asks first. Every waiter gets the same error, and once a socket has failed every
//! call gives that failure. Limits that end one call only are
//! [retryable](crate::Error::is_retryable): nothing was taken, the call can be repeated.
