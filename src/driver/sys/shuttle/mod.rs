//! A model of the layers below the driver: locks, threads, a clock, and the kernel with its sockets.
//!
//! It exists only with `--cfg sockeye_shuttle`. Threads are tasks of [shuttle](https://docs.rs/shuttle), of which one
//! runs at a time. Shuttle chooses the next task at every lock, atomic operation, wait and system call, so a run can be
//! steered and repeated. The driver is the real one, with its event loop. The differences to a real system are:
//!
//! - A system call takes effect at once, and other tasks may run before and after it. Sockets behave like those of
//!   Linux, as far as the driver can tell. For example, an error is reported once, and closing with unread data sends a
//!   reset. Readiness is edge-triggered in the event loop and level-triggered in a caller's poll(2).
//! - Time stands still while any task can run. If none can, it jumps to the next instant for which a task waits.
//!   [`pass_time`] advances it while other tasks run.
//! - The platform tests (blocking receives), several addresses and name lookups are left out.

mod kernel;
pub(crate) mod mio;
mod poll_bits;
pub(crate) mod sync;
mod time;
#[cfg(not(sockeye_condvar))]
mod wake_fd;

use std::future::poll_fn;
use std::marker::PhantomData;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use self::kernel::System;

pub use self::kernel::{Peer, PeerSaw, Reachability};
pub(crate) use self::kernel::{
    accept, bind, has_connection, local_addr, shrink_backlog, start_connect, stop,
};
pub use self::time::{now, pass_time};
#[cfg(not(sockeye_condvar))]
pub(crate) use self::wake_fd::{WakeFd, poll_two};

shuttle::lazy_static! {
    static ref WORLD: Mutex<World> = Mutex::new(World::default());
}

/// The index of the task that advances time. Tasks are numbered in the order in which they start.
pub const TIME: usize = 1;

/// The state of one run. Its lock is held only while no other task can run.
#[derive(Debug, Default)]
struct World {
    system: System,
    time: time::Time,
    /// Whether the body of the run has ended.
    over: bool,
}

/// Performs one run of `body`. Returns when every descriptor is closed. Then the event loop ends, if it has started, and
/// checks that it has no work left. If a thread never ends, shuttle reports a deadlock.
pub fn run(body: impl FnOnce()) {
    let time = shuttle::thread::Builder::new().name("time".to_owned()).spawn(time::run);
    body();
    wait(|world, waker| {
        if world.system.is_fully_closed() {
            return Some(());
        }
        world.system.watch_changes(waker);
        None
    });
    world().over = true;
    world().wake_all();
    time.expect("the model always starts a thread")
        .join()
        .expect("a panic would have ended the run");
}

/// Returns whether the event loop must end.
pub(crate) fn is_over() -> bool {
    world().over
}

/// Sets how the peers of all later connects behave.
pub fn set_reachability(reachability: Reachability) {
    world().system.reachability = reachability;
}

fn world() -> MutexGuard<'static, World> {
    let world: &'static Mutex<World> = &WORLD;
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a system call. Other tasks may run before it, and before the caller learns of its result: shuttle takes a free
/// lock without a switch.
fn call<R>(call: impl FnOnce(&mut System) -> R) -> R {
    yield_point();
    let result = call(&mut world().system);
    yield_point();
    result
}

/// Lets the scheduler switch to another task.
fn yield_point() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// Waits until `ready` returns a value. If it returns none, it must store the waker where it will be woken.
fn wait<R>(mut ready: impl FnMut(&mut World, &std::task::Waker) -> Option<R>) -> R {
    yield_point();
    shuttle::future::block_on(poll_fn(|context| match ready(&mut world(), context.waker()) {
        Some(result) => Poll::Ready(result),
        None => Poll::Pending,
    }))
}

impl World {
    fn wake_all(&mut self) {
        self.system.wake_all();
        self.time.wake();
    }
}

/// A global value, of which each run has its own.
pub(crate) struct PerProcess<T: Sync>(shuttle::lazy_static::Lazy<T>);

impl<T: Default + Sync + 'static> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        PerProcess(shuttle::lazy_static::Lazy {
            cell: shuttle::sync::Once::new(),
            init: T::default,
            _p: PhantomData,
        })
    }

    /// Returns the value of this run, which has no parent to make it from.
    pub(crate) fn get(&'static self, _make: impl Fn(Option<&T>) -> T) -> &'static T {
        self.0.get()
    }
}
