//! Tests of sessions that are lent while the program's code runs: the machine works on, and takes them back.

use std::time::Duration;

use super::VERSIONS;
use super::site::{in_both_roles, machine_config};
use super::wire::Wire;
use crate::machine::{Fault, Input, Machine, ReadStep, Release, TimerKind, Transmit, WriteStep};

/// A seed for sessions that run the program's code: any odd number.
const FOREIGN: u64 = 1;

#[test]
fn a_handshake_with_the_programs_code_succeeds() {
    in_both_roles(|| {
        for version in VERSIONS {
            for step in [1, 100, usize::MAX] {
                let mut wire = Wire::new(version, FOREIGN);
                assert!(wire.machine.runs_foreign_code() && !wire.machine.awaits_begin());
                wire.shake_hands(step);
                wire.exchange(100_000);
            }
        }
    });
}

#[test]
fn a_lent_handshake_can_be_closed_aborted_and_time_out() {
    in_both_roles(|| {
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
                assert!(wire.restore(loan).is_some(), "the caller gets the session to drop it");
                assert_eq!(wire.machine.outcome(), Some(outcome));
                assert!(
                    wire.machine.take_final_records().is_empty(),
                    "the handshake does not continue"
                );
                wire.is_over();
            }
        }
    });
}

#[test]
fn a_handshake_that_ends_after_its_limit_times_out() {
    for version in VERSIONS {
        for seed in [0, FOREIGN] {
            let mut wire = verifying(version, seed);
            // No TimerExpired was reported before.
            wire.now += Duration::from_secs(30);
            match wire.loan.take() {
                Some(loan) => drop(wire.restore(loan)),
                None => wire.deliver(usize::MAX),
            }
            let fault = Fault::TimedOut(TimerKind::Handshake);
            assert_eq!(wire.machine.opened(), Some(Err(fault)), "{version:?} {seed}");
            assert_eq!(wire.released, Some(Release::Close));
            assert!(
                wire.machine.take_final_records().is_empty(),
                "the handshake does not continue"
            );
        }
    }
}

#[test]
fn a_write_waits_for_a_lent_session() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = receiving(version);
            let WriteStep::Seal(permit) = wire.machine.write() else { panic!("not open") };
            assert!(!wire.machine.can_seal());
            let loan = wire.loan.take().expect("it is lent");
            let (discarded, actions) = wire.machine.restore(loan, wire.now);
            assert!(actions.wake.writable);
            assert!(discarded.is_none());
            assert!(wire.machine.can_seal());
            let mut transmit = Transmit::default();
            let (bytes, actions) = wire.machine.seal(permit, b"abc", &mut transmit, || wire.now);
            assert!(bytes == 3 && actions.is_empty());
        }
    });
}

#[test]
fn a_close_while_the_session_is_lent_sends_close_notify_when_it_is_restored() {
    in_both_roles(|| {
        for version in VERSIONS {
            for input in [Input::Close, Input::CloseWrite] {
                let mut wire = receiving(version);
                wire.handle(input);
                assert!(wire.machine.has_unsent() && !wire.shut, "close_notify is due");
                let loan = wire.loan.take().expect("it is lent");
                assert!(wire.restore(loan).is_none());
                wire.transmit(usize::MAX);
                wire.serve();
                assert!(wire.peer_saw_close_notify && wire.shut);
            }
        }
    });
}

#[test]
fn a_close_that_waits_for_a_lent_session_times_out() {
    in_both_roles(|| {
        let mut wire = receiving(&rustls::version::TLS13);
        wire.handle(Input::Close);
        assert_eq!(wire.machine.outcome(), None);
        wire.now += Duration::from_secs(5);
        wire.handle(Input::TimerExpired);
        assert_eq!(wire.machine.outcome(), Some(Err(Fault::TimedOut(TimerKind::Close))));
        let loan = wire.loan.take().expect("it is lent");
        assert!(wire.restore(loan).is_some());
        wire.is_over();
    });
}

