//! Certificate verifiers: webpki's with better error messages, and one that accepts every certificate.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::chain_limit::are_tangled;
use super::der::{CertificateNames, display_name};
use super::role::Role;

/// A verifier that wraps webpki's. If webpki finds no trusted issuer, it inspects the certificates to explain why. It
/// never accepts certificates that webpki refuses. It refuses certificates that webpki accepts only if they allow too
/// many paths.
#[derive(Debug)]
pub(super) struct DiagnosingVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
}

impl DiagnosingVerifier {
    /// Creates a verifier; `roots` must be the roots that `webpki` trusts.
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>, roots: Arc<RootCertStore>) -> Self {
        DiagnosingVerifier { webpki, roots }
    }

    fn reason(
        &self,
        error: &Error,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Option<UntrustedReason> {
        match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => diagnose(leaf, others),
            // webpki checks this first, so most self-signed certificates end here: `openssl req -x509` marks
            // them as an authority's. If the certificate is a trusted root, the mark itself is the fault.
            Error::InvalidCertificate(CertificateError::Other(OtherError(error)))
                if is_authority_as_server(error.as_ref()) =>
            {
                let names = CertificateNames::of(leaf).filter(CertificateNames::is_self_issued)?;
                let trusted =
                    self.roots.roots.iter().any(|root| root.subject.as_ref() == names.subject);
                (!trusted).then_some(UntrustedReason::SelfSigned)
            }
            _ => None,
        }
    }
}

impl ServerCertVerifier for DiagnosingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        check_not_tangled(end_entity, intermediates)?;
        self.webpki
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| match self.reason(&error, end_entity, intermediates) {
                Some(reason) => untrusted(reason),
                None => error,
            })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.webpki.requires_raw_public_keys()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        self.webpki.root_hint_subjects()
    }
}

/// Refuses certificates that allow too many paths.
pub(super) fn check_not_tangled(
    end_entity: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), Error> {
    match are_tangled(end_entity, intermediates) {
        true => Err(untrusted(UntrustedReason::Tangled)),
        false => Ok(()),
    }
}

/// Replaces the error about an unknown issuer by the reason, as far as the certificates show it.
pub(super) fn explain_untrusted(
    error: Error,
    leaf: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
) -> Error {
    match &error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            diagnose(leaf, others).map_or(error, untrusted)
        }
        _ => error,
    }
}

fn untrusted(reason: UntrustedReason) -> Error {
    CertificateError::Other(OtherError(Arc::new(reason))).into()
}

/// A specific reason why a peer's certificate has no trusted issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UntrustedReason {
    /// The certificate is its own issuer.
    SelfSigned,
    /// The chain leads to an issuer that the server did not send and that is not a trusted root. It may be a missing
    /// intermediate or a missing root.
    Incomplete {
        /// The issuer's name, sanitised for a message.
        issuer: String,
    },
    /// The certificates allow more paths than the verifier tries.
    Tangled,
}

impl UntrustedReason {
    /// Returns the message for a certificate of a peer in this role.
    pub(super) fn describe(&self, owner: Role) -> String {
        let owner = owner.name();
        match self {
            UntrustedReason::SelfSigned => {
                format!("{owner}'s certificate is self-signed, and not a trusted root")
            }
            UntrustedReason::Tangled => {
                format!("{owner}'s certificates issue each other in too many ways")
            }
            UntrustedReason::Incomplete { issuer } => format!(
                "{owner}'s certificates end before \"{issuer}\", which is not a trusted root: \
                 {owner} leaves out an intermediate certificate, or this root has to be added"
            ),
        }
    }
}

impl fmt::Display for UntrustedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe(Role::Server))
    }
}

impl std::error::Error for UntrustedReason {}

/// A verifier that accepts every certificate. The server must still prove that it has the key.
#[derive(Debug)]
pub(super) struct AcceptAnyVerifier {
    algorithms: WebPkiSupportedAlgorithms,
}

impl AcceptAnyVerifier {
    pub(super) fn new(algorithms: WebPkiSupportedAlgorithms) -> Self {
        AcceptAnyVerifier { algorithms }
    }
}

impl ServerCertVerifier for AcceptAnyVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Returns whether webpki refused a server's certificate because it is marked as an authority's. webpki is not a direct
/// dependency, so this compares the printed error, which is the variant's name.
pub(super) fn is_authority_as_server(error: &dyn std::error::Error) -> bool {
    error.to_string() == "CaUsedAsEndEntity"
}

