//! The configurations of both ends: a machine in either role, and its peer. They share one certificate.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::machine::{Config, Target, TlsSetup};
use crate::tls::Role;
use crate::{Identity, ServerTlsOptions, TlsOptions};

pub(super) fn machine_config() -> Config {
    let mut config = Config::new(Target::Address(address()));
    static SETUP: OnceLock<TlsSetup> = OnceLock::new();
    let setup = SETUP.get_or_init(|| {
        if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let options = TlsOptions::new().add_root_pem(site().certificate.pem()).unwrap();
        TlsSetup::new(&options.only_added_roots(), "a.test").unwrap()
    });
    config.tls = Some(match ROLE.get() {
        Role::Client => setup.clone(),
        Role::Server => TlsSetup::server(server_options()).unwrap(),
    });
    config
}

thread_local! {
    static ROLE: Cell<Role> = const { Cell::new(Role::Client) };
    static WAY: Cell<Way> = const { Cell::new(Way::Direct) };
}

/// The way from a machine to its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// Through an `https` proxy, so that all records are the data of another session.
    Proxied,
    /// To an `https` proxy, which is the peer after its answer: what the program sends is plaintext to the target.
    ToProxy,
}

/// Runs a test with the machine as the client, and as the server, each directly and through an `https` proxy.
pub(super) fn in_both_roles(test: impl Fn()) {
    for way in [Way::Direct, Way::Proxied] {
        on_way(way, || {
            test();
            as_server(&test);
        });
    }
}

pub(super) fn on_way(way: Way, test: impl FnOnce()) {
    WAY.set(way);
    test();
    WAY.set(Way::Direct);
}

/// Returns the way to the peer in this test.
pub(super) fn way() -> Way {
    WAY.get()
}

/// Runs a test with the machine as the server.
pub(super) fn as_server(test: impl FnOnce()) {
    ROLE.set(Role::Server);
    test();
    ROLE.set(Role::Client);
}

/// Returns the options of a machine that is the server.
pub(super) fn server_options() -> &'static ServerTlsOptions {
    static OPTIONS: OnceLock<ServerTlsOptions> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        let site = site();
        let identity = Identity::from_pem(site.certificate.pem(), site.key.serialize_pem());
        ServerTlsOptions::new(identity.unwrap())
    })
}

/// Returns the configuration of a client that trusts this server.
pub(super) fn client_config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(site().certificate.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

pub(super) struct Site {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

pub(super) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        Site { certificate: params.self_signed(&key).unwrap(), key }
    })
}

pub(super) fn server_config(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let key = PrivateKeyDer::try_from(site().key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![site().certificate.der().clone()], key)
        .unwrap()
}

pub(super) fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 1))
}

/// Returns the machine's role in this test.
pub(super) fn role() -> Role {
    ROLE.get()
}
