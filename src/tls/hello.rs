//! Passes parts of the ClientHello from a server's configuration to the session that received it.
//!
//! rustls shows the ClientHello to the certificate resolver on the thread of the connection, but its unbuffered
//! connection returns nothing of it. In the other direction, the session shows its ClientHello to the tickets and to
//! the verifier of clients.

use std::cell::RefCell;
#[cfg(feature = "rustls-0_23")]
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
#[cfg(feature = "rustls-0_23")]
use rustls::server::{ClientHello, ResolvesServerCert};
#[cfg(feature = "rustls-0_23")]
use rustls::sign::CertifiedKey;

/// The part of a ClientHello that a session keeps, and the answer to it.
#[derive(Debug, Default)]
pub(crate) struct Hello {
    /// The server name in lower case, without a trailing dot.
    pub(crate) server_name: Option<Box<str>>,
    /// The leaf that the server presents. `None` if it has no certificate for this client.
    pub(crate) leaf: Option<Arc<CertificateDer<'static>>>,
    /// The reason why the certificate that was selected cannot be used.
    pub(crate) fault: Option<Box<str>>,
    /// The certificates behind the client's leaf, until the client has proven that it has the leaf's key.
    pub(super) client_chain: Vec<CertificateDer<'static>>,
}

thread_local! {
    static HELLO: RefCell<Option<Box<Hello>>> = const { RefCell::new(None) };
}

/// Runs `work`, in which `hello` is known. Returns also the ClientHello that is known afterwards: this one, or one
/// that a resolver received in `work`.
pub(crate) fn with_hello<R>(
    hello: Option<Box<Hello>>,
    work: impl FnOnce() -> R,
) -> (R, Option<Box<Hello>>) {
    // A resolver of the program may use another socket on this thread.
    let outer = Restore(replace(hello));
    let result = work();
    let hello = replace(None);
    drop(outer);
    (result, hello)
}

/// Puts back the ClientHello of the outer session, also after a panic.
struct Restore(Option<Box<Hello>>);

impl Drop for Restore {
    fn drop(&mut self) {
        replace(self.0.take());
    }
}

/// Returns `None` also while the thread's local values are destroyed. Then the session learns no name.
fn replace(hello: Option<Box<Hello>>) -> Option<Box<Hello>> {
    HELLO.try_with(|current| current.replace(hello)).ok().flatten()
}

/// Calls `use_it` with the ClientHello of the session that is being processed.
pub(super) fn with_current<R>(use_it: impl FnOnce(&mut Hello) -> R) -> Option<R> {
    let with =
        |current: &RefCell<Option<Box<Hello>>>| current.borrow_mut().as_deref_mut().map(use_it);
    HELLO.try_with(with).ok().flatten()
}

/// Reports a ClientHello and the answer to the session.
pub(super) fn report(
    server_name: Option<&str>,
    leaf: Option<Arc<CertificateDer<'static>>>,
    fault: Option<Box<str>>,
) {
    let server_name = server_name.map(normalize_server_name).map(String::into_boxed_str);
    replace(Some(Box::new(Hello { server_name, leaf, fault, client_chain: Vec::new() })));
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
        // The resolver consumes the ClientHello.
        let server_name = hello.server_name().map(str::to_owned);
        let key = self.0.resolve(hello);
        let leaf = key.as_ref().and_then(|key| key.cert.first()).cloned().map(Arc::new);
        report(server_name.as_deref(), leaf, None);
        key
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_session_does_not_disturb_the_outer_one() {
        let name = |hello: Option<Box<Hello>>| hello.and_then(|hello| hello.server_name);
        let ((), outer) = with_hello(None, || {
            report(Some("Outer.test."), None, None);
            let ((), inner) = with_hello(None, || report(Some("inner.test"), None, None));
            assert_eq!(name(inner).as_deref(), Some("inner.test"));
            let panicked =
                crate::panic::catch_panic(|| with_hello(None, || std::panic::panic_any(7)));
            assert!(panicked.is_none());
        });
        let ((), kept) = with_hello(outer, || ());
        assert_eq!(name(kept).as_deref(), Some("outer.test"));
    }
}
