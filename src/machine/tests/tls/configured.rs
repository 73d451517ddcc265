//! Tests of behaviour that only a complete rustls configuration can cause.

use std::sync::Arc;
use std::time::Instant;

use super::VERSIONS;
use super::site::{address, machine_config, site};
use super::wire::Wire;
use crate::TlsOptions;
use crate::machine::{Actions, Attempt, Endpoints, Fault, Input, Machine, TlsSetup, WriteStep};

#[test]
fn a_session_that_can_not_begin_fails_the_connect_or_upgrade_with_the_reason() {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    // rustls checks this only when it creates a connection.
    config.max_fragment_size = Some(1);
    let options = TlsOptions::new().rustls_0_23_config(Arc::new(config));
    let setup = TlsSetup::new(&options, "a.test").unwrap();
    let now = Instant::now();
    let check = |machine: &Machine| {
        assert_eq!(machine.opened(), Some(Err(Fault::Tls)));
        let why = machine.tls_failure().expect("there is a message");
        assert!(why.contains("max_fragment_size"), "{why}");
    };

    let mut machine = Machine::upgraded(&machine_config(), &setup, &[], None, None, now);
    assert_eq!(machine.start(now), Actions { begin_handshake: true, ..Actions::default() });
    assert!(machine.start(now).is_empty(), "it starts once");
    begin(&mut machine, now);
    check(&machine);

    let mut config = machine_config();
    config.tls = Some(setup);
    let mut machine = Machine::new(config, now);
    let actions = machine.start(now);
    let Some(Attempt { id, .. }) = actions.attempt else { panic!("{actions:?}") };
    let result = Ok(Endpoints::new(address(), None));
    let actions = machine.handle(Input::Attempted { id, result }, now);
    assert!(actions.attach.is_some() && actions.begin_handshake, "{actions:?}");
    begin(&mut machine, now);
    check(&machine);
}

/// Begins the handshake, which fails.
fn begin(machine: &mut Machine, now: Instant) {
    let mut loan = machine.lend_to_begin().expect("a handshake to begin");
    assert!(machine.lend_to_begin().is_none(), "it is lent once");
    loan.begin_handshake();
    let (discarded, actions) = machine.restore(loan, now);
    assert!(actions.wake.opened && actions.wake.closed, "{actions:?}");
    assert!(discarded.is_none() && machine.take_discarded().is_some());
}

#[test]
fn exhausted_keys_end_a_tls_1_2_connection_and_are_updated_in_1_3() {
    use rustls::crypto::CipherSuiteCommon;
    use rustls::{SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};
    for version in VERSIONS {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites = provider
            .cipher_suites
            .iter()
            .map(|suite| match suite {
                SupportedCipherSuite::Tls12(suite) => {
                    SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                        common: CipherSuiteCommon { confidentiality_limit: 20, ..suite.common },
                        ..**suite
                    })))
                }
                SupportedCipherSuite::Tls13(suite) => {
                    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                        common: CipherSuiteCommon { confidentiality_limit: 20, ..suite.common },
                        ..**suite
                    })))
                }
            })
            .collect();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(site().certificate.der().clone()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let options = TlsOptions::new().rustls_0_23_config(Arc::new(config));
        let mut config = machine_config();
        config.tls = Some(TlsSetup::new(&options, "a.test").unwrap());
        let mut wire = Wire::of(config, version, 0);
        wire.shake_hands(usize::MAX);
        let mut sealed = 0;
        for _ in 0..100 {
            if wire.machine.write_error().is_some() {
                break;
            }
            sealed += wire.seal(&[1; 10]);
            if wire.lent.is_some() {
                wire.give_back(usize::MAX);
            }
            wire.transmit(usize::MAX);
            wire.serve();
            wire.deliver(usize::MAX);
        }
        assert_eq!(wire.served.len(), sealed);
        if version == &rustls::version::TLS13 {
            assert_eq!(sealed, 1000);
        } else {
            assert!(sealed < 1000);
            assert!(
                matches!(wire.machine.write(), WriteStep::Fail(Fault::Tls)),
                "otherwise a writer would try to seal forever"
            );
        }
    }
}
