//! A world of eight addresses, what becomes of an attempt at each, and what a lookup answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::egress::EgressRules;
use crate::machine::{Endpoints, Fault, Target};

/// How many addresses there are: the first half is IPv4, the second IPv6.
pub(super) const ADDRESSES: usize = 8;

/// The names and addresses that one machine meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) fates: [AttemptFate; ADDRESSES],
    /// The egress rules deny these, a bit an address.
    pub(super) denied: u8,
    /// In parts. Where there are none the first address is the target, and nothing is looked up.
    pub(super) answers: Vec<LookupPart>,
    /// How the lookup ends, and how long after the last answer; `None` where it never does.
    pub(super) ends: Option<Result<Duration, Duration>>,
    /// The local port that is prescribed, of an IPv4 address.
    pub(super) bind: Option<u16>,
}

/// What becomes of an attempt, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptFate {
    Accepts(Duration),
    Refuses(Duration),
    /// No answer ever comes.
    Silent,
    /// This side is out of something.
    Fails(Duration),
    /// The attempt meets itself.
    SelfConnects(Duration),
}

/// A part of the answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LookupPart {
    /// How long after the one before it.
    pub(super) after: Duration,
    /// Which addresses, a bit each.
    pub(super) mask: u8,
    /// Which of them comes first.
    pub(super) first: u8,
}

impl Names {
    /// One address, which accepts at once.
    pub(super) fn simple() -> Self {
        Names {
            fates: [AttemptFate::Accepts(Duration::ZERO); ADDRESSES],
            denied: 0,
            answers: Vec::new(),
            ends: None,
            bind: None,
        }
    }

    pub(super) fn target(&self) -> Target {
        if self.answers.is_empty() { Target::Address(address(0)) } else { Target::Host }
    }

    pub(super) fn bind_address(&self) -> Option<SocketAddr> {
        // The second address, which an answer may contain.
        self.bind.map(|port| SocketAddr::new(address(1).ip(), port))
    }

    /// The rules that deny what is to be denied.
    pub(super) fn egress(&self) -> Option<Arc<EgressRules>> {
        let denied = (0..ADDRESSES).filter(|index| self.denied & (1 << index) != 0);
        let rules = denied.fold(EgressRules::allow_all(), |rules, index| {
            rules.deny_net(&address(index).ip().to_string()).expect("an address is a net")
        });
        (self.denied != 0).then(|| Arc::new(rules))
    }

    /// Whether nobody may dial this address.
    pub(super) fn denies(&self, address: SocketAddr) -> bool {
        index(address).is_none_or(|index| self.denied & (1 << index) != 0)
    }

    /// When an attempt at this address ends, and how; `None` where it never does.
    pub(super) fn fate(&self, to: SocketAddr) -> Option<(Duration, Result<Endpoints, Fault>)> {
        let local = Some(SocketAddr::new(address(1).ip(), 50_000));
        match self.fates[index(to)?] {
            AttemptFate::Accepts(after) => Some((after, Ok(Endpoints { remote: to, local }))),
            AttemptFate::Refuses(after) => Some((after, Err(Fault::Connect(111)))),
            AttemptFate::Silent => None,
            AttemptFate::Fails(after) => Some((after, Err(Fault::Io(24)))),
            AttemptFate::SelfConnects(after) => {
                Some((after, Ok(Endpoints { remote: to, local: Some(to) })))
            }
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

/// The port that everything is dialled at, which one who is bound to it shares.
const PORT: u16 = 9;

pub(super) fn address(index: usize) -> SocketAddr {
    let last = u8::try_from(index).expect("there are few");
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
