//! A model of what is below the driver: locks, threads, a clock, and the system with its sockets.
//!
//! It is there with `--cfg sockeye_shuttle` only. Threads are tasks of
//! [shuttle](https://docs.rs/shuttle), of which one runs at a time; which one goes on is decided at every
//! lock, atomic operation, wait and system call, so that a run can be steered, and repeated. The driver is
//! the real one, its loop included. What differs:
//!
//! - A system call takes effect at once, and others may run before it. Sockets follow Linux, as far as the
//!   driver can tell: what is told once is told once, readiness is edge-triggered in the loop and
//!   level-triggered in a caller's poll(2), and closing with something unread sends a reset.
//! - Time stands still while anything can run. When nothing can, it jumps to the next instant that
//!   somebody waits for. [`pass_time`] makes it pass while others are at work.
//! - The system's own tests of a peer (blocking receives, several addresses, names) are left out.

#[cfg(not(sockeye_condvar))]
mod bell;
pub(super) mod mio;
pub(super) mod sync;
mod system;
mod time;

use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use self::system::System;
use super::{LoopHandle, event_loop};
use crate::process::ForkMark;

#[cfg(not(sockeye_condvar))]
pub(crate) use self::bell::{WakeFd, poll_two};
pub(super) use self::system::dial;
pub use self::system::{Peer, PeerSaw, Reachability};
pub use self::time::{now, pass_time};

shuttle::lazy_static! {
    static ref WORLD: Mutex<World> = Mutex::new(World::default());
    static ref LOOP_HANDLE: LoopHandle = LoopHandle::new(&mio::Poll::new().expect("it can't fail"))
        .expect("it can't fail");
}

/// The task that makes time pass, in the order in which tasks begin.
pub const TIME: usize = 1;

/// What there is once in each run. Its lock is held for moments in which no other task can run.
#[derive(Debug, Default)]
struct World {
    system: System,
    time: time::Time,
    /// The body of the run has ended.
    over: bool,
}

/// One run: starts the loop, does what is to be tried, and ends when every descriptor is closed and the loop
/// has nothing left to do; a run in which that does not happen is a deadlock.
pub fn run(body: impl FnOnce()) {
    let time = shuttle::thread::Builder::new().name("time".to_owned()).spawn(time::run);
    let poll = mio::Poll::new().expect("it can't fail");
    let event_loop = shuttle::thread::Builder::new().name("loop".to_owned()).spawn(move || {
        event_loop::run(poll, &LOOP_HANDLE, ForkMark::new().expect("there is memory"))
    });
    body();
    wait(|world, waker| {
        if world.system.is_fully_closed() {
            return Some(());
        }
        world.system.watch_changes(waker);
        None
    });
    loop_handle().workers().wait_idle();
    world().over = true;
    world().wake_all();
    event_loop.expect("it can't fail").join().expect("a panic would have ended the run");
    time.expect("it can't fail").join().expect("a panic would have ended the run");
}

pub(super) fn loop_handle() -> &'static LoopHandle {
    &LOOP_HANDLE
}

/// Whether the loop is to end.
pub(super) fn is_over() -> bool {
    world().over
}

/// Sites differ in how they take to being dialled: from now on every one is like this.
pub fn set_reachability(reachability: Reachability) {
    world().system.reachability = reachability;
}

fn world() -> MutexGuard<'static, World> {
    let world: &'static Mutex<World> = &WORLD;
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A system call: others may run before it.
fn call<R>(call: impl FnOnce(&mut System) -> R) -> R {
    yield_point();
    call(&mut world().system)
}

/// Lets another task run, or not.
fn yield_point() {
    shuttle::thread::sleep(Duration::ZERO);
}

/// Waits until `ready` gives something, which leaves the waker where it will be woken if not.
fn wait<R>(mut ready: impl FnMut(&mut World, &std::task::Waker) -> Option<R>) -> R {
    yield_point();
    shuttle::future::block_on(poll_fn(|context| match ready(&mut world(), context.waker()) {
        Some(result) => Poll::Ready(result),
        None => Poll::Pending,
    }))
}

impl World {
    fn wake_all(&mut self) {
        self.system.wake_loop();
        self.time.wake();
    }
}
