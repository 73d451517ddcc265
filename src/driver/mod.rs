//! What runs the machines: one thread with an event loop, and the callers' own threads.
//!
//! The loop connects, watches sockets that nobody reads, drops what nobody wants and keeps time. It
//! takes no part in a read or write that a caller attends. It is one thread for the whole process,
//! started by the first socket, and asleep without a limit when there is nothing to do. A forked child that
//! opens a socket starts a loop of its own.

mod attend;
mod buffers;
mod calls;
mod clock;
mod deeds;
mod descriptor;
#[cfg(all(unix, not(sockeye_shuttle)))]
mod detach;
mod dial;
mod errno;
mod event_loop;
mod facts;
mod fairness;
mod forecast;
mod foreign;
mod fork;
mod given;
mod handles;
mod health;
mod hosts;
mod linger;
mod logs;
#[cfg(sockeye_shuttle)]
pub mod model;
mod news;
mod patience;
mod poison;
mod pool;
mod readiness;
mod reading;
mod ready;
mod resolve;
mod roster;
mod sealed;
mod shared;
mod slices;
mod sync;
mod table;
#[cfg(test)]
mod tests;
mod turns;
mod upgrade;
mod wait;
mod watch;
mod wire;
mod wires;
mod workers;
mod writing;
mod young;

use std::io;
use std::net::SocketAddr;
#[cfg(not(sockeye_shuttle))]
use std::sync::OnceLock;
#[cfg(not(sockeye_shuttle))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, Weak};
#[cfg(not(sockeye_shuttle))]
use std::time::Duration;
use std::time::Instant;

use self::linger::LingerQueue;
use self::logs::LogQueue;
use self::resolve::ResolverPool;
use self::sync::Mutex;
use self::sync::mio::{self, Token, Waker};
use self::wire::Wire;
use self::workers::Workers;
use self::young::IdleList;
use crate::error::Fault;
use crate::machine::AttemptId;
#[cfg(not(sockeye_shuttle))]
use crate::process::{ForkMark, PerProcess};

pub use self::descriptor::Descriptor;
pub(crate) use self::given::AdoptedStream;
pub(crate) use self::pool::Share as LookupShare;
pub(crate) use self::roster::{Registry, ScopeId, SocketLimit};
pub(crate) use self::shared::{ConnectContext, Connection, Origin};
pub(crate) use self::slices::{RecvBufs, SendBufs};
pub(crate) use self::wait::Side;

/// What the other threads have of the loop.
#[derive(Debug)]
struct LoopHandle {
    /// Work for the loop. No other lock is taken under it.
    queue: Mutex<CommandQueue>,
    waker: Waker,
    registry: mio::Registry,
    resolver_pool: ResolverPool,
    workers: Workers,
    log_queue: LogQueue,
    linger_queue: LingerQueue,
    idle_list: IdleList,
}

#[derive(Debug)]
struct CommandQueue {
    commands: Vec<Command>,
    state: LoopState,
}

/// As the system calls it if a lock can't be had.
#[cfg(not(sockeye_shuttle))]
fn cannot_start_error() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::DEADLK.into();
    #[cfg(not(unix))]
    io::ErrorKind::Deadlock.into()
}

/// What the loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoopState {
    /// It is at work, and will look into the command queue before it sleeps.
    Running,
    /// It looks again soon by itself.
    ShortPoll,
    /// It sleeps until it is woken, or for longer than soon.
    Blocked,
}

/// What the loop is asked to do.
#[derive(Debug)]
enum Command {
    /// Look after the sockets that are listed to be watched.
    ScanIdle,
    /// Have the socket's wire registered for what is wanted of it now.
    UpdateInterest(Arc<Connection>),
    /// Report on what has this token to the socket that took its connection over.
    TransferToken(Token, Arc<Connection>),
    /// Tell the socket when this instant has come.
    SetTimer(Arc<Connection>, Instant),
    /// Tell the socket when this attempt has ended.
    WatchConnect {
        connection: Arc<Connection>,
        id: AttemptId,
        address: SocketAddr,
        wire: Arc<Wire>,
    },
    /// This attempt of the socket is not wanted any more.
    CancelAttempt(Arc<Connection>, AttemptId),
    /// These are not wanted any more.
    DropTokens(Vec<Token>),
    /// There is a place for this socket, which waited for one.
    StartQueued(Weak<Connection>),
    /// Look after the queue of look-ups.
    PollResolver,
    /// Look after the wires that linger.
    PollLingering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits for it.
    Now,
    /// Within a tenth of a second.
    Soon,
}

#[cfg(not(sockeye_shuttle))]
static LOOP_START: PerProcess<LoopStart> = PerProcess::new();

/// The driver of one process, which its first use starts.
#[cfg(not(sockeye_shuttle))]
#[derive(Default)]
struct LoopStart {
    loop_handle: OnceLock<LoopHandle>,
    /// Guards nothing but that two don't start it.
    starting: Mutex<()>,
    /// This process was forked from one that had a driver.
    forked: bool,
    /// No thread of std starts here, and none ever will.
    cannot_start: AtomicBool,
}

#[cfg(not(sockeye_shuttle))]
impl LoopStart {
    #[inline]
    fn of_process() -> &'static LoopStart {
        LOOP_START.get(|parents| LoopStart { forked: parents.is_some(), ..LoopStart::default() })
    }
}

