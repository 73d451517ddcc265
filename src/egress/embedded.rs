//! IPv4 addresses inside IPv6 addresses.
//!
//! Somewhere on the way, at a translator or at the end of a tunnel, a packet to such an IPv6 address becomes
//! one to the IPv4 address: who may not dial the one may not dial the other. Where an address can be read
//! in several ways every reading counts, because only the network knows which is right.
//!
//! IPv4-mapped addresses (`::ffff:0:0/96`) are not decoded here: they never leave this machine, whose
//! system makes IPv4 of them.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The most addresses in one: four by the layouts of RFC 6052 and one by ISATAP.
const MOST: usize = 5;

/// The interface identifiers of ISATAP: without and with the bit that says that they are globally unique.
const ISATAP: [u32; 2] = [0x0000_5efe, 0x0200_5efe];

/// The IPv4 addresses that an IPv6 address stands for or may stand for.
pub(super) struct Embedded {
    found: [Ipv4Addr; MOST],
    len: usize,
}

impl Embedded {
    pub(super) fn of(ip: Ipv6Addr) -> Self {
        let mut embedded = Embedded { found: [Ipv4Addr::UNSPECIFIED; MOST], len: 0 };
        let bits = ip.to_bits();
        match ip.segments() {
            // Unspecified and loopback: neither holds anything (RFC 4291, sections 2.5.2 and 2.5.3).
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
            // IPv4-compatible: RFC 4291, section 2.5.5.1.
            [0, 0, 0, 0, 0, 0, ..]
            // IPv4-translated: RFC 2765, section 2.1.
            | [0, 0, 0, 0, 0xffff, 0, ..]
            // The well-known prefix of translators: RFC 6052, section 2.1.
            | [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded.push(word(bits, 0)),
            [0x64, 0xff9b, 1, ..] => embedded.translated(ip),
            // Teredo, of whose client every bit is inverted: RFC 4380, section 4.
            [0x2001, 0, ..] => {
                embedded.push(word(bits, 64));
                embedded.push(!word(bits, 0));
            }
            // 6to4: RFC 3056, section 2.
            [0x2002, ..] => embedded.push(word(bits, 80)),
            _ => {}
        }
        // ISATAP, under any prefix: RFC 5214, section 6.1.
        if ISATAP.contains(&word(bits, 32)) {
            embedded.push(word(bits, 0));
        }
        embedded
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.found[..self.len].iter().copied()
    }

    /// A prefix that a network gives to its own translators (RFC 8215), who may use it, or a longer one
    /// under it, in any of the layouts of RFC 6052, section 2.2. All of them leave out the ninth octet; what
    /// follows the address is ignored.
    ///
    /// A longer prefix may itself be read as an address, which then has to be allowed as well.
    ///
    /// Nothing can be sent to 0.0.0.0/8 (RFC 1122, section 3.2.1.3): such a reading says only that the layout
    /// is another, unless there is none better.
    fn translated(&mut self, ip: Ipv6Addr) {
        let [.., a, b, _, c, d, e, f, g, h, i] = ip.octets();
        let readings = [[a, b, c, d], [b, c, d, e], [c, d, e, f], [f, g, h, i]];
        let dialable = readings.iter().any(|reading| reading[0] != 0);
        for reading in readings {
            if reading[0] != 0 || !dialable {
                self.push(u32::from_be_bytes(reading));
            }
        }
    }

    fn push(&mut self, bits: u32) {
        self.found[self.len] = Ipv4Addr::from_bits(bits);
        self.len += 1;
    }
}

/// The 32 bits above the lowest `shift` ones.
#[expect(clippy::cast_possible_truncation, reason = "the lowest 32 bits are what is asked for")]
fn word(bits: u128, shift: u32) -> u32 {
    (bits >> shift) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_an_ipv4_address_in_an_ipv6_address_is_read() {
        check("::10.1.2.3", &["10.1.2.3"]);
        check("::2", &["0.0.0.2"]);
        check("::ffff:0:10.1.2.3", &["10.1.2.3"]);
        check("64:ff9b::10.1.2.3", &["10.1.2.3"]);
        check("64:ff9b::", &["0.0.0.0"]);
        check("2002:a01:203::", &["10.1.2.3"]);
        check("2002:a01:203:ffff:ffff:ffff:ffff:ffff", &["10.1.2.3"]);
        check("2001:0:a01:203:0:0:f5fe:fdfc", &["10.1.2.3", "10.1.2.3"]);
        check("2001:0:c000:201::ffff:ffff", &["192.0.2.1", "0.0.0.0"]);
        check("2600::5efe:10.1.2.3", &["10.1.2.3"]);
        check("2600::200:5efe:10.1.2.3", &["10.1.2.3"]);
        check("fe80::5efe:10.1.2.3", &["10.1.2.3"]);
    }

    #[test]
    fn the_local_prefix_of_translators_is_read_in_every_layout() {
        check("64:ff9b:1:a01:2:300::", &["10.1.2.3", "1.2.3.0", "2.3.0.0"]);
        check("64:ff9b:1:a:1:203::", &["10.1.2.3", "1.2.3.0"]);
        check("64:ff9b:1::a:102:300:0", &["10.1.2.3", "3.0.0.0"]);
        check("64:ff9b:1::10.1.2.3", &["10.1.2.3"]);
        check(
            "64:ff9b:1:a01:2:3ff:ffff:ffff",
            &["10.1.2.3", "1.2.3.255", "2.3.255.255", "255.255.255.255"],
        );
        check("64:ff9b:1::", &["0.0.0.0"; 4]);
        check("64:ff9b:1::8", &["0.0.0.0", "0.0.0.0", "0.0.0.0", "0.0.0.8"]);
    }

    #[test]
    fn an_address_may_be_read_in_two_ways_at_once() {
        check("2002:a01:203::5efe:192.0.2.1", &["10.1.2.3", "192.0.2.1"]);
        check("2001:0:a01:203:0:5efe:f5fe:fdfc", &["10.1.2.3", "10.1.2.3", "245.254.253.252"]);
        check(
            "64:ff9b:1:a01:200:5efe:a01:203",
            &["10.1.0.94", "1.0.94.254", "10.1.2.3", "10.1.2.3"],
        );
        check(
            "64:ff9b:1::200:5efe:0:1",
            &["0.0.0.94", "0.0.94.254", "0.94.254.0", "0.0.0.1", "0.0.0.1"],
        );
    }

    #[test]
    fn other_addresses_hold_none() {
        for ip in [
            "::",
            "::1",
            "::ffff:10.1.2.3",
            "::1:0:0:0",
            "::1:a01:203",
            "0:0:0:1::a01:203",
            "64:ff9b::1:0:0",
            "64:ff9b:2::a01:203",
            "64:ff9c::a01:203",
            "2001:1::a01:203",
            "2003:a01:203::",
            "2600::100:5efe:a01:203",
            "2600::5eff:a01:203",
            "2600::a01:203",
        ] {
            check(ip, &[]);
        }
    }

    fn check(ip: &str, expected: &[&str]) {
        let found: Vec<String> =
            Embedded::of(ip.parse().unwrap()).iter().map(|ip| ip.to_string()).collect();
        assert_eq!(found, expected, "{ip}");
    }
}
