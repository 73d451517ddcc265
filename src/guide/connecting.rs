//! Connecting: name lookup, the race of the addresses, and one timeout over both.
//!
//! [`connect`](crate::connect) checks the address and the options, and returns a socket that is still connecting. It
//! fails itself if they can never work, if the egress rules deny the host or port, or at the limit of open sockets.
//! Everything else happens in the background. [`opened`](crate::Socket::opened) waits for the result, and so does the
//! first read or write.
//!
//! # The race of the addresses
//!
//! Addresses are dialled in the order of the resolver, with the address families interleaved (RFC 8305, section 4).
//! The next attempt starts 250 ms after the previous one, or at once if an attempt fails. Earlier attempts continue.
//! Beyond 8 under way, the oldest is given up. The first attempt that succeeds becomes the connection. The others are
//! closed before they have sent a byte. So a name with a dead IPv6 address costs 250 ms and not the whole timeout.
//!
//! If every address fails, the error lists [each attempt](crate::Error::attempts) with its own cause:
//!
//! ```
//! use std::net::IpAddr;
//! use sockeye::{Connector, ErrorKind};
//!
//! # let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # unused.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
//! # let port = unused.local_addr()?.as_socket().unwrap().port();
//! let hosts = |_: &str| Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])]);
//! let connector = Connector::builder().resolver(hosts).build()?;
//! let socket = connector.connect(("db.test", port))?; // a port without a listener
//!
//! let error = socket.opened().unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Connect);
//! for attempt in error.attempts() {
//!     println!("{}: {}", attempt.address(), attempt.error());
//! }
//! # assert_eq!(error.attempts().len(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program that already has the addresses passes them to
//! [`Connector::connect_addrs`](crate::Connector::connect_addrs). They race in the same way.
//!
//! If [`bind`](crate::TcpOptions::bind) names a local port, attempts run one after another. On loopback the kernel can
//! connect a socket to its own port. Such an attempt is repeated at most twice and then fails.
//!
//! # Failed lookups
//!
//! A failed lookup is [`Resolve`](crate::ErrorKind::Resolve). What the program can do about it depends on the cause:
//!
//! | Cause | `io::ErrorKind` of a read or write | [`is_transient`](crate::Error::is_transient) |
//! |---|---|---|
//! | the name does not exist, or has no address | `NotFound` | `false` |
//! | the name server does not answer, or fails | another | `true`: a new connect may succeed |
//! | unknown | another | `false` |
//!
//! If the process has no file descriptor left, the error is [`Io`](crate::ErrorKind::Io) and says nothing about the
//! name. With a [`Resolver`](crate::Resolver) of the program, the kind of the resolver's error decides.
//!
//! ```
//! use std::io;
//! use sockeye::{Connector, ErrorKind};
//!
//! let names = |name: &str| match name {
//!     "db.test" => Err(io::ErrorKind::TimedOut.into()), // as from a name server that is down
//!     _ => Err(io::ErrorKind::NotFound.into()),
//! };
//! let connector = Connector::builder().resolver(names).build()?;
//!
//! let error = connector.connect("db.test:5432")?.opened().unwrap_err();
//! assert!(error.kind() == ErrorKind::Resolve && error.is_transient());
//!
//! let error = connector.connect("dbb.test:5432")?.opened().unwrap_err();
//! assert!(error.kind() == ErrorKind::Resolve && !error.is_transient());
//! assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! # The connect timeout
//!
//! [`connect_timeout`](crate::SocketOptions::connect_timeout) bounds the lookup, all attempts and the TLS handshake
//! together. The default is 30 s. Two waits are part of it: the wait for a
//! [socket slot](crate::ConnectorBuilder::wait_at_limit), and the wait for
//! [other lookups](crate::ConnectorBuilder::max_lookups) of the connector. The error is
//! [`TimedOut`](crate::ErrorKind::TimedOut), and its [`step`](crate::Error::step) names the step that took too long.
//!
//! [`connect_deadline`](crate::SocketOptions::connect_deadline) sets an instant instead, for example one that several
//! connections share. The earlier of the two applies.
//!
//! A limit of one call ends only that call, and connecting continues. Such limits are
//! [`opened_timeout`](crate::Socket::opened_timeout) and the [limits of a read or write](super::deadlines).
//!
//! # Cancelling
//!
//! [`close`](crate::Socket::close) and [`abort`](crate::Socket::abort) end all attempts at once, from any thread. So
//! does dropping the last handle. Every blocked call then fails with [`Closed`](crate::ErrorKind::Closed). A lookup
//! cannot be stopped, but no call waits for it any longer. [`Writer::close`](crate::Writer::close) does not cancel. It
//! waits for the connection, as a write does.
//!
//! # The established connection
//!
//! [`SocketInfo`](crate::SocketInfo) describes the connection: both addresses in numeric form, the
//! [requested address](crate::SocketInfo::requested) as it was written, the TLS parameters, and
//! [how long](crate::SocketInfo::timings) each step took. If the unspecified address was dialled, which Linux connects
//! to loopback, the remote address is the loopback one.
//!
//! ---
//! Previous: [the front page](super). Next: [half-open sockets](super::half_open).
