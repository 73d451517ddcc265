//! TLS from the start: trust, full duplex, the end of a TLS stream, and the limits on a server.
//!
//! A socket with [`SecureTransport::On`](crate::SecureTransport::On) makes the TLS handshake while it connects.
//! [`opened`](crate::Socket::opened) returns after the handshake. For an upgrade of a plaintext connection see
//! [STARTTLS](super::starttls).
//!
//! ```no_run
//! use std::io::{Read, Write};
//! use sockeye::{SecureTransport, SocketOptions, TlsOptions, connect_with};
//!
//! let options = SocketOptions::new()
//!     .secure_transport(SecureTransport::On)
//!     .tls(TlsOptions::new().alpn(["http/1.1"]));
//! let mut socket = connect_with("example.com:443", options)?;
//! let info = socket.opened()?;
//! println!("{:?}, ALPN {:?}", info.tls(), info.alpn());
//!
//! socket.write_all(b"GET / HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")?;
//! let mut page = Vec::new();
//! socket.read_to_end(&mut page)?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! [An example of the Workers chapter](super::from_workers#options-and-connection-info) does the same
//! with a local server.
//!
//! # Trust
//!
//! [`TlsOptions`](crate::TlsOptions) sets the trusted roots, the client certificate, the server name and the ALPN
//! protocols. By default the roots are Mozilla's, as the `webpki-roots` crate has them. [`Roots`](crate::Roots) selects
//! [those of the system](super::recipes#the-systems-roots) or only those that the program adds.
//!
//! The certificate must be valid for the host that was connected to, or for
//! [`server_name`](crate::TlsOptions::server_name). If the host is an IP address, the certificate must contain that IP
//! address. [`SocketInfo::tls`](crate::SocketInfo::tls) has the negotiated version, cipher suite and certificates.
//! Sockets with equal options resume each other's sessions.
//!
//! More checks can be added. Each can only refuse what the others accept:
//!
//! - [`add_crl_pem`](crate::TlsOptions::add_crl_pem) adds revocation lists. Every certificate must then be covered by one,
//!   unless [`revocation`](crate::TlsOptions::revocation) relaxes that.
//! - [`pin_spki_sha256`](crate::TlsOptions::pin_spki_sha256) demands one of several keys. The error of a wrong key states
//!   its hash. An attacker's key has one too, so compare it with what the server's owner says.
//! - [`add_verifier`](crate::TlsOptions::add_verifier) runs a check of the program. It may block, because it never runs on
//!   the event loop. It runs once the server has proven that it has the key.
//!
//! Relaxations have `danger` in their names. A server whose certificate no authority has signed needs none of them: see
//! [the certificate of one server](super::recipes#the-certificate-of-one-server).
//!
//! If TLS fails, the message says why, and often what to do. [`Error::tls_failure`](crate::Error::tls_failure) tells programs which kind
//! of failure it is.
//!
//! [`ech_config_list`](crate::TlsOptions::ech_config_list) hides the server name in the handshake. The
//! address and the lookup may still show it.
//!
//! # Full duplex
//!
//! Reads and writes do not wait for each other: one thread may block in a read for hours while another writes.
//!
//! A write is encrypted in pieces of at most 64 KiB. It accepts a piece as soon as rustls has encrypted it, whatever
//! the peer does. So a write that timed out has accepted nothing, and no part of it arrives.
//!
//! # The end of a TLS stream
//!
//! A TLS stream ends with close_notify (RFC 8446, section 6.1). Anyone on the network path can forge a FIN. So a FIN
//! without close_notify is [`Truncated`](crate::ErrorKind::Truncated), after all data that arrived before it.
//!
//! Some servers omit close_notify. If the protocol itself marks the end of a message, such as HTTP with a length, set
//! [`require_close_notify(false)`](crate::TlsOptions::require_close_notify). Then a FIN is a clean end too, unless it
//! cuts a record. This side always sends close_notify before its FIN.
//!
//! In TLS 1.3 the client's handshake can end before the server has checked the client's certificate. If the server
//! then refuses it, reads, writes and `closed` report the server's alert, and not the broken pipe that follows.
//!
//! # Records without data
//!
//! Session tickets and key updates are records without application data. They do not end a read, and the limits of the
//! read apply while they arrive.
//!
//! A peer may send at most 1,024 such records and tickets, and at most 1 MiB of them, without data in between. Beyond
//! that the connection ends with [`Tls`](crate::ErrorKind::Tls). Ordinary servers stay far below these limits, and
//! records that are spread over hours do not add up.
//!
//! # As the server
//!
//! [`SocketOptions::server_tls`](crate::SocketOptions::server_tls) makes a socket the TLS server, whichever end dialled.
//! So it serves accepted and adopted connections, and also a connection that "calls home" (RFC 8071).
//!
//! - An [`Identity`](crate::Identity) is a certificate chain with its key. An error about one names the certificate by
//!   its number.
//! - [`Identities`](crate::Identities) selects one by the name that the client asks for. A program that renews its
//!   certificates calls [`set_default`](crate::Identities::set_default) or [`insert`](crate::Identities::insert) while it
//!   runs. Handshakes that begin later use the new ones, and no connection is lost.
//! - [`client_auth`](crate::ServerTlsOptions::client_auth) asks for client certificates. A check of the program
//!   ([`add_client_verifier`](crate::ServerTlsOptions::add_client_verifier)) can refuse more. It may block, because it
//!   never runs on the event loop.
//! - A resumed session is not verified again. If the revocation lists change, make new options: they accept none of the
//!   earlier tickets.
//! - The [`connect_timeout`](crate::SocketOptions::connect_timeout) bounds the handshake, so a client that stalls costs a
//!   socket for that time, at most 16 KiB, and no thread.
//!
//! ---
//! Previous: [writing](super::writing). Next: [STARTTLS](super::starttls).
