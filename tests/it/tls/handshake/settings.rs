//! TLS options: which ones are rejected before anything is sent, and their `Debug` output.

use super::*;

// -------------------------------------------------------------------- options

#[track_caller]
fn refuses(options: SocketOptions) {
    let shown = format!("{options:?}");
    let listener = listen();
    let address = listener.local_addr().expect("a listener has an address");
    let error = connect_with(address, options).expect_err(&shown);
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{shown}");
    assert_no_connection(&listener);
}

#[test]
fn settings_without_effect_are_refused() {
    provider();
    refuses(with(SecureTransport::Off, TlsOptions::new()));
    refuses(SocketOptions::new().tls(TlsOptions::new().server_name("x").alpn(["h2"])));
    refuses(SocketOptions::new().tls(trust_only(authority())));
}

#[test]
fn invalid_names_are_refused() {
    let long = "x".repeat(300);
    let label = format!("{}.test", "x".repeat(64));
    for name in ["", ".", "two words", "a/b", "nul\0.test", "..", "bücher.test", &long, &label] {
        for mode in [SecureTransport::On, SecureTransport::StartTls] {
            refuses(with(mode, trust_only_names(authority()).server_name(name)));
        }
    }
}

#[test]
fn protocols_that_cannot_be_offered_are_refused() {
    for mode in [SecureTransport::On, SecureTransport::StartTls] {
        let offered = |protocols: &[&[u8]]| {
            with(mode, trust_only(authority()).alpn(protocols.iter().map(|one| one.to_vec())))
        };
        refuses(offered(&[b""]));
        refuses(offered(&[b"h2", b""]));
        refuses(offered(&[&[b'x'; 256]]));
    }
    with_watchdog(|| {
        let longest = "x".repeat(255);
        let peer = TlsPeer::reading(&server_config().alpn(&[&longest]));
        let tls = trust_only(authority()).alpn([longest.as_str()]);
        let socket = open(&peer, with(SecureTransport::On, tls));
        assert_eq!(socket.opened().expect("it is open").alpn(), Some(longest.as_bytes()));
    });
}

#[test]
fn empty_trust_is_refused() {
    provider();
    for mode in [SecureTransport::On, SecureTransport::StartTls] {
        refuses(with(mode, TlsOptions::new().only_added_roots()));
    }
}

#[test]
fn pem_without_the_expected_items_is_refused() {
    let identity = authority().issues(&valid_cert());
    let (chain, key) = (identity.chain_pem(), identity.key_pem());
    let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
    for pem in ["", "no PEM at all", key, broken] {
        assert_fails(TlsOptions::new().add_root_pem(pem), ErrorKind::InvalidOptions);
        assert_fails(TlsOptions::new().client_auth_pem(pem, key), ErrorKind::InvalidOptions);
    }
    for pem in ["", "no PEM at all", chain.as_str()] {
        assert_fails(TlsOptions::new().client_auth_pem(&chain, pem), ErrorKind::InvalidOptions);
    }
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let identity = authority().client("someone");
    let other = authority().client("someone else");
    let given = trust_only(authority()).client_auth_pem(identity.chain_pem(), other.key_pem());
    match given {
        Ok(tls) => refuses(with(SecureTransport::On, tls)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidOptions),
    }
}

#[test]
fn keys_are_not_shown() {
    let identity = authority().client("someone");
    let tls = trust_only(authority())
        .client_auth_pem(identity.chain_pem(), identity.key_pem())
        .expect("the key matches the certificate");
    let options = with(SecureTransport::On, tls.clone());
    // The first bytes of every key of one algorithm are alike.
    let secret = &identity.key_der()[40..48];
    let bare = |text: String| text.split_whitespace().collect::<String>();
    let decimal = bare(format!("{secret:?}"));
    let hexadecimal: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let middle = identity.key_pem().lines().nth(2).expect("a key has lines").to_owned();
    for shown in [format!("{tls:?}"), format!("{tls:#?}"), format!("{options:?}")].map(bare) {
        for part in [decimal.trim_matches(['[', ']']), &hexadecimal] {
            assert!(!shown.to_ascii_lowercase().contains(part), "{shown}");
        }
        assert!(!shown.contains(&middle), "{shown}");
    }
}

#[test]
fn modes_have_names() {
    for (mode, name) in [
        (SecureTransport::Off, "off"),
        (SecureTransport::On, "on"),
        (SecureTransport::StartTls, "starttls"),
    ] {
        assert_eq!(mode.to_string(), name);
        assert_eq!(name.parse::<SecureTransport>().expect("it is a name"), mode);
    }
    for name in ["", "tls", "startTls", "On", "on ", "ssl", "start_tls"] {
        assert_fails(name.parse::<SecureTransport>(), ErrorKind::InvalidOptions);
    }
    assert_eq!(SecureTransport::default(), SecureTransport::Off);
}

#[test]
fn a_socket_reports_its_mode() {
    with_watchdog(|| {
        let peer = Peer::reading();
        let plain = sockeye::connect(peer.address()).expect("the address is valid");
        assert_eq!(plain.secure_transport(), SecureTransport::Off);
        let peer = Peer::reading();
        let options = with(SecureTransport::StartTls, trust_only(authority()));
        let upgradable = connect_with(peer.address(), options).expect("they are valid");
        assert_eq!(upgradable.secure_transport(), SecureTransport::StartTls);
        assert!(!upgradable.upgraded());
        let peer = TlsPeer::reading(&server_config());
        let secure = open(&peer, secure());
        assert_eq!(secure.secure_transport(), SecureTransport::On);
        secure.abort();
        assert_eq!(secure.secure_transport(), SecureTransport::On);
    });
}

#[cfg(feature = "rustls-0_23")]
mod a_configuration_of_rustls {
    use super::*;

    fn config() -> Arc<rustls::ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider supports them")
            .with_root_certificates(authority().roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"own".to_vec()];
        Arc::new(config)
    }

    #[test]
    fn is_used_unchanged() {
        with_watchdog(|| {
            let peer = TlsPeer::reading(&server_config().alpn(&["own"]));
            let tls = TlsOptions::new().rustls_0_23_config(config()).server_name("localhost");
            let socket = open(&peer, with(SecureTransport::On, tls));
            assert_eq!(socket.opened().expect("it is open").alpn(), Some(b"own".as_slice()));
            socket.close().expect("the peer reads");
            peer.assert_received(b"");
        });
    }

    #[test]
    fn stands_alone() {
        let tls = || TlsOptions::new().rustls_0_23_config(config());
        let identity = authority().client("someone");
        for tls in [
            tls().alpn(["own"]),
            tls().only_added_roots(),
            tls().add_root_pem(authority().pem()).expect("it is PEM"),
            tls().danger_accept_invalid_certs(true),
            tls().client_auth_pem(identity.chain_pem(), identity.key_pem()).expect("they fit"),
        ] {
            for mode in [SecureTransport::On, SecureTransport::StartTls] {
                refuses(with(mode, tls.clone()));
            }
        }
    }
}
