//! The public key of a certificate, and the signatures that it verifies.
//!
//! webpki parses no certificates of version 1, and none with unknown critical extensions. Where the certificate itself
//! does not matter, only its key, this module is used instead.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::TrustAnchor;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved, SignatureScheme};

use super::der::{BIT_STRING, INTEGER, OBJECT_IDENTIFIER, Reader, SEQUENCE, behind_serial_number};
use super::info::TlsVersion;

/// The SubjectPublicKeyInfo of a certificate (RFC 5280, section 4.1.2.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubjectKey<'a> {
    /// The whole structure in DER. Empty for a root.
    pub(super) encoded: &'a [u8],
    /// The content of the AlgorithmIdentifier.
    algorithm: &'a [u8],
    key: &'a [u8],
}

impl<'a> SubjectKey<'a> {
    /// Extracts the key from an X.509 certificate of any version. `None` if the certificate is not well-formed.
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut inner = behind_serial_number(certificate)?;
        for _algorithm_issuer_validity_subject in 0..4 {
            inner.expect(SEQUENCE)?;
        }
        let before = inner.0;
        let info = inner.expect(SEQUENCE)?;
        let encoded = &before[..before.len() - inner.0.len()];
        SubjectKey::of_info(encoded, info)
    }

    /// Reads the key of a root.
    pub(super) fn of_root(root: &'a TrustAnchor<'_>) -> Option<Self> {
        // webpki strips the tag and the length.
        SubjectKey::of_info(&[], root.subject_public_key_info.as_ref())
    }

    /// Reads the content of a SubjectPublicKeyInfo.
    fn of_info(encoded: &'a [u8], content: &'a [u8]) -> Option<Self> {
        let mut info = Reader(content);
        let algorithm = info.expect(SEQUENCE)?;
        // The first byte counts the unused bits of the last one. Keys are whole bytes.
        let (&0, key) = info.expect(BIT_STRING)?.split_first()? else { return None };
        Some(SubjectKey { encoded, algorithm, key })
    }

    /// Returns the length of an RSA key's modulus in bits. `None` for other keys.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        (Reader(self.algorithm).expect(OBJECT_IDENTIFIER)? == RSA_ENCRYPTION).then_some(())?;
        let modulus = Reader(Reader(self.key).expect(SEQUENCE)?).expect(INTEGER)?;
        bits_of(modulus)
    }

    /// Returns the length of an RSA key that is too short for the crypto provider, in bits.
    pub(super) fn short_rsa_bits(&self) -> Option<usize> {
        self.rsa_bits().filter(|&bits| bits < MIN_RSA_BITS)
    }

    /// Verifies the signature of a handshake with this key alone.
    pub(super) fn verify(
        &self,
        message: &[u8],
        signature: &DigitallySignedStruct,
        version: TlsVersion,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        let unexpected = || PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into();
        let scheme = signature.scheme;
        if version == TlsVersion::Tls13 && is_only_for_tls12(scheme) {
            return Err(unexpected());
        }
        let (_, candidates) =
            algorithms.mapping.iter().find(|(it, _)| *it == scheme).ok_or_else(unexpected)?;
        // In TLS 1.3 a scheme has one algorithm, which rustls lists first. In TLS 1.2 the curve is that of the key.
        let candidates = match version {
            TlsVersion::Tls13 => &candidates[..1.min(candidates.len())],
            TlsVersion::Tls12 => candidates,
        };
        let fits = candidates.iter().find(|it| it.public_key_alg_id().as_ref() == self.algorithm);
        let verified = fits.is_some_and(|algorithm| {
            algorithm.verify_signature(self.key, message, signature.signature()).is_ok()
        });
        match verified {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

/// Returns the length of a positive number in bits. `None` for zero.
pub(super) fn bits_of(number: &[u8]) -> Option<usize> {
    let leading_zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let digits = &number[leading_zeros..];
    let first = digits.first()?;
    Some(8 * digits.len() - first.leading_zeros() as usize)
}

/// Returns whether TLS 1.3 forbids the scheme for handshakes (RFC 8446, section 4.2.3).
fn is_only_for_tls12(scheme: SignatureScheme) -> bool {
    matches!(
        scheme,
        SignatureScheme::RSA_PKCS1_SHA1
            | SignatureScheme::RSA_PKCS1_SHA256
            | SignatureScheme::RSA_PKCS1_SHA384
            | SignatureScheme::RSA_PKCS1_SHA512
            | SignatureScheme::ECDSA_SHA1_Legacy
    )
}

/// The shortest RSA key that aws-lc-rs and ring verify with, in bits.
pub(super) const MIN_RSA_BITS: usize = 2048;

/// rsaEncryption (RFC 8017, appendix A.1).
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
