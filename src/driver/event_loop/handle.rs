//! `LoopHandle`: how other threads reach the event loop. The first use starts the loop's thread.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use std::time::Instant;

use super::callback_threads::{CallbackThreads, Work};
use super::idle_list::IdleList;
use super::linger::LingerQueue;
use super::source::{LoopSource, LoopTicket};
use crate::driver::sys::errno;
use crate::driver::sys::lock_order::{RankedMutex, rank};
use crate::driver::sys::log::log_debug;
use crate::driver::sys::loop_thread::is_loop_thread;
use crate::driver::sys::per_process::PerProcess;
use crate::driver::sys::sync::atomic::{AtomicU64, Ordering};
use crate::driver::sys::sync::mio::{self, Token, Waker};
use crate::driver::sys::sync::{Mutex, mpsc, thread};
use crate::driver::sys::wire::Wire;
use crate::error::Fault;
use crate::machine::AttemptId;
use crate::panic::catch_panic;
use crate::process::ForkMark;

/// The other threads' handle to the event loop.
#[derive(Debug)]
pub(crate) struct LoopHandle {
    /// Commands for the event loop. No other lock is taken under this one.
    pub(crate) queue: RankedMutex<CommandQueue, { rank::ALONE }>,
    pub(crate) waker: Waker,
    registry: mio::Registry,
    callback_threads: CallbackThreads,
    linger_queue: LingerQueue,
    idle_list: IdleList,
    next_ticket: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct CommandQueue {
    pub(crate) commands: Vec<Command>,
    pub(crate) state: LoopState,
}

/// What the event loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoopState {
    /// It is running, and will take commands before it polls.
    Running,
    /// It polls with a timeout of at most [`IDLE_DELAY`](super::idle_list::IDLE_DELAY).
    ShortPoll,
    /// It polls without a timeout, or with a longer one.
    Blocked,
}

/// Starts threads for work that has waited too long. Returns whether to check again later.
pub(crate) type StallCheck = fn(now: Instant) -> bool;

/// A request to the event loop.
#[derive(Debug)]
pub(crate) enum Command {
    /// Scan the idle list.
    ScanIdle,
    /// Register the source's wire for the interest that the source wants now.
    UpdateInterest(Arc<dyn LoopSource>),
    /// Deliver the events of this token to the source that took over the connection.
    TransferToken(Token, Arc<dyn LoopSource>),
    /// Drop a source that released its registered wire.
    DropToken(Token),
    /// Call the source when this instant has come.
    SetTimer { source: Arc<dyn LoopSource>, ticket: LoopTicket, at: Instant },
    /// Call the source when this attempt has ended.
    WatchConnect {
        source: Arc<dyn LoopSource>,
        id: AttemptId,
        address: Option<SocketAddr>,
        wire: Arc<Wire>,
    },
    /// Cancel one attempt.
    CancelAttempt(LoopTicket, AttemptId),
    /// Cancel all attempts of the ticket.
    CancelAttempts(LoopTicket),
    /// Cancel all attempts of the ticket, and its timer.
    Forget(LoopTicket),
    /// Start this source, which was queued and now has a slot.
    Start(Weak<dyn LoopSource>),
    /// Check repeatedly whether work waits too long for a thread.
    CheckStalled(StallCheck),
    /// Drain the lingering wires.
    PollLingering,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A caller is waiting for it.
    Now,
    /// It may wait for 100 ms.
    Soon,
}

static LOOP_START: PerProcess<LoopStart> = PerProcess::new();

/// The event loop of one process, which the first use starts.
struct LoopStart {
    loop_handle: OnceLock<LoopHandle>,
    /// Prevents two threads from starting the event loop at once.
    starting: Mutex<()>,
    /// Whether this process was forked from one that used this crate.
    forked: bool,
    /// No std thread has started in this forked child within [`START_TIMEOUT`], so none ever will.
    cannot_start: AtomicBool,
}

impl Default for LoopStart {
    fn default() -> Self {
        LoopStart {
            loop_handle: OnceLock::new(),
            starting: Mutex::new(()),
            forked: false,
            cannot_start: AtomicBool::new(false),
        }
    }
}

impl LoopStart {
    #[inline]
    pub(crate) fn of_process() -> &'static LoopStart {
        LOOP_START.get(|parents| LoopStart { forked: parents.is_some(), ..LoopStart::default() })
    }
}

/// Returns whether this process was forked from one that used this crate.
pub(crate) fn is_forked_child() -> bool {
    LoopStart::of_process().forked
}

