//! What `write` and `flush` promise.
//!
//! A write returns when some of the bytes are accepted, with their number: in plaintext when the kernel
//! has taken them, over TLS when they are sealed, at most 64 KiB beyond what the kernel has taken. What is
//! accepted will be sent, also after `close`, unless the connection breaks or is aborted; whether the
//! peer's program has read it only the peer can tell. `flush` waits until the kernel has all of it, which
//! in plaintext it always has. Each write over TLS is a record of its own: many small writes want a
//! [`BufWriter`](std::io::BufWriter). A write that the peer's end overtakes still ends, within the close
//! timeout.
