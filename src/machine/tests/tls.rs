//! Tests of the machine over TLS, in both roles, against an in-memory rustls connection.

#[cfg(feature = "rustls-0_23")]
mod configured;
mod ends;
mod https_proxy;
mod key_updates;
mod lending;
mod proxied;
mod serving;
mod sessions;
mod site;
mod undelivered;
mod wire;

use std::io::Write;
use std::time::{Duration, Instant};

use rustls::SupportedProtocolVersion;

use crate::info::Phase;
use crate::machine::{
    Actions, Background, Fault, Input, Machine, ReadStep, RecvEvent, RecvPermit, Release,
    TimerKind, Transmit,
};

use self::site::{Way, in_both_roles, machine_config, on_way, server_config, way};
use self::wire::Wire;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];
const LIVES: u64 = 1500;
/// The maximum amount of sealed data that the kernel has not accepted, in bytes.
const SEND_QUEUE: usize = 64 * 1024;

// -------------------------------------------------------------------- handshakes

#[test]
fn a_handshake_succeeds_whatever_the_size_of_receives() {
    in_both_roles(|| {
        for version in VERSIONS {
            for step in [1, 2, 7, 100, usize::MAX] {
                let mut wire = Wire::new(version, step as u64);
                wire.shake_hands(step);
                wire.exchange(100);
            }
        }
    });
}

#[test]
fn a_handshake_that_takes_too_long_times_out_and_leaves_no_timer() {
    in_both_roles(|| {
        let mut config = machine_config();
        config.connect_timeout = Some(Duration::from_secs(3));
        let mut wire = Wire::of(config, &rustls::version::TLS13, 0);
        let (at, limit) = wire.machine.next_timer().unwrap();
        assert_eq!(limit, TimerKind::Handshake);
        wire.now = at;
        wire.handle(Input::TimerExpired);
        assert_eq!(wire.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Handshake))));
        assert_eq!(wire.machine.next_timer(), None);
        assert_eq!(wire.released, Some(Release::Close));
    });
}

#[test]
fn a_second_start_during_a_handshake_has_no_effect() {
    let now = Instant::now();
    let setup = machine_config().tls.unwrap();
    let mut machine = Machine::upgraded(&machine_config(), &setup, &[], None, None, now);
    let expected = Actions { transmit: true, drive_recv: true, ..Actions::default() };
    assert_eq!(machine.start(now), expected);
    assert!(machine.start(now).is_empty());
    let mut wire = Wire::new(&rustls::version::TLS13, 0);
    assert!(wire.machine.start(now).is_empty());
}

#[test]
fn after_cancel_read_a_background_permit_stays_valid_and_a_readers_does_not() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        let ReadStep::Ingest(reader) = wire.machine.read() else { panic!("not open") };
        wire.handle(Input::CancelRead);
        assert!(!wire.machine.permits_recv(&reader));
        assert_eq!(wire.machine.background(), Background::Nothing, "a reader is at the wire");
        wire.receive(reader, RecvEvent::Cancelled);
        assert_eq!(wire.machine.background(), Background::Ingest);
        let permit = wire.machine.begin_background_recv().expect("the machine discards input");
        assert!(wire.machine.permits_recv(&permit));
        wire.receive(permit, RecvEvent::Cancelled);
    });
}

#[test]
fn garbage_after_a_tls_answer_is_not_reported_as_plaintext() {
    for version in VERSIONS {
        for (answered, hint) in [(false, true), (true, false)] {
            let mut wire = Wire::new(version, 0);
            wire.transmit(usize::MAX);
            wire.serve();
            wire.to_machine.truncate(if answered { usize::MAX } else { 0 });
            wire.to_machine.extend_from_slice(b"220 mail.example.com ESMTP\r\n");
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)));
            let why = wire.machine.tls_failure().unwrap_or_default();
            assert_eq!(why.contains("does it expect plaintext"), hint, "{why}");
        }
    }
}

