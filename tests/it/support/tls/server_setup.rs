//! The certificates and settings of the other end of a secured connection.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::server::WebPkiClientVerifier;
use sockeye::TlsVersion;

use super::{Authority, Identity, VERSIONS};

/// A peer's certificates and settings.
#[derive(Clone)]
pub struct ServerSetup {
    identity: Identity,
    versions: Vec<TlsVersion>,
    groups: Option<&'static dyn SupportedKxGroup>,
    alpn: Vec<Vec<u8>>,
    clients: Clients,
    tickets: Option<usize>,
    half_rtt: bool,
    fragments: Option<usize>,
}

/// Whether clients have to present a certificate, and of which authority.
#[derive(Clone)]
enum Clients {
    Unasked,
    Asked(Arc<rustls::RootCertStore>),
    Required(Arc<rustls::RootCertStore>),
}

impl ServerSetup {
    pub fn new(identity: Identity) -> ServerSetup {
        ServerSetup {
            identity,
            versions: VERSIONS.to_vec(),
            groups: None,
            alpn: Vec::new(),
            clients: Clients::Unasked,
            tickets: None,
            half_rtt: false,
            fragments: None,
        }
    }

    pub fn only(mut self, version: TlsVersion) -> ServerSetup {
        self.versions = vec![version];
        self
    }

    /// Accepts a key exchange with this group only.
    pub fn group(mut self, group: &'static dyn SupportedKxGroup) -> ServerSetup {
        self.groups = Some(group);
        self
    }

    pub fn alpn(mut self, protocols: &[&str]) -> ServerSetup {
        self.alpn = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub fn asks_clients(mut self, authority: &Authority) -> ServerSetup {
        self.clients = Clients::Asked(Arc::new(authority.roots()));
        self
    }

    pub fn requires_clients(mut self, authority: &Authority) -> ServerSetup {
        self.clients = Clients::Required(Arc::new(authority.roots()));
        self
    }

    /// Sends this many session tickets after a TLS 1.3 handshake.
    pub fn tickets(mut self, count: usize) -> ServerSetup {
        self.tickets = Some(count);
        self
    }

    /// Allows sending data in TLS 1.3 before the client's Finished arrives.
    pub fn speaks_early(mut self) -> ServerSetup {
        self.half_rtt = true;
        self
    }

    /// Sends records of at most this many bytes.
    pub fn fragments(mut self, most: usize) -> ServerSetup {
        self.fragments = Some(most);
        self
    }

    /// Returns the configuration. Peers that share one configuration resume each other's sessions.
    pub fn config(&self) -> Arc<ServerConfig> {
        let mut provider = ring::default_provider();
        if let Some(group) = self.groups {
            provider.kx_groups = vec![group];
        }
        let provider = Arc::new(provider);
        let versions: Vec<_> = self.versions.iter().copied().map(supported).collect();
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .expect("the provider supports them");
        let builder = match &self.clients {
            Clients::Unasked => builder.with_no_client_auth(),
            Clients::Asked(roots) => {
                builder.with_client_cert_verifier(verifier(roots, provider, false))
            }
            Clients::Required(roots) => {
                builder.with_client_cert_verifier(verifier(roots, provider, true))
            }
        };
        let mut config = builder
            .with_single_cert(self.identity.chain(), self.identity.key())
            .expect("the key matches the certificate");
        config.alpn_protocols.clone_from(&self.alpn);
        config.send_half_rtt_data = self.half_rtt;
        // Forged records need the session's secrets.
        config.enable_secret_extraction = true;
        config.max_fragment_size = self.fragments;
        if let Some(count) = self.tickets {
            config.send_tls13_tickets = count;
        }
        Arc::new(config)
    }
}

fn supported(version: TlsVersion) -> &'static rustls::SupportedProtocolVersion {
    match version {
        TlsVersion::Tls12 => &rustls::version::TLS12,
        TlsVersion::Tls13 => &rustls::version::TLS13,
        other => panic!("unexpected version: {other:?}"),
    }
}

fn verifier(
    roots: &Arc<rustls::RootCertStore>,
    provider: Arc<CryptoProvider>,
    required: bool,
) -> Arc<dyn rustls::server::danger::ClientCertVerifier> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider);
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().expect("the verifier has a root")
}
