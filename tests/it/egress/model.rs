//! An independent, slow and simple model of the rules. An address is a string of zeros and ones, and a net is a prefix
//! of one. The special ranges come from the RFCs, not from the table.

use std::net::{IpAddr, SocketAddr};

/// The base of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Base {
    All,
    Nothing,
    Public,
    Workers,
}

pub const BASES: [Base; 4] = [Base::All, Base::Nothing, Base::Public, Base::Workers];

#[derive(Debug)]
pub struct Model {
    base: Base,
    /// Prefixes of addresses, and whether such an address is allowed.
    nets: Vec<(String, bool)>,
    ports: Vec<(u16, bool)>,
    tables: Tables,
}

/// The decision about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Allowed,
    /// The port is denied.
    Port,
    /// The address itself is denied.
    Itself,
    /// An IPv4 address inside it is denied.
    Inside,
}

pub const VERDICTS: [Verdict; 4] =
    [Verdict::Allowed, Verdict::Port, Verdict::Itself, Verdict::Inside];

impl Model {
    pub fn new(base: Base) -> Self {
        let ports = if base == Base::Workers { vec![(25, false)] } else { Vec::new() };
        Model { base, nets: Vec::new(), ports, tables: Tables::new() }
    }

    /// Adds a well-formed net.
    pub fn net(&mut self, net: &str, allow: bool) {
        self.nets.push((beginning(net), allow));
    }

    pub fn port(&mut self, port: u16, allow: bool) {
        self.ports.push((port, allow));
    }

    pub fn judge(&self, address: SocketAddr) -> Verdict {
        let port = self.ports.iter().rev().find(|(port, _)| *port == address.port());
        if !port.map_or(self.base != Base::Nothing, |&(_, allow)| allow) {
            return Verdict::Port;
        }
        let bits = bits(address.ip());
        if !self.allows(&bits) {
            Verdict::Itself
        } else if !inside(address.ip()).iter().all(|v4| self.allows(v4)) {
            Verdict::Inside
        } else {
            Verdict::Allowed
        }
    }

    fn allows(&self, bits: &str) -> bool {
        match self.nets.iter().rev().find(|(net, _)| bits.starts_with(net)) {
            Some(&(_, allow)) => allow,
            None => match self.base {
                Base::All => true,
                Base::Nothing => false,
                Base::Public => self.tables.is_public(bits),
                Base::Workers => self.tables.is_public(bits) && !any(&self.tables.cloudflare, bits),
            },
        }
    }
}

/// Returns the bits of an address and its family. An IPv4-mapped address is an IPv4 address.
fn bits(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("4:{:032b}", ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = format!("{:0128b}", ip.to_bits());
            match bits.strip_prefix(MAPPED) {
                Some(v4) => format!("4:{v4}"),
                None => format!("6:{bits}"),
            }
        }
    }
}

const MAPPED: &str = "\
000000000000000000000000000000000000000000000000000000000000000000000000000000001111111111111111";

fn beginning(net: &str) -> String {
    let (network, prefix) = net.split_once('/').expect("a slash");
    let (ip, prefix): (IpAddr, usize) = (network.parse().unwrap(), prefix.parse().unwrap());
    match ip {
        IpAddr::V4(ip) => format!("4:{}", &format!("{:032b}", ip.to_bits())[..prefix]),
        IpAddr::V6(ip) => {
            let bits = &format!("{:0128b}", ip.to_bits())[..prefix];
            match bits.strip_prefix(MAPPED) {
                Some(v4) => format!("4:{v4}"),
                None => format!("6:{bits}"),
            }
        }
    }
}

/// Returns the bits of every IPv4 address that an IPv6 address may represent.
pub fn inside(ip: IpAddr) -> Vec<String> {
    let IpAddr::V6(ip) = ip else {
        return Vec::new();
    };
    let hex = format!("{:032x}", ip.to_bits());
    let mut found: Vec<String> = Vec::new();
    let compatible = hex.starts_with(&"0".repeat(24));
    if compatible && hex[24..] != *"00000000" && hex[24..] != *"00000001" {
        found.push(hex[24..].into());
    }
    if hex.starts_with("0000000000000000ffff0000") || hex.starts_with("0064ff9b0000000000000000") {
        found.push(hex[24..].into());
    }
    if hex.starts_with("0064ff9b0001") {
        // RFC 6052, figure 1: prefixes of 48, 56, 64 and 96 bits; bits 64 to 71 are left out.
        let readings = [
            format!("{}{}", &hex[12..16], &hex[18..22]),
            format!("{}{}", &hex[14..16], &hex[18..24]),
            hex[18..26].to_owned(),
            hex[24..32].to_owned(),
        ];
        let nowhere = |reading: &String| reading.starts_with("00");
        let all_lead_nowhere = readings.iter().all(nowhere);
        found.extend(readings.into_iter().filter(|reading| all_lead_nowhere || !nowhere(reading)));
    }
    if hex.starts_with("2002") {
        found.push(hex[4..12].into());
    }
    if hex.starts_with("20010000") {
        found.push(hex[8..16].into());
        found.push(hex[24..].chars().map(inverted).collect());
    }
    if hex[16..24] == *"00005efe" || hex[16..24] == *"02005efe" {
        found.push(hex[24..].into());
    }
    let bits = |hex: String| format!("4:{:032b}", u32::from_str_radix(&hex, 16).unwrap());
    found.into_iter().map(bits).collect()
}

