//! Extracts IPv4 addresses that are embedded in IPv6 addresses.
//!
//! A translator or the end of a tunnel turns a packet to such an IPv6 address into one to the IPv4 address. So if the
//! rules deny the IPv4 address, they must deny the IPv6 address too. If an address can be decoded in several ways,
//! all results apply, because only the network knows the right one.
//!
//! IPv4-mapped addresses (`::ffff:0:0/96`) are not decoded here: they never appear in packets, because the local
//! kernel converts them to IPv4.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The maximum number of embedded addresses: four by the layouts of RFC 6052 and one by ISATAP.
const MAX_EMBEDDED: usize = 5;

/// The upper half of ISATAP interface identifiers, without and with the bit for a globally unique address.
const ISATAP: [u32; 2] = [0x0000_5efe, 0x0200_5efe];

/// The IPv4 addresses that an IPv6 address embeds or may embed.
pub(super) struct Embedded {
    found: [Ipv4Addr; MAX_EMBEDDED],
    len: usize,
}

impl Embedded {
    pub(super) fn of(ip: Ipv6Addr) -> Self {
        let mut embedded = Embedded { found: [Ipv4Addr::UNSPECIFIED; MAX_EMBEDDED], len: 0 };
        let bits = ip.to_bits();
        match ip.segments() {
            // Unspecified and loopback embed nothing (RFC 4291, sections 2.5.2 and 2.5.3).
            [0, 0, 0, 0, 0, 0, 0, 0 | 1] => {}
            // IPv4-compatible: RFC 4291, section 2.5.5.1.
            [0, 0, 0, 0, 0, 0, ..]
            // IPv4-translated: RFC 2765, section 2.1.
            | [0, 0, 0, 0, 0xffff, 0, ..]
            // The well-known prefix of translators: RFC 6052, section 2.1.
            | [0x64, 0xff9b, 0, 0, 0, 0, ..] => embedded.push(word(bits, 0)),
            [0x64, 0xff9b, 1, ..] => embedded.rfc8215_embedded(ip),
            // Teredo: server and client; the client's bits are inverted (RFC 4380, section 4).
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

    /// Decodes an address under the prefix for a network's own translators (RFC 8215). A network may use this prefix or
    /// a longer one below it, in any layout of RFC 6052, section 2.2. All layouts skip the ninth octet and ignore the
    /// bits after the IPv4 address.
    ///
    /// The bits of a longer prefix may look like an address, which the rules then have to allow as well.
    ///
    /// Nothing can be sent to 0.0.0.0/8 (RFC 1122, section 3.2.1.3). So a result in that range means that the network
    /// uses another layout. It is ignored unless all layouts give one.
    fn rfc8215_embedded(&mut self, ip: Ipv6Addr) {
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

/// Returns the 32 bits above the lowest `shift` bits.
#[expect(clippy::cast_possible_truncation, reason = "the function returns 32 bits")]
fn word(bits: u128, shift: u32) -> u32 {
    (bits >> shift) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_embedded_ipv4_address_is_decoded() {
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
    fn the_local_translation_prefix_is_decoded_in_every_layout() {
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
    fn an_address_may_embed_ipv4_addresses_in_two_forms() {
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
    fn other_addresses_embed_nothing() {
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
