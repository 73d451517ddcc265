//! Opens a listener: binds and listens, or adopts one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use super::take::canonical;
use super::{Counters, ListenSettings, ListenerInner, ListenerState, Opening};
use crate::driver::connection::SocketRegistry;
use crate::driver::connection::handle_count::HandleCount;
use crate::driver::connection::predictor::BlockPredictor;
use crate::driver::event_loop::{self, Command, LoopHandle, Urgency};
use crate::driver::registry::SocketLimit;
use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::errno::os_code;
use crate::driver::sys::listen::{ListenAddress, ListenSocket};
use crate::driver::sys::lock_order::{RankedCondvar, RankedMutex};
use crate::driver::sys::unix_domain::StdListener;
use crate::egress::{remember_listener, remember_unix_listener};
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Acceptor, AcceptorConfig};
use crate::unix::UnixAddress;

/// Everything that opening a listener needs besides its address.
#[derive(Debug)]
pub(crate) struct ListenConfig {
    pub(crate) bind: BindOptions,
    pub(crate) settings: ListenSettings,
    /// The limit of a registry of its own.
    pub(crate) max_open_sockets: Option<usize>,
    /// The registry of the connector that the listener shares.
    pub(crate) shared: Option<Arc<SocketRegistry>>,
}

impl ListenerInner {
    /// Listens on the first of these addresses that can be bound.
    ///
    /// # Errors
    /// `InvalidState` in a child that was forked from a process that used this crate; `Io`.
    pub(crate) fn listen(addresses: &[SocketAddr], config: ListenConfig) -> Result<Arc<Self>> {
        check_not_forked()?;
        let mut failed = None;
        for &address in addresses {
            match ListenSocket::bind(address, &config.bind) {
                Ok(socket) => return ListenerInner::start(socket, config, true),
                Err(error) => failed = Some(Error::from_listen(&address, error)),
            }
        }
        Err(failed.expect("the caller has at least one address"))
    }

    /// Listens on a Unix-domain address.
    ///
    /// # Errors
    /// Those of [`listen`](Self::listen).
    pub(crate) fn listen_unix(address: &UnixAddress, config: ListenConfig) -> Result<Arc<Self>> {
        check_not_forked()?;
        // Before bind(2): a path would outlive a listener that cannot start.
        let base = Base::new(&config)?;
        match ListenSocket::bind_unix(address, &config.bind) {
            Ok(socket) => ListenerInner::start_on(base, socket, config, true),
            Err(error) => Err(Error::from_listen(&address.text(), error)),
        }
    }

    /// Takes over a Unix-domain listener.
    pub(crate) fn adopt_unix(listener: StdListener, config: ListenConfig) -> Result<Arc<Self>> {
        let socket = ListenSocket::adopt_unix(listener, &config.bind.tcp)?;
        ListenerInner::start(socket, config, false)
    }

    /// Takes over a listener. Its queue may belong to other processes too.
    pub(crate) fn adopt(
        listener: std::net::TcpListener,
        config: ListenConfig,
    ) -> Result<Arc<Self>> {
        let socket = ListenSocket::adopt(listener, &config.bind.tcp)?;
        ListenerInner::start(socket, config, false)
    }

    fn start(socket: ListenSocket, config: ListenConfig, drains: bool) -> Result<Arc<Self>> {
        ListenerInner::start_on(Base::new(&config)?, socket, config, drains)
    }

    fn start_on(
        base: Base,
        socket: ListenSocket,
        config: ListenConfig,
        drains: bool,
    ) -> Result<Arc<Self>> {
        let failed = |error: std::io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        let ListenConfig { bind, settings, shared, .. } = config;
        let Base { registry, loop_handle } = base;
        let local = match socket.local_address().map_err(failed)? {
            ListenAddress::Ip(local) => ListenAddress::Ip(canonical_unless_unspecified(local)),
            unix @ ListenAddress::Unix(_) => unix,
        };
        let file = socket.file();
        let mut acceptor = AcceptorConfig::new(bind.backlog);
        acceptor.drains = drains;
        acceptor.close_timeout = settings.accepted.socket.close_timeout;
        let when_opened = settings.when_opened;
        let inner = Arc::new(ListenerInner {
            state: RankedMutex::new(ListenerState {
                acceptor: Acceptor::new(acceptor),
                socket: Some(Arc::new(socket)),
                ready: VecDeque::new(),
                next_clients: VecDeque::new(),
                opening: Opening::new(),
                uses: 0,
                accepters: 0,
                turn_held: false,
                parked: false,
                parker: Weak::new(),
                predictor: BlockPredictor::default(),
                reports_readiness: false,
                lacks_registration: false,
                is_readable: false,
                descriptor_freed: false,
                reservation: None,
                is_shrunk: false,
                is_draining: false,
                deadline: None,
                token: None,
                ticket: None,
                timer: None,
                counters: Counters::default(),
                starved_log: None,
                watches: None,
            }),
            turn_free: RankedCondvar::new(),
            changed: RankedCondvar::new(),
            handles: HandleCount::one(),
            registry,
            local: local.clone(),
            server_tls: RankedMutex::new(None),
            owns_queue: drains,
            settings,
            #[cfg(test)]
            panics: false.into(),
        });
        match &local {
            ListenAddress::Ip(local) => remember_listener(*local),
            ListenAddress::Unix(Some(address)) => remember_unix_listener(address, file),
            ListenAddress::Unix(None) => {}
        }
        if let Some(connector) = shared {
            if let Err(error) = connector.add_listener(inner.acceptance()) {
                inner.drop_handle();
                return Err(error);
            }
        }
        if when_opened {
            loop_handle.post(Command::UpdateInterest(inner.source()), Urgency::Now);
        }
        Ok(inner)
    }
}

/// What a listener needs besides its socket.
struct Base {
    registry: Arc<SocketRegistry>,
    /// The event loop closes sockets in the background, and opens them.
    loop_handle: &'static LoopHandle,
}

impl Base {
    fn new(config: &ListenConfig) -> Result<Self> {
        let registry = Arc::new(match &config.shared {
            Some(connector) => SocketRegistry::of_shared(connector),
            None => {
                let wait = config.settings.wait_at_limit;
                SocketRegistry::new(SocketLimit { max: config.max_open_sockets, wait })
            }
        });
        registry.check_fork_handler()?;
        let loop_handle = LoopHandle::get().map_err(Error::from_fault)?;
        Ok(Base { registry, loop_handle })
    }
}

fn check_not_forked() -> Result<()> {
    if event_loop::is_forked_child() {
        let message = "cannot listen in a forked child: bind before the fork, and adopt the listener in the child";
        return Err(Error::with_message(ErrorKind::InvalidState, message));
    }
    Ok(())
}

/// Returns the canonical address. `::` stays, because it listens on more than the unspecified IPv4 address does.
fn canonical_unless_unspecified(local: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() { local } else { canonical(local) }
}
