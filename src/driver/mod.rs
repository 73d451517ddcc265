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

use self::linger::Lingering;
use self::logs::Logs;
use self::resolve::Names;
use self::sync::Mutex;
use self::sync::mio::{self, Registry, Token, Waker};
use self::wire::Wire;
use self::workers::Workers;
use self::young::Young;
use crate::error::Fault;
use crate::machine::AttemptId;
#[cfg(not(sockeye_shuttle))]
use crate::process::{ForkMark, PerProcess};

pub use self::descriptor::Descriptor;
pub(crate) use self::given::Given;
pub(crate) use self::pool::Share as LookupShare;
pub(crate) use self::roster::{Quota, Roster, ScopeId};
pub(crate) use self::shared::{Shared, Source, Terms};
pub(crate) use self::slices::{Load, Room};
pub(crate) use self::wait::Side;

/// What the other threads have of the loop.
#[derive(Debug)]
struct Driver {
    /// Work for the loop. No other lock is taken under it.
    inbox: Mutex<Inbox>,
    waker: Waker,
    registry: Registry,
    names: Names,
    workers: Workers,
    logs: Logs,
    lingering: Lingering,
    young: Young,
}

#[derive(Debug)]
struct Inbox {
    jobs: Vec<Job>,
    sleep: Sleep,
}

/// As the system calls it if a lock can't be had.
#[cfg(not(sockeye_shuttle))]
fn no_thread_starts() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::DEADLK.into();
    #[cfg(not(unix))]
    io::ErrorKind::Deadlock.into()
}

/// What the loop is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// It is at work, and will look into the inbox before it sleeps.
    Awake,
    /// It looks again soon by itself.
    Nap,
    /// It sleeps until it is woken, or for longer than soon.
    Sound,
}

/// What the loop is asked to do.
#[derive(Debug)]
enum Job {
    /// Look after the sockets that are listed to be watched.
    Young,
    /// Have the socket's wire registered for what is wanted of it now.
    Register(Arc<Shared>),
    /// Report on what has this token to the socket that took its connection over.
    Adopt(Token, Arc<Shared>),
    /// Tell the socket when this instant has come.
    Limit(Arc<Shared>, Instant),
    /// Tell the socket when this attempt has ended.
    Pending { shared: Arc<Shared>, id: AttemptId, address: SocketAddr, wire: Arc<Wire> },
    /// This attempt of the socket is not wanted any more.
    GiveUp(Arc<Shared>, AttemptId),
    /// These are not wanted any more.
    Forget(Vec<Token>),
    /// There is a place for this socket, which waited for one.
    Admit(Weak<Shared>),
    /// Look after the queue of look-ups.
    Names,
    /// Look after the wires that linger.
    Linger,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Urgency {
    /// Somebody waits for it.
    Now,
    /// Within a tenth of a second.
    Soon,
}

#[cfg(not(sockeye_shuttle))]
static DRIVER: PerProcess<Start> = PerProcess::new();

/// The driver of one process, which its first use starts.
#[cfg(not(sockeye_shuttle))]
#[derive(Default)]
struct Start {
    driver: OnceLock<Driver>,
    /// Guards nothing but that two don't start it.
    starting: Mutex<()>,
    /// This process was forked from one that had a driver.
    forked: bool,
    /// No thread of std starts here, and none ever will.
    stuck: AtomicBool,
}

#[cfg(not(sockeye_shuttle))]
impl Start {
    #[inline]
    fn of_this_process() -> &'static Start {
        DRIVER.get(|parents| Start { forked: parents.is_some(), ..Start::default() })
    }
}

/// How long the loop's thread of a forked child may take to start. A thread of std takes a lock of std's own then,
/// which another thread of the parent may have held at the fork, because it was starting or ending.
#[cfg(not(sockeye_shuttle))]
const START_LIMIT: Duration = Duration::from_secs(10);

