//! Unix-domain sockets: databases, agents and services of the same machine, on a path.
//!
//! [`connect_unix`](crate::connect_unix) and [`listen_unix`](crate::listen_unix) return the same
//! [`Socket`](crate::Socket) and [`Listener`](crate::Listener) as their counterparts for TCP, with the same reads, writes,
//! deadlines and ends. A [`UnixAddress`](crate::UnixAddress) is a path, or a name in the abstract namespace of Linux.
//! These functions exist on Unix only.
//!
//! ```
//! # #[cfg(unix)] {
//! use std::io::{Read, Write};
//! use sockeye::{ListenOptions, SocketOptions, UnixAddress, connect_unix, listen_unix};
//!
//! # let folder = std::env::temp_dir().join(format!("sockeye-doc-guide-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("service.sock");
//! let address = UnixAddress::from_pathname(path)?; // such as "/run/service/service.sock"
//! let options = ListenOptions::new().replace_stale(true).unix_mode(0o660);
//! let listener = listen_unix(address.clone(), options)?;
//! # let closer = listener.clone();
//! # let client = std::thread::spawn(move || -> std::io::Result<String> {
//! let socket = connect_unix(address, SocketOptions::new())?;
//! socket.writer().write_all(b"hello")?;
//! socket.writer().close()?;
//! let mut answer = String::new();
//! socket.reader().read_to_string(&mut answer)?;
//! #     closer.close();
//! #     Ok(answer)
//! # });
//! # listener.serve(1, |socket| {
//! #     let _ = std::io::copy(&mut socket.reader(), &mut socket.writer());
//! # })?;
//! # assert_eq!(client.join().unwrap()?, "hello");
//! # std::fs::remove_dir(folder)?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Text never names a path
//!
//! No text that [`connect`](crate::connect) accepts stands for a Unix-domain address, and the address of an open socket
//! says `localhost` with port 0. So a program that connects to what strangers write cannot be led to
//! `/run/docker.sock`.
//!
//! Under [egress rules](crate::guide::egress_and_ssrf), such addresses are denied by default. As soon as a rule restricts
//! anything, even a single port, only what [`allow_unix`](crate::EgressRules::allow_unix) names may be dialled. Paths are
//! compared as they are written, component by component. A symbolic link below an allowed folder leads wherever it leads.
//!
//! # The process at the other end
//!
//! The kernel knows the process that connected, and the one that listens.
//! [`peer_credentials`](crate::SocketInfo::peer_credentials) returns its user, its group and, on Linux, its number at
//! the time of the connection. [`allow_uids`](crate::ListenOptions::allow_uids) has a listener accept only some users.
//!
//! The permissions of a path decide who may connect: on Linux those who may write to it.
//! [`unix_mode`](crate::ListenOptions::unix_mode) sets them before the socket listens. An abstract name has no
//! permissions, and any process may bind it first. There the credentials are the only check, on both sides.
//!
//! # Paths outlive their servers
//!
//! [`Listener::close`](crate::Listener::close) removes the path at once, even while clients still wait in the queue. A
//! process that ends without a close leaves the path behind, and it then refuses connections.
//! [`replace_stale`](crate::ListenOptions::replace_stale) replaces such a path, and nothing else: no file, no link, and no
//! socket that still answers. The check is not atomic, so start one server at a time. On systems other than Linux, a
//! server that is too busy to accept for 200 ms does not answer either.
//!
//! A listener that a service manager passed belongs to
//! [`Listener::adopt_unix`](crate::Listener::adopt_unix), which leaves the path alone.
//!
//! # What differs from TCP
//!
//! - **A full queue.** If the server accepts too slowly, Linux refuses a connection for the moment. The socket tries again
//!   after 1 ms, 2 ms, 4 ms and so on, at most 50 ms, within its
//!   [`connect_timeout`](crate::SocketOptions::connect_timeout). Other systems refuse for good.
//! - **No reset.** [`abort`](crate::Socket::abort) ends both directions at once, which the peer may take for a clean end.
//!   A protocol whose messages have lengths notices that; over TLS it is
//!   [`Truncated`](crate::ErrorKind::Truncated). Only if data that the peer sent was not read, Linux tells it so with
//!   `ECONNRESET`. That takes a close that ends the connection. So the peer sees an end if another thread is using the
//!   socket, if the program may have a duplicate of the descriptor, or if this process has a child. So a [`tunnel`](crate::tunnel) cannot pass a reset on to a plaintext
//!   Unix-domain socket: its peer takes what was cut off for complete.
//! - **A peer that closes** with unread data is reported as [`Reset`](crate::ErrorKind::Reset), as over TCP, by Linux. A
//!   peer that has read everything has ended cleanly.
//! - **A write after that** fails at once with `Reset`. Over TCP, the first write succeeds and its data is lost. Data that
//!   the peer sent before it closed can still be read, up to its clean end.
//! - **TLS** works, and a client needs a [`server_name`](crate::TlsOptions::server_name), because a path has none.
//! - [`TcpOptions`](crate::TcpOptions) other than buffer sizes have no meaning, and are an error if they are set.
