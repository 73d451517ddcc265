//! Iterators over connections, and scopes.

use std::iter::FusedIterator;
use std::time::Duration;

use super::Listener;
use crate::Socket;
use crate::driver::{AcceptLimit, ScopeId};
use crate::error::Result;

/// Iterates over the connections of a listener. See [`Listener::incoming`].
#[derive(Debug)]
pub struct Incoming<'a> {
    listener: &'a Listener,
    scope: Option<ScopeId>,
    has_ended: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(listener: &'a Listener, scope: Option<ScopeId>) -> Self {
        Incoming { listener, scope, has_ended: false }
    }
}

impl Iterator for Incoming<'_> {
    type Item = Socket;

    fn next(&mut self) -> Option<Socket> {
        if self.has_ended {
            return None;
        }
        let limit = AcceptLimit { timeout: None, ignores_deadline: true };
        let next = self.listener.accept_in(limit, self.scope).ok();
        self.has_ended = next.is_none();
        next
    }
}

impl FusedIterator for Incoming<'_> {}

impl<'a> IntoIterator for &'a Listener {
    type Item = Socket;
    type IntoIter = Incoming<'a>;

    fn into_iter(self) -> Incoming<'a> {
        self.incoming()
    }
}

/// Accepts sockets that are closed when the scope ends. See [`Listener::scope`].
#[derive(Debug)]
pub struct ListenScope<'a> {
    listener: &'a Listener,
    id: ScopeId,
}

impl<'a> ListenScope<'a> {
    pub(super) fn new(listener: &'a Listener, id: ScopeId) -> Self {
        ListenScope { listener, id }
    }

    /// Accepts like [`Listener::accept`], within the scope.
    ///
    /// # Errors
    /// Those of [`Listener::accept`].
    pub fn accept(&self) -> Result<Socket> {
        self.listener.accept_in(AcceptLimit::default(), Some(self.id))
    }

    /// Accepts like [`Listener::accept_timeout`], within the scope.
    ///
    /// # Errors
    /// Those of [`Listener::accept_timeout`].
    pub fn accept_timeout(&self, limit: Duration) -> Result<Socket> {
        let limit = AcceptLimit { timeout: Some(limit), ..AcceptLimit::default() };
        self.listener.accept_in(limit, Some(self.id))
    }

    /// Iterates like [`Listener::incoming`], within the scope.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming::new(self.listener, Some(self.id))
    }
}

/// Ends the scope, also if the work panics.
impl Drop for ListenScope<'_> {
    fn drop(&mut self) {
        let registry = self.listener.inner.registry();
        // The sockets belong to the process that forked.
        if !registry.is_forked() {
            registry.end_scope(self.id);
        }
    }
}
