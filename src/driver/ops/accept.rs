//! Makes a socket of a connection that a listener accepted.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::driver::connect::adopt::AdoptedStream;
use crate::driver::connection::connected_info::ConnectedInfo;
use crate::driver::connection::users::Users;
use crate::driver::connection::{
    Acceptance, Connection, ConnectionState, Establishing, SocketRegistry, TlsUse, UpgradeConfig,
};
use crate::driver::registry::{ClientKey, NotAdmitted, ScopeId, SlotId};
use crate::driver::sys::clock;
use crate::driver::sys::listen::Accepted;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::REGISTRATION_IS_PERMANENT;
use crate::egress::IngressRules;
use crate::error::Result;
use crate::info::{Endpoints, Timings};
use crate::machine::{Config, Machine, Target};
use crate::options::{SecureTransport, SocketOptions, TlsSide};
use crate::unix::Requested;

/// The options of accepted sockets.
#[derive(Clone, Debug)]
pub(crate) struct AcceptedOptions {
    pub(crate) socket: SocketOptions,
    /// The limit for a handshake, also that of an upgrade.
    pub(crate) handshake_timeout: Duration,
}

/// What is known of a connection when it is accepted.
pub(crate) struct AcceptedFrom {
    pub(crate) endpoints: Endpoints,
    /// The rules for the PROXY header with which the connection begins, if it does.
    pub(crate) header_rules: Option<Arc<IngressRules>>,
}

/// Where an accepted socket belongs.
pub(crate) struct AcceptContext<'a> {
    pub(crate) scope: Option<ScopeId>,
    /// The client, and the maximum number of its sockets.
    pub(crate) client: Option<(ClientKey, usize)>,
    /// The slot that was reserved, if there is a limit. The socket takes it.
    pub(crate) reserved: &'a mut Option<SlotId>,
}

impl Connection {
    /// Creates the socket of an accepted connection, with one handle. `tls` is for its start or for an upgrade. It
    /// begins when it is [registered](Self::register_accepted), and reports to `acceptance` when it has opened or has
    /// failed to.
    ///
    /// # Errors
    /// The TLS settings are invalid.
    pub(crate) fn accepted(
        accepted: Accepted,
        from: AcceptedFrom,
        options: &AcceptedOptions,
        registry: &Arc<SocketRegistry>,
        tls: Option<TlsSide>,
        acceptance: Option<&Weak<dyn Acceptance>>,
    ) -> Result<Arc<Self>> {
        let now = clock::now();
        let AcceptedFrom { endpoints, header_rules } = from;
        let (requested, target) = match (endpoints.remote, &accepted.unix) {
            (Some(remote), _) => (Requested::Address(remote.into()), Target::Address(remote)),
            (None, peer) => {
                let address = peer.as_ref().and_then(|peer| peer.address.clone());
                (Requested::unix(address), Target::Unix)
            }
        };
        let peer = accepted.unix.clone();
        let AcceptedOptions { socket: options, handshake_timeout } = options;
        let mut config = Config {
            // A client may half-close before it gets its answer.
            allow_half_open: options.allow_half_open.unwrap_or(!planted!(ServerNotHalfOpen)),
            connect_timeout: Some(*handshake_timeout),
            close_timeout: options.close_timeout,
            header_rules,
            ..Config::new(target)
        };
        let is_tls = options.secure_transport == SecureTransport::On;
        let upgrade = match tls {
            Some(tls) if is_tls => {
                config.tls = Some(tls.setup(&requested)?);
                None
            }
            Some(tls) => {
                let connect_timeout = Some(*handshake_timeout);
                Some(Box::new(UpgradeConfig { tls, connect_timeout, config: config.clone() }))
            }
            None => None,
        };
        let adopted = AdoptedStream::accepted(accepted);
        let mut establishing =
            Establishing { acceptance: acceptance.cloned(), ..Establishing::default() };
        // The event loop must register the wire before it is shared.
        let (machine, wire) = if REGISTRATION_IS_PERMANENT {
            establishing.adopted = Some(adopted);
            (Machine::new(config, now), None)
        } else {
            (Machine::established(config, now), Some(Arc::new(adopted.into_wire())))
        };
        let mut state = ConnectionState::new(machine);
        if is_tls {
            state.tls_use = TlsUse::FromStart;
        }
        if let Some(wire) = wire {
            state.wire.attach(wire);
            state.info = Some(ConnectedInfo::new(endpoints, &peer, Timings::default()));
        }
        if REGISTRATION_IS_PERMANENT || acceptance.is_some() {
            state.establishing = Some(Box::new(establishing));
        }
        state.extras.set_busy_poll(options.tcp.rare().busy_poll);
        state.users = Users::new(options.tcp.rare().blocking_receive);
        for (side, timeout) in
            [(Side::Read, options.read_timeout), (Side::Write, options.write_timeout)]
        {
            if timeout.is_some() {
                state.change_call_limit(side, |limit| limit.timeout = timeout);
            }
        }
        Ok(Arc::new(Connection::new(state, requested, registry, upgrade)))
    }

    /// Adds an accepted socket to its registry, and begins its handshake if it has one.
    pub(crate) fn register_accepted(
        self: &Arc<Self>,
        context: AcceptContext<'_>,
    ) -> std::result::Result<(), NotAdmitted> {
        self.fail_on_panic(|| {
            let mut state = self.state();
            // Under the lock, because other threads may close the socket as soon as the registry lists it.
            let AcceptContext { scope, client, reserved } = context;
            let slot =
                self.registry().admit_accepted(&Arc::downgrade(self), scope, client, *reserved)?;
            state.slot = Some(slot);
            // It is the socket's now, also if the rest panics.
            *reserved = None;
            let actions = state.machine.start(clock::now());
            drop(self.apply(state, actions));
            Ok(())
        })
    }

    /// Adds an accepted socket to a scope, unless it has closed.
    pub(crate) fn enter_scope(&self, id: ScopeId) {
        let state = self.state();
        if let Some(slot) = state.slot {
            self.registry().enter_scope(slot, id);
        }
    }

    /// Resets a connection that was not admitted.
    pub(crate) fn reset_unadmitted(&self) {
        let mut state = self.state();
        let taken = state.take_wire();
        let adopted = state.establishing.as_mut().and_then(|it| it.adopted.take());
        drop(state);
        let adopted = adopted.map(|adopted| Arc::new(adopted.into_wire()));
        for wire in [taken.wire, adopted].into_iter().flatten() {
            wire.reset_and_close();
        }
    }
}
