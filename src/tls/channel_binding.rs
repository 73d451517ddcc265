//! The channel binding `tls-server-end-point` (RFC 5929, section 4.1): the hash of the server's certificate.
//!
//! The certificate's signature algorithm selects the hash function. A certificate that can't be parsed has no
//! channel binding. The certificate was verified before, unless the program turned verification off.

use rustls::SupportedCipherSuite;
use rustls::crypto::hash::{Hash, HashAlgorithm};

use super::der::{OBJECT_IDENTIFIER, Reader, SEQUENCE};
use super::provider::provider;

/// Returns the channel binding, or `None` if the certificate does not select exactly one available hash function.
pub(super) fn server_end_point(
    certificate: &[u8],
    negotiated: SupportedCipherSuite,
) -> Option<Vec<u8>> {
    match Digest::of_signature(certificate)? {
        Digest::Sha256 => hash_with_suite(HashAlgorithm::SHA256, certificate, negotiated),
        Digest::Sha384 => hash_with_suite(HashAlgorithm::SHA384, certificate, negotiated),
        Digest::Sha512 => sha512(certificate),
    }
}

/// Computes a hash with the negotiated cipher suite's hash function, or else with another suite's of the provider.
fn hash_with_suite(
    wanted: HashAlgorithm,
    bytes: &[u8],
    negotiated: SupportedCipherSuite,
) -> Option<Vec<u8>> {
    let hash_if_wanted = |suite: SupportedCipherSuite| {
        let hash = hash(suite);
        (hash.algorithm() == wanted).then(|| hash.hash(bytes).as_ref().to_vec())
    };
    hash_if_wanted(negotiated)
        .or_else(|| provider().ok()?.cipher_suites.iter().copied().find_map(hash_if_wanted))
}

fn hash(suite: SupportedCipherSuite) -> &'static dyn Hash {
    match suite {
        SupportedCipherSuite::Tls12(suite) => suite.common.hash_provider,
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider,
    }
}

#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
#[expect(clippy::unnecessary_wraps, reason = "the variant without a provider returns None")]
fn sha512(bytes: &[u8]) -> Option<Vec<u8>> {
    #[cfg(feature = "aws-lc-rs")]
    use aws_lc_rs::digest;
    #[cfg(not(feature = "aws-lc-rs"))]
    use ring::digest;

    Some(digest::digest(&digest::SHA512, bytes).as_ref().to_vec())
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn sha512(_bytes: &[u8]) -> Option<Vec<u8>> {
    None
}

/// The hash function for a certificate's channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digest {
    Sha256,
    Sha384,
    Sha512,
}

impl Digest {
    /// Derives it from the certificate's signature algorithm (RFC 5280, section 4.1.1.2).
    fn of_signature(certificate: &[u8]) -> Option<Self> {
        let mut outer = Reader(Reader(certificate).expect(SEQUENCE)?);
        let _signed = outer.expect(SEQUENCE)?;
        let mut algorithm = Reader(outer.expect(SEQUENCE)?);
        match algorithm.expect(OBJECT_IDENTIFIER)? {
            MD5_RSA | SHA1_RSA | SHA256_RSA | SHA1_ECDSA | SHA256_ECDSA => Some(Digest::Sha256),
            SHA384_RSA | SHA384_ECDSA => Some(Digest::Sha384),
            SHA512_RSA | SHA512_ECDSA => Some(Digest::Sha512),
            PSS_RSA => Digest::from_pss(algorithm.expect(SEQUENCE)?),
            _ => None,
        }
    }

