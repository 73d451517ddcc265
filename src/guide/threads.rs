//! Threads, fork and the end of the process.
//!
//! The first socket starts one thread, `sockeye-loop`, which serves them all and sleeps when there is
//! nothing to do. Names are looked up on threads of their own, at most 16, usually one or two, which
//! end after 5 s without work: the system's resolver blocks and can't be stopped, so a look-up that is
//! given up leaves its thread busy until the system answers, and others wait for theirs within their
//! connect timeouts. Nothing else of the crate runs in the background, and no signal handler is set.
//!
//! After a `fork` the sockets are the parent's. In the child every call fails with
//! [`InvalidState`](crate::ErrorKind::InvalidState), and to close, abort or drop a handle closes the
//! child's copy of the descriptor without touching the connection; where another thread of the parent was
//! in a call on the socket at the fork, that copy stays until the child ends or executes a program. All
//! descriptors are close-on-exec.
