//! A table of ranges, and the search in it.

use std::net::IpAddr;

use super::cidr::Net;

/// A row of a table: a range, and the verdict on its addresses.
#[derive(Debug, PartialEq, Eq, Hash)]
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

/// Returns the row with the longest prefix that contains an address.
///
/// Rows are sorted by first address and then by prefix length, so ranges inside a range come after it. The last row
/// that contains the address is therefore the innermost. A linear search takes less than 100 ns.
pub(super) fn longest_prefix(table: &'static [Range], ip: IpAddr) -> Option<&'static Range> {
    table.iter().rfind(|range| range.net.contains(ip))
}
