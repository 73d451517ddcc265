//! One end of a wire that is a machine, with whoever reads, writes, and keeps its connection meanwhile.

use super::model::{Check, Held, Model, rule};
use super::names::address;
use super::net::{Happening, Net};
use super::plan::{Command, Plan as Life, ServerSetting, Setting, Stray, Who};
use super::tls;
use super::wire::Came;
use crate::info::Phase;
use crate::machine::{
    Action, AttemptId, Config, Fault, Input, Loan, Machine, RecvBuf, RecvPermit, Release,
    SendPermit, Transmit,
};

#[derive(Debug)]
pub(super) struct Side {
    pub(super) who: Who,
    pub(super) machine: Machine,
    pub(super) model: Model,
    setting: Setting,
    server: ServerSetting,
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    /// Of who receives while nobody reads.
    pub(super) attendant: Option<RecvPermit>,
    pub(super) lent: Option<Transmit>,
    /// The session, while it runs foreign code.
    pub(super) loan: Option<Loan>,
    pub(super) recv_buf: RecvBuf,
    /// Something may have come that nobody has looked at since, where that is attended.
    pub(super) edge: bool,
    /// Somebody has to send what waits.
    pub(super) flushing: bool,
    /// Whether TLS is spoken, from the start or since the upgrade.
    pub(super) secure: bool,
    /// How much was read, and accepted for writing; since the upgrade, if there was one.
    pub(super) read: u64,
    pub(super) accepted: u64,
    pub(super) cancelled: bool,
    /// The program has closed or aborted.
    pub(super) left: bool,
    /// Reads have come to an end, or fail.
    pub(super) read_over: bool,
    pub(super) saw_end: bool,
    /// Nobody has looked yet whether that was right.
    pub(super) unproved_end: bool,
    pub(super) write_over: bool,
    /// How much plaintext there was when an upgrade began.
    pub(super) plaintext: Option<u64>,
    latest: Option<AttemptId>,
}

#[derive(Debug)]
pub(super) enum Reader {
    Nobody,
    Waits { told: bool },
    Receives(RecvPermit),
    Ingests(RecvPermit),
    Takes(RecvPermit),
}

#[derive(Debug)]
pub(super) enum Writer {
    Nobody,
    Waits { told: bool },
    Sends(SendPermit),
    Seals { permit: SendPermit, told: bool },
}

impl Side {
    pub(super) fn new(who: Who, life: &Life, secure: bool, net: &Net) -> Self {
        let setting = life.settings[who].clone();
        let mut plan = plan(&setting);
        plan.tls = secure.then(|| tls::setup(life.server));
        Side {
            who,
            machine: Machine::new(plan, net.now),
            model: Model::new(),
            setting,
            server: life.server,
            reader: Reader::Nobody,
            writer: Writer::Nobody,
            attendant: None,
            lent: None,
            loan: None,
            recv_buf: RecvBuf::new(),
            edge: false,
            flushing: false,
            secure,
            read: 0,
            accepted: 0,
            cancelled: false,
            left: false,
            read_over: false,
            saw_end: false,
            unproved_end: false,
            write_over: false,
            plaintext: None,
            latest: None,
        }
    }

    pub(super) fn start(&mut self, net: &mut Net) -> Check {
        let actions = self.machine.start(net.now).collect();
        self.absorb(actions, net)
    }

    pub(super) fn handle(&mut self, input: Input<'_>, net: &mut Net) -> Check {
        let actions = self.machine.handle(input, net.now).collect();
        self.absorb(actions, net)
    }

    pub(super) fn command(&mut self, command: Command, net: &mut Net) -> Check {
        match command {
            Command::Close => {
                self.left = true;
                self.handle(Input::Close, net)
            }
            Command::Abort => {
                self.left = true;
                self.handle(Input::Abort, net)
            }
            Command::AbortWriting => {
                self.left = true;
                self.handle(Input::AbortWrite, net)
            }
            Command::FinishWriting => {
                let sending = matches!(self.writer, Writer::Sends(_) | Writer::Seals { .. });
                let before = self.machine.phase();
                self.handle(Input::CloseWrite, net)?;
                rule(
                    !sending || self.machine.phase() == before,
                    "a half-close waits for what is being written",
                )
            }
            Command::CancelReading => {
                self.cancelled = true;
                self.handle(Input::CancelRead, net)
            }
            Command::StartTls => self.start_tls(net),
        }
    }

