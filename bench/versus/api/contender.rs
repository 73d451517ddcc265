//! A contender.

use std::io;

use super::workload::{Slice, Task};

pub struct Contender {
    pub name: &'static str,
    /// Prepares a client and returns the function that takes one turn.
    pub start: fn(&Task) -> io::Result<Slice>,
    /// The contender that takes its place in workloads over TLS.
    pub over_tls: Option<&'static Contender>,
    pub role: Role,
}

/// The purpose of measuring a contender.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The others are compared to it.
    Reference,
    /// The workloads' aims apply to it.
    Judged,
    /// It is to be outrun.
    Peer,
    /// It shows the limit of what is possible.
    Bound,
}
