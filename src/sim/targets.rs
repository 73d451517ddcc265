//! The simulated addresses, the result of dialling each, and the answers of the resolver.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::egress::EgressRules;
use crate::machine::{Endpoints, Fault, Target};

/// The number of addresses: the first half is IPv4, the second IPv6.
pub(super) const ADDRESSES: usize = 8;

/// The lookup and the addresses of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) fates: [AttemptFate; ADDRESSES],
    /// The addresses that the egress rules deny, one bit each.
    pub(super) denied: u8,
    /// The parts of the answer. If there are none, the first address is the target, without a lookup.
    pub(super) answers: Vec<LookupPart>,
    /// Whether the lookup succeeds, and its end after the last part; `None` if it never ends.
    pub(super) ends: Option<Result<Duration, Duration>>,
    /// The port of the local IPv4 address to bind to, if any.
    pub(super) bind: Option<u16>,
}

/// The result of an attempt, and its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptFate {
    Accepts(Duration),
    Refuses(Duration),
    /// The attempt never ends.
    Silent,
    /// This side lacks a resource.
    Fails(Duration),
    /// The socket connects to itself.
    SelfConnects(Duration),
}

/// A part of a lookup's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookupPart {
    /// The delay after the previous part.
    pub(super) after: Duration,
    /// The addresses, one bit each.
    pub(super) mask: u8,
    /// The index of the first address; the others follow in order.
    pub(super) first: u8,
}

impl Names {
    /// Creates a configuration with one address, which accepts at once.
    pub(super) fn simple() -> Self {
        Names {
            fates: [AttemptFate::Accepts(Duration::ZERO); ADDRESSES],
            denied: 0,
            answers: Vec::new(),
            ends: None,
            bind: None,
        }
    }

    /// Creates the names of a machine that needs none.
    pub(super) fn none() -> Self {
        let fates = [AttemptFate::Silent; ADDRESSES];
        Names { fates, denied: 0, answers: Vec::new(), ends: None, bind: None }
    }

    pub(super) fn target(&self) -> Target {
        if self.answers.is_empty() { Target::Address(address(0)) } else { Target::Host }
    }

    pub(super) fn bind_address(&self) -> Option<SocketAddr> {
        // The second address, so that an answer may contain the local one.
        self.bind.map(|port| SocketAddr::new(address(1).ip(), port))
    }

    /// Returns the egress rules that deny these addresses.
    pub(super) fn egress(&self) -> Option<Arc<EgressRules>> {
        let denied = (0..ADDRESSES).filter(|index| self.denied & (1 << index) != 0);
        let rules = denied.fold(EgressRules::allow_all(), |rules, index| {
            rules.deny_net(&address(index).ip().to_string()).expect("an address is a net")
        });
        (self.denied != 0).then(|| Arc::new(rules))
    }

    /// Returns whether this address may not be dialled.
    pub(super) fn denies(&self, address: SocketAddr) -> bool {
        index(address).is_none_or(|index| self.denied & (1 << index) != 0)
    }

    /// Returns the delay and the result of an attempt at this address, or `None` if it never ends.
    pub(super) fn fate(&self, to: SocketAddr) -> Option<(Duration, Result<Endpoints, Fault>)> {
        let local = Some(SocketAddr::new(address(1).ip(), 50_000));
        match self.fates[index(to)?] {
            AttemptFate::Accepts(after) => Some((after, Ok(Endpoints::new(to, local)))),
            AttemptFate::Refuses(after) => Some((after, Err(Fault::Connect(111)))),
            AttemptFate::Silent => None,
            AttemptFate::Fails(after) => Some((after, Err(Fault::Io(24)))),
            AttemptFate::SelfConnects(after) => Some((after, Ok(Endpoints::new(to, to)))),
        }
    }
}

impl LookupPart {
    pub(super) fn addresses(self) -> Vec<SocketAddr> {
        let turn = usize::from(self.first);
        let indices = (0..ADDRESSES).map(|place| (place + turn) % ADDRESSES);
        indices.filter(|index| self.mask & (1 << index) != 0).map(address).collect()
    }
}

/// The port of all addresses. A machine that is bound to it shares it.
const PORT: u16 = 9;

pub(super) fn address(index: usize) -> SocketAddr {
    let last = u8::try_from(index).expect("there are 8 addresses");
    let ip = if index < ADDRESSES / 2 {
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
    } else {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, last.into()))
    };
    SocketAddr::new(ip, PORT)
}

fn index(of: SocketAddr) -> Option<usize> {
    (0..ADDRESSES).find(|&index| address(index) == of)
}
