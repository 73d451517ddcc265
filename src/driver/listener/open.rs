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
use crate::driver::sys::errno::os_code;
use crate::driver::sys::listen::{BindOptions, ListenSocket};
use crate::driver::sys::lock_order::{RankedCondvar, RankedMutex};
use crate::egress::remember_listener;
use crate::error::{Error, ErrorKind, Fault, Result};
use crate::machine::{Acceptor, AcceptorConfig};

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
        if event_loop::is_forked_child() {
            let message = "cannot listen in a forked child: bind before the fork, and adopt the listener in the child";
            return Err(Error::with_message(ErrorKind::InvalidState, message));
        }
        let mut failed = None;
        for &address in addresses {
            match ListenSocket::bind(address, &config.bind) {
                Ok(socket) => return ListenerInner::start(socket, config, true),
                Err(error) => failed = Some(Error::from_listen(address, error)),
            }
        }
        Err(failed.expect("the caller has at least one address"))
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
        let failed = |error: std::io::Error| Error::from_fault(Fault::Io(os_code(&error)));
        let ListenConfig { bind, settings, max_open_sockets, shared } = config;
        let local = canonical_unless_unspecified(socket.local_addr().map_err(failed)?);
        let registry = Arc::new(match &shared {
            Some(connector) => SocketRegistry::of_shared(connector),
            None => {
                let wait = settings.wait_at_limit;
                SocketRegistry::new(SocketLimit { max: max_open_sockets, wait })
            }
        });
        registry.check_fork_handler()?;
        // The event loop closes sockets in the background, and opens them.
        let loop_handle = LoopHandle::get().map_err(Error::from_fault)?;
        let mut acceptor = AcceptorConfig::new(bind.backlog);
        acceptor.drains = drains;
        acceptor.close_timeout = settings.accepted.socket.close_timeout;
        let when_opened = settings.when_opened;
        let inner = Arc::new(ListenerInner {
            state: RankedMutex::new(ListenerState {
                acceptor: Acceptor::new(acceptor),
                socket: Some(Arc::new(socket)),
                ready: VecDeque::new(),
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
            }),
            turn_free: RankedCondvar::new(),
            changed: RankedCondvar::new(),
            handles: HandleCount::one(),
            registry,
            local,
            server_tls: RankedMutex::new(None),
            owns_queue: drains,
            settings,
            #[cfg(test)]
            panics: false.into(),
        });
        remember_listener(local);
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

/// Returns the canonical address. `::` stays, because it listens on more than the unspecified IPv4 address does.
fn canonical_unless_unspecified(local: SocketAddr) -> SocketAddr {
    if local.ip().is_unspecified() { local } else { canonical(local) }
}
