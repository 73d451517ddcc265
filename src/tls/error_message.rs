//! Turns TLS errors into messages for people.
//!
//! A message names something that the reader can act on: a setting, a date, a name, or the party at fault. Text
//! from the peer is sanitised and truncated before it enters a message.

use std::borrow::Cow;

use rustls::pki_types::ServerName;
use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
    PeerMisbehaved,
};

use super::alert;
use super::calendar::utc;
use super::der::sanitize_text;
use super::hello::Hello;
use super::not_tls::describe_plaintext;
use super::role::Role;
use super::verify::{UntrustedReason, is_authority_as_server};

/// The cause of a TLS failure: a message, and the rustls error if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    message: Cow<'static, str>,
    error: Option<Error>,
}

impl Failure {
    /// Creates the failure for an error of rustls. `peer` is the role of the other side.
    pub(crate) fn new(error: Error, peer: Role, stage: Stage) -> Self {
        Failure { message: error_message(&error, peer, stage).into(), error: Some(error) }
    }

    /// Creates a failure that did not come from rustls.
    pub(crate) fn with_message(message: impl Into<Cow<'static, str>>) -> Self {
        Failure { message: message.into(), error: None }
    }

    /// Creates the failure for a FIN that the peer sent before the handshake was complete.
    pub(crate) fn unexpected_eof(peer: Role) -> Self {
        Failure::with_message(match peer {
            Role::Server => "the server ended the connection during the handshake",
            Role::Client => "the client ended the connection during the handshake",
        })
    }

    /// Creates the failure for a first message that rustls cannot parse. `input` is what the peer sent.
    pub(crate) fn not_tls(error: Error, peer: Role, input: &[u8]) -> Self {
        match (peer, describe_plaintext(input)) {
            (Role::Client, Some(message)) => {
                Failure { message: message.into(), error: Some(error) }
            }
            (Role::Client, None) => Failure::new(error, peer, Stage::Data),
            (Role::Server, _) => Failure::new(error, peer, Stage::Handshake),
        }
    }

    /// Creates the failure of a server that has no certificate for the name that the client asked for.
    pub(crate) fn no_identity(hello: &Hello) -> Self {
        let server_name = hello.server_name.as_deref().map(sanitize_text);
        Failure::with_message(match (server_name, &hello.fault) {
            (Some(name), Some(fault)) => {
                format!("the certificate for the server name \"{name}\" can't be used: {fault}")
            }
            (None, Some(fault)) => format!("the default certificate can't be used: {fault}"),
            (Some(name), None) => format!(
                "there is no certificate for the server name \"{name}\" that the client asked for"
            ),
            (None, None) => {
                String::from("the client asked for no server name, and there is no default")
            }
        })
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the rustls error, for users who need to distinguish more cases than the message does.
    pub(crate) fn source(&self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.error.clone().map(Into::into)
    }
}

/// The phase in which a failure happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Before this side completed the handshake.
    Handshake,
    /// After the handshake. In TLS 1.3, a server refuses the client's certificate only then.
    Data,
}

impl Stage {
    /// Returns the name of the peer, which has this role.
    fn name(self, peer: Role) -> &'static str {
        match self {
            Stage::Handshake => peer.name(),
            Stage::Data => "the peer",
        }
    }
}

/// Returns the message for an error: lower case, without a full stop.
pub(crate) fn error_message(error: &Error, role: Role, stage: Stage) -> String {
    let peer = stage.name(role);
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error, role),
        Error::AlertReceived(alert) => explain_alert(*alert, role, stage),
        Error::InvalidMessage(fault) => explain_message(*fault, role, stage),
        Error::PeerIncompatible(fault) => explain_incompatible(fault, role),
        Error::PeerMisbehaved(PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported) => {
            String::from("the handshake was tampered with: TLS 1.3 was removed from the offer")
        }
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol) => {
            String::from("the server chose an application protocol that was not offered")
        }
        Error::PeerMisbehaved(_) => format!("{peer} violated the TLS protocol"),
        Error::InappropriateMessage { .. } => format!("{peer} sent a TLS record out of turn"),
        Error::InappropriateHandshakeMessage { .. } => {
            format!("{peer} sent a handshake message out of turn")
        }
        Error::NoCertificatesPresented => format!("{} sent no certificate", role.name()),
        Error::NoApplicationProtocol => {
            String::from("no application protocol is offered by both sides")
        }
        Error::DecryptError => {
            format!("a record from {peer} can't be decrypted: it was corrupted or tampered with")
        }
        Error::PeerSentOversizedRecord => format!("{peer} sent a TLS record that is too long"),
        Error::FailedToGetCurrentTime => {
            String::from("the current time is unknown: is this system's clock set?")
        }
        Error::FailedToGetRandomBytes => String::from("this system gave no random bytes"),
        Error::BadMaxFragmentSize => {
            String::from("max_fragment_size of the rustls configuration is out of range")
        }
        // The source, which is the rustls error itself, says more.
        _ => String::from("rustls reported another error"),
    }
}

