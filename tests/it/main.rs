//! Tests of the public API against real peers, one file per behaviour.
//! Peers are plain threads with `std::net` (see `support`). A test waits for events and never sleeps, unless its
//! subject is time.
//!
//! With `--cfg sockeye_unix` they run over Unix-domain sockets, except for those in `unix/left_out.txt`, each with a
//! reason. `ci/unix` runs them.

mod support;

mod addresses;
mod adopt;
mod api;
mod busy_poll;
mod cli_tls;
mod close;
mod concurrency;
mod conformance;
mod connecting;
mod connector;
mod deadlines;
mod egress;
mod errors;
mod guide;
mod half_open;
mod health;
mod listener;
#[cfg(unix)]
mod logger;
mod net;
mod nettest;
mod opened;
mod options;
mod poller;
mod proxy;
mod read_until;
mod reader_writer;
mod records;
mod regressions;
mod reset;
mod servers;
mod settings;
mod steps;
mod tls;
mod try_io;
mod tunnel;
mod volume;
mod who_ended;

#[cfg(unix)]
mod descriptor;
#[cfg(target_os = "linux")]
mod dialogue;
#[cfg(target_os = "linux")]
mod event_loop;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(target_os = "linux")]
mod injected;
#[cfg(target_os = "linux")]
mod network_faults;
#[cfg(target_os = "linux")]
mod resource_limits;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(target_os = "linux")]
mod tls_hostile;
#[cfg(unix)]
mod unix;
