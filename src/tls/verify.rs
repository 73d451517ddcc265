//! The verifier of servers: a check of the chain, then the pins, and then the checks of the program.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::info::TlsVersion;
use super::peer_certificates::{Verifier, run_verifiers, spki_sha256};
use super::subject_key::SubjectKey;
use super::untrusted::{UntrustedReason, check_not_tangled, explain_signature, explain_untrusted};

/// Verifies servers. Every check can only refuse what the ones before it accept.
pub(super) struct ServerVerifier {
    pub(super) chain: ChainCheck,
    /// SHA-256 of the keys of which the server's must be one, unless there is none.
    pub(super) pins: Vec<[u8; 32]>,
    /// The program's checks, which run once the server has proven that it has the key.
    pub(super) verifiers: Vec<Arc<Verifier>>,
    pub(super) provider: Arc<CryptoProvider>,
}

/// The check of the server's certificates and name.
pub(super) enum ChainCheck {
    /// webpki's, with better error messages. `roots` are those of `webpki`.
    WebPki { webpki: Arc<WebPkiServerVerifier>, roots: Arc<RootCertStore>, any_name: bool },
    /// The verifier of the system.
    #[cfg(feature = "platform-verifier")]
    System(Arc<dyn ServerCertVerifier>),
    /// The certificate must be one of these. Its names, dates and issuer do not matter.
    Only(Vec<CertificateDer<'static>>),
    /// None.
    Nothing,
}

impl ChainCheck {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), Error> {
        let (verified, any_name) = match self {
            ChainCheck::WebPki { webpki, roots, any_name } => {
                check_not_tangled(leaf, others)?;
                let verified =
                    webpki.verify_server_cert(leaf, others, server_name, ocsp_response, now);
                (
                    verified
                        .map_err(|error| explain_untrusted(error, leaf, others, roots, algorithms)),
                    *any_name,
                )
            }
            #[cfg(feature = "platform-verifier")]
            ChainCheck::System(verifier) => {
                check_not_tangled(leaf, others)?;
                (verifier.verify_server_cert(leaf, others, server_name, ocsp_response, now), false)
            }
            ChainCheck::Only(trusted) => {
                return match trusted.iter().any(|it| it == leaf) {
                    true => Ok(()),
                    false => Err(UntrustedReason::NotTheOnly.into()),
                };
            }
            ChainCheck::Nothing => return Ok(()),
        };
        match verified {
            // The name is checked last: everything else is in order.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if any_name => Ok(()),
            verified => verified.map(drop),
        }
    }
}

/// The certificates of a server that has yet to prove that it has the key.
struct Presented {
    others: Vec<CertificateDer<'static>>,
    server_name: String,
}

thread_local! {
    /// From the check of the certificates to that of the handshake's signature, which follows it immediately.
    static PRESENTED: RefCell<Option<Presented>> = const { RefCell::new(None) };
}

/// Returns what was presented before. While the thread's local values are destroyed, `None`, and verifiers refuse.
fn replace_presented(presented: Option<Presented>) -> Option<Presented> {
    PRESENTED.try_with(|current| current.replace(presented)).ok().flatten()
}

impl ServerVerifier {
    /// Verifies the signature of a handshake, and then runs the program's checks.
    fn verify_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
        version: TlsVersion,
    ) -> Result<HandshakeSignatureValid, Error> {
        let presented = replace_presented(None);
        let algorithms = &self.provider.signature_verification_algorithms;
        let by_certificate = match &self.chain {
            ChainCheck::WebPki { webpki, .. } => Some(&**webpki as &dyn ServerCertVerifier),
            #[cfg(feature = "platform-verifier")]
            ChainCheck::System(verifier) => Some(&**verifier),
            ChainCheck::Only(_) | ChainCheck::Nothing => None,
        };
        let valid = match (by_certificate, version) {
            (Some(verifier), TlsVersion::Tls12) => {
                verifier.verify_tls12_signature(message, leaf, signature)
            }
            (Some(verifier), TlsVersion::Tls13) => {
                verifier.verify_tls13_signature(message, leaf, signature)
            }
            (None, version) => {
                let key = SubjectKey::of(leaf).ok_or(CertificateError::BadEncoding)?;
                key.verify(message, signature, version, algorithms)
            }
        };
        let valid = valid.map_err(|error| explain_signature(error, leaf, algorithms))?;
        if !self.verifiers.is_empty() {
            let Presented { others, server_name } = presented
                .ok_or_else(|| Error::General(String::from("the certificates are not known")))?;
            run_verifiers(&self.verifiers, leaf, &others, Some(&server_name), &self.provider)?;
        }
        Ok(valid)
    }

    fn check_pins(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if self.pins.is_empty() {
            return Ok(());
        }
        let spki_sha256 = spki_sha256(leaf, &self.provider)?;
        match self.pins.contains(&spki_sha256) {
            true => Ok(()),
            false => Err(UntrustedReason::NotPinned { spki_sha256 }.into()),
        }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let (leaf, others) = (end_entity, intermediates);
        self.chain.verify(leaf, others, server_name, ocsp_response, now, algorithms)?;
        self.check_pins(end_entity)?;
        if !self.verifiers.is_empty() {
            replace_presented(Some(Presented {
                others: intermediates.iter().map(|it| it.clone().into_owned()).collect(),
                server_name: server_name.to_str().into_owned(),
            }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss, TlsVersion::Tls12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss, TlsVersion::Tls13)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        match &self.chain {
            ChainCheck::WebPki { webpki, .. } => webpki.supported_verify_schemes(),
            #[cfg(feature = "platform-verifier")]
            ChainCheck::System(verifier) => verifier.supported_verify_schemes(),
            ChainCheck::Only(_) | ChainCheck::Nothing => {
                self.provider.signature_verification_algorithms.supported_schemes()
            }
        }
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
