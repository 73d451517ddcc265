//! Turns TLS errors into messages for people.
//!
//! A message names something that the reader can act on: a setting, a date, a name, or the party at fault. Text
//! from the peer is sanitised and truncated before it enters a message.

use std::borrow::Cow;

use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, HandshakeType, InvalidMessage,
    PeerIncompatible, PeerMisbehaved,
};

use super::alert;
use super::certificate_message::{MAX_NAMES, explain_certificate};
use super::der::sanitize_text;
use super::failure_kind::{Stage, failure_kind};
use super::hello::Hello;
use super::not_tls::describe_plaintext;
use super::role::Role;
use crate::error::TlsFailure;

/// The cause of a TLS failure: a message, and the rustls error if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    kind: TlsFailure,
    message: Cow<'static, str>,
    error: Option<Error>,
}

impl Failure {
    /// Creates the failure for an error of rustls. `peer` is the role of the other side.
    pub(crate) fn new(error: Error, peer: Role, stage: Stage) -> Self {
        let message = error_message(&error, peer, stage).into();
        Failure { kind: failure_kind(&error, peer, stage), message, error: Some(shortened(error)) }
    }

    /// Creates a failure that did not come from rustls.
    pub(crate) fn with_message(message: impl Into<Cow<'static, str>>) -> Self {
        Failure { kind: TlsFailure::Other, message: message.into(), error: None }
    }

    /// Creates the failure for something that the peer must not do, and that rustls permits.
    pub(crate) fn misbehaved(message: impl Into<Cow<'static, str>>) -> Self {
        Failure { kind: TlsFailure::PeerMisbehaved, ..Failure::with_message(message) }
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
                Failure { kind: TlsFailure::NotTls, message: message.into(), error: Some(error) }
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

    pub(crate) fn kind(&self) -> TlsFailure {
        self.kind
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the rustls error, for users who need to distinguish more cases than the message does.
    pub(crate) fn source(&self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        self.error.clone().map(Into::into)
    }
}

/// Cuts what an error quotes of the peer, so that a person who prints the chain of errors is not flooded.
fn shortened(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::NotValidForNameContext {
            expected,
            mut presented,
        }) => {
            presented.truncate(MAX_NAMES);
            presented.iter_mut().for_each(|name| *name = sanitize_text(name));
            CertificateError::NotValidForNameContext { expected, presented }.into()
        }
        Error::InvalidCertificate(CertificateError::UnsupportedSignatureAlgorithmContext {
            mut signature_algorithm_id,
            supported_algorithms,
        }) => {
            signature_algorithm_id.truncate(MAX_IDENTIFIER);
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id,
                supported_algorithms,
            }
            .into()
        }
        Error::InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                mut signature_algorithm_id,
                mut public_key_algorithm_id,
            },
        ) => {
            signature_algorithm_id.truncate(MAX_IDENTIFIER);
            public_key_algorithm_id.truncate(MAX_IDENTIFIER);
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id,
                public_key_algorithm_id,
            }
            .into()
        }
        Error::InvalidCertificate(CertificateError::InvalidPurposeContext {
            required,
            mut presented,
        }) => {
            presented.truncate(MAX_NAMES);
            for purpose in &mut presented {
                if let ExtendedKeyPurpose::Other(identifier) = purpose {
                    identifier.truncate(MAX_IDENTIFIER);
                }
            }
            CertificateError::InvalidPurposeContext { required, presented }.into()
        }
        Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(_)) => {
            PeerIncompatible::ServerRejectedEncryptedClientHello(None).into()
        }
        error => error,
    }
}

/// The maximum length of an identifier in the source of an error, in bytes or arcs.
const MAX_IDENTIFIER: usize = 32;

