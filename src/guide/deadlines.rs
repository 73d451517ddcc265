//! Timeouts and deadlines for reads and writes, and how to end a blocked one.
//!
//! A timeout bounds each call from its start. A deadline is an instant after which all calls of a direction time out.
//! The earlier of the two applies. Both can be changed while a call is blocked, and the new values then apply to it. A
//! deadline in the past wins over data that is ready. A thread that waits for another one to finish its read keeps its
//! own limits.
//!
//! A blocked call notices a change at once. There is one exception, on Linux: in the middle of a fast dialogue the
//! thread blocks in recv(2) itself, for 4 ms to 20 ms at most. During that time it may notice neither a new limit
//! nor a `close`. A thread does so only as long as no other thread has used the socket.
//! [`TcpOptions::blocking_receive`](crate::TcpOptions::blocking_receive) changes that.
//!
//! | What is limited | Set with | Default |
//! |---|---|---|
//! | lookup, attempts and handshake together | [`connect_timeout`](crate::SocketOptions::connect_timeout), [`connect_deadline`](crate::SocketOptions::connect_deadline) | 30 s |
//! | one wait for the connection, or for the end | [`opened_timeout`](crate::Socket::opened_timeout), [`closed_timeout`](crate::Socket::closed_timeout) | |
//! | each read, each write | [`set_read_timeout`](crate::Socket::set_read_timeout), [`set_write_timeout`](crate::Socket::set_write_timeout) | none |
//! | all reads, all writes | [`set_read_deadline`](crate::Socket::set_read_deadline), [`set_write_deadline`](crate::Socket::set_write_deadline), [`set_deadline`](crate::Socket::set_deadline) | none |
//! | a graceful close | [`close_timeout`](crate::SocketOptions::close_timeout) | 5 s |
//! | how long sent data may be unacknowledged | [`user_timeout`](crate::TcpOptions::user_timeout) | the system's |
//!
//! A timeout does not stop a peer that trickles bytes, because every read restarts it. A deadline does: it bounds the
//! whole reply.
//!
//! A read or write that timed out took nothing and can be repeated; its error is
//! [retryable](crate::Error::is_retryable). So a deadline in the past ends a blocked call and leaves the socket open.
//! [`close`](crate::Socket::close) would end the socket too:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::thread;
//! use std::time::Instant;
//!
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let port = listener.local_address().unwrap().port();
//! # let peer = thread::spawn(move || -> io::Result<()> {
//! #     let mut stream = listener.accept()?;
//! #     io::copy(&mut stream.clone(), &mut stream)?;
//! #     Ok(())
//! # });
//! let socket = sockeye::connect(("127.0.0.1", port))?; // an echo server
//! let mut reader = socket.reader();
//! let reading = thread::spawn(move || reader.read(&mut [0; 64]));
//!
//! socket.set_read_deadline(Some(Instant::now()));
//! let error = reading.join().unwrap().unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::TimedOut);
//!
//! socket.set_read_deadline(None);
//! socket.writer().write_all(b"still here")?;
//! let mut echo = [0; 10];
//! socket.reader().read_exact(&mut echo)?;
//! # assert_eq!(&echo, b"still here");
//! # drop(socket);
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If the reading thread sets deadlines itself, its next one replaces yours. The recipe for
//! [stopping a worker thread](super::recipes#stopping-a-worker-thread) avoids that.
//!
//! ---
//! Previous: [closing and errors](super::closing_and_errors). Next: [writing](super::writing).