fn inverted(digit: char) -> char {
    let digits = "0123456789abcdef";
    let at = digits.find(digit).expect("a digit");
    digits.chars().rev().nth(at).expect("the position is within the digits")
}

/// Tables of prefixes.
#[derive(Debug)]
struct Tables {
    denied: Vec<String>,
    allowed: Vec<String>,
    cloudflare: Vec<String>,
}

impl Tables {
    fn new() -> Self {
        let beginnings = |nets: &[&str]| nets.iter().map(|net| beginning(net)).collect();
        Tables {
            denied: beginnings(&DENIED),
            allowed: beginnings(&ALLOWED),
            cloudflare: beginnings(&CLOUDFLARE),
        }
    }

    fn is_public(&self, bits: &str) -> bool {
        let global_unicast = bits.starts_with("4:") || bits.starts_with("6:001");
        any(&self.allowed, bits) || global_unicast && !any(&self.denied, bits)
    }
}

fn any(nets: &[String], bits: &str) -> bool {
    nets.iter().any(|net| bits.starts_with(net.as_str()))
}

/// Addresses in IPv4 and in 2000::/3 that are not hosts on the Internet.
const DENIED: [&str; 21] = [
    "0.0.0.0/8",        // RFC 791, RFC 1122: this network
    "10.0.0.0/8",       // RFC 1918: private
    "100.64.0.0/10",    // RFC 6598: between carriers and their customers
    "127.0.0.0/8",      // RFC 1122: loopback
    "168.63.129.16/32", // Azure: the host of a virtual machine
    "169.254.0.0/16",   // RFC 3927: this link
    "172.16.0.0/12",    // RFC 1918: private
    "192.0.0.0/24",     // RFC 6890: protocol assignments, the nearest gateway and relay among them
    "192.0.2.0/24",     // RFC 5737: documentation
    "192.88.99.0/24",   // RFC 7526: the nearest 6to4 relay
    "192.168.0.0/16",   // RFC 1918: private
    "198.18.0.0/15",    // RFC 2544: benchmarks
    "198.51.100.0/24",  // RFC 5737: documentation
    "203.0.113.0/24",   // RFC 5737: documentation
    "224.0.0.0/4",      // RFC 5771: multicast
    "240.0.0.0/4",      // RFC 1112: reserved, with the broadcast address of RFC 919
    "2001::/23",        // RFC 2928: protocol assignments, Teredo and identifiers among them
    "2001:db8::/32",    // RFC 3849: documentation
    "2002::/16",        // RFC 3056: 6to4
    "3ffe::/16",        // RFC 3701: the 6bone that was
    "3fff::/20",        // RFC 9637: documentation
];

/// Allowed ranges within denied ones.
const ALLOWED: [&str; 3] = [
    "2001:3::/32",     // RFC 7450: AMT
    "2001:4:112::/48", // RFC 7535: AS112
    "64:ff9b::/96",    // RFC 6052: the IPv4 address inside decides
];

/// https://www.cloudflare.com/ips/, in its order.
const CLOUDFLARE: [&str; 22] = [
    "173.245.48.0/20",
    "103.21.244.0/22",
    "103.22.200.0/22",
    "103.31.4.0/22",
    "141.101.64.0/18",
    "108.162.192.0/18",
    "190.93.240.0/20",
    "188.114.96.0/20",
    "197.234.240.0/22",
    "198.41.128.0/17",
    "162.158.0.0/15",
    "104.16.0.0/13",
    "104.24.0.0/14",
    "172.64.0.0/13",
    "131.0.72.0/22",
    "2400:cb00::/32",
    "2606:4700::/32",
    "2803:f800::/32",
    "2405:b500::/32",
    "2405:8100::/32",
    "2a06:98c0::/29",
    "2c0f:f248::/32",
];
