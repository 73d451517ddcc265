//! The meaning of TLS alerts.

use std::borrow::Cow;

use rustls::AlertDescription;

use super::role::Role;

/// Returns the name of an alert (RFC 8446, section 6) and its meaning, as what the peer did or wants. `None` for an
/// unknown alert.
pub(super) fn explain(
    alert: AlertDescription,
    peer: Role,
) -> Option<(&'static str, Cow<'static, str>)> {
    let (name, meaning) = explain_of_server(alert)?;
    let meaning = match (peer, alert) {
        (Role::Server, _) => meaning.into(),
        (Role::Client, AlertDescription::HandshakeFailure) => {
            "it accepts nothing that was offered".into()
        }
        (Role::Client, AlertDescription::BadCertificate) => {
            "the server's certificate is bad".into()
        }
        (Role::Client, _) => {
            meaning.replace("the client certificate", "the server's certificate").into()
        }
    };
    Some((name, meaning))
}

/// Returns the name and the meaning of an alert that a server sent.
fn explain_of_server(alert: AlertDescription) -> Option<(&'static str, &'static str)> {
    Some(match alert {
        AlertDescription::CloseNotify => ("close_notify", "it is done"),
        AlertDescription::UnexpectedMessage => {
            ("unexpected_message", "it got a message out of turn")
        }
        AlertDescription::BadRecordMac => ("bad_record_mac", "it could not verify a record"),
        AlertDescription::DecryptionFailed => {
            ("decryption_failed", "it could not decrypt a record")
        }
        AlertDescription::RecordOverflow => ("record_overflow", "it got a record that is too long"),
        AlertDescription::DecompressionFailure => {
            ("decompression_failure", "it could not decompress a record")
        }
        AlertDescription::HandshakeFailure => (
            "handshake_failure",
            "it accepts nothing that was offered, or wants a client certificate",
        ),
        AlertDescription::NoCertificate => ("no_certificate", "it has no certificate"),
        AlertDescription::BadCertificate => {
            ("bad_certificate", "the client certificate is bad or missing")
        }
        AlertDescription::UnsupportedCertificate => {
            ("unsupported_certificate", "the client certificate is of a kind it does not support")
        }
        AlertDescription::CertificateRevoked => {
            ("certificate_revoked", "the client certificate has been revoked")
        }
        AlertDescription::CertificateExpired => {
            ("certificate_expired", "the client certificate has expired")
        }
        AlertDescription::CertificateUnknown => {
            ("certificate_unknown", "it does not accept the client certificate")
        }
        AlertDescription::IllegalParameter => ("illegal_parameter", "it got an invalid value"),
        AlertDescription::UnknownCA => {
            ("unknown_ca", "it does not trust the authority of the client certificate")
        }
        AlertDescription::AccessDenied => ("access_denied", "it denies access"),
        AlertDescription::DecodeError => ("decode_error", "it could not read a message"),
        AlertDescription::DecryptError => {
            ("decrypt_error", "it could not verify a signature or the handshake")
        }
        AlertDescription::ExportRestriction => {
            ("export_restriction", "it follows an export restriction")
        }
        AlertDescription::ProtocolVersion => {
            ("protocol_version", "it speaks none of the offered versions of TLS")
        }
        AlertDescription::InsufficientSecurity => {
            ("insufficient_security", "it wants stronger cryptography than was offered")
        }
        AlertDescription::InternalError => ("internal_error", "it had an internal error"),
        AlertDescription::InappropriateFallback => {
            ("inappropriate_fallback", "it speaks a later version of TLS than was offered")
        }
        AlertDescription::UserCanceled => ("user_canceled", "it cancelled the connection"),
        AlertDescription::NoRenegotiation => ("no_renegotiation", "it does not renegotiate"),
        AlertDescription::MissingExtension => {
            ("missing_extension", "the offer lacks an extension that it needs")
        }
        AlertDescription::UnsupportedExtension => {
            ("unsupported_extension", "it got an extension that it did not ask for")
        }
        AlertDescription::CertificateUnobtainable => {
            ("certificate_unobtainable", "it could not fetch the client certificate")
        }
        AlertDescription::UnrecognisedName => {
            ("unrecognized_name", "it does not serve the name that was asked for")
        }
        AlertDescription::BadCertificateStatusResponse => {
            ("bad_certificate_status_response", "it got an invalid OCSP response")
        }
        AlertDescription::BadCertificateHashValue => {
            ("bad_certificate_hash_value", "the client certificate does not match its hash")
        }
        AlertDescription::UnknownPSKIdentity => {
            ("unknown_psk_identity", "it does not know the key that was offered")
        }
        AlertDescription::CertificateRequired => {
            ("certificate_required", "it wants a client certificate")
        }
        AlertDescription::NoApplicationProtocol => {
            ("no_application_protocol", "it speaks none of the offered application protocols")
        }
        AlertDescription::EncryptedClientHelloRequired => {
            ("ech_required", "it wants an encrypted ClientHello")
        }
        _ => return None,
    })
}
