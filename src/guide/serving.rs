//! Serving: listeners, their limits, and an end that loses as few clients as the system allows.
//!
//! [`listen`](crate::listen) returns a [`Listener`](crate::Listener). Its
//! [`accept`](crate::Listener::accept) returns a [`Socket`](crate::Socket) like any other, with the same reads, writes,
//! deadlines and ends. **An accepted socket is half-open by default:** the client's end makes reads return `Ok(0)`, and
//! writes still work. A client that sends its question and closes its write side gets its answer. So a handler must read
//! or set a deadline to notice that a client has gone. [`SocketOptions::allow_half_open`] sets the other behaviour.
//!
//! # A handler for each client
//!
//! [`serve`](crate::Listener::serve) runs a handler on a bounded number of threads. A socket ends with the call of its
//! handler, also if that panics. A connection is accepted only when a thread is free for it.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::time::Duration;
//! use sockeye::{ListenOptions, SocketOptions, listen_with};
//!
//! let socket = SocketOptions::new().read_timeout(Duration::from_secs(60));
//! let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(socket))?;
//! # let address = listener.local_address().unwrap();
//! # let closer = listener.clone();
//! # let client = std::thread::spawn(move || -> std::io::Result<String> {
//! #     let client = sockeye::connect(address)?;
//! #     client.writer().write_all(b"abc")?;
//! #     client.writer().close()?;
//! #     let mut answer = String::new();
//! #     client.reader().read_to_string(&mut answer)?;
//! #     closer.close();
//! #     Ok(answer)
//! # });
//! listener.serve(64, |socket| {
//!     let mut request = String::new();
//!     if socket.reader().read_to_string(&mut request).is_ok() {
//!         let _ = socket.writer().write_all(request.to_uppercase().as_bytes());
//!     }
//! })?; // returns after `listener.close()` on another thread
//! # assert_eq!(client.join().unwrap()?, "ABC");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A program with its own threads iterates over [`incoming`](crate::Listener::incoming), from as many threads as it
//! likes. Its items are sockets and not results, because no client's fault ends the loop.
//!
//! # Limits
//!
//! | | |
//! |---|---|
//! | [`max_open_sockets`](crate::ListenOptions::max_open_sockets) | accepted sockets that are open at once; further clients wait in the system's queue |
//! | [`wait_at_limit(false)`](crate::ListenOptions::wait_at_limit) | resets them instead |
//! | [`max_per_client`](crate::IngressRules::max_per_client) | open sockets of one IPv4 address or one IPv6 /64 |
//! | [`backlog`](crate::ListenOptions::backlog) | connections that the system completes ahead of `accept` |
//! | [`handshake_timeout`](crate::ListenOptions::handshake_timeout) | the time until a socket is open; cannot be disabled |
//! | [`max_pending`](crate::ListenOptions::max_pending) | connections that are opening or wait for an `accept`, with [`AcceptWhen::Opened`](crate::AcceptWhen::Opened) |
//!
//! If descriptors run out, `accept` neither spins nor fails. It gives up connections that only drain, and then tries again
//! after 10 ms up to 1 s, or as soon as this crate closes a descriptor. [`ListenerStats`](crate::ListenerStats) counts it.
//!
//! [`IngressRules`](crate::IngressRules) decide which clients may connect. They judge canonical addresses: a rule for
//! `10.0.0.0/8` also matches a client that a dual-stack listener gets as `::ffff:10.0.0.1`.
//!
//! # Behind a load balancer
//!
//! A load balancer that forwards TCP hides its clients, unless it sends a PROXY header before their data, as HAProxy
//! (`send-proxy`, `send-proxy-v2`), nginx (`proxy_protocol on`) and the clouds' balancers can. With
//! [`proxy_protocol_from`](crate::ListenOptions::proxy_protocol_from) a listener reads that header, of version 1 or 2:
//!
//! ```
//! use sockeye::{IngressRules, ListenOptions, listen_with};
//!
//! let options = ListenOptions::new()
//!     .proxy_protocol_from("10.0.0.0/24")?
//!     .ingress(IngressRules::allow_all().deny_net("192.0.2.0/24")?.max_per_client(50));
//! let listener = listen_with("127.0.0.1:0", options)?;
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! [`remote_address`](crate::SocketInfo::remote_address) is then the client's, and
//! [`proxy_address`](crate::SocketInfo::proxy_address) the balancer's. The ingress rules judge and count the client.
//! Connections from outside these nets are denied. Those from inside can name any client, so the nets should contain
//! balancers only.
//! Health checks of a balancer have no client, keep the balancer's address, and are exempt from the rules.
//!
//! The header is a part of opening the socket: the handshake timeout covers it, and a client that stalls in it delays no
//! other. A wrong header is an error of that socket alone, of the kind [`Proxy`](crate::ErrorKind::Proxy).
//!
//! # Sharing a connector
//!
//! A listener may [share a connector](crate::ListenOptions::connector). Then one limit applies to dialled and accepted
//! sockets, and one [`shutdown`](crate::Connector::shutdown) ends all. A program that dials for others should also
//! [deny its own listeners](crate::EgressRules::deny_own_listeners), so that no client makes it talk to itself.
//!
//! # Handshakes
//!
//! By default `accept` returns a socket before its TLS handshake. The handler's first call makes the handshake on the
//! handler's thread, in parallel with others. A failed handshake is an error of that socket alone. With
//! [`AcceptWhen::Opened`](crate::AcceptWhen::Opened) the event loop makes the handshakes, and `accept` returns open
//! sockets only. Use it if a silent client must not occupy a thread. The event loop is one thread, so this suits about
//! a thousand handshakes a second, with ECDSA certificates. While `max_pending` is reached, the connection that has been
//! opening the longest is reset once it is older than a second.
//!
//! # Closing without losing clients
//!
//! [`close`](crate::Listener::close) stops listening. Connections that were complete by then are still returned, at most
//! as many as the [`backlog`](crate::ListenOptions::backlog). Then every `accept` fails with
//! [`Closed`](crate::ErrorKind::Closed), and every iterator ends. Blocked threads end at once, with two exceptions. At
//! `max_open_sockets` they wait for slots, for at most the close timeout. With `AcceptWhen::Opened` they wait for
//! handshakes in progress. [`shutdown`](crate::Listener::shutdown) also closes the accepted sockets. When
//! [`closed`](crate::Listener::closed) returns, the address can be bound again.
//!
//! A client whose TCP handshake completes at the very end is reset, which no system can avoid. Two ways keep the clients
//! that wait in the queue at a restart:
//!
//! - The new process listens on the same port before the old one closes: set
//!   [`reuse_port`](crate::ListenOptions::reuse_port) in both. On Linux, connections that wait in the queue of the old
//!   listener are returned by its `close`. TCP handshakes in progress there are lost, unless the system migrates them
//!   (`net.ipv4.tcp_migrate_req`).
//! - A service manager owns the listener, and passes it to the old and to the new process. `close` leaves an adopted
//!   listener's queue alone, so the clients in it belong to the successor. Only this way loses no client.
//!
//! With the crate `listenfd`, which reads `LISTEN_FDS`, the second way is one line:
//!
//! ```
//! # struct ListenFd;
//! # impl ListenFd {
//! #     fn from_env() -> Self { ListenFd }
//! #     fn take_tcp_listener(&mut self, _: usize) -> std::io::Result<Option<std::net::TcpListener>> { Ok(None) }
//! # }
//! use sockeye::{Listener, listen};
//!
//! let listener = match ListenFd::from_env().take_tcp_listener(0)? {
//!     Some(passed) => Listener::try_from(passed)?,
//!     None => listen("127.0.0.1:0")?,
//! };
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Processes that fork
//!
//! In a forked child every call on the parent's listener that returns a `Result` fails with
//! [`InvalidState`](crate::ErrorKind::InvalidState). Counts are zero there, and the parent's listener stays as it is.
//! [`listen`](crate::listen) fails in such a child too. A pre-forking server binds a listener of `std`, forks, and
//! [adopts](crate::Listener::adopt) it in each child. The system passes each client to one of the children.
//!
//! [`SocketOptions::allow_half_open`]: crate::SocketOptions::allow_half_open
//!
//! ---
//! Previous: [proxies](super::proxies). Next: [many sockets](super::many_sockets).
