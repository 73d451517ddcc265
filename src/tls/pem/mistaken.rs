//! Says what a text is that holds no PEM section of the wanted kind.

use super::der_kind::DerKind;
use super::sections::{Kind, Section};
use crate::tls::der;

/// A path in place of a text is at most this long.
const MAX_PATH: usize = 4096;

/// Explains why a text holds no certificate.
pub(super) fn no_certificate(text: &[u8], sections: &[Section]) -> String {
    let is_request = sections.iter().any(|it| it.kind == Kind::CertificateRequest);
    let content = match is_request {
        true => String::from(": it holds a certificate request, which a CA has yet to sign"),
        false => holds_or_is(text, sections, DerKind::Certificate),
    };
    format!("no certificate in the PEM text{content}")
}

/// Explains why a text holds no revocation list.
pub(super) fn no_revocation_list(text: &[u8], sections: &[Section]) -> String {
    let content = holds_or_is(text, sections, DerKind::RevocationList);
    format!("no revocation list in the PEM text{content}")
}

/// Explains why a text holds no private key that can be used.
pub(super) fn no_key(text: &[u8], sections: &[Section]) -> String {
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
    let content = holds_or_is(text, sections, DerKind::PrivateKey);
    format!("no private key in the PEM text{content}")
}

/// Returns a reason for PKCS #7, which holds certificates in another form.
pub(super) const PKCS7: &str =
    "PKCS #7 is not supported: convert it with `openssl pkcs7 -print_certs -in FILE -out NEW_FILE`";

/// Says what the text holds instead of the wanted kind, or what it is. Parameters matter least: they only accompany
/// keys.
fn holds_or_is(text: &[u8], sections: &[Section], wanted: DerKind) -> String {
    let main = sections.iter().find(|it| it.kind != Kind::Parameters).or(sections.first());
    match main {
        Some(other) => format!(": it holds {}", other.kind.indefinite()),
        None => format!(": {}", explain(text, wanted)),
    }
}

/// Says what a text without a section is.
fn explain(text: &[u8], wanted: DerKind) -> String {
    let reason = match text {
        [] => "it is empty",
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "it is UTF-16: save it as UTF-8",
        [0, b'-', ..] | [b'-', 0, ..] => "it is UTF-16: save it as UTF-8",
        [0xFE, 0xED, 0xFE, 0xED, ..] => {
            "it is a Java key store: export it with `keytool -exportcert -rfc`"
        }
        [0x1F, 0x8B, ..] => "it is compressed with gzip",
        [b'P', b'K', 3, 4, ..] => "it is a ZIP archive",
        [0x30, ..] if der::encoded_length(text).is_some() => {
            return explain_der(DerKind::of(text), wanted);
        }
        _ => explain_text(text),
    };
    reason.to_owned()
}

fn explain_der(found: DerKind, wanted: DerKind) -> String {
    let (what, command) = match found {
        DerKind::Pkcs12 => {
            return "it is PKCS #12: convert it with `openssl pkcs12 -in FILE -out NEW_FILE -nodes`"
                .to_owned();
        }
        DerKind::Pkcs7 => {
            return "it is PKCS #7 in DER: convert it with `openssl pkcs7 -inform der -print_certs -in FILE -out NEW_FILE`"
                .to_owned();
        }
        DerKind::Other => {
            return "it is DER, but neither a certificate, a list nor a key".to_owned();
        }
        DerKind::Certificate => ("a certificate", "x509"),
        DerKind::RevocationList => ("a revocation list", "crl"),
        DerKind::PrivateKey => ("a private key", "pkey"),
        DerKind::EncryptedKey => ("an encrypted private key", "pkey"),
        DerKind::PublicKey => ("a public key", "pkey"),
        DerKind::CertificateRequest => ("a certificate request", "req"),
    };
    let is_wanted =
        found == wanted || (found, wanted) == (DerKind::EncryptedKey, DerKind::PrivateKey);
    match is_wanted {
        true => format!(
            "it is {what} in DER: convert it with `openssl {command} -inform der -in FILE -out NEW_FILE`"
        ),
        false => format!("it is {what} in DER"),
    }
}

fn explain_text(text: &[u8]) -> &'static str {
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text).trim_ascii();
    let contains = |wanted: &[u8]| text.windows(wanted.len()).any(|window| window == wanted);
    match text {
        [] => "it is blank",
        _ if text.starts_with(b"PuTTY-User-Key-File") => {
            "it is a key of PuTTY: export it in OpenSSL's format"
        }
        _ if text.starts_with(b"ssh-") || text.starts_with(b"---- BEGIN SSH2 PUBLIC KEY") => {
            "it is a public key of OpenSSH"
        }
        _ if text.starts_with(b"version https://git-lfs") => {
            "it is a pointer of Git LFS: fetch the file that it stands for"
        }
        _ if text.starts_with(b"Certificate:") || text.starts_with(b"Certificate Revocation") => {
            "it is the description that `openssl -text` prints: leave out `-noout`"
        }
        // Base64 of `-----BEGIN`, as in a secret of Kubernetes.
        _ if contains(b"LS0tLS1CRUdJTi") => "it holds base64 of a PEM text: decode that first",
        _ if contains(b"-----END ") => "its BEGIN line is missing",
        [b'<', ..] => "it is HTML or XML, perhaps the page of an error",
        [b'{' | b'[', ..] => "it is JSON",
        _ if is_bare_base64(text) => "it is base64 without a BEGIN and an END line",
        _ if is_path(text) => "it is a path: pass the content of the file",
        _ => "it has no BEGIN line",
    }
}

/// Returns whether the text begins as base64 of a value in DER does, and has nothing but base64.
fn is_bare_base64(text: &[u8]) -> bool {
    let is_base64 = |byte: &u8| {
        byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=".contains(byte)
    };
    text.starts_with(b"MI") && text.iter().all(is_base64)
}

fn is_path(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let text = text.trim_matches(['"', '\'']);
    let is_line = !text.is_empty() && text.len() <= MAX_PATH && !text.contains(['\n', '\r', '\0']);
    let looks_like_one = text.starts_with(['/', '.', '~'])
        || text.contains('\\')
        || [".pem", ".crt", ".cer", ".key", ".der"].iter().any(|end| text.ends_with(end));
    is_line && looks_like_one
}
