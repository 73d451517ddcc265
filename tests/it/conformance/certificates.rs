//! The certificates of the scenarios, by their names there, newly signed under one private root.

use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::support::tls::{Authority, Draft, Terms, authority, terms, trusting_names, with};

/// Trusts only the root, and expects a certificate for the dialled host.
pub fn trusted() -> TlsOptions {
    trusting_names(authority())
}

/// Returns options with this mode that use [`trusted`].
pub fn options(mode: SecureTransport) -> SocketOptions {
    with(mode, trusted())
}

/// Returns settings with a certificate for `good.test` and `localhost`.
pub fn good() -> Terms {
    terms()
}

/// Returns settings with a certificate for 127.0.0.1 and ::1.
pub fn ip() -> Terms {
    issued(&Draft::new(&["127.0.0.1", "::1"]))
}

/// Returns settings with a certificate for the DNS name "127.0.0.1".
pub fn iptext() -> Terms {
    issued(&Draft::dns_name("127.0.0.1"))
}

/// Returns settings with a certificate for `other.test`.
pub fn wronghost() -> Terms {
    issued(&Draft::new(&["other.test"]))
}

/// Returns settings with a certificate for every name directly below `wild.test`.
pub fn wild() -> Terms {
    issued(&Draft::new(&["*.wild.test"]))
}

/// Returns settings with a certificate for `good.test` that has expired.
pub fn expired() -> Terms {
    issued(&Draft::new(&["good.test"]).valid(2000, 2001))
}

/// Returns settings with a certificate for `good.test` that is signed by an untrusted authority.
pub fn unknownca() -> Terms {
    Terms::new(Authority::new().issues(&Draft::new(&["good.test"])))
}

fn issued(draft: &Draft) -> Terms {
    Terms::new(authority().issues(draft))
}
