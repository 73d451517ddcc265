//! Which threads there are; what of `fork`, and of the end of the process.
//!
//! The first socket starts one thread, `sockeye-loop`, which serves them all and sleeps when there is
//! nothing to do. Names are looked up on threads of their own, usually one or two, which end after 5 s without
//! work. The system's resolver blocks and can't be stopped, so a lookup that is given up leaves its thread busy
//! until the system answers. Each connector runs at most 16 lookups at once, or as many as
//! [`max_lookups`](crate::ConnectorBuilder::max_lookups) says, and the process at most 256.
//! TLS handshakes that run code of the program's own are made by [worker threads](#code-of-the-program), and what the
//! loop logs is logged by one thread, `sockeye-log`. Both kinds end after 5 s without work. Nothing else of the crate
//! runs in the background, and no signal handler is set.
//!
//! Handles may be used from any thread, and dropped on any. Of one socket, one thread reads while another
//! writes; several that read take turns, and so do several that write.
//!
//! # Code of the program
//!
//! The crate calls code of the program's own in few places, never on the loop's thread and never with a lock held:
//!
//! - A [`Resolver`](crate::Resolver) runs on a thread for lookups.
//! - A verifier, a session store, a key log or a resolver of client certificates comes with a
//!   [whole configuration](crate::TlsOptions) of rustls. In a handshake it runs on a thread `sockeye-worker`, of which
//!   there are 64 at most. If all of them are busy, a thread that waits for the handshake makes it itself, and its own
//!   limits then wait for that code. Handshakes for which nobody waits stay in a queue until a worker is free. After
//!   the handshake such code runs on the thread that reads, and on a worker while nobody reads. A key log by
//!   [`key_log_from_env`](crate::TlsOptions::key_log_from_env) writes to a file, and is treated alike.
//! - A logger of the `log` crate runs on the thread that calls the crate. Records of the loop go to the thread
//!   `sockeye-log`: in order, but later than what other threads log meanwhile. 1,024 of them wait at most; the rest
//!   are counted and lost.
//! - Values of the program, such as a configuration or an error of a resolver, are dropped by the thread that needs
//!   them no longer, or by a worker instead of the loop.
//!
//! Such code may block, use other sockets and wait for them, and drop handles of any socket. While a verifier runs, its
//! socket can be closed, aborted and looked at, and its limits hold: after a
//! [`connect_timeout`](crate::SocketOptions::connect_timeout) of one second `opened` is `TimedOut`, however long the
//! verifier takes. A verifier that waits for its own socket waits for itself, until that limit. Panics end nothing but
//! the socket that they concern.
//!
//! The cryptography of a provider counts as computation: it seals records with the lock held, and on the loop if that
//! has to say close_notify. Other crates can bring the program's code to the loop too. If anything in the program enables
//! the `log` feature of mio or the `logging` feature of rustls, the records of these crates go straight to the logger,
//! on any thread and with locks held. A call that would wait on the loop's thread fails at once with
//! [`InvalidState`](crate::ErrorKind::InvalidState); [`shutdown`](crate::Connector::shutdown) and the end of a
//! [`scope`](crate::Connector::scope) begin to close there and do not wait.
//!
//! # Descriptors
//!
//! | what | takes |
//! |---|---|
//! | the loop, from the first socket on | 4: epoll or kqueue twice, a waker, and what the system adds |
//! | an open socket | 1 |
//! | a thread that waits in a read or a write | 1, its wake handle (2 where there is no eventfd), from its first wait until it ends |
//! | a socket that is connecting | 1 for each attempt that is under way, at most 8 of them; the oldest is given up for the next address |
//! | a connection that this side has closed and the peer has not | 1, for at most 2 s; all of them take at most 1,024, and at most an eighth of the soft limit of descriptors (`RLIMIT_NOFILE`) |
//!
//! So a thread for each socket takes two descriptors for it. Where no descriptor is left, a thread waits without
//! a wake handle, and connections that linger are closed to make room for a new one.
//!
//! # Fork
//!
//! After a `fork` the parent's sockets stay the parent's. In the child every call on them fails with
//! [`InvalidState`](crate::ErrorKind::InvalidState). To close, abort or drop a handle there closes the child's copy
//! of the descriptor and does not touch the connection. If another thread of the parent was in a call on the socket
//! at the fork, the copy stays until the child ends or executes a program. All descriptors are close-on-exec.
//!
//! New sockets work in the child, so pre-forking servers and daemons need no care: fork at any time, from any
//! thread. The first socket starts an event loop and lookup threads of the child's own. Connectors from before the
//! fork, the global one included, keep their rules and begin with free slots and empty statistics; one that was shut
//! down stays so. TLS sessions are not resumed across a fork. A child does not wait for a lock that a thread of the
//! parent held, with three exceptions:
//!
//! - Code of the program's own must bear a fork itself: a [`Resolver`](crate::Resolver), a logger, the verifier and
//!   the session store of a whole configuration of rustls. Give children a configuration of their own.
//! - The system's resolver is called in the child, and some C libraries do not make it safe there if another thread
//!   of the parent was in it. Such a lookup ends at the connect timeout.
//! - The standard library takes a lock of its own whenever one of its threads starts or ends. If a thread of the parent
//!   did so in the very moment of the fork, no thread of std ever starts in that child. Its sockets fail with
//!   [`Io`](crate::ErrorKind::Io) ("deadlock") after 10 s. Fork again, or fork while no threads start or end.
//!
//! A fork is noticed by a handler of `pthread_atfork`. `_Fork`, `clone` and system calls made directly run no
//! handlers: such a child is taken for its parent, and must not use the crate before it executes a program.
//!
//! # The end of the process
//!
//! Dropping the last handle closes in the background, and a process that ends takes the background with it.
//! What the kernel has by then it still sends; what it has not is lost, and bytes that are unread make it
//! send a reset. So end `main` with a [`close`](crate::Socket::close) of every socket whose last words
//! matter: when that is `Ok`, the kernel has them, and FIN behind them.
