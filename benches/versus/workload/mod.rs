//! What is measured. A workload is a row of [`ALL`]: a name, what its server does, where the processes
//! run, what a turn is, which figures it gives and what is aimed at. The client's side of each is in a
//! module of its own, generic over the contender's [`Wire`].
//!
//! Those over TLS do what their kin in plaintext do; their contenders are others.

mod bulk;
mod churn;
mod counts;
mod duplex;
mod idle;
mod interrupt;
mod ping_pong;
mod threads;

use std::fmt;
use std::io;
use std::time::Duration;

use crate::args::Task;
use crate::contender::{Shared, Wire};
use crate::server::Service;
use crate::tls::server::SecureService;

/// Does one turn, and gives its figures in the order in which the workload names them.
pub type Turn = Box<dyn FnMut() -> io::Result<Vec<f64>>>;

/// Later additions go below their kin: the report keeps this order.
pub static ALL: [Workload; 20] = [
    Workload {
        name: "ping-pong/one-core",
        client: Client::PingPong,
        service: Service::Echo,
        place: Place::OneCore,
        plan: Plan::turns(20, Duration::from_millis(50)),
        figures: &[Figure::new("round trips", "1/s").aim(Aim::RatioAtLeast(0.95))],
    },
    Workload {
        name: "ping-pong/one-core/deadline",
        client: Client::PingPongLimited,
        service: Service::Echo,
        place: Place::OneCore,
        plan: Plan::turns(20, Duration::from_millis(50)),
        figures: &[Figure::new("round trips", "1/s").aim(Aim::RatioAtLeast(0.93))],
    },
    Workload {
        name: "ping-pong/two-cores",
        client: Client::PingPong,
        service: Service::Echo,
        place: Place::Apart,
        plan: Plan::turns(20, Duration::from_millis(50)),
        figures: &[Figure::new("round trips", "1/s")],
    },
    Workload {
        name: "ping-pong/64-threads",
        client: Client::Threads,
        service: Service::Echo,
        place: Place::Anywhere,
        plan: Plan::turns(10, Duration::from_millis(100)),
        figures: &[Figure::new("round trips", "1/s").aim(Aim::RatioAtLeast(0.95))],
    },
    Workload {
        name: "bulk/write",
        client: Client::BulkWrite,
        service: Service::Sink,
        place: Place::Apart,
        plan: Plan::turns(20, Duration::from_millis(100)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "bulk/read",
        client: Client::BulkRead,
        service: Service::Source,
        place: Place::Apart,
        plan: Plan::turns(20, Duration::from_millis(100)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "connect-close",
        client: Client::Churn,
        service: Service::Close,
        place: Place::OneCore,
        // The kernel remembers 2^17 closed connections for a minute, and forgets the rest at another cost.
        plan: Plan::turns(8, Duration::ZERO).count(1_000).most_rounds(7),
        figures: &[Figure::new("connections", "1/s").aim(Aim::RatioAtLeast(0.90))],
    },
    Workload {
        name: "interrupt/at-rest",
        client: Client::Interrupt,
        service: Service::OpenEcho,
        place: Place::Anywhere,
        plan: Plan::turns(3, Duration::ZERO).count(20),
        figures: &INTERRUPT_FIGURES,
    },
    Workload {
        name: "interrupt/in-dialogue",
        client: Client::InterruptInDialogue,
        service: Service::OpenEcho,
        place: Place::Anywhere,
        plan: Plan::turns(3, Duration::ZERO).count(20),
        figures: &INTERRUPT_FIGURES,
    },
    Workload {
        name: "allocations",
        client: Client::Allocations,
        service: Service::Echo,
        place: Place::OneCore,
        plan: Plan::turns(1, Duration::ZERO).count(20_000),
        figures: &[
            Figure::new("allocations", "per write").aim(Aim::AtMost(0.0)),
            Figure::new("allocations", "per read").aim(Aim::AtMost(0.0)),
        ],
    },
    Workload {
        name: "wake-ups",
        client: Client::WakeUps,
        service: Service::Echo,
        place: Place::OneCore,
        plan: Plan::turns(1, Duration::from_secs(2)).count(100_000).most_rounds(3),
        figures: &[
            Figure::new("of other threads", "per round trip"),
            Figure::new("of other threads", "1/s"),
            Figure::new("of other threads, idle", "1/s"),
        ],
    },
    Workload {
        name: "idle",
        client: Client::Idle,
        service: Service::Hold,
        place: Place::Apart,
        plan: Plan::turns(1, Duration::from_secs(1)).count(5_000).grows().most_rounds(5),
        figures: &[
            Figure::new("memory, at once", "B/socket").aim(Aim::BeyondReference(400.0)),
            Figure::new("memory, 1 s later", "B/socket").aim(Aim::BeyondReference(400.0)),
        ],
    },
    Workload {
        name: "system-calls",
        client: Client::RoundTrips,
        service: Service::LateEcho,
        place: Place::OneCore,
        plan: Plan::turns(1, Duration::ZERO).count(500).most_rounds(1).traced(),
        figures: &CALL_FIGURES,
    },
    Workload {
        name: "system-calls/deadline",
        client: Client::RoundTripsLimited,
        service: Service::LateEcho,
        place: Place::OneCore,
        plan: Plan::turns(1, Duration::ZERO).count(500).most_rounds(1).traced(),
        figures: &CALL_FIGURES,
    },
    Workload {
        name: "tls/ping-pong",
        client: Client::PingPong,
        service: Service::Secure(SecureService::Echo),
        place: Place::OneCore,
        plan: Plan::turns(20, Duration::from_millis(50)),
        figures: &[Figure::new("round trips", "1/s").aim(Aim::RatioAtLeast(0.96))],
    },
    Workload {
        name: "tls/bulk-up",
        client: Client::BulkWrite,
        service: Service::Secure(SecureService::Sink),
        place: Place::Apart,
        plan: Plan::turns(12, Duration::from_millis(100)),
        figures: &SECURE_BULK_FIGURES,
    },
    Workload {
        name: "tls/bulk-down",
        client: Client::BulkRead,
        service: Service::Secure(SecureService::Source),
        place: Place::Apart,
        plan: Plan::turns(12, Duration::from_millis(100)),
        figures: &SECURE_BULK_FIGURES,
    },
    Workload {
        name: "tls/duplex",
        client: Client::Duplex,
        service: Service::Secure(SecureService::SinkAndSource),
        place: Place::Anywhere,
        plan: Plan::turns(6, Duration::from_millis(200)),
        figures: &[
            Figure::new("throughput, both ways", "MiB/s"),
            Figure::new("client CPU", "ms/GiB"),
        ],
    },
    Workload {
        name: "tls/handshakes",
        client: Client::Churn,
        service: Service::Secure(SecureService::Close),
        place: Place::OneCore,
        plan: Plan::turns(10, Duration::ZERO).count(100).most_rounds(7),
        figures: &[Figure::new("connections", "1/s").aim(Aim::RatioAtLeast(0.95))],
    },
    Workload {
        name: "tls/idle-memory",
        client: Client::IdleAfterExchange,
        service: Service::Secure(SecureService::EchoThenHold),
        place: Place::Apart,
        plan: Plan::turns(1, Duration::from_secs(1)).count(5_000).grows().most_rounds(2),
        figures: &[
            Figure::new("memory, at once", "B/socket").aim(Aim::BeyondReference(300.0)),
            Figure::new("memory, 1 s later", "B/socket").aim(Aim::BeyondReference(300.0)),
        ],
    },
];

static BULK_FIGURES: [Figure; 2] = [
    Figure::new("client CPU", "ms/GiB").aim(Aim::RatioAtMost(1.05)),
    Figure::new("throughput", "MiB/s"),
];

static SECURE_BULK_FIGURES: [Figure; 2] = [
    Figure::new("client CPU", "ms/GiB").aim(Aim::RatioAtMost(1.03)),
    Figure::new("throughput", "MiB/s"),
];

static INTERRUPT_FIGURES: [Figure; 2] = [
    Figure::new("close to end of read", "µs").aim(Aim::AtMost(100.0)),
    Figure::new("worst of 20", "µs"),
];

static CALL_FIGURES: [Figure; 5] = [
    Figure::new("calls", "per round trip"),
    Figure::new("receives", "per round trip"),
    Figure::new("sends", "per round trip"),
    Figure::new("waits", "per round trip"),
    Figure::new("others", "per round trip"),
];

pub struct Workload {
    pub name: &'static str,
    pub client: Client,
    pub service: Service,
    pub place: Place,
    pub plan: Plan,
    pub figures: &'static [Figure],
}

pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}

/// What the client does.
#[derive(Clone, Copy)]
pub enum Client {
    PingPong,
    PingPongLimited,
    Threads,
    BulkWrite,
    BulkRead,
    Duplex,
    Churn,
    Interrupt,
    InterruptInDialogue,
    Allocations,
    WakeUps,
    Idle,
    IdleAfterExchange,
    RoundTrips,
    RoundTripsLimited,
}

/// A contender that is [`Shared`] starts every workload so.
pub fn start<W: Shared>(task: &Task) -> io::Result<Turn> {
    match task.workload.client {
        Client::Duplex => duplex::start::<W>(task),
        Client::Interrupt => interrupt::at_rest::<W>(task),
        Client::InterruptInDialogue => interrupt::in_dialogue::<W>(task),
        Client::PingPong
        | Client::PingPongLimited
        | Client::Threads
        | Client::BulkWrite
        | Client::BulkRead
        | Client::Churn
        | Client::Allocations
        | Client::WakeUps
        | Client::Idle
        | Client::IdleAfterExchange
        | Client::RoundTrips
        | Client::RoundTripsLimited => start_unshared::<W>(task),
    }
}

/// One that is a [`Wire`] and no more starts those so in which one thread at a time uses a connection.
pub fn start_unshared<W: Wire>(task: &Task) -> io::Result<Turn> {
    match task.workload.client {
        Client::Duplex | Client::Interrupt | Client::InterruptInDialogue => {
            let text = "its connection is for one thread at a time";
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
        Client::PingPong => ping_pong::for_a_while::<W>(task, None),
        Client::PingPongLimited => ping_pong::for_a_while::<W>(task, Some(LIMIT)),
        Client::Threads => threads::start::<W>(task),
        Client::BulkWrite => bulk::write::<W>(task),
        Client::BulkRead => bulk::read::<W>(task),
        Client::Churn => churn::start::<W>(task),
        Client::Allocations => counts::allocations::<W>(task),
        Client::WakeUps => counts::wake_ups::<W>(task),
        Client::Idle => idle::from_the_first::<W>(task),
        Client::IdleAfterExchange => idle::after_an_exchange::<W>(task),
        Client::RoundTrips => ping_pong::a_number::<W>(task, None),
        Client::RoundTripsLimited => ping_pong::a_number::<W>(task, Some(LIMIT)),
    }
}

/// A limit that no read reaches.
const LIMIT: Duration = Duration::from_secs(600);

/// Where client and server run.
#[derive(Clone, Copy)]
pub enum Place {
    /// Both on one and the same CPU: what is measured is work, not the distance between CPUs.
    OneCore,
    /// Each on a CPU of its own.
    Apart,
    /// Both on the same two CPUs, where the scheduler puts them.
    Anywhere,
}

impl Place {
    /// The CPUs of client and server out of those that there are; none where nothing can be pinned.
    pub fn cpus(self, all: &[usize]) -> Result<[Vec<usize>; 2], String> {
        let (&first, &last) = match (all.first(), all.last()) {
            (Some(first), Some(last)) => (first, last),
            _ => return Ok([Vec::new(), Vec::new()]),
        };
        match self {
            Self::OneCore => Ok([vec![last], vec![last]]),
            Self::Apart | Self::Anywhere if first == last => Err("there is one CPU".to_owned()),
            Self::Apart => Ok([vec![last], vec![first]]),
            Self::Anywhere => Ok([vec![first, last], vec![first, last]]),
        }
    }
}

/// How much is done, in [`Mode::Quick`].
#[derive(Clone, Copy)]
pub struct Plan {
    /// How many turns each contender takes in a round.
    pub turns: u32,
    /// How long one is, where that decides.
    pub turn: Duration,
    /// How many operations it has, where that decides.
    pub count: u32,
    pub most_rounds: u32,
    /// Whether the full mode has three times the count.
    pub grows: bool,
    /// Whether the client runs under strace, which gives the figures.
    pub traced: bool,
}

impl Plan {
    const fn turns(turns: u32, turn: Duration) -> Self {
        Self { turns, turn, count: 0, most_rounds: u32::MAX, grows: false, traced: false }
    }

    const fn count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    const fn most_rounds(self, most_rounds: u32) -> Self {
        Self { most_rounds, ..self }
    }

    const fn grows(self) -> Self {
        Self { grows: true, ..self }
    }

    const fn traced(self) -> Self {
        Self { traced: true, ..self }
    }

    pub fn in_mode(self, mode: Mode) -> Self {
        match mode {
            Mode::Smoke => Self {
                turns: self.turns.min(2),
                turn: self.turn.min(Duration::from_millis(5)),
                count: self.count.div_ceil(100),
                most_rounds: 1,
                ..self
            },
            Mode::Quick => self,
            Mode::Full => Self {
                turn: if self.count == 0 { self.turn * 2 } else { self.turn },
                count: if self.grows { self.count * 3 } else { self.count },
                ..self
            },
        }
    }
}

/// How thoroughly to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Only to see that everything works.
    Smoke,
    Quick,
    Full,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Smoke, Self::Quick, Self::Full];
        all.into_iter().find(|mode| mode.name() == name)
    }

    pub fn rounds(self) -> u32 {
        match self {
            Self::Smoke => 1,
            Self::Quick => 5,
            Self::Full => 15,
        }
    }
}

/// One of the numbers that a turn gives.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub unit: &'static str,
    pub aim: Option<Aim>,
}

impl Figure {
    const fn new(name: &'static str, unit: &'static str) -> Self {
        Self { name, unit, aim: None }
    }

    const fn aim(self, aim: Aim) -> Self {
        Self { aim: Some(aim), ..self }
    }
}

/// What `sockeye` aims at, judged on medians.
#[derive(Clone, Copy)]
pub enum Aim {
    /// The figure divided by the reference's.
    RatioAtLeast(f64),
    RatioAtMost(f64),
    /// The figure itself.
    AtMost(f64),
    /// The figure less the reference's.
    BeyondReference(f64),
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bound) => write!(f, "ratio ≥ {bound:.2}"),
            Self::RatioAtMost(bound) => write!(f, "ratio ≤ {bound:.2}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::BeyondReference(bound) => write!(f, "≤ {bound} more"),
        }
    }
}
