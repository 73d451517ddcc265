//! Finds the sections of a PEM text (RFC 7468) as people have them. There may be a byte order mark, blanks before the
//! lines, any line ends or none, and text between the sections. Nothing that looks like a section is passed over.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::der_kind::DerKind;
use super::trust;
use crate::error::{Error, Result};
use crate::tls::der;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";
/// The label of a certificate with settings of OpenSSL behind it.
const TRUSTED: &str = "TRUSTED CERTIFICATE";

/// A section of a PEM text.
pub(super) struct Section {
    pub(super) kind: Kind,
    /// The decoded content. The content of an encrypted key is not decoded.
    pub(super) content: Vec<u8>,
    /// OpenSSL's settings of a `TRUSTED CERTIFICATE`.
    pub(super) settings: Vec<u8>,
}

/// What a section holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    /// A private key in PKCS #8.
    Pkcs8,
    /// A private key in PKCS #1.
    Pkcs1,
    /// A private key in SEC 1.
    Sec1,
    /// A private key in PKCS #8 or an older format, encrypted.
    EncryptedKey,
    DsaKey,
    OpenSshKey,
    RevocationList,
    CertificateRequest,
    PublicKey,
    /// Parameters that old tools write beside a key.
    Parameters,
    Pkcs7,
}

impl Kind {
    fn of_label(label: &str) -> Option<Kind> {
        Some(match label {
            "CERTIFICATE" | "X509 CERTIFICATE" | TRUSTED => Kind::Certificate,
            "PRIVATE KEY" => Kind::Pkcs8,
            "RSA PRIVATE KEY" => Kind::Pkcs1,
            "EC PRIVATE KEY" => Kind::Sec1,
            "ENCRYPTED PRIVATE KEY" => Kind::EncryptedKey,
            "DSA PRIVATE KEY" => Kind::DsaKey,
            "OPENSSH PRIVATE KEY" => Kind::OpenSshKey,
            "X509 CRL" => Kind::RevocationList,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::CertificateRequest,
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Kind::PublicKey,
            "EC PARAMETERS" | "DH PARAMETERS" | "X9.42 DH PARAMETERS" | "DSA PARAMETERS" => {
                Kind::Parameters
            }
            "PKCS7" | "PKCS #7 SIGNED DATA" | "CMS" => Kind::Pkcs7,
            _ => return None,
        })
    }

    pub(super) fn is_private_key(self) -> bool {
        match self {
            Kind::Pkcs8
            | Kind::Pkcs1
            | Kind::Sec1
            | Kind::EncryptedKey
            | Kind::DsaKey
            | Kind::OpenSshKey => true,
            Kind::Certificate
            | Kind::RevocationList
            | Kind::CertificateRequest
            | Kind::PublicKey
            | Kind::Parameters
            | Kind::Pkcs7 => false,
        }
    }

    /// Returns the name in messages, with its article.
    pub(super) fn indefinite(self) -> String {
        let name = self.name();
        match self {
            Kind::Parameters => String::from(name),
            Kind::EncryptedKey | Kind::OpenSshKey => format!("an {name}"),
            _ => format!("a {name}"),
        }
    }

    /// Returns the name in messages.
    fn name(self) -> &'static str {
        match self {
            Kind::Certificate => "certificate",
            Kind::Pkcs8 | Kind::Pkcs1 | Kind::Sec1 => "private key",
            Kind::EncryptedKey => "encrypted private key",
            Kind::DsaKey => "DSA private key",
            Kind::OpenSshKey => "OpenSSH private key",
            Kind::RevocationList => "revocation list",
            Kind::CertificateRequest => "certificate request",
            Kind::PublicKey => "public key",
            Kind::Parameters => "parameters",
            Kind::Pkcs7 => "PKCS #7 section",
        }
    }
}

/// Parses all sections. The errors quote no content, because it may be a key.
pub(super) fn sections(text: &[u8]) -> Result<Vec<Section>> {
    let mut found: Vec<Section> = Vec::new();
    let mut rest = text;
    while let Some(start) = find(rest, BEGIN) {
        let number = found.len() + 1;
        let after = &rest[start + BEGIN.len()..];
        let malformed = || {
            Error::invalid_options(format!("the BEGIN line of PEM section {number} is malformed"))
        };
        let (label, body) = split_label(after).ok_or_else(malformed)?;
        let kind = Kind::of_label(label).ok_or_else(|| unknown_label(number, label))?;
        let place = 1 + found.iter().filter(|section| section.kind == kind).count();
        let broken = |fault: &str| {
            let name = kind.name();
            Error::invalid_options(format!("{name} {place} of the PEM text is broken: {fault}"))
        };
        let end = find(body, END).ok_or_else(|| broken("its END line is missing"))?;
        if find(&body[..end], BEGIN).is_some() {
            return Err(broken("its END line is missing"));
        }
        let (end_label, after_end) = split_label(&body[end + END.len()..])
            .ok_or_else(|| broken("its END line is malformed"))?;
        if end_label != label {
            return Err(broken("its END line has another label than its BEGIN line"));
        }
        let (kind, mut content) = match decode(kind, &body[..end]) {
            Ok(decoded) => decoded,
            Err(fault) => return Err(broken(fault)),
        };
        let mut settings = Vec::new();
        if kind == Kind::Certificate {
            let length = der::encoded_length(&content).unwrap_or(content.len());
            settings = content.split_off(length);
            let may_follow = label == TRUSTED && trust::is_well_formed(&settings);
            if !settings.is_empty() && !may_follow {
                return Err(broken("other bytes follow it"));
            }
        }
        found.push(Section { kind, content, settings });
        rest = after_end;
    }
    // A line that only looks like the start of a section would otherwise be passed over.
    let starts = count_starts(text);
    if starts > found.len() {
        let malformed = starts - found.len();
        let lines = match (malformed, starts) {
            (_, 1) => String::from("the BEGIN line of the PEM text is"),
            (1, all) => format!("1 of the {all} BEGIN lines of the PEM text is"),
            (_, all) => format!("{malformed} of the {all} BEGIN lines of the PEM text are"),
        };
        return Err(Error::invalid_options(format!(
            "{lines} malformed: it takes five hyphens on both sides and capital letters"
        )));
    }
    Ok(found)
}

