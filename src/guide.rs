//! The guide: one chapter for each question, from connecting to closing.
//!
//! Read the chapters in this order, or open the one that answers your question. Each links to the next.
//!
//! 1. [`connecting`]: name lookup, the race of the addresses, the connect timeout, cancelling.
//! 2. [`half_open`]: one direction has ended, the other has not.
//! 3. [`closing_and_errors`]: closing, aborting, and how to distinguish a clean end from a failure.
//! 4. [`deadlines`]: limits on reads and writes, and how to end a blocked call.
//! 5. [`writing`]: what `write` and `flush` promise when they return.
//! 6. [`tls`]: trust, full duplex, close_notify, and the limits on a server.
//! 7. [`starttls`]: upgrading a plaintext connection, safe from injected plaintext.
//! 8. [`egress_and_ssrf`]: egress rules against SSRF, limits, scopes, shutdown.
//! 9. [`proxies`]: HTTP and SOCKS proxies, exceptions, and what egress rules can judge.
//! 10. [`serving`]: listeners, their limits, and an end that loses no client.
//! 11. [`many_sockets`]: thousands of sockets on one thread, calls that never wait, busy polling.
//! 12. [`unix_sockets`]: paths, permissions, the process at the other end, and what differs from TCP.
//! 13. [`threads_and_fork`]: threads, callbacks, descriptors, `fork`, process exit.
//! 14. [`recipes`]: a pool, reconnecting, one deadline, stopping a thread, system roots, a port probe.
//! 15. [`other_crates`]: how a socket gets into code that somebody else wrote.
//! 16. [`from_workers`]: every call and example of the Workers `connect()` API, in Rust.
//! 17. [`workers_differences`]: what differs from Workers and why, and the rules of the platform.
//! 18. [`from_node_go_std`]: what this crate adds, and how Workers, Node, Go and `std` behave in each case.
//!
//! `ARCHITECTURE.md` in the repository describes how the crate is built, and `TESTING.md` how it is tested.
//!
//! # The phases of a socket
//!
//! ```text
//!   connect()                  opened() returns                closed() returns
//!       |                             |                                |
//!   Connecting --------------------> Open ------> HalfClosed ------> Closed
//!       |                             ^ |   one direction ended        ^
//!       |                             | |                              |
//!       |            Upgrading -------+ +-- start_tls(): the old socket +
//!       |                |  the new socket                             |
//!       |                |                                             |
//!       +----------------+------ failed, timed out, closed or aborted -+
//! ```
//!
//! [`Socket::phase`](crate::Socket::phase) returns the current phase. It only ever advances.
//!
//! - **Connecting**: the name is looked up and its addresses race (RFC 8305). A socket that uses TLS from the start
//!   also makes its handshake. One [`connect_timeout`](crate::SocketOptions::connect_timeout) bounds all of this.
//!   Reads and writes wait. If connecting fails, [`Error::attempts`](crate::Error::attempts) has the error of each
//!   address.
//! - **Upgrading**: the socket that [`start_tls`](crate::Socket::start_tls) returned, until its handshake is done.
//! - **Open**: both directions work. One thread may read while another writes.
//! - **HalfClosed**: one direction has ended, and the other still works. The cause is
//!   [`Writer::close`](crate::Writer::close), [`Reader::cancel`](crate::Reader::cancel), or the peer's end if
//!   [`allow_half_open`](crate::SocketOptions::allow_half_open) is set.
//! - **Closed**: [`Socket::closed`](crate::Socket::closed) has its result, which never changes.
//!
//! A socket can be used at once. Every call waits for the phase that it needs. If the socket fails before, the call
//! returns the cause. This function speaks to servers that reply and then close, as those of gopher, finger and whois
//! do:
//!
//! ```
//! use std::io::{self, Read, Write};
//!
//! fn ask(server: &str, request: &str) -> io::Result<String> {
//!     let socket = sockeye::connect(server)?; // such as "gopher.floodgap.com:70"
//!     let mut writer = socket.writer();
//!     writer.write_all(request.as_bytes())?; // waits for the connection
//!     writer.close()?; // the server sees the end of the request
//!     let mut reply = String::new();
//!     socket.reader().read_to_string(&mut reply)?; // until the server closes
//!     Ok(reply)
//! }
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap().to_string();
//! # let peer = std::thread::spawn(move || -> io::Result<String> {
//! #     let mut stream = listener.accept()?;
//! #     let mut asked = String::new();
//! #     stream.read_to_string(&mut asked)?;
//! #     stream.write_all(b"iWelcome\r\n.\r\n")?;
//! #     Ok(asked)
//! # });
//! # assert_eq!(ask(&address, "/\r\n")?, "iWelcome\r\n.\r\n");
//! # assert_eq!(peer.join().unwrap()?, "/\r\n");
//! # Ok::<(), io::Error>(())
//! ```

pub mod closing_and_errors;
pub mod connecting;
pub mod deadlines;
pub mod egress_and_ssrf;
pub mod from_node_go_std;
pub mod from_workers;
pub mod half_open;
pub mod many_sockets;
pub mod other_crates;
pub mod proxies;
pub mod recipes;
pub mod serving;
pub mod starttls;
pub mod threads_and_fork;
pub mod tls;
pub mod unix_sockets;
pub mod workers_differences;
pub mod writing;
