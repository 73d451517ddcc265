//! The guide: the life of a socket, what its calls promise, and how the crate is built.
//!
//! | You ask | Chapter |
//! |---|---|
//! | What is a socket's life? | this page: [the life of a socket](#the-life-of-a-socket) |
//! | What becomes of a name, and how long can that take? | [`connecting`] |
//! | What happens when one direction has ended? | [`half_open`] |
//! | How does a socket end, and how do I tell an end from an error? | [`closing_and_errors`] |
//! | How do I limit a read or a write, and end one that waits? | [`deadlines`] |
//! | What has happened when `write` returns, and what when `flush` does? | [`writing`] |
//! | How is TLS set up, and what makes an upgrade safe? | [`tls`] |
//! | May strangers say where to connect to? How many sockets, and until when? | [`egress_and_ssrf`] |
//! | Which threads are there? What of `fork`, and of the end of the process? | [`threads_and_fork`] |
//!
//! The rest depends on where you come from, or where you want to go:
//!
//! - [`from_workers`] has every call and every example of the Workers `connect()` API, each beside the Rust that
//!   does the same.
//! - [`from_node_go_std`] says what Workers, Node, Go and `std` do in a case, what happens here, and which test shows
//!   it.
//! - [`inside`] tells how the crate is built, what was measured, and why it is so.
//! - [`proof`] says how it is proved, how to repeat that, and what it found.
//!
//! # The life of a socket
//!
//! ```text
//!   connect()                  opened() settles                 closed() settles
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
//! [`Socket::phase`](crate::Socket::phase) tells where it is; it only ever advances.
//!
//! - **Connecting**: the name is looked up and its addresses race (RFC 8305), and where the socket is TLS
//!   from the start the handshake is made, all within one
//!   [`connect_timeout`](crate::SocketOptions::connect_timeout). Reads and writes may be called already;
//!   they wait. [`Error::attempts`](crate::Error::attempts) keeps what each address said.
//! - **Upgrading**: where a socket begins that [`start_tls`](crate::Socket::start_tls) returned, until its
//!   handshake is done.
//! - **Open**: both directions work. One thread may read while another writes.
//! - **HalfClosed**: one direction has ended: [`Writer::close`](crate::Writer::close), or
//!   [`Reader::cancel`](crate::Reader::cancel), or the peer's end where
//!   [`allow_half_open`](crate::SocketOptions::allow_half_open) is set. The other goes on.
//! - **Closed**: [`Socket::closed`](crate::Socket::closed) has its answer, which never changes again.
//!
//! So a socket can be used from its first moment on. This asks a server that answers until it ends, as
//! gopher, finger and whois do; each call waits for what it needs, and the first one that can't have it says
//! why:
//!
//! ```
//! use std::io::{self, Read, Write};
//!
//! fn ask(server: &str, question: &str) -> io::Result<String> {
//!     let socket = sockeye::connect(server)?; // such as "gopher.floodgap.com:70"
//!     let mut writer = socket.writer();
//!     writer.write_all(question.as_bytes())?; // waits for the connection
//!     writer.close()?; // the server sees the end of the question
//!     let mut answer = String::new();
//!     socket.reader().read_to_string(&mut answer)?; // up to the end of the answer
//!     Ok(answer)
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?.to_string();
//! # let peer = std::thread::spawn(move || -> io::Result<String> {
//! #     let (mut stream, _) = listener.accept()?;
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
pub mod inside;
pub mod proof;
pub mod threads_and_fork;
pub mod tls;
pub mod writing;
