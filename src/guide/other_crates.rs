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
//! "Shown by" names an example or a test of this repository that does it. The other rows are from the crates' sources,
//! as of November 2026, and were not tried here.
//!
//! | Crate | takes | way | shown by |
//! |---|---|---|---|
//! | `ureq` 3.5 | its traits `Connector` and `Transport` | feature `ureq-3` | `tests/ureq` |
//! | `tungstenite` 0.30: `client`, `accept` | `Read + Write` | as it is | example `websocket` |
//! | `tungstenite` 0.30: `client_tls` | also its trait `NoDelay` | feature `tungstenite-0_30` | `traits::tungstenite_switches_nodelay_of_a_socket` |
//! | `imap` 3.0.0-alpha.15: `Client::new` | `Read + Write` | as it is | example `imap_fetch` |
//! | `imap` 3.0.0-alpha.15: `idle` | also its trait `SetReadTimeout` | feature `imap-3` | `traits::imap_idles_over_a_socket_with_a_keepalive` |
//! | `r2d2` 0.8 | its trait `ManageConnection` | feature `r2d2-0_8` | `tests/r2d2` |
//! | `rustls` 0.23: `StreamOwned` | `Read + Write` | as it is | |
//! | `native-tls`, `openssl` | `Read + Write` | as it is | |
//! | `httparse`, `mqtt-protocol`, `postgres-protocol` | bytes | as it is | examples `http_get`, `mqtt_watch`, `postgres_query` |
//! | `redis` | a stream of its own, or its trait `ConnectionLike` | that trait over a socket, or a port forward | |
//! | `suppaftp` | a stream of `std`: `connect_with_stream` | detach | |
//! | `ldap3` (`sync`) | a stream of `std`: `set_std_stream` | detach | |
//! | `ssh2` | a descriptor: `set_tcp_stream` | detach | |
//! | `mysql`, `lettre`, `memcache`, `kafka`, `minreq`, `attohttpc`, `nats` | dial a stream of `std` | a port forward, or one line in a fork | |
//! | `postgres`, `mongodb` (`sync`), `rumqttc`, `reqwest` (`blocking`) | dial inside a runtime | a port forward | |
//! | `tiny_http`, `rouille` | a listener of `std`: `Server::from_listener` | a port forward in front | |
//! | `amiquip` | `Read + Write` and a trait of mio 0.6 | a port forward | |
//! | `zmq` | dials in C | a port forward | |
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
