//! The contenders. Each is a client with its own implementation.
//!
//! A contender that is a blocking stream in this process implements [`BenchStream`](crate::api::BenchStream). If
//! several threads may use it at the same time, it also implements [`SharedStream`](crate::api::SharedStream), which
//! some workloads need. Other contenders (an async runtime, another language) have their own `start`. It returns
//! [`io::ErrorKind::Unsupported`] with a reason for a workload that the contender cannot do, and the report shows that
//! as skipped. The contenders after the second are peers: no aims apply to them, and they are compared in the same way
//! as the second.

use std::io;
use std::net::TcpStream;

use crate::api::{Contender, Role, Slice, Task};
use crate::go;
use crate::tls::client::{SecureSocket, StreamOwned};
use crate::tokio_peer;
use crate::workload;

/// The contenders that are measured by default, the reference first.
pub static ALL: [&Contender; 5] = [REFERENCE, MEASURED, TOKIO_CURRENT, TOKIO_MULTI, GO];

/// The reference and `sockeye`.
pub static WITHOUT_PEERS: [&Contender; 2] = [REFERENCE, MEASURED];

/// The contender to which the others are compared.
pub static REFERENCE: &Contender = &Contender {
    name: "std",
    start: workload::start::<TcpStream>,
    over_tls: Some(SECURE_REFERENCE),
    role: Role::Reference,
};

static MEASURED: &Contender = &Contender {
    name: "sockeye",
    start: workload::start::<sockeye::Socket>,
    over_tls: Some(SECURE_MEASURED),
    role: Role::Judged,
};

static TOKIO_CURRENT: &Contender = &Contender {
    name: "tokio, one thread",
    start: tokio_peer::start_current,
    over_tls: Some(SECURE_TOKIO_CURRENT),
    role: Role::Peer,
};

static TOKIO_MULTI: &Contender = &Contender {
    name: "tokio, multi-thread",
    start: tokio_peer::start_multi,
    over_tls: Some(SECURE_TOKIO_MULTI),
    role: Role::Peer,
};

static GO: &Contender =
    &Contender { name: "Go", start: go::start, over_tls: Some(SECURE_GO), role: Role::Peer };

static SECURE_REFERENCE: &Contender = &Contender {
    name: "StreamOwned",
    start: workload::start_unshared::<StreamOwned>,
    over_tls: None,
    role: Role::Reference,
};

static SECURE_MEASURED: &Contender = &Contender {
    name: "sockeye over TLS",
    start: workload::start::<SecureSocket>,
    over_tls: None,
    role: Role::Judged,
};

static SECURE_TOKIO_CURRENT: &Contender = &Contender {
    name: "tokio-rustls, one thread",
    start: tokio_peer::start_current_over_tls,
    over_tls: None,
    role: Role::Peer,
};

static SECURE_TOKIO_MULTI: &Contender = &Contender {
    name: "tokio-rustls, multi-thread",
    start: tokio_peer::start_multi_over_tls,
    over_tls: None,
    role: Role::Peer,
};

static SECURE_GO: &Contender =
    &Contender { name: "Go over TLS", start: go::start, over_tls: None, role: Role::Peer };

/// Its module explains its purpose.
pub static FLOOR: Contender =
    Contender { name: "floor", start: FLOOR_START, over_tls: None, role: Role::Bound };

#[cfg(target_os = "linux")]
const FLOOR_START: fn(&Task) -> io::Result<Slice> = workload::start::<crate::floor::Floor>;
#[cfg(not(target_os = "linux"))]
const FLOOR_START: fn(&Task) -> io::Result<Slice> =
    |_| Err(io::Error::new(io::ErrorKind::Unsupported, "the floor is known for Linux only"));

pub fn named(name: &str) -> Option<&'static Contender> {
    let in_plaintext = || ALL.into_iter().chain([&FLOOR]);
    let over_tls = in_plaintext().filter_map(|contender| contender.over_tls);
    let mut known = in_plaintext().chain(over_tls);
    known.find(|contender| contender.name == name)
}
