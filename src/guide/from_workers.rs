//! Coming from Cloudflare Workers: every call and example of `connect()`, in Rust.
//!
//! A promise in Workers is a blocking call here: `await socket.opened` is `socket.opened()?`. Two loops that run
//! concurrently in Workers are two threads here. Each thread has a handle of its own: [`Socket`](crate::Socket),
//! [`Reader`](crate::Reader) and [`Writer`](crate::Writer) are cheap to clone, and every method takes `&self`.
//! Everything else works as in Workers, except for [deliberate differences](#differences-and-reasons).
//!
//! # Every call
//!
//! | Workers | Here |
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
//! | `socket.readable.getReader()` | [`socket.reader()`](crate::Socket::reader), any number of times: there is no lock to release |
//! | `await reader.read()` | [`reader.read(&mut buffer)?`](std::io::Read::read); `Ok(0)` is `done: true` |
//! | `await reader.cancel()` | [`reader.cancel()`](crate::Reader::cancel) |
//! | `socket.writable.getWriter()` | [`socket.writer()`](crate::Socket::writer) |
//! | `await writer.write(bytes)` | [`writer.write_all(bytes)?`](std::io::Write::write_all) |
//! | `await writer.close()` | [`writer.close()?`](crate::Writer::close) |
//! | `await writer.abort()` | [`writer.abort()`](crate::Writer::abort) |
//! | `await readable.pipeTo(writable)` | [`io::copy(&mut reader, &mut writer)?`](std::io::copy), then `writer.close()?` |
//! | `Promise.race([promise, timeout])` | [`opened_timeout`](crate::Socket::opened_timeout), [`closed_timeout`](crate::Socket::closed_timeout), [deadlines](super::deadlines) |
//! | `try { … } catch (error) { … }` | [`Result`](crate::Result), with an [`ErrorKind`](crate::ErrorKind) |
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
//! A Worker has a request and a response. Here they are a path, and a status with a readable body:
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
//!     Ok(socket.reader()) // this handle keeps the connection open
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
//! # let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # unused.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let closed = SocketAddress::from(unused.local_addr()?.as_socket().unwrap());
//!
//! let (status, mut body) = fetch(&peer, "/"); // such as SocketAddress::new("gopher.floodgap.com", 70)?
//! let mut menu = String::new();
//! body.read_to_string(&mut menu)?;
//! # assert_eq!((status, menu.as_str()), (200, "iWelcome\r\n.\r\n"));
//! # assert_eq!(serving.join().unwrap()?, "/\r\n");
//! # let (status, mut body) = fetch(&closed, "/");
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
//! [`connect`](crate::connect) takes the same, and numeric addresses of `std`. It rejects an invalid address at once,
//! with a message that says what is wrong:
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
//! # Options and connection info
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
//! #     rustls::StreamOwned::new(tls, stream).read(&mut [0]) // 0 after close_notify
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
//! The trusted roots are Mozilla's. [`TlsOptions`](crate::TlsOptions) adds roots, a client certificate, a server name
//! and ALPN protocols. [`SocketOptions`](crate::SocketOptions) also has timeouts, and [`TcpOptions`](crate::TcpOptions)
//! has keepalive, buffer sizes and other options of TCP.
//!
//! # Reading and writing at once
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
//! Each loop is a thread. This works over TLS too, and neither thread waits for the other:
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
//! // PostgreSQL asks for the upgrade with an SSLRequest. The server answers S for yes.
//! socket.writer().write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
//! let mut answer = [0];
//! socket.reader().read_exact(&mut answer)?;
//! assert_eq!(&answer, b"S");
//!
//! let secure_socket = socket.start_tls()?;
//! secure_socket.opened()?; // the handshake is done
//!
//! // The old socket and its readers and writers cannot be used any more.
//! assert!(socket.upgraded());
//! let error = socket.reader().read(&mut [0]).unwrap_err();
//! assert_eq!(Error::from_io(&error).unwrap().kind(), ErrorKind::Upgraded);
//! // A socket cannot be upgraded twice, nor if it uses TLS already.
//! assert_eq!(socket.start_tls().unwrap_err().kind(), ErrorKind::InvalidState);
//! assert_eq!(secure_socket.start_tls().unwrap_err().kind(), ErrorKind::InvalidState);
//! # secure_socket.close()?;
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! As in Workers, `start_tls` may be called right after `connect_with`, and writes that began before it finish first.
//! Unlike in Workers, it fails if bytes from the peer are unread, because they
//! [may be injected](super::starttls#injected-plaintext).
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
//! In this Worker an error during the reply is too late for the `catch`. Here the function reads the whole reply first,
//! so all errors are in one place. Their kinds decide the status:
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
//! #     // The kernel resets the second one, because data is unread.
//! #     let (mut stream, _) = listener.accept()?;
//! #     stream.read_exact(&mut [0])?;
//! #     Ok(asked)
//! # });
//! # assert_eq!(fetch(&server), (200, "HTTP/1.0 204 No Content\r\n\r\n".to_owned()));
//! # let (status, text) = fetch(&server);
//! # assert_eq!(status, 502, "{text}");
//! # assert_eq!(peer.join().unwrap()?, "GET / HTTP/1.0\r\n\r\n");
//! # let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # unused.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let closed = SocketAddress::from(unused.local_addr()?.as_socket().unwrap());
//! # assert_eq!(fetch(&closed).0, 502);
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
//! Here `reader()` never fails. The first read fails:
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
//! # Differences and reasons
//!
//! Everything that is not in this table works as in Workers. The second column is the observed behaviour of workerd,
//! the open runtime of Workers, in November 2026. If workerd differs from its documentation, this crate does what the
//! documentation promises. [Another chapter](super::from_node_go_std) names the tests.
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
//! - Inbound connections come from [`std::net::TcpListener`]. [`Connector::adopt`](crate::Connector::adopt) takes them
//!   over.
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
//! | `TCP Loop detected` | the same text: [`Loop`](crate::ErrorKind::Loop), for an [`own_listener`](crate::EgressRules::own_listener), and always for a socket that is bound to the address that it dials |
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
//!
//! ---
//! Previous: [recipes](super::recipes). Next: [coming from Node, Go or `std`](super::from_node_go_std).
