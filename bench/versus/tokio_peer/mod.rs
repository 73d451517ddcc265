//! The peer that is not a blocking stream: tokio, with tokio-rustls over TLS. Every workload is written as in a
//! typical tokio program. It has tasks in place of threads, never blocks in a task, and does not enter the runtime for
//! each read.
//!
//! The work runs in a spawned task on both runtimes, where the multi-thread one is at its best. What `block_on` polls
//! itself moves between threads for every event.

mod ended;
mod many;
mod play;
mod runtime;
mod stream;
mod wire;

use std::io;

use tokio::runtime::Builder;

use self::runtime::ClientRuntime;
use self::wire::{AsyncWire, Secure};
use crate::api::{Client, Slice, Task};
use crate::workload::ended::{AT_REST, IN_DIALOGUE};
use crate::workload::ping_pong::LIMIT;

pub fn start_current(task: &Task) -> io::Result<Slice> {
    start::<tokio::net::TcpStream>(task, Builder::new_current_thread())
}

/// Uses as many workers as there are CPUs, which is the default.
pub fn start_multi(task: &Task) -> io::Result<Slice> {
    start::<tokio::net::TcpStream>(task, Builder::new_multi_thread())
}

pub fn start_current_over_tls(task: &Task) -> io::Result<Slice> {
    start::<Secure>(task, Builder::new_current_thread())
}

pub fn start_multi_over_tls(task: &Task) -> io::Result<Slice> {
    start::<Secure>(task, Builder::new_multi_thread())
}

fn start<W: AsyncWire>(task: &Task, mut builder: Builder) -> io::Result<Slice> {
    let stage = ClientRuntime { runtime: builder.enable_all().build()? };
    match task.workload.client {
        Client::PingPong => play::for_a_while::<W>(task, stage, None),
        Client::PingPongLimited => play::for_a_while::<W>(task, stage, Some(LIMIT)),
        Client::RoundTrips => play::a_number::<W>(task, stage, None),
        Client::RoundTripsLimited => play::a_number::<W>(task, stage, Some(LIMIT)),
        Client::Allocations => play::allocations::<W>(task, stage),
        Client::WakeUps => play::wake_ups::<W>(task, stage),
        Client::Threads => many::threads::<W>(task, stage),
        Client::Idle => many::idle::<W>(task, stage, 0),
        Client::IdleAfterExchange => many::idle::<W>(task, stage, 1),
        Client::Crowd => many::crowd::<W>(task, stage),
        Client::BulkWrite => stream::write::<W>(task, stage),
        Client::BulkRead => stream::read::<W>(task, stage),
        Client::SmallWrites => stream::small::<W>(task, stage),
        Client::SmallWritesBuffered => stream::small_buffered::<W>(task, stage),
        Client::Duplex => stream::duplex::<W>(task, stage),
        Client::Churn => ended::churn::<W>(task, stage),
        Client::Interrupt => ended::by_abort::<W>(task, stage, AT_REST),
        Client::InterruptInDialogue => ended::by_abort::<W>(task, stage, IN_DIALOGUE),
        Client::Expire | Client::ExpireInDialogue => {
            let text = "a limit belongs to the task that reads";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}
