//! The setups of both roles, and their peers.

use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

use crate::tls::{Role, TlsSetup};
use crate::{Identity, Proxy, ServerTlsOptions, TlsOptions};

pub(super) fn setup() -> &'static TlsSetup {
    &site().client
}

pub(super) fn server_setup() -> &'static TlsSetup {
    &site().server
}

/// Returns an `https` proxy, whose peer is that of [`setup`].
pub(super) fn https_proxy() -> Proxy {
    Proxy::https(([192, 0, 2, 1], 1), site().options.clone().server_name("a.test"))
        .expect("the options are valid")
}

/// Returns a new peer of a machine with this setup.
pub(super) fn peer_of(setup: &TlsSetup) -> Connection {
    let name = ServerName::try_from("a.test").expect("it is a name");
    match setup.role() {
        Role::Client => {
            let config = Arc::clone(&site().server_config);
            ServerConnection::new(config).map(Connection::Server)
        }
        Role::Server => {
            let config = Arc::clone(&site().client_config);
            ClientConnection::new(config, name).map(Connection::Client)
        }
    }
    .expect("the configuration is valid")
}

/// The setups of both roles, and the configurations of their peers.
struct Site {
    options: TlsOptions,
    client: TlsSetup,
    server: TlsSetup,
    server_config: Arc<ServerConfig>,
    client_config: Arc<ClientConfig>,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let options = TlsOptions::new().add_root_pem(certificate.pem()).unwrap();
        let options = options.only_added_roots();
        let identity = Identity::from_pem(certificate.pem(), key.serialize_pem()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        let client_config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Site {
            client: TlsSetup::new(&options, "a.test").unwrap(),
            options,
            server: TlsSetup::server(&ServerTlsOptions::new(identity)).unwrap(),
            server_config: Arc::new(server_config),
            client_config: Arc::new(client_config),
        }
    })
}
