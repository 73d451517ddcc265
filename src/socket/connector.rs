//! Connecting under common rules.

use std::fmt;
use std::sync::{Arc, LazyLock};

use super::{Handle, Socket};
use crate::address::SocketAddress;
use crate::driver::Shared;
use crate::error::{Error, Result};
use crate::options::SocketOptions;
use crate::resolver::Resolver;

/// Connects under common rules: its resolver. Cheap to clone. The free functions use a
/// [default one](Self::global). Dropping the last clone does not end its sockets.
#[derive(Clone, Debug)]
#[doc(alias("Dialer"))]
pub struct Connector {
    rules: Arc<Rules>,
}

struct Rules {
    /// The operating system's where there is none.
    resolver: Option<Arc<dyn Resolver>>,
}

impl Connector {
    /// A connector with other rules than the default one.
    #[must_use]
    pub fn builder() -> ConnectorBuilder {
        ConnectorBuilder::default()
    }

    /// The one that the free functions use.
    #[must_use]
    pub fn global() -> &'static Connector {
        static GLOBAL: LazyLock<Connector> =
            LazyLock::new(|| Connector { rules: Arc::new(Rules { resolver: None }) });
        &GLOBAL
    }

    /// Starts a connection with default options and returns its socket at once, still connecting.
    ///
    /// # Errors
    /// As [`connect`](crate::connect).
    pub fn connect<A>(&self, address: A) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        self.connect_with(address, SocketOptions::new())
    }

    /// [`connect`](Self::connect) with options.
    ///
    /// # Errors
    /// As [`connect_with`](crate::connect_with).
    pub fn connect_with<A>(&self, address: A, options: SocketOptions) -> Result<Socket>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        let address = address.try_into().map_err(Error::from)?;
        address.check_port()?;
        options.check()?;
        let shared = Shared::connect(address, options, self.rules.resolver.clone())?;
        Ok(Socket { handle: Handle::first(shared) })
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolver = if self.resolver.is_some() { "own" } else { "system" };
        f.debug_struct("Rules").field("resolver", &resolver).finish()
    }
}

/// Builds a [`Connector`].
#[derive(Default)]
pub struct ConnectorBuilder {
    resolver: Option<Arc<dyn Resolver>>,
}

impl ConnectorBuilder {
    /// What turns names into addresses. Default: the operating system's, on a bounded pool of threads.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// The connector.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for rules that can't be; there are none yet.
    pub fn build(self) -> Result<Connector> {
        Ok(Connector { rules: Arc::new(Rules { resolver: self.resolver }) })
    }
}

impl fmt::Debug for ConnectorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorBuilder").finish_non_exhaustive()
    }
}
