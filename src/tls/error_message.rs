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
use super::verify::{UntrustedReason, is_authority_as_server};

/// The cause of a TLS failure: a message, and the rustls error if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    message: Cow<'static, str>,
    error: Option<Error>,
}

impl Failure {
    pub(crate) fn new(error: Error, stage: Stage) -> Self {
        Failure { message: error_message(&error, stage).into(), error: Some(error) }
    }

    /// Creates a failure that did not come from rustls.
    pub(crate) fn with_message(message: impl Into<Cow<'static, str>>) -> Self {
        Failure { message: message.into(), error: None }
    }

    /// Creates the failure for a FIN that the peer sent before the handshake was complete.
    pub(crate) fn unexpected_eof() -> Self {
        Failure::with_message("the server ended the connection during the handshake")
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
    fn peer(self) -> &'static str {
        match self {
            Stage::Handshake => "the server",
            Stage::Data => "the peer",
        }
    }
}

/// Returns the message for an error: lower case, without a full stop.
pub(crate) fn error_message(error: &Error, stage: Stage) -> String {
    let peer = stage.peer();
    match error {
        Error::InvalidCertificate(error) => explain_certificate(error),
        Error::AlertReceived(alert) => explain_alert(*alert, stage),
        Error::InvalidMessage(fault) => explain_message(*fault, stage),
        Error::PeerIncompatible(fault) => explain_incompatible(fault),
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
        Error::NoCertificatesPresented => String::from("the server sent no certificate"),
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

fn explain_certificate(error: &CertificateError) -> String {
    let what = match error {
        CertificateError::UnknownIssuer => "is from an authority that is not trusted",
        CertificateError::Expired => "has expired",
        CertificateError::ExpiredContext { time, not_after } => {
            let (until, now) = (utc(*not_after), utc(*time));
            return format!(
                "the server's certificate has expired: it was valid until {until}, and this \
                 system's clock says {now}"
            );
        }
        CertificateError::NotValidYet => "is not valid yet",
        CertificateError::NotValidYetContext { time, not_before } => {
            let (from, now) = (utc(*not_before), utc(*time));
            return format!(
                "the server's certificate is not valid yet: it is valid from {from} on, and this \
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
            "is not meant for servers"
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
                return untrusted.to_string();
            }
            if is_authority_as_server(error.as_ref()) {
                "is an authority's (CA:TRUE), and so can't be a server's own"
            } else {
                return format!("the server's certificate is refused: {error}");
            }
        }
        _ => "is refused",
    };
    format!("the server's certificate {what}")
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

fn explain_message(fault: InvalidMessage, stage: Stage) -> String {
    match (fault, stage) {
        // rustls read the first bytes of plaintext as a record header.
        (
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
            Stage::Handshake,
        ) => String::from(
            "the server did not answer in TLS: does it expect plaintext on this port, or STARTTLS?",
        ),
        (_, stage) => {
            format!("{} sent a malformed TLS message", stage.peer())
        }
    }
}

fn explain_incompatible(fault: &PeerIncompatible) -> String {
    let what = match fault {
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
            "the server does not know the extended master secret, which is required"
        }
        _ => "the server's TLS settings and this side's are incompatible",
    };
    String::from(what)
}

fn explain_alert(alert: AlertDescription, stage: Stage) -> String {
    let did = match stage {
        Stage::Handshake => "the server ended the handshake",
        Stage::Data => "the peer ended the connection",
    };
    match alert::explain(alert) {
        Some((name, why)) => format!("{did}: {why} (alert {name})"),
        None => format!("{did} (alert {})", u8::from(alert)),
    }
}

/// The maximum number of a certificate's names in a message.
const MAX_NAMES: usize = 4;

#[cfg(test)]
pub(crate) use self::tests::every_failure;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::pki_types::UnixTime;

    use super::*;

    /// Returns errors of every kind that rustls has.
    fn every_error() -> Vec<Error> {
        let certificate = |error| Error::InvalidCertificate(error);
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let (time, then) = (at(1_700_000_000), at(951_868_799));
        let untrusted = |why| CertificateError::Other(OtherError(Arc::new(why)));
        let issuer = String::from("R3");
        let errors = [
            certificate(CertificateError::UnknownIssuer),
            certificate(untrusted(UntrustedReason::SelfSigned)),
            certificate(untrusted(UntrustedReason::Incomplete { issuer })),
            certificate(CertificateError::Expired),
            certificate(CertificateError::ExpiredContext { time, not_after: then }),
            certificate(CertificateError::NotValidYet),
            certificate(CertificateError::NotValidYetContext { time: then, not_before: time }),
            certificate(CertificateError::NotValidForName),
            certificate(CertificateError::BadSignature),
            certificate(CertificateError::Revoked),
            certificate(CertificateError::InvalidPurpose),
            certificate(CertificateError::BadEncoding),
            certificate(CertificateError::UnhandledCriticalExtension),
            certificate(CertificateError::UnknownRevocationStatus),
            certificate(CertificateError::ExpiredRevocationList),
            certificate(CertificateError::InvalidOcspResponse),
            certificate(CertificateError::ApplicationVerificationFailure),
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::InvalidMessage(InvalidMessage::MessageTooLarge),
            Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
            Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
            Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon),
            Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon),
            Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired),
            Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol),
            Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
            Error::NoCertificatesPresented,
            Error::NoApplicationProtocol,
            Error::DecryptError,
            Error::PeerSentOversizedRecord,
            Error::FailedToGetCurrentTime,
            Error::FailedToGetRandomBytes,
            Error::General(String::from("whatever")),
        ];
        let alerts = (0..=u8::MAX).map(|code| Error::AlertReceived(code.into()));
        errors.into_iter().chain(alerts).collect()
    }

    /// Returns every failure, in both phases, for tests of other modules.
    pub(crate) fn every_failure() -> Vec<Failure> {
        let failures = every_error().into_iter();
        let both = failures.flat_map(|error| {
            [Stage::Handshake, Stage::Data].map(|when| Failure::new(error.clone(), when))
        });
        both.chain([Failure::unexpected_eof()]).collect()
    }

    #[test]
    fn every_failure_has_its_own_message() {
        let mut seen = BTreeSet::new();
        for error in every_error() {
            let message = error_message(&error, Stage::Handshake);
            assert!(message.starts_with(char::is_lowercase), "{message}");
            assert!(!message.ends_with('.') && !message.contains("  "), "{message}");
            assert!(seen.insert(message.clone()), "twice: {message}");
        }
    }

    #[test]
    fn validity_errors_state_the_date_and_the_system_clock() {
        let at = |secs| UnixTime::since_unix_epoch(Duration::from_secs(secs));
        let (time, not_after) = (at(1_700_000_000), at(951_868_799));
        check(
            Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }),
            Stage::Handshake,
            "the server's certificate has expired: it was valid until 2000-02-29 23:59 UTC, and \
             this system's clock says 2023-11-14 22:13 UTC",
        );
        let (time, not_before) = (at(0), at(253_402_300_799));
        check(
            Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }),
            Stage::Handshake,
            "the server's certificate is not valid yet: it is valid from 9999-12-31 23:59 UTC on, \
             and this system's clock says 1970-01-01 00:00 UTC",
        );
    }

    #[test]
    fn a_name_mismatch_lists_the_names_of_the_certificate() {
        let wrong = |presented: &[&str]| {
            let presented = presented.iter().map(|&name| name.to_owned()).collect();
            let expected = ServerName::try_from("a.test").unwrap();
            Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            })
        };
        let says = |presented: &[&str], expected: &str| {
            let expected =
                format!("the server's certificate is not for the name a.test {expected}");
            check(wrong(presented), Stage::Handshake, &expected);
        };
        says(&[], "nor for any other name");
        says(&["DnsName(\"*.b.test\")"], "but for *.b.test");
        says(&["DnsName(\"b\")", "IpAddress(192.0.2.1)"], "but for b, 192.0.2.1");
        says(&["a", "b", "c", "d", "e", "f"], "but for a, b, c, d and 2 more");
        says(&["DnsName(\"\x1b[2J\")"], "but for ?[2J");
        let long = format!("DnsName(\"{}\")", "x".repeat(500));
        says(&[&long], &format!("but for {}…", "x".repeat(63)));
    }

    #[test]
    fn an_alert_is_explained_with_its_phase() {
        let alert = Error::AlertReceived;
        check(
            alert(AlertDescription::CertificateRequired),
            Stage::Handshake,
            "the server ended the handshake: it wants a client certificate (alert \
             certificate_required)",
        );
        check(
            alert(AlertDescription::CertificateRequired),
            Stage::Data,
            "the peer ended the connection: it wants a client certificate (alert \
             certificate_required)",
        );
        let unknown = AlertDescription::from(200);
        check(alert(unknown), Stage::Handshake, "the server ended the handshake (alert 200)");
    }

    #[test]
    fn plaintext_is_suspected_only_during_the_handshake() {
        let error = Error::InvalidMessage(InvalidMessage::InvalidContentType);
        check(
            error.clone(),
            Stage::Handshake,
            "the server did not answer in TLS: does it expect plaintext on this port, or STARTTLS?",
        );
        check(error, Stage::Data, "the peer sent a malformed TLS message");
    }

    #[test]
    fn a_failure_returns_the_rustls_error_as_its_source() {
        let failure = Failure::new(Error::DecryptError, Stage::Data);
        assert!(failure.message().contains("can't be decrypted"));
        let source = failure.source().expect("there is one");
        assert_eq!(source.downcast_ref::<Error>(), Some(&Error::DecryptError));
        assert!(Failure::unexpected_eof().source().is_none());
        assert!(Failure::unexpected_eof().message().contains("during the handshake"));
    }

    fn check(error: Error, stage: Stage, expected: &str) {
        assert_eq!(error_message(&error, stage), expected);
    }
}