/// The time that the event loop's thread may take to start in a forked child. A starting thread takes a lock of std's.
/// Another thread of the parent may have held that lock at the fork, because it was starting or ending.
const START_TIMEOUT: Duration = Duration::from_secs(10);

impl LoopHandle {
    /// Returns the handle, and starts the event loop if necessary. After a failure the next call may succeed.
    #[inline]
    pub(crate) fn get() -> Result<&'static LoopHandle, Fault> {
        let start = LoopStart::of_process();
        match start.loop_handle.get() {
            Some(loop_handle) => Ok(loop_handle),
            None => LoopHandle::init(start),
        }
    }

    /// Returns the handle if the event loop has been started. Unlike [`get`](Self::get), it may be called under a lock.
    pub(crate) fn get_if_started() -> Option<&'static LoopHandle> {
        LoopStart::of_process().loop_handle.get()
    }

    #[cold]
    fn init(start: &'static LoopStart) -> Result<&'static LoopHandle, Fault> {
        let _starting = start.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loop_handle) = start.loop_handle.get() {
            return Ok(loop_handle);
        }
        if start.cannot_start.load(Ordering::Relaxed) {
            return Err(Fault::Io(errno::os_code(&errno::deadlock_error())));
        }
        LoopHandle::start(start).map_err(|error| Fault::Io(errno::os_code(&error)))
    }

    fn start(start: &'static LoopStart) -> io::Result<&'static LoopHandle> {
        let mark = ForkMark::new()?;
        let poll = mio::Poll::new()?;
        let loop_handle = LoopHandle::new(&poll)?;
        // The thread waits for the handle. It exits if the handle is dropped before that.
        let (handle_sender, handle_receiver) = mpsc::sync_channel::<&'static LoopHandle>(1);
        let (started_sender, started) = mpsc::sync_channel(1);
        thread::Builder::new().name("sockeye-loop".to_owned()).spawn(move || {
            // The starter may not be waiting.
            let _ = started_sender.send(());
            if let Ok(loop_handle) = handle_receiver.recv() {
                super::run(poll, loop_handle, mark);
            }
        })?;
        if start.forked && started.recv_timeout(START_TIMEOUT).is_err() {
            start.cannot_start.store(true, Ordering::Relaxed);
            return Err(errno::deadlock_error());
        }
        let loop_handle = start.loop_handle.get_or_init(|| loop_handle);
        handle_sender.send(loop_handle).map_err(io::Error::other)?;
        log_debug(format_args!("the event loop has started"));
        Ok(loop_handle)
    }

    pub(crate) fn new(poll: &mio::Poll) -> io::Result<LoopHandle> {
        Ok(LoopHandle {
            queue: RankedMutex::new(CommandQueue {
                commands: Vec::new(),
                state: LoopState::Running,
            }),
            waker: Waker::new(poll.registry(), super::WAKER_TOKEN)?,
            registry: poll.registry().try_clone()?,
            callback_threads: CallbackThreads::new(),
            next_ticket: AtomicU64::new(1),
            linger_queue: LingerQueue::new(),
            idle_list: IdleList::new(),
        })
    }

    pub(crate) fn post(&self, command: Command, urgency: Urgency) {
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
                log_debug(format_args!("cannot wake the event loop: {error}"));
            }
        }
    }

    /// Returns a ticket that was never used.
    pub(crate) fn new_ticket(&self) -> LoopTicket {
        let number = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        LoopTicket(NonZeroU64::new(number).expect("a 64-bit counter does not wrap around"))
    }

    pub(crate) fn registry(&self) -> &mio::Registry {
        &self.registry
    }

    pub(crate) fn callback_threads(&self) -> &CallbackThreads {
        &self.callback_threads
    }

    pub(crate) fn idle_list(&self) -> &IdleList {
        &self.idle_list
    }

    pub(crate) fn linger_queue(&self) -> &LingerQueue {
        &self.linger_queue
    }
}

/// Drops a value that may be or hold the program's: on this thread, unless it is the event loop.
pub(crate) fn drop_off_loop<T: Send + 'static>(value: T) {
    if !is_loop_thread() {
        catch_panic(|| drop(value));
        return;
    }
    match LoopHandle::get() {
        // If no thread can be started, the value stays queued.
        Ok(loop_handle) => loop_handle.callback_threads().submit(Work::Drop(Box::new(value))),
        // Without a handle there is no event loop to protect.
        Err(_) => drop(value),
    }
}