impl Driver {
    /// That of this run, which has begun.
    #[cfg(sockeye_shuttle)]
    #[expect(clippy::unnecessary_wraps, reason = "as the other one")]
    fn running() -> Result<&'static Driver, Fault> {
        Ok(model::driver())
    }

    /// The driver, started where that is the first use. What hinders it now may not the next time.
    #[cfg(not(sockeye_shuttle))]
    #[inline]
    fn running() -> Result<&'static Driver, Fault> {
        let start = Start::of_this_process();
        match start.driver.get() {
            Some(driver) => Ok(driver),
            None => Driver::first(start),
        }
    }

    /// The driver, if it has been started.
    #[cfg(sockeye_shuttle)]
    #[expect(clippy::unnecessary_wraps, reason = "as the other one")]
    fn if_running() -> Option<&'static Driver> {
        Some(model::driver())
    }

    /// The driver, if it has been started.
    #[cfg(not(sockeye_shuttle))]
    fn if_running() -> Option<&'static Driver> {
        Start::of_this_process().driver.get()
    }

    #[cfg(not(sockeye_shuttle))]
    #[cold]
    fn first(start: &'static Start) -> Result<&'static Driver, Fault> {
        let _starting = start.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = start.driver.get() {
            return Ok(driver);
        }
        if start.stuck.load(Ordering::Relaxed) {
            return Err(Fault::Io(errno::code(&no_thread_starts())));
        }
        Driver::start(start).map_err(|error| Fault::Io(errno::code(&error)))
    }

    #[cfg(not(sockeye_shuttle))]
    fn start(start: &'static Start) -> io::Result<&'static Driver> {
        let mark = ForkMark::new()?;
        let poll = mio::Poll::new()?;
        let driver = Driver::new(&poll)?;
        // The thread begins once the driver is where it looks for it, or never.
        let (begin, begun) = std::sync::mpsc::sync_channel::<&'static Driver>(1);
        let (tell, started) = std::sync::mpsc::sync_channel(1);
        std::thread::Builder::new().name("sockeye-loop".to_owned()).spawn(move || {
            // Nobody may wait for it.
            let _ = tell.send(());
            if let Ok(driver) = begun.recv() {
                event_loop::run(poll, driver, mark);
            }
        })?;
        if start.forked && started.recv_timeout(START_LIMIT).is_err() {
            start.stuck.store(true, Ordering::Relaxed);
            return Err(no_thread_starts());
        }
        let driver = start.driver.get_or_init(|| driver);
        begin.send(driver).map_err(io::Error::other)?;
        say(format_args!("the event loop has started"));
        Ok(driver)
    }

    fn new(poll: &mio::Poll) -> io::Result<Driver> {
        Ok(Driver {
            inbox: Mutex::new(Inbox { jobs: Vec::new(), sleep: Sleep::Awake }),
            waker: Waker::new(poll.registry(), event_loop::WAKER)?,
            registry: poll.registry().try_clone()?,
            names: Names::new(),
            workers: Workers::new(),
            logs: Logs::new(),
            lingering: Lingering::new(),
            young: Young::new(),
        })
    }

    fn post(&self, job: Job, urgency: Urgency) {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.jobs.push(job);
        let wake = match (inbox.sleep, urgency) {
            (Sleep::Awake, _) | (Sleep::Nap, Urgency::Soon) => false,
            (Sleep::Nap, Urgency::Now) | (Sleep::Sound, _) => true,
        };
        if wake {
            inbox.sleep = Sleep::Awake;
        }
        drop(inbox);
        if wake {
            if let Err(error) = self.waker.wake() {
                say(format_args!("the event loop could not be woken: {error}"));
            }
        }
    }

    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn names(&self) -> &Names {
        &self.names
    }

    fn logs(&self) -> &Logs {
        &self.logs
    }

    fn workers(&self) -> &Workers {
        &self.workers
    }

    fn young(&self) -> &Young {
        &self.young
    }

    fn lingering(&self) -> &Lingering {
        &self.lingering
    }
}

/// Calls what may be, or may end in, code of the user's: its panics go no further.
fn harmless<R>(work: impl FnOnce() -> R) -> Option<R> {
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
fn say(text: std::fmt::Arguments<'_>) {
    logs::say(log::Level::Debug, text);
}
