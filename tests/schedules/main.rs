//! The driver under the interleavings of its threads.
//!
//! Each model is a few threads that use one or two sockets by the public API: a close against a blocked read, an
//! upgrade against a write, connects against a limit. It runs thousands of times, each time in another order of
//! its threads' steps. All of the driver is the real one, the loop too; below it is a model of the locks, the
//! clock and the system's sockets ([`sockeye::model`]), in which every lock, atomic operation, wait and system
//! call is a point where another thread may go on. A run fails where an assertion does, where nobody can go on
//! any more, as after a lost wake-up, and where at its end a descriptor is open, a socket counted, or the loop
//! still holds anything.
//!
//! The target is empty without the flag that puts the model below the driver:
//!
//! ```sh
//! .ci/schedules                                # all models, both ways of waiting
//! SCHEDULES=1000000 .ci/schedules              # more of each model
//! .ci/mutations driver                         # every planted bug, against the models that must find it
//!
//! # One model:
//! export RUSTFLAGS='--cfg sockeye_shuttle' CARGO_TARGET_DIR=target/shuttle
//! cargo test --profile schedules --test schedules close_ends -- --nocapture
//! ```
//!
//! Add `--cfg sockeye_condvar` to the flags for callers that wait on a condition variable, as where there is no
//! poll(2).
//!
//! # A schedule that fails
//!
//! It is printed as one long word. The same build repeats exactly that run, by
//!
//! ```sh
//! SCHEDULE=9102... cargo test --profile schedules --test schedules close_ends -- --nocapture
//! ```
//!
//! with as many `dbg!` as it takes: those change nothing in the order. A change of a lock or of a system call
//! does, and then the word means nothing any more, so that it is the model that is kept, and not the word.
//!
//! # Whether it would find anything
//!
//! `src/failpoint.rs` names bugs that a build with `--cfg sockeye_planted` contains; `planted.rs` lists the models
//! that must find each of them. `.ci/mutations driver` runs all of these pairs. To see one fail, add that flag and
//! run one model with `PLANTED=NoWake`, for instance.
//!
//! # Which schedules
//!
//! A third of them are random; a third are by priorities that change a few times (PCT); and a third are all that
//! there are with no preemption, then all with up to one, and so on, as far as the number goes. The order of
//! atomic operations is taken to be one for all threads, and counts of `Arc` are no steps of their own.
#![cfg(sockeye_shuttle)]

mod bounded;
mod closing;
mod connecting;
mod explore;
mod limits;
#[cfg(sockeye_planted)]
mod planted;
mod reading;
mod securing;
mod support;
mod upgrading;
mod writing;
