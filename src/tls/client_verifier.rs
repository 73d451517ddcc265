//! Verifies the certificates of clients: webpki with better error messages, and the checks of the program.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::hello::with_current;
use super::peer_certificates::{Verifier, run_verifiers};
use super::untrusted::{check_not_tangled, explain_signature, explain_untrusted};

/// A verifier of clients. Beyond webpki it refuses certificates that allow too many paths, and those that a check of
/// the program refuses.
///
/// The program's checks run once the client has proven that it has the key. Before that, anybody could present a
/// certificate that was seen elsewhere.
pub(super) struct VerifyingClients {
    pub(super) webpki: Arc<dyn ClientCertVerifier>,
    /// The roots of `webpki`.
    pub(super) roots: Arc<RootCertStore>,
    pub(super) verifiers: Vec<Arc<Verifier>>,
    pub(super) provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for VerifyingClients {
    fn offer_client_auth(&self) -> bool {
        self.webpki.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.webpki.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_not_tangled(end_entity, intermediates)?;
        let verified =
            self.webpki.verify_client_cert(end_entity, intermediates, now).map_err(|error| {
                let algorithms = &self.provider.signature_verification_algorithms;
                explain_untrusted(error, end_entity, intermediates, &self.roots, algorithms)
            })?;
        if !self.verifiers.is_empty() {
            let chain = intermediates.iter().map(|it| it.clone().into_owned()).collect();
            with_current(|hello| hello.client_chain = chain);
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.webpki.verify_tls12_signature(message, cert, dss);
        let valid = valid.map_err(|error| self.explain_signature(error, cert))?;
        self.run_verifiers(cert)?;
        Ok(valid)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let valid = self.webpki.verify_tls13_signature(message, cert, dss);
        let valid = valid.map_err(|error| self.explain_signature(error, cert))?;
        self.run_verifiers(cert)?;
        Ok(valid)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }

    fn requires_raw_public_keys(&self) -> bool {
        self.webpki.requires_raw_public_keys()
    }
}

impl VerifyingClients {
    fn explain_signature(&self, error: Error, leaf: &CertificateDer<'_>) -> Error {
        explain_signature(error, leaf, &self.provider.signature_verification_algorithms)
    }

    /// Runs the program's checks of a client that has proven that it has the leaf's key.
    fn run_verifiers(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        if self.verifiers.is_empty() {
            return Ok(());
        }
        let chain = with_current(|hello| std::mem::take(&mut hello.client_chain));
        let chain =
            chain.ok_or_else(|| Error::General(String::from("the session is not known")))?;
        run_verifiers(&self.verifiers, leaf, &chain, None, &self.provider)
    }
}

impl fmt::Debug for VerifyingClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyingClients").finish_non_exhaustive()
    }
}