/// Quotes the label only if it cannot hold a part of a key whose line ends are missing.
fn unknown_label(number: usize, label: &str) -> Error {
    let is_label = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == ' ';
    let quoted = if label.len() <= 32 && label.chars().all(is_label) {
        format!("PEM section {number} has the unknown label {label:?}")
    } else {
        format!("PEM section {number} has an unknown label")
    };
    Error::invalid_options(quoted)
}

/// Splits off a label and the five hyphens behind it.
fn split_label(text: &[u8]) -> Option<(&str, &[u8])> {
    let end = find(text, DASHES)?;
    let label = std::str::from_utf8(&text[..end]).ok()?;
    let is_one_line = !label.contains(['\r', '\n']);
    is_one_line.then_some((label.trim(), &text[end + DASHES.len()..]))
}

/// Decodes a section's content. Returns also its kind, because old formats name an encryption in a header.
fn decode(kind: Kind, body: &[u8]) -> std::result::Result<(Kind, Vec<u8>), &'static str> {
    let (headers, base64) = split_headers(body);
    if find(headers, b"ENCRYPTED").is_some() {
        return Ok((Kind::EncryptedKey, Vec::new()));
    }
    if kind == Kind::EncryptedKey {
        return Ok((kind, Vec::new()));
    }
    // One line without blanks, in the one form that every reader of PEM takes.
    let mut clean = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    clean.extend(base64.iter().filter(|byte| !byte.is_ascii_whitespace()));
    clean.extend(b"\n-----END CERTIFICATE-----\n");
    let decoded = CertificateDer::from_pem_slice(&clean).map_err(|_| {
        match find(base64, br"\n").is_some() {
            true => r"its line ends are written as \n: replace each by a line end",
            false => "its base64 is malformed",
        }
    })?;
    let content = decoded.to_vec();
    if content.is_empty() {
        return Err("it is empty");
    }
    if kind == Kind::Certificate {
        // A trusted certificate of OpenSSL carries its settings behind the certificate.
        let length = der::encoded_length(&content).ok_or("it is not well-formed")?;
        // Some tools label everything a certificate.
        match DerKind::of(&content[..length]) {
            DerKind::CertificateRequest => {
                return Err("it is a certificate request, which a CA has yet to sign");
            }
            DerKind::PrivateKey | DerKind::EncryptedKey => return Err("it is a private key"),
            DerKind::PublicKey => return Err("it is a public key"),
            DerKind::RevocationList => return Err("it is a revocation list"),
            DerKind::Pkcs7 => return Err("it is PKCS #7"),
            DerKind::Pkcs12 => return Err("it is PKCS #12"),
            // Its caller says what is wrong.
            DerKind::Certificate | DerKind::Other => {}
        }
    }
    Ok((kind, content))
}

/// Splits off header lines, such as `Proc-Type: 4,ENCRYPTED` (RFC 1421, section 4.4). A blank line ends them.
fn split_headers(body: &[u8]) -> (&[u8], &[u8]) {
    let Some(last) = body.iter().rposition(|&byte| byte == b':') else { return (&[], body) };
    let end = body[last..].iter().position(|&byte| byte == b'\n' || byte == b'\r');
    body.split_at(end.map_or(body.len(), |length| last + length))
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Counts what looks like the first line of a section, whatever its hyphens and letters.
fn count_starts(text: &[u8]) -> usize {
    let mut count = 0;
    let mut rest = text;
    while let Some(at) = search(rest, b"BEGIN ") {
        let label = &rest[at + b"BEGIN ".len()..];
        let before = rest[..at].trim_ascii_end();
        // An ASCII hyphen, or the last byte of a dash in UTF-8: a word processor turns hyphens into dashes.
        let is_marked = matches!(before.last(), Some(b'-' | 0x90..=0x95)) || before.is_empty();
        let has_label = KNOWN.iter().any(|known| {
            label.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
        });
        count += usize::from(is_marked && has_label || rest[..at].ends_with(b"-----"));
        rest = label;
    }
    count
}

/// How the labels of sections begin that matter here.
const KNOWN: [&[u8]; 9] = [
    b"CERTIFICATE",
    b"TRUSTED ",
    b"X509 ",
    b"PRIVATE KEY",
    b"RSA ",
    b"EC ",
    b"ENCRYPTED ",
    b"DSA ",
    b"OPENSSH ",
];

fn search(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window.eq_ignore_ascii_case(wanted))
}
