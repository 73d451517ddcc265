//! A simulated endpoint: a machine with its reader, its writer and its driver.

use super::environment::{Network, NetworkEvent};
use super::rules::{CheckResult, Expectations, Model, rule};
use super::scenario::{
    EndId, EndpointConfig, MisplacedInput, Scenario as Life, ServerSetup, UserCall,
};
use super::targets::address;
use super::tls;
use crate::machine::{
    Actions, Attempt, AttemptId, Config, Fault, Input, Loan, Machine, RecvBuf, RecvPermit, Release,
    SendPermit, Transmit, Wake,
};

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) who: EndId,
    pub(super) machine: Machine,
    pub(super) model: Model,
    pub(super) setting: EndpointConfig,
    pub(super) server: ServerSetup,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// The permit of a background receive.
    pub(super) background_permit: Option<RecvPermit>,
    pub(super) lent: Option<Transmit>,
    /// The session, while it is lent.
    pub(super) loan: Option<Loan>,
    pub(super) recv_buf: RecvBuf,
    /// Whether data may have arrived since the last background receive, as with edge-triggered epoll.
    pub(super) pending_edge: bool,
    /// Whether queued ciphertext has to be sent.
    pub(super) wants_transmit: bool,
    /// Whether the machine uses TLS with its peer, from the start or since the upgrade.
    pub(super) secure: bool,
    /// Whether the wire carries records, those of TLS with the peer or with a proxy.
    pub(super) has_records: bool,
    /// The number of bytes read and accepted, since the upgrade if there was one.
    pub(super) read: u64,
    pub(super) accepted: u64,
    pub(super) cancelled: bool,
    /// Whether the program has closed or aborted.
    pub(super) closed_by_user: bool,
    /// Whether a connection was attached before.
    was_attached: bool,
    /// Whether a read has returned EOF or an error.
    pub(super) read_over: bool,
    pub(super) saw_eof: bool,
    /// Whether the EOF has not been verified yet.
    pub(super) unverified_eof: bool,
    pub(super) write_over: bool,
    /// The number of plaintext bytes accepted before the upgrade began.
    pub(super) plaintext: Option<u64>,
    latest: Option<AttemptId>,
}

#[derive(Debug)]
pub(super) enum Reader {
    Idle,
    Waits { woken: bool },
    Receives(RecvPermit),
    Ingests(RecvPermit),
    Takes(RecvPermit),
}

#[derive(Debug)]
pub(super) enum Writer {
    Idle,
    Waits { woken: bool },
    Sends(SendPermit),
    Seals { permit: SendPermit, woken: bool },
}

impl Endpoint {
    pub(super) fn new(who: EndId, scenario: &Life, secure: bool, net: &Network) -> Self {
        let setting = scenario.endpoints[who].clone();
        let mut plan = plan(&setting);
        plan.tls = secure.then(|| tls::setup(scenario.server));
        if let Some(proxy) = &scenario.proxy {
            proxy.apply(&mut plan);
        }
        Endpoint {
            who,
            machine: Machine::new(plan, net.now),
            model: Model::new(),
            setting,
            server: scenario.server,
            reader: Reader::Idle,
            writer: Writer::Idle,
            background_permit: None,
            lent: None,
            loan: None,
            recv_buf: RecvBuf::new(),
            pending_edge: false,
            wants_transmit: false,
            secure,
            has_records: secure || scenario.proxy.is_some(),
            read: 0,
            accepted: 0,
            cancelled: false,
            closed_by_user: false,
            was_attached: false,
            read_over: false,
            saw_eof: false,
            unverified_eof: false,
            write_over: false,
            plaintext: None,
            latest: None,
        }
    }

    pub(super) fn start(&mut self, net: &mut Network) -> CheckResult {
        let actions = self.machine.start(net.now);
        self.apply_actions(actions, net)
    }

    pub(super) fn handle(&mut self, input: Input<'_>, net: &mut Network) -> CheckResult {
        let actions = self.machine.handle(input, net.now);
        self.apply_actions(actions, net)
    }

