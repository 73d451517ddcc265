//! Opens a socket: its options become a machine, and the registry admits it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connect::resolver_pool;
use crate::driver::connect::thread_pool::LookupQuota;
use crate::driver::connection::users::Users;
use crate::driver::connection::{
    Connection, ConnectionState, Establishing, SocketRegistry, TlsUse, UpgradeConfig,
};
use crate::driver::event_loop::LoopHandle;
use crate::driver::registry::{Admission, ScopeId};
use crate::driver::sys::clock;
use crate::driver::sys::wake::Side;
use crate::egress::EgressRules;
use crate::error::{Error, Result};
use crate::machine::{Actions, Config, Machine, Route, Target};
use crate::options::{SecureTransport, SocketOptions};
use crate::proxy::Proxy;
use crate::resolver::Resolver;
use crate::unix::{Requested, UnixAddress};

/// Source of a socket's connection.
#[derive(Debug)]
pub(crate) enum Origin {
    /// Resolve the requested address if it is a name, then dial.
    Dial,
    /// Dial these addresses without a lookup.
    Addresses(Vec<SocketAddr>),
    /// Dial this Unix-domain address, which the egress rules allow.
    Unix(UnixAddress),
    /// Use this existing connection.
    Adopted(AdoptedStream),
}

/// Everything that opening a socket needs besides its options.
#[derive(Clone, Copy)]
pub(crate) struct ConnectContext<'a> {
    /// Resolver; `None` means that of the operating system.
    pub(crate) resolver: Option<&'a Arc<dyn Resolver>>,
    /// Egress rules; `None` allows everything.
    pub(crate) egress: Option<&'a Arc<EgressRules>>,
    pub(crate) registry: &'a Arc<SocketRegistry>,
    /// Limit on the lookups of the connector.
    pub(crate) lookup_quota: &'a Arc<LookupQuota>,
    pub(crate) scope: Option<ScopeId>,
    /// Proxy through which to dial.
    pub(crate) proxy: Option<&'a Proxy>,
}

impl Connection {
    /// Creates a socket with one handle, which starts to connect or adopts the given connection.
    pub(crate) fn connect(
        requested: Requested,
        options: SocketOptions,
        source: Origin,
        context: ConnectContext<'_>,
    ) -> Result<Arc<Self>> {
        let now = clock::now();
        let address = requested.as_socket_address();
        let target = target(&requested, &source, context.proxy);
        let route = match (context.proxy, &source) {
            (None, _) => None,
            (Some(proxy), Origin::Addresses(addresses)) => {
                Some(Route::to_any(proxy, address, addresses)?)
            }
            (Some(proxy), _) => Some(Route::new(proxy, address)?),
        };
        let has_lookup = target == Target::Host || route.as_ref().is_some_and(Route::has_lookup);
        let (adopted, addresses, unix) = match source {
            Origin::Dial => (None, None, None),
            Origin::Addresses(addresses) => (None, Some(addresses), None),
            Origin::Unix(address) => (None, None, Some(address)),
            Origin::Adopted(adopted) => (Some(adopted), None, None),
        };
        let tls = match options.secure_transport {
            SecureTransport::Off => None,
            SecureTransport::On | SecureTransport::StartTls => Some(options.tls_side()),
        };
        // Invalid settings fail before anything is sent, also those of a later upgrade.
        let setup = tls.as_ref().map(|tls| tls.setup(&requested)).transpose()?;
        // A Unix-domain address was judged before. The machine cannot, and would deny it.
        let judged = target == Target::Unix;
        let mut config = Config {
            target,
            route: None,
            bind: options.tcp.bind,
            egress: context.egress.filter(|_| !judged).cloned(),
            header_rules: None,
            tls: None,
            allow_half_open: options.allow_half_open.unwrap_or(false),
            connect_timeout: options.connect_timeout,
            connect_deadline: None,
            close_timeout: options.close_timeout,
        };
        let upgrade = match (tls, options.secure_transport) {
            (Some(tls), SecureTransport::StartTls) => Some(Box::new(UpgradeConfig {
                tls,
                connect_timeout: options.connect_timeout,
                config: config.clone(),
            })),
            (Some(_) | None, _) => None,
        };
        // The route and the connect deadline do not apply to an upgrade.
        config.route = route;
        config.connect_deadline = options.connect_deadline;
        if options.secure_transport == SecureTransport::On {
            config.tls = setup;
        }
        let mut state = ConnectionState::new(Machine::new(config, now));
        if options.secure_transport == SecureTransport::On {
            state.tls_use = TlsUse::FromStart;
        }
        state.extras.set_busy_poll(options.tcp.rare().busy_poll);
        state.users = Users::new(options.tcp.rare().blocking_receive);
        state.users.add_this_thread();
        state.establishing = Some(Box::new(Establishing {
            tcp: options.tcp,
            adopted,
            addresses,
            unix,
            egress: context.egress.cloned(),
            // User code: it may have to be dropped on a thread of its own.
            resolver: context.resolver.filter(|_| has_lookup).cloned(),
            is_nested: resolver_pool::is_nested(),
            lookup_quota: has_lookup.then(|| Arc::clone(context.lookup_quota)),
            proxy: context.proxy.cloned(),
            ..Establishing::default()
        }));
        let connection = Arc::new(Connection::new(state, requested, context.registry, upgrade));
        let timeouts = [(Side::Read, options.read_timeout), (Side::Write, options.write_timeout)];
        connection.fail_on_panic(|| connection.register(context, timeouts, now))?;
        Ok(connection)
    }

    /// Adds the socket to the registry, and starts it if it is admitted at once.
    fn register(
        self: &Arc<Self>,
        context: ConnectContext<'_>,
        timeouts: [(Side, Option<Duration>); 2],
        now: Instant,
    ) -> Result<()> {
        // Starting the event loop makes system calls and runs the program's logger, which the lock must not cover.
        let loop_handle = LoopHandle::get();
        let mut state = self.state();
        // Under the lock, because other threads may close the socket as soon as the registry lists it.
        let (slot, admission) = context.registry.admit(Arc::downgrade(self), context.scope)?;
        state.slot = Some(slot);
        for (side, timeout) in timeouts {
            if timeout.is_some() {
                state.change_call_limit(side, |limit| limit.timeout = timeout);
            }
        }
        let actions = match admission {
            Admission::Admitted => state.machine.start(now),
            // The event loop will start it when a slot is free, and fires its timer.
            Admission::Queued => match loop_handle {
                Ok(_) => Actions::default(),
                Err(fault) => return Err(Error::from_fault(fault)),
            },
        };
        drop(self.apply(state, actions));
        Ok(())
    }
}

/// Returns what the machine connects to: the proxy, if there is one.
fn target(requested: &Requested, source: &Origin, proxy: Option<&Proxy>) -> Target {
    match (requested, source, proxy) {
        (Requested::Unix(_), _, _) => Target::Unix,
        (Requested::Address(_), Origin::Addresses(_), None) => Target::Host,
        (Requested::Address(address), _, proxy) => {
            let dialled = proxy.map_or(address, Proxy::address);
            dialled.as_socket_addr().map_or(Target::Host, Target::Address)
        }
    }
}
