//! Searches the tables of `special`, which decide about an address that no rule matches.

use std::net::{IpAddr, Ipv6Addr};

use super::cidr::Net;
use super::denial::Reason;
use super::special::{CLOUD, CLOUDFLARE, IPV4, IPV6};

/// The range from which IANA assigns addresses to hosts (RFC 4291, section 2.4). The rest is reserved for unknown uses.
const GLOBAL_UNICAST: Net = Net::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// A row of a table: a range, and the verdict on its addresses.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) net: Net,
    pub(super) allowed: bool,
    /// The range's purpose and its source.
    pub(super) label: &'static str,
}

impl Range {
    pub(super) const fn allow(net: Net, label: &'static str) -> Self {
        Range { net, allowed: true, label }
    }

    pub(super) const fn deny(net: Net, label: &'static str) -> Self {
        Range { net, allowed: false, label }
    }
}

/// Allows only addresses of Internet hosts.
pub(super) fn check_public(ip: IpAddr) -> Result<(), Reason> {
    match longest_prefix(special(ip), ip) {
        Some(row) if special(ip)[usize::from(row)].allowed => Ok(()),
        Some(row) => Err(Reason::Special(row)),
        None => match ip {
            IpAddr::V6(ip) if !is_global_unicast(ip) => Err(Reason::OutsideGlobalUnicast),
            IpAddr::V4(_) | IpAddr::V6(_) => check_cloud(ip),
        },
    }
}

/// Denies addresses of cloud platform services that look like Internet hosts.
fn check_cloud(ip: IpAddr) -> Result<(), Reason> {
    match longest_prefix(CLOUD, ip) {
        Some(row) => Err(Reason::Cloud(row)),
        None => Ok(()),
    }
}

/// Denies Cloudflare's addresses.
pub(super) fn check_cloudflare(ip: IpAddr) -> Result<(), Reason> {
    match longest_prefix(CLOUDFLARE, ip) {
        Some(row) => Err(Reason::Cloudflare(row)),
        None => Ok(()),
    }
}

/// Returns the special ranges of an address's family.
pub(super) fn special(ip: IpAddr) -> &'static [Range] {
    match ip {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    }
}

pub(super) fn cloud() -> &'static [Range] {
    CLOUD
}

pub(super) fn cloudflare() -> &'static [Range] {
    CLOUDFLARE
}

/// Returns the index of the row with the longest prefix that contains an address.
///
/// Rows are sorted by first address and then by prefix length, so ranges inside a range come after it. The last row
/// that contains the address is therefore the innermost. A linear search takes less than 100 ns.
fn longest_prefix(table: &[Range], ip: IpAddr) -> Option<u8> {
    let row = table.iter().rposition(|range| range.net.contains(ip))?;
    Some(u8::try_from(row).expect("no table has more than 256 rows"))
}

fn is_global_unicast(ip: Ipv6Addr) -> bool {
    GLOBAL_UNICAST.contains(ip.into())
}

const _: () = assert!(IPV4.len() <= 256 && IPV6.len() <= 256);
const _: () = assert!(CLOUD.len() <= 256 && CLOUDFLARE.len() <= 256);