/// Returns the message for an error: lower case, without a full stop.
pub(crate) fn error_message(error: &Error, role: Role, stage: Stage) -> String {
    let peer = role.name();
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error, role),
        Error::AlertReceived(alert) => explain_alert(*alert, role, stage),
        Error::InvalidMessage(fault) => explain_message(*fault, role, stage),
        Error::PeerIncompatible(fault) => explain_incompatible(fault, role),
        Error::PeerMisbehaved(fault) => explain_misbehaviour(fault, peer),
        Error::InappropriateMessage { .. } => format!("{peer} sent a TLS record out of turn"),
        Error::InappropriateHandshakeMessage {
            got_type: HandshakeType::ClientHello | HandshakeType::HelloRequest,
            ..
        } if stage == Stage::Data => wants_renegotiation(peer),
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
        Error::InvalidCertRevocationList(_) => format!(
            "{peer}'s certificate may have been revoked: a revocation list for it can't be used"
        ),
        Error::InvalidEncryptedClientHello(_) => String::from(
            "the server name can't be hidden by Encrypted Client Hello: it is not a DNS name",
        ),
        Error::FailedToGetRandomBytes => String::from("this system gave no random bytes"),
        Error::BadMaxFragmentSize => {
            String::from("max_fragment_size of the rustls configuration is out of range")
        }
        // The source, which is the rustls error itself, says more.
        _ => String::from("rustls reported another error"),
    }
}

fn wants_renegotiation(peer: &str) -> String {
    format!(
        "{peer} asked for renegotiation, which is not supported: if it wants a client certificate, \
         let it ask at the beginning"
    )
}

fn explain_misbehaviour(fault: &PeerMisbehaved, peer: &str) -> String {
    let did = match fault {
        PeerMisbehaved::AttemptedDowngradeToTls12WhenTls13IsSupported => {
            return String::from(
                "the handshake was tampered with: TLS 1.3 was removed from the offer",
            );
        }
        PeerMisbehaved::TooManyRenegotiationRequests => return wants_renegotiation(peer),
        PeerMisbehaved::SelectedUnofferedApplicationProtocol => {
            "chose an application protocol that was not offered"
        }
        PeerMisbehaved::TooManyKeyUpdateRequests => "asked for new keys too often",
        PeerMisbehaved::TooManyEmptyFragments => "sent too many empty records",
        PeerMisbehaved::TooManyWarningAlertsReceived => "sent too many warnings",
        PeerMisbehaved::TooMuchEarlyDataReceived => "sent too much early data",
        PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme
        | PeerMisbehaved::SignedKxWithWrongAlgorithm => {
            "signed the handshake with an algorithm that was not offered"
        }
        PeerMisbehaved::SelectedUnofferedCipherSuite
        | PeerMisbehaved::SelectedUnusableCipherSuiteForVersion => {
            "chose a cipher suite that was not offered"
        }
        PeerMisbehaved::SelectedUnofferedKxGroup
        | PeerMisbehaved::IllegalHelloRetryRequestWithUnofferedNamedGroup => {
            "chose a key exchange that was not offered"
        }
        PeerMisbehaved::InvalidKeyShare => "sent an invalid key share",
        PeerMisbehaved::IncorrectBinder => "resumed a session without its secret",
        _ => "violated the TLS protocol",
    };
    format!("{peer} {did}")
}

fn explain_message(fault: InvalidMessage, peer: Role, stage: Stage) -> String {
    let name = peer.name();
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
        (InvalidMessage::CertificatePayloadTooLarge, _) => {
            format!("{name} sent certificates that are too long")
        }
        (InvalidMessage::HandshakePayloadTooLarge, _) => {
            format!("{name} sent a handshake message that is too long")
        }
        (InvalidMessage::MessageTooLarge, _) => {
            format!("{name} sent a TLS record that is too long")
        }
        _ => format!("{name} sent a malformed TLS message"),
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
        PeerIncompatible::ServerRejectedEncryptedClientHello(_) => {
            return format!(
                "{} rejected Encrypted Client Hello: the ECHConfigList is out of date",
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
        (Stage::Data, Role::Server) => "the server ended the connection",
        (Stage::Data, Role::Client) => "the client ended the connection",
    };
    match alert::explain(alert, peer) {
        Some((name, why)) => format!("{did}: {why} (alert {name})"),
        None => format!("{did} (alert {})", u8::from(alert)),
    }
}

#[cfg(test)]
pub(crate) use self::tests::every_failure;

#[cfg(test)]
mod tests;
