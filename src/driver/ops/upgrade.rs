//! Upgrades a socket to TLS: its connection passes to a new socket. No byte received before the upgrade can be taken
//! for one received after it.
//!
//! The steps are, in order:
//!
//! 1. Check the state, so that misuse changes nothing.
//! 2. Take the writing turn, after the writes that began earlier.
//! 3. Tell the machine. From then on no thread receives, and a reader leaves the wire.
//! 4. Peek at the wire once. The peer has nothing to send before it has seen the ClientHello, or the go-ahead of a
//!    server. So any byte there was injected, or belongs to plaintext that the program should have read. Only a server
//!    that sent its go-ahead before may find a ClientHello, which stays on the wire for TLS. Through an `https` proxy,
//!    everything on the wire is decrypted first, and what is then unread counts.
//! 5. Pass the connection to the new socket. It sends the go-ahead, if there is one, before its handshake.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::driver::connection::eof::Observer;
use crate::driver::connection::monitor::IngestResult;
use crate::driver::connection::transfer::NewOwner;
use crate::driver::connection::{
    Connection, ConnectionState, StateGuard, TlsUse, Turn, UpgradeConfig,
};
use crate::driver::event_loop;
use crate::driver::sys::errno::fault_from_io;
use crate::driver::sys::io_bufs::SendBufs;
use crate::driver::sys::wake::Side;
use crate::driver::sys::wire::would_block_error;
use crate::driver::sys::{self, clock};
use crate::error::{Error, ErrorKind, Fault, Result, Step, TimerKind};
use crate::machine::{Input, Machine, TlsSetup, UpgradeError};
use crate::options::{TlsSide, client_setup};
use crate::tls::TlsOptions;

/// What an upgrade needs besides the socket.
struct Upgrade<'a> {
    config: &'a UpgradeConfig,
    setup: TlsSetup,
    /// The last plaintext of this side.
    preface: &'a [u8],
    /// Whether the peer may have sent its ClientHello already.
    accepts_hello: bool,
    deadline: Option<Instant>,
}

/// The maximum length of a go-ahead, in bytes.
const MAX_GO_AHEAD: usize = 4096;

impl Connection {
    /// Upgrades with the given settings of a client, or else with those of the socket's options.
    pub(crate) fn start_tls(self: &Arc<Self>, tls: Option<&TlsOptions>) -> Result<Arc<Connection>> {
        let prepare = |config: &UpgradeConfig| match (tls, &config.tls) {
            (None, side) => side.setup(self.requested()),
            (Some(tls), TlsSide::Client(_)) => client_setup(tls, self.requested()),
            (Some(_), TlsSide::Server(_)) => Err(Error::invalid_options(
                "start_tls_with has settings of a client, but server_tls makes this end the \
                     server",
            )),
        };
        self.prepare_upgrade(&[], prepare)
    }

    /// Upgrades with the settings of the socket's options, after it has sent `go_ahead`.
    pub(crate) fn start_tls_after(self: &Arc<Self>, go_ahead: &[u8]) -> Result<Arc<Connection>> {
        self.prepare_upgrade(go_ahead, |config| {
            if !(1..=MAX_GO_AHEAD).contains(&go_ahead.len()) {
                return Err(Error::invalid_options(format!(
                    "the go-ahead is {} bytes long, not 1 to {MAX_GO_AHEAD}",
                    go_ahead.len()
                )));
            }
            config.tls.setup(self.requested())
        })
    }

    fn prepare_upgrade(
        self: &Arc<Self>,
        preface: &[u8],
        prepare: impl FnOnce(&UpgradeConfig) -> Result<TlsSetup>,
    ) -> Result<Arc<Connection>> {
        self.check_process()?;
        event_loop::check_may_block()?;
        let Some(config) = self.upgrade_config() else {
            let mode = self.mode();
            return Err(invalid_state(format!(
                "cannot upgrade: secure_transport is {mode}, and must be starttls"
            )));
        };
        let begun = clock::now();
        let deadline = config.connect_timeout.and_then(|limit| begun.checked_add(limit));
        // Misuse is reported before invalid options.
        drop(self.check_upgradable(self.state())?);
        let setup = prepare(config)?;
        // A client that waits for a go-ahead has nothing to send. Without one, the server cannot know.
        let accepts_hello = preface.is_empty() && matches!(config.tls, TlsSide::Server(_));
        let upgrade = Upgrade { config, setup, preface, accepts_hello, deadline };
        self.fail_on_panic(|| self.upgrade(&upgrade))
    }

