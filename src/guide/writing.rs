//! What `write` and `flush` promise when they return.
//!
//! `write` returns the number of bytes that were accepted. In plaintext the kernel has taken them. Over TLS they are
//! encrypted, and at most 64 KiB of records wait for the kernel. Accepted bytes are sent, also after `close`, unless
//! the connection breaks or is aborted. Only the peer can say whether its program has read them.
//!
//! `flush` waits until the kernel has all accepted bytes. In plaintext this is always so. Each write over TLS makes a
//! record of its own, so put a [`BufWriter`](std::io::BufWriter) around many small writes. If the peer ends during a
//! write, that write still finishes, within the close timeout.
//!
//! If the peer does not read, the buffers of both kernels fill up, and then writes block. Beyond these buffers and the
//! 64 KiB of TLS nothing is queued, so memory does not grow.
//!
//! A write that timed out accepted nothing. `write_all` calls `write` many times and does not say how much was
//! accepted. To continue after a limit, count the bytes yourself:
//!
//! ```
//! use std::io::{self, Write};
//! use sockeye::Writer;
//!
//! /// Sends as much as the limits allow. Returns the number of bytes, and why it stopped.
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
//! # let listener = sockeye::listen("127.0.0.1:0")?;
//! # let port = listener.local_address().unwrap().port();
//! # let socket = sockeye::connect(("127.0.0.1", port))?;
//! # let mut stream = listener.accept()?;
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
//!
//! ---
//! Previous: [deadlines](super::deadlines). Next: [TLS](super::tls).
