//! Selects the crypto provider of rustls.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::error::{Error, Result};

/// Returns the crypto provider: the one that the program installed, or else the built-in one.
pub(crate) fn provider() -> Result<Arc<CryptoProvider>> {
    select_provider(CryptoProvider::get_default())
}

fn select_provider(installed: Option<&Arc<CryptoProvider>>) -> Result<Arc<CryptoProvider>> {
    installed.cloned().or_else(built_in).ok_or_else(|| {
        Error::invalid_options(
            "no cryptography: enable the feature aws-lc-rs or ring, install a provider with \
             rustls::crypto::CryptoProvider::install_default, or set a complete rustls configuration",
        )
    })
}

/// Returns the built-in provider, always the same `Arc`, because the cache compares providers by address.
#[cfg(any(feature = "aws-lc-rs", feature = "ring"))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "aws-lc-rs")]
    use rustls::crypto::aws_lc_rs::default_provider;
    #[cfg(not(feature = "aws-lc-rs"))]
    use rustls::crypto::ring::default_provider;

    static BUILT_IN: once_cell::race::OnceBox<Arc<CryptoProvider>> =
        once_cell::race::OnceBox::new();
    Some(Arc::clone(BUILT_IN.get_or_init(|| Box::new(Arc::new(default_provider())))))
}

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
fn built_in() -> Option<Arc<CryptoProvider>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn an_installed_provider_takes_precedence_over_the_built_in_one() {
        let installed = Arc::new(rustls::crypto::ring::default_provider());
        assert!(Arc::ptr_eq(&select_provider(Some(&installed)).unwrap(), &installed));
        assert_eq!(
            select_provider(None).is_ok(),
            cfg!(any(feature = "aws-lc-rs", feature = "ring"))
        );
        match (select_provider(None), select_provider(None)) {
            (Ok(first), Ok(second)) => assert!(Arc::ptr_eq(&first, &second)),
            (first, _) => {
                let error = first.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                assert!(error.to_string().contains("no cryptography"), "{error}");
            }
        }
    }
}
