//! Runs machines with random inputs and checks the rules that hold for all of them; also tests single transitions.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::egress::EgressRules;
use crate::info::Phase;
use crate::machine::{
    Actions, Attempt, AttemptId, Config, Endpoints, Fault, Input, Machine, ReadStep, RecvEvent,
    RecvPermit, Release, SendEvent, SendPermit, Target, TimerKind, UpgradeError, Wake, WriteStep,
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

#[test]
fn a_write_in_progress_may_finish_after_the_peers_eof() {
    let now = Instant::now();
    let mut machine = open(Config::new(Target::Address(address(1))), now);
    let WriteStep::Send(sending) = machine.write() else { panic!("not open") };
    let ReadStep::Recv(receiving) = machine.read() else { panic!("not open") };
    drop(machine.handle_recv_event(receiving, RecvEvent::Eof, now));

    assert_eq!(machine.phase(), Phase::HalfClosed);
    assert!(machine.permits_send(&sending));
    assert!(matches!(machine.write(), WriteStep::Fail(Fault::PeerEnded)), "no other write begins");
    let actions = machine.handle_send(sending, 1);
    assert!(actions.shutdown_write);
    assert_eq!(actions.release, Some(Release::Close));
    assert_eq!(machine.outcome(), Some(Ok(())));
}

#[test]
fn a_write_in_progress_at_the_peers_eof_is_bounded_by_the_close_timeout() {
    let now = Instant::now();
    let mut machine = open(Config::new(Target::Address(address(1))), now);
    let WriteStep::Send(sending) = machine.write() else { panic!("not open") };
    let ReadStep::Recv(receiving) = machine.read() else { panic!("not open") };
    drop(machine.handle_recv_event(receiving, RecvEvent::Eof, now));
    let (at, TimerKind::Close) = machine.next_timer().unwrap() else { panic!("no close timer") };

    drop(machine.handle(Input::TimerExpired, at));
    assert!(!machine.permits_send(&sending));
    let actions = machine.handle_send_event(sending, SendEvent::Cancelled);
    assert!(actions.shutdown_write);
    assert_eq!(actions.release, Some(Release::Close));
    assert_eq!(machine.outcome(), Some(Ok(())));
}

#[test]
fn a_close_that_cannot_hand_over_in_time_resets() {
    let now = Instant::now();
    let mut machine = open(Config::new(Target::Address(address(1))), now);
    let WriteStep::Send(sending) = machine.write() else { panic!("not open") };
    assert!(!machine.handle(Input::Close, now).wake.closed);
    assert_eq!(machine.outcome(), None);
    let (at, _) = machine.next_timer().unwrap();

    let actions = machine.handle(Input::TimerExpired, at);
    let wake = Wake { closed: true, ..Wake::default() };
    let expected = Actions { wake, release: Some(Release::Reset), ..Actions::default() };
    assert_eq!(actions, expected);
    assert_eq!(machine.outcome(), Some(Err(Fault::TimedOut(TimerKind::Close))));
    assert!(machine.handle_send(sending, 5).is_empty());
}

#[test]
fn addresses_are_dialled_once_in_order_and_only_in_the_bound_family() {
    let now = Instant::now();
    let v6 = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1));
    let mut config = Config::new(Target::Host);
    config.bind = Some(address(0));
    let mut machine = Machine::new(config, now);
    drop(machine.start(now));
    let answer = [address(1), v6, address(2), address(1)];
    drop(machine.handle(Input::Resolved(Ok(&answer)), now));
    let refused = Err(Fault::Connect(111));
    for id in 0..2 {
        drop(machine.handle(Input::Attempted { id: AttemptId(id), result: refused }, now));
    }
    assert_eq!(machine.opened(), Some(Err(Fault::Connect(111))));
    let attempts = [(address(1), Fault::Connect(111)), (address(2), Fault::Connect(111))];
    let failed = machine.attempts().iter().map(|attempt| (attempt.address, attempt.fault));
    assert_eq!(failed.collect::<Vec<_>>(), attempts);
}

#[test]
fn reads_return_data_from_before_a_reset_and_then_the_reset_or_an_earlier_eof() {
    let now = Instant::now();
    for (fault, after) in
        [(Fault::Reset(None), Some(Fault::Reset(None))), (Fault::ResetAfterEnd(32), None)]
    {
        let mut machine = open(Config::new(Target::Address(address(1))), now);
        drop(machine.handle(Input::WireFailed(fault), now));
        assert_eq!(machine.outcome(), Some(Err(fault)));
        let ReadStep::Recv(permit) = machine.read() else { panic!("bytes may be left") };
        drop(machine.handle_recv(permit, 5));
        let ReadStep::Recv(permit) = machine.read() else { panic!("bytes may be left") };
        drop(machine.handle_recv_event(permit, RecvEvent::Eof, now));
        match (machine.read(), after) {
            (ReadStep::Fail(actions), Some(after)) => assert_eq!(actions, after),
            (ReadStep::Eof, None) => {}
            (step, after) => panic!("{step:?} where {after:?} was expected"),
        }
        assert!(matches!(machine.write(), WriteStep::Fail(actions) if actions == fault));
    }
}

#[test]
fn a_self_connect_by_chance_is_retried_and_a_deliberate_one_is_a_loop() {
    let now = Instant::now();
    let me = Endpoints::new(address(1), address(1));
    let mut machine = Machine::new(Config::new(Target::Address(address(1))), now);
    let mut actions = machine.start(now);
    for _ in 0..3 {
        let Some(Attempt { id, .. }) = actions.attempt else { panic!("{actions:?}") };
        actions = machine.handle(Input::Attempted { id, result: Ok(me) }, now);
    }
    assert_eq!(machine.opened(), Some(Err(Fault::SelfConnected)));

    let mut config = Config::new(Target::Address(address(1)));
    config.bind = Some(address(1));
    let mut machine = Machine::new(config, now);
    drop(machine.start(now));
    drop(machine.handle(Input::Attempted { id: AttemptId(0), result: Ok(me) }, now));
    assert_eq!(machine.opened(), Some(Err(Fault::Loop)));
}

#[test]
fn a_writer_that_waits_for_an_upgrade_wakes_when_the_peers_eof_prevents_it() {
    let now = Instant::now();
    for seen_by_reader in [true, false] {
        let mut config = Config::new(Target::Address(address(1)));
        config.allow_half_open = true;
        let mut machine = open(config, now);
        let ReadStep::Recv(permit) = machine.read() else { panic!("not open") };
        drop(machine.handle(Input::StartTls { accepts_hello: false }, now));
        assert!(matches!(machine.write(), WriteStep::Wait));
        let actions = if seen_by_reader {
            machine.handle_recv_event(permit, RecvEvent::Eof, now)
        } else {
            drop(machine.handle_recv_event(permit, RecvEvent::Cancelled, now));
            machine.handle(Input::WireEof, now)
        };
        assert!(actions.wake.writable, "{actions:?}");
        assert!(matches!(machine.write(), WriteStep::Send(_)));
    }
}

fn open(config: Config, now: Instant) -> Machine {
    let mut machine = Machine::new(config, now);
    drop(machine.start(now));
    let result = Ok(Endpoints::new(address(1), None));
    drop(machine.handle(Input::Attempted { id: AttemptId(0), result }, now));
    assert_eq!(machine.phase(), Phase::Open);
    machine
}

fn address(host: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), 1))
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
