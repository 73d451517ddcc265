//! Says why the crypto provider cannot use a private key.

use rustls::pki_types::PrivateKeyDer;

use crate::tls::der::{INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, Reader, SEQUENCE};
use crate::tls::subject_key::{MIN_RSA_BITS, RSA_ENCRYPTION, bits_of};

/// Returns the reason why a key that the provider refuses cannot be used.
pub(super) fn explain(key: &PrivateKeyDer<'_>) -> String {
    let fault = match key {
        PrivateKeyDer::Pkcs1(key) => rsa_bits(key.secret_pkcs1_der()).map(describe_rsa),
        PrivateKeyDer::Sec1(_) => Some(String::from(CURVE)),
        PrivateKeyDer::Pkcs8(key) => of_pkcs8(key.secret_pkcs8_der()),
        _ => None,
    };
    fault.unwrap_or_else(|| {
        String::from("it is malformed, or neither an RSA, an ECDSA nor an Ed25519 key")
    })
}

/// Reads a PrivateKeyInfo (RFC 5208, section 5).
fn of_pkcs8(key: &[u8]) -> Option<String> {
    let mut info = Reader(Reader(key).expect(SEQUENCE)?);
    info.expect(INTEGER)?;
    let algorithm = Reader(info.expect(SEQUENCE)?).expect(OBJECT_IDENTIFIER)?;
    Some(match algorithm {
        RSA_ENCRYPTION => describe_rsa(rsa_bits(info.expect(OCTET_STRING)?)?),
        RSA_PSS => String::from(
            "it is restricted to RSA-PSS, which is not supported: make an ordinary RSA key",
        ),
        DSA => String::from("it is a DSA key, which TLS no longer uses: make an ECDSA or RSA key"),
        EC => String::from(CURVE),
        _ => return None,
    })
}

/// Returns the length of the modulus of an RSAPrivateKey (RFC 8017, appendix A.1.2).
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let mut fields = Reader(Reader(key).expect(SEQUENCE)?);
    fields.expect(INTEGER)?;
    bits_of(fields.expect(INTEGER)?)
}

fn describe_rsa(bits: usize) -> String {
    match bits < MIN_RSA_BITS {
        true => {
            format!("it is too short (RSA with {bits} bits, at least {MIN_RSA_BITS} are needed)")
        }
        false => format!("it is a malformed RSA key, or {bits} bits are too long"),
    }
}

const CURVE: &str = "it is malformed, or its curve is not supported: use P-256 or P-384";

/// id-RSASSA-PSS (RFC 8017, appendix A.2.3).
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// id-dsa (RFC 3279, section 2.3.2).
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
/// id-ecPublicKey (RFC 5480, section 2.1.1).
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
