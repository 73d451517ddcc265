//! Runs machines with random inputs, and checks the rules that hold for all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scenarios::address;
use crate::egress::EgressRules;
use crate::info::Phase;
use crate::machine::{
    Actions, Attempt, AttemptId, Config, Endpoints, Fault, Input, Machine, ReadStep, RecvEvent,
    RecvPermit, Release, SendEvent, SendPermit, Target, UpgradeError, Wake, WriteStep,
};

const LIVES: u64 = 30_000;
const STEPS: usize = 40;

#[test]
fn every_rule_holds_for_random_inputs() {
    for seed in 0..LIVES {
        let life = std::panic::catch_unwind(|| Scenario::new(seed).run());
        assert!(life.is_ok(), "seed {seed} violated a rule");
    }
}

/// A machine, and the observations of it so far.
struct Scenario {
    random: fastrand::Rng,
    machine: Machine,
    egress: Option<Arc<EgressRules>>,
    now: Instant,
    attempt: Option<AttemptId>,
    receiving: Option<RecvPermit>,
    sending: Option<SendPermit>,
    phase: Phase,
    opened: u32,
    adopted: bool,
    closed: u32,
    released: bool,
    detached: bool,
    shut: bool,
    reader_told: bool,
    writer_told: bool,
    outcome: Option<Result<(), Fault>>,
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let now = Instant::now();
        let target = if random.bool() { Target::Host } else { Target::Address(address(1)) };
        let mut config = Config::new(target);
        let denied = address(random.u8(1..=3)).ip().to_string();
        let policy = EgressRules::allow_all().deny_net(&denied).expect("a valid address");
        config.egress = Some(Arc::new(policy));
        let egress = config.egress.clone();
        config.allow_half_open = random.bool();
        Scenario {
            random,
            machine: Machine::new(config, now),
            egress,
            now,
            attempt: None,
            receiving: None,
            sending: None,
            phase: Phase::Connecting,
            opened: 0,
            adopted: false,
            closed: 0,
            released: false,
            detached: false,
            shut: false,
            reader_told: false,
            writer_told: false,
            outcome: None,
        }
    }

    fn run(mut self) {
        let actions = self.machine.start(self.now);
        self.see(actions);
        for _ in 0..STEPS {
            self.step();
        }
        // A close ends every run, once all permits are returned.
        let actions = self.machine.handle(Input::Close, self.now);
        self.see(actions);
        self.give_back_recv(RecvEvent::Cancelled);
        self.give_back_send(SendEvent::Cancelled);
        assert_eq!(self.machine.phase(), Phase::Closed);
        assert_eq!((self.opened, self.closed), (1, 1));
        let is_left = self.released || self.detached;
        assert_eq!(is_left, self.adopted, "an attached wire is released once, or detached");
        assert_eq!(self.machine.next_timer(), None);
    }

    fn step(&mut self) {
        let id = self.attempt.unwrap_or(AttemptId(0));
        let answer = [address(1), address(2)];
        let fault = Fault::Reset(None);
        let input = match self.random.u8(0..20) {
            0 => Input::Resolved(Ok(&answer)),
            1 => Input::Resolved(Err(Fault::Resolve)),
            2..=4 => {
                let result = Ok(Endpoints::new(address(1), None));
                Input::Attempted { id, result }
            }
            5 => Input::Attempted { id, result: Err(Fault::Connect(111)) },
            6 => {
                self.now += Duration::from_secs(self.random.u64(0..40));
                Input::TimerExpired
            }
            7 => Input::WireEof,
            8 => Input::WireFailed(fault),
            9 if self.random.bool() => Input::Close,
            10 if self.random.bool() => Input::Abort,
            11 if self.random.bool() => Input::AbortWrite,
            12 => Input::CloseWrite,
            13 => Input::CancelRead,
            14 => return self.ask_to_read(),
            15 => return self.ask_to_write(),
            16 => return self.give_back_recv(RecvEvent::Eof),
            17 => return self.give_back_send(SendEvent::Failed(fault)),
            18 => return self.give_back_recv(RecvEvent::Failed(fault)),
            19 if self.random.bool() => return self.detach(),
            _ => return self.move_bytes(),
        };
        let actions = self.machine.handle(input, self.now);
        self.see(actions);
    }

    fn detach(&mut self) {
        let is_idle = self.receiving.is_none() && self.sending.is_none();
        let detaches = self.phase == Phase::Open && is_idle;
        let before = self.machine.outcome();
        let actions = self.machine.handle(Input::Detach, self.now);
        assert_eq!(detaches, !actions.is_empty(), "a failed detach changes nothing");
        self.detached |= detaches;
        self.see(actions);
        if detaches {
            assert_eq!(self.machine.outcome(), Some(Ok(())));
            assert_eq!(self.machine.upgrade_error(), Some(UpgradeError::Detached));
            assert_eq!(self.machine.read_error(), Some(Fault::Detached));
            assert_eq!(self.machine.write_error(), Some(Fault::Detached));
        } else {
            assert_eq!(self.machine.outcome(), before);
        }
    }

    fn ask_to_read(&mut self) {
        if let ReadStep::Recv(permit) = self.machine.read() {
            assert!(self.receiving.is_none(), "one permit per direction");
            assert!(self.machine.permits_recv(&permit));
            assert!(self.adopted && !self.released, "there is a wire");
            self.receiving = Some(permit);
        }
    }

    fn ask_to_write(&mut self) {
        if let WriteStep::Send(permit) = self.machine.write() {
            assert!(self.sending.is_none(), "one permit per direction");
            assert!(self.machine.permits_send(&permit));
            assert!(self.adopted && !self.released && !self.shut, "there is a wire to send on");
            self.sending = Some(permit);
        }
    }

    fn give_back_recv(&mut self, what: RecvEvent) {
        if let Some(permit) = self.receiving.take() {
            let actions = self.machine.handle_recv_event(permit, what, self.now);
            self.see(actions);
        }
    }

    fn give_back_send(&mut self, what: SendEvent) {
        if let Some(permit) = self.sending.take() {
            let actions = self.machine.handle_send_event(permit, what);
            self.see(actions);
        }
    }

    fn move_bytes(&mut self) {
        let before = self.machine.stats();
        let bytes = self.random.usize(1..9);
        if let Some(permit) = self.receiving.take() {
            let actions = self.machine.handle_recv(permit, bytes);
            self.see(actions);
            assert_eq!(self.machine.stats().bytes_read, before.bytes_read + bytes as u64);
        }
        if let Some(permit) = self.sending.take() {
            let actions = self.machine.handle_send(permit, bytes);
            self.see(actions);
            assert_eq!(self.machine.stats().bytes_written, before.bytes_written + bytes as u64);
        }
    }

    fn see(&mut self, actions: Actions) {
        let Actions {
            attach,
            preamble: _,
            wake,
            cancel_attempts: _,
            cancel_attempt,
            resolve: _,
            attempt,
            drive_recv,
            begin_handshake,
            transmit,
            shutdown_write,
            release,
        } = actions;
        if wake.opened {
            assert!(wake.readable && wake.writable, "waiters are woken");
        }
        match &self.receiving {
            None => self.reader_told = false,
            Some(permit) => {
                self.reader_told |= wake.readable;
                assert!(self.reader_told || self.machine.permits_recv(permit), "readers are woken");
            }
        }
        match &self.sending {
            None => self.writer_told = false,
            Some(permit) => {
                self.writer_told |= wake.writable;
                assert!(self.writer_told || self.machine.permits_send(permit), "writers are woken");
            }
        }
        if self.closed > 0 {
            let late =
                Actions { attach, wake, attempt, shutdown_write, drive_recv, ..Actions::default() };
            let allowed = Wake { readable: wake.readable, ..Wake::default() };
            assert_eq!(late, Actions { wake: allowed, ..Actions::default() }, "it is closed");
        }
        if attach.is_some() {
            assert!(!self.adopted, "one wire");
            self.adopted = true;
        }
        self.opened += u32::from(wake.opened);
        self.closed += u32::from(wake.closed);
        if let Some(id) = cancel_attempt {
            assert!(!self.machine.is_attempt_pending(id));
        }
        if let Some(Attempt { id, address }) = attempt {
            let address = address.expect("only addresses are dialled");
            let allowed = self.egress.as_ref().is_none_or(|policy| policy.allows(address));
            assert!(allowed, "{address} is denied");
            self.attempt = Some(id);
        }
        if drive_recv {
            assert!(self.adopted && !self.released);
            assert!(self.receiving.is_none(), "one thread at the wire");
        }
        assert!(!transmit && !begin_handshake, "there is no TLS");
        if shutdown_write {
            assert!(self.adopted && !self.released && !self.shut, "one FIN");
            assert!(self.sending.is_none(), "data precedes the FIN");
            self.shut = true;
        }
        if let Some(how) = release {
            assert!(self.adopted && !self.released, "released once");
            assert!(self.shut || how != Release::Linger, "lingering follows FIN");
            self.released = true;
        }
        let phase = self.machine.phase();
        assert!(phase >= self.phase, "phases only advance");
        self.phase = phase;
        assert_eq!(self.opened > 0, self.machine.opened().is_some());
        assert_eq!(self.closed > 0, self.machine.outcome().is_some());
        assert_eq!(self.closed > 0, phase == Phase::Closed);
        if let Some(outcome) = self.outcome {
            assert_eq!(self.machine.outcome(), Some(outcome), "the first outcome stays");
        }
        self.outcome = self.machine.outcome();
        let left_over = self.machine.next_timer().is_some_and(|(at, _)| at <= self.now);
        assert!(!left_over, "no expired timer is left");
    }
}
