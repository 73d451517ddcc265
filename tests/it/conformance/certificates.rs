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

/// For `good.test` and `localhost`.
pub fn good() -> Terms {
    terms()
}

/// For 127.0.0.1 and ::1.
pub fn ip() -> Terms {
    issued(&Draft::new(&["127.0.0.1", "::1"]))
}

/// For a DNS name that spells 127.0.0.1.
pub fn iptext() -> Terms {
    issued(&Draft::dns_name("127.0.0.1"))
}

/// For `other.test`.
pub fn wronghost() -> Terms {
    issued(&Draft::new(&["other.test"]))
}

/// For every name right under `wild.test`.
pub fn wild() -> Terms {
    issued(&Draft::new(&["*.wild.test"]))
}

/// For `good.test`, in a past year.
pub fn expired() -> Terms {
    issued(&Draft::new(&["good.test"]).valid(2000, 2001))
}

/// For `good.test`, signed by an untrusted authority.
pub fn unknownca() -> Terms {
    Terms::new(Authority::new().issues(&Draft::new(&["good.test"])))
}

fn issued(draft: &Draft) -> Terms {
    Terms::new(authority().issues(draft))
}