/// Follows the issuers by name, from the leaf through the certificates that the server sent. Returns `None` if the leaf
/// is malformed, or if the issuers lead to a root, which is its own issuer, or into a circle.
fn diagnose(leaf: &[u8], others: &[CertificateDer<'_>]) -> Option<UntrustedReason> {
    let mut names = CertificateNames::of(leaf)?;
    if names.is_self_issued() {
        return Some(UntrustedReason::SelfSigned);
    }
    for _ in 0..LONGEST_PATH {
        let issuer = others
            .iter()
            .filter_map(|other| CertificateNames::of(other))
            .find(|other| other.subject == names.issuer);
        let Some(issuer) = issuer else {
            let issuer = display_name(names.issuer).unwrap_or_else(|| String::from("(no name)"));
            return Some(UntrustedReason::Incomplete { issuer });
        };
        names = issuer;
    }
    None
}

/// The maximum number of issuers to follow, which also ends a circle. webpki gives up at this length too.
const LONGEST_PATH: usize = 8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{BasicConstraints, IsCa};
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, version};

    use super::super::testing::{Authority, Leaf, leaf_params};
    use super::*;

    #[test]
    fn a_trusted_chain_is_accepted() {
        let root = Authority::new("Root");
        let middle = root.below("Middle");
        let leaf = middle.leaf(["a.test"]);
        let verdict = verify(&[&root], &leaf, &[middle.der()], "a.test");
        assert!(verdict.is_ok(), "{verdict:?}");
    }

    #[test]
    fn a_self_signed_certificate_is_reported_as_such() {
        let root = Authority::new("Root");
        let leaf = Leaf::self_signed(&leaf_params(&["a.test"]));
        assert_eq!(reason(&[&root], &leaf, &[]), UntrustedReason::SelfSigned);
        assert_eq!(reason(&[&root], &leaf, &[root.der()]), UntrustedReason::SelfSigned);
        let mut params = leaf_params(&["a.test"]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        assert_eq!(reason(&[&root], &Leaf::self_signed(&params), &[]), UntrustedReason::SelfSigned);
    }

    #[test]
    fn a_trusted_authority_used_as_a_server_is_not_reported_as_self_signed() {
        let root = Authority::new("a.test");
        let verdict = verify_der(&[&root], root.der(), &[], "a.test").unwrap_err();
        let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(is_authority_as_server(error.as_ref()), "{error}");
    }

    #[test]
    fn an_issuer_that_was_not_sent_is_named() {
        let (trusted, other) = (Authority::new("Trusted"), Authority::new("Other Root"));
        let middle = trusted.below("Middle");
        let leaf = middle.leaf(["a.test"]);
        let incomplete = |issuer: &str| UntrustedReason::Incomplete { issuer: issuer.to_owned() };
        assert_eq!(reason(&[&trusted], &leaf, &[]), incomplete("Middle"));
        assert_eq!(reason(&[&trusted], &leaf, &[other.der()]), incomplete("Middle"));
        assert_eq!(reason(&[&other], &leaf, &[middle.der()]), incomplete("Trusted"));
    }

    #[test]
    fn a_chain_that_ends_at_an_untrusted_root_has_an_unknown_issuer() {
        let (trusted, other) = (Authority::new("Trusted"), Authority::new("Other Root"));
        let middle = other.below("Middle");
        let leaf = middle.leaf(["a.test"]);
        let unknown = Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        let verdict = verify(&[&trusted], &leaf, &[middle.der(), other.der()], "a.test");
        assert_eq!(verdict.map(drop), unknown);
    }

    #[test]
    fn other_errors_are_those_of_webpki() {
        let root = Authority::new("Root");
        let wrong_name = verify(&[&root], &root.leaf(["a.test"]), &[], "b.test").unwrap_err();
        assert!(
            matches!(
                &wrong_name,
                Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })
            ),
            "{wrong_name:?}"
        );
        let mut params = leaf_params(&["a.test"]);
        params.not_after = rcgen::date_time_ymd(2001, 2, 3);
        let expired = verify(&[&root], &root.leaf_of(params), &[], "a.test").unwrap_err();
        assert!(
            matches!(&expired, Error::InvalidCertificate(CertificateError::ExpiredContext { .. })),
            "{expired:?}"
        );
    }

    #[test]
    fn issuers_in_a_circle_and_garbage_end_the_search() {
        let (a, b) = (Authority::new("A"), Authority::new("B"));
        // Each has the other as its issuer. Only the names match, as in a chain that is meant to confuse.
        let (a_by_b, b_by_a) = (b.below("A"), a.below("B"));
        let leaf = a.leaf(["a.test"]);
        assert_eq!(diagnose(leaf.der(), &[a_by_b.der().clone(), b_by_a.der().clone()]), None);
        let garbage = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(diagnose(&garbage, &[]), None);
        let issuer = String::from("A");
        assert_eq!(diagnose(leaf.der(), &[garbage]), Some(UntrustedReason::Incomplete { issuer }));
    }

    #[test]
    fn certificates_with_too_many_paths_are_refused_without_a_search() {
        let root = Authority::new("Maze");
        let maze: Vec<_> = (0..20).map(|_| root.below("Maze")).collect();
        let others: Vec<_> = maze.iter().map(Authority::der).collect();
        let leaf = maze[19].leaf(["a.test"]);
        // One path is valid.
        assert!(verify(&[&root], &leaf, &others[19..], "a.test").is_ok());
        assert_eq!(reason(&[&root], &leaf, &others), UntrustedReason::Tangled);
    }

    #[test]
    fn without_verification_any_certificate_is_accepted_but_only_with_its_key() {
        let (leaf, other) = (
            Leaf::self_signed(&leaf_params(&["other.test"])),
            Leaf::self_signed(&leaf_params(&["other.test"])),
        );
        for version in [&version::TLS12, &version::TLS13] {
            let accept =
                || Arc::new(AcceptAnyVerifier::new(ring().signature_verification_algorithms));
            assert_eq!(handshake(accept(), &leaf, &leaf, version), Ok(()));
            assert_eq!(
                handshake(accept(), &leaf, &other, version),
                Err(Error::InvalidCertificate(CertificateError::BadSignature))
            );
        }
    }

    #[test]
    fn signatures_are_verified_as_webpki_does() {
        let root = Authority::new("Root");
        let (leaf, other) = (root.leaf(["a.test"]), root.leaf(["a.test"]));
        for version in [&version::TLS12, &version::TLS13] {
            let verifier = || Arc::new(verifier(&[&root]));
            assert_eq!(handshake(verifier(), &leaf, &leaf, version), Ok(()));
            assert_eq!(
                handshake(verifier(), &leaf, &other, version),
                Err(Error::InvalidCertificate(CertificateError::BadSignature))
            );
        }
        let (ours, webpki) = (verifier(&[&root]), verifier(&[&root]).webpki);
        assert_eq!(ours.supported_verify_schemes(), webpki.supported_verify_schemes());
        assert_eq!(ours.requires_raw_public_keys(), webpki.requires_raw_public_keys());
        assert!(ours.root_hint_subjects().is_none() && webpki.root_hint_subjects().is_none());
    }

    fn reason(
        roots: &[&Authority],
        leaf: &Leaf,
        others: &[&CertificateDer<'static>],
    ) -> UntrustedReason {
        let error = verify(roots, leaf, others, "a.test").unwrap_err();
        let Error::InvalidCertificate(CertificateError::Other(OtherError(error))) = error else {
            panic!("{error:?}");
        };
        error.downcast_ref::<UntrustedReason>().unwrap_or_else(|| panic!("{error:?}")).clone()
    }

    fn verify(
        roots: &[&Authority],
        leaf: &Leaf,
        others: &[&CertificateDer<'static>],
        name: &str,
    ) -> Result<ServerCertVerified, Error> {
        verify_der(roots, leaf.der(), others, name)
    }

    fn verify_der(
        roots: &[&Authority],
        leaf: &CertificateDer<'static>,
        others: &[&CertificateDer<'static>],
        name: &str,
    ) -> Result<ServerCertVerified, Error> {
        let others: Vec<_> = others.iter().map(|&other| other.clone()).collect();
        let name = ServerName::try_from(name).unwrap();
        // rcgen's certificates are valid from 1975 to 4096.
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_700_000_000));
        verifier(roots).verify_server_cert(leaf, &others, &name, &[], now)
    }

    fn verifier(trusted: &[&Authority]) -> DiagnosingVerifier {
        let mut roots = RootCertStore::empty();
        for root in trusted {
            roots.add(root.der().clone()).unwrap();
        }
        let roots = Arc::new(roots);
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), ring());
        DiagnosingVerifier::new(webpki.build().unwrap(), roots)
    }

    fn ring() -> Arc<rustls::crypto::CryptoProvider> {
        Arc::new(rustls::crypto::ring::default_provider())
    }

    /// Runs a handshake with a server that presents one certificate and signs with the key of another.
    fn handshake(
        verifier: Arc<dyn ServerCertVerifier>,
        shown: &Leaf,
        signs: &Leaf,
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Result<(), Error> {
        let client = ClientConfig::builder_with_provider(ring())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        let key = ring().key_provider.load_private_key(signs.key_der()).unwrap();
        let certified = rustls::sign::CertifiedKey::new(vec![shown.der().clone()], key);
        let server = ServerConfig::builder_with_provider(ring())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
        let name = ServerName::try_from("a.test").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }
}
