//! What the crate promises, tried through its public face against real peers: a file per behaviour.
//!
//! Peers are plain threads with `std::net` (`support`). A test waits for events, never for time to pass,
//! except where the story it tells is about time.

mod support;

mod addresses;
mod api;
mod close;
mod conformance;
mod connecting;
mod connector;
mod deadlines;
mod egress;
mod errors;
mod given;
mod guide;
mod half_open;
mod health;
mod layering;
#[cfg(unix)]
mod logger;
mod nettest;
mod opened;
mod options;
mod races;
mod reader_writer;
mod records;
mod regressions;
mod reset;
mod servers;
mod steps;
mod tls;
mod tool_tls;
mod volume;
mod who_ended;

#[cfg(unix)]
mod descriptor;
#[cfg(target_os = "linux")]
mod event_loop;
#[cfg(target_os = "linux")]
mod fork;
#[cfg(target_os = "linux")]
mod limits;
#[cfg(target_os = "linux")]
mod network;
#[cfg(target_os = "linux")]
mod system_calls;
#[cfg(target_os = "linux")]
mod tls_attack;
