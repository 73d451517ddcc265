//! Sessions that are lent while foreign code runs: the machine goes on, and takes them back if it still has use for
//! them.

use std::time::Duration;

use super::VERSIONS;
use super::wire::{Wire, machine_config};
use crate::machine::{
    Action, Fault, Input, Machine, ReadStep, Release, TimerKind, Transmit, WriteStep,
};

/// Odd: it runs foreign code.
const FOREIGN: u64 = 1;

#[test]
fn a_handshake_of_foreign_code_is_begun_elsewhere_and_ends_as_any_other() {
    for version in VERSIONS {
        for step in [1, 100, usize::MAX] {
            let mut wire = Wire::new(version, FOREIGN);
            assert!(wire.machine.runs_foreign_code() && !wire.machine.awaits_begin());
            wire.shake_hands(step);
            wire.exchange(100_000);
        }
    }
}

#[test]
fn while_a_handshake_is_lent_it_can_be_closed_aborted_and_too_late() {
    let late = Duration::from_secs(31);
    let ends: [(Input<'_>, Duration, Result<(), Fault>); 4] = [
        (Input::Close, Duration::ZERO, Ok(())),
        (Input::Abort, Duration::ZERO, Err(Fault::Aborted)),
        (Input::TimerExpired, late, Err(Fault::TimedOut(TimerKind::Handshake))),
        (Input::WireFailed(Fault::Reset(None)), Duration::ZERO, Err(Fault::Reset(None))),
    ];
    for version in VERSIONS {
        for (input, later, outcome) in ends {
            let mut wire = verifying(version, FOREIGN);
            let loan = wire.loan.take().expect("it is lent");
            wire.now += later;
            wire.handle(input);
            assert_eq!(wire.machine.outcome(), Some(outcome));
            assert!(wire.restore(loan).is_some(), "nobody wants it, and it is not dropped here");
            assert_eq!(wire.machine.outcome(), Some(outcome));
            assert!(wire.machine.take_final_records().is_empty(), "the handshake does not go on");
            wire.is_over();
        }
    }
}

#[test]
fn a_handshake_that_comes_to_its_end_too_late_has_run_out_of_time() {
    for version in VERSIONS {
        for seed in [0, FOREIGN] {
            let mut wire = verifying(version, seed);
            // As when nobody was there to tell the machine the time.
            wire.now += Duration::from_secs(30);
            match wire.loan.take() {
                Some(loan) => drop(wire.restore(loan)),
                None => wire.deliver(usize::MAX),
            }
            let fault = Fault::TimedOut(TimerKind::Handshake);
            assert_eq!(wire.machine.opened(), Some(Err(fault)), "{version:?} {seed}");
            assert_eq!(wire.released, Some(Release::Close));
            assert!(wire.machine.take_final_records().is_empty(), "the handshake does not go on");
        }
    }
}

#[test]
fn what_is_written_waits_for_a_session_that_is_lent() {
    for version in VERSIONS {
        let mut wire = receiving(version);
        let WriteStep::Seal(permit) = wire.machine.write() else { panic!("it is open") };
        assert!(!wire.machine.can_seal());
        let loan = wire.loan.take().expect("it is lent");
        let (discarded, actions) = wire.machine.restore(loan, wire.now);
        assert!(actions.as_slice().contains(&Action::Writable));
        assert!(discarded.is_none());
        assert!(wire.machine.can_seal());
        let mut transmit = Transmit::default();
        let (bytes, actions) = wire.machine.seal(permit, b"abc", &mut transmit, || wire.now);
        assert_eq!((bytes, actions.count()), (3, 0));
    }
}

#[test]
fn who_ends_while_the_session_is_lent_says_so_when_it_is_back() {
    for version in VERSIONS {
        for input in [Input::Close, Input::CloseWrite] {
            let mut wire = receiving(version);
            wire.handle(input);
            assert!(wire.machine.has_unsent() && !wire.shut, "close_notify is due");
            let loan = wire.loan.take().expect("it is lent");
            assert!(wire.restore(loan).is_none());
            wire.transmit(usize::MAX);
            wire.serve();
            assert!(wire.server_saw_close_notify && wire.shut);
        }
    }
}

#[test]
fn a_close_that_waits_for_a_session_ends_by_its_limit() {
    let mut wire = receiving(&rustls::version::TLS13);
    wire.handle(Input::Close);
    assert_eq!(wire.machine.outcome(), None);
    wire.now += Duration::from_secs(5);
    wire.handle(Input::TimerExpired);
    assert_eq!(wire.machine.outcome(), Some(Err(Fault::TimedOut(TimerKind::Close))));
    let loan = wire.loan.take().expect("it is lent");
    assert!(wire.restore(loan).is_some());
    wire.is_over();
}

#[test]
fn what_the_handshake_led_to_is_known_while_the_session_is_lent_and_after_it_was_aborted() {
    for version in VERSIONS {
        let mut wire = receiving(version);
        let told = |machine: &Machine| {
            let negotiated = machine.negotiated().expect("the handshake has ended");
            (negotiated.tls.version(), negotiated.tls.peer_certificates().count())
        };
        let (tls, certificates) = told(&wire.machine);
        assert_eq!(certificates, 1);
        wire.handle(Input::Abort);
        assert_eq!(told(&wire.machine), (tls, 1));
        let loan = wire.loan.take().expect("it is lent");
        assert!(wire.restore(loan).is_some());
        assert_eq!(told(&wire.machine), (tls, 1));
        assert!(wire.machine.take_discarded().is_some());
        assert!(wire.machine.take_discarded().is_none(), "once");
    }
}

#[test]
fn all_that_comes_is_decrypted_at_once_and_read_without_the_session() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, FOREIGN);
        let bytes_to_seal = vec![7; 60_000];
        std::io::Write::write_all(&mut wire.server.writer(), &bytes_to_seal).unwrap();
        wire.sent_by_server.extend_from_slice(&bytes_to_seal);
        wire.server.send_close_notify();
        wire.serve();
        let mut read = 0;
        for _ in 0..10_000 {
            if read == bytes_to_seal.len() {
                break;
            }
            wire.deliver(usize::MAX);
            while wire.machine.has_unread() {
                read += wire.read_into(&mut [0; 1000]);
            }
        }
        wire.deliver(usize::MAX);
        assert!(matches!(wire.machine.read(), ReadStep::Eof));
    }
}

