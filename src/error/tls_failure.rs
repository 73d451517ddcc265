//! The kinds of TLS failures.

/// Why TLS failed, for programs that act on it. The message of the [`Error`](crate::Error) says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailure {
    /// The peer did not speak TLS.
    NotTls,
    /// The certificate has expired, or that of an issuer.
    CertificateExpired,
    /// The certificate is not valid yet, or that of an issuer.
    CertificateNotYetValid,
    /// No trusted root has issued the certificate.
    UnknownIssuer,
    /// The certificate is for other names.
    NameMismatch,
    /// The certificate has been revoked, or no revocation list says that it has not.
    CertificateRevoked,
    /// A pin or a verifier of the program refused the certificate.
    CertificateRejected,
    /// The certificate cannot be used: malformed, an unsupported version, algorithm or extension, or a key too short.
    CertificateUnusable,
    /// The peer wants a client certificate, or refused the one it got. On a server: the client sent none.
    ClientCertificate,
    /// No common version, suite, group or ALPN protocol.
    NoCommonParameters,
    /// The peer sent an alert that fits none of the others.
    Alert,
    /// The peer broke the protocol.
    PeerMisbehaved,
    /// Something else, such as an end of the connection during the handshake.
    Other,
}
