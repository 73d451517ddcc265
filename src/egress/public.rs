//! Decides about an address that no rule matches, with the tables of `special`.

use std::net::{IpAddr, Ipv6Addr};

use super::cidr::Net;
use super::denial::Reason;
use super::ranges::{Range, longest_prefix};
use super::special::{CLOUD, CLOUDFLARE, IPV4, IPV6};

/// The range from which IANA assigns addresses to hosts (RFC 4291, section 2.4). The rest is reserved for unknown uses.
const GLOBAL_UNICAST: Net = Net::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Allows only addresses of Internet hosts.
pub(super) fn check_public(ip: IpAddr) -> Result<(), Reason> {
    let special = match ip {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    match longest_prefix(special, ip) {
        Some(range) if range.allowed => Ok(()),
        Some(range) => Err(Reason::Range(range)),
        None => match ip {
            IpAddr::V6(ip) if !is_global_unicast(ip) => Err(Reason::OutsideGlobalUnicast),
            // Some services of cloud platforms look like Internet hosts.
            IpAddr::V4(_) | IpAddr::V6(_) => check_absent(CLOUD, ip),
        },
    }
}

/// Denies Cloudflare's addresses.
pub(super) fn check_cloudflare(ip: IpAddr) -> Result<(), Reason> {
    check_absent(CLOUDFLARE, ip)
}

/// Denies every address in the table.
fn check_absent(table: &'static [Range], ip: IpAddr) -> Result<(), Reason> {
    longest_prefix(table, ip).map_or(Ok(()), |range| Err(Reason::Range(range)))
}

fn is_global_unicast(ip: Ipv6Addr) -> bool {
    GLOBAL_UNICAST.contains(ip.into())
}