    pub(super) fn user_call(&mut self, call: UserCall, net: &mut Network) -> CheckResult {
        match call {
            UserCall::Close => {
                self.closed_by_user = true;
                self.handle(Input::Close, net)
            }
            UserCall::Abort => {
                self.closed_by_user = true;
                self.handle(Input::Abort, net)
            }
            UserCall::AbortWrite => {
                self.closed_by_user = true;
                self.handle(Input::AbortWrite, net)
            }
            UserCall::CloseWrite => {
                let sending = matches!(self.writer, Writer::Sends(_) | Writer::Seals { .. });
                let before = self.machine.phase();
                self.handle(Input::CloseWrite, net)?;
                rule(
                    !sending || self.machine.phase() == before,
                    "a half-close waits for a write in progress",
                )
            }
            UserCall::CancelRead => {
                self.cancelled = true;
                self.handle(Input::CancelRead, net)
            }
            UserCall::StartTls => self.start_tls(net),
        }
    }

    pub(super) fn misplaced(
        &mut self,
        misplaced: MisplacedInput,
        net: &mut Network,
    ) -> CheckResult {
        match misplaced {
            MisplacedInput::TimerExpired => self.expire_timer(net),
            MisplacedInput::PartialResolved => {
                self.handle(Input::PartialResolved(&[address(2), address(5)]), net)
            }
            // Only if no lookup is pending; otherwise this would be its result.
            MisplacedInput::LookupFailed if self.machine.opened().is_some() => {
                self.handle(Input::Resolved(Err(Fault::Resolve)), net)
            }
            MisplacedInput::Attempted => {
                let Some(id) = self.latest else { return Ok(()) };
                let result = Err(Fault::Connect(111));
                self.handle(Input::Attempted { id, result }, net)
            }
            MisplacedInput::UpgradeReady if !self.machine.is_upgrade_pending() => {
                self.handle(Input::UpgradeReady, net)
            }
            MisplacedInput::Start => {
                let again = self.machine.start(net.now);
                rule(again.is_empty(), "a machine starts once")
            }
            MisplacedInput::LookupFailed | MisplacedInput::UpgradeReady => Ok(()),
        }
    }

    /// Reports that the timer may have expired.
    pub(super) fn expire_timer(&mut self, net: &mut Network) -> CheckResult {
        self.handle(Input::TimerExpired, net)?;
        if self.setting.close_timeout.is_zero() {
            // With a close timeout of zero, the next timer is due as soon as it is set.
            self.handle(Input::TimerExpired, net)?;
        }
        Model::check_timer(&self.machine, net.now)
    }

    pub(super) fn is_done(&self) -> bool {
        self.machine.outcome().is_some()
    }

    pub(super) fn is_wired(&self) -> bool {
        self.model.is_adopted() && !self.model.is_released()
    }

    // ------------------------------------------------------------- actions

    pub(super) fn apply_actions(&mut self, actions: Actions, net: &mut Network) -> CheckResult {
        net.trace.actions(self.who, &actions);
        self.model.check(&actions, &self.machine, self.expectations(), &self.setting.names)?;
        let Actions {
            wake,
            resolve,
            attempt,
            drive_recv,
            begin_handshake,
            transmit,
            shutdown_write,
            release,
            attach,
            // Attempts that are already scheduled still end; the machine ignores them.
            cancel_attempts: _,
            cancel_attempt: _,
            preamble: _,
        } = actions;
        if attach.is_some() && std::mem::replace(&mut self.was_attached, true) {
            net.reconnect();
        }
        self.wake(wake);
        if resolve {
            self.resolve(net);
        }
        if let Some(Attempt { id, address, .. }) = attempt {
            self.latest = Some(id);
            if let Some((after, result)) = address.and_then(|it| self.setting.names.fate(it)) {
                net.schedule(after, self.who, NetworkEvent::Attempted(id, result));
            }
        }
        self.pending_edge |= drive_recv;
        if begin_handshake {
            self.loan = self.machine.lend_to_begin();
        }
        if transmit {
            self.wants_transmit = true;
            if release.is_some() {
                // As far as the wire accepts them without blocking.
                net.send(self.who, &self.machine.take_final_records());
            }
        }
        if shutdown_write {
            net.wire.finish(self.who);
        }
        if let Some(how) = release {
            self.release(how, net)?;
        }
        if !self.secure && !self.machine.is_upgrade_pending() {
            // The upgrade failed or is complete.
            self.plaintext = None;
        }
        let is_limited = self.setting.connect_timeout.is_some() && self.machine.opened().is_none();
        let has_timer = self.machine.next_timer().is_some();
        rule(!is_limited || has_timer, "the connect timeout limits a connect")?;
        self.check_waiters()
    }

