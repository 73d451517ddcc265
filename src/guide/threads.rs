//! Which threads there are; what of `fork`, and of the end of the process.
//!
//! The first socket starts one thread, `sockeye-loop`, which serves them all and sleeps when there is
//! nothing to do. Names are looked up on threads of their own, usually one or two, which end after 5 s without
//! work. The system's resolver blocks and can't be stopped, so a lookup that is given up leaves its thread busy
//! until the system answers. Each connector runs at most 16 lookups at once, or as many as
//! [`max_lookups`](crate::ConnectorBuilder::max_lookups) says, and the process at most 256. Nothing else of the crate runs in the background, and no signal handler is set.
//!
//! Handles may be used from any thread, and dropped on any. Of one socket, one thread reads while another
//! writes; several that read take turns, and so do several that write. Code of the program's own is called
//! in few places: a [`Resolver`](crate::Resolver) on a thread for look-ups, a logger of the `log` crate under
//! no lock, and what a configuration of rustls brings along [within TLS](super::inside#tls). Its panics end
//! nothing but the socket that they concern.
//!
//! # Fork
//!
//! After a `fork` the sockets are the parent's. In the child every call fails with
//! [`InvalidState`](crate::ErrorKind::InvalidState), and to close, abort or drop a handle closes the
//! child's copy of the descriptor without touching the connection; where another thread of the parent was
//! in a call on the socket at the fork, that copy stays until the child ends or executes a program. All
//! descriptors are close-on-exec.
//!
//! # The end of the process
//!
//! Dropping the last handle closes in the background, and a process that ends takes the background with it.
//! What the kernel has by then it still sends; what it has not is lost, and bytes that are unread make it
//! send a reset. So end `main` with a [`close`](crate::Socket::close) of every socket whose last words
//! matter: when that is `Ok`, the kernel has them, and FIN behind them.
