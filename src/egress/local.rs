//! Whether an address is one of this machine's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Nothing is sent to it; some systems don't connect to port 0.
const ANY_PORT: u16 = 9;

/// Whether a connection to this address would stay on this machine: asks the system, which answers from
/// its routes; nothing is sent.
///
/// A UDP socket that is connected to an address of this machine gets that very address as its own. What
/// can't be connected to at all is not taken for local.
pub(crate) fn is_local(address: SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    if is_certainly_local(ip) {
        return true;
    }
    let unspecified: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let mut peer = super::unmapped(address);
    peer.set_port(ANY_PORT);
    let own = UdpSocket::bind((unspecified, 0)).and_then(|socket| {
        socket.connect(peer)?;
        socket.local_addr()
    });
    own.is_ok_and(|own| own.ip() == ip)
}

/// Whether it is local on every machine. Linux takes the unspecified addresses for the loopback ones.
pub(super) fn is_certainly_local(ip: IpAddr) -> bool {
    ip.is_loopback() || ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_and_unspecified_addresses_are_of_this_machine() {
        for ip in ["127.0.0.1", "127.255.255.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert!(is_local((ip.parse::<IpAddr>().unwrap(), 80).into()), "{ip}");
        }
    }

    #[test]
    fn addresses_that_are_nobodys_are_not_of_this_machine() {
        for ip in
            ["198.51.100.7", "255.255.255.255", "240.0.0.1", "2001:db8::7", "::ffff:240.0.0.1"]
        {
            assert!(!is_local((ip.parse::<IpAddr>().unwrap(), 80).into()), "{ip}");
        }
    }
}
