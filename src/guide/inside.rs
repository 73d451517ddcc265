//! How the crate is built, what was measured, and why it is so.
//!
//! # Layers
//!
//! Of these each uses only those below it:
//!
//! ```text
//! ureq       HTTP by ureq, over the handles (a feature)
//! socket     the handles: Socket, Reader, Writer, Connector, connect
//! driver     the loop's thread, the callers' own system calls, names, timers
//! sim        beside the driver, and in its place: a simulated world (a feature)
//! machine    pure: what a socket is and does; no clock, thread, lock or socket; TLS
//! address, options, egress, resolver, error, info, tls  plain data
//! ```
//!
//! What a socket does in which state is all in the [`machine`](crate::machine), which can be driven by hand:
//! it says what to do, and is told what came of it. The layers above make the system calls and wake who
//! waits. A test, `tests/it/layering.rs`, reads the sources and fails on an import that points upward, and on
//! `mio`, `socket2` or `rustix` outside the driver; `clippy.toml` forbids the machine clocks, locks and
//! sockets.
//!
//! | What you look for | is in |
//! |---|---|
//! | every state, and every way from one to another | `src/machine/state` |
//! | the race of the addresses | `src/machine/race.rs` |
//! | the only file that knows a connection of rustls | `src/machine/tls.rs` |
//! | a read or a write from its call to its end | `src/driver/reading.rs`, `writing.rs`, over TLS `sealed.rs` |
//! | how a thread waits, and how another ends that | `src/driver/readiness.rs`, `wait.rs` |
//! | the system calls on a stream | `src/driver/wire.rs` |
//! | a wait for the beginning or the end of a socket, and the ways to end it | `src/driver/calls.rs` |
//! | connections from `std` and to it | `src/driver/given.rs`, `detach.rs` |
//! | whether an idle socket is still good | `src/driver/health.rs` |
//! | how what the machine wants is done | `src/driver/deeds.rs` |
//! | the order of an upgrade | `src/driver/upgrade.rs` |
//! | which sockets a connector has, who waits for a place, scopes | `src/driver/registry.rs` |
//! | what the egress rules decide, and the table of special addresses | `src/egress` |
//! | the loop | `src/driver/event_loop.rs` |
//!
//! # Who does the I/O
//!
//! In each phase and direction exactly one party touches the wire. While a socket
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
//! # Where the rest goes
//!
//! What is left between this and `std`, counted by callgrind, strace and the benchmarks:
//!
//! - A round trip of 64 bytes takes 480 instructions of a program here and 220 by `std`: two locks taken for each
//!   call, the turn, the machine's pass, the forecast. They were 735, spread over 102 lines of the cache instead of
//!   60; since a switch between two processes leaves few of these in the first-level cache, the lines counted for
//!   more: 0.975 of `std` became 0.978 to 0.979. About as much as what is left is the kernel's timer behind a receive that
//!   waits for some milliseconds at most, which `std` without a time-out does not set: with a time-out on both sides
//!   the ratio is better by 0.6 per cent.
//! - To connect and close takes `socket`, `connect` and `close` by `std`. Here it is these, `TCP_NODELAY`, a second
//!   `connect` that tells what the first could not wait for, `getsockname`, `shutdown`, and a receive or two by
//!   which unread data does not become a reset: what is documented costs that much. A second thread in the process
//!   alone costs four per cent. The program's own part is 8,700 instructions; 700 fewer made no difference, nor did
//!   it to keep fewer sockets that linger.
//! - A round trip over TLS takes 6,400 instructions and 5,600 by `StreamOwned`; they were 7,400. What went: after a
//!   record that is data and nothing else, rustls is not asked for an answer, nor for a next record where nothing
//!   more has come; the clock is read only where the time matters; a reference to the wire is moved and not counted.
//! - A handshake takes 24,000 instructions more, of 3.8 million with those of the server, and five system
//!   calls.
//! - What is sent over TLS is copied once more, out of a record of rustls into the buffer that is sent: its
//!   interface without buffers gives ciphertext that way. Its other interface sends from where the record is, but
//!   only while the connection is borrowed, so under the lock that a reader needs too. What the copy weighs depends
//!   on the machine's hour: where `StreamOwned` took 840 ms of CPU for a GiB, nothing; where it took 370, 7 to 12
//!   per cent.
//! - An idle socket has 264 bytes of state, 32 for its host, 32 for the descriptor, 32 in tables and lists, and
//!   what the allocator adds.
//!
//! # TLS
//!
//! A session of rustls is inside the machine, by its unbuffered interface. What comes is received
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
//! A session that may run code of the program's, such as a verifier or a key log of a configuration of its own,
//! leaves the state for that time. The state keeps what was decrypted and what was sealed, so that reads and sends go
//! on, and everything else goes on as well: a close, a limit, a look. Writes wait until the session is back, and
//! close_notify is said then. It may come back to a socket that is closed: then it is dropped without the lock. All that
//! was received is decrypted at once, up to 64 KiB, and copied once more than in other sessions; so the reader takes it
//! without the session. Panics end the connection with an error.
//!
//! # The state
//!
//! The state of a socket is a [`machine`](crate::machine) under a lock, beside what its waiters
//! need. A change takes the lock, tells the machine, notes who waits for what changed, releases the
//! lock, and only then wakes threads and touches the wire: no system call is made under the state lock.
//! Since whoever is going to wait announces it under that lock, having looked there at all that could
//! end the wait, no wake-up is lost, and no counter of changes is needed beside it.
//!
//! The state that handles and the loop share lives in the driver, below the handles, and not beside
//! them: the loop has to call it, and imports point downward only.
//!
//! Turns (who may make calls in a direction) are part of the state under the lock: a flag and the
//! condition variable, so that who waits for a turn can have a deadline.
//!
//! # Watching
//!
//! Watching for the peer's end is edge-triggered, so it always begins with a registration, which reports the
//! present state. It begins 100 ms after the last read; until then, and while reads go on, the loop only
//! glances at a list ten times a second. That is what makes a read cost the loop nothing, and it is also why
//! a peer's end that nobody reads is noticed up to 200 ms late.
//!
//! # Resets
//!
//! A reset is told once by Linux, to whichever of recv, send, peek or `SO_ERROR` comes first; a
//! receive after that gives 0, like an end. So a 0 is believed only when poll(2) shows no hang-up, which
//! it does for a plain FIN only when this side has ended as well. A reset that came after the peer's end
//! is told as a broken pipe: what the peer sent is complete then, and reads end cleanly. And since a
//! writer may be told why while a reader is told nothing, or the other way round, whoever knows less
//! waits a moment for who may know more.
//!
//! # Rules and places
//!
//! The egress rules are asked in the machine, on the way to every attempt, and not where names are looked up:
//! there is one such way, whatever the answer came from, and who drives a machine by hand can't get around
//! it. A denial is one word in the machine; which rule it was, the rules tell again when the error is made, so
//! that the state of a socket needs no room for it. One question is left to the driver, whether an address is
//! of this machine, because only the system knows.
//!
//! A socket gives back its place among those that may be open in the moment in which its outcome becomes
//! visible, under its state lock: who was told of an end can count on the place. Where others wait the place
//! passes to the first of them and is free at no time, so nobody overtakes. That one is started by the loop,
//! because whoever gave the place back has other things to do, and because a thousand that fail at once would
//! otherwise be a thousand calls deep.
