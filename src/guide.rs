//! The guide: the life of a socket, what its calls promise, and how the crate is built.
//!
//! - this page: [the life of a socket](#the-life-of-a-socket)
//! - [`connecting`]: names, addresses and the one limit over all
//! - [`closing`]: closing and aborting, errors and ends
//! - [`deadlines`]: timeouts and deadlines of reads and writes
//! - [`writing`]: what `write` and `flush` promise
//! - [`tls`]: TLS from the start and by an upgrade
//! - [`threads`]: threads, fork and the end of the process
//! - [`inside`]: how the crate is built, and why so
//!
//! # The life of a socket
//!
//! ```text
//!   connect()                  opened() settles                       closed() settles
//!      |                             |                                       |
//!   Connecting  ------------------> Open  ---- one direction ended ---->  Closed
//!      |                            ^  |            HalfClosed               ^
//!      |   start_tls()             /   |                                     |
//!      |      |  the new socket   /    | start_tls(): the old socket         |
//!      |   Upgrading ------------'     +-------------------------------------+
//!      |      |                                                              |
//!      +------+ failed, timed out, closed -----------------------------------+
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
//! By default the peer's end closes the write side too, once all that the peer sent was read and a write
//! that is being made has ended. That happens without anyone reading when nothing is unread: the loop
//! looks for it once no one has read for 100 ms.

pub mod closing;
pub mod connecting;
pub mod deadlines;
pub mod inside;
pub mod threads;
pub mod tls;
pub mod writing;
