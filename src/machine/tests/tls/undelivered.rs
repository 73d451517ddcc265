//! Tests of records that meet a peer that has gone: data is lost with them, or only records of TLS itself.

use std::io::Write;

use super::site::{as_server, in_both_roles, machine_config};
use super::wire::Wire;
use crate::info::Phase;
use crate::machine::{Fault, Input, ReadStep, RecvEvent};

#[test]
fn a_reset_caused_by_close_notify_alone_leaves_the_end_clean() {
    in_both_roles(|| {
        for sent in [true, false] {
            let mut wire = Wire::open(&rustls::version::TLS13, 0);
            wire.peer.writer().write_all(b"bye").unwrap();
            wire.peer.send_close_notify();
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.read_some(3), 3);
            // The peer is gone and answers close_notify with a reset. Either the loop sees it while the
            // transmit buffer is lent, or the sender does.
            let mut transmit = wire.machine.next_transmit().expect("close_notify waits");
            let fault = Fault::ResetAfterEnd(32);
            if sent {
                wire.handle(Input::WireFailed(fault));
            }
            let actions = wire.machine.transmit_failed(&mut transmit, fault, wire.now);
            wire.see(actions);
            let step = wire.machine.read();
            assert!(matches!(step, ReadStep::Eof), "all data and EOF arrived: {step:?}");
            assert_eq!(wire.machine.outcome(), Some(Ok(())), "no written data is lost");
        }
    });
}

/// A server whose session tickets are queued, and a client that has sent three bytes and close_notify.
fn with_queued_tickets(allow_half_open: bool) -> Wire {
    let mut config = machine_config();
    config.allow_half_open = allow_half_open;
    let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
    while wire.machine.opened().is_none() {
        wire.transmit(usize::MAX);
        wire.serve();
        wire.deliver(usize::MAX);
    }
    assert!(wire.machine.has_unsent(), "the tickets wait");
    wire.peer.writer().write_all(b"bye").unwrap();
    wire.peer.send_close_notify();
    wire.serve();
    wire
}

/// Fails the next send, as at a Unix-domain peer that has closed.
fn meet_nobody(wire: &mut Wire) {
    let lent = wire.lent.take().or_else(|| wire.machine.next_transmit());
    let mut transmit = lent.expect("something is to be sent");
    let fault = Fault::ResetAfterEnd(32);
    let actions = wire.machine.transmit_failed(&mut transmit, fault, wire.now);
    let is_over = wire.machine.outcome().is_some();
    assert!(actions.wake.writable || is_over, "a flush may wait for it");
    wire.see(actions);
    assert!(!wire.machine.has_unsent(), "a flush would never end");
}

/// How much of the client's end the machine knows when its tickets meet a client that has gone.
const KNOWN: [&str; 3] = ["nothing", "that data is unread", "everything"];

fn meet_nobody_knowing(known: &str, wire: &mut Wire) {
    if known != "nothing" {
        wire.deliver(usize::MAX);
    }
    if known == "everything" {
        assert_eq!(wire.read_all(), 3);
    }
    meet_nobody(wire);
    wire.deliver(usize::MAX);
    wire.read_all();
    assert!(wire.to_machine.is_empty(), "{known}: all of it was received");
    let step = wire.machine.read();
    assert!(matches!(step, ReadStep::Eof), "{known}: a clean end: {step:?}");
}

#[test]
fn tickets_that_meet_nobody_leave_the_end_clean() {
    as_server(|| {
        for known in KNOWN {
            let mut wire = with_queued_tickets(false);
            meet_nobody_knowing(known, &mut wire);
            if wire.machine.outcome().is_none() {
                // close_notify, which this side sends in answer.
                meet_nobody(&mut wire);
            }
            assert_eq!(wire.machine.outcome(), Some(Ok(())), "{known}");
            wire.is_over();

            let mut wire = with_queued_tickets(true);
            meet_nobody_knowing(known, &mut wire);
            assert_eq!(wire.machine.phase(), Phase::HalfClosed, "{known}: this side may write");
            wire.handle(Input::Close);
            meet_nobody(&mut wire);
            assert_eq!(wire.machine.outcome(), Some(Ok(())), "{known}");
            wire.is_over();
        }
    });
}

#[test]
fn data_that_meets_nobody_after_tickets_did_is_a_reset() {
    as_server(|| {
        for known in KNOWN {
            let mut wire = with_queued_tickets(true);
            meet_nobody_knowing(known, &mut wire);
            assert_eq!(wire.seal(b"lost"), 4);
            meet_nobody(&mut wire);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::ResetAfterEnd(32))), "{known}");
            let step = wire.machine.read();
            assert!(matches!(step, ReadStep::Eof), "{known}: still a clean end: {step:?}");
            wire.is_over();
        }
    });
}

