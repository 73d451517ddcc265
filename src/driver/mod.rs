//! The driver, which runs the state machines on the callers' threads and on one event loop thread.
//!
//! The event loop makes connections, monitors sockets that no caller reads, drains unwanted data and fires timers. It
//! takes no part in a read or write that a caller is making. One thread serves the whole process. The first socket
//! starts it, and it blocks without a timeout when it has nothing to do. A forked child that opens a socket starts its
//! own event loop.
//!
//! The driver has eight rooms. Each imports only the rooms on its right:
//!
//! ```text
//! socket -> listener -> ops -> connection -> { poller, event_loop, connect, registry } -> sys
//! ```
//!
//! - `listener`: one listener, and the threads that accept.
//! - `ops`: what a handle calls; one file for each operation.
//! - `connection`: one socket's state, and its transitions into effects.
//! - `poller`: the keys of one poller, and the threads that wait for them.
//! - `event_loop`: the thread that polls, keeps time, and scans idle and lingering wires.
//! - `connect`: one connection attempt, by dialling or adopting; the pools for lookups.
//! - `registry`: the slots of one connector, its queue and its scopes.
//! - `slab`: the storage of these three.
//! - `sys`: every system call, every condition on the platform, locks and the clock.

mod connect;
mod connection;
mod event_loop;
mod listener;
mod ops;
mod poller;
mod registry;
mod slab;
pub(crate) mod sys;
#[cfg(test)]
mod tests;

pub(crate) use self::connect::adopt::AdoptedStream;
pub(crate) use self::connect::thread_pool::LookupQuota;
pub(crate) use self::connection::{Connection, SocketRegistry};
pub(crate) use self::listener::{AcceptLimit, ListenConfig, ListenSettings, ListenerInner};
pub(crate) use self::ops::accept::AcceptedOptions;
pub(crate) use self::ops::connect::{ConnectContext, Origin};
pub(crate) use self::ops::poll::new_poller;
pub(crate) use self::poller::{PollSource, PollerInner, Until};
pub(crate) use self::registry::{ScopeId, SocketLimit};
pub(crate) use self::sys::bind_options::{BindOptions, PathOptions};
pub use self::sys::descriptor::Descriptor;
pub(crate) use self::sys::io_bufs::{RecvBufs, SendBufs};
pub(crate) use self::sys::listen::{ListenAddress, SUPPORTS_REUSE_PORT};
pub(crate) use self::sys::log::log_error;
pub(crate) use self::sys::splice::{BlockedSigpipe, Pipe};
pub(crate) use self::sys::unix_domain::{REPORTS_CREDENTIALS, StdListener, StdStream, file_of};
pub(crate) use self::sys::wake::Side;
