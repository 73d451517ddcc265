//! Connecting: what becomes of a name, and the one limit over all.
//!
//! [`connect`](crate::connect) checks what can be checked without asking anyone, the address and the options,
//! and returns. What follows happens in the background: nobody has to wait for it, and whoever wants to may
//! do so in [`opened`](crate::Socket::opened), or in a read or a write.
//!
//! Addresses are dialled in the resolver's order with the families taking turns: the next attempt
//! begins 250 ms after the last, or at once when one fails, and an older one goes on beside it. The first
//! to succeed is the connection; the others are closed without having sent a byte. So a name whose IPv6
//! address is dead costs a quarter of a second and not the whole time limit, and the error of a name that
//! no address of answers keeps [each attempt](crate::Error::attempts) with its own cause:
//!
//! ```
//! use std::net::IpAddr;
//! use sockeye::{Connector, ErrorKind};
//!
//! # let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # nobody.bind(&std::net::SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
//! # let port = nobody.local_addr()?.as_socket().unwrap().port();
//! let hosts = |_: &str| Ok(vec![IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])]);
//! let connector = Connector::builder().resolver(hosts).build()?;
//! let socket = connector.connect(("db.test", port))?; // a port on which nobody listens
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
//! A program that knows the addresses itself gives them to
//! [`Connector::connect_addrs`](crate::Connector::connect_addrs): they race as those of a name do.
//!
//! With a prescribed [local port](crate::TcpOptions::bind) attempts run one after another. A connection that
//! by chance came back to the socket's own port is no connection; it is dialled again, twice at most.
//!
//! **A lookup that fails** gives [`Resolve`](crate::ErrorKind::Resolve). Only if it is known that there is no such
//! name, or no address of it, the [`io::Error`](std::io::Error) of a read or write is `NotFound`. If the name server
//! is silent or fails itself, the error is [transient](crate::Error::is_transient): a new connect may succeed. A
//! process that has no descriptor left hears [`Io`](crate::ErrorKind::Io), which says nothing of the name. A
//! [`Resolver`](crate::Resolver) of the program decides by the kinds of its errors.
//!
//! ```
//! use std::io;
//! use sockeye::{Connector, ErrorKind};
//!
//! let names = |name: &str| match name {
//!     "db.test" => Err(io::ErrorKind::TimedOut.into()), // from the name server, say
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
//! **The limit** is [`connect_timeout`](crate::SocketOptions::connect_timeout), 30 s unless told otherwise.
//! It covers the lookup, the attempts and the handshake together, and its error says which it struck. The wait for
//! other lookups, if the connector runs [as many as it may](crate::ConnectorBuilder::max_lookups), is a part of it.
//! For several connections in turn there is a deadline,
//! [`connect_deadline`](crate::SocketOptions::connect_deadline): the earlier of the two counts.
//! What only waits has limits of its own, which end the wait and not the attempt:
//! [`opened_timeout`](crate::Socket::opened_timeout), and the [limits](super::deadlines) of the read or the
//! write that waits.
//!
//! **To give up** is [`close`](crate::Socket::close) or [`abort`](crate::Socket::abort), from any thread, or
//! the last handle's drop: the attempts end at once, and every wait with
//! [`Closed`](crate::ErrorKind::Closed).
//! [`Writer::close`](crate::Writer::close) does not give up. It waits for the connection, as a write does.
//!
//! **What was reached** is in [`SocketInfo`](crate::SocketInfo): both ends as numeric addresses (also if the
//! unspecified address was dialled, which Linux takes for the loopback one), what was
//! [asked for](crate::SocketInfo::requested), as it was written, and [how long](crate::SocketInfo::timings)
//! each step took.
