//! Explains why a certificate is refused.

use rustls::pki_types::ServerName;
use rustls::{CertificateError, OtherError};

use super::calendar::utc;
use super::der::sanitize_text;
use super::role::Role;
use super::untrusted::{UntrustedReason, is_authority_as_leaf};

/// Returns the message for a certificate of a peer in this role.
pub(super) fn explain_certificate(error: &CertificateError, owner: Role) -> String {
    let owners = owner.name();
    let what = match error {
        CertificateError::UnknownIssuer => "is from an authority that is not trusted",
        CertificateError::Expired => "has expired, or ends before it begins",
        CertificateError::ExpiredContext { time, not_after } => {
            let (until, now) = (utc(*not_after), utc(*time));
            return format!(
                "{owners}'s certificate has expired: it was valid until {until}, and this \
                 system's clock says {now}"
            );
        }
        CertificateError::NotValidYet => "is not valid yet",
        CertificateError::NotValidYetContext { time, not_before } => {
            let (from, now) = (utc(*not_before), utc(*time));
            return format!(
                "{owners}'s certificate is not valid yet: it is valid from {from} on, and this \
                 system's clock says {now}"
            );
        }
        CertificateError::NotValidForName => "is for another name",
        CertificateError::NotValidForNameContext { expected, presented } => {
            return explain_name(expected, presented);
        }
        CertificateError::Revoked => "has been revoked",
        CertificateError::UnknownRevocationStatus => {
            "may have been revoked: it or an issuer is not covered by any revocation list. Add the \
             list of each issuer, or relax the revocation policy"
        }
        CertificateError::ExpiredRevocationList => {
            "may have been revoked: the revocation list has expired"
        }
        CertificateError::ExpiredRevocationListContext { time, next_update } => {
            let (until, now) = (utc(*next_update), utc(*time));
            return format!(
                "{owners}'s certificate may have been revoked: the revocation list was valid until \
                 {until}, and this system's clock says {now}"
            );
        }
        CertificateError::InvalidOcspResponse => "has an invalid OCSP response",
        // Of the handshake. A signature of the chain has a reason of its own.
        CertificateError::BadSignature => {
            return format!("{owners} did not prove that it has the key of its certificate");
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id, ..
        } => match signature_name(signature_algorithm_id) {
            Some(name) => {
                return format!(
                    "{owners}'s certificate or that of an issuer is signed with {name}, which is \
                     not secure: it has to be signed again, for example with SHA-256"
                );
            }
            None => "uses an unsupported signature algorithm",
        },
        #[allow(deprecated)] // rustls still creates it in some cases.
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "uses an unsupported signature algorithm"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            match owner {
                Role::Server => "is not meant for servers",
                Role::Client => "is not meant for clients",
            }
        }
        CertificateError::BadEncoding => "is not well-formed",
        CertificateError::UnhandledCriticalExtension => {
            "has a critical extension that is not supported"
        }
        CertificateError::ApplicationVerificationFailure => {
            "is refused by the verifier of this program"
        }
        CertificateError::Other(OtherError(error)) => {
            if let Some(untrusted) = error.downcast_ref::<UntrustedReason>() {
                return untrusted.describe(owner);
            }
            match (is_authority_as_leaf(error.as_ref()), owner) {
                (true, Role::Server) => {
                    "is an authority's (CA:TRUE), and so can't be a server's own: trust_only_pem \
                     accepts it"
                }
                (true, Role::Client) => {
                    "is an authority's (CA:TRUE), and so can't be a client's own"
                }
                (false, _) => match webpki_fault(&error.to_string()) {
                    Some(fault) => return format!("{owners}'s certificate can't be used: {fault}"),
                    // A verifier of the program, in a complete configuration, has its own words.
                    None => return format!("{owners}'s certificate is refused: {error}"),
                },
            }
        }
        _ => "is refused",
    };
    format!("{owners}'s certificate {what}")
}

