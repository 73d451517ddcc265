//! The reason why the egress rules refused an address, as small `Copy` data, and its message.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::cidr::Net;
use super::ranges::Range;
use crate::error::{DENIED_MESSAGE, DenialText};

/// The SMTP port, for which the platform has its own message.
const SMTP: u16 = 25;

/// The reason why the egress rules refuse an address: the address or port, and the rule. `Display` gives the reason in
/// plain words, without the message of the platform.
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

/// The reason to refuse an address. It stays small: the net of a rule is found from the address and its prefix length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// A rule denies the net around the address that has this prefix length.
    Rule {
        prefix: u8,
    },
    /// The default is to deny, and no rule allows it.
    NoRule,
    /// A row of a table denies it.
    Range(&'static Range),
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

    /// Explains the denial to people.
    pub(crate) fn text(&self) -> DenialText {
        let platform_message = match self.0 {
            DenialKind::Port { port: SMTP, .. } => "Connections to port 25 are prohibited",
            DenialKind::Port { .. } | DenialKind::Address { .. } => DENIED_MESSAGE,
        };
        DenialText { reason: self.to_string(), platform_message }
    }
}

impl fmt::Display for Denial {
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
            Reason::Range(range) => write!(f, "is in {} ({})", range.net, range.label),
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