fn explain_certificate(error: &CertificateError, owner: Role) -> String {
    let owners = owner.name();
    let what = match error {
        CertificateError::UnknownIssuer => "is from an authority that is not trusted",
        CertificateError::Expired => "has expired",
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
        CertificateError::UnknownRevocationStatus => "has an unknown revocation status",
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "may have been revoked: the revocation list has expired"
        }
        CertificateError::InvalidOcspResponse => "has an invalid OCSP response",
        CertificateError::BadSignature => "does not match a signature by its issuer or its key",
        #[allow(deprecated)] // rustls still creates it in some cases.
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
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
            match (is_authority_as_server(error.as_ref()), owner) {
                (true, Role::Server) => {
                    "is an authority's (CA:TRUE), and so can't be a server's own"
                }
                (true, Role::Client) => {
                    "is an authority's (CA:TRUE), and so can't be a client's own"
                }
                (false, _) => return format!("{owners}'s certificate is refused: {error}"),
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
    let mut message =
        format!("the server's certificate is not for the {sort} {}", expected.to_str());
    if presented.is_empty() {
        message.push_str(" nor for any other name");
        return message;
    }
    message.push_str(" but for ");
    for (place, name) in presented.iter().take(MAX_NAMES).enumerate() {
        if place > 0 {
            message.push_str(", ");
        }
        message.push_str(&sanitize_text(bare_name(name)));
    }
    if presented.len() > MAX_NAMES {
        message.push_str(&format!(" and {} more", presented.len() - MAX_NAMES));
    }
    message
}

/// Strips the `Debug` format in which webpki gives names: `DnsName("a.test")`, `IpAddress(192.0.2.1)`.
fn bare_name(debugged: &str) -> &str {
    let inside = |before, after| debugged.strip_prefix(before)?.strip_suffix(after);
    inside("DnsName(\"", "\")").or_else(|| inside("IpAddress(", ")")).unwrap_or(debugged)
}

fn explain_message(fault: InvalidMessage, peer: Role, stage: Stage) -> String {
    match (fault, stage) {
        // rustls read the first bytes of plaintext as a record header.
        (
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            Stage::Handshake,
        ) => String::from(match peer {
            Role::Server => {
                "the server did not answer in TLS: does it expect plaintext on this port, or \
                 STARTTLS?"
            }
            Role::Client => "the client did not begin with TLS",
        }),
        (_, stage) => {
            format!("{} sent a malformed TLS message", stage.name(peer))
        }
    }
}

fn explain_incompatible(fault: &PeerIncompatible, peer: Role) -> String {
    let what = match fault {
        PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::SupportedVersionsExtensionRequired => {
            "the client offers no version of TLS that this side allows"
        }
        PeerIncompatible::ServerDoesNotSupportTls12Or13 => {
            "the server speaks neither TLS 1.2 nor TLS 1.3"
        }
        PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the server speaks a version of TLS that the configuration does not allow"
        }
        PeerIncompatible::NoCipherSuitesInCommon => "no cipher suite is offered by both sides",
        PeerIncompatible::NoKxGroupsInCommon => "no key exchange is offered by both sides",
        PeerIncompatible::NoSignatureSchemesInCommon
        | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            "no signature scheme is offered by both sides"
        }
        PeerIncompatible::ExtendedMasterSecretExtensionRequired => {
            return format!(
                "{} does not know the extended master secret, which is required",
                peer.name()
            );
        }
        _ => return format!("{}'s TLS settings and this side's are incompatible", peer.name()),
    };
    String::from(what)
}

fn explain_alert(alert: AlertDescription, peer: Role, stage: Stage) -> String {
    let did = match (stage, peer) {
        (Stage::Handshake, Role::Server) => "the server ended the handshake",
        (Stage::Handshake, Role::Client) => "the client ended the handshake",
        (Stage::Data, _) => "the peer ended the connection",
    };
    match alert::explain(alert, peer) {
        Some((name, why)) => format!("{did}: {why} (alert {name})"),
        None => format!("{did} (alert {})", u8::from(alert)),
    }
}

/// The maximum number of a certificate's names in a message.
const MAX_NAMES: usize = 4;

#[cfg(test)]
pub(crate) use self::tests::every_failure;

#[cfg(test)]
mod tests;
