//! For who knows the `connect()` of Cloudflare Workers: every call and every example of it, and the Rust that
//! does the same.
//!
//! What is a promise there is a call here that waits: `await socket.opened` is `socket.opened()?`. Where two
//! things go on at once there, two threads make them here, each with a handle of its own: a
//! [`Socket`](crate::Socket), a [`Reader`](crate::Reader) and a [`Writer`](crate::Writer) are cheap to clone,
//! and every method takes `&self`. The rest is as you know it, but for what is [different on
//! purpose](#what-is-different-and-why).
//!
//! # Every call
//!
//! | Workers | here |
//! |---|---|
//! | `connect(address)` | [`connect(address)?`](crate::connect) |
//! | `connect(address, options)` | [`connect_with(address, options)?`](crate::connect_with) |
//! | `{ hostname, port }` | [`(hostname, port)`, or a `SocketAddress`](crate::SocketAddress) |
//! | `secureTransport: "off"`, `"on"`, `"starttls"` | [`secure_transport(…)`](crate::SocketOptions::secure_transport) with a [`SecureTransport`](crate::SecureTransport) |
//! | `allowHalfOpen: true` | [`allow_half_open(true)`](crate::SocketOptions::allow_half_open) |
//! | `sni`, `alpn` (of the WinterTC draft) | [`server_name(…)`](crate::TlsOptions::server_name), [`alpn(…)`](crate::TlsOptions::alpn) of [`TlsOptions`](crate::TlsOptions) |
//! | `await socket.opened` | [`socket.opened()?`](crate::Socket::opened) |
//! | `info.remoteAddress` | [`info.remote_address()`](crate::SocketInfo::remote_address), and [`requested()`](crate::SocketInfo::requested) |
//! | `info.localAddress` | [`info.local_address()`](crate::SocketInfo::local_address) |
//! | `info.alpn` (draft) | [`info.alpn()`](crate::SocketInfo::alpn) |
//! | `await socket.closed` | [`socket.closed()?`](crate::Socket::closed) |
//! | `await socket.close()` | [`socket.close()?`](crate::Socket::close) |
//! | `socket.startTls()` | [`socket.start_tls()?`](crate::Socket::start_tls) |
//! | `socket.startTls({ expectedServerHostname })` | [`socket.start_tls_with(tls)?`](crate::Socket::start_tls_with) with a [`server_name`](crate::TlsOptions::server_name) |
//! | `socket.upgraded`, `socket.secureTransport` | [`socket.upgraded()`](crate::Socket::upgraded), [`socket.secure_transport()`](crate::Socket::secure_transport) |
//! | `socket.readable.getReader()` | [`socket.reader()`](crate::Socket::reader), as often as you like: there is no lock to release |
//! | `await reader.read()` | [`reader.read(&mut buffer)?`](std::io::Read::read); `Ok(0)` is `done: true` |
//! | `await reader.cancel()` | [`reader.cancel()`](crate::Reader::cancel) |
//! | `socket.writable.getWriter()` | [`socket.writer()`](crate::Socket::writer) |
//! | `await writer.write(bytes)` | [`writer.write_all(bytes)?`](std::io::Write::write_all) |
//! | `await writer.close()` | [`writer.close()?`](crate::Writer::close) |
//! | `await writer.abort()` | [`writer.abort()`](crate::Writer::abort) |
//! | `await readable.pipeTo(writable)` | [`io::copy(&mut reader, &mut writer)?`](std::io::copy), then `writer.close()?` |
//! | `Promise.race([promise, timeout])` | [`opened_timeout`](crate::Socket::opened_timeout), [`closed_timeout`](crate::Socket::closed_timeout), [deadlines](super::deadlines) |
//! | `try { … } catch (error) { … }` | [`Result`](crate::Result), with an [`ErrorKind`](crate::ErrorKind) to decide by |
//!
//! # A gopher client
//!
//! ```js
//! export default {
//!   async fetch(req) {
//!     const gopherAddr = { hostname: "gopher.floodgap.com", port: 70 };
//!     const url = new URL(req.url);
//!     try {
//!       const socket = connect(gopherAddr);
//!       const writer = socket.writable.getWriter();
//!       const encoder = new TextEncoder();
//!       const encoded = encoder.encode(url.pathname + "\r\n");
//!       await writer.write(encoded);
//!       await writer.close();
//!       return new Response(socket.readable, { headers: { "Content-Type": "text/plain" } });
//!     } catch (error) {
//!       return new Response("Socket connection failed: " + error, { status: 500 });
//!     }
//!   }
//! };
//! ```
//!
//! A request and a response are what your server has for them; here they are a path, and a status with a body
//! that can be read:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use sockeye::{Reader, SocketAddress, connect};
//!
//! fn fetch(gopher: &SocketAddress, path: &str) -> (u16, Box<dyn Read>) {
//!     match ask(gopher, path) {
//!         Ok(answer) => (200, Box::new(answer)),
//!         Err(error) => (500, Box::new(io::Cursor::new(format!("Socket connection failed: {error}")))),
//!     }
//! }
//!
//! fn ask(gopher: &SocketAddress, path: &str) -> io::Result<Reader> {
//!     let socket = connect(gopher)?;
//!     let mut writer = socket.writer();
//!     writer.write_all(format!("{path}\r\n").as_bytes())?;
//!     writer.close()?;
//!     Ok(socket.reader()) // which keeps the connection
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let peer = SocketAddress::from(listener.local_addr()?);
//! # let serving = std::thread::spawn(move || -> io::Result<String> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     let mut asked = String::new();
//! #     stream.read_to_string(&mut asked)?;
//! #     stream.write_all(b"iWelcome\r\n.\r\n")?;
//! #     Ok(asked)
//! # });
//! # let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let nobody = SocketAddress::from(nobody.local_addr()?.as_socket().unwrap());
//!
//! let (status, mut body) = fetch(&peer, "/"); // such as SocketAddress::new("gopher.floodgap.com", 70)?
//! let mut menu = String::new();
//! body.read_to_string(&mut menu)?;
//! # assert_eq!((status, menu.as_str()), (200, "iWelcome\r\n.\r\n"));
//! # assert_eq!(serving.join().unwrap()?, "/\r\n");
//! # let (status, mut body) = fetch(&nobody, "/");
//! # body.read_to_string(&mut menu)?;
//! # assert!(status == 500 && menu.contains("Socket connection failed: cannot connect to 127.0.0.1:"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Addresses
//!
//! ```js
//! connect({ hostname: "cloudflare.com", port: 5432 });
//! connect("cloudflare.com:5432");
//! ```
//!
//! [`connect`](crate::connect) takes the same, and numeric addresses of `std`. What can't be an address is
//! refused by it at once, here with a message that names the fault:
//!
//! ```
//! use std::net::SocketAddr;
//! use sockeye::{ErrorKind, SocketAddress, connect};
//!
//! let address = SocketAddress::new("cloudflare.com", 5432)?;
//! assert_eq!(address, "cloudflare.com:5432".parse()?);
//! assert_eq!(address, ("cloudflare.com", 5432).try_into()?);
//! assert_eq!((address.hostname(), address.port()), ("cloudflare.com", 5432));
//!
//! let numeric: SocketAddr = "[::1]:5432".parse()?;
//! assert_eq!(SocketAddress::from(numeric), SocketAddress::new("::1", 5432)?);
//!
//! let error = connect("https://cloudflare.com").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::InvalidAddress);
//! assert!(error.to_string().contains("scheme"), "{error}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Options, and what is known of a connection
//!
//! ```js
//! const socket = connect("example.com:443", { secureTransport: "on", allowHalfOpen: false });
//! const info = await socket.opened;
//! console.log(info.remoteAddress, info.localAddress);
//! ```
//!
//! ```
//! use sockeye::{SecureTransport, SocketOptions, connect_with};
//! # use std::io::{self, Read, Write};
//! # let key = rcgen::KeyPair::generate()?;
//! # let certificate = rcgen::CertificateParams::new([String::from("127.0.0.1")])?.self_signed(&key)?;
//! # let ring = rustls::crypto::ring::default_provider();
//! # let config = rustls::ServerConfig::builder_with_provider(ring.into())
//! #     .with_safe_default_protocol_versions()?
//! #     .with_no_client_auth()
//! #     .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into()?)?;
//! # let trusted = sockeye::TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! # let peer = std::thread::spawn(move || -> io::Result<usize> {
//! #     let (stream, _) = listener.accept()?;
//! #     let tls = rustls::ServerConnection::new(config.into()).map_err(io::Error::other)?;
//! #     rustls::StreamOwned::new(tls, stream).read(&mut [0]) // 0 where the client says that it ends
//! # });
//!
//! let options = SocketOptions::new().secure_transport(SecureTransport::On).allow_half_open(false);
//! # let options = options.tls(trusted);
//! let socket = connect_with(address, options)?; // such as "example.com:443"
//! let info = socket.opened()?; // the handshake is done
//! println!("{:?} {:?}", info.remote_address(), info.local_address());
//! println!("{} over {:?}", info.requested(), info.tls());
//! # assert!(info.tls().is_some() && info.local_address().is_some());
//! # assert_eq!(info.remote_address(), Some(address));
//! # assert_eq!("on".parse::<SecureTransport>()?, SecureTransport::On);
//! # socket.close()?;
//! # assert_eq!(peer.join().unwrap()?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The roots are those of Mozilla. [`TlsOptions`](crate::TlsOptions) adds others, a client's certificate, a
//! server name and protocols; [`SocketOptions`](crate::SocketOptions) also has the time limits, and
//! [`TcpOptions`](crate::TcpOptions) what concerns TCP.
//!
//! # Both sides at once
//!
//! ```js
//! const socket = connect("irc.example.com:6667");
//! const reading = (async () => {
//!   const reader = socket.readable.getReader();
//!   while (true) {
//!     const { value, done } = await reader.read();
//!     if (done) break;
//!     show(value);
//!   }
//! })();
//! const writer = socket.writable.getWriter();
//! await writer.write(encoder.encode("NICK salmon\r\n"));
//! await writer.close();
//! await reading;
//! await socket.closed;
//! ```
//!
//! A loop that waits is a thread. This works over TLS as well, and neither side waits for the other:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::thread;
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! # let peer = thread::spawn(move || -> io::Result<u64> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     io::copy(&mut stream.try_clone()?, &mut stream)
//! # });
//! # fn show(_: &[u8]) {}
//! let socket = sockeye::connect(address)?; // such as "irc.example.com:6667"
//! let mut reader = socket.reader();
//! let reading = thread::spawn(move || -> io::Result<()> {
//!     let mut buffer = [0; 4096];
//!     loop {
//!         match reader.read(&mut buffer)? {
//!             0 => return Ok(()),
//!             bytes => show(&buffer[..bytes]),
//!         }
//!     }
//! });
//! let mut writer = socket.writer();
//! writer.write_all(b"NICK salmon\r\n")?;
//! writer.close()?;
//! reading.join().expect("it does not panic")?;
//! socket.closed()?;
//! # assert_eq!(peer.join().unwrap()?, 13);
//! # assert_eq!(socket.stats().bytes_read, 13);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # StartTLS
//!
//! ```js
//! const address = { hostname: "example-postgres-db.com", port: 5432 };
//! const socket = connect(address, { secureTransport: "starttls" });
//! const secureSocket = socket.startTls();
//! ```
//!
//! ```
//! use std::io::{Read, Write};
//! use sockeye::{Error, ErrorKind, SecureTransport, SocketOptions, connect_with};
//! # use std::io;
//! # let key = rcgen::KeyPair::generate()?;
//! # let certificate = rcgen::CertificateParams::new([String::from("127.0.0.1")])?.self_signed(&key)?;
//! # let ring = rustls::crypto::ring::default_provider();
//! # let config = rustls::ServerConfig::builder_with_provider(ring.into())
//! #     .with_safe_default_protocol_versions()?
//! #     .with_no_client_auth()
//! #     .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into()?)?;
//! # let trusted = sockeye::TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     let mut request = [0; 8];
//! #     stream.read_exact(&mut request)?;
//! #     assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
//! #     stream.write_all(b"S")?;
//! #     let tls = rustls::ServerConnection::new(config.into()).map_err(io::Error::other)?;
//! #     assert_eq!(rustls::StreamOwned::new(tls, stream).read(&mut [0])?, 0);
//! #     Ok(())
//! # });
//!
//! let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
//! # let options = options.tls(trusted);
//! let socket = connect_with(address, options)?; // such as ("example-postgres-db.com", 5432)
//!
//! // What the protocol says before its upgrade; for PostgreSQL the SSLRequest, and S for yes.
//! socket.writer().write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
//! let mut answer = [0];
//! socket.reader().read_exact(&mut answer)?;
//! assert_eq!(&answer, b"S");
//!
//! let secure_socket = socket.start_tls()?;
//! secure_socket.opened()?; // the handshake is done
//!
//! // The old socket is of no use any more, and neither are its readers and writers.
//! assert!(socket.upgraded());
//! let error = socket.reader().read(&mut [0]).unwrap_err();
//! assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Upgraded);
//! // No socket is upgraded twice, and none that was TLS from its start.
//! assert_eq!(socket.start_tls().unwrap_err().kind(), ErrorKind::InvalidState);
//! assert_eq!(secure_socket.start_tls().unwrap_err().kind(), ErrorKind::InvalidState);
//! # secure_socket.close()?;
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! As there, `start_tls` may be called right after `connect_with`, and writes that are under way go before
//! it. Unlike there it refuses to go on where anything that the peer said is unread, since that
//! [may be injected](super::tls#upgrades-and-plaintext-that-was-injected).
//!
//! # Errors
//!
//! ```js
//! const connectionUrl = { hostname: "google.com", port: 80 };
//! export default {
//!   async fetch(req, env, ctx) {
//!     try {
//!       const socket = connect(connectionUrl);
//!       const writer = socket.writable.getWriter();
//!       const encoder = new TextEncoder();
//!       const encoded = encoder.encode("GET / HTTP/1.0\r\n\r\n");
//!       await writer.write(encoded);
//!       await writer.close();
//!       return new Response(socket.readable, { headers: { "Content-Type": "text/plain" } });
//!     } catch (error) {
//!       return new Response(`Socket connection failed: ${error}`, { status: 500 });
//!     }
//!   }
//! };
//! ```
//!
//! There an error that comes while the answer is read is too late for the `catch`. Whoever reads the answer
//! first has every failure in one place, and a kind to choose the status by:
//!
//! ```
//! use std::io::{self, Read, Write};
//! use sockeye::{Error, ErrorKind, SocketAddress, connect};
//!
//! fn fetch(server: &SocketAddress) -> (u16, String) {
//!     match get(server) {
//!         Ok(answer) => (200, answer),
//!         Err(error) => {
//!             let status = match Error::from_io(&error).map(Error::kind) {
//!                 Some(ErrorKind::TimedOut) => 504,
//!                 Some(ErrorKind::Connect | ErrorKind::Reset | ErrorKind::Lost) => 502,
//!                 Some(_) | None => 500,
//!             };
//!             (status, format!("Socket connection failed: {error}"))
//!         }
//!     }
//! }
//!
//! fn get(server: &SocketAddress) -> io::Result<String> {
//!     let socket = connect(server)?;
//!     let mut writer = socket.writer();
//!     writer.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
//!     writer.close()?;
//!     let mut answer = String::new();
//!     socket.reader().read_to_string(&mut answer)?;
//!     Ok(answer)
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let server = SocketAddress::from(listener.local_addr()?);
//! # let peer = std::thread::spawn(move || -> io::Result<String> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     let mut asked = String::new();
//! #     stream.read_to_string(&mut asked)?;
//! #     stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n")?;
//! #     drop(stream);
//! #     // Closed with something unread, the second one is reset.
//! #     let (mut stream, _) = listener.accept()?;
//! #     stream.read_exact(&mut [0])?;
//! #     Ok(asked)
//! # });
//! # assert_eq!(fetch(&server), (200, "HTTP/1.0 204 No Content\r\n\r\n".to_owned()));
//! # let (status, text) = fetch(&server);
//! # assert_eq!(status, 502, "{text}");
//! # assert_eq!(peer.join().unwrap()?, "GET / HTTP/1.0\r\n\r\n");
//! # let nobody = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # nobody.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let nobody = SocketAddress::from(nobody.local_addr()?.as_socket().unwrap());
//! # assert_eq!(fetch(&nobody).0, 502);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Closing
//!
//! ```js
//! const socket = connect({ hostname: "my-url.com", port: 70 });
//! const reader = socket.readable.getReader();
//! socket.close();
//! // After close() is called, you can no longer read from the readable side of the socket
//! const reader = socket.readable.getReader(); // This fails
//! ```
//!
//! To take a handle never fails here; what fails is its first read:
//!
//! ```
//! use std::io::Read;
//! use sockeye::{Error, ErrorKind, connect};
//!
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?;
//! let socket = connect(address)?; // such as ("my-url.com", 70)
//! let mut reader = socket.reader();
//! socket.close()?;
//!
//! for reader in [&mut reader, &mut socket.reader()] {
//!     let error = reader.read(&mut [0; 64]).unwrap_err();
//!     assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Closed);
//! }
//! socket.closed()?; // a clean end
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is different, and why
//!
//! What is not in this table is as there. "There" is what workerd, the open runtime of Workers, was seen to
//! do in November 2026. That is not always what its documentation promises: where the two differ, the promise
//! is kept here. [`compared`](super::from_node_go_std) names the tests.
//!
//! | | there | here | why |
//! |---|---|---|---|
//! | the cause of a failure | one text for a refusal, a look-up and TLS; "internal error" after an upgrade | an [`ErrorKind`](crate::ErrorKind), and [`attempts`](crate::Error::attempts) | a program has to decide what to do |
//! | who waits for a socket that fails | reads, writes and `opened` fail with different texts, or succeed | each gets the same error | one cause, one answer |
//! | a read after a failed connection, or after a write that failed | a clean end | the error | an error must never look like an end |
//! | port 0, an empty host, a host with a colon in it | fail later | [`InvalidAddress`](crate::ErrorKind::InvalidAddress) at once | they can never work |
//! | `{ hostname: "::1" }` without brackets | fails | works | beside a port it is plain what is meant |
//! | the length of an address | 255 for host and port together | 255 for the host | that is the limit of the name system |
//! | the remote address | the text that was asked for | numeric, and [`requested`](crate::SocketInfo::requested) | only so it says who answered |
//! | the time that connecting may take | has no limit | 30 s for all of it, or [as you set it](crate::SocketOptions::connect_timeout) | a wait needs a bound |
//! | `close` while connecting, or in a handshake | waits, perhaps for ever | cancels it at once | nobody may be stuck |
//! | `close` with a peer that doesn't read | waits for ever | gives up after the [close timeout](crate::SocketOptions::close_timeout) | nobody may be stuck |
//! | `close` with writes under way | waits for them; loses data behind a pending `writer.close()` | a blocked write tells how much was taken, and exactly that arrives | neither stuck nor lost |
//! | `close` with something unread | a reset | FIN, and what still comes is dropped | a reset can destroy what the peer has yet to read |
//! | the peer ends and nobody reads | is not noticed | [`closed`](crate::Socket::closed) settles, the write side closes | no connection stays behind |
//! | the last byte is read, and the end is behind it | is noticed by another read | is noticed | nothing is left to read |
//! | both directions have ended | `closed` goes on waiting | `closed` is `Ok` | it is closed |
//! | a reset while nothing is under way | is not noticed | `closed` is [`Reset`](crate::ErrorKind::Reset) | it is over |
//! | `closed` after a reset or a truncation | resolves | fails with the cause | so says the documentation |
//! | `writer.abort()` | sends nothing | sends a reset, and `closed` settles | the peer shouldn't wait for ever |
//! | `reader.cancel()` | what comes piles up, and blocks the peer; its end isn't noticed | what comes is dropped, the end is noticed | the peer shouldn't be stuck |
//! | a second `writer.close()` | fails | `Ok` | it is no mistake |
//! | two reads at once | the second is refused | each byte is read once, by one of them | handles share their side |
//! | close_notify on `close`, and when the handles are gone | isn't sent | is sent, then FIN | the peer can tell an end from a cut |
//! | FIN without close_notify, after an upgrade | a clean end | [`Truncated`](crate::ErrorKind::Truncated) | the rule of sockets that are TLS from the start |
//! | an upgrade with a reader or a writer taken, or a read waiting | never settles | works; the old handles fail with [`Upgraded`](crate::ErrorKind::Upgraded) | there is nothing to release |
//! | unread plaintext at an upgrade | is fed to the handshake; what looks like an alert is swallowed | [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext) | it may be injected |
//! | an upgrade of a socket that failed, closed or half-closed | a socket whose `opened` never settles | fails at once | nobody may be stuck |
//! | an upgrade of a connection to an IPv6 address | always fails | works | brackets are no part of a name |
//! | `sni` and `alpn` | are ignored | are used, and with `off` they are [`InvalidOptions`](crate::ErrorKind::InvalidOptions) | the draft has them |
//! | the last handle goes | the connection stays until the request ends | closes it in the background | whoever drops it is done with it |
//!
//! What makes sense in JavaScript only was left there: conversions of arguments, types of chunks, stream
//! locks, `desiredSize`, unhandled rejections.
//!
//! # What the platform has rules for
//!
//! - A socket there belongs to the request that made it. Here it belongs to whoever holds a handle, on any
//!   thread, for as long as it is held: a `static` is fine, and so is a pool, and a
//!   [scope](crate::Connector::scope) where it is to end with a piece of work.
//! - Writes there take `Uint8Array` and its views only; here they are bytes.
//! - Port 80 and 443 are ports like any other, and a refusal there is told like any other.
//! - Inbound connections are none of this crate's business: that is [`std::net::TcpListener`]'s.
//! - Connections leave from the machine's own addresses, among which
//!   [`TcpOptions::bind`](crate::TcpOptions::bind) chooses.
//!
//! # Addresses that are refused, and limits
//!
//! The platform refuses some addresses and ports, and bounds how many connections a request may have. Here
//! that is for the program to decide, and by default everything may be dialled. These are the platform's
//! rules, for a program that dials what [strangers name](super::egress_and_ssrf), or to see how one will fare there:
//!
//! ```
//! use sockeye::{Connector, EgressRules, ErrorKind};
//!
//! let connector = Connector::builder()
//!     .egress(EgressRules::workers())
//!     .max_open_sockets(6)
//!     .wait_at_limit(true)
//!     .build()?;
//! let told = |address: &str| connector.connect(address).and_then(|socket| socket.opened());
//!
//! let error = told("localhost:80").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Denied);
//! assert!(error.to_string().contains("proxy request failed, cannot connect to the specified address"));
//!
//! let error = told("mail.example.com:25").unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Denied);
//! assert!(error.to_string().contains("Connections to port 25 are prohibited"));
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! | there | here |
//! |---|---|
//! | `proxy request failed, cannot connect to the specified address` | what refuses it, then the same text: [`Denied`](crate::ErrorKind::Denied), under [`EgressRules::workers`](crate::EgressRules::workers) or [`public_only`](crate::EgressRules::public_only) |
//! | addresses of Cloudflare are blocked | [`EgressRules::workers`](crate::EgressRules::workers) has the published list |
//! | `Connections to port 25 are prohibited` | what refuses it, then the same text: [`Denied`](crate::ErrorKind::Denied); [`allow_port(25)`](crate::EgressRules::allow_port) lifts it |
//! | `TCP Loop detected` | the same text: [`Loop`](crate::ErrorKind::Loop), for an [`own_listener`](crate::EgressRules::own_listener), and in any case for a socket that is bound to the address that it dials |
//! | open connections are limited; more of them wait | [`max_open_sockets`](crate::ConnectorBuilder::max_open_sockets), with [`wait_at_limit`](crate::ConnectorBuilder::wait_at_limit) |
//! | sockets belong to the handler that made them, and end with it | [`Connector::scope`](crate::Connector::scope), where that is wanted |
//!
//! ```
//! use std::io::{self, Write};
//! use sockeye::Connector;
//!
//! /// Every socket that it opens is closed when it returns, also where it fails or panics.
//! fn handler(connector: &Connector, server: &str) -> io::Result<String> {
//!     connector.scope(|scope| {
//!         let mut socket = scope.connect(server)?;
//!         socket.write_all(b"/\r\n")?;
//!         socket.writer().close()?;
//!         io::read_to_string(socket)
//!     })
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let address = listener.local_addr()?.to_string();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     io::copy(&mut stream.try_clone()?, &mut io::sink())?;
//! #     stream.write_all(b"iWelcome\r\n.\r\n")
//! # });
//! # assert_eq!(handler(Connector::global(), &address)?, "iWelcome\r\n.\r\n");
//! # assert_eq!(Connector::global().open_sockets(), 0);
//! # peer.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
