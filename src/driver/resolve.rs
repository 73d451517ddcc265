//! Name look-ups, on a small pool of threads of their own, because the system's resolver blocks.
//!
//! Threads are started by need and end when idle. Two begin at once; more, up to a bound, only when a
//! look-up has waited for a while, which is when the others hang. A look-up whose socket has gone
//! is not begun; one that is under way can't be stopped, but its thread is one of the bounded few.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::errno::code;
use super::shared::Shared;
use super::sync::{Condvar, Mutex, MutexGuard, thread};
use super::{harmless, say};
use crate::error::{Fault, Unresolved};

/// The most threads that look names up.
const THREADS_MOST: usize = 16;
/// So many threads are started without delay.
const THREADS_AT_ONCE: usize = 2;
/// How long a look-up waits before another thread is started for it.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(5);
/// The most look-ups that wait for a thread. Those of sockets that have gone are dropped first; what
/// is beyond it waits with its socket.
const QUEUE_MOST: usize = 1024;

/// The pool. Its lock guards the queue and the count of threads; nothing else is taken under it but
/// a socket's state lock, to see whether it still waits.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<(Instant, Arc<Shared>)>,
    threads: usize,
    idle: usize,
}

/// What came of handing a look-up in.
#[derive(Debug)]
pub(super) enum Submitted {
    /// It is queued.
    Queued,
    /// The queue is full.
    Full,
    /// There is no thread, and none can be started.
    Failed(Fault),
}

impl Pool {
    pub(super) const fn new() -> Self {
        Pool {
            queue: Mutex::new(Queue { waiting: VecDeque::new(), threads: 0, idle: 0 }),
            more: Condvar::new(),
        }
    }

    pub(super) fn submit(&'static self, shared: &Arc<Shared>, now: Instant) -> Submitted {
        let mut queue = self.lock();
        if queue.waiting.len() >= QUEUE_MOST {
            queue.waiting.retain(|(_, shared)| shared.is_connecting());
            if queue.waiting.len() >= QUEUE_MOST {
                return Submitted::Full;
            }
        }
        queue.waiting.push_back((now, Arc::clone(shared)));
        if queue.idle >= queue.waiting.len() || queue.threads >= THREADS_AT_ONCE {
            drop(queue);
            self.more.notify_one();
            return Submitted::Queued;
        }
        match self.start_thread(&mut queue) {
            Ok(()) => Submitted::Queued,
            Err(_) if queue.threads > 0 => Submitted::Queued,
            Err(error) => {
                queue.waiting.pop_back();
                Submitted::Failed(Fault::Io(code(&error)))
            }
        }
    }

    /// Starts another thread where the first in the queue has waited long; says whether anything waits.
    pub(super) fn tend(&'static self, now: Instant) -> bool {
        let mut queue = self.lock();
        let Some((since, _)) = queue.waiting.front() else { return false };
        let late = now.saturating_duration_since(*since) >= PATIENCE;
        if late && queue.idle == 0 && queue.threads < THREADS_MOST {
            let started = self.start_thread(&mut queue);
            drop(queue);
            if let Err(error) = started {
                say(format_args!("no further thread for name look-ups: {error}"));
            }
        }
        true
    }

    fn start_thread(&'static self, queue: &mut Queue) -> io::Result<()> {
        thread::Builder::new().name("sockeye-names".to_owned()).spawn(move || self.work())?;
        queue.threads += 1;
        Ok(())
    }

    fn work(&self) {
        let mut queue = self.lock();
        loop {
            while let Some((_, shared)) = queue.waiting.pop_front() {
                drop(queue);
                if shared.is_connecting() {
                    look_up(&shared);
                }
                drop(shared);
                queue = self.lock();
            }
            queue.idle += 1;
            let (back, timeout) =
                self.more.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            queue = back;
            queue.idle -= 1;
            if timeout.timed_out() && queue.waiting.is_empty() {
                queue.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that is the user's is called and dropped here, on a thread that others don't wait for.
fn look_up(shared: &Arc<Shared>) {
    let requested = shared.requested();
    let (hostname, port) = (requested.hostname(), requested.port());
    let answer = harmless(|| {
        let answer = match shared.take_resolver() {
            None => ask_system(hostname, port),
            Some(resolver) => resolver
                .resolve(hostname)
                .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        };
        answer.map_err(|error| Unresolved { text: error.to_string(), error })
    });
    let answer = answer.unwrap_or_else(|| {
        let error = io::Error::other("the resolver panicked");
        Err(Unresolved { text: error.to_string(), error })
    });
    if !shared.is_connecting() {
        say(format_args!("the look-up of {hostname} ended after its socket"));
    }
    harmless(|| shared.resolved(answer));
}

fn ask_system(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    match (hostname, port).to_socket_addrs() {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) if error.raw_os_error().is_some() => Err(error),
        // What getaddrinfo says has a text and no kind.
        Err(error) => Err(io::Error::new(io::ErrorKind::NotFound, error)),
    }
}