    fn upgrade(self: &Arc<Self>, upgrade: &Upgrade<'_>) -> Result<Arc<Connection>> {
        let mut claim = self.acquire_for_upgrade(upgrade.deadline)?;
        let turn = &mut claim.turn;
        turn.handle_input(Input::StartTls { accepts_hello: upgrade.accepts_hello });
        await_idle(turn);
        if turn.machine.is_upgrade_pending() {
            if let (true, Some(wire)) = (planted!(GoAheadBeforeCheck), turn.wire.cloned()) {
                let _ = wire.send(&SendBufs::One(upgrade.preface));
            }
            turn.lend(Connection::check_no_plaintext);
            // TLS with a proxy may have answered something since.
            while turn.machine.is_tls()
                && turn.machine.is_upgrade_pending()
                && !turn.machine.is_idle_for_upgrade()
            {
                await_idle(turn);
                turn.lend(Connection::check_no_plaintext);
            }
            if planted!(UpgradesTwice) {
                return Ok(self.complete_upgrade(claim, upgrade));
            }
        }
        if turn.machine.is_upgrade_pending() {
            return Ok(self.complete_upgrade(claim, upgrade));
        }
        Err(match turn.machine.upgrade_error() {
            Some(reason) => turn.upgrade_error(reason),
            None => turn.error_for(Fault::Closed),
        })
    }

    /// Takes the writing turn, after the connection is established and the earlier writes have ended.
    fn acquire_for_upgrade(
        self: &Arc<Self>,
        deadline: Option<Instant>,
    ) -> Result<UpgradeClaim<'_>> {
        let mut state = self.check_upgradable(self.state())?;
        state.tls_use = TlsUse::Upgrading;
        let error = loop {
            if let Some(reason) = state.machine.upgrade_error() {
                break state.upgrade_error(reason);
            }
            let free = !state.send.turn.is_held() || planted!(UpgradesTwice);
            if !state.is_opening() && free && state.writers_waiting == 0 {
                return Ok(UpgradeClaim { turn: Turn::take(self, state, Side::Write) });
            }
            let left = deadline.map(|at| at.saturating_duration_since(clock::now()));
            if left.is_some_and(|left| left.is_zero()) {
                let step = state.machine.step().unwrap_or(Step::Handshake);
                break Error::timed_out_call(TimerKind::Upgrade).during(step);
            }
            state = self.wait_changed(state, left);
        };
        state.end_upgrade();
        self.notify_waiters(&state);
        Err(error)
    }

    fn check_upgradable<'a>(&self, state: StateGuard<'a>) -> Result<StateGuard<'a>> {
        if state.is_upgrading() && !planted!(UpgradesTwice) {
            return Err(invalid_state("cannot upgrade: another thread is upgrading the socket"));
        }
        match state.machine.upgrade_error() {
            Some(reason) => Err(state.misuse_error(reason)),
            None => Ok(state),
        }
    }

    /// Peeks at the wire, which neither direction uses now.
    fn check_no_plaintext<'a>(self: &'a Arc<Self>, state: StateGuard<'a>) -> StateGuard<'a> {
        if state.machine.is_tls() {
            return self.check_nothing_unread(state);
        }
        if !state.machine.is_upgrade_pending() {
            return state;
        }
        let wire = state.wire.cloned().expect("an open connection has a wire");
        drop(state);
        let mut first = [0];
        let found = loop {
            match wire.peek(&mut first) {
                Ok(0) => {
                    let end = wire.classify_eof();
                    let (state, input) =
                        self.judge_eof_as_input(self.state(), end, Observer::Upgrade);
                    drop(state);
                    break Some(input);
                }
                Ok(_) => break Some(Input::UnexpectedPlaintext { first: first[0] }),
                Err(error) if error.kind() == would_block_error().kind() => break None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Even if the wire may be intact: only a wire that is known to be clean is passed on.
                Err(error) => break Some(Input::WireFailed(fault_from_io(&error))),
            }
        };
        let state = self.state();
        let state = match found {
            Some(input) => self.handle_input(state, input),
            None => state,
        };
        self.drop_wire_if_last(state, wire)
    }

    /// Decrypts what an `https` proxy has sent, and checks that nothing of it is the target's.
    fn check_nothing_unread<'a>(self: &'a Arc<Self>, mut state: StateGuard<'a>) -> StateGuard<'a> {
        while state.machine.is_upgrade_pending() && !state.machine.has_unread() {
            let wire = state.wire.cloned().expect("an open connection has a wire");
            drop(state);
            let result = self.ingest_available(&wire, Observer::Upgrade, None);
            let failure = match result {
                IngestResult::All | IngestResult::Some => None,
                IngestResult::Unable => wire.peek(&mut [0]).err(),
            };
            state = self.drop_wire_if_last(self.state(), wire);
            match (result, failure) {
                (IngestResult::All, _) => break,
                // Only a wire that is known to be clean is passed on.
                (IngestResult::Unable, Some(error)) if !is_passing(&error) => {
                    let input = Input::WireFailed(fault_from_io(&error));
                    state = self.handle_input(state, input);
                }
                (IngestResult::Some | IngestResult::Unable, _) => {}
            }
        }
        match state.machine.first_unread() {
            Some(first) if state.machine.is_upgrade_pending() => {
                self.handle_input(state, Input::UnexpectedPlaintext { first })
            }
            Some(_) | None => state,
        }
    }

    /// Passes the connection to a new socket.
    fn complete_upgrade(
        self: &Arc<Self>,
        mut claim: UpgradeClaim<'_>,
        upgrade: &Upgrade<'_>,
    ) -> Arc<Connection> {
        let Upgrade { config, setup, preface, deadline, .. } = upgrade;
        let now = clock::now();
        let state = &mut claim.turn;
        let proxy = state.machine.take_proxy_session();
        let actions = state.machine.handle(Input::UpgradeReady, now);
        let machine = Machine::upgraded(&config.config, setup, preface, proxy, *deadline, now);
        let mut upgraded = ConnectionState::new(machine);
        let taken = state.take_wire();
        if let Some(wire) = &taken.wire {
            upgraded.wire.attach(Arc::clone(wire));
        }
        upgraded.tls_use = TlsUse::FromStart;
        upgraded.info = state.info.clone();
        upgraded.extras = state.extras.inherited();
        upgraded.users = state.users;
        // The slot passes to the new socket as well.
        let slot = state.slot.take();
        let totals = state.totals();
        upgraded.slot = slot;
        // From here on the new socket gives the slot back, whatever happens.
        let upgraded = self.new_upgraded(upgraded);
        state.apply(actions);
        drop(claim);
        let socket = Arc::downgrade(&upgraded);
        let ends = slot.is_some_and(|slot| self.registry().transfer(slot, totals, socket));
        drop(self.transfer(taken, NewOwner::Socket(&upgraded)));
        upgraded.fail_on_panic(|| {
            let mut state = upgraded.state();
            let actions = state.machine.start(now);
            drop(upgraded.apply(state, actions));
            if ends {
                // The scope or the connector has ended since.
                upgraded.begin_close();
            }
        });
        upgraded
    }
}

