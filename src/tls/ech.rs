//! Encrypted Client Hello (RFC 9849).

#[cfg(feature = "aws-lc-rs")]
use rustls::client::EchConfig;
use rustls::client::EchMode;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs::hpke::ALL_SUPPORTED_SUITES;
#[cfg(feature = "aws-lc-rs")]
use rustls::pki_types::EchConfigListBytes;

use crate::error::{Error, Result};

/// Returns the mode that hides the server name with one of the configurations.
#[cfg(feature = "aws-lc-rs")]
pub(super) fn mode(list: &[u8]) -> Result<EchMode> {
    let list = EchConfigListBytes::from(list);
    let config = EchConfig::new(list, ALL_SUPPORTED_SUITES).map_err(|error| {
        Error::invalid_options(format!("ech_config_list can't be used: {}", describe(&error)))
    })?;
    Ok(EchMode::Enable(config))
}

#[cfg(feature = "aws-lc-rs")]
fn describe(error: &rustls::Error) -> &'static str {
    use rustls::{EncryptedClientHelloError, Error};

    match error {
        Error::InvalidEncryptedClientHello(EncryptedClientHelloError::NoCompatibleConfig) => {
            "it has no configuration that this side supports"
        }
        _ => "it is not a well-formed ECHConfigList",
    }
}

/// Fails: only aws-lc-rs has what ECH needs.
#[cfg(not(feature = "aws-lc-rs"))]
pub(super) fn mode(_list: &[u8]) -> Result<EchMode> {
    Err(Error::invalid_options("ech_config_list needs the feature aws-lc-rs"))
}