    fn wake(&mut self, wake: Wake) {
        if let (true, Reader::Waits { woken }) = (wake.readable, &mut self.reader) {
            *woken = true;
        }
        if let (true, Writer::Waits { woken } | Writer::Seals { woken, .. }) =
            (wake.writable, &mut self.writer)
        {
            *woken = true;
        }
    }

    fn release(&mut self, how: Release, net: &mut Network) -> CheckResult {
        match how {
            Release::Close => {
                if net.wire.close(self.who) {
                    net.corrupted = true;
                    let well = self.machine.outcome() == Some(Ok(()));
                    rule(!well, "a clean end leaves nothing unread")?;
                }
            }
            Release::Linger => net.wire.linger(self.who),
            Release::Reset => {
                net.corrupted = true;
                net.wire.reset(self.who);
                net.wire.linger(self.who);
            }
        }
        Ok(())
    }

    /// Finishes the program's code, and restores the session.
    pub(super) fn restore(&mut self, net: &mut Network) -> CheckResult {
        let Some(mut loan) = self.loan.take() else { return Ok(()) };
        loan.begin_handshake();
        net.trace.note(self.who, "restores the session", 0);
        if let Reader::Waits { woken } = &mut self.reader {
            // The driver wakes all waiters.
            *woken = true;
        }
        let over = self.is_done();
        let (discarded, actions) = self.machine.restore(loan, net.now);
        rule(
            discarded.is_none() || over || self.is_done(),
            "an open machine takes the session back",
        )?;
        self.apply_actions(actions, net)
    }

    fn resolve(&mut self, net: &mut Network) {
        let mut after = std::time::Duration::ZERO;
        for (place, answer) in self.setting.names.answers.iter().enumerate() {
            after += answer.after;
            net.schedule(after, self.who, NetworkEvent::PartialResolved(place));
        }
        match self.setting.names.ends {
            Some(Ok(then)) => net.schedule(after + then, self.who, NetworkEvent::Resolved(true)),
            Some(Err(then)) => net.schedule(after + then, self.who, NetworkEvent::Resolved(false)),
            None => {}
        }
    }

    pub(super) fn on_event(&mut self, event: NetworkEvent, net: &mut Network) -> CheckResult {
        net.trace.note(self.who, "gets a scheduled event", 0);
        match event {
            NetworkEvent::PartialResolved(place) => {
                let addresses = self.setting.names.answers[place].addresses();
                self.handle(Input::PartialResolved(&addresses), net)
            }
            NetworkEvent::Resolved(true) => self.handle(Input::Resolved(Ok(&[])), net),
            NetworkEvent::Resolved(false) => self.handle(Input::Resolved(Err(Fault::Resolve)), net),
            NetworkEvent::Attempted(id, result) => {
                self.handle(Input::Attempted { id, result }, net)
            }
        }
    }

    /// Checks that threads that were not woken have to wait.
    fn check_waiters(&mut self) -> CheckResult {
        if matches!(self.reader, Reader::Waits { woken: false }) {
            let nothing = self.machine.read_error().is_none();
            rule(nothing, "a waiting reader is woken when its read would fail")?;
        }
        match &self.writer {
            Writer::Waits { woken: false } => rule(
                self.machine.write_error().is_none(),
                "a waiting writer is woken when its write would fail",
            ),
            Writer::Seals { permit, woken: false } => rule(
                self.machine.permits_send(permit),
                "a writer that waits for room is woken when its permit is revoked",
            ),
            Writer::Idle
            | Writer::Waits { woken: true }
            | Writer::Sends(_)
            | Writer::Seals { woken: true, .. } => Ok(()),
        }
    }

    fn expectations(&self) -> Expectations {
        let receiving = match &self.reader {
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => {
                Some(self.machine.permits_recv(permit))
            }
            Reader::Idle | Reader::Waits { .. } => None,
        };
        let sending = match &self.writer {
            Writer::Sends(permit) | Writer::Seals { permit, .. } => {
                Some(self.machine.permits_send(permit))
            }
            Writer::Idle | Writer::Waits { .. } => None,
        };
        Expectations { tls: self.has_records, receiving, sending, lent: self.lent.is_some() }
    }
}

pub(super) fn plan(setting: &EndpointConfig) -> Config {
    Config {
        route: None,
        target: setting.names.target(),
        bind: setting.names.bind_address(),
        egress: setting.names.egress(),
        header_rules: None,
        tls: None,
        allow_half_open: setting.allow_half_open,
        connect_timeout: setting.connect_timeout,
        connect_deadline: None,
        close_timeout: setting.close_timeout,
    }
}
