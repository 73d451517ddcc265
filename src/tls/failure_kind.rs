//! Sorts errors of rustls into the kinds that programs act on.

use rustls::{
    AlertDescription, CertificateError, Error, InvalidMessage, OtherError, PeerIncompatible,
};

use super::role::Role;
use super::untrusted::UntrustedReason;
use crate::error::TlsFailure;

/// The phase in which a failure happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Before this side completed the handshake.
    Handshake,
    /// After the handshake. In TLS 1.3, a server refuses the client's certificate only then.
    Data,
}

/// Returns the kind of an error. `peer` is the role of the other side.
pub(super) fn failure_kind(error: &Error, peer: Role, stage: Stage) -> TlsFailure {
    match error {
        Error::InvalidCertificate(error) => certificate_kind(error),
        Error::InvalidCertRevocationList(_) => TlsFailure::CertificateRevoked,
        Error::AlertReceived(alert) => alert_kind(*alert, peer),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) if stage == Stage::Handshake => TlsFailure::NotTls,
        Error::NoCertificatesPresented if peer == Role::Client => TlsFailure::ClientCertificate,
        Error::NoApplicationProtocol => TlsFailure::NoCommonParameters,
        Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(_)) => {
            TlsFailure::Other
        }
        Error::PeerIncompatible(_) => TlsFailure::NoCommonParameters,
        Error::PeerMisbehaved(_)
        | Error::InvalidMessage(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::NoCertificatesPresented
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => TlsFailure::PeerMisbehaved,
        _ => TlsFailure::Other,
    }
}

fn certificate_kind(error: &CertificateError) -> TlsFailure {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            TlsFailure::CertificateExpired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            TlsFailure::CertificateNotYetValid
        }
        CertificateError::UnknownIssuer => TlsFailure::UnknownIssuer,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            TlsFailure::NameMismatch
        }
        CertificateError::Revoked
        | CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsFailure::CertificateRevoked,
        // Of the handshake: the peer does not have the key.
        CertificateError::BadSignature => TlsFailure::PeerMisbehaved,
        CertificateError::ApplicationVerificationFailure => TlsFailure::CertificateRejected,
        CertificateError::Other(OtherError(error)) => {
            match error.downcast_ref::<UntrustedReason>() {
                Some(reason) => untrusted_kind(reason),
                None => TlsFailure::CertificateUnusable,
            }
        }
        _ => TlsFailure::CertificateUnusable,
    }
}

fn untrusted_kind(reason: &UntrustedReason) -> TlsFailure {
    match reason {
        UntrustedReason::SelfSigned
        | UntrustedReason::Incomplete { .. }
        | UntrustedReason::OtherKey { .. }
        | UntrustedReason::NotTheOnly => TlsFailure::UnknownIssuer,
        UntrustedReason::Tangled
        | UntrustedReason::RsaSize { .. }
        | UntrustedReason::UnusableKey
        | UntrustedReason::NotSigned => TlsFailure::CertificateUnusable,
        UntrustedReason::IssuerExpired { .. } => TlsFailure::CertificateExpired,
        UntrustedReason::NotPinned { .. } | UntrustedReason::Refused(_) => {
            TlsFailure::CertificateRejected
        }
    }
}

fn alert_kind(alert: AlertDescription, peer: Role) -> TlsFailure {
    match alert {
        // From a server these are about the certificate of this side, or about a missing one.
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateRequired
        | AlertDescription::UnknownCA
            if peer == Role::Server =>
        {
            TlsFailure::ClientCertificate
        }
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity
        | AlertDescription::NoApplicationProtocol => TlsFailure::NoCommonParameters,
        _ => TlsFailure::Alert,
    }
}
