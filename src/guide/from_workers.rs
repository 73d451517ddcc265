//! Coming from Cloudflare Workers: every call and example of `connect()`, in Rust.
//!
//! A promise in Workers is a blocking call here: `await socket.opened` is `socket.opened()?`. Two loops that run
//! concurrently in Workers are two threads here. Each thread has a handle of its own: [`Socket`](crate::Socket),
//! [`Reader`](crate::Reader) and [`Writer`](crate::Writer) are cheap to clone, and every method takes `&self`.
//! Everything else works as in Workers, except for [deliberate differences](super::workers_differences).
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let peer = SocketAddress::from(listener.local_address().unwrap());
//! # let serving = std::thread::spawn(move || -> io::Result<String> {
//! #     let mut stream = listener.accept()?;
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
//! # let peer = std::thread::spawn(move || -> io::Result<usize> {
//! #     let stream = listener.accept()?;
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
//! # let peer = thread::spawn(move || -> io::Result<u64> {
//! #     let mut stream = listener.accept()?;
//! #     io::copy(&mut stream.clone(), &mut stream)
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let mut stream = listener.accept()?;
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let server = SocketAddress::from(listener.local_address().unwrap());
//! # let peer = std::thread::spawn(move || -> io::Result<String> {
//! #     let mut stream = listener.accept()?;
//! #     let mut asked = String::new();
//! #     stream.read_to_string(&mut asked)?;
//! #     stream.write_all(b"HTTP/1.0 204 No Content\r\n\r\n")?;
//! #     drop(stream);
//! #     let mut stream = listener.accept()?;
//! #     stream.read_exact(&mut [0])?;
//! #     stream.abort();
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
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
//! ---
//! Previous: [other crates](super::other_crates). Next: [differences from Workers](super::workers_differences).
