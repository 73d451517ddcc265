//! What has happened when `write` returns, and what when `flush` does.
//!
//! A write returns when some of the bytes are accepted, with their number: in plaintext when the kernel
//! has taken them, over TLS when they are sealed, at most 64 KiB beyond what the kernel has taken. What is
//! accepted will be sent, also after `close`, unless the connection breaks or is aborted; whether the
//! peer's program has read it only the peer can tell. `flush` waits until the kernel has all of it, which
//! in plaintext it always has. Each write over TLS is a record of its own: many small writes want a
//! [`BufWriter`](std::io::BufWriter). A write that the peer's end overtakes still ends, within the close
//! timeout.
//!
//! Where a peer doesn't read, its kernel and this one fill up, and then writes wait. Beyond that, and the
//! 64 KiB of TLS, nothing is queued: memory doesn't grow.
//!
//! A write that timed out accepted nothing. `write_all` calls `write` many times and doesn't tell how far it
//! came, so whoever has a limit and wants to go on later counts by himself:
//!
//! ```
//! use std::io::{self, Write};
//! use sockeye::Writer;
//!
//! /// Sends what it can within the limits. Gives how much that was, and why it was no more.
//! fn send(mut writer: &Writer, bytes: &[u8]) -> (usize, io::Result<()>) {
//!     let mut sent = 0;
//!     while sent < bytes.len() {
//!         match writer.write(&bytes[sent..]) {
//!             Ok(accepted) => sent += accepted,
//!             Err(error) => return (sent, Err(error)),
//!         }
//!     }
//!     (sent, Ok(()))
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let port = listener.local_addr()?.port();
//! # let socket = sockeye::connect(("127.0.0.1", port))?;
//! # let (mut stream, _) = listener.accept()?;
//! # let bytes = vec![b'x'; 32 * 1024 * 1024];
//! # socket.set_write_timeout(Some(std::time::Duration::from_millis(10)))?;
//! # let (sent, result) = send(&socket.writer(), &bytes);
//! # assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
//! # let peer = std::thread::spawn(move || io::copy(&mut stream, &mut io::sink()));
//! # socket.set_write_timeout(None)?;
//! # assert_eq!(send(&socket.writer(), &bytes[sent..]).0, bytes.len() - sent);
//! # socket.close()?;
//! # assert_eq!(peer.join().unwrap()?, bytes.len() as u64);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