#[test]
fn a_fin_anywhere_in_the_servers_flight_fails_the_handshake() {
    for version in VERSIONS {
        let whole = {
            let mut wire = Wire::new(version, 0);
            wire.transmit(usize::MAX);
            wire.serve();
            wire.to_machine.len()
        };
        for cut in 0..whole {
            let mut wire = Wire::new(version, 0);
            wire.transmit(usize::MAX);
            wire.serve();
            wire.deliver(cut);
            let permit = wire.machine.begin_background_recv().expect("the machine needs data");
            wire.receive(permit, RecvEvent::Eof);
            if version == &rustls::version::TLS12 || cut + 400 < whole {
                assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)), "{cut} of {whole}");
            }
            wire.is_over();
        }
    }
}

#[test]
fn abort_and_close_end_a_handshake_at_any_point() {
    in_both_roles(|| {
        for version in VERSIONS {
            for input in [Input::Abort, Input::Close, Input::AbortWrite] {
                for cut in (0..1500).step_by(97) {
                    let mut wire = Wire::new(version, 0);
                    wire.transmit(usize::MAX);
                    wire.serve();
                    wire.deliver(cut);
                    wire.handle(input);
                    let lent = wire.machine.next_transmit();
                    assert!(wire.machine.phase() != Phase::Closed || lent.is_none());
                    wire.handle(Input::Close);
                    if let Some(mut transmit) = lent {
                        let bytes = transmit.bytes().len();
                        transmit.sent(bytes);
                        let actions = wire.machine.transmit_done(&mut transmit);
                        wire.see(actions);
                        wire.transmit(usize::MAX);
                    }
                    wire.is_over();
                }
            }
        }
    });
}

// -------------------------------------------------------------------- data

#[test]
fn data_arrives_in_both_directions_in_chunks_of_any_size() {
    in_both_roles(|| {
        for (seed, version) in (0..6).zip(VERSIONS.into_iter().cycle()) {
            let mut wire = Wire::open(version, seed);
            wire.exchange(300_000);
        }
    });
}

#[test]
fn accepted_data_is_bounded_while_nothing_is_sent() {
    in_both_roles(|| {
        for version in VERSIONS {
            for chunk in [1, 100, 16_384, 70_000] {
                let mut wire = Wire::open(version, 0);
                let mut accepted = 0;
                while wire.machine.can_seal() {
                    let bytes = wire.seal(&vec![7; chunk]);
                    assert!(bytes > 0);
                    accepted += bytes;
                }
                assert!(accepted > 0);
                assert!(accepted <= SEND_QUEUE, "{accepted}");
                wire.give_back(0);
                wire.drain();
                assert_eq!(wire.served.len(), accepted);
            }
        }
    });
}

#[test]
fn free_space_in_the_send_queue_wakes_only_a_waiting_writer() {
    in_both_roles(|| {
        for waits in [true, false] {
            let mut wire = Wire::open(&rustls::version::TLS13, 0);
            while wire.machine.can_seal() {
                wire.seal(&[7; 16_384]);
            }
            let permit = waits.then(|| wire.permit());
            let mut transmit = wire.lent.take().expect("a transmit buffer is lent");
            transmit.sent(usize::MAX);
            let actions = wire.machine.transmit_done(&mut transmit);
            assert_eq!(actions.wake.writable, waits, "{actions:?}");
            let _ = permit;
        }
    });
}

#[test]
fn a_handshake_does_not_receive_while_it_transmits() {
    let mut wire = Wire::new(&rustls::version::TLS13, 0);
    let mut hello = wire.machine.next_transmit().expect("a ClientHello is queued");
    assert!(wire.machine.begin_background_recv().is_none());
    hello.sent(usize::MAX);
    let actions = wire.machine.transmit_done(&mut hello);
    assert!(actions.drive_recv, "the deferred receive is requested again: {actions:?}");
    assert!(wire.machine.begin_background_recv().is_some());
}

#[test]
fn data_sealed_while_a_transmit_is_lent_follows_it() {
    in_both_roles(|| {
        for version in VERSIONS {
            for part in [0, 1, 30, 1000] {
                let mut wire = Wire::open(version, 0);
                wire.seal(&[1; 500]);
                wire.seal(&[2; 500]);
                wire.give_back(part);
                let lent = wire.machine.next_transmit().expect("something waits");
                wire.lent = Some(lent);
                wire.seal(&[3; 500]);
                wire.give_back(part);
                wire.drain();
                assert_eq!(wire.served, [[1; 500], [2; 500], [3; 500]].concat());
            }
        }
    });
}

