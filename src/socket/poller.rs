//! The handle of a poller, and waiting for any of a few sockets.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Socket;
use super::handle::Handle;
use super::listener::Listener;
use super::reader::Reader;
use super::writer::Writer;
use crate::driver::{PollSource, PollerInner, Until, new_poller};
use crate::error::{Error, Result};
use crate::poll::{Events, Interest};

/// The maximum number of sockets of one [`wait_any`].
const MAX_ANY: usize = 1024;

/// Waits for any of many sockets and listeners: one thread can serve ten thousand idle ones.
///
/// `Send + Sync`. Every method takes `&self` and may be called from any thread, also while others wait. Several threads
/// may wait; each event goes to one of them.
///
/// The readiness is that of the socket, and not of its descriptor. Over TLS, data that is decrypted already counts, and
/// records without data do not. So [`try_read`](Socket::try_read) after a readable event does not fail with `WouldBlock`
/// unless another thread has read in between.
///
/// On Linux a poller takes three descriptors. If there are none left, it works without, and takes longer.
///
/// A poller holds no handle: a source whose last handle is dropped is removed from it, without an event. A source may be
/// in several pollers, and in one poller under several keys.
///
/// ```
/// use std::io::{ErrorKind, Write};
/// use std::time::Duration;
/// use sockeye::{Events, Interest, Poller};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let sockets = [sockeye::connect(address)?, sockeye::connect(address)?];
/// # let mut peers = [listener.accept()?.0, listener.accept()?.0];
/// let poller = Poller::new()?;
/// for (socket, key) in sockets.iter().zip(0..) {
///     poller.add(socket, key, Interest::READABLE)?;
/// }
/// # peers[0].write_all(b"hello")?;
/// # let second_address = sockets[1].opened()?.local_address();
/// # if peers[1].peer_addr().ok() == second_address { peers[1].write_all(b"hello")?; }
///
/// let mut events = Events::with_capacity(64);
/// poller.wait(&mut events, Duration::from_secs(5))?;
/// for event in events.iter() {
///     let socket = &sockets[event.key as usize];
///     let mut buf = [0; 1024];
///     loop {
///         match socket.try_read(&mut buf) {
///             Ok(0) => break, // The peer has ended.
///             Ok(bytes) => println!("{}: {:?}", event.key, &buf[..bytes]),
///             Err(error) if error.kind() == ErrorKind::WouldBlock => break,
///             Err(error) => return Err(error.into()),
///         }
///     }
///     // The event has disarmed the key.
///     poller.modify(event.key, Interest::READABLE)?;
/// }
/// # assert!(!events.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("epoll", "kqueue", "select", "poll", "Selector", "mio"))]
pub struct Poller {
    inner: Arc<PollerInner>,
}