    pub(super) fn stray(&mut self, stray: Stray, net: &mut Net) -> Check {
        match stray {
            Stray::Deadline => self.keep_time(net),
            Stray::Answered => self.handle(Input::PartialResolved(&[address(2), address(5)]), net),
            // Only where it is not asked: the answer of another.
            Stray::Unresolved if self.machine.opened().is_some() => {
                self.handle(Input::Resolved(Err(Fault::Resolve)), net)
            }
            Stray::Attempted => {
                let Some(id) = self.latest else { return Ok(()) };
                let result = Err(Fault::Connect(111));
                self.handle(Input::Attempted { id, result }, net)
            }
            Stray::HandOver if !self.machine.is_upgrade_pending() => {
                self.handle(Input::UpgradeReady, net)
            }
            Stray::Start => {
                let again = self.machine.start(net.now).count();
                rule(again == 0, "a machine starts once")
            }
            Stray::Unresolved | Stray::HandOver => Ok(()),
        }
    }

    /// Says that a deadline may have come.
    pub(super) fn keep_time(&mut self, net: &mut Net) -> Check {
        self.handle(Input::TimerExpired, net)?;
        if self.setting.close_timeout.is_zero() {
            // Where nothing may take any time the next limit can be due as soon as it is set.
            self.handle(Input::TimerExpired, net)?;
        }
        Model::see_time(&self.machine, net.now)
    }

    pub(super) fn is_done(&self) -> bool {
        self.machine.outcome().is_some()
    }

    pub(super) fn is_wired(&self) -> bool {
        self.model.is_adopted() && !self.model.is_released()
    }

    /// As the driver does, which has made sure that nothing is being written.
    fn start_tls(&mut self, net: &mut Net) -> Check {
        let free = matches!(self.writer, Writer::Nobody | Writer::Waits { .. });
        let refused = self.machine.upgrade_error().is_some();
        let opened = self.machine.phase() == Phase::Open;
        let was_yielding = self.machine.is_upgrade_pending();
        self.handle(Input::StartTls, net)?;
        let begins = free && !refused && opened;
        rule(
            self.machine.is_upgrade_pending() == (begins || was_yielding),
            "an upgrade begins where nothing is in its way",
        )?;
        if begins {
            self.plaintext = Some(self.accepted);
        }
        Ok(())
    }

    /// Looks at the wire before an upgrade, where nobody is at it any more.
    pub(super) fn look(&mut self, net: &mut Net) -> Check {
        if !self.machine.is_idle_for_upgrade() {
            return Ok(());
        }
        rule(self.plaintext == Some(self.accepted), "nothing is written in an upgrade")?;
        match net.wire.peek(self.who) {
            Came::Bytes(_) => {
                self.handle(Input::UnexpectedPlaintext, net)?;
                rule(
                    self.machine.outcome() == Some(Err(Fault::UnreadPlaintext)),
                    "plaintext that is unread ends an upgrade",
                )
            }
            Came::End => self.handle(Input::WireEof, net),
            Came::Failed(fault) => self.handle(Input::WireFailed(fault), net),
            Came::Nothing => self.hand_over(net),
        }
    }

    fn hand_over(&mut self, net: &mut Net) -> Check {
        let plaintext = self.plaintext;
        self.handle(Input::UpgradeReady, net)?;
        self.plaintext = plaintext;
        self.model.see_upgraded(&self.machine)?;
        let limit = self.setting.connect_timeout;
        let deadline = limit.and_then(|limit| net.now.checked_add(limit));
        let setup = tls::setup(self.server);
        self.machine = Machine::upgrade(&plan(&self.setting), &setup, deadline, net.now);
        self.model = Model::upgrading();
        self.secure = true;
        (self.read, self.accepted) = (0, 0);
        // Who waited has asked in vain, and asks the new one.
        (self.reader, self.writer) = (Reader::Nobody, Writer::Nobody);
        (self.read_over, self.write_over) = (false, false);
        self.start(net)
    }

    // ------------------------------------------------------------- what has to be done

    pub(super) fn absorb(&mut self, actions: Vec<Action>, net: &mut Net) -> Check {
        for &action in &actions {
            net.trace.output(self.who, action);
        }
        self.model.see(&actions, &self.machine, self.held(), &self.setting.names)?;
        let release = actions.iter().find_map(|action| match action {
            Action::Release(how) => Some(*how),
            _ => None,
        });
        if release.is_some() && actions.contains(&Action::Transmit) {
            let farewell = self.machine.take_final_records();
            // As far as that goes at once.
            net.send(self.who, &farewell);
        }
        for action in actions {
            self.perform(action, net)?;
        }
        if !self.secure && !self.machine.is_upgrade_pending() {
            // It came to nothing.
            self.plaintext = None;
        }
        self.see_waiting()
    }

