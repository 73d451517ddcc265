//! The parameters that a TLS handshake negotiated, such as version, cipher suite and certificates.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::channel_binding;

/// The negotiated parameters of a TLS connection; cheap to clone.
///
/// ```no_run
/// use sockeye::{SecureTransport, SocketOptions, TlsVersion};
///
/// let options = SocketOptions::new().secure_transport(SecureTransport::On);
/// let info = sockeye::connect_with("example.com:443", options)?.opened()?;
/// if let Some(tls) = info.tls() {
///     assert!(tls.version() >= TlsVersion::Tls12);
///     println!("{} {}", tls.version(), tls.cipher_suite_name()); // TLS 1.3 TLS13_AES_256_GCM_SHA384
///     println!("{} bytes of leaf", tls.peer_certificates().next().map_or(0, <[u8]>::len));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[doc(alias("ConnectionState"))]
pub struct TlsInfo {
    inner: Arc<Inner>,
}

struct Inner {
    negotiated: NegotiatedParts,
    suite_name: Cow<'static, str>,
}

/// What a handshake negotiated.
pub(crate) struct NegotiatedParts {
    pub(crate) version: TlsVersion,
    pub(crate) suite: SupportedCipherSuite,
    /// The IANA code point of the key exchange group, if there was a key exchange.
    pub(crate) group: Option<u16>,
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    pub(crate) resumed: bool,
    pub(crate) ech: EchStatus,
    pub(crate) server_leaf: ServerLeaf,
}

/// Where the server's leaf is.
#[derive(Debug)]
pub(crate) enum ServerLeaf {
    /// It is the first certificate of the peer.
    Peer,
    /// This side is the server, and presented this one, if it is known.
    Own(Option<Arc<CertificateDer<'static>>>),
}

impl TlsInfo {
    pub(crate) fn new(negotiated: NegotiatedParts) -> Self {
        let suite = negotiated.suite.suite();
        let suite_name = match suite.as_str() {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("{:#06x}", u16::from(suite))),
        };
        TlsInfo { inner: Arc::new(Inner { negotiated, suite_name }) }
    }

    /// Returns the TLS version.
    #[must_use]
    #[doc(alias("getProtocol"))]
    pub fn version(&self) -> TlsVersion {
        self.inner.negotiated.version
    }

    /// Returns the cipher suite's IANA code point.
    #[must_use]
    #[doc(alias("getCipher"))]
    pub fn cipher_suite(&self) -> u16 {
        u16::from(self.inner.negotiated.suite.suite())
    }

    /// Returns the cipher suite's name, such as `TLS13_AES_256_GCM_SHA384`. If rustls knows no name, returns the code
    /// point, such as `0x00ff`.
    #[must_use]
    pub fn cipher_suite_name(&self) -> &str {
        &self.inner.suite_name
    }

    /// Returns the peer's certificates in DER, leaf first, as the peer sent them. A resumed session has those of its
    /// original handshake. They were verified unless the options turn that off.
    #[must_use]
    #[doc(alias("getPeerCertificate", "PeerCertificates"))]
    pub fn peer_certificates(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.inner.negotiated.certificates.iter().map(|certificate| certificate.as_ref())
    }

    /// Computes [`SocketInfo::tls_server_end_point`](crate::SocketInfo::tls_server_end_point).
    pub(crate) fn server_end_point(&self) -> Option<Vec<u8>> {
        let leaf = match &self.inner.negotiated.server_leaf {
            ServerLeaf::Peer => self.inner.negotiated.certificates.first(),
            ServerLeaf::Own(leaf) => leaf.as_deref(),
        }?;
        channel_binding::server_end_point(leaf, self.inner.negotiated.suite)
    }

    /// Returns the IANA code point of the key exchange group, such as 4588 for X25519MLKEM768. `None` if there was no
    /// key exchange, as in a TLS 1.2 resumption.
    #[must_use]
    #[doc(alias("getEphemeralKeyInfo", "CurveID"))]
    pub fn key_exchange_group(&self) -> Option<u16> {
        self.inner.negotiated.group
    }

    /// Returns whether Encrypted Client Hello hid the server name. With a complete rustls configuration, always
    /// [`NotOffered`](EchStatus::NotOffered), because rustls does not tell.
    #[must_use]
    #[doc(alias("ECHAccepted"))]
    pub fn ech(&self) -> EchStatus {
        self.inner.negotiated.ech
    }

