//! The public key of a certificate, and the signatures that it verifies.
//!
//! webpki parses no certificates of version 1, and none with unknown critical extensions. Where the certificate itself
//! does not matter, only its key, this module is used instead.

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerMisbehaved};

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
        let content = inner.expect(SEQUENCE)?;
        let encoded = &before[..before.len() - inner.0.len()];
        Some(SubjectKey { encoded, ..SubjectKey::of_content(content)? })
    }

    /// Reads the content of a SubjectPublicKeyInfo, which is all that a trust anchor holds.
    pub(super) fn of_content(content: &'a [u8]) -> Option<Self> {
        let mut info = Reader(content);
        let algorithm = info.expect(SEQUENCE)?;
        // The first byte counts the unused bits of the last one. Keys are whole bytes.
        let (&0, key) = info.expect(BIT_STRING)?.split_first()? else { return None };
        Some(SubjectKey { encoded: content, algorithm, key })
    }

    /// Returns the length of an RSA key's modulus in bits. `None` for other keys.
    pub(super) fn rsa_bits(&self) -> Option<usize> {
        (Reader(self.algorithm).expect(OBJECT_IDENTIFIER)? == RSA_ENCRYPTION).then_some(())?;
        let modulus = Reader(Reader(self.key).expect(SEQUENCE)?).expect(INTEGER)?;
        bits_of(modulus)
    }

    /// Returns the length of an RSA key that the crypto provider cannot use, in bits.
    pub(super) fn unusable_rsa_bits(&self) -> Option<usize> {
        self.rsa_bits().filter(|bits| !(MIN_RSA_BITS..=MAX_RSA_BITS).contains(bits))
    }

    /// Verifies the signature of a handshake with this key alone.
    pub(super) fn verify(
        &self,
        message: &[u8],
        signature: &DigitallySignedStruct,
        version: TlsVersion,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<HandshakeSignatureValid, Error> {
        if version == TlsVersion::Tls13 {
            let key = SubjectPublicKeyInfoDer::from(self.encoded);
            return verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
                .map_err(|error| match error {
                    Error::PeerMisbehaved(_) => error,
                    _ => CertificateError::BadSignature.into(),
                });
        }
        // In TLS 1.2 the curve is that of the key, so a scheme has several algorithms.
        let (_, candidates) = algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == signature.scheme)
            .ok_or(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme)?;
        let fits = candidates.iter().find(|it| it.public_key_alg_id().as_ref() == self.algorithm);
        let verified = fits.is_some_and(|algorithm| {
            algorithm.verify_signature(self.key, message, signature.signature()).is_ok()
        });
        match verified {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }

    /// Returns whether the crypto provider can verify with keys of this kind.
    pub(super) fn is_usable(&self, algorithms: &WebPkiSupportedAlgorithms) -> bool {
        algorithms.all.iter().any(|it| it.public_key_alg_id().as_ref() == self.algorithm)
    }
}

/// Returns the length of a positive number in bits. `None` for zero.
pub(super) fn bits_of(number: &[u8]) -> Option<usize> {
    let leading_zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let digits = &number[leading_zeros..];
    let first = digits.first()?;
    Some(8 * digits.len() - first.leading_zeros() as usize)
}

/// The signature of a certificate.
pub(super) struct Signed<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    pub(super) fn of(certificate: &'a [u8]) -> Option<Self> {
        let mut fields = Reader(Reader(certificate).expect(SEQUENCE)?);
        let before = fields.0;
        fields.expect(SEQUENCE)?;
        let signed = &before[..before.len() - fields.0.len()];
        let algorithm = fields.expect(SEQUENCE)?;
        let (&0, signature) = fields.expect(BIT_STRING)?.split_first()? else { return None };
        Some(Signed { signed, algorithm, signature })
    }

    /// Returns whether the signature is by this key. Used only to explain a refusal.
    pub(super) fn is_by(
        &self,
        key: &SubjectKey<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        let mut fitting = algorithms.all.iter().filter(|it| {
            it.public_key_alg_id().as_ref() == key.algorithm
                && it.signature_alg_id().as_ref() == self.algorithm
        });
        fitting.any(|it| it.verify_signature(key.key, self.signed, self.signature).is_ok())
    }
}

/// The shortest and the longest RSA keys that aws-lc-rs and ring verify with, in bits.
pub(super) const MIN_RSA_BITS: usize = 2048;
pub(super) const MAX_RSA_BITS: usize = 8192;

/// rsaEncryption (RFC 8017, appendix A.1).
pub(super) const RSA_ENCRYPTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
