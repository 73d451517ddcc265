//! The clients' part of the workloads: a module for each, generic over the contender's [`BenchStream`].

pub mod bulk;
mod churn;
pub mod counts;
pub mod crowd;
pub mod duplex;
pub mod ended;
pub mod idle;
pub mod ping_pong;
pub mod small;
pub mod threads;

use std::io;

use self::ended::{AT_REST, IN_DIALOGUE};
use self::ping_pong::LIMIT;
use crate::api::{BenchStream, Client, SharedStream, Slice, Task};

/// Starts a workload with a contender that is [`SharedStream`].
pub fn start<W: SharedStream>(task: &Task) -> io::Result<Slice> {
    match task.workload.client {
        Client::Duplex => duplex::start::<W>(task),
        Client::Interrupt => ended::by_close::<W>(task, AT_REST),
        Client::InterruptInDialogue => ended::by_close::<W>(task, IN_DIALOGUE),
        Client::Expire => ended::by_deadline::<W>(task, AT_REST),
        Client::ExpireInDialogue => ended::by_deadline::<W>(task, IN_DIALOGUE),
        Client::PingPong
        | Client::PingPongLimited
        | Client::Threads
        | Client::BulkWrite
        | Client::BulkRead
        | Client::SmallWrites
        | Client::SmallWritesBuffered
        | Client::Churn
        | Client::Allocations
        | Client::WakeUps
        | Client::Idle
        | Client::IdleAfterExchange
        | Client::Crowd
        | Client::RoundTrips
        | Client::RoundTripsLimited => start_unshared::<W>(task),
    }
}

/// Starts a workload with a contender that is only a [`BenchStream`], if one thread at a time uses the connection.
pub fn start_unshared<W: BenchStream>(task: &Task) -> io::Result<Slice> {
    match task.workload.client {
        Client::Duplex
        | Client::Interrupt
        | Client::InterruptInDialogue
        | Client::Expire
        | Client::ExpireInDialogue => {
            let text = "only one thread at a time can use its connection";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        Client::PingPong => ping_pong::for_a_while::<W>(task, None),
        Client::PingPongLimited => ping_pong::for_a_while::<W>(task, Some(LIMIT)),
        Client::Threads => threads::start::<W>(task),
        Client::BulkWrite => bulk::write::<W>(task),
        Client::BulkRead => bulk::read::<W>(task),
        Client::SmallWrites => small::unbuffered::<W>(task),
        Client::SmallWritesBuffered => small::buffered::<W>(task),
        Client::Churn => churn::start::<W>(task),
        Client::Allocations => counts::allocations::<W>(task),
        Client::WakeUps => counts::wake_ups::<W>(task),
        Client::Idle => idle::from_the_first::<W>(task),
        Client::IdleAfterExchange => idle::after_an_exchange::<W>(task),
        Client::Crowd => crowd::start::<W>(task),
        Client::RoundTrips => ping_pong::a_number::<W>(task, None),
        Client::RoundTripsLimited => ping_pong::a_number::<W>(task, Some(LIMIT)),
    }
}
