//! Whether a server asks for certificates.

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias("requestCert", "ClientAuthType", "mTLS"))]
pub enum ClientAuth {
    /// Does not ask.
    #[default]
    None,
    /// Asks. A client without a certificate is accepted; an invalid certificate is refused.
    Optional,
    /// Asks and insists. Over TLS 1.3, a client may learn of the refusal only after its own handshake is done.
    Required,
}
