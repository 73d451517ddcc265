//! Tests of how connections over TLS end.

use std::io::Write;
use std::time::Duration;

use super::VERSIONS;
use super::site::{in_both_roles, machine_config};
use super::wire::Wire;
use crate::info::Phase;
use crate::machine::{Background, Fault, Input, ReadStep, RecvEvent, TimerKind};

#[test]
fn close_notify_closes_each_direction_separately() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut config = machine_config();
            config.allow_half_open = true;
            let mut wire = Wire::of(config, version, 0);
            wire.shake_hands(usize::MAX);
            wire.peer.writer().write_all(b"bye").unwrap();
            wire.peer.send_close_notify();
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.phase(), Phase::Open, "something is unread");
            assert_eq!(wire.read_all(), 3);
            assert_eq!(wire.machine.phase(), Phase::HalfClosed);
            assert!(matches!(wire.machine.read(), ReadStep::Eof));
            assert_eq!(wire.seal(&[1; 100]), 100);
            wire.give_back(usize::MAX);
            wire.handle(Input::CloseWrite);
            wire.transmit(usize::MAX);
            wire.serve();
            assert_eq!(wire.served, [1; 100]);
            assert!(wire.peer_saw_close_notify, "close_notify, then FIN");
            assert!(wire.shut);
            assert_eq!(wire.machine.outcome(), Some(Ok(())));
            wire.is_over();
        }
    });
}

#[test]
fn reading_continues_after_a_half_close() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, 0);
            assert_eq!(wire.seal(&[1; 100]), 100);
            wire.give_back(usize::MAX);
            wire.handle(Input::CloseWrite);
            assert!(!wire.shut, "close_notify goes first");
            wire.transmit(usize::MAX);
            assert!(wire.shut);
            wire.serve();
            assert!(wire.peer_saw_close_notify);
            wire.peer.writer().write_all(&[2; 5000]).unwrap();
            wire.peer.send_close_notify();
            wire.serve();
            let mut got = 0;
            while wire.machine.outcome().is_none() {
                wire.deliver(100);
                got += wire.read_all();
            }
            assert_eq!(got, 5000);
            assert_eq!(wire.machine.outcome(), Some(Ok(())));
            wire.is_over();
        }
    });
}

#[test]
fn a_fin_before_the_end_of_close_notify_is_a_truncation() {
    in_both_roles(|| {
        for version in VERSIONS {
            let length = {
                let mut wire = Wire::open(version, 0);
                wire.peer.writer().write_all(&[1; 20]).unwrap();
                wire.peer.send_close_notify();
                wire.serve();
                wire.to_machine.len()
            };
            for cut in 0..=length {
                let mut wire = Wire::open(version, 0);
                wire.peer.writer().write_all(&[1; 20]).unwrap();
                wire.peer.send_close_notify();
                wire.serve();
                wire.deliver(cut);
                wire.read_all();
                match wire.machine.read() {
                    ReadStep::Ingest(permit) => wire.receive(permit, RecvEvent::Eof),
                    ReadStep::Eof => assert_eq!(cut, length),
                    step => panic!("{step:?}"),
                }
                let expected = if cut == length { Ok(()) } else { Err(Fault::Truncated) };
                if cut == length {
                    wire.transmit(usize::MAX);
                }
                assert_eq!(wire.machine.outcome(), Some(expected), "{cut} of {length}");
                wire.is_over();
            }
        }
    });
}

#[test]
fn a_close_during_a_transmit_waits_for_it_and_sends_close_notify() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, 0);
            wire.seal(&[1; 1000]);
            wire.handle(Input::Close);
            assert_eq!(wire.machine.outcome(), None);
            assert!(!wire.shut);
            wire.give_back(10);
            assert_eq!(wire.machine.outcome(), None);
            wire.transmit(usize::MAX);
            assert_eq!(wire.machine.outcome(), Some(Ok(())));
            wire.serve();
            assert_eq!(wire.served, [1; 1000]);
            assert!(wire.peer_saw_close_notify);
            wire.is_over();
        }
    });
}

#[test]
fn sending_after_the_peers_eof_is_bounded_by_one_close_timeout() {
    in_both_roles(|| {
        let mut config = machine_config();
        config.close_timeout = Duration::from_secs(5);
        let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
        wire.shake_hands(usize::MAX);
        wire.seal(&[1; 1000]);
        wire.give_back(0);
        wire.peer.send_close_notify();
        wire.serve();
        wire.deliver(usize::MAX);
        let begun = wire.now;
        while let Some((at, TimerKind::Close)) = wire.machine.next_timer() {
            wire.now = at;
            wire.handle(Input::TimerExpired);
        }
        assert_eq!(wire.machine.phase(), Phase::Closed);
        assert!(wire.now - begun <= Duration::from_secs(5), "it took {:?}", wire.now - begun);
    });
}

