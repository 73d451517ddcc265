//! Compares the egress rules to a second implementation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sockeye::EgressRules;

use super::model::{Base, Model, Verdict};

/// Reads rules from the bytes, and then addresses that these rules decide about.
pub fn egress(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let flags = bytes.next().unwrap_or(0);
    let (base, mut rules) = match flags % 4 {
        0 => (Base::All, EgressRules::allow_all()),
        1 => (Base::Nothing, EgressRules::deny_all()),
        2 => (Base::Public, EgressRules::public_only()),
        _ => (Base::Workers, EgressRules::workers()),
    };
    let mut model = Model::new(base);
    for _ in 0..(flags >> 2) % 8 {
        let allow = bytes.next().unwrap_or(0) % 2 == 0;
        let net = net(&mut bytes);
        model.net(&net, allow);
        let added = if allow { rules.allow_net(&net) } else { rules.deny_net(&net) };
        rules = added.expect("it is a net");
    }
    for _ in 0..flags >> 6 {
        let allow = bytes.next().unwrap_or(0) % 2 == 0;
        let port = port(&mut bytes);
        model.port(port, allow);
        rules = if allow { rules.allow_port(port) } else { rules.deny_port(port) };
    }
    for _ in 0..MAX_ADDRESSES {
        if bytes.len() == 0 {
            break;
        }
        let address = SocketAddr::new(ip(&mut bytes), port(&mut bytes));
        let expected = model.judge(address) == Verdict::Allowed;
        assert_eq!(rules.allows(address), expected, "{address} by {rules:?}");
    }
}

/// Returns a net in a user's notation.
fn net(bytes: &mut impl Iterator<Item = u8>) -> String {
    let prefix = bytes.next().unwrap_or(0);
    match ip(bytes) {
        IpAddr::V4(ip) => {
            let prefix = u32::from(prefix) % 33;
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            format!("{}/{prefix}", Ipv4Addr::from(ip.to_bits() & mask))
        }
        IpAddr::V6(ip) => {
            let prefix = u32::from(prefix) % 129;
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            format!("{}/{prefix}", Ipv6Addr::from(ip.to_bits() & mask))
        }
    }
}

fn port(bytes: &mut impl Iterator<Item = u8>) -> u16 {
    [25, 80, 443, 53][usize::from(bytes.next().unwrap_or(0) % 4)]
}

/// Returns an IPv4 or IPv6 address, or an IPv6 address with an IPv4 address inside.
fn ip(bytes: &mut impl Iterator<Item = u8>) -> IpAddr {
    let mut word = |count: usize| {
        bytes.by_ref().take(count).fold(0_u128, |word, byte| word << 8 | u128::from(byte))
    };
    let kind = word(1);
    let bits = match kind % 10 {
        0..=3 => return IpAddr::V4(u32::try_from(word(4)).expect("four bytes").into()),
        4 => word(16),
        5 => 0xffff << 32 | word(4),
        6 => 0x0064_ff9b << 96 | word(4),
        7 => 0x0064_ff9b_0001 << 80 | word(10),
        8 => 0x2002 << 112 | word(14),
        _ => [0x2001 << 112 | word(14), word(4), word(8) << 64 | 0x5efe << 32 | word(4)]
            [usize::try_from(kind / 10 % 3).expect("less than three")],
    };
    IpAddr::V6(bits.into())
}

/// The maximum number of addresses for one set of rules.
const MAX_ADDRESSES: usize = 64;
