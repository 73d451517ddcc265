//! Says what a text is that holds no PEM section of the wanted kind.

use super::sections::{Kind, Section};
use crate::tls::der;

/// A path in place of a text is at most this long.
const MAX_PATH: usize = 4096;

/// Explains why a text holds no certificate.
pub(super) fn no_certificate(text: &[u8], sections: &[Section]) -> String {
    let Some(other) = sections.first() else {
        return format!("no certificate in the PEM text{}", explain(text, "x509"));
    };
    let hint = match other.kind {
        Kind::CertificateRequest => ": it holds a certificate request, which a CA has yet to sign",
        _ => return format!("no certificate in the PEM text: it holds a {}", other.kind.name()),
    };
    format!("no certificate in the PEM text{hint}")
}

/// Explains why a text holds no revocation list.
pub(super) fn no_revocation_list(text: &[u8], sections: &[Section]) -> String {
    match sections.first() {
        None => format!("no revocation list in the PEM text{}", explain(text, "crl")),
        Some(other) => {
            format!("no revocation list in the PEM text: it holds a {}", other.kind.name())
        }
    }
}

/// Explains why a text holds no private key that can be used.
pub(super) fn no_key(text: &[u8], sections: &[Section]) -> String {
    if sections.is_empty() {
        return format!("no private key in the PEM text{}", explain(text, "pkey"));
    }
    for section in sections {
        let reason = match section.kind {
            Kind::EncryptedKey => {
                "the private key is encrypted, which is not supported: decrypt it with `openssl pkey -in KEY -out NEW_KEY`"
            }
            Kind::DsaKey => {
                "the private key is a DSA key, which TLS no longer uses: make an ECDSA or RSA key"
            }
            Kind::OpenSshKey => {
                "the private key has the format of OpenSSH: convert a copy with `ssh-keygen -p -m PEM -f COPY`"
            }
            _ => continue,
        };
        return reason.to_owned();
    }
    format!("no private key in the PEM text: it holds a {}", sections[0].kind.name())
}

/// Returns a reason for PKCS #7, which holds certificates in another form.
pub(super) const PKCS7: &str =
    "PKCS #7 is not supported: convert it with `openssl pkcs7 -print_certs -in FILE -out NEW_FILE`";

/// Says what a text without a section is, as an addition to a message. `command` is the command of openssl(1) for the
/// wanted kind.
fn explain(text: &[u8], command: &str) -> String {
    let reason = match text {
        [] => "it is empty".to_owned(),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16: save it as UTF-8".to_owned(),
        [0, b'-', ..] | [b'-', 0, ..] => "it is UTF-16: save it as UTF-8".to_owned(),
        [0xFE, 0xED, 0xFE, 0xED, ..] => {
            "it is a Java key store: export it with `keytool -exportcert -rfc`".to_owned()
        }
        [0x30, ..] if der::encoded_length(text).is_some() => match DerKind::of(text) {
            DerKind::Pkcs12 => {
                "it is PKCS #12: convert it with `openssl pkcs12 -in FILE -out NEW_FILE -nodes`".to_owned()
            }
            DerKind::Pkcs7 => {
                "it is PKCS #7 in DER: convert it with `openssl pkcs7 -inform der -print_certs -in FILE -out NEW_FILE`"
                    .to_owned()
            }
            DerKind::Other => {
                format!("it is DER: convert it with `openssl {command} -inform der -in FILE -out NEW_FILE`")
            }
        },
        _ if text.iter().all(u8::is_ascii_whitespace) => "it is blank".to_owned(),
        _ if text.starts_with(b"PuTTY-User-Key-File") => {
            "it is a key of PuTTY: export it in OpenSSL's format".to_owned()
        }
        _ if text.starts_with(b"ssh-") => "it is a public key of OpenSSH".to_owned(),
        _ if is_path(text) => "it is a path: pass the content of the file".to_owned(),
        _ => return String::new(),
    };
    format!(": {reason}")
}

/// What a value in DER is, as far as it matters for a message.
enum DerKind {
    Pkcs12,
    Pkcs7,
    Other,
}

impl DerKind {
    fn of(value: &[u8]) -> DerKind {
        /// id-signedData (RFC 5652, section 5.1).
        const SIGNED_DATA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 7, 2];
        let mut outer = der::Reader(value);
        let first = outer.expect(der::SEQUENCE).and_then(|inner| der::Reader(inner).next());
        match first {
            // The version of a PFX (RFC 7292, section 4). A PKCS #8 key has 0 there, and a SEC 1 key 1.
            Some((der::INTEGER, [3])) => DerKind::Pkcs12,
            Some((der::OBJECT_IDENTIFIER, SIGNED_DATA)) => DerKind::Pkcs7,
            _ => DerKind::Other,
        }
    }
}

fn is_path(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim();
    let is_line = !text.is_empty() && text.len() <= MAX_PATH && !text.contains(['\n', '\r', '\0']);
    let looks_like_one = text.starts_with(['/', '.', '~'])
        || text.contains('\\')
        || [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| text.ends_with(end));
    is_line && looks_like_one
}
