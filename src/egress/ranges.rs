//! What is decided about an address before any rule is added: the tables of `special`, and how they are
//! read.

use std::net::{IpAddr, Ipv6Addr};

use super::denial::Reason;
use super::net::Net;
use super::special::{CLOUD, CLOUDFLARE, IPV4, IPV6};

/// What IANA gives to hosts so far (RFC 4291, section 2.4). The rest is reserved, and what it will be for
/// is unknown.
const GLOBAL_UNICAST: Net = Net::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// A range in a table, and the verdict on its addresses.
#[derive(Debug)]
pub(super) struct Range {
    pub(super) net: Net,
    pub(super) allowed: bool,
    /// What it is, and where that is said.
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

/// Whether an address is a host's on the Internet.
pub(super) fn judge_public(ip: IpAddr) -> Result<(), Reason> {
    match innermost(special(ip), ip) {
        Some(row) if special(ip)[usize::from(row)].allowed => Ok(()),
        Some(row) => Err(Reason::Special(row)),
        None => match ip {
            IpAddr::V6(ip) if !is_global_unicast(ip) => Err(Reason::OutsideGlobalUnicast),
            IpAddr::V4(_) | IpAddr::V6(_) => judge_cloud(ip),
        },
    }
}

/// Whether an address is not a cloud's own, which only looks like a host's.
fn judge_cloud(ip: IpAddr) -> Result<(), Reason> {
    match innermost(CLOUD, ip) {
        Some(row) => Err(Reason::Cloud(row)),
        None => Ok(()),
    }
}

/// Whether an address is not one of Cloudflare's.
pub(super) fn judge_cloudflare(ip: IpAddr) -> Result<(), Reason> {
    match innermost(CLOUDFLARE, ip) {
        Some(row) => Err(Reason::Cloudflare(row)),
        None => Ok(()),
    }
}

/// The special ranges of the family of an address.
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

/// The number of the row with the longest prefix that holds an address.
///
/// Rows are sorted by their first address and then by their length, so what is within a range comes after
/// it: the last that holds the address is the innermost. To look at each takes less than 100 ns.
fn innermost(table: &[Range], ip: IpAddr) -> Option<u8> {
    let row = table.iter().rposition(|range| range.net.contains(ip))?;
    Some(u8::try_from(row).expect("no table has more than 256 rows"))
}

fn is_global_unicast(ip: Ipv6Addr) -> bool {
    GLOBAL_UNICAST.contains(ip.into())
}

const _: () = assert!(IPV4.len() <= 256 && IPV6.len() <= 256);
const _: () = assert!(CLOUD.len() <= 256 && CLOUDFLARE.len() <= 256);
