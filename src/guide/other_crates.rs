//! Other crates: how a socket gets into code that somebody else wrote.
//!
//! There are five ways. Try them in this order:
//!
//! 1. **As it is.** Code that is generic over [`Read`](std::io::Read) and [`Write`](std::io::Write) takes a
//!    [`Socket`](crate::Socket), over TLS too.
//! 2. **A feature.** Some crates want a trait of their own besides. A feature of this crate implements it.
//! 3. **One line.** Code that says `use std::net::TcpStream` takes [`net::TcpStream`](crate::net::TcpStream) instead.
//!    This is for your own code, and for a patch of somebody else's.
//! 4. **Detach.** Code that wants a stream of `std`, or its descriptor, takes the one of
//!    [`Socket::detach`](crate::Socket::detach). The connection is made under the rules of a connector, and then leaves
//!    this crate. That works in plaintext only.
//! 5. **A port forward.** Code that dials by itself dials a listener on loopback, and a [`tunnel`](crate::tunnel())
//!    leads to the target, over TLS if you want. That works with everything.
//!
//! # Synchronous crates
//!
//! Each row was tried in November 2026, with these versions. "Shown by" names a test or an example of this repository.
//! Those of `tests/crates` use real servers, except for `kafka`, `mongodb` and `amiquip`. Their peers are part of the
//! tests, and speak only the beginning of the protocol. "Its own tests" are those of the crate's package, over sockets:
//! with a changed import (and two lines more for `redis`), or through the adapter for `ureq`. They have the same results
//! as over `std`. `ci/suites` runs all of that.
//!
//! | Crate | takes | way | shown by |
//! |---|---|---|---|
//! | `ureq` 3.5 | its traits `Connector` and `Transport` | feature `ureq-3` | `tests/ureq`, its own tests |
//! | `tungstenite` 0.30: `client`, `accept` | `Read + Write` | as it is | example `websocket`, Autobahn's suite |
//! | `tungstenite` 0.30: `client_tls` | also its trait `NoDelay` | feature `tungstenite-0_30` | `traits::tungstenite_switches_nodelay_of_a_socket` |
//! | `imap` 3.0.0-alpha.15: `Client::new` | `Read + Write` | as it is | example `imap_fetch` |
//! | `imap` 3.0.0-alpha.15: `idle` | also its trait `SetReadTimeout` | feature `imap-3` | `traits::imap_idles_over_a_socket_with_a_keepalive` |
//! | `r2d2` 0.8 | its trait `ManageConnection` | feature `r2d2-0_8` | `tests/r2d2` |
//! | `rustls` 0.23: `StreamOwned` | `Read + Write` | as it is | `tests/crates`: `as_it_is` |
//! | `native-tls` 0.2, `openssl` 0.10 | `Read + Write` | as it is | `tests/crates`: `as_it_is` |
//! | `httparse` 1, `mqtt-protocol` 0.12, `postgres-protocol` 0.6 | bytes | as it is | examples `http_get`, `mqtt_watch`, `postgres_query` |
//! | `redis` 1.8: its trait `ConnectionLike` | bytes | that trait over a socket | `tests/crates`: `redis` |
//! | `redis` 1.8: `Client` | dials a stream of `std` | a port forward, or a changed import | `tests/crates`: `forwarded`, its own tests |
//! | `suppaftp` 12: `connect_with_stream` | a stream of `std` | detach, or a changed import | `tests/crates`: `detached`, its own tests |
//! | `ldap3` 0.12 (`sync`): `set_std_stream` | a stream of `std` | detach | `tests/crates`: `detached` |
//! | `ssh2` 0.9: `set_tcp_stream` | a descriptor | detach | `tests/crates`: `detached` |
//! | `memcache` 0.21, `attohttpc` 0.31 | dial a stream of `std` | a port forward, or a changed import | `tests/crates`: `forwarded`, their own tests |
//! | `mysql` 28, `lettre` 0.11, `kafka` 0.10, `minreq` 3, `nats` 0.26 | dial a stream of `std` | a port forward | `tests/crates`: `forwarded` |
//! | `postgres` 0.19, `mongodb` 3 (`sync`), `rumqttc` 0.25, `reqwest` 0.13 (`blocking`) | dial inside a runtime | a port forward | `tests/crates`: `forwarded` |
//! | `tiny_http` 0.12: `Server::from_listener` | a listener of `std` | a port forward in front, or a changed import | `tests/crates`: `in_front`, its own tests |
//! | `rouille` 3.6 | binds an address | a port forward in front | `tests/crates`: `in_front` |
//! | `amiquip` 0.4 | dials a stream of mio 0.6 | a port forward | `tests/crates`: `forwarded` |
//! | `zmq` 0.10 | dials in C | a port forward | `tests/crates`: `forwarded` |
//!
//! Some servers tell their clients which addresses to dial next, so the address of the forward has to be that of the
//! server for them: `advertised.listeners` of Kafka, and the passive mode of FTP. `mongodb` keeps to the forward with
//! `directConnection=true`, and `mysql` with `prefer_socket(false)`.
//!
//! # A port forward
//!
//! The example `forward` is a small program of this kind, such as stunnel or `ssh -L`, with TLS on either side. Within a
//! program it is a listener and a few lines:
//!
//! ```
//! use std::time::Duration;
//! use sockeye::{Connector, ListenOptions, SocketOptions, listen_with, tunnel};
//!
//! # let target = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let server = target.local_addr()?;
//! # let served = std::thread::spawn(move || -> std::io::Result<()> {
//! #     let (mut stream, _) = target.accept()?;
//! #     std::io::Write::write_all(&mut stream, b"ready")
//! # });
//! # let connector = Connector::global().clone();
//! # let options = SocketOptions::new();
//! let listener = listen_with("127.0.0.1:0", ListenOptions::new())?;
//! let local = listener.local_address().unwrap(); // the address to give to the other crate
//! let accepting = listener.clone();
//! let forwarding = std::thread::spawn(move || {
//!     accepting.serve(8, |client| {
//!         let Ok(server) = connector.connect_with(server, options.clone()) else {
//!             return client.abort(); // an end would be a complete, empty answer
//!         };
//!         // If one side fails, the other one is reset. Each of them says why.
//!         let _ = tunnel(&client, &server, Duration::from_secs(600));
//!     })
//! });
//! # let mut client = std::net::TcpStream::connect(local)?;
//! # let mut answer = String::new();
//! # std::io::Read::read_to_string(&mut client, &mut answer)?;
//! # assert_eq!(answer, "ready");
//! # drop(client);
//! // At the end:
//! let lost = listener.shutdown(Duration::from_secs(5));
//! forwarding.join().unwrap()?;
//! # assert_eq!(lost, 0);
//! # served.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Every process of the machine can connect to such a listener. On a machine with several users, let the target
//! authenticate the client, as over a network.
//!
//! If the other crate speaks TLS itself, forward its bytes as they are. It verifies the name that it dialled, so it needs
//! the real name for that: as a setting of its own, or by a hosts entry.
//!
//! ---
//! Previous: [recipes](super::recipes). Next: [coming from Workers](super::from_workers).
