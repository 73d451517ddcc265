//! Tests of the messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{ServerName, UnixTime};
use rustls::{CertRevocationListError, EncryptedClientHelloError, OtherError};

use super::super::hello::Hello;
use super::super::untrusted::UntrustedReason;
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
        certificate(untrusted(UntrustedReason::OtherKey { issuer: String::from("R3") })),
        certificate(untrusted(UntrustedReason::RsaSize { bits: 1024, issuer: None })),
        certificate(untrusted(UntrustedReason::RsaSize { bits: 16_384, issuer: None })),
        certificate(untrusted(UntrustedReason::RsaSize {
            bits: 1024,
            issuer: Some(String::from("R3")),
        })),
        certificate(untrusted(UntrustedReason::IssuerExpired {
            issuer: String::from("R3"),
            not_after: then,
            now: time,
        })),
        certificate(untrusted(UntrustedReason::UnusableKey)),
        certificate(untrusted(UntrustedReason::NotSigned)),
        certificate(untrusted(UntrustedReason::Tangled)),
        certificate(untrusted(UntrustedReason::NotTheOnly)),
        certificate(untrusted(UntrustedReason::NotPinned { spki_sha256: [0xab; 32] })),
        certificate(untrusted(UntrustedReason::Refused(String::from("not today")))),
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
        Error::InvalidMessage(InvalidMessage::MessageTooShort),
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge),
        Error::InvalidMessage(InvalidMessage::CertificatePayloadTooLarge),
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
        Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
        Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon),
        Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon),
        Error::PeerIncompatible(PeerIncompatible::KeyShareExtensionRequired),
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedApplicationProtocol),
        Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
        Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests),
        Error::PeerMisbehaved(PeerMisbehaved::TooManyEmptyFragments),
        Error::PeerMisbehaved(PeerMisbehaved::SignedKxWithWrongAlgorithm),
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedCipherSuite),
        Error::PeerMisbehaved(PeerMisbehaved::SelectedUnofferedKxGroup),
        Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare),
        Error::PeerMisbehaved(PeerMisbehaved::IncorrectBinder),
        Error::PeerMisbehaved(PeerMisbehaved::MissingKeyShare),
        Error::PeerIncompatible(PeerIncompatible::ServerRejectedEncryptedClientHello(None)),
        Error::InvalidCertRevocationList(CertRevocationListError::BadSignature),
        Error::InvalidEncryptedClientHello(EncryptedClientHelloError::SniRequired),
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
        [
            (Role::Server, Stage::Handshake),
            (Role::Server, Stage::Data),
            (Role::Client, Stage::Handshake),
            (Role::Client, Stage::Data),
        ]
        .map(|(peer, when)| Failure::new(error.clone(), peer, when))
    });
    let ends = [Role::Server, Role::Client].map(Failure::unexpected_eof);
    let name = || Some("a.test".into());
    let fault = || Some("its key is too short".into());
    let names = [(name(), None), (name(), fault()), (None, None), (None, fault())];
    let names = names.map(|(server_name, fault)| {
        Failure::no_identity(&Hello { server_name, fault, ..Hello::default() })
    });
    both.chain(ends).chain(names).collect()
}

#[test]
fn every_failure_has_its_own_message() {
    for peer in [Role::Server, Role::Client] {
        let mut seen = BTreeSet::new();
        for error in every_error() {
            let message = error_message(&error, peer, Stage::Handshake);
            assert!(message.starts_with(char::is_lowercase), "{message}");
            assert!(!message.ends_with('.') && !message.contains("  "), "{message}");
            assert!(seen.insert(message.clone()), "twice: {message}");
        }
    }
}

#[test]
fn a_message_of_a_server_names_the_client_as_the_peer() {
    let message = |error| error_message(&error, Role::Client, Stage::Handshake);
    for error in every_error() {
        let message = message(error);
        let about_the_server = message.contains("the server")
            // A client refuses the server's certificate.
            && !message.starts_with("the client ended the handshake: ")
            // rustls creates these only in a client.
            && !message.contains("speaks") && !message.contains("chose an application")
            && !message.contains("certificate is not for")
            && !message.contains("can't be hidden");
        assert!(!about_the_server, "{message}");
    }
    let alert = |alert| message(Error::AlertReceived(alert));
    assert_eq!(
        alert(AlertDescription::UnknownCA),
        "the client ended the handshake: it does not trust the authority of the server's \
         certificate (alert unknown_ca)"
    );
    assert_eq!(
        alert(AlertDescription::BadCertificate),
        "the client ended the handshake: the server's certificate is bad (alert \
         bad_certificate)"
    );
    assert_eq!(message(Error::NoCertificatesPresented), "the client sent no certificate");
    let revoked = Error::InvalidCertificate(CertificateError::Revoked);
    assert_eq!(message(revoked), "the client's certificate has been revoked");
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
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented })
    };
    let says = |presented: &[&str], expected: &str| {
        let separator = if expected.starts_with(':') { "" } else { " " };
        let subject = "the server's certificate is not for the name a.test";
        check(wrong(presented), Stage::Handshake, &format!("{subject}{separator}{expected}"));
    };
    says(&[], "nor for any other name: it has no subjectAltName");
    says(&["DnsName(\"*.b.test\")"], "but for *.b.test");
    says(&["DnsName(\"b\")", "IpAddress(192.0.2.1)"], "but for b, 192.0.2.1");
    let many = ["a", "b", "c", "d", "e", "f"].map(|name| format!("DnsName(\"{name}\")"));
    says(&many.each_ref().map(String::as_str), "but for a, b, c, d and 2 more");
    says(&["UniformResourceIdentifier(\"spiffe://x\")"], NO_NAME);
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
        "the server ended the connection: it wants a client certificate (alert \
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
    check(error, Stage::Data, "the server sent a malformed TLS message");
}

#[test]
fn a_failure_returns_the_rustls_error_as_its_source() {
    let failure = Failure::new(Error::DecryptError, Role::Server, Stage::Data);
    assert!(failure.message().contains("can't be decrypted"));
    let source = failure.source().expect("there is one");
    assert_eq!(source.downcast_ref::<Error>(), Some(&Error::DecryptError));
    assert!(Failure::unexpected_eof(Role::Server).source().is_none());
    assert!(Failure::unexpected_eof(Role::Server).message().contains("during the handshake"));
}

const NO_NAME: &str = ": its subjectAltName has no DNS name and no IP address";

fn check(error: Error, stage: Stage, expected: &str) {
    assert_eq!(error_message(&error, Role::Server, stage), expected);
}