#[test]
fn the_handshakes_result_is_known_while_the_session_is_lent_and_after_an_abort() {
    for version in VERSIONS {
        let mut wire = receiving(version);
        let negotiated = |machine: &Machine| {
            let result = machine.negotiated().expect("the handshake is complete");
            (result.tls.version(), result.tls.peer_certificates().count())
        };
        let (tls, certificates) = negotiated(&wire.machine);
        assert_eq!(certificates, 1);
        wire.handle(Input::Abort);
        assert_eq!(negotiated(&wire.machine), (tls, 1));
        let loan = wire.loan.take().expect("it is lent");
        assert!(wire.restore(loan).is_some());
        assert_eq!(negotiated(&wire.machine), (tls, 1));
        assert!(wire.machine.take_discarded().is_some());
        assert!(wire.machine.take_discarded().is_none(), "it is taken once");
    }
}

#[test]
fn all_input_is_decrypted_at_once_and_read_without_the_session() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, FOREIGN);
            let bytes_to_seal = vec![7; 60_000];
            std::io::Write::write_all(&mut wire.peer.writer(), &bytes_to_seal).unwrap();
            wire.sent_by_peer.extend_from_slice(&bytes_to_seal);
            wire.peer.send_close_notify();
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
    });
}

/// Takes what is unread up to a newline.
fn take_line(wire: &mut Wire, max: usize) -> Vec<u8> {
    let ReadStep::TakePlaintext(permit) = wire.machine.read() else { panic!("nothing is unread") };
    let (line, actions) = wire.machine.take_plaintext_until(permit, b'\n', max, || wire.now);
    wire.see(actions);
    line
}

/// Copies what is unread.
fn peek(wire: &mut Wire, max: usize) -> Vec<u8> {
    let ReadStep::TakePlaintext(permit) = wire.machine.read() else { panic!("nothing is unread") };
    let mut buf = vec![0; max];
    let (bytes, actions) = wire.machine.peek_plaintext(permit, &mut buf, || wire.now);
    wire.see(actions);
    buf.truncate(bytes);
    buf
}

#[test]
fn a_peek_shows_one_record_at_most_and_leaves_it() {
    in_both_roles(|| {
        for version in VERSIONS {
            for seed in [0, FOREIGN] {
                let mut wire = Wire::open(version, seed);
                let send = |wire: &mut Wire, bytes: &[u8]| {
                    std::io::Write::write_all(&mut wire.peer.writer(), bytes).unwrap();
                    wire.serve();
                };
                send(&mut wire, b"one");
                send(&mut wire, b"two");
                wire.deliver(usize::MAX);
                let read = wire.machine.stats().bytes_read;
                assert_eq!(peek(&mut wire, 2), b"on");
                assert_eq!(peek(&mut wire, 100).get(..3), Some(&b"one"[..]));
                assert_eq!(wire.machine.stats().bytes_read, read);
                let mut all = [0; 6];
                let taken = wire.read_into(&mut all);
                if taken < 6 {
                    assert_eq!(peek(&mut wire, 100), b"onetwo"[taken..]);
                    assert_eq!(wire.read_into(&mut all[taken..]), 6 - taken);
                }
                assert_eq!(&all, b"onetwo");
                assert!(!wire.machine.has_unread());
                // Two records, which a write has buffered together.
                send(&mut wire, &[7; 20_000]);
                wire.deliver(usize::MAX);
                assert!(peek(&mut wire, 20_000).len() <= 16 * 1024);
            }
        }
    });
}

#[test]
fn lines_are_taken_one_by_one_and_never_in_excess() {
    in_both_roles(|| {
        for version in VERSIONS {
            for seed in [0, FOREIGN] {
                let mut wire = Wire::open(version, seed);
                let send = |wire: &mut Wire, bytes: &[u8]| {
                    std::io::Write::write_all(&mut wire.peer.writer(), bytes).unwrap();
                    wire.serve();
                    wire.deliver(usize::MAX);
                };
                send(&mut wire, b"one\n\ntwo");
                let read = wire.machine.stats().bytes_read;
                assert_eq!(take_line(&mut wire, 100), b"one\n");
                assert_eq!(wire.machine.stats().bytes_read - read, 4);
                assert_eq!(take_line(&mut wire, 1), b"\n");
                assert_eq!(take_line(&mut wire, 2), b"tw", "no more than the limit");
                assert_eq!(take_line(&mut wire, 100), b"o", "the line does not end here");
                assert!(!wire.machine.has_unread());
                // The rest of a record that was taken in part is there for a read.
                send(&mut wire, b"three\nfour");
                assert_eq!(take_line(&mut wire, 100), b"three\n");
                let ReadStep::TakePlaintext(permit) = wire.machine.read() else { panic!() };
                let mut rest = [0; 9];
                let (bytes, actions) = wire.machine.take_plaintext(permit, &mut rest, || wire.now);
                wire.see(actions);
                assert_eq!(&rest[..bytes], b"four");
            }
        }
    });
}

