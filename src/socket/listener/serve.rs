//! `Listener::serve`: a handler for each connection, on a bounded number of threads.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Incoming, ListenScope, Listener};
use crate::Socket;
use crate::driver::{ScopeId, log_error};
use crate::error::{Error, Result};
use crate::panic::catch_panic;

/// The threads that run the handler.
struct Threads {
    state: Mutex<State>,
    /// Signals a socket to handle, or the end.
    work_available: Condvar,
    /// Signals a thread that has become free.
    thread_free: Condvar,
}

#[derive(Default)]
struct State {
    sockets: VecDeque<Accepted>,
    /// The number of threads that exist.
    threads: usize,
    /// The number of threads that no socket is meant for.
    free: usize,
    is_over: bool,
}

/// A socket, and the scope that closes it.
struct Accepted {
    socket: Socket,
    scope: ScopeId,
}

impl Threads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a thread that is free for the next socket. Starts one if there is none and fewer than `max` exist.
    ///
    /// # Errors
    /// The error of `start`, if there is no thread to wait for.
    fn take_free(&self, max: usize, start: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let mut state = self.state();
        while state.free == 0 {
            if state.threads < max {
                match start() {
                    Ok(()) => {
                        state.threads += 1;
                        return Ok(());
                    }
                    Err(error) if state.threads == 0 => return Err(error),
                    Err(_) => {}
                }
            }
            state = self.thread_free.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free -= 1;
        Ok(())
    }

    /// Runs the handler for one socket after another, until there are no more.
    fn run(&self, listener: &Listener, handler: &(impl Fn(Socket) + Sync)) {
        loop {
            let mut state = self.state();
            let accepted = loop {
                match state.sockets.pop_front() {
                    Some(accepted) => break accepted,
                    None if state.is_over => return,
                    None => {
                        state =
                            self.work_available.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                }
            };
            drop(state);
            handle(listener, accepted, handler);
            self.state().free += 1;
            self.thread_free.notify_one();
        }
    }

    /// Has the threads end once every socket is handled.
    fn end(&self) {
        self.state().is_over = true;
        self.work_available.notify_all();
    }
}

impl Listener {
    /// Accepts on the calling thread, and passes each socket to `handler` on one of at most `threads` threads. Returns
    /// when the listener is closed and every handler has returned.
    ///
    /// Threads start on demand, the first one before a client connects. A connection is accepted only when a thread is
    /// free for it, so a handler should set a read timeout or deadline. Each call is a scope: when the handler returns or panics, its socket is closed as by
    /// [`Socket::close`], upgraded or not. A panic is reported by the panic hook, logged, and goes no further.
    ///
    /// # Errors
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if `threads` is zero.
    /// - [`Io`](crate::ErrorKind::Io) if not even one thread can be started.
    /// - The cause, if the system ended the listener.
    ///
    /// ```
    /// use std::io::{Read, Write};
    ///
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let client = sockeye::connect(listener.local_address().unwrap())?;
    /// client.writer().write_all(b"ping")?;
    /// client.writer().close()?;
    /// listener.serve(4, |socket| {
    ///     let _ = std::io::copy(&mut socket.reader(), &mut socket.writer());
    ///     listener.close();
    /// })?;
    /// let mut echo = String::new();
    /// client.reader().read_to_string(&mut echo)?;
    /// assert_eq!(echo, "ping");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias("handler"))]
    pub fn serve(&self, threads: usize, handler: impl Fn(Socket) + Send + Sync) -> Result<()> {
        if threads == 0 {
            let message = "serve needs at least one thread: threads is zero";
            return Err(Error::invalid_options(message));
        }
        self.inner.check_process()?;
        let shared = Threads {
            state: Mutex::default(),
            work_available: Condvar::new(),
            thread_free: Condvar::new(),
        };
        let (shared, handler) = (&shared, &handler);
        let served = thread::scope(|scope| {
            let _end = EndOnDrop(shared);
            let start = || {
                let thread = thread::Builder::new().name("sockeye-serve".to_owned());
                thread.spawn_scoped(scope, || shared.run(self, handler)).map(drop)
            };
            loop {
                // First, so that no connection is taken that no thread can serve.
                shared.take_free(threads, start).map_err(Error::from)?;
                let id = self.inner.registry().begin_scope();
                let Some(socket) = Incoming::new(self, Some(id)).next() else {
                    drop(ListenScope::new(self, id));
                    return Ok(());
                };
                shared.state().sockets.push_back(Accepted { socket, scope: id });
                shared.work_available.notify_one();
            }
        });
        served.and_then(|()| self.closed())
    }
}

/// Ends the threads, also if accepting panics.
struct EndOnDrop<'a>(&'a Threads);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Runs the handler for one socket, and closes the socket.
fn handle(listener: &Listener, accepted: Accepted, handler: &impl Fn(Socket)) {
    let Accepted { socket, scope } = accepted;
    let scope = ListenScope::new(listener, scope);
    if catch_panic(|| handler(socket)).is_none() {
        let address = listener.inner.local_address();
        log_error(format_args!("a handler of the listener on {address} panicked"));
    }
    drop(scope);
}
