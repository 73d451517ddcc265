//! Passes parts of the ClientHello from a server's configuration to the session that received it.
//!
//! rustls shows the ClientHello to the certificate resolver on the thread of the connection, but its unbuffered
//! connection returns nothing of it.

use std::cell::RefCell;
#[cfg(feature = "rustls-0_23")]
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::ClientHello;
#[cfg(feature = "rustls-0_23")]
use rustls::server::ResolvesServerCert;
#[cfg(feature = "rustls-0_23")]
use rustls::sign::CertifiedKey;

/// The part of a ClientHello that a session keeps, and the answer to it.
#[derive(Debug)]
pub(crate) struct Hello {
    /// The server name in lower case, without a trailing dot.
    pub(crate) server_name: Option<Box<str>>,
    /// The leaf that the server presents. `None` if it has no certificate for this client.
    pub(crate) leaf: Option<Arc<CertificateDer<'static>>>,
}

thread_local! {
    static HELLO: RefCell<Option<Box<Hello>>> = const { RefCell::new(None) };
}

/// Runs `work`. Returns also the ClientHello that a resolver received in it.
pub(crate) fn with_hello<R>(work: impl FnOnce() -> R) -> (R, Option<Box<Hello>>) {
    // A panic may have left one.
    HELLO.take();
    let result = work();
    (result, HELLO.take())
}

/// Reports a ClientHello and the leaf of the answer to the session.
pub(super) fn report(hello: &ClientHello<'_>, leaf: Option<Arc<CertificateDer<'static>>>) {
    let server_name = hello.server_name().map(normalize_server_name).map(String::into_boxed_str);
    HELLO.set(Some(Box::new(Hello { server_name, leaf })));
}

/// Returns a server name in lower case and without a trailing dot.
pub(super) fn normalize_server_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// A resolver of the program, which reports what it sees.
#[cfg(feature = "rustls-0_23")]
pub(super) struct ReportingResolver(pub(super) Arc<dyn ResolvesServerCert>);

#[cfg(feature = "rustls-0_23")]
impl ResolvesServerCert for ReportingResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The resolver consumes the ClientHello, so the name is reported first.
        report(&hello, None);
        let key = self.0.resolve(hello)?;
        let leaf = key.cert.first().cloned().map(Arc::new);
        HELLO.with_borrow_mut(|reported| {
            if let Some(reported) = reported {
                reported.leaf = leaf;
            }
        });
        Some(key)
    }

    fn only_raw_public_keys(&self) -> bool {
        self.0.only_raw_public_keys()
    }
}

#[cfg(feature = "rustls-0_23")]
impl fmt::Debug for ReportingResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