impl Poller {
    /// Creates a poller without keys.
    ///
    /// # Errors
    /// - [`Io`](crate::ErrorKind::Io) if the event loop cannot start, for example because no descriptor is left.
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) in a child that was forked from a process that used this crate.
    ///   In such a child, every method of a poller of the parent fails so too, or does nothing.
    pub fn new() -> Result<Self> {
        Ok(Poller { inner: new_poller()? })
    }

    /// Adds a source under a key of the program's choice. The next [`wait`](Self::wait) reports what is true already,
    /// however long it has been.
    ///
    /// # Errors
    /// - [`InvalidState`](crate::ErrorKind::InvalidState) if the key is taken.
    /// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for [`WRITABLE`](Interest::WRITABLE) or
    ///   [`OPENED`](Interest::OPENED) of a listener.
    /// - [`Io`](crate::ErrorKind::Io) if the event loop cannot start.
    #[doc(alias("register"))]
    pub fn add<'a>(
        &self,
        source: impl Into<Pollable<'a>>,
        key: u64,
        interest: Interest,
    ) -> Result<()> {
        self.inner.add(source.into().source(), key, interest)
    }

    /// Replaces the interest of a key, and arms it again after a [one-shot](Interest::oneshot) event.
    ///
    /// # Errors
    /// [`InvalidState`](crate::ErrorKind::InvalidState) if the key is unknown, and
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) as [`add`](Self::add).
    #[doc(alias("reregister", "rearm"))]
    pub fn modify(&self, key: u64, interest: Interest) -> Result<()> {
        self.inner.modify(key, interest)
    }

    /// Removes a key. Returns whether it was there. No `wait` that begins afterwards reports it.
    #[doc(alias("deregister", "delete"))]
    pub fn remove(&self, key: u64) -> bool {
        self.inner.remove(key)
    }

    /// Waits for events and stores them in `events`, which is cleared first.
    ///
    /// Returns their number, at most the capacity. It is 0 if nothing was ready when `limit` passed or a
    /// [`wake`](Self::wake) came. `None` waits forever; zero does not wait. One `wait` reports a key at most once, with
    /// everything that is so. Sources are reported in rotation, so that none starves. On Linux the limit is rounded up to
    /// whole milliseconds.
    ///
    /// # Errors
    /// [`InvalidState`](crate::ErrorKind::InvalidState) in a forked child, and [`Io`](crate::ErrorKind::Io) if the system
    /// cannot wait.
    pub fn wait(&self, events: &mut Events, limit: impl Into<Option<Duration>>) -> Result<usize> {
        self.wait_for(events, Until::after(limit.into()))
    }

    /// Waits like [`wait`](Self::wait), until an instant. An instant in the past does not wait.
    ///
    /// # Errors
    /// Those of [`wait`](Self::wait).
    pub fn wait_until(&self, events: &mut Events, deadline: Instant) -> Result<usize> {
        self.wait_for(events, Until::At(deadline))
    }

    fn wait_for(&self, events: &mut Events, until: Until) -> Result<usize> {
        events.clear();
        self.inner.wait(events, until)?;
        Ok(events.len())
    }

    /// Ends one [`wait`](Self::wait): a current one, or else the next. Several calls before a `wait` end only one.
    ///
    /// ```
    /// use sockeye::{Events, Poller};
    ///
    /// let poller = Poller::new()?;
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| poller.wake());
    ///     poller.wait(&mut Events::with_capacity(1), None)
    /// })?;
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[doc(alias("notify", "Waker"))]
    pub fn wake(&self) {
        self.inner.wake();
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Returns whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Removes all keys.
impl Drop for Poller {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Something that a [`Poller`] can watch: a [`Listener`], or a [`Socket`], by itself or through its [`Reader`] or
/// [`Writer`].
#[derive(Debug)]
pub struct Pollable<'a>(Source<'a>);

#[derive(Debug)]
enum Source<'a> {
    Socket(&'a Handle),
    Listener(&'a Listener),
}

impl Pollable<'_> {
    fn source(self) -> Arc<dyn PollSource> {
        match self.0 {
            Source::Socket(handle) => Arc::clone(handle.connection()) as _,
            Source::Listener(listener) => listener.poll_source(),
        }
    }
}

impl<'a> From<&'a Socket> for Pollable<'a> {
    fn from(socket: &'a Socket) -> Self {
        Pollable(Source::Socket(&socket.handle))
    }
}

impl<'a> From<&'a Reader> for Pollable<'a> {
    fn from(reader: &'a Reader) -> Self {
        Pollable(Source::Socket(&reader.handle))
    }
}

impl<'a> From<&'a Writer> for Pollable<'a> {
    fn from(writer: &'a Writer) -> Self {
        Pollable(Source::Socket(&writer.handle))
    }
}

impl<'a> From<&'a Listener> for Pollable<'a> {
    fn from(listener: &'a Listener) -> Self {
        Pollable(Source::Listener(listener))
    }
}

/// Waits for one of a few sockets, without a poller of the program's. Returns the index of the first that is ready, or
/// `None` when `limit` passed. `None` waits forever; zero does not wait. Consumes no data.
///
/// A socket that has closed is ready, whatever its interest is. For many sockets, or in a loop, a [`Poller`] costs less.
///
/// # Errors
/// - [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for no sockets, or more than 1024.
/// - Those of [`Poller::new`] and [`Poller::wait`].
///
/// ```
/// use std::io::Write;
/// use sockeye::{Interest, wait_any};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let first = sockeye::connect(address)?;
/// # let (_peer, _) = listener.accept()?;
/// let second = sockeye::connect(address)?;
/// # let (mut peer, _) = listener.accept()?;
/// # peer.write_all(b"hello")?;
/// let sockets = [(&first, Interest::READABLE), (&second, Interest::READABLE)];
/// assert_eq!(wait_any(&sockets, None)?, Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias("select", "poll"))]
pub fn wait_any(
    sockets: &[(&Socket, Interest)],
    limit: impl Into<Option<Duration>>,
) -> Result<Option<usize>> {
    if !(1..=MAX_ANY).contains(&sockets.len()) {
        let message = format!("wait_any takes 1 to {MAX_ANY} sockets, not {}", sockets.len());
        return Err(Error::invalid_options(message));
    }
    let until = Until::after(limit.into());
    let poller = Poller::new()?;
    for ((socket, interest), key) in sockets.iter().zip(0..) {
        poller.add(*socket, key, interest.oneshot())?;
    }
    let mut events = Events::with_capacity(sockets.len());
    poller.wait_for(&mut events, until)?;
    let first = events.iter().map(|event| event.key).min();
    Ok(first.and_then(|key| usize::try_from(key).ok()))
}
