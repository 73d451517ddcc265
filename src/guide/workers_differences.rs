//! Differences from Cloudflare Workers: what behaves in another way and why, and the rules of the platform.
//!
//! # Differences and reasons
//!
//! Everything that is not in this table works as in Workers. The second column is the observed behaviour of workerd,
//! the open runtime of Workers, in November 2026. If workerd differs from its documentation, this crate does what the
//! documentation promises. [The next chapter](super::from_node_go_std) names the tests.
//!
//! | | Workers | Here | Reason |
//! |---|---|---|---|
//! | the cause of a failure | one text for a refusal, a failed lookup and TLS; "internal error" after an upgrade | an [`ErrorKind`](crate::ErrorKind), and [`attempts`](crate::Error::attempts) | programs must decide what to do |
//! | calls that wait for a socket that fails | reads, writes and `opened` fail with different texts, or succeed | every call gets the same error | one failure has one cause |
//! | a read after a failed connection or a failed write | a clean end | the error | an error must never look like an end |
//! | port 0, an empty host, a host with a colon | fails later | [`InvalidAddress`](crate::ErrorKind::InvalidAddress) at once | they can never work |
//! | `{ hostname: "::1" }` without brackets | fails | works | with a separate port it is unambiguous |
//! | the length of an address | 255 bytes for host and port together | 255 bytes for the host | this is the limit of DNS |
//! | the remote address | the requested text | numeric, and [`requested`](crate::SocketInfo::requested) | only the numeric address names the peer |
//! | the time for connecting | unlimited | 30 s in total, or the [connect timeout](crate::SocketOptions::connect_timeout) | every wait needs a bound |
//! | `close` while connecting or in a handshake | waits, possibly forever | cancels the attempt at once | no call may block forever |
//! | `close` if the peer does not read | waits forever | ends at the [close timeout](crate::SocketOptions::close_timeout) | no call may block forever |
//! | `close` during a write | waits for the write; loses data after a pending `writer.close()` | the blocked write returns how much it accepted, and exactly that arrives | no write blocks or loses data |
//! | `close` with unread data | a reset | FIN, and incoming data is dropped | a reset can destroy data that the peer has not read |
//! | the peer ends, and no thread reads | not noticed | [`closed`](crate::Socket::closed) returns, and the write side closes | no connection outlives its peer |
//! | the last byte was read, and FIN follows | noticed by the next read | noticed without a read | nothing is left to read |
//! | both directions have ended | `closed` keeps waiting | `closed` returns `Ok` | the socket is closed |
//! | a reset while no call is pending | not noticed | `closed` returns [`Reset`](crate::ErrorKind::Reset) | the connection has ended |
//! | `closed` after a reset or a truncation | resolves | returns the cause | the documentation of Workers says so |
//! | `writer.abort()` | sends nothing | sends a reset, and `closed` returns | the peer should not wait forever |
//! | `reader.cancel()` | incoming data piles up and blocks the peer; its end is not noticed | incoming data is dropped, and the end is noticed | the peer should not block |
//! | a second `writer.close()` | fails | `Ok` | it is not a mistake |
//! | two reads at once | the second fails | each byte is read once, by one of them | readers take turns |
//! | close_notify on `close` or when the last handle is dropped | not sent | sent before FIN | the peer can distinguish an end from a truncation |
//! | FIN without close_notify, after an upgrade | a clean end | [`Truncated`](crate::ErrorKind::Truncated) | the same rule as for TLS from the start |
//! | an upgrade while a reader or writer exists, or a read is blocked | never completes | works; the old handles fail with [`Upgraded`](crate::ErrorKind::Upgraded) | there are no locks to release |
//! | unread plaintext at an upgrade | is passed to the handshake; bytes that look like an alert are dropped | [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext) | it may be injected |
//! | an upgrade of a failed, closed or half-closed socket | a socket whose `opened` never settles | fails at once | no call may block forever |
//! | an upgrade of a connection to an IPv6 address | always fails | works | brackets are not part of a name |
//! | `sni` and `alpn` | ignored | used; [`InvalidOptions`](crate::ErrorKind::InvalidOptions) without TLS | the WinterTC draft has them |
//! | the last handle is dropped | the connection stays until the request ends | the socket closes in the background | the program can no longer use it |
//!
//! Some features exist only for JavaScript, and this crate omits them: argument conversions, chunk types, stream locks,
//! `desiredSize`, unhandled rejections.
//!
//! # Rules of the platform
//!
//! - In Workers a socket belongs to the request that opened it. Here it belongs to its handles, on any thread. It may
//!   live in a `static` or a pool. A [scope](crate::Connector::scope) closes it with a piece of work.
//! - In Workers a write takes a `Uint8Array` or a view of one. Here it takes bytes.
//! - Ports 80 and 443 are not special, and a refused connection to them is an ordinary error.
//! - Inbound connections come from a [`Listener`](crate::Listener): see [serving](super::serving).
//! - Connections leave from an address of the machine. [`TcpOptions::bind`](crate::TcpOptions::bind) chooses it.
//!
//! # Denied addresses and limits
//!
//! The platform denies some addresses and ports, and limits the open connections of a request. Here the program
//! decides, and by default it may connect to everything. Use the platform's rules against
//! [SSRF](super::egress_and_ssrf), or to test how a program will behave on the platform:
//!
//! ```
//! use sockeye::{Connector, EgressRules, ErrorKind};
//!
//! let connector = Connector::builder()
//!     .egress(EgressRules::workers())
//!     .max_open_sockets(6)
//!     .wait_at_limit(true)
//!     .build()?;
//! let open = |address: &str| connector.connect(address).and_then(|socket| socket.opened());
//!
//! let error = open("localhost:80").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Denied);
//! assert!(error.to_string().contains("proxy request failed, cannot connect to the specified address"));
//!
//! let error = open("mail.example.com:25").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Denied);
//! assert!(error.to_string().contains("Connections to port 25 are prohibited"));
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! | Workers | Here |
//! |---|---|
//! | `proxy request failed, cannot connect to the specified address` | the same text after the reason: [`Denied`](crate::ErrorKind::Denied), with [`EgressRules::workers`](crate::EgressRules::workers) or [`public_only`](crate::EgressRules::public_only) |
//! | denies addresses of Cloudflare | [`EgressRules::workers`](crate::EgressRules::workers) has the published list |
//! | `Connections to port 25 are prohibited` | the same text after the reason: [`Denied`](crate::ErrorKind::Denied); [`allow_port(25)`](crate::EgressRules::allow_port) lifts it |
//! | `TCP Loop detected` | the same text: [`Loop`](crate::ErrorKind::Loop), for a [`Listener`](crate::Listener) of the program or an [`own_listener`](crate::EgressRules::own_listener), and always for a socket that is bound to the address that it dials |
//! | limits open connections; further ones wait | [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets), with [`wait_at_limit`](crate::ConnectorBuilder::wait_at_limit) |
//! | sockets end with the handler that opened them | [`Connector::scope`](crate::Connector::scope) |
//!
//! ```
//! use std::io::{self, Write};
//! use sockeye::Connector;
//!
//! /// Closes every socket that it opens when it returns, fails or panics.
//! fn handler(connector: &Connector, server: &str) -> io::Result<String> {
//!     connector.scope(|scope| {
//!         let mut socket = scope.connect(server)?;
//!         socket.write_all(b"/\r\n")?;
//!         socket.writer().close()?;
//!         io::read_to_string(socket)
//!     })
//! }
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap().to_string();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let mut stream = listener.accept()?;
//! #     io::copy(&mut stream.clone(), &mut io::sink())?;
//! #     stream.write_all(b"iWelcome\r\n.\r\n")
//! # });
//! # assert_eq!(handler(Connector::global(), &address)?, "iWelcome\r\n.\r\n");
//! # assert_eq!(Connector::global().open_sockets(), 0);
//! # peer.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! ---
//! Previous: [coming from Workers](super::from_workers). Next: [coming from Node, Go or `std`](super::from_node_go_std).
