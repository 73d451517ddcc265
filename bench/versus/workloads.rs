//! The table of the workloads. A row has a name, the server's service, the CPUs of the processes, the length of a turn,
//! the figures and their aims. [`crate::workload`] has the client's part.
//!
//! A workload over TLS does the same as its counterpart in plaintext, with other contenders.

use std::time::Duration;

use crate::api::{Aim, Client, CpuPlacement, Effort, Figure, SecureService, Service, Workload};

/// The workloads, in the order of the report: a new one goes after its relatives.
pub static ALL: [Workload; 26] = [
    Workload {
        name: "ping-pong/one-core",
        client: Client::PingPong,
        service: Service::Echo,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(10, Duration::from_millis(50)),
        figures: &[Figure::yield_of("round trips", "1/s").aim(Aim::RatioAtLeast(0.98))],
    },
    Workload {
        name: "ping-pong/one-core/deadline",
        client: Client::PingPongLimited,
        service: Service::Echo,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(10, Duration::from_millis(50)),
        figures: &[Figure::yield_of("round trips", "1/s").aim(Aim::RatioAtLeast(0.95))],
    },
    Workload {
        name: "ping-pong/two-cores",
        client: Client::PingPong,
        service: Service::Echo,
        place: CpuPlacement::Apart,
        plan: Effort::turns(10, Duration::from_millis(50)),
        figures: &[Figure::yield_of("round trips", "1/s")],
    },
    Workload {
        name: "ping-pong/64-threads",
        client: Client::Threads,
        service: Service::Echo,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(6, Duration::from_millis(100)).count(64),
        figures: &[Figure::yield_of("round trips", "1/s").aim(Aim::RatioAtLeast(0.95))],
    },
    Workload {
        name: "ping-pong/1000-threads",
        client: Client::Threads,
        service: Service::Echo,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(4, Duration::from_millis(200)).count(1_000),
        figures: &[Figure::yield_of("round trips", "1/s")],
    },
    Workload {
        name: "bulk/write",
        client: Client::BulkWrite,
        service: Service::Sink,
        place: CpuPlacement::Apart,
        plan: Effort::turns(10, Duration::from_millis(60)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "bulk/read",
        client: Client::BulkRead,
        service: Service::Source,
        place: CpuPlacement::Apart,
        plan: Effort::turns(10, Duration::from_millis(60)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "small-writes",
        client: Client::SmallWrites,
        service: Service::Sink,
        place: CpuPlacement::Apart,
        plan: Effort::turns(8, Duration::from_millis(60)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "small-writes/buffered",
        client: Client::SmallWritesBuffered,
        service: Service::Sink,
        place: CpuPlacement::Apart,
        plan: Effort::turns(8, Duration::from_millis(60)),
        figures: &BULK_FIGURES,
    },
    Workload {
        name: "connect-close",
        client: Client::Churn,
        service: Service::Close,
        place: CpuPlacement::OneCore,
        // The kernel keeps 2^17 connections in TIME_WAIT for a minute; beyond that, closing has another cost.
        plan: Effort::turns(8, Duration::ZERO).count(1_000).most_rounds(3),
        figures: &[Figure::yield_of("connections", "1/s").aim(Aim::RatioAtLeast(0.92))],
    },
    Workload {
        name: "interrupt/at-rest",
        client: Client::Interrupt,
        service: Service::OpenEcho,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(2, Duration::ZERO).count(20),
        figures: &INTERRUPT_FIGURES,
    },
    Workload {
        name: "interrupt/in-dialogue",
        client: Client::InterruptInDialogue,
        service: Service::OpenEcho,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(2, Duration::ZERO).count(20),
        figures: &INTERRUPT_FIGURES,
    },
    Workload {
        name: "deadline-change/at-rest",
        client: Client::Expire,
        service: Service::OpenEcho,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(2, Duration::ZERO).count(20),
        figures: &EXPIRE_FIGURES,
    },
    Workload {
        name: "deadline-change/in-dialogue",
        client: Client::ExpireInDialogue,
        service: Service::OpenEcho,
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(2, Duration::ZERO).count(20),
        figures: &EXPIRE_FIGURES,
    },
    Workload {
        name: "allocations",
        client: Client::Allocations,
        service: Service::Echo,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(1, Duration::ZERO).count(20_000).most_rounds(1),
        figures: &[
            Figure::cost("allocations", "per write").aim(Aim::AtMost(0.0)),
            Figure::cost("allocations", "per read").aim(Aim::AtMost(0.0)),
        ],
    },
    Workload {
        name: "wake-ups",
        client: Client::WakeUps,
        service: Service::Echo,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(1, Duration::from_secs(1)).count(50_000).most_rounds(1),
        figures: &[
            Figure::cost("of all threads", "per round trip"),
            Figure::cost("of all but the busiest", "per round trip"),
            Figure::cost("of all threads, idle", "1/s"),
        ],
    },
    Workload {
        name: "idle",
        client: Client::Idle,
        service: Service::Hold,
        place: CpuPlacement::Apart,
        plan: Effort::turns(1, Duration::from_secs(1)).count(5_000).grows().most_rounds(2),
        figures: &[
            Figure::cost("memory, at once", "B/socket").aim(Aim::BeyondReference(256.0)),
            Figure::cost("memory, 1 s later", "B/socket").aim(Aim::BeyondReference(256.0)),
        ],
    },
    Workload {
        name: "crowd",
        client: Client::Crowd,
        service: Service::EchoAndHold,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(1, Duration::from_millis(200)).count(15_000).most_rounds(5),
        figures: &[
            Figure::cost("client CPU, 10 sockets", "µs/round trip"),
            Figure::cost("growth to 100 sockets", "times").aim(Aim::AtMost(1.05)),
            Figure::cost("growth to 1,000 sockets", "times").aim(Aim::AtMost(1.05)),
            Figure::cost("growth to 15,000 sockets", "times").aim(Aim::AtMost(1.05)),
            Figure::cost("opening, from 1,000 on", "µs/socket"),
        ],
    },
    Workload {
        name: "system-calls",
        client: Client::RoundTrips,
        service: Service::LateEcho,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(1, Duration::ZERO).count(300).most_rounds(1).traced(),
        figures: &CALL_FIGURES,
    },
    Workload {
        name: "system-calls/deadline",
        client: Client::RoundTripsLimited,
        service: Service::LateEcho,
        place: CpuPlacement::OneCore,
        plan: Effort::turns(1, Duration::ZERO).count(300).most_rounds(1).traced(),
        figures: &CALL_FIGURES,
    },
    Workload {
        name: "tls/ping-pong",
        client: Client::PingPong,
        service: Service::Secure(SecureService::Echo),
        place: CpuPlacement::OneCore,
        plan: Effort::turns(10, Duration::from_millis(50)),
        figures: &[Figure::yield_of("round trips", "1/s").aim(Aim::RatioAtLeast(1.0))],
    },
    Workload {
        name: "tls/bulk-up",
        client: Client::BulkWrite,
        service: Service::Secure(SecureService::Sink),
        place: CpuPlacement::Apart,
        plan: Effort::turns(8, Duration::from_millis(80)),
        figures: &[
            Figure::cost("client CPU", "ms/GiB").aim(Aim::RatioAtMost(1.0)),
            Figure::yield_of("throughput", "MiB/s"),
        ],
    },
    Workload {
        name: "tls/bulk-down",
        client: Client::BulkRead,
        service: Service::Secure(SecureService::Source),
        place: CpuPlacement::Apart,
        plan: Effort::turns(8, Duration::from_millis(80)),
        figures: &[
            Figure::cost("client CPU", "ms/GiB").aim(Aim::RatioAtMost(0.95)),
            Figure::yield_of("throughput", "MiB/s"),
        ],
    },
    Workload {
        name: "tls/duplex",
        client: Client::Duplex,
        service: Service::Secure(SecureService::SinkAndSource),
        place: CpuPlacement::Anywhere,
        plan: Effort::turns(4, Duration::from_millis(150)),
        figures: &[
            Figure::yield_of("throughput, both ways", "MiB/s"),
            Figure::cost("client CPU", "ms/GiB"),
        ],
    },
    Workload {
        name: "tls/handshakes",
        client: Client::Churn,
        service: Service::Secure(SecureService::Close),
        place: CpuPlacement::OneCore,
        plan: Effort::turns(6, Duration::ZERO).count(100).most_rounds(7),
        figures: &[Figure::yield_of("connections", "1/s").aim(Aim::RatioAtLeast(0.98))],
    },
    Workload {
        name: "tls/idle-memory",
        client: Client::IdleAfterExchange,
        service: Service::Secure(SecureService::EchoThenHold),
        place: CpuPlacement::Apart,
        plan: Effort::turns(1, Duration::from_secs(1)).count(5_000).grows().most_rounds(1),
        figures: &[
            Figure::cost("memory, at once", "B/socket").aim(Aim::BeyondReference(0.0)),
            Figure::cost("memory, 1 s later", "B/socket").aim(Aim::BeyondReference(0.0)),
        ],
    },
];

static BULK_FIGURES: [Figure; 2] = [
    Figure::cost("client CPU", "ms/GiB").aim(Aim::RatioAtMost(1.03)),
    Figure::yield_of("throughput", "MiB/s"),
];

static INTERRUPT_FIGURES: [Figure; 2] = [
    Figure::cost("close to end of read", "µs").aim(Aim::AtMost(100.0)),
    Figure::cost("worst of 20", "µs"),
];

static EXPIRE_FIGURES: [Figure; 2] =
    [Figure::cost("new deadline to end of read", "µs"), Figure::cost("worst of 20", "µs")];

static CALL_FIGURES: [Figure; 5] = [
    Figure::cost("calls", "per round trip"),
    Figure::cost("receives", "per round trip"),
    Figure::cost("sends", "per round trip"),
    Figure::cost("waits", "per round trip"),
    Figure::cost("others", "per round trip"),
];

pub fn named(name: &str) -> Option<&'static Workload> {
    ALL.iter().find(|workload| workload.name == name)
}
