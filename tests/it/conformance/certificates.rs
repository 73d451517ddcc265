//! The certificates of the scenarios, by their names there, newly signed under one private root.

use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::support::tls::{
    Authority, CertSpec, ServerSetup, authority, server_config, trust_only_names, with,
};

/// Trusts only the root, and expects a certificate for the dialled host.
pub fn trusted() -> TlsOptions {
    trust_only_names(authority())
}

/// Returns options with this mode that use [`trusted`].
pub fn options(mode: SecureTransport) -> SocketOptions {
    with(mode, trusted())
}

/// Returns settings with a certificate for `good.test` and `localhost`.
pub fn valid_cert() -> ServerSetup {
    server_config()
}

/// Returns settings with a certificate for 127.0.0.1 and ::1.
pub fn ip() -> ServerSetup {
    issued(&CertSpec::new(&["127.0.0.1", "::1"]))
}

/// Returns settings with a certificate for the DNS name "127.0.0.1".
pub fn iptext() -> ServerSetup {
    issued(&CertSpec::dns_name("127.0.0.1"))
}

/// Returns settings with a certificate for `other.test`.
pub fn wronghost() -> ServerSetup {
    issued(&CertSpec::new(&["other.test"]))
}

/// Returns settings with a certificate for every name directly below `wild.test`.
pub fn wild() -> ServerSetup {
    issued(&CertSpec::new(&["*.wild.test"]))
}

/// Returns settings with a certificate for `good.test` that has expired.
pub fn expired() -> ServerSetup {
    issued(&CertSpec::new(&["good.test"]).valid(2000, 2001))
}

/// Returns settings with a certificate for `good.test` that is signed by an untrusted authority.
pub fn unknownca() -> ServerSetup {
    ServerSetup::new(Authority::new().issues(&CertSpec::new(&["good.test"])))
}

fn issued(draft: &CertSpec) -> ServerSetup {
    ServerSetup::new(authority().issues(draft))
}