    /// Derives it from the RSASSA-PSS parameters (RFC 4055, section 3.1). Returns `None` if the message hash and the
    /// mask hash differ.
    fn from_pss(parameters: &[u8]) -> Option<Self> {
        let (mut hash, mut mask) = (SHA1, SHA1);
        let mut parameters = Reader(parameters);
        while let Some((tag, value)) = parameters.next() {
            match tag {
                PSS_HASH => {
                    hash = Reader(Reader(value).expect(SEQUENCE)?).expect(OBJECT_IDENTIFIER)?
                }
                PSS_MASK => {
                    let mut generation = Reader(Reader(value).expect(SEQUENCE)?);
                    if generation.expect(OBJECT_IDENTIFIER)? != MGF1 {
                        return None;
                    }
                    mask = Reader(generation.expect(SEQUENCE)?).expect(OBJECT_IDENTIFIER)?;
                }
                // The salt length, and the trailer field, whose only value is 1.
                _ => {}
            }
        }
        match hash {
            _ if hash != mask => None,
            SHA1 | SHA256 => Some(Digest::Sha256),
            SHA384 => Some(Digest::Sha384),
            SHA512 => Some(Digest::Sha512),
            _ => None,
        }
    }
}

// Signatures: 1.2.840.113549.1.1.x (RFC 8017, appendix A.2.4, and RFC 4055) and 1.2.840.10045.4.x (RFC 5758).
const MD5_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4];
const SHA1_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8];
const PSS_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const SHA256_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11];
const SHA384_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12];
const SHA512_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13];
const SHA1_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];
const SHA256_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const SHA384_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const SHA512_ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4];

// Hashes: 1.3.14.3.2.26 and 2.16.840.1.101.3.4.2.x (RFC 4055, section 2.1).
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];

// Explicit tags of the RSASSA-PSS parameters.
const PSS_HASH: u8 = 0xa0;
const PSS_MASK: u8 = 0xa1;

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::cipher_suite::{
        TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };

    use super::super::testing::crypto;
    use super::*;

    /// A certificate that OpenSSL generated, with the hash that OpenSSL computes for it.
    struct Sample {
        name: &'static str,
        digest: Option<Digest>,
        expected: Option<Vec<u8>>,
        certificate: Vec<u8>,
    }

    #[test]
    fn the_channel_binding_is_the_hash_that_openssl_computes() {
        crypto();
        let samples = samples();
        assert_eq!(samples.len(), 15);
        for Sample { name, digest, expected, certificate } in samples {
            assert_eq!(Digest::of_signature(&certificate), digest, "{name}");
            for suite in [TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256] {
                // Without a built-in provider, only the hash functions of cipher suites are available.
                let has = cfg!(any(feature = "aws-lc-rs", feature = "ring"));
                let reachable = has || digest != Some(Digest::Sha512);
                let found = server_end_point(&certificate, suite);
                assert_eq!(found, expected.clone().filter(|_| reachable), "{name}");
            }
        }
    }

    #[test]
    fn truncated_or_corrupted_certificates_do_not_panic() {
        for Sample { name, digest, certificate, .. } in samples() {
            for end in 0..certificate.len() {
                assert_eq!(Digest::of_signature(&certificate[..end]), None, "{name}");
            }
            let mut changed = certificate.clone();
            for at in 0..certificate.len() {
                for bit in 0..8 {
                    changed[at] ^= 1 << bit;
                    let _ = Digest::of_signature(&changed);
                    changed[at] = certificate[at];
                }
            }
            assert_eq!(Digest::of_signature(&changed), digest, "{name}");
        }
    }

    fn samples() -> Vec<Sample> {
        let lines = include_str!("channel_binding/certificates.txt").lines();
        lines.filter(|line| !line.starts_with('#')).map(sample).collect()
    }

    fn sample(line: &'static str) -> Sample {
        let words: Vec<_> = line.split(' ').collect();
        let [name, digest, expected, certificate] = words[..] else { panic!("{line}") };
        let digest = match digest {
            "sha256" => Some(Digest::Sha256),
            "sha384" => Some(Digest::Sha384),
            "sha512" => Some(Digest::Sha512),
            "none" => None,
            other => panic!("{other}"),
        };
        let expected = digest.map(|_| bytes(expected));
        Sample { name, digest, expected, certificate: bytes(certificate) }
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }
}
