//! The certificates of the scenarios, by their names there: made afresh, under one private root.

use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::support::tls::{Authority, Draft, Terms, authority, terms, trusting_names, with};

/// Trusts nothing but the root; a certificate has to be for the host that is dialled.
pub fn trusted() -> TlsOptions {
    trusting_names(authority())
}

/// This mode, with what is [`trusted`].
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

/// For `good.test`, in a year that is long gone.
pub fn expired() -> Terms {
    issued(&Draft::new(&["good.test"]).valid(2000, 2001))
}

/// For `good.test`, of an authority that nobody trusts.
pub fn unknownca() -> Terms {
    Terms::new(Authority::new().issues(&Draft::new(&["good.test"])))
}

fn issued(draft: &Draft) -> Terms {
    Terms::new(authority().issues(draft))
}