#[test]
fn settings_that_are_not_used_are_not_dropped_by_the_machine() {
    let mut config = machine_config();
    config.tls = config.tls.map(crate::machine::TlsSetup::foreign);
    let now = std::time::Instant::now();
    let mut machine = Machine::new(config, now);
    drop(machine.start(now));
    drop(machine.handle(Input::Close, now));
    assert_eq!(machine.outcome(), Some(Ok(())));
    assert!(machine.take_discarded().is_some());
}

#[test]
fn a_write_that_fails_while_the_session_is_lent_ends_the_connection_at_once() {
    for version in VERSIONS {
        let mut wire = Wire::open(version, FOREIGN);
        wire.write(b"abc");
        let mut transmit = wire.lent.take().expect("something was sealed");
        std::io::Write::write_all(&mut wire.server.writer(), b"abc").unwrap();
        wire.sent_by_server.extend_from_slice(b"abc");
        wire.serve();
        wire.deliver_and_keep(usize::MAX);
        let actions =
            wire.machine.transmit_failed(&mut transmit, Fault::Reset(None), wire.now).collect();
        wire.see(actions);
        assert_eq!(wire.machine.outcome(), Some(Err(Fault::Reset(None))));
        let loan = wire.loan.take().expect("it is lent");
        assert!(wire.restore(loan).is_none(), "what it decrypted can still be read");
        assert_eq!(wire.read_into(&mut [0; 10]), 3);
    }
}

/// The client has the server's certificate, and verifies it.
fn verifying(version: &'static rustls::SupportedProtocolVersion, seed: u64) -> Wire {
    let mut wire = Wire::new(version, seed);
    for _ in 0..10 {
        wire.transmit(usize::MAX);
        wire.serve();
        if version == &rustls::version::TLS12 && wire.written.is_empty() {
            // The server's last message is behind this side's second flight.
            wire.deliver(usize::MAX);
            wire.transmit(usize::MAX);
            wire.serve();
        }
        if !wire.to_client.is_empty() {
            break;
        }
    }
    if seed == FOREIGN {
        wire.deliver_and_keep(usize::MAX);
    }
    assert_eq!(wire.machine.opened(), None);
    wire
}

/// It is open, and has received something.
fn receiving(version: &'static rustls::SupportedProtocolVersion) -> Wire {
    let mut wire = Wire::open(version, FOREIGN);
    std::io::Write::write_all(&mut wire.server.writer(), b"abc").unwrap();
    wire.sent_by_server.extend_from_slice(b"abc");
    wire.serve();
    wire.deliver_and_keep(usize::MAX);
    assert!(wire.loan.is_some());
    wire
}

#[test]
fn a_pass_that_was_for_a_session_that_is_gone_comes_back() {
    let mut wire = Wire::open(&rustls::version::TLS13, FOREIGN);
    let permit = wire.machine.begin_background_recv().expect("nobody receives");
    wire.handle(Input::Abort);
    let permit = wire.machine.lend(permit).expect_err("there is no session");
    drop(wire.machine.ingest(permit, &mut wire.recv_buf, || wire.now));
}