#[test]
fn a_reused_transmit_buffer_carries_nothing_over() {
    in_both_roles(|| {
        let mut one = Wire::open(&rustls::version::TLS13, 0);
        let mut transmit = Transmit::default();
        let permit = one.permit();
        let (bytes, _) = one.machine.seal(permit, &[1; 1000], &mut transmit, || one.now);
        assert_eq!(bytes, 1000);
        one.handle(Input::Abort);
        drop(one.machine.transmit_done(&mut transmit));
        assert!(transmit.is_empty(), "it holds nothing of the closed connection");

        let mut other = Wire::open(&rustls::version::TLS13, 0);
        other.seal(&[2; 1000]);
        let permit = other.permit();
        let (bytes, _) = other.machine.seal(permit, &[3; 1000], &mut transmit, || other.now);
        assert_eq!(bytes, 1000);
        assert!(transmit.is_empty(), "other ciphertext is queued before it");
    });
}

#[test]
fn a_corrupt_byte_anywhere_in_a_record_fails_tls_and_sends_an_alert() {
    in_both_roles(|| {
        for version in VERSIONS {
            let length = {
                let mut wire = Wire::open(version, 0);
                wire.peer.writer().write_all(&[1; 20]).unwrap();
                wire.serve();
                wire.to_machine.len()
            };
            for at in 0..length {
                let mut wire = Wire::open(version, 0);
                wire.peer.writer().write_all(&[1; 20]).unwrap();
                wire.serve();
                wire.to_machine[at] ^= 0x80;
                wire.deliver(usize::MAX);
                if at == 3 || at == 4 {
                    // The length: the machine waits for more, or finds a record that is too long.
                    continue;
                }
                if at == 1 || at == 2 {
                    // The version, which receivers ignore.
                    continue;
                }
                assert_eq!(wire.machine.outcome(), Some(Err(Fault::Tls)), "byte {at}");
                let why = wire.machine.tls_failure().unwrap_or_default().to_owned();
                assert!(!why.contains("panic"), "byte {at}: {why}");
                assert!(!wire.machine.take_final_records().is_empty(), "byte {at}: an alert");
                wire.is_over();
            }
        }
    });
}

#[test]
fn a_corrupt_record_after_close_notify_fails_without_a_panic() {
    in_both_roles(|| {
        for version in VERSIONS {
            let mut wire = Wire::open(version, 0);
            wire.handle(Input::CloseWrite);
            wire.transmit(usize::MAX);
            wire.peer.writer().write_all(&[1; 20]).unwrap();
            wire.serve();
            let last = wire.to_machine.len() - 1;
            wire.to_machine[last] ^= 1;
            wire.deliver(usize::MAX);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::Tls)));
            let why = wire.machine.tls_failure().unwrap_or_default().to_owned();
            assert!(!why.contains("panic"), "{why}");
            assert!(wire.machine.take_final_records().is_empty(), "nothing follows close_notify");
        }
    });
}

// -------------------------------------------------------------------- random inputs

#[test]
fn every_rule_holds_for_random_inputs_over_tls() {
    in_both_roles(|| {
        for seed in 0..lives() {
            let life = std::panic::catch_unwind(|| live(seed));
            assert!(life.is_ok(), "seed {seed} violated a rule");
        }
    });
}

#[test]
fn every_rule_holds_for_random_inputs_in_plaintext_through_an_https_proxy() {
    on_way(Way::ToProxy, || {
        for seed in 0..lives() {
            let life = std::panic::catch_unwind(|| live(seed));
            assert!(life.is_ok(), "seed {seed} violated a rule");
        }
    });
}

/// Returns the number of runs: fewer where a second session takes time.
fn lives() -> u64 {
    if way() == Way::Direct { LIVES } else { LIVES / 3 }
}

