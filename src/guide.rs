//! The guide: the life of a socket, what its calls promise, and how the crate is built.
//!
//! # The life of a socket
//!
//! ```text
//!   connect()                  opened() settles                       closed() settles
//!      |                             |                                       |
//!   Connecting  ------------------> Open  ---- one direction ended ---->  Closed
//!      |                            ^  |            HalfClosed               ^
//!      |   start_tls()             /   |                                     |
//!      |      |  the new socket   /    | start_tls(): the old socket         |
//!      |   Upgrading ------------'     +-------------------------------------+
//!      |      |                                                              |
//!      +------+ failed, timed out, closed -----------------------------------+
//! ```
//!
//! [`Socket::phase`](crate::Socket::phase) tells where it is; it only ever advances.
//!
//! - **Connecting**: the name is looked up and its addresses race (RFC 8305), and where the socket is TLS
//!   from the start the handshake is made, all within one
//!   [`connect_timeout`](crate::SocketOptions::connect_timeout). Reads and writes may be called already;
//!   they wait. [`Error::attempts`](crate::Error::attempts) keeps what each address said.
//! - **Upgrading**: where a socket begins that [`start_tls`](crate::Socket::start_tls) returned, until its
//!   handshake is done.
//! - **Open**: both directions work. One thread may read while another writes.
//! - **HalfClosed**: one direction has ended: [`Writer::close`](crate::Writer::close), or
//!   [`Reader::cancel`](crate::Reader::cancel), or the peer's end where
//!   [`allow_half_open`](crate::SocketOptions::allow_half_open) is set. The other goes on.
//! - **Closed**: [`Socket::closed`](crate::Socket::closed) has its answer, which never changes again.
//!
//! By default the peer's end closes the write side too, once all that the peer sent was read and a write
//! that is being made has ended. That happens without anyone reading when nothing is unread: the loop
//! looks for it once no one has read for 100 ms.
//!
//! # Connecting
//!
//! Addresses are dialled in the resolver's order with the families taking turns: the next attempt
//! begins 250 ms after the last, or at once when one fails, and an older one goes on beside it. The first
//! to succeed is the connection; the others are closed without having sent a byte. So a name whose IPv6
//! address is dead costs a quarter of a second and not the whole time limit, and the error of a name that
//! no address of answers keeps [each attempt](crate::Error::attempts) with its own cause. With a
//! prescribed local port attempts run one after another. A connection that by chance came back to the
//! socket's own port is no connection; it is dialled again, twice at most.
//!
//! The limit covers everything, and its error says which step it struck: the look-up, or the attempts.
//!
//! # TLS
//!
//! A socket is TLS from its start with [`SecureTransport::On`](crate::SecureTransport::On), or from an
//! upgrade on with [`SecureTransport::StartTls`](crate::SecureTransport::StartTls).
//! [`TlsOptions`](crate::TlsOptions) says whom to trust and who we are; sockets of equal options resume each
//! other's sessions. What was agreed is in [`SocketInfo::tls`](crate::SocketInfo::tls). A host that is an
//! address has to be in the certificate as an address.
//!
//! Reading and writing don't wait for each other: one thread may block in a read for hours while another
//! writes. Writes are sealed in pieces of at most 64 KiB, and a write that was sealed is accepted, whatever
//! the peer does: so it never says that it timed out when a part of it will arrive.
//!
//! **The end** of a TLS stream is close_notify, not FIN, which anybody on the way can forge. So FIN without
//! close_notify is [`Truncated`](crate::ErrorKind::Truncated), after all data that came. Servers that end
//! without it exist; where the protocol itself tells what is complete,
//! [`require_close_notify(false)`](crate::TlsOptions::require_close_notify) takes FIN for the end. This side
//! always sends close_notify before its FIN. In TLS 1.3 a server may refuse a client certificate only after
//! the handshake has ended for the client: the alert that says so is then reported by reads, writes and
//! `closed`, and not the broken pipe that follows it.
//!
//! ## Upgrades, and plaintext that was injected
//!
//! In an upgrade the peer says a last word in plaintext, such as `220 go ahead`, and then waits for the
//! ClientHello. Somebody on the way can append plaintext of their own to that word. A client that has a
//! buffer between itself and the socket reads it after the upgrade, and takes it for an answer that came
//! over TLS: mail clients have leaked passwords that way. Here
//! [`start_tls`](crate::Socket::start_tls) looks at the wire after everybody has left it and before it sends
//! anything: whatever is there ends the connection with
//! [`UnreadPlaintext`](crate::ErrorKind::UnreadPlaintext). What comes later is for TLS to judge, which
//! takes nothing for true that isn't encrypted.
//!
//! What the crate can't see is what a [`BufReader`](std::io::BufReader) of the program's own has taken. Look
//! at it, drop it, and make another one of the new socket:
//!
//! ```
//! use std::io::{self, BufRead, BufReader, Write};
//! use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions, connect_with};
//!
//! fn upgrade(socket: &Socket) -> io::Result<Socket> {
//!     let mut reader = BufReader::new(socket.reader());
//!     let mut line = String::new();
//!     reader.read_line(&mut line)?;
//!     socket.writer().write_all(b"STARTTLS\r\n")?;
//!     line.clear();
//!     reader.read_line(&mut line)?;
//!     if !line.starts_with("220 ") {
//!         return Err(io::Error::other("the server does not want to"));
//!     }
//!     if !reader.buffer().is_empty() {
//!         return Err(io::Error::other("the server went on after its go-ahead"));
//!     }
//!     Ok(socket.start_tls()?)
//! }
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
//! # let port = listener.local_addr()?.port();
//! # let peer = std::thread::spawn(move || -> io::Result<()> {
//! #     let (mut stream, _) = listener.accept()?;
//! #     stream.write_all(b"220 hello\r\n")?;
//! #     BufReader::new(&mut stream).read_line(&mut String::new())?;
//! #     stream.write_all(b"220 go ahead\r\n250 injected\r\n")?;
//! #     io::copy(&mut stream, &mut io::sink())?;
//! #     Ok(())
//! # });
//! # let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
//! # let socket = connect_with(("127.0.0.1", port), options)?;
//! # assert!(upgrade(&socket).is_err());
//! # drop(socket);
//! # peer.join().unwrap()?;
//! # Ok::<(), io::Error>(())
//! ```
//!
//! # Closing
//!
//! | | what is written but unsent | the peer sees | blocked reads and writes | waits for |
//! |---|---|---|---|---|
//! | [`close()`](crate::Socket::close) | handed to the kernel, within the close timeout | (close_notify,) FIN | `Closed` | that hand-over |
//! | [`abort()`](crate::Socket::abort) | dropped | a reset | `Closed` | nothing |
//! | [`Writer::close()`](crate::Writer::close) | handed to the kernel | (close_notify,) FIN | reading goes on | that hand-over |
//! | the last handle dropped | as `close()`, in the background | (close_notify,) FIN | | nothing |
//! | close or abort while connecting | | the attempt or handshake ends at once | `Closed` | nothing |
//!
//! Bytes that nobody has read when a descriptor is closed make the kernel send a reset, which can
//! destroy what the peer has not read yet. So after its FIN this side goes on to drop what comes: what
//! is there already before `close` returns, the rest in the background, for at most 2 s and 1 MiB, and
//! for at most 1,024 sockets at a time. A process that exits takes that with it: end `main` with a
//! `close` of what matters.
//!
//! # Errors and ends
//!
//! `Ok(0)` from a read is the peer's clean end, never anything else. A reset is
//! [`Reset`](crate::ErrorKind::Reset), to readers, writers and `closed` alike, although the kernel tells
//! it only to whoever asks first. Every waiter gets the same error, and once a socket has failed every
//! call gives that failure. Limits that end one call only are
//! [retryable](crate::Error::is_retryable): nothing was taken, the call can be repeated.
//!
//! # Deadlines
//!
//! A timeout bounds each call, from its beginning; a deadline is an instant after which all calls of a
//! direction time out. The earlier counts. Both can be changed while a call waits, which then goes by
//! the new ones, and a deadline in the past wins over data that is ready. A thread that waits for
//! another to finish its read goes by its own limits all the same.
//!
//! # What `write` and `flush` promise
//!
//! A write returns when some of the bytes are accepted, with their number: in plaintext when the kernel
//! has taken them, over TLS when they are sealed, at most 64 KiB beyond what the kernel has taken. What is
//! accepted will be sent, also after `close`, unless the connection breaks or is aborted; whether the
//! peer's program has read it only the peer can tell. `flush` waits until the kernel has all of it, which
//! in plaintext it always has. Each write over TLS is a record of its own: many small writes want a
//! [`BufWriter`](std::io::BufWriter). A write that the peer's end overtakes still ends, within the close
//! timeout.
//!
//! # Threads, fork, exit
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
//!
//! # How it is built
//!
//! Layers, of which each uses only those below it:
//!
//! ```text
//! socket     the handles: Socket, Reader, Writer, connect
//! driver     the loop's thread, the callers' own system calls, names, timers
//! machine    pure: what a socket is and does; no clock, thread, lock or socket; TLS
//! address, options, error, info, tls  plain data
//! ```
//!
//! **Who does the I/O.** In each phase and direction exactly one party touches the wire. While a socket
//! is open that is the caller's own thread, straight into or out of the caller's slice: it makes the
//! call, and when that would block it waits with poll(2) on the socket and on a wake handle of its own,
//! through which another thread can end the wait. Where there is no poll, or no descriptor left for a
//! handle, the loop watches the socket and the caller waits on a condition variable. All else is the
//! loop's: connecting, watching for the peer's end when nobody reads, dropping what nobody wants.
//!
//! On Linux a direction that has proved to be brisk, by many short waits in a row, saves the poll as
//! well: the receive itself waits, for 4 ms to 20 ms at most by the system's clock, and only when that
//! was in vain the poll follows. For so long such a read may not hear of a close or of a new deadline.
//!
//! Of the round trips of `std::net` with 64 bytes on one core, a loop that wakes callers by condition
//! variables reaches about 0.7, the caller's own poll 0.92 to 0.95, and the brisk receive 0.97
//! (`cargo bench -- ping-pong`).
//!
//! **TLS** is a session of rustls inside the machine, by its unbuffered interface. What comes is received
//! outside the lock into a buffer of the thread, decrypted in place under it, and copied to the reader's
//! slice; what is written is sealed into another buffer of the thread, which is sent outside the lock. So
//! the two directions share the lock for the time of the cryptography and not for that of the system calls,
//! and an idle connection holds no buffer. Where the kernel takes less than was sealed, the loop sends the
//! rest when there is room. While nobody reads the loop decrypts what comes, up to the first data: only that
//! tells a session ticket, an alert or a close_notify from data.
//!
//! The handshake is made by a thread that waits for it, in `opened` or in a read or write, where one
//! does; otherwise by the loop, at once where it has made the connection, within 200 ms where that was open
//! without it. Woken for each step, as it was at first, the loop cost 8 % of the handshakes per second on
//! one core (`cargo bench -- tls/handshakes`: 0.92 of `StreamOwned`).
//!
//! rustls answers a request for new keys (RFC 8446, section 4.6.3) with the next data it sends. An idle
//! connection would never answer, so the session asks for a byte to be sealed into no room, which brings the
//! answer out and seals nothing. It does so 16 times, until something is written: some peers, rustls among
//! them, take more than 32 such messages in a row for an attack.
//!
//! What runs code of the program's within TLS, such as a verifier or a key log of a configuration of its
//! own, runs under the state lock of the socket: it may use other sockets, but not that one. Its panics end
//! the connection with an error.
//!
//! **The state** of a socket is a [`machine`](crate::machine) under a lock, beside what its waiters
//! need. A change takes the lock, tells the machine, notes who waits for what changed, releases the
//! lock, and only then wakes threads and touches the wire: no system call is made under the state lock.
//! Since whoever is going to wait announces it under that lock, having looked there at all that could
//! end the wait, no wake-up is lost, and no counter of changes is needed beside it.
//!
//! **The state that handles and the loop share** lives in the driver, below the handles, and not beside
//! them: the loop has to call it, and imports point downward only.
//!
//! **Watching** is edge-triggered, so it always begins with a registration, which reports the present
//! state. It begins 100 ms after the last read; until then, and while reads go on, the loop only glances
//! at a list ten times a second. That is what makes a read cost the loop nothing, and it is also why a
//! peer's end that nobody reads is noticed up to 200 ms late.
//!
//! **Turns** (who may make calls in a direction) are part of the state under the lock: a flag and the
//! condition variable, so that who waits for a turn can have a deadline.
//!
//! **A reset is told once** by Linux, to whichever of recv, send, peek or `SO_ERROR` comes first; a
//! receive after that gives 0, like an end. So a 0 is believed only when poll(2) shows no hang-up, which
//! it does for a plain FIN only when this side has ended as well. A reset that came after the peer's end
//! is told as a broken pipe: what the peer sent is complete then, and reads end cleanly. And since a
//! writer may be told why while a reader is told nothing, or the other way round, whoever knows less
//! waits a moment for who may know more.
