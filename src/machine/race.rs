//! From a name to one connection: the look-up, then the addresses in turn.
//!
//! A sub-machine of its own, whose end is the connecting state's end. An attempt begins when the one
//! before it has failed; the limit over all of them is the connecting state's.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Endpoints, Fault, Output, Outputs, Plan, Target};
use crate::error::Deadline;
use crate::info::Timings;

/// The most addresses of one look-up that are dialled; what a resolver gives beyond that is dropped.
pub const ADDRESSES_MOST: usize = 64;

/// Names one connection attempt of one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Race {
    stage: Stage,
    begun: Instant,
    /// Only addresses of this one's family are dialled.
    bind: Option<SocketAddr>,
    failed: Vec<(SocketAddr, Fault)>,
    /// How often an address is dialled again that by chance led back to the socket itself.
    chances: u8,
}

#[derive(Debug)]
enum Stage {
    LookUp,
    Dialling {
        since: Instant,
        id: AttemptId,
        address: SocketAddr,
        /// What is left to try, last first.
        left: Vec<SocketAddr>,
    },
}

/// Where a race got to.
#[derive(Debug)]
pub(super) enum Step {
    /// It goes on.
    On,
    /// It was won.
    Won(Timings),
    /// It is lost.
    Lost(Fault),
}

impl Race {
    pub(super) fn new(plan: &Plan, now: Instant) -> Self {
        let stage = match plan.target {
            Target::Name => Stage::LookUp,
            Target::Address(address) => {
                Stage::Dialling { since: now, id: AttemptId(0), address, left: Vec::new() }
            }
        };
        Race { stage, begun: now, bind: plan.bind, failed: Vec::new(), chances: 2 }
    }

    /// What a race that has just begun wants.
    pub(super) fn start(&self, outputs: &mut Outputs<'_>) {
        outputs.push(match self.stage {
            Stage::LookUp => Output::Resolve,
            Stage::Dialling { id, address, .. } => Output::Attempt { id, address },
        });
    }

    pub(super) fn resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> Step {
        match self.stage {
            Stage::Dialling { .. } => return Step::On,
            Stage::LookUp => {}
        }
        let addresses = match answer {
            Ok([]) => return Step::Lost(Fault::NoAddress),
            Ok(addresses) => addresses,
            Err(fault) => return Step::Lost(fault),
        };
        let mut left: Vec<SocketAddr> = Vec::new();
        for &address in addresses {
            let reachable = self.bind.is_none_or(|local| local.is_ipv4() == address.is_ipv4());
            if reachable && left.len() < ADDRESSES_MOST && !left.contains(&address) {
                left.push(address);
            }
        }
        left.reverse();
        let Some(address) = left.pop() else { return Step::Lost(Fault::NoLocalAddress) };
        let id = AttemptId(0);
        outputs.push(Output::Attempt { id, address });
        self.stage = Stage::Dialling { since: now, id, address, left };
        Step::On
    }

    pub(super) fn attempted(
        &mut self,
        attempt: AttemptId,
        result: Result<Endpoints, Fault>,
        now: Instant,
        outputs: &mut Outputs<'_>,
    ) -> Step {
        let Stage::Dialling { since, id, address, left } = &mut self.stage else { return Step::On };
        if *id != attempt {
            return Step::On;
        }
        // Where nobody listens, a port that the system chose can be the very one that is dialled; the
        // two ends then open to each other (simultaneous open, RFC 9293, section 3.5).
        let itself = |ends: &Endpoints| ends.local == Some(ends.remote);
        let fault = match result {
            Ok(ends) if itself(&ends) && self.bind.is_some_and(|local| local.port() != 0) => {
                Fault::Loop
            }
            Ok(ends) if itself(&ends) => {
                if self.chances > 0 {
                    self.chances -= 1;
                    left.push(*address);
                }
                Fault::SelfConnected
            }
            Ok(_) => {
                return Step::Won(Timings {
                    resolve: since.saturating_duration_since(self.begun),
                    connect: now.saturating_duration_since(*since),
                });
            }
            Err(fault) => fault,
        };
        self.failed.push((*address, fault));
        match left.pop() {
            None => Step::Lost(fault),
            Some(next) => {
                *id = AttemptId(id.0 + 1);
                *address = next;
                outputs.push(Output::Attempt { id: *id, address: next });
                Step::On
            }
        }
    }

    /// What the limit on connecting limits now.
    pub(super) fn limited(&self) -> Deadline {
        match self.stage {
            Stage::LookUp => Deadline::LookUp,
            Stage::Dialling { .. } => Deadline::Connect,
        }
    }

    /// Every attempt, the pending one as having failed with `pending`.
    pub(super) fn into_failed(mut self, pending: Option<Fault>) -> Vec<(SocketAddr, Fault)> {
        if let (Stage::Dialling { address, .. }, Some(fault)) = (&self.stage, pending) {
            self.failed.push((*address, fault));
        }
        self.failed
    }
}
