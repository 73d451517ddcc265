//! Reads certificates and private keys from PEM (RFC 7468), with errors that name the faulty part.

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys, RootCertStore};

use crate::error::{Error, Result};

/// Parses all certificates of the text. There is at least one, and each can be a root.
pub(super) fn roots(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let roots = certificates(text)?;
    for (place, root) in (1..).zip(&roots) {
        if let Err(error) = RootCertStore::empty().add(root.clone()) {
            let fault = certificate_error(error);
            return Err(Error::invalid_options(format!(
                "certificate {place} of the PEM text can't be used as a root: {fault}"
            )));
        }
    }
    Ok(roots)
}

/// A client's certificate chain, leaf first and not empty, and its private key.
#[derive(PartialEq, Eq)]
pub(super) struct ClientAuth {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl ClientAuth {
    pub(super) fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Ok(ClientAuth { chain: certificates(chain)?, key: private_key(key)? })
    }

    /// Converts to the rustls type. Parses the key and checks that it belongs to the leaf.
    pub(super) fn certified_key(&self, provider: &CryptoProvider) -> Result<CertifiedKey> {
        CertifiedKey::from_der(self.chain.clone(), self.key.clone_key(), provider).map_err(
            |error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    Error::invalid_options(
                        "the private key does not belong to the client certificate",
                    )
                }
                rustls::Error::InvalidCertificate(_) => {
                    let fault = certificate_error(error);
                    Error::invalid_options(format!("the client certificate can't be used: {fault}"))
                }
                error => Error::invalid_options(format!("the private key can't be used: {error}")),
            },
        )
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let mut found = Vec::new();
    for (place, certificate) in (1..).zip(CertificateDer::pem_slice_iter(text)) {
        found.push(certificate.map_err(|error| {
            let fault = pem_error(&error);
            Error::invalid_options(format!(
                "certificate {place} of the PEM text is broken: {fault}"
            ))
        })?);
    }
    if found.is_empty() {
        return Err(Error::invalid_options("no certificate in the PEM text"));
    }
    Ok(found)
}

/// Parses a private key. The errors quote nothing of the text, because it is a secret.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        // In PKCS #8 this is in the section label; in the older formats, in a header.
        if text.windows(9).any(|window| window == b"ENCRYPTED") {
            return Error::invalid_options("the private key is encrypted, which is not supported");
        }
        match error {
            pem::Error::NoItemsFound => Error::invalid_options("no private key in the PEM text"),
            error => {
                let fault = pem_error(&error);
                Error::invalid_options(format!("the private key is not valid PEM: {fault}"))
            }
        }
    })
}

fn pem_error(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::MissingSectionEnd { .. } => "its end is missing",
        pem::Error::IllegalSectionStart { .. } => "its first line is malformed",
        pem::Error::Base64Decode(_) => "its base64 is malformed",
        pem::Error::SectionTooLarge => "it is too large",
        _ => "it is malformed",
    }
}

fn certificate_error(error: rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            String::from("it is not well-formed")
        }
        rustls::Error::InvalidCertificate(fault) => fault.to_string(),
        error => error.to_string(),
    }
}