#[test]
fn a_line_is_taken_while_the_session_is_lent() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, FOREIGN);
            std::io::Write::write_all(&mut wire.peer.writer(), b"one\ntwo\n").unwrap();
            wire.serve();
            wire.deliver(usize::MAX);
            // The driver lends the session for the next records.
            std::io::Write::write_all(&mut wire.peer.writer(), b"three\n").unwrap();
            wire.serve();
            assert_eq!(take_line(&mut wire, 100), b"one\n");
            assert_eq!(take_line(&mut wire, 100), b"two\n");
            wire.deliver_and_keep(usize::MAX);
            let loan = wire.loan.take().expect("it is lent");
            assert!(!wire.machine.has_unread(), "what was decrypted is in the loan");
            assert!(wire.restore(loan).is_none());
            assert_eq!(take_line(&mut wire, 100), b"three\n");
        }
    });
}

#[test]
fn the_machine_does_not_drop_an_unused_setup() {
    in_both_roles(|| {
        let mut config = machine_config();
        config.tls = config.tls.map(crate::machine::TlsSetup::foreign);
        let now = std::time::Instant::now();
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        drop(machine.handle(Input::Close, now));
        assert_eq!(machine.outcome(), Some(Ok(())));
        assert!(machine.take_discarded().is_some());
    });
}

#[test]
fn a_failed_transmit_while_the_session_is_lent_ends_the_connection_at_once() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, FOREIGN);
            wire.write(b"abc");
            let mut transmit = wire.lent.take().expect("data was sealed");
            std::io::Write::write_all(&mut wire.peer.writer(), b"abc").unwrap();
            wire.sent_by_peer.extend_from_slice(b"abc");
            wire.serve();
            wire.deliver_and_keep(usize::MAX);
            let actions = wire.machine.transmit_failed(&mut transmit, Fault::Reset(None), wire.now);
            wire.see(actions);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::Reset(None))));
            let loan = wire.loan.take().expect("it is lent");
            assert!(wire.restore(loan).is_none(), "its decrypted data can still be read");
            assert_eq!(wire.read_into(&mut [0; 10]), 3);
        }
    });
}

/// Returns a client that has received the server's certificate and is verifying it.
fn verifying(version: &'static rustls::SupportedProtocolVersion, seed: u64) -> Wire {
    let mut wire = Wire::new(version, seed);
    for _ in 0..10 {
        wire.transmit(usize::MAX);
        wire.serve();
        if version == &rustls::version::TLS12 && wire.written.is_empty() {
            // The server's last message follows this side's second flight.
            wire.deliver(usize::MAX);
            wire.transmit(usize::MAX);
            wire.serve();
        }
        if !wire.to_machine.is_empty() {
            break;
        }
    }
    if seed == FOREIGN {
        wire.deliver_and_keep(usize::MAX);
    }
    assert_eq!(wire.machine.opened(), None);
    wire
}

/// Returns an open connection whose session is lent to process data.
fn receiving(version: &'static rustls::SupportedProtocolVersion) -> Wire {
    let mut wire = Wire::open(version, FOREIGN);
    std::io::Write::write_all(&mut wire.peer.writer(), b"abc").unwrap();
    wire.sent_by_peer.extend_from_slice(b"abc");
    wire.serve();
    wire.deliver_and_keep(usize::MAX);
    assert!(wire.loan.is_some());
    wire
}

#[test]
fn a_permit_for_a_session_that_is_gone_is_returned() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, FOREIGN);
        let permit = wire.machine.begin_background_recv().expect("the permit is free");
        wire.handle(Input::Abort);
        let permit = wire.machine.lend(permit).expect_err("there is no session");
        drop(wire.machine.ingest(permit, &mut wire.recv_buf, || wire.now));
    });
}