/// How long the loop's thread of a forked child may take to start. A thread of std takes a lock of std's own then,
/// which another thread of the parent may have held at the fork, because it was starting or ending.
#[cfg(not(sockeye_shuttle))]
const START_TIMEOUT: Duration = Duration::from_secs(10);

impl LoopHandle {
    /// That of this run, which has begun.
    #[cfg(sockeye_shuttle)]
    #[expect(clippy::unnecessary_wraps, reason = "as the other one")]
    fn get() -> Result<&'static LoopHandle, Fault> {
        Ok(model::loop_handle())
    }

    /// The driver, started where that is the first use. What hinders it now may not the next time.
    #[cfg(not(sockeye_shuttle))]
    #[inline]
    fn get() -> Result<&'static LoopHandle, Fault> {
        let start = LoopStart::of_process();
        match start.loop_handle.get() {
            Some(loop_handle) => Ok(loop_handle),
            None => LoopHandle::init(start),
        }
    }

    /// The driver, if it has been started.
    #[cfg(sockeye_shuttle)]
    #[expect(clippy::unnecessary_wraps, reason = "as the other one")]
    fn get_if_started() -> Option<&'static LoopHandle> {
        Some(model::loop_handle())
    }

    /// The driver, if it has been started.
    #[cfg(not(sockeye_shuttle))]
    fn get_if_started() -> Option<&'static LoopHandle> {
        LoopStart::of_process().loop_handle.get()
    }

    #[cfg(not(sockeye_shuttle))]
    #[cold]
    fn init(start: &'static LoopStart) -> Result<&'static LoopHandle, Fault> {
        let _starting = start.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loop_handle) = start.loop_handle.get() {
            return Ok(loop_handle);
        }
        if start.cannot_start.load(Ordering::Relaxed) {
            return Err(Fault::Io(errno::os_code(&cannot_start_error())));
        }
        LoopHandle::start(start).map_err(|error| Fault::Io(errno::os_code(&error)))
    }

    #[cfg(not(sockeye_shuttle))]
    fn start(start: &'static LoopStart) -> io::Result<&'static LoopHandle> {
        let mark = ForkMark::new()?;
        let poll = mio::Poll::new()?;
        let loop_handle = LoopHandle::new(&poll)?;
        // The thread begins once the driver is where it looks for it, or never.
        let (handle_sender, handle_receiver) =
            std::sync::mpsc::sync_channel::<&'static LoopHandle>(1);
        let (started_sender, started) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("sockeye-loop".to_owned()).spawn(move || {
            // Nobody may wait for it.
            let _ = started_sender.send(());
            if let Ok(loop_handle) = handle_receiver.recv() {
                event_loop::run(poll, loop_handle, mark);
            }
        })?;
        if start.forked && started.recv_timeout(START_TIMEOUT).is_err() {
            start.cannot_start.store(true, Ordering::Relaxed);
            return Err(cannot_start_error());
        }
        let loop_handle = start.loop_handle.get_or_init(|| loop_handle);
        handle_sender.send(loop_handle).map_err(io::Error::other)?;
        log_debug(format_args!("the event loop has started"));
        Ok(loop_handle)
    }

    fn new(poll: &mio::Poll) -> io::Result<LoopHandle> {
        Ok(LoopHandle {
            queue: Mutex::new(CommandQueue { commands: Vec::new(), state: LoopState::Running }),
            waker: Waker::new(poll.registry(), event_loop::WAKER_TOKEN)?,
            registry: poll.registry().try_clone()?,
            resolver_pool: ResolverPool::new(),
            workers: Workers::new(),
            log_queue: LogQueue::new(),
            linger_queue: LingerQueue::new(),
            idle_list: IdleList::new(),
        })
    }

    fn post(&self, command: Command, urgency: Urgency) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.commands.push(command);
        let wake = match (queue.state, urgency) {
            (LoopState::Running, _) | (LoopState::ShortPoll, Urgency::Soon) => false,
            (LoopState::ShortPoll, Urgency::Now) | (LoopState::Blocked, _) => true,
        };
        if wake {
            queue.state = LoopState::Running;
        }
        drop(queue);
        if wake {
            if let Err(error) = self.waker.wake() {
                log_debug(format_args!("the event loop could not be woken: {error}"));
            }
        }
    }

    fn registry(&self) -> &mio::Registry {
        &self.registry
    }

    fn resolver_pool(&self) -> &ResolverPool {
        &self.resolver_pool
    }

    fn log_queue(&self) -> &LogQueue {
        &self.log_queue
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }

    fn idle_list(&self) -> &IdleList {
        &self.idle_list
    }

    fn linger_queue(&self) -> &LingerQueue {
        &self.linger_queue
    }
}

/// Calls what may be, or may end in, code of the user's: its panics go no further.
fn catch_panic<R>(work: impl FnOnce() -> R) -> Option<R> {
    // There they are what is looked for.
    #[cfg(sockeye_shuttle)]
    return Some(work());
    #[cfg(not(sockeye_shuttle))]
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)) {
        Ok(result) => Some(result),
        Err(payload) => {
            // To drop it may panic again.
            std::mem::forget(payload);
            None
        }
    }
}

/// Logs, under no lock: a logger is the user's, and may use a socket itself.
fn log_debug(text: std::fmt::Arguments<'_>) {
    logs::log_at(log::Level::Debug, text);
}
