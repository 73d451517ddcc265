//! The versions, cipher suites and key exchange groups that a side of a connection allows.

use std::fmt::Write;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ProtocolVersion, SupportedProtocolVersion, version};

use super::info::TlsVersion;
use crate::error::{Error, Result};

/// Restrictions of what the crypto provider can do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) min_version: Option<TlsVersion>,
    pub(super) max_version: Option<TlsVersion>,
    /// IANA code points, preferred first.
    pub(super) cipher_suites: Option<Vec<u16>>,
    pub(super) groups: Option<Vec<u16>>,
}

impl Parameters {
    pub(super) fn check(&self) -> Result<()> {
        let (min, max) = self.range();
        if min > max {
            return Err(Error::invalid_options(format!(
                "min_version is {min}, above max_version, which is {max}"
            )));
        }
        Ok(())
    }

    /// Returns the allowed versions, and the provider without what is not allowed.
    pub(super) fn apply(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<(Arc<CryptoProvider>, Vec<&'static SupportedProtocolVersion>)> {
        self.check()?;
        let (min, max) = self.range();
        let versions: Vec<_> =
            [(TlsVersion::Tls12, &version::TLS12), (TlsVersion::Tls13, &version::TLS13)]
                .into_iter()
                .filter(|(version, _)| (min..=max).contains(version))
                .collect();
        if self.cipher_suites.is_none() && self.groups.is_none() {
            return Ok((Arc::clone(provider), versions.into_iter().map(|(_, it)| it).collect()));
        }
        let mut restricted = CryptoProvider::clone(provider);
        if let Some(wanted) = &self.cipher_suites {
            restricted.cipher_suites =
                pick("cipher suite", wanted, &provider.cipher_suites, |it| it.suite().into())?;
        }
        if let Some(wanted) = &self.groups {
            restricted.kx_groups =
                pick("key exchange group", wanted, &provider.kx_groups, |it| it.name().into())?;
        }
        for (version, rustls) in &versions {
            let wire_version = match version {
                TlsVersion::Tls12 => ProtocolVersion::TLSv1_2,
                TlsVersion::Tls13 => ProtocolVersion::TLSv1_3,
            };
            if !restricted.cipher_suites.iter().any(|suite| suite.version() == *rustls) {
                return Err(leaves_none("cipher_suites", *version, "cipher suite"));
            }
            if !restricted.kx_groups.iter().any(|group| group.usable_for_version(wire_version)) {
                return Err(leaves_none("key_exchange_groups", *version, "key exchange group"));
            }
        }
        Ok((Arc::new(restricted), versions.into_iter().map(|(_, it)| it).collect()))
    }

    fn range(&self) -> (TlsVersion, TlsVersion) {
        let min = self.min_version.unwrap_or(TlsVersion::Tls12);
        (min, self.max_version.unwrap_or(TlsVersion::Tls13))
    }
}

/// Returns what the provider has of the wanted code points, in their order.
fn pick<T: Copy>(
    what: &str,
    wanted: &[u16],
    available: &[T],
    code: impl Fn(&T) -> u16,
) -> Result<Vec<T>> {
    let mut picked: Vec<T> = Vec::new();
    for &wanted in wanted {
        let Some(found) = available.iter().find(|it| code(it) == wanted) else {
            let mut others = String::new();
            for it in available {
                // Writing to a string does not fail.
                let _ = write!(others, " {:#06x}", code(it));
            }
            return Err(Error::invalid_options(format!(
                "the crypto provider does not have the {what} {wanted:#06x}, but only{others}"
            )));
        };
        if !picked.iter().any(|it| code(it) == wanted) {
            picked.push(*found);
        }
    }
    Ok(picked)
}

fn leaves_none(setter: &str, version: TlsVersion, what: &str) -> Error {
    let remedy = match version {
        TlsVersion::Tls12 => "set min_version to TLS 1.3, or add one",
        TlsVersion::Tls13 => "set max_version to TLS 1.2, or add one",
    };
    Error::invalid_options(format!("{setter} leaves {version} without any {what}: {remedy}"))
}
