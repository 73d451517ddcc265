//! Tells what a value in DER is, as far as it matters for a message.

use crate::tls::der::{
    BIT_STRING, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE, VERSION,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DerKind {
    Certificate,
    RevocationList,
    CertificateRequest,
    PrivateKey,
    EncryptedKey,
    PublicKey,
    Pkcs7,
    Pkcs12,
    Other,
}

impl DerKind {
    pub(super) fn of(value: &[u8]) -> DerKind {
        let Some(content) = Reader(value).expect(SEQUENCE) else { return DerKind::Other };
        let mut outer = Reader(content);
        match outer.next() {
            // The version of a PFX (RFC 7292, section 4). Private keys have 0 or 1 there.
            Some((INTEGER, [3])) => DerKind::Pkcs12,
            Some((INTEGER, _)) => match outer.next() {
                // PKCS #8, PKCS #1 and SEC 1.
                Some((SEQUENCE | INTEGER | OCTET_STRING, _)) => DerKind::PrivateKey,
                _ => DerKind::Other,
            },
            Some((OBJECT_IDENTIFIER, SIGNED_DATA)) => DerKind::Pkcs7,
            Some((SEQUENCE, first)) => match (tags(first), outer.next()) {
                // An AlgorithmIdentifier.
                ([OBJECT_IDENTIFIER, ..], Some((OCTET_STRING, _))) => DerKind::EncryptedKey,
                ([OBJECT_IDENTIFIER, ..], Some((BIT_STRING, _))) => DerKind::PublicKey,
                (tags, Some((SEQUENCE, _))) => DerKind::of_signed(tags),
                _ => DerKind::Other,
            },
            _ => DerKind::Other,
        }
    }

    /// Returns the kind of something signed, by the tags of the first fields in the signed part.
    fn of_signed(tags: [u8; 5]) -> DerKind {
        match tags {
            // RFC 5280, section 4.1. The second form is of version 1.
            [VERSION, INTEGER, SEQUENCE, SEQUENCE, SEQUENCE]
            | [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] => DerKind::Certificate,
            // RFC 5280, section 5.1. The second form is of version 1.
            [INTEGER, SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, _]
            | [SEQUENCE, SEQUENCE, UTC_TIME | GENERALIZED_TIME, ..] => DerKind::RevocationList,
            // RFC 2986, section 4.1. Attributes follow.
            [INTEGER, SEQUENCE, SEQUENCE, ATTRIBUTES | NOTHING, _] => DerKind::CertificateRequest,
            _ => DerKind::Other,
        }
    }
}

/// Returns the tags of the first fields, and `NOTHING` for those that are missing.
fn tags(content: &[u8]) -> [u8; 5] {
    let mut fields = Reader(content);
    [(); 5].map(|()| fields.next().map_or(NOTHING, |(tag, _)| tag))
}

/// id-signedData (RFC 5652, section 5.1).
const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2];
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// Implicitly tagged with 0.
const ATTRIBUTES: u8 = 0xA0;
const NOTHING: u8 = 0;
