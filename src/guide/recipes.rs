//! Recipes: a pool, reconnecting, one deadline, stopping a thread, buffered upgrades, system roots, a port probe.
//!
//! # A pool
//!
//! A pool lends idle connections to one server. [`Socket::health`](crate::Socket::health) checks a connection without
//! waiting and takes no data. Check twice:
//!
//! - Before lending: the server may have closed the connection while it was idle.
//! - Before keeping: if a part of a reply is unread, it would answer the next request.
//!
//! ```
//! use std::sync::Mutex;
//! use sockeye::{Socket, SocketAddress, connect};
//!
//! const MAX_IDLE: usize = 8;
//!
//! struct Pool {
//!     server: SocketAddress,
//!     idle: Mutex<Vec<Socket>>,
//! }
//!
//! impl Pool {
//!     fn get(&self) -> sockeye::Result<Socket> {
//!         loop {
//!             // The lock is free again before `health` is called.
//!             let idle = self.idle.lock().unwrap().pop();
//!             match idle {
//!                 Some(socket) if socket.health().is_idle() => return Ok(socket),
//!                 Some(_) => {} // dropped, and so closed in the background
//!                 None => return connect(self.server.clone()),
//!             }
//!         }
//!     }
//!
//!     fn put(&self, socket: Socket) {
//!         if !socket.health().is_idle() {
//!             return;
//!         }
//!         socket.set_deadline(None); // it was for the last request
//!         let mut idle = self.idle.lock().unwrap();
//!         if idle.len() < MAX_IDLE {
//!             idle.push(socket);
//!         }
//!     }
//! }
//! # use std::io::{Read, Write};
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let server = SocketAddress::from(listener.local_address().unwrap());
//! # let peer = std::thread::spawn(move || -> std::io::Result<()> {
//! #     let mut stream = listener.accept()?;
//! #     std::io::copy(&mut stream.clone(), &mut stream)?;
//! #     let mut stream = listener.accept()?;
//! #     stream.write_all(b"unasked")?;
//! #     stream.read(&mut [0])?;
//! #     Ok(())
//! # });
//!
//! let pool = Pool { server, idle: Mutex::default() };
//! let socket = pool.get()?; // an echo server
//! socket.writer().write_all(b"ping")?;
//! socket.reader().read_exact(&mut [0; 4])?;
//! # let first = socket.opened()?.local_address();
//! pool.put(socket);
//! let same = pool.get()?;
//! # assert_eq!(same.opened()?.local_address(), first);
//! # same.close()?;
//! # pool.put(same);
//! # let other = pool.get()?;
//! # assert_ne!(other.opened()?.local_address(), first);
//! # other.reader().read_exact(&mut [0])?;
//! # pool.put(other);
//! # assert!(pool.idle.lock().unwrap().is_empty(), "a part of the reply is unread");
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The server may still close a connection while a request is on its way. So repeat a request that failed on a pooled
//! connection with [`Reset`](crate::ErrorKind::Reset), [`Closed`](crate::ErrorKind::Closed) or an early end. Do so only
//! if the server may execute it twice.
//!
//! # Reconnect with backoff
//!
//! Repeat a connect only after an error that can pass. A refused address or a silent name server can recover. A
//! denied address, a name that does not exist or a wrong certificate fails again. A random part of the delay keeps
//! many clients from returning at the same instant.
//!
//! ```
//! use std::hash::{BuildHasher, RandomState};
//! use std::thread;
//! use std::time::{Duration, Instant};
//! use sockeye::{Error, ErrorKind, Socket, SocketAddress, SocketOptions, connect_with};
//!
//! const FIRST_DELAY: Duration = Duration::from_millis(100);
//! const MAX_DELAY: Duration = Duration::from_secs(10);
//!
//! /// Connects until an attempt succeeds, an error is permanent, or the deadline passes.
//! fn reconnect(server: &SocketAddress, deadline: Instant) -> sockeye::Result<Socket> {
//!     let options = SocketOptions::new()
//!         .connect_timeout(Duration::from_secs(5)) // for each attempt
//!         .connect_deadline(deadline); // for all of them
//!     let mut delay = FIRST_DELAY;
//!     loop {
//!         let socket = connect_with(server.clone(), options.clone())?;
//!         let error = match socket.opened() {
//!             Ok(_) => return Ok(socket),
//!             Err(error) => error,
//!         };
//!         let pause = delay / 2 + delay.mul_f64(random()) / 2;
//!         if !can_pass(&error) || Instant::now() + pause >= deadline {
//!             return Err(error);
//!         }
//!         thread::sleep(pause);
//!         delay = MAX_DELAY.min(delay * 2);
//!     }
//! }
//!
//! fn can_pass(error: &Error) -> bool {
//!     match error.kind() {
//!         ErrorKind::Connect | ErrorKind::TimedOut | ErrorKind::Reset | ErrorKind::Lost => true,
//!         ErrorKind::Resolve => error.is_transient(),
//!         _ => false,
//!     }
//! }
//!
//! /// Returns a number from 0 to 1: the only randomness in `std`.
//! fn random() -> f64 {
//!     RandomState::new().hash_one(0) as f64 / u64::MAX as f64
//! }
//! # let server = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # server.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let address = SocketAddress::from(server.local_addr()?.as_socket().unwrap());
//! # let soon = Instant::now() + Duration::from_millis(20);
//! # assert_eq!(reconnect(&address, soon).unwrap_err().kind(), ErrorKind::Connect);
//! # let restarted = thread::spawn(move || {
//! #     thread::sleep(Duration::from_millis(50));
//! #     server.listen(1).map(|()| server)
//! # });
//!
//! let deadline = Instant::now() + Duration::from_secs(60);
//! let socket = reconnect(&address, deadline)?; // a server that is just restarting
//! # socket.opened()?;
//! # restarted.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One deadline over a whole exchange
//!
//! A timeout restarts with every read, so a server that sends one byte a second defeats it. Give the same instant to
//! `connect_deadline`, which bounds lookup, attempts and handshake, and to `set_deadline`, which bounds all reads and
//! writes. Bound the size of the reply too.
//!
//! ```
//! use std::io::{self, Read, Write};
//! use std::time::{Duration, Instant};
//! use sockeye::{SocketAddress, SocketOptions, connect_with};
//!
//! const MAX_REPLY: u64 = 1024 * 1024;
//!
//! fn exchange(server: &SocketAddress, request: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
//!     let deadline = Instant::now() + limit;
//!     let options = SocketOptions::new().connect_timeout(None).connect_deadline(deadline);
//!     let socket = connect_with(server.clone(), options)?;
//!     socket.set_deadline(Some(deadline));
//!
//!     let mut writer = socket.writer();
//!     writer.write_all(request)?;
//!     writer.close()?; // the server sees the end of the request
//!     let mut reply = Vec::new();
//!     if socket.reader().take(MAX_REPLY + 1).read_to_end(&mut reply)? as u64 > MAX_REPLY {
//!         return Err(io::Error::other("the reply is too long"));
//!     }
//!     Ok(reply)
//! }
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let server = SocketAddress::from(listener.local_address().unwrap());
//! # std::thread::spawn(move || -> io::Result<()> {
//! #     io::copy(&mut listener.accept()?, &mut io::sink())?;
//! #     let mut stream = listener.accept()?;
//! #     while stream.write_all(b".").is_ok() {
//! #         std::thread::sleep(Duration::from_millis(10));
//! #     }
//! #     Ok(())
//! # });
//! # assert!(exchange(&server, b"hello", Duration::from_secs(10))?.is_empty());
//!
//! // A server that sends one byte every 10 ms, forever.
//! let error = exchange(&server, b"hello", Duration::from_millis(100)).unwrap_err();
//! assert_eq!(error.kind(), io::ErrorKind::TimedOut);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The handshake of an [upgrade](super::starttls) has no deadline. It has its
//! [`connect_timeout`](crate::SocketOptions::connect_timeout), so set that to the time that is left.
//!
//! # Stopping a worker thread
//!
//! If the socket is not needed any more, call [`close`](crate::Socket::close) or [`abort`](crate::Socket::abort) from
//! another thread. The blocked call fails with [`Closed`](crate::ErrorKind::Closed), and every later call fails too. So
//! the worker cannot miss it.
//!
//! If the socket must stay open, end the blocked read with a deadline in the past. A deadline can be lost: if the
//! worker sets its own deadline for every message, it may replace yours just before it reads. There are two ways out.
//!
//! - Let the worker use a timeout, and leave the deadline to the thread that stops it. The earlier of the two applies.
//! - Let the worker check a flag *after* it has set its deadline, and set the flag *before* the deadline in the past.
//!   Either the worker sees the flag, or your deadline is the later one and ends the read.
//!
//! The second way, which also shows the worker why its read timed out:
//!
//! ```
//! use std::io::{self, Read};
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::thread;
//! use std::time::{Duration, Instant};
//! use sockeye::Socket;
//!
//! const SILENCE: Duration = Duration::from_secs(60);
//!
//! /// Handles messages until `stop` is set. Returns an error if the peer is silent for a minute.
//! fn work(socket: &Socket, stop: &AtomicBool) -> io::Result<()> {
//!     let mut message = [0; 512];
//!     loop {
//!         socket.set_read_deadline(Some(Instant::now() + SILENCE));
//!         if stop.load(Ordering::SeqCst) {
//!             return Ok(()); // checked after the deadline was set
//!         }
//!         match socket.reader().read(&mut message) {
//!             Ok(0) => return Ok(()),
//!             Ok(length) => println!("{:?}", &message[..length]),
//!             Err(_) if stop.load(Ordering::SeqCst) => return Ok(()),
//!             Err(error) => return Err(error),
//!         }
//!     }
//! }
//!
//! fn stop(socket: &Socket, stop: &AtomicBool) {
//!     stop.store(true, Ordering::SeqCst);
//!     socket.set_read_deadline(Some(Instant::now())); // set after the flag
//! }
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let server = listener.local_address().unwrap();
//!
//! let socket = sockeye::connect(server)?;
//! let flag = Arc::new(AtomicBool::new(false));
//! let worker = thread::spawn({
//!     let (socket, flag) = (socket.clone(), Arc::clone(&flag));
//!     move || work(&socket, &flag)
//! });
//! # socket.opened()?;
//! stop(&socket, &flag);
//! worker.join().expect("it does not panic")?;
//!
//! socket.set_read_deadline(None); // the socket is still open
//! # assert_eq!(socket.phase(), sockeye::Phase::Open);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # `BufReader` and upgrades
//!
//! A buffered reader may hold bytes that [`start_tls`](crate::Socket::start_tls) cannot see. After the server's
//! consent to TLS its buffer must be empty: bytes in it were [injected](super::starttls#injected-plaintext). This
//! function takes the reader, so that the old one cannot be used by mistake:
//!
//! ```
//! use std::io::{self, BufRead, BufReader, Write};
//! use sockeye::{Reader, SecureTransport, Socket, SocketOptions, connect_with};
//!
//! /// Upgrades to TLS after the server's consent was read.
//! fn upgrade(socket: Socket, reader: BufReader<Reader>) -> io::Result<(Socket, BufReader<Reader>)> {
//!     if !reader.buffer().is_empty() {
//!         socket.abort();
//!         return Err(io::Error::other("plaintext follows the server's consent"));
//!     }
//!     let socket = socket.start_tls()?;
//!     let reader = BufReader::new(socket.reader());
//!     Ok((socket, reader))
//! }
//! # use std::io::Read;
//! # let key = rcgen::KeyPair::generate()?;
//! # let certificate = rcgen::CertificateParams::new([String::from("127.0.0.1")])?.self_signed(&key)?;
//! # let ring = rustls::crypto::ring::default_provider();
//! # let config = rustls::ServerConfig::builder_with_provider(ring.into())
//! #     .with_safe_default_protocol_versions()?
//! #     .with_no_client_auth()
//! #     .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into()?)?;
//! # let trusted = sockeye::TlsOptions::new().add_root_pem(certificate.pem())?.only_added_roots();
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let server = listener.local_address().unwrap();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let mut stream = listener.accept()?;
//! #     stream.write_all(b"+OK ready\r\n")?;
//! #     stream.read_exact(&mut [0; 6])?;
//! #     stream.write_all(b"+OK begin TLS\r\n")?;
//! #     let tls = rustls::ServerConnection::new(config.into()).map_err(io::Error::other)?;
//! #     let mut stream = rustls::StreamOwned::new(tls, stream);
//! #     stream.read_exact(&mut [0; 6])?;
//! #     stream.write_all(b"+OK capabilities\r\n")?;
//! #     stream.read(&mut [0])?;
//! #     Ok(())
//! # });
//!
//! let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
//! # let options = options.tls(trusted);
//! let socket = connect_with(server, options)?; // such as ("pop.example.com", 110)
//! let mut reader = BufReader::new(socket.reader());
//! let mut line = String::new();
//! reader.read_line(&mut line)?; // the greeting
//! socket.writer().write_all(b"STLS\r\n")?;
//! line.clear();
//! reader.read_line(&mut line)?;
//! if !line.starts_with("+OK") {
//!     return Err("the server refuses TLS".into());
//! }
//!
//! let (socket, mut reader) = upgrade(socket, reader)?;
//! socket.writer().write_all(b"CAPA\r\n")?; // over TLS
//! line.clear();
//! reader.read_line(&mut line)?;
//! # assert_eq!(line, "+OK capabilities\r\n");
//! # drop((socket, reader));
//! # peer.join().unwrap()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If you wrap the writer in a [`BufWriter`](std::io::BufWriter), flush and drop it before the upgrade.
//!
//! # The system's roots
//!
//! By default the roots of Mozilla apply, as compiled into the program. A company that inspects the traffic, or that has
//! an authority of its own, puts its root into the store of the system. With the feature `native-roots`:
//!
//! ```
//! # #[cfg(feature = "native-roots")] {
//! use sockeye::{Connector, Roots, TlsOptions};
//!
//! // Read once per process. `SSL_CERT_FILE` and `SSL_CERT_DIR` replace the system's store.
//! let tls = TlsOptions::new().roots(Roots::Native);
//! let connector = Connector::builder().tls(tls).build()?;
//! # let _ = connector;
//! # }
//! # Ok::<(), sockeye::Error>(())
//! ```
//!
//! [`add_root_pem`](crate::TlsOptions::add_root_pem) adds to whichever base set is in use. With the feature
//! `platform-verifier`, [`Roots::Platform`](crate::Roots#variant.Platform) asks the verifier of macOS, iOS, Windows or
//! Android instead.
//!
//! # The certificate of one server
//!
//! A database often has the certificate that its installation made. No authority has signed it, and its name may be
//! wrong. [`trust_only_pem`](crate::TlsOptions::trust_only_pem) trusts exactly that certificate:
//!
//! ```no_run
//! use sockeye::TlsOptions;
//!
//! let tls = TlsOptions::new().trust_only_pem(std::fs::read("/etc/app/database.crt")?)?;
//! # let _ = tls;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | of PostgreSQL and MySQL | here |
//! |---|---|
//! | `sslmode=verify-full`, `VERIFY_IDENTITY` | [`add_root_pem`](crate::TlsOptions::add_root_pem) and [`only_added_roots`](crate::TlsOptions::only_added_roots) |
//! | `sslmode=verify-ca`, `VERIFY_CA` | the same, and [`danger_accept_any_name`](crate::TlsOptions::danger_accept_any_name) |
//! | `sslmode=require`, `REQUIRED` | [`danger_accept_invalid_certs`](crate::TlsOptions::danger_accept_invalid_certs) |
//! | `sslcert` and `sslkey`, `ssl-cert` and `ssl-key` | [`identity`](crate::TlsOptions::identity) |
//! | `sslcrl`, `ssl-crl` | [`add_crl_pem`](crate::TlsOptions::add_crl_pem) |
//!
//! # A probe of 500 targets
//!
//! `connect` returns at once, so one thread can start hundreds of attempts. They run in parallel on the event loop.
//! Then wait for each result in turn: a slow target does not delay the others.
//!
//! ```
//! use std::time::Duration;
//! use sockeye::{Socket, SocketAddress, SocketOptions, connect_with};
//!
//! /// The attempts that run at the same time. Each uses one descriptor.
//! const PARALLEL: usize = 200;
//!
//! /// Returns how long each connection took, in the order of the targets.
//! fn probe(targets: &[SocketAddress], limit: Duration) -> Vec<sockeye::Result<Duration>> {
//!     let options = SocketOptions::new().connect_timeout(limit);
//!     let mut results = Vec::with_capacity(targets.len());
//!     for targets in targets.chunks(PARALLEL) {
//!         let start = |target: &SocketAddress| connect_with(target.clone(), options.clone());
//!         let sockets: Vec<_> = targets.iter().map(start).collect();
//!         results.extend(sockets.into_iter().map(|socket| socket.and_then(finish)));
//!     }
//!     results
//! }
//!
//! fn finish(socket: Socket) -> sockeye::Result<Duration> {
//!     let time = socket.opened()?.timings().connect;
//!     socket.abort(); // a reset frees the local port at once
//!     Ok(time)
//! }
//! # use sockeye::ErrorKind;
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let open = SocketAddress::from(listener.local_address().unwrap());
//! # std::thread::spawn(move || listener.incoming().for_each(drop));
//! # let unused = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
//! # unused.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
//! # let closed = SocketAddress::from(unused.local_addr()?.as_socket().unwrap());
//! # let targets: Vec<_> = (0..500).map(|n| if n % 2 == 0 { &open } else { &closed }.clone()).collect();
//!
//! let results = probe(&targets, Duration::from_secs(5)); // 500 targets: at most 15 s
//! for (target, result) in targets.iter().zip(&results) {
//!     match result {
//!         Ok(time) => println!("{target}: open, after {time:?}"),
//!         Err(error) => println!("{target}: {:?}, {error}", error.kind()),
//!     }
//! }
//! # assert_eq!(results.len(), 500);
//! # for (n, result) in results.iter().enumerate() {
//! #     match result {
//! #         Ok(_) => assert_eq!(n % 2, 0),
//! #         Err(error) => assert!(n % 2 == 1 && error.kind() == ErrorKind::Connect, "{error}"),
//! #     }
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! If targets are names, a connector looks up 16 at a time; raise
//! [`max_lookups`](crate::ConnectorBuilder::max_lookups). A name uses a descriptor for each attempt under way, at most
//! 8.
//! If strangers choose the targets, add [egress rules](super::egress_and_ssrf).
//!
//! Here a chunk ends with its slowest target. `examples/probe.rs` starts the next target as soon as any other ends: a
//! [`Poller`](crate::Poller) reports each result when it comes. [Many sockets](super::many_sockets) is about that.
//!
//! ---
//! Previous: [threads and fork](super::threads_and_fork). Next: [other crates](super::other_crates).