fn live(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let version = VERSIONS[random.usize(..2)];
    let mut config = machine_config();
    config.allow_half_open = random.bool();
    let mut wire = Wire::of(config, version, seed);
    wire.peer.set_buffer_limit(None);
    let violent = random.u8(0..10);
    let mut ended = false;
    let mut truncated = false;
    let mut fin = false;
    let mut receiving: Option<RecvPermit> = None;
    for step in 0..random.usize(10..120) {
        let size = match random.u8(..4) {
            0 => random.usize(1..10),
            1 => random.usize(1..400),
            2 => random.usize(1..5_000),
            _ => random.usize(1..70_000),
        };
        match random.u8(0..24) {
            0..=3 => wire.transmit_or_back(size),
            4..=6 => wire.serve(),
            7..=9 if receiving.is_none() && random.bool() => wire.deliver_and_keep(size),
            7..=9 if receiving.is_none() => wire.deliver(size),
            10 | 11 => {
                if receiving.is_none() {
                    wire.read_some(size);
                }
            }
            12 | 13 if wire.lent.is_none() || random.bool() => {
                let bytes_to_seal: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
                wire.write(&bytes_to_seal);
            }
            14 | 15 if !ended && !wire.peer.is_handshaking() => {
                let bytes_to_seal: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
                wire.peer.writer().write_all(&bytes_to_seal).unwrap();
                wire.sent_by_peer.extend(bytes_to_seal);
            }
            16 if version == &rustls::version::TLS13 && !ended => {
                let _ = wire.peer.refresh_traffic_keys();
            }
            17 if !ended && !wire.peer.is_handshaking() && random.u8(..4) == 0 => {
                ended = true;
                wire.peer.send_close_notify();
            }
            18 if random.u8(..4) == 0 => wire.handle(Input::CloseWrite),
            19 if random.u8(..8) == 0 => wire.handle(Input::CancelRead),
            20 if violent == 0 && step > 20 => {
                wire.handle(Input::WireFailed(Fault::Reset(None)));
            }
            21 if violent == 1 && step > 20 => wire.handle(Input::Abort),
            22 if violent == 2 && step > 20 && !wire.to_machine.is_empty() => {
                let at = random.usize(..wire.to_machine.len());
                wire.to_machine[at] ^= 1 << random.u8(..8);
                wire.mangled = wire.peer.is_handshaking();
                truncated = true;
            }
            23 if receiving.is_none() && random.bool() => {
                if let ReadStep::Ingest(permit) = wire.machine.read() {
                    receiving = Some(permit);
                }
            }
            _ => {
                if let Some(loan) = wire.loan.take() {
                    let over = wire.machine.outcome().is_some();
                    assert!(wire.restore(loan).is_none() || over, "the machine needs the session");
                }
                if let Some(permit) = receiving.take() {
                    if violent == 3 && random.bool() {
                        fin = true;
                        wire.receive(permit, RecvEvent::Eof);
                    } else {
                        wire.receive(permit, RecvEvent::Cancelled);
                    }
                }
            }
        }
    }
    // A close ends every run, once everything is returned.
    wire.handle(Input::Close);
    if let Some(loan) = wire.loan.take() {
        wire.restore(loan);
    }
    if let Some(permit) = receiving.take() {
        wire.receive(permit, RecvEvent::Cancelled);
    }
    if wire.lent.is_some() {
        wire.give_back(usize::MAX);
    }
    wire.transmit(usize::MAX);
    assert_eq!(wire.machine.phase(), Phase::Closed);
    wire.read_all();
    wire.handle(Input::Close);
    wire.is_over();
    assert!(!wire.machine.has_unsent(), "nothing is left to send");
    let final_records = wire.machine.take_final_records();
    wire.pass(&final_records);
    wire.serve();
    assert!(wire.written.starts_with(&wire.served), "the server has a prefix");
    if wire.machine.outcome() == Some(Ok(())) && wire.shut && !truncated && wire.opened_well {
        assert_eq!(wire.served, wire.written, "the server has everything");
        assert!(wire.peer_saw_close_notify || fin, "the server saw the EOF");
    }
}
