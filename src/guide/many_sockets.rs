//! Many sockets on one thread: pollers, and calls that never wait.
//!
//! A thread for each socket is the simplest program, and a few hundred threads are no problem. For thousands of sockets
//! that are idle nearly all the time, a [`Poller`](crate::Poller) waits for all of them on one thread.
//!
//! ```
//! use std::collections::HashMap;
//! use std::io::ErrorKind;
//! use std::time::Duration;
//! use sockeye::{Event, Events, Interest, Listener, Poller, Socket};
//!
//! const LISTENER: u64 = 0;
//!
//! /// Serves all clients on the calling thread: what a client sends comes back.
//! fn serve(listener: &Listener, poller: &Poller) -> sockeye::Result<()> {
//!     let mut sockets: HashMap<u64, Socket> = HashMap::new();
//!     let mut next_key = LISTENER + 1;
//!     let mut events = Events::with_capacity(256);
//!     poller.add(listener, LISTENER, Interest::READABLE.level())?;
//!     loop {
//!         poller.wait(&mut events, None)?;
//!         for event in events.iter() {
//!             if event.key != LISTENER {
//!                 if !answer(&sockets[&event.key]) {
//!                     // Its key goes with the last handle.
//!                     sockets.remove(&event.key);
//!                 }
//!                 continue;
//!             }
//!             if event.closed {
//!                 return Ok(());
//!             }
//!             let Ok(socket) = listener.accept_timeout(Duration::ZERO) else { continue };
//!             poller.add(&socket, next_key, Interest::READABLE.level())?;
//!             sockets.insert(next_key, socket);
//!             next_key += 1;
//!         }
//!     }
//! }
//!
//! /// Returns whether the client stays.
//! fn answer(socket: &Socket) -> bool {
//!     let mut buf = [0; 4096];
//!     match socket.try_read(&mut buf) {
//!         Ok(0) => false,
//!         // A client that does not read its answers is dropped here. WRITABLE says when there is room again.
//!         Ok(bytes) => matches!(socket.try_write(&buf[..bytes]), Ok(written) if written == bytes),
//!         Err(error) => error.kind() == ErrorKind::WouldBlock,
//!     }
//! }
//! # use std::io::{Read, Write};
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let address = listener.local_address().unwrap();
//! # let poller = Poller::new()?;
//! # std::thread::scope(|scope| -> std::io::Result<()> {
//! #     let server = scope.spawn(|| serve(&listener, &poller));
//! #     let mut clients: Vec<_> = (0..10).map(|_| std::net::TcpStream::connect(address)).collect::<Result<_, _>>()?;
//! #     for client in clients.iter_mut().rev() {
//! #         client.write_all(b"hello")?;
//! #         let mut echo = [0; 5];
//! #         client.read_exact(&mut echo)?;
//! #         assert_eq!(echo, *b"hello");
//! #     }
//! #     drop(clients);
//! #     listener.close();
//! #     server.join().unwrap()?;
//! #     Ok(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What an event means
//!
//! An event is about the socket, and not about its descriptor. [`READABLE`](crate::Interest::READABLE) means that a read
//! would not wait. Over TLS that includes data that is decrypted already and no longer in the kernel, and excludes
//! session tickets and other records without data. Those are processed in the background and not reported.
//!
//! | Interest | the event says |
//! |---|---|
//! | [`READABLE`](crate::Interest::READABLE) | data, the peer's end or a failure is there; for a listener, a client |
//! | [`WRITABLE`](crate::Interest::WRITABLE) | a write would accept at least one byte, or fail at once |
//! | [`OPENED`](crate::Interest::OPENED) | [`opened`](crate::Socket::opened) returns at once |
//! | [`CLOSED`](crate::Interest::CLOSED) | [`closed`](crate::Socket::closed) returns at once; reported once for each key, whatever its interest |
//!
//! A handshake needs no thread: the event loop makes it for a socket that a poller watches.
//!
//! # Once, or as long as it is so
//!
//! By default an event disarms its key, and [`modify`](crate::Poller::modify) arms it again. `modify` looks at the socket
//! itself, so nothing is lost between an event and the call. This is right if several threads wait: only one of them has
//! the socket at a time.
//!
//! With [`level`](crate::Interest::level) every `wait` reports what is still so. This is right for one thread, which then
//! need not drain a socket. Remove `WRITABLE` as soon as there is nothing to write, because it is nearly always so.
//!
//! # Calls that do not wait
//!
//! After an event, use [`try_read`](crate::Socket::try_read) and [`try_write`](crate::Socket::try_write). Another thread
//! may have taken the data in between, and a plain read would then wait. They fail with
//! [`WouldBlock`](std::io::ErrorKind::WouldBlock) then, and also while another thread reads or writes the socket. Timeouts
//! and deadlines do not apply to them. [`wait_until`](crate::Poller::wait_until) is the place for the program's own.
//! [`accept_timeout`](crate::Listener::accept_timeout) with zero does not wait either.
//!
//! # Who holds what
//!
//! A poller holds no handle. The last handle of a socket closes it as always, and its keys are free from then on, without
//! an event. A socket that was upgraded reports its end; add the new one.
//!
//! [`wake`](crate::Poller::wake) ends a `wait` from another thread, for example when there is work of another kind. For two
//! or three sockets, [`wait_any`](crate::wait_any) needs no poller.
//!
//! `examples/probe.rs` connects to 500 targets with at most 100 sockets at once, within 3 seconds, on one thread.
//!
//! # Latency
//!
//! A read that waits costs two switches between threads. [`TcpOptions::busy_poll`](crate::TcpOptions::busy_poll) makes it
//! look again and again for some microseconds first. It helps if the answer takes less than that, and if the program has
//! a processor to spare. It has no effect on pollers.
//!
//! ---
//! Previous: [serving](super::serving). Next: [threads and fork](super::threads_and_fork).