#[test]
fn data_that_is_queued_behind_tickets_is_lost_with_them() {
    as_server(|| {
        for sent in [0, 1, usize::MAX] {
            let mut wire = with_queued_tickets(true);
            assert_eq!(wire.seal(b"lost"), 4);
            let mut transmit = wire.machine.next_transmit().expect("all of it waits");
            // All but the last byte, which is of the data.
            let sent = sent.min(transmit.bytes().len() - 1);
            transmit.sent(sent);
            wire.lent = Some(transmit);
            meet_nobody(&mut wire);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::ResetAfterEnd(32))), "{sent}");
            wire.deliver(usize::MAX);
            assert_eq!(wire.read_all(), 3);
            let step = wire.machine.read();
            assert!(matches!(step, ReadStep::Eof), "a clean end: {step:?}");
            wire.is_over();
        }
    });
}

/// rustls queues the answer with close_notify.
#[test]
fn the_answer_to_a_key_update_that_meets_nobody_loses_nothing() {
    in_both_roles(|| {
        for half_open in [false, true] {
            let mut config = machine_config();
            config.allow_half_open = half_open;
            let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
            wire.shake_hands(usize::MAX);
            wire.peer.writer().write_all(b"bye").unwrap();
            wire.peer.refresh_traffic_keys().unwrap();
            wire.peer.send_close_notify();
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.read_all(), 3);
            if half_open {
                wire.handle(Input::Close);
            }
            meet_nobody(&mut wire);
            assert_eq!(wire.machine.outcome(), Some(Ok(())), "half-open: {half_open}");
            wire.is_over();
        }
    });
}

/// A client that closes with session tickets unread makes the kernel report a reset, after its clean end.
#[test]
fn a_reset_after_a_clean_end_is_a_failure_only_if_something_was_written() {
    const RESET: Fault = Fault::Reset(Some(104));
    as_server(|| {
        for writes in [false, true] {
            for known in KNOWN {
                let mut config = machine_config();
                config.allow_half_open = true;
                let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
                wire.shake_hands(usize::MAX);
                if writes {
                    wire.write(b"answer");
                    wire.give_back(usize::MAX);
                }
                wire.peer.writer().write_all(b"bye").unwrap();
                wire.peer.send_close_notify();
                wire.serve();
                if known != "nothing" {
                    wire.deliver(usize::MAX);
                }
                if known == "everything" {
                    assert_eq!(wire.read_all(), 3);
                }
                wire.handle(Input::WireFailed(RESET));
                wire.deliver(usize::MAX);
                wire.read_all();
                let step = wire.machine.read();
                assert!(matches!(step, ReadStep::Eof), "a clean end: {step:?}");
                if !writes {
                    assert_eq!(wire.machine.phase(), Phase::HalfClosed, "{known}");
                    wire.handle(Input::Close);
                    meet_nobody(&mut wire);
                }
                let expected = if writes { Err(RESET) } else { Ok(()) };
                assert_eq!(wire.machine.outcome(), Some(expected), "{known}");
                wire.is_over();
            }
        }
    });
}

/// The kernel reports a reset once, and then a receive finds nothing.
#[test]
fn a_reset_that_is_kept_is_not_forgotten() {
    const RESET: Fault = Fault::Reset(Some(104));
    as_server(|| {
        for input in [None, Some(Input::CloseWrite), Some(Input::CancelRead)] {
            let mut wire = Wire::open(&rustls::version::TLS13, 0);
            wire.peer.writer().write_all(b"part").unwrap();
            wire.serve();
            wire.deliver(usize::MAX);
            wire.handle(Input::WireFailed(RESET));
            wire.handle(Input::WireFailed(Fault::Reset(None)));
            assert_eq!(wire.machine.outcome(), None, "close_notify may follow");
            let reads = !matches!(input, Some(Input::CancelRead));
            if let Some(input) = input {
                wire.handle(input);
            }
            assert_eq!(wire.read_all(), if reads { 4 } else { 0 });
            let permit = wire.machine.begin_background_recv().expect("it may");
            wire.receive(permit, RecvEvent::Eof);
            assert_eq!(wire.machine.outcome(), Some(Err(RESET)));
            let step = wire.machine.read();
            assert!(matches!(step, ReadStep::Fail(RESET)), "no end: {step:?}");
            wire.is_over();
        }
    });
}