#[test]
fn after_a_failed_transmit_nothing_is_lent_again() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.serve();
        wire.deliver(usize::MAX);
        wire.read_some(10);
        wire.seal(&[1; 1000]);
        let mut transmit = wire.lent.take().unwrap();
        let actions = wire.machine.transmit_failed(&mut transmit, Fault::Reset(None), wire.now);
        wire.see(actions);
        assert_eq!(wire.machine.outcome(), Some(Err(Fault::Reset(None))));
        assert!(wire.machine.next_transmit().is_none(), "another send would fail again");
        assert!(!wire.machine.has_unsent(), "a flush would never end");
        assert_eq!(wire.read_all(), 90);
    });
}

#[test]
fn data_decrypted_before_a_tls_failure_stays_readable_and_the_wire_is_released_once() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, 0);
            wire.peer.writer().write_all(&[1; 100]).unwrap();
            wire.serve();
            let good = wire.to_machine.len();
            wire.peer.writer().write_all(&[2; 100]).unwrap();
            wire.serve();
            wire.to_machine[good + 40] ^= 1;
            wire.deliver(usize::MAX);
            assert_eq!(wire.read_some(60), 60);
            assert_eq!(wire.read_all(), 40);
            assert!(matches!(wire.machine.read(), ReadStep::Fail(Fault::Tls)));
            wire.is_over();
        }
    });
}

#[test]
fn while_data_is_unread_the_driver_does_not_watch_for_eof() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        assert_eq!(wire.machine.background(), Background::WatchEof);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.serve();
        wire.deliver(usize::MAX);
        assert_eq!(wire.read_some(60), 60);
        assert_eq!(wire.machine.background(), Background::WatchErrors);
        assert_eq!(wire.read_all(), 40);
        assert_eq!(wire.machine.background(), Background::WatchEof);
    });
}

#[test]
fn an_eof_after_unread_data_shows_once_the_data_is_read() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.peer.send_close_notify();
        wire.serve();
        wire.deliver(usize::MAX);
        assert_eq!(wire.read_some(60), 60);
        assert_eq!(wire.machine.phase(), Phase::Open);
        wire.write(b"an answer");
        assert_eq!(wire.read_all(), 40);
        assert!(matches!(wire.machine.read(), ReadStep::Eof));
        assert_eq!(wire.machine.phase(), Phase::HalfClosed);
    });
}

#[test]
fn an_eof_reported_while_data_is_unread_does_not_lose_the_data() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.serve();
        wire.deliver(usize::MAX);
        assert_eq!(wire.read_some(60), 60);
        // Unexpected: the driver does not receive while data is unread.
        let ReadStep::TakePlaintext(permit) = wire.machine.read() else {
            panic!("something is unread")
        };
        wire.receive(permit, RecvEvent::Eof);
        assert_eq!(wire.machine.outcome(), None);
        assert_eq!(wire.read_all(), 40);
        assert_eq!(wire.machine.outcome(), Some(Err(Fault::Truncated)));
        wire.is_over();
    });
}

#[test]
fn a_write_that_finds_a_tls_failure_keeps_decrypted_data_and_releases_the_wire_once() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.serve();
        let good = wire.to_machine.len();
        wire.peer.writer().write_all(&[2; 100]).unwrap();
        wire.serve();
        wire.to_machine[good + 40] ^= 1;
        wire.deliver(usize::MAX);
        assert_eq!(wire.seal(&[3; 10]), 0);
        assert_eq!(wire.machine.outcome(), Some(Err(Fault::Tls)));
        // Unexpected: nothing was received.
        let ReadStep::TakePlaintext(permit) = wire.machine.read() else {
            panic!("something is unread")
        };
        drop(wire.machine.ingest(permit, &mut wire.recv_buf, || wire.now));
        assert_eq!(wire.read_all(), 100);
        assert!(matches!(wire.machine.read(), ReadStep::Fail(Fault::Tls)));
        wire.is_over();
    });
}

#[test]
fn data_before_an_eof_stays_readable_if_the_wire_fails_after_it() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.peer.writer().write_all(&[1; 100]).unwrap();
        wire.peer.send_close_notify();
        wire.serve();
        wire.deliver(usize::MAX);
        // Sealing processes all input, including the EOF.
        wire.write(b"an answer");
        wire.handle(Input::WireFailed(Fault::Reset(None)));
        assert_eq!(wire.read_all(), 100);
        assert!(matches!(wire.machine.read(), ReadStep::Eof));
    });
}