    fn perform(&mut self, action: Action, net: &mut Net) -> Check {
        match action {
            Action::Resolve => self.resolve(net),
            Action::Attempt { id, address } => {
                self.latest = Some(id);
                if let Some((after, result)) = self.setting.names.fate(address) {
                    net.later(after, self.who, Happening::Attempted(id, result));
                }
            }
            Action::ShutdownWrite => net.wire.finish(self.who),
            Action::DriveRecv => self.edge = true,
            Action::Transmit => self.flushing = true,
            Action::BeginHandshake => self.loan = self.machine.lend_to_begin(),
            Action::Release(Release::Close) => {
                if net.wire.close(self.who) {
                    net.harmed = true;
                    let well = self.machine.outcome() == Some(Ok(()));
                    rule(!well, "who ends well leaves nothing unread")?;
                }
            }
            Action::Release(Release::Linger) => net.wire.linger(self.who),
            Action::Release(Release::Reset) => {
                net.harmed = true;
                net.wire.reset(self.who);
                net.wire.linger(self.who);
            }
            Action::Readable => {
                if let Reader::Waits { told } = &mut self.reader {
                    *told = true;
                }
            }
            Action::Writable => {
                if let Writer::Waits { told } | Writer::Seals { told, .. } = &mut self.writer {
                    *told = true;
                }
            }
            // What is under way goes on, and nobody wants to hear of it.
            Action::Attach { .. }
            | Action::CancelAttempt { .. }
            | Action::CancelAttempts
            | Action::Opened
            | Action::Closed => {}
        }
        Ok(())
    }

    /// Foreign code runs to its end, and the session comes back.
    pub(super) fn restore(&mut self, net: &mut Net) -> Check {
        let Some(mut loan) = self.loan.take() else { return Ok(()) };
        loan.begin_handshake();
        net.trace.note(self.who, "gives the session back", 0);
        if let Reader::Waits { told } = &mut self.reader {
            // As the driver tells all who wait.
            *told = true;
        }
        let over = self.is_done();
        let (discarded, actions) = self.machine.restore(loan, net.now);
        let actions = actions.collect();
        rule(discarded.is_none() || over || self.is_done(), "there is a place for the session")?;
        self.absorb(actions, net)
    }

    fn resolve(&mut self, net: &mut Net) {
        let mut after = std::time::Duration::ZERO;
        for (place, answer) in self.setting.names.answers.iter().enumerate() {
            after += answer.after;
            net.later(after, self.who, Happening::Answered(place));
        }
        match self.setting.names.ends {
            Some(Ok(then)) => net.later(after + then, self.who, Happening::Resolved(true)),
            Some(Err(then)) => net.later(after + then, self.who, Happening::Resolved(false)),
            None => {}
        }
    }

    pub(super) fn happen(&mut self, happening: Happening, net: &mut Net) -> Check {
        net.trace.note(self.who, "happens", 0);
        match happening {
            Happening::Answered(place) => {
                let addresses = self.setting.names.answers[place].addresses();
                self.handle(Input::PartialResolved(&addresses), net)
            }
            Happening::Resolved(true) => self.handle(Input::Resolved(Ok(&[])), net),
            Happening::Resolved(false) => self.handle(Input::Resolved(Err(Fault::Resolve)), net),
            Happening::Attempted(id, result) => self.handle(Input::Attempted { id, result }, net),
        }
    }

    /// Who waits, and has not been told, waits rightly.
    fn see_waiting(&mut self) -> Check {
        if matches!(self.reader, Reader::Waits { told: false }) {
            let nothing = self.machine.read_error().is_none();
            rule(nothing, "who waits to read is told when that will fail")?;
        }
        match &self.writer {
            Writer::Waits { told: false } => rule(
                self.machine.write_error().is_none(),
                "who waits to write is told when that will fail",
            ),
            Writer::Seals { permit, told: false } => rule(
                self.machine.permits_send(permit),
                "who waits for room is told when there will be none",
            ),
            Writer::Nobody
            | Writer::Waits { told: true }
            | Writer::Sends(_)
            | Writer::Seals { told: true, .. } => Ok(()),
        }
    }

    fn held(&self) -> Held {
        let receiving = match &self.reader {
            Reader::Receives(permit) | Reader::Ingests(permit) | Reader::Takes(permit) => {
                Some(self.machine.permits_recv(permit))
            }
            Reader::Nobody | Reader::Waits { .. } => None,
        };
        let sending = match &self.writer {
            Writer::Sends(permit) | Writer::Seals { permit, .. } => {
                Some(self.machine.permits_send(permit))
            }
            Writer::Nobody | Writer::Waits { .. } => None,
        };
        Held { tls: self.secure, receiving, sending, lent: self.lent.is_some() }
    }
}

fn plan(setting: &Setting) -> Config {
    Config {
        target: setting.names.target(),
        bind: setting.names.bound(),
        egress: setting.names.egress(),
        tls: None,
        allow_half_open: setting.allow_half_open,
        connect_timeout: setting.connect_timeout,
        connect_deadline: None,
        close_timeout: setting.close_timeout,
    }
}