    /// Returns whether the handshake resumed an earlier session.
    #[must_use]
    #[doc(alias("isSessionReused", "DidResume"))]
    pub fn resumed(&self) -> bool {
        self.inner.negotiated.resumed
    }
}

impl fmt::Debug for TlsInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsInfo")
            .field("version", &self.inner.negotiated.version)
            .field("cipher_suite", &format_args!("{}", self.inner.suite_name))
            .field("peer_certificates", &self.inner.negotiated.certificates.len())
            .field("resumed", &self.inner.negotiated.resumed)
            .finish()
    }
}

/// Whether Encrypted Client Hello was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EchStatus {
    /// This side did not offer it.
    #[default]
    NotOffered,
    /// The server accepted it: the server name was encrypted. If a server rejects it, the handshake fails.
    Accepted,
}

/// A TLS version; later versions compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    /// Converts from the rustls type. Returns `None` for a version that rustls does not support.
    pub(crate) fn from_rustls(version: ProtocolVersion) -> Option<Self> {
        match version {
            ProtocolVersion::TLSv1_2 => Some(TlsVersion::Tls12),
            ProtocolVersion::TLSv1_3 => Some(TlsVersion::Tls13),
            _ => None,
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TlsVersion::Tls12 => "TLS 1.2",
            TlsVersion::Tls13 => "TLS 1.3",
        })
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::CipherSuiteCommon;
    use rustls::crypto::ring::cipher_suite::TLS13_AES_256_GCM_SHA384;
    use rustls::{CipherSuite, Tls13CipherSuite};

    use super::*;

    #[test]
    fn info_returns_the_negotiated_parameters() {
        let certificates = vec![CertificateDer::from(vec![1, 2]), CertificateDer::from(vec![3])];
        let suite = TLS13_AES_256_GCM_SHA384;
        let info = TlsInfo::new(NegotiatedParts {
            version: TlsVersion::Tls13,
            suite,
            group: Some(29),
            certificates,
            resumed: true,
            ech: EchStatus::Accepted,
            server_leaf: ServerLeaf::Own(None),
        });
        assert_eq!((info.key_exchange_group(), info.ech()), (Some(29), EchStatus::Accepted));
        assert_eq!(info.server_end_point(), None, "the peer's leaf is that of a client");
        assert_eq!(info.version(), TlsVersion::Tls13);
        assert_eq!(info.cipher_suite(), 0x1302);
        assert_eq!(info.cipher_suite_name(), "TLS13_AES_256_GCM_SHA384");
        assert_eq!(info.peer_certificates().len(), 2);
        assert_eq!(info.peer_certificates().collect::<Vec<_>>(), [&[1, 2][..], &[3]]);
        assert!(info.resumed());
        assert_eq!(
            format!("{info:?}"),
            "TlsInfo { version: Tls13, cipher_suite: TLS13_AES_256_GCM_SHA384, \
             peer_certificates: 2, resumed: true }"
        );
    }

    #[test]
    fn a_suite_without_a_name_shows_its_code_point() {
        let known = TLS13_AES_256_GCM_SHA384.tls13().expect("a TLS 1.3 suite");
        let common = CipherSuiteCommon { suite: CipherSuite::from(0x0a0b), ..known.common };
        let suite = &*Box::leak(Box::new(Tls13CipherSuite { common, ..*known }));
        let info = TlsInfo::new(NegotiatedParts {
            version: TlsVersion::Tls13,
            suite: suite.into(),
            group: None,
            certificates: Vec::new(),
            resumed: false,
            ech: EchStatus::NotOffered,
            server_leaf: ServerLeaf::Peer,
        });
        assert_eq!(info.cipher_suite_name(), "0x0a0b");
        assert_eq!(info.cipher_suite(), 0x0a0b);
    }

    #[test]
    fn versions_have_names_and_an_order() {
        assert_eq!(TlsVersion::Tls12.to_string(), "TLS 1.2");
        assert_eq!(format!("{:>8}", TlsVersion::Tls13), " TLS 1.3");
        assert!(TlsVersion::Tls12 < TlsVersion::Tls13);
        let tls13 = TlsVersion::from_rustls(ProtocolVersion::TLSv1_3);
        assert_eq!(tls13, Some(TlsVersion::Tls13));
        assert_eq!(TlsVersion::from_rustls(ProtocolVersion::TLSv1_0), None);
    }
}
