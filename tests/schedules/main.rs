//! The driver under the interleavings of its threads.
//!
//! Each model is a few threads that use one or two sockets through the public API. Examples are a close during a
//! blocked read, an upgrade during a write, and connects at a limit. A model runs thousands of times, each time with
//! another order of its threads' steps. The driver and its event loop are the real ones. Below them is a model of
//! locks, clock and kernel sockets ([`sockeye::model`]). In it another thread may run at every lock, atomic operation,
//! wait and system call.
//!
//! A run fails if an assertion does, or if no thread can continue, as after a lost wake-up. It also fails if a
//! descriptor is open at its end, a socket is still registered, or the event loop still holds anything.
//!
//! Without the flag that puts the model below the driver, the target is empty:
//!
//! ```sh
//! ci/schedules                                # all models, both ways of waiting
//! SCHEDULES=1000000 ci/schedules              # more schedules of each model
//! ci/mutations driver                         # every planted bug, against the models that must find it
//!
//! # One model:
//! export RUSTFLAGS='--cfg sockeye_shuttle' CARGO_TARGET_DIR=target/shuttle
//! cargo test --profile schedules --test schedules close_ends -- --nocapture
//! ```
//!
//! Add `--cfg sockeye_condvar` to the flags for callers that wait on a condition variable, as they do on systems
//! without poll(2).
//!
//! # A schedule that fails
//!
//! shuttle prints it as one long word. The same build repeats exactly that run with
//!
//! ```sh
//! SCHEDULE=9102... cargo test --profile schedules --test schedules close_ends -- --nocapture
//! ```
//!
//! `dbg!` may be added freely, because it does not change the order. A change of a lock or of a system call does, and
//! makes the word useless. So keep the model, not the word.
//!
//! # Planted bugs
//!
//! `src/failpoint.rs` names bugs that a build with `--cfg sockeye_planted` contains. `planted.rs` lists the models
//! that must find each of them, and `ci/mutations driver` runs all of these pairs. To see a model fail, add that flag
//! and run it with a bug in `PLANTED`, such as `PLANTED=NoWake`.
//!
//! # The kinds of schedule
//!
//! A third of the schedules are random. A third follow priorities that change a few times (PCT). A third are all
//! schedules without preemption, then all with up to one, and further until the number is reached. Atomic operations
//! are sequentially consistent here, and the reference counts of `Arc` are not steps.
#![cfg(sockeye_shuttle)]

mod accepting;
mod bounded;
mod closing;
mod connecting;
mod explore;
mod limits;
#[cfg(sockeye_planted)]
mod planted;
mod polling;
mod reading;
mod securing;
mod support;
mod unix;
mod upgrading;
mod writing;
