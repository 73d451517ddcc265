//! Why a rule refused to dial, as small copyable data with a text.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::net::Net;
use super::ranges::{cloud, cloudflare, special};

/// What every refusal says, but that of port 25: the words of the platform of Workers.
pub(crate) const REFUSED: &str = "proxy request failed, cannot connect to the specified address";

/// The port of mail between servers, about which the platform has words of its own.
const SMTP: u16 = 25;

/// Why the egress rules refuse an address: which address or port it is, and which rule. Its text says it
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Denial(Refused);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Refused {
    Port { port: u16, reason: PortReason },
    Address { dialled: IpAddr, embedded: Option<Ipv4Addr>, reason: Reason },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PortReason {
    /// A rule denies it.
    Rule,
    /// Nothing allows it where everything has to be allowed.
    NoRule,
}

/// Why an address is refused. It is told by numbers, and what they stand for by the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// A rule denies the net of this prefix around it.
    Rule {
        prefix: u8,
    },
    /// Nothing allows it where everything has to be allowed.
    NoRule,
    /// The row of the table of special ranges of its family.
    Special(u8),
    /// The row of the table of addresses that are a cloud's own.
    Cloud(u8),
    /// The row of the table of Cloudflare's ranges.
    Cloudflare(u8),
    OutsideGlobalUnicast,
}

impl Denial {
    pub(super) fn of_port(port: u16, reason: PortReason) -> Self {
        Denial(Refused::Port { port, reason })
    }

    /// `reason` is about the address inside of the one that is dialled, where there is one.
    pub(super) fn of_address(dialled: IpAddr, embedded: Option<Ipv4Addr>, reason: Reason) -> Self {
        Denial(Refused::Address { dialled, embedded, reason })
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.page())
    }
}

impl Denial {
    /// The rule's reason, in plain words.
    pub(crate) fn reason(&self) -> impl fmt::Display {
        Why(self.0)
    }

    /// What the platform of Workers says.
    pub(crate) fn page(&self) -> &'static str {
        match self.0 {
            Refused::Port { port: SMTP, .. } => "Connections to port 25 are prohibited",
            Refused::Port { .. } | Refused::Address { .. } => REFUSED,
        }
    }
}

struct Why(Refused);

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refused::Port { port, reason: PortReason::Rule } => {
                write!(f, "port {port} is denied by a rule")
            }
            Refused::Port { port, reason: PortReason::NoRule } => {
                write!(f, "no rule allows port {port}")
            }
            Refused::Address { dialled, embedded: None, reason: Reason::NoRule } => {
                write!(f, "no rule allows {dialled}")
            }
            Refused::Address { dialled, embedded: None, reason } => {
                write!(f, "{dialled} ")?;
                reason.explain(dialled, f)
            }
            Refused::Address { dialled, embedded: Some(embedded), reason } => {
                write!(f, "{dialled} stands for {embedded}, which ")?;
                reason.explain(embedded.into(), f)
            }
        }
    }
}

impl Reason {
    /// Goes on after the address.
    fn explain(self, ip: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule { prefix } => {
                write!(f, "is in {}, which a rule denies", Net::around(ip, prefix))
            }
            Reason::NoRule => f.write_str("no rule allows"),
            Reason::Special(row) => {
                let range = &special(ip)[usize::from(row)];
                write!(f, "is in {} ({})", range.net, range.label)
            }
            Reason::Cloud(row) => {
                let range = &cloud()[usize::from(row)];
                write!(f, "is in {} ({})", range.net, range.label)
            }
            Reason::Cloudflare(row) => {
                let range = &cloudflare()[usize::from(row)];
                write!(f, "is in {} ({})", range.net, range.label)
            }
            Reason::OutsideGlobalUnicast => {
                f.write_str("is outside 2000::/3 (Global Unicast, RFC 4291)")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_small_enough_to_be_copied_about() {
        assert!(size_of::<Denial>() <= 40, "{}", size_of::<Denial>());
    }
}
