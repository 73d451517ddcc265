//! The reason why the egress rules refused an address, as small `Copy` data, and its message.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::cidr::Net;
use super::ranges::{cloud, cloudflare, special};

/// The message of the Workers platform for every refusal except that of port 25.
pub(crate) const DENIED_MESSAGE: &str =
    "proxy request failed, cannot connect to the specified address";

/// The SMTP port, for which the platform has its own message.
const SMTP: u16 = 25;

/// The reason why the egress rules refuse an address: the address or port, and the rule. `Display` gives the complete
/// message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Denial(DenialKind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum DenialKind {
    Port { port: u16, reason: PortReason },
    Address { dialled: IpAddr, embedded: Option<Ipv4Addr>, reason: Reason },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PortReason {
    /// A rule denies it.
    Rule,
    /// The default is to deny, and no rule allows it.
    NoRule,
}

/// The reason to refuse an address. It holds only numbers, so that it stays small; together with the address they
/// identify the net or the row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// A rule denies the net around the address that has this prefix length.
    Rule {
        prefix: u8,
    },
    /// The default is to deny, and no rule allows it.
    NoRule,
    /// The row in the table of special ranges of the address family.
    Special(u8),
    /// The row in the table of cloud platform services.
    Cloud(u8),
    /// The row in the table of Cloudflare's ranges.
    Cloudflare(u8),
    OutsideGlobalUnicast,
}

impl Denial {
    pub(super) fn for_port(port: u16, reason: PortReason) -> Self {
        Denial(DenialKind::Port { port, reason })
    }

    /// Creates a denial. If there is an embedded address, `reason` refers to it.
    pub(super) fn for_address(dialled: IpAddr, embedded: Option<Ipv4Addr>, reason: Reason) -> Self {
        Denial(DenialKind::Address { dialled, embedded, reason })
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason(), self.page())
    }
}

impl Denial {
    /// Returns the reason, in plain words.
    pub(crate) fn reason(&self) -> impl fmt::Display {
        DenialText(self.0)
    }

    /// Returns the message of the Workers platform.
    pub(crate) fn page(&self) -> &'static str {
        match self.0 {
            DenialKind::Port { port: SMTP, .. } => "Connections to port 25 are prohibited",
            DenialKind::Port { .. } | DenialKind::Address { .. } => DENIED_MESSAGE,
        }
    }
}

struct DenialText(DenialKind);

impl fmt::Display for DenialText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            DenialKind::Port { port, reason: PortReason::Rule } => {
                write!(f, "port {port} is denied by a rule")
            }
            DenialKind::Port { port, reason: PortReason::NoRule } => {
                write!(f, "no rule allows port {port}")
            }
            DenialKind::Address { dialled, embedded: None, reason: Reason::NoRule } => {
                write!(f, "no rule allows {dialled}")
            }
            DenialKind::Address { dialled, embedded: None, reason } => {
                write!(f, "{dialled} ")?;
                reason.explain(dialled, f)
            }
            DenialKind::Address { dialled, embedded: Some(embedded), reason } => {
                write!(f, "{dialled} stands for {embedded}, which ")?;
                reason.explain(embedded.into(), f)
            }
        }
    }
}

impl Reason {
    /// Writes the part of the message that follows the address.
    fn explain(self, ip: IpAddr, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Rule { prefix } => {
                write!(f, "is in {}, which a rule denies", Net::enclosing(ip, prefix))
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
    fn a_denial_has_at_most_40_bytes() {
        assert!(size_of::<Denial>() <= 40, "{}", size_of::<Denial>());
    }
}
