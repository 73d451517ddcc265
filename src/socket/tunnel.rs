//! `tunnel`: two sockets, joined both ways.

mod error;
mod relay;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use self::relay::Tunnel;
use super::Socket;
use crate::error::Error;

pub use self::error::{TunnelError, TunnelSide};

/// Size of the buffer of one direction.
const BUFFER: usize = 64 * 1024;

/// Copies data between two sockets, both ways, until both directions have ended. Returns the numbers of bytes copied
/// from `a` to `b`, and from `b` to `a`.
///
/// Waits until both are open. The end of one side half-closes the other, and the other direction continues, whatever
/// [`allow_half_open`](crate::SocketOptions::allow_half_open) says of either socket. An end that a socket had handled
/// before the call stays handled. Over TLS, close_notify is such an end, and a connection that is cut off is a failure.
///
/// Runs on the calling thread and one more. If both sockets are plaintext, on Linux, the data stays in the kernel
/// (splice(2)). Otherwise each direction has a buffer of 64 KiB. No other thread should read or write during the call;
/// [`close`](Socket::close) and [`abort`](Socket::abort) end the tunnel from any thread.
///
/// `idle` limits the time without a byte in either direction. When it passes, both sockets are closed as by `close`, and
/// the error is [`TimedOut`](crate::ErrorKind::TimedOut). A socket whose peer has not taken all bytes is aborted
/// instead. `None` waits for as long as it takes. Read and write timeouts
/// of the sockets have no effect. Their deadlines apply.
///
/// # Errors
/// A failure of either socket. Both are then aborted, so that neither peer takes data that was cut off for complete. A
/// socket that this side closed is not aborted: its failure is [`Closed`](crate::ErrorKind::Closed), and only the other
/// one is.
///
/// In plaintext, the peer of a Unix-domain socket does take it for complete, because no reset exists there. Over TLS it
/// sees a connection that was cut off.
///
/// These errors concern no side, and change nothing:
/// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `a` and `b` are the same socket, or if `idle` is zero.
/// - [`Io`](crate::ErrorKind::Io) if there is no thread.
///
/// ```
/// use std::io::{Read, Write};
/// use std::time::Duration;
///
/// # let target = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = target.local_addr()?;
/// # let served = std::thread::spawn(move || -> std::io::Result<()> {
/// #     let (mut stream, _) = target.accept()?;
/// #     std::io::copy(&mut stream.try_clone()?, &mut stream)?;
/// #     Ok(())
/// # });
/// let listener = sockeye::listen("127.0.0.1:0")?;
/// # let client = sockeye::connect(listener.local_address().unwrap())?;
/// # let reader = client.clone();
/// # let reading = std::thread::spawn(move || {
/// #     let mut echo = String::new();
/// #     reader.reader().read_to_string(&mut echo).map(|_| echo)
/// # });
/// # client.writer().write_all(b"hello")?;
/// # client.writer().close()?;
/// let a = listener.accept()?;
/// let b = sockeye::connect(address)?;
/// let (there, back) = sockeye::tunnel(&a, &b, Duration::from_secs(60))?;
/// println!("{there} bytes there, {back} bytes back");
/// # assert_eq!((there, back), (5, 5));
/// # assert_eq!(reading.join().unwrap()?, "hello");
/// # served.join().unwrap()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("copy_bidirectional", "proxy", "pipe", "splice"))]
pub fn tunnel(
    a: &Socket,
    b: &Socket,
    idle: impl Into<Option<Duration>>,
) -> Result<(u64, u64), TunnelError> {
    let idle = idle.into();
    if Arc::ptr_eq(a.handle.connection(), b.handle.connection()) {
        return Err(TunnelError::before(Error::invalid_options("both ends are the same socket")));
    }
    if idle == Some(Duration::ZERO) {
        return Err(TunnelError::before(Error::invalid_options(
            "the idle limit is zero: no byte could arrive in time",
        )));
    }
    let tunnel = &Tunnel::new([&a.handle, &b.handle], idle);
    let started = thread::scope(|scope| {
        // Started first, because nothing has changed if there is no thread.
        let (give, given) = mpsc::sync_channel(1);
        let other = move || {
            if let Ok(carrier) = given.recv() {
                tunnel.relay(TunnelSide::B, carrier);
            }
        };
        thread::Builder::new().name("sockeye-tunnel".to_owned()).spawn_scoped(scope, other)?;
        if let Some([there, back]) = tunnel.open() {
            // It cannot be gone.
            let _ = give.send(back);
            drop(give);
            tunnel.relay(TunnelSide::A, there);
        }
        Ok::<(), std::io::Error>(())
    });
    match started {
        Ok(()) => tunnel.finish(),
        Err(error) => Err(TunnelError::before(error.into())),
    }
}
