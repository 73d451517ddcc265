//! A workload, and one client's share of it.

use std::io;
use std::net::SocketAddr;

use super::figure::Figure;
use super::place::CpuPlacement;
use super::plan::{Effort, Mode};
use super::service::Service;

pub struct Workload {
    pub name: &'static str,
    pub client: Client,
    pub service: Service,
    pub place: CpuPlacement,
    pub plan: Effort,
    pub figures: &'static [Figure],
}

/// The client's part of a workload.
#[derive(Clone, Copy, Debug)]
pub enum Client {
    PingPong,
    PingPongLimited,
    Threads,
    BulkWrite,
    BulkRead,
    SmallWrites,
    SmallWritesBuffered,
    Duplex,
    Churn,
    Interrupt,
    InterruptInDialogue,
    Expire,
    ExpireInDialogue,
    Allocations,
    WakeUps,
    Idle,
    IdleAfterExchange,
    Crowd,
    RoundTrips,
    RoundTripsLimited,
}

/// A client's share of a workload.
pub struct Task {
    pub workload: &'static Workload,
    pub mode: Mode,
    pub servers: Vec<SocketAddr>,
}

/// Takes one turn, and returns its figures in the order of [`Workload::figures`].
pub type Slice = Box<dyn FnMut() -> io::Result<Vec<f64>>>;
