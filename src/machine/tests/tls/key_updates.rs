//! Tests of key updates, which a peer may request at any time.

use super::*;

/// The size of a TLS 1.3 record of this content: header, content, type and tag.
fn record(content: usize) -> usize {
    5 + content + 1 + 16
}

/// The size of a key update (RFC 8446, section 4.6.3).
const KEY_UPDATE: usize = 5;

#[test]
fn key_updates_anywhere_in_a_flight_are_answered_once_with_the_next_data() {
    in_both_roles(|| {
        for (before, after) in [(0, 0), (10, 0), (0, 10), (10, 10), (40_000, 40_000)] {
            for (step, updates) in [(1, 1), (1, 3), (30, 1), (usize::MAX, 1), (usize::MAX, 20)] {
                if step == 1 && before > 10 {
                    continue;
                }
                let mut wire = Wire::open(&rustls::version::TLS13, 1);
                wire.peer.set_buffer_limit(None);
                wire.peer.writer().write_all(&vec![1; before]).unwrap();
                for _ in 0..updates {
                    wire.peer.refresh_traffic_keys().unwrap();
                }
                wire.peer.writer().write_all(&vec![2; after]).unwrap();
                wire.serve();
                let mut got = 0;
                while !wire.to_machine.is_empty() {
                    wire.deliver(step);
                    got += wire.read_all();
                }
                assert_eq!(got, before + after);
                assert!(!wire.machine.has_unsent(), "{before} {after} {step}: an answer alone");
                for answer in [record(KEY_UPDATE), 0] {
                    assert_eq!(wire.seal(&[7; 10]), 10);
                    let sent = wire.give_back(usize::MAX);
                    let records = answer + record(10);
                    let records = if way() == Way::Proxied { record(records) } else { records };
                    assert_eq!(sent, records, "{before} {after} {step} {updates}");
                }
                wire.drain();
                wire.exchange(1000);
            }
        }
    });
}

#[test]
fn a_key_update_during_a_transmit_is_answered_in_order() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 1);
        wire.seal(&[1; 700]);
        wire.peer.refresh_traffic_keys().unwrap();
        wire.serve();
        wire.deliver(usize::MAX);
        wire.seal(&[2; 700]);
        wire.give_back(100);
        wire.drain();
        assert_eq!(wire.served, [[1; 700], [2; 700]].concat());
    });
}

#[test]
fn endless_key_updates_from_a_peer_that_reads_nothing_take_bounded_memory() {
    in_both_roles(|| {
        let mut wire = Wire::open(&rustls::version::TLS13, 1);
        wire.peer.set_buffer_limit(None);
        for _ in 0..10_000 {
            wire.peer.writer().write_all(&[1]).unwrap();
            wire.peer.refresh_traffic_keys().unwrap();
            wire.serve();
            wire.deliver(usize::MAX);
            wire.read_all();
        }
        let waits = wire.machine.next_transmit().map_or(0, |transmit| transmit.bytes().len());
        assert!(waits <= 2 * SEND_QUEUE, "{waits} bytes of answers are queued");
    });
}

#[test]
fn a_ticket_split_over_records_survives_seals_in_between() {
    for step in [1, 50, 77, 200, usize::MAX] {
        let mut config = server_config(&rustls::version::TLS13);
        config.max_fragment_size = Some(64);
        config.send_tls13_tickets = 4;
        let mut wire = Wire::with(machine_config(), config, 0);
        while wire.machine.opened().is_none() {
            wire.transmit(usize::MAX);
            wire.serve();
            wire.deliver(step);
        }
        for _ in 0..2000 {
            wire.transmit(usize::MAX);
            wire.serve();
            if wire.to_machine.is_empty() {
                break;
            }
            wire.deliver(step);
            assert_eq!(wire.seal(&[7; 10]), 10);
            wire.give_back(usize::MAX);
        }
        assert_eq!(wire.machine.phase(), Phase::Open);
        wire.exchange(2000);
    }
}
