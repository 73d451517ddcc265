//! The text of an address: accepted text follows the documented rules and parses back to the same address.

use std::net::Ipv6Addr;

use sockeye::{EgressRules, ErrorKind, SocketAddress};

/// Parses the text as an address, and as a host with a separate port.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match text.parse::<SocketAddress>() {
        Ok(address) => {
            check(&address);
            let (host, port) = text.rsplit_once(':').expect("there is a port");
            assert_eq!(host.trim_start_matches('[').trim_end_matches(']'), address.hostname());
            assert_eq!(host.starts_with('['), address.hostname().contains(':'), "{text:?}");
            assert_eq!(port.parse().ok(), Some(address.port()), "{text:?}");
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{text:?}"),
    }
    let port = u16::from_le_bytes([bytes.first().copied().unwrap_or(0), 1]);
    match SocketAddress::new(text.as_ref(), port) {
        Ok(address) => {
            check(&address);
            assert_eq!(address.port(), port);
            assert!(text == address.hostname() || text == format!("[{}]", address.hostname()));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{text:?}"),
    }
    // Nets and host patterns are text as well.
    for rule in [EgressRules::deny_net, EgressRules::allow_net] {
        if let Err(error) = rule(EgressRules::allow_all(), &text) {
            assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{text:?}");
        }
    }
    if let Err(error) = EgressRules::allow_all().deny_host(&text) {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{text:?}");
    }
}

fn check(address: &SocketAddress) {
    let host = address.hostname();
    assert!((1..=255).contains(&host.len()), "{host:?}");
    assert!(address.port() > 0, "{host:?}");
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    assert!(is_name || host.parse::<Ipv6Addr>().is_ok(), "{host:?}");
    let again: SocketAddress = address.to_string().parse().expect("it reads back");
    assert_eq!(&again, address);
}
