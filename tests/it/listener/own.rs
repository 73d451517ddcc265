//! Egress rules that know the listeners of this process.

use std::net::{Ipv6Addr, SocketAddr};

use sockeye::{Connector, EgressRules, ErrorKind, listen};

use super::{address_of, local};
use crate::support::{assert_fails, with_watchdog};

#[test]
fn own_listeners_are_denied_while_they_listen() {
    with_watchdog(|| {
        let rules = EgressRules::allow_all().deny_own_listeners();
        let connector = Connector::builder().egress(rules.clone()).build().unwrap();
        let listener = local();
        let address = address_of(&listener);
        let error = connector.connect(address).unwrap().opened().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loop);
        assert!(error.to_string().contains("TCP Loop detected"), "{error}");
        assert_fails(
            connector.connect(("localhost", address.port())).unwrap().opened(),
            ErrorKind::Loop,
        );
        assert!(!rules.allows(address));
        listener.close();
        assert!(rules.allows(address));
        assert_fails(connector.connect(address).unwrap().opened(), ErrorKind::Connect);
    });
}

#[test]
fn a_listener_on_an_unspecified_address_counts_for_every_local_one() {
    with_watchdog(|| {
        let rules = EgressRules::allow_all().deny_own_listeners();
        for any in ["0.0.0.0:0".parse().unwrap(), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))] {
            let Ok(listener) = listen(any) else { continue };
            let port = address_of(&listener).port();
            for local in ["127.0.0.1", "127.7.7.7", "::1", "::ffff:127.0.0.1"] {
                let address = SocketAddr::new(local.parse().unwrap(), port);
                assert!(!rules.allows(address), "{address} leads to {any}");
            }
            assert!(rules.allows(SocketAddr::from(([192, 0, 2, 1], port))));
            assert!(rules.allows(SocketAddr::from(([127, 0, 0, 1], port ^ 1))));
        }
    });
}

#[test]
fn the_workers_rules_include_it_and_others_do_not() {
    with_watchdog(|| {
        let listener = local();
        let address = address_of(&listener);
        assert!(EgressRules::allow_all().allows(address));
        let own = EgressRules::workers().allow_net("127.0.0.0/8").unwrap();
        assert!(!own.allows(address));
        let public = EgressRules::public_only().allow_net("127.0.0.0/8").unwrap();
        assert!(public.allows(address));
        let connector = Connector::builder().egress(own).build().unwrap();
        assert_fails(connector.connect(address).unwrap().opened(), ErrorKind::Loop);
    });
}
