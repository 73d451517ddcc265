//! Threads of the crate, callbacks of the program, descriptors, `fork`, and process exit.
//!
//! # Threads
//!
//! The first socket starts one thread, `sockeye-loop`. It serves all sockets and sleeps when there is nothing to do.
//! Other threads start on demand and end after 5 s without work:
//!
//! | Threads | for | at most |
//! |---|---|---|
//! | lookup threads, usually one or two | name lookups, because the system's resolver blocks | 256, and [`max_lookups`](crate::ConnectorBuilder::max_lookups) for each connector, 16 by default |
//! | `sockeye-worker` | TLS handshakes that run [code of the program](#code-of-the-program) | 64 |
//! | `sockeye-log` | log records of the event loop, and those that follow them | 1 |
//!
//! A lookup cannot be stopped. If its socket is gone, the thread stays busy until the system's resolver returns. The
//! crate has no other background threads and installs no signal handlers.
//!
//! Every handle may be used and dropped on any thread. One thread may read a socket while another writes. Several
//! readers take turns, and so do several writers.
//!
//! # Code of the program
//!
//! The crate calls code of the program in four places. It does so neither on the event loop nor with a lock held, with
//! two exceptions that follow below.
//!
//! - **A [`Resolver`](crate::Resolver)** runs on a lookup thread.
//! - **Callbacks of rustls**, which come with a [whole configuration](crate::TlsOptions): a verifier, a session
//!   store, a key log, a resolver of client certificates. In a handshake they run on a worker thread. If all 64
//!   workers are busy, a thread that waits for the handshake makes it, and its limits wait for the callback. If no
//!   thread waits for a handshake, it stays queued until a worker is free. After the handshake callbacks run on the
//!   thread that reads, or on a worker if no thread reads. The file of
//!   [`key_log_from_env`](crate::TlsOptions::key_log_from_env) is treated in the same way.
//! - **A logger** of the `log` crate runs on the thread that calls the crate. Records of the event loop are logged on
//!   the thread `sockeye-log`. While some of them are queued, records of other threads are queued after them. So the
//!   records of one socket are logged in the order of its events. At most 1,024 records are queued. Further ones are
//!   counted and dropped.
//! - **`Drop`** of the program's values, such as a configuration or a resolver's error, runs on the thread that used
//!   them last. A worker drops them in place of the event loop.
//!
//! Such code may block, use other sockets and wait for them, and drop any handle. While a verifier runs, its socket
//! can be closed and aborted, and its limits apply. With a [`connect_timeout`](crate::SocketOptions::connect_timeout)
//! of one second, `opened` returns `TimedOut` after one second, however long the verifier runs. A verifier that waits
//! for its own socket waits until that limit. A panic fails only the socket that it concerns.
//!
//! The two exceptions:
//!
//! - The cryptography of a rustls provider runs with the lock held. It also runs on the event loop if the loop has to
//!   send close_notify.
//! - If the program enables the `log` feature of mio or the `logging` feature of rustls, the records of these crates go
//!   straight to the logger.
//!
//! A call that would wait on the event loop's thread fails at once with
//! [`InvalidState`](crate::ErrorKind::InvalidState). There, [`shutdown`](crate::Connector::shutdown) and the end of a
//! [`scope`](crate::Connector::scope) start closing and do not wait.
//!
//! # Descriptors
//!
//! | Holder | Descriptors |
//! |---|---|
//! | the event loop, from the first socket on | 4: epoll or kqueue twice, a waker, and one that the system adds |
//! | an open socket | 1 |
//! | a thread that has waited in a read or write | 1 for its wake handle, 2 without eventfd(2), until the thread ends |
//! | a connecting socket | 1 for each attempt under way, at most 8: beyond that the oldest attempt is given up |
//! | a connection that this side has closed and the peer has not | 1, for at most 2 s; at most 1,024 in all, and at most an eighth of the soft limit `RLIMIT_NOFILE` |
//!
//! So a design with a thread for each socket uses two descriptors for each. If no descriptor is left, a thread waits
//! without a wake handle. Lingering connections are closed if a new one needs their descriptors.
//!
//! # Fork
//!
//! After fork(2) the parent's sockets stay the parent's. In the child every call on them fails with
//! [`InvalidState`](crate::ErrorKind::InvalidState). Closing, aborting or dropping a handle closes the child's copy of
//! the descriptor and does not touch the connection. If another thread of the parent was in a call on that socket, the
//! copy stays open until the child exits or calls exec. All descriptors are close-on-exec.
//!
//! New sockets work in the child. So pre-forking servers and daemons need no special code: fork at any time, from any
//! thread. The child's first socket starts a new event loop and new lookup threads. Connectors from before the fork,
//! including the global one, keep their rules, and start with free slots and empty statistics. A connector that was
//! shut down stays shut down. TLS sessions are not resumed across a fork.
//!
//! The child does not wait for locks that threads of the parent held, with three exceptions:
//!
//! - Code of the program must survive a fork itself: a [`Resolver`](crate::Resolver), a logger, and the callbacks of a
//!   whole configuration of rustls. Give each child a configuration of its own.
//! - The child calls the system's resolver. Some C libraries do not make that safe if another thread of the parent was
//!   inside it. Such a lookup ends at the connect timeout.
//! - The standard library takes a lock when one of its threads starts or ends. If a thread of the parent held it at
//!   the fork, no `std` thread can start in the child. Its sockets fail with [`Io`](crate::ErrorKind::Io)
//!   ("deadlock") after 10 s. Fork again, or fork while no thread starts or ends.
//!
//! A handler of pthread_atfork(3) detects a fork. `_Fork`, `clone` and direct system calls run no handlers. The crate
//! takes such a child for its parent, so the child must not use it before exec.
//!
//! # Process exit
//!
//! Dropping the last handle closes the socket in the background. A process that exits ends that work. The kernel
//! still sends the data that it has. Accepted TLS data that the kernel does not have is lost, and unread bytes cause
//! a reset. So call [`close`](crate::Socket::close) before `main` ends, for every socket whose data matters. If it
//! returns `Ok`, the kernel has all data and the FIN. [`Connector::shutdown`](crate::Connector::shutdown) does this
//! for all sockets of a connector.
//!
//! ---
//! Previous: [many sockets](super::many_sockets). Next: [recipes](super::recipes).