/// Waits until no thread is at the wire of a pending upgrade.
fn await_idle(turn: &mut Turn<'_>) {
    let awaits_reader = !planted!(NoReaderAfterUpgradeCheck);
    while awaits_reader
        && turn.machine.is_upgrade_pending()
        && (!turn.machine.is_idle_for_upgrade() || turn.error_probe)
    {
        // A reader leaves the wire now, or the event loop takes the wire's error.
        turn.wait_changed(None);
    }
}

/// The writing turn of an upgrade. Writes that begin now wait until it is dropped.
struct UpgradeClaim<'a> {
    turn: Turn<'a>,
}

impl Drop for UpgradeClaim<'_> {
    fn drop(&mut self) {
        if !sys::is_run_failing() && !self.turn.connection().is_forked() {
            self.turn.lock();
            self.turn.end_upgrade();
        }
    }
}

impl ConnectionState {
    /// Returns the error of an upgrade that could not even begin.
    fn misuse_error(&self, reason: UpgradeError) -> Error {
        invalid_state(match reason {
            UpgradeError::AlreadyTls => "cannot upgrade: the connection uses TLS already",
            UpgradeError::Upgraded => "cannot upgrade: the socket was upgraded already",
            UpgradeError::Detached => "cannot upgrade: the connection was detached",
            UpgradeError::HalfClosed => "cannot upgrade: the write side is closed",
            UpgradeError::ReadCancelled => "cannot upgrade: reading was cancelled",
            UpgradeError::Closed => "cannot upgrade: this side has closed the socket",
            UpgradeError::PeerEnded | UpgradeError::Failed(_) => return self.upgrade_error(reason),
        })
    }

    /// Returns the error of an upgrade that was waiting.
    fn upgrade_error(&self, reason: UpgradeError) -> Error {
        match reason {
            UpgradeError::Closed => self.error_for(match self.machine.outcome() {
                Some(Err(fault)) => fault,
                Some(Ok(())) | None => Fault::Closed,
            }),
            UpgradeError::PeerEnded => Error::with_message(
                ErrorKind::Closed,
                "cannot upgrade: the peer has closed its write side",
            ),
            UpgradeError::Failed(fault) => self.error_for(fault),
            UpgradeError::AlreadyTls
            | UpgradeError::Upgraded
            | UpgradeError::Detached
            | UpgradeError::HalfClosed
            | UpgradeError::ReadCancelled => self.misuse_error(reason),
        }
    }
}

/// Returns whether an error says nothing about the wire.
fn is_passing(error: &io::Error) -> bool {
    [would_block_error().kind(), io::ErrorKind::Interrupted].contains(&error.kind())
}

fn invalid_state(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::with_message(ErrorKind::InvalidState, message)
}