fn explain_name(expected: &ServerName<'_>, presented: &[String]) -> String {
    let sort = match expected {
        ServerName::IpAddress(_) => "address",
        _ => "name",
    };
    let expected_text = expected.to_str();
    let mut message = format!("the server's certificate is not for the {sort} {expected_text}");
    if presented.is_empty() {
        message.push_str(" nor for any other name: it has no subjectAltName");
        return message;
    }
    let as_dns_name = format!("DnsName(\"{expected_text}\")");
    if sort == "address" && presented.contains(&as_dns_name) {
        message.push_str(
            ": it lists that address as a DNS name, which does not count. It has to be an IP \
             address of the subjectAltName",
        );
        return message;
    }
    let names: Vec<&str> = presented.iter().filter_map(|name| bare_name(name)).collect();
    if names.is_empty() {
        message.push_str(": its subjectAltName has no DNS name and no IP address");
        return message;
    }
    message.push_str(" but for ");
    for (place, name) in names.iter().take(MAX_NAMES).enumerate() {
        if place > 0 {
            message.push_str(", ");
        }
        message.push_str(&sanitize_text(name));
    }
    if names.len() > MAX_NAMES {
        message.push_str(&format!(" and {} more", names.len() - MAX_NAMES));
    }
    message
}

/// Strips the `Debug` format in which webpki gives names: `DnsName("a.test")`, `IpAddress(192.0.2.1)`. `None` for other
/// kinds of names, such as URIs.
fn bare_name(debugged: &str) -> Option<&str> {
    let inside = |before, after| debugged.strip_prefix(before)?.strip_suffix(after);
    inside("DnsName(\"", "\")").or_else(|| inside("IpAddress(", ")"))
}

/// Returns the fault of a certificate of this side, without its owner: `it is not well-formed`.
pub(super) fn own_fault(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            String::from("it is not well-formed")
        }
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other))) => {
            match webpki_fault(&other.to_string()) {
                Some(fault) => fault.to_owned(),
                None => other.to_string(),
            }
        }
        error => error.to_string(),
    }
}

/// Returns the name of a signature algorithm that is too weak, by its identifier (RFC 8017, appendix A.2.4, and
/// RFC 5758, section 3.2).
fn signature_name(identifier: &[u8]) -> Option<&'static str> {
    const WEAK: [(&[u8], &str); 4] = [
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x02], "MD2"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04], "MD5"),
        (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05], "SHA-1"),
        (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1"),
    ];
    // The identifier is the content of an AlgorithmIdentifier, which begins with the tag and the length.
    let object = identifier.get(2..)?;
    WEAK.iter().find(|(known, _)| object.starts_with(known)).map(|(_, name)| *name)
}

/// Returns the meaning of an error of webpki, which is not a direct dependency and prints the names of its variants.
fn webpki_fault(printed: &str) -> Option<&'static str> {
    let name = printed.split(['(', ' ', '{']).next().unwrap_or(printed);
    Some(match name {
        "UnsupportedCertVersion" => {
            "it is of X.509 version 1 or 2, which is not supported: make one of version 3, \
             which has a subjectAltName"
        }
        "UnsupportedCriticalExtension" => "it has a critical extension that is not supported",
        "CaUsedAsEndEntity" => "it is an authority's (CA:TRUE)",
        "EndEntityUsedAsCa" => "it was issued by a certificate that is not an authority's",
        "PathLenConstraintViolated" => "an issuer may not have authorities below itself",
        "NameConstraintViolation" => "an issuer may not sign for its names",
        "MalformedNameConstraint" | "InvalidNetworkMaskConstraint" | "UnsupportedNameType" => {
            "the names that an issuer may sign for are malformed"
        }
        "InvalidSerialNumber" => "its serial number is malformed",
        "MalformedDnsIdentifier" => "one of its names is malformed",
        "EmptyEkuExtension" => "its list of purposes is empty",
        "ExtensionValueInvalid" | "MalformedExtensions" => "one of its extensions is malformed",
        "SignatureAlgorithmMismatch" => "it states two different signature algorithms",
        "CertDistrusted" => "it is distrusted",
        "MaximumNameConstraintComparisonsExceeded"
        | "MaximumPathBuildCallsExceeded"
        | "MaximumSignatureChecksExceeded" => "there are too many certificates to check",
        "MaximumPathDepthExceeded" => "its chain of issuers is too long",
        "UnsupportedCrlIssuingDistributionPoint"
        | "UnsupportedCrlVersion"
        | "UnsupportedDeltaCrl"
        | "UnsupportedIndirectCrl"
        | "UnsupportedRevocationReason"
        | "UnsupportedRevocationReasonsPartitioning"
        | "InvalidCrlNumber" => "a revocation list for it is of an unsupported kind",
        _ => return None,
    })
}

/// The maximum number of a certificate's names in a message.
pub(super) const MAX_NAMES: usize = 4;
