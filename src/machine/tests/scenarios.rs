//! Tests of single transitions.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use crate::info::Phase;
use crate::machine::{
    Actions, Attempt, AttemptId, Config, Endpoints, Fault, Input, Machine, ReadStep, RecvEvent,
    Release, Route, SendEvent, Target, TimerKind, Wake, WriteStep,
};
use crate::proxy::Proxy;

/// The request waits in the send queue until the driver takes it, and an answer may repeat it.
#[cfg_attr(miri, ignore = "it formats and searches much text")]
#[test]
fn debug_shows_nothing_of_a_dialogue_with_a_proxy() {
    let now = Instant::now();
    let proxy = |make: fn(SocketAddr) -> crate::Result<Proxy>| make(address(1)).unwrap();
    let http = proxy(Proxy::http).credentials("alice", "pa55word").unwrap();
    let http = http.header("X-Key", "v4lue").unwrap();
    let socks5 = proxy(Proxy::socks5).credentials("alice", "pa55word").unwrap();
    let socks4 = proxy(Proxy::socks4a).credentials("alice", "").unwrap();
    let secrets = [&b"alice"[..], b"pa55word", b"YWxpY2U6", b"v4lue"];
    let shows_none = |machine: &Machine, when: &str| {
        for text in [format!("{machine:?}"), format!("{machine:#?}").replace(['\n', ' '], "")] {
            for secret in secrets {
                let numbers = format!("{secret:?}");
                let spaced = numbers.trim_matches(['[', ']']);
                let plain = std::str::from_utf8(secret).unwrap();
                for shown in [plain, spaced, &spaced.replace(' ', "")] {
                    assert!(!text.contains(shown), "{when}: {text}");
                }
            }
        }
    };
    for proxy in [http, socks5, socks4] {
        let route = Route::new(&proxy, &"db.test:443".parse().unwrap()).unwrap();
        let target = Target::Address(address(1));
        let mut machine = Machine::new(Config { route: Some(route), ..Config::new(target) }, now);
        let attempt = machine.start(now).attempt.unwrap();
        shows_none(&machine, "before it connects");
        let result = Ok(Endpoints::new(address(1), None));
        drop(machine.handle(Input::Attempted { id: attempt.id, result }, now));
        shows_none(&machine, "with a request");
        for answer in [&b"\x05\x02"[..], b"HTTP/1.1 100 alice pa55word v4lue"] {
            while let Some(mut transmit) = machine.next_transmit() {
                shows_none(&machine, "with a request in flight");
                transmit.sent(transmit.bytes().len());
                drop(machine.transmit_done(&mut transmit));
            }
            let Some(permit) = machine.begin_background_recv() else { break };
            let is_first = machine.preamble_len(answer) == answer.len();
            let answer = if is_first { answer } else { &answer[..1] };
            drop(machine.handle_preamble(permit, answer, now));
            shows_none(&machine, "after an answer");
        }
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

/// A Unix-domain peer has closed cleanly, or a TCP peer has reset the connection after its FIN.
#[test]
fn a_write_that_fails_after_the_peers_eof_leaves_reads_at_their_end() {
    let now = Instant::now();
    let fault = Fault::ResetAfterEnd(32);
    for sends in [false, true] {
        let config = Config { allow_half_open: true, ..Config::new(Target::Address(address(1))) };
        let mut machine = open(config, now);
        let ReadStep::Recv(permit) = machine.read() else { panic!("it is open") };
        drop(machine.handle_recv_event(permit, RecvEvent::Eof, now));
        if sends {
            let WriteStep::Send(permit) = machine.write() else { panic!("it is half-open") };
            drop(machine.handle_send_event(permit, SendEvent::Failed(fault)));
        } else {
            drop(machine.handle(Input::WireFailed(fault), now));
        }
        assert_eq!(machine.outcome(), Some(Err(fault)));
        assert!(matches!(machine.read(), ReadStep::Eof));
        assert!(matches!(machine.write(), WriteStep::Fail(failed) if failed == fault));
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

/// An EOF that was handled before stays handled.
#[test]
fn half_open_can_be_allowed_later() {
    let now = Instant::now();
    for allowed_in_time in [true, false] {
        let mut machine = open(Config::new(Target::Address(address(1))), now);
        let WriteStep::Send(sending) = machine.write() else { panic!("not open") };
        let ReadStep::Recv(receiving) = machine.read() else { panic!("not open") };
        if allowed_in_time {
            assert!(machine.handle(Input::AllowHalfOpen, now).is_empty());
        }
        drop(machine.handle_recv_event(receiving, RecvEvent::Eof, now));
        assert!(machine.handle(Input::AllowHalfOpen, now).is_empty());
        drop(machine.handle_send(sending, 1));
        if allowed_in_time {
            assert_eq!(machine.phase(), Phase::HalfClosed);
            assert!(matches!(machine.write(), WriteStep::Send(_)));
        } else {
            assert_eq!(machine.phase(), Phase::Closed);
            assert!(matches!(machine.write(), WriteStep::Fail(Fault::PeerEnded)));
        }
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

pub(super) fn address(host: u8) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, host), 1))
}
