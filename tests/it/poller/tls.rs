//! Pollers over TLS: readiness is that of the application data.

use std::io::ErrorKind;
use std::time::Duration;

use sockeye::{Events, Interest, Poller};

use super::{READABLE, WRITABLE, assert_events, assert_quiet, drain, wait};
use crate::support::tls::forge::ticket;
use crate::support::tls::{TlsPeer, ask, authority, options, server_config, upgradable};
use crate::support::{
    PROMPT, assert_bytes_eq, eventually, ms, random_bytes, with_limit, with_watchdog,
};

#[test]
fn a_handshake_needs_no_thread_and_tickets_are_no_event() {
    with_watchdog(|| {
        let peer = TlsPeer::secured(&server_config(), |peer| {
            peer.wait_signal();
            let mut forge = peer.forge();
            for _ in 0..3 {
                let late = forge.handshake(&ticket(32));
                peer.raw(&late);
            }
            peer.wait_signal();
            let data = forge.record(23, b"data");
            peer.raw(&data);
            peer.wait_signal();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&socket, 1, Interest::OPENED).unwrap();
        poller.add(&socket, 2, READABLE.level()).unwrap();
        poller.add(&socket, 3, WRITABLE).unwrap();
        let mut events = wait(&poller, 5 * PROMPT);
        events.extend(wait(&poller, super::QUIET));
        events.sort();
        assert_eq!(events, ["1o", "3w"]);
        peer.signal();
        assert_quiet(&poller);
        peer.signal();
        assert_events(&poller, ["2r"]);
        // Decrypted data is not in the kernel any more.
        assert_eq!(socket.try_read(&mut [0; 1]).unwrap(), 1);
        assert_events(&poller, ["2r"]);
        assert_eq!(drain(&socket), b"ata");
        assert_quiet(&poller);
        poller.modify(2, READABLE).unwrap();
        assert_quiet(&poller);
        socket.abort();
        drop(peer);
    });
}

#[test]
fn the_old_socket_of_an_upgrade_reports_its_end() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            peer.handshake();
            peer.send(b"over tls");
            peer.ends();
        });
        let socket = sockeye::connect_with(peer.address(), upgradable(authority())).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&socket, 1, READABLE).unwrap();
        ask(&socket);
        // The go-ahead may have been seen before it was read.
        wait(&poller, Duration::ZERO);
        poller.modify(1, READABLE).unwrap();
        let secure = socket.start_tls().unwrap();
        // Its reads fail at once. It is closed once the event loop has let go of it.
        match &wait(&poller, PROMPT)[..] {
            [event] if event == "1r" => assert_events(&poller, ["1c"]),
            events => assert_eq!(events, ["1rc"]),
        }
        poller.add(&secure, 2, READABLE | Interest::OPENED).unwrap();
        let first = wait(&poller, 5 * PROMPT);
        assert!(first == ["2o"] || first == ["2ro"], "{first:?}");
        eventually(PROMPT, "the data arrives", || secure.peek(&mut [0; 8]).is_ok());
        poller.modify(2, READABLE).unwrap();
        assert!(wait(&poller, PROMPT)[0].starts_with("2r"));
        assert_eq!(drain(&secure), b"over tls");
        peer.finish();
    });
}

#[test]
fn room_in_the_queue_is_reported() {
    with_watchdog(|| {
        let (sender, receiver) = std::sync::mpsc::channel::<usize>();
        let peer = TlsPeer::secured(&server_config(), move |peer| {
            let count = receiver.recv().unwrap();
            peer.receive(count);
            peer.wait_signal();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        socket.opened().unwrap();
        let poller = Poller::new().unwrap();
        let chunk = random_bytes(2, 30_000);
        let mut accepted = 0;
        poller.add(&socket, 7, WRITABLE).unwrap();
        // The systems of both ends move data for a while, which makes room.
        while let [event] = &wait(&poller, ms(300))[..] {
            assert_eq!(event, "7w");
            accepted += socket.try_write(&chunk).unwrap();
            while let Ok(bytes) = socket.try_write(&chunk) {
                accepted += bytes;
            }
            poller.modify(7, WRITABLE).unwrap();
        }
        sender.send(accepted).unwrap();
        assert_events(&poller, ["7w"]);
        assert!(socket.try_write(&chunk).unwrap() > 0);
        peer.signal();
        socket.abort();
        drop(peer);
    });
}

/// Messages of many sizes, whose records arrive in pieces that have nothing to do with the records. A poller that sleeps
/// while decrypted data is unread would never see the rest.
#[test]
fn messages_in_random_cuts_never_get_stuck() {
    const MESSAGES: u64 = 1500;
    let size = |number: u64| {
        let random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        match number % 10 {
            0 => 1 + (random % 65_536) as usize,
            1..4 => 1 + (random % 2000) as usize,
            _ => 1 + (random % 30) as usize,
        }
    };
    with_limit(Duration::from_secs(120), move || {
        let total: usize = (0..MESSAGES).map(size).sum();
        let all = random_bytes(9, total);
        let expected = all.clone();
        let peer = TlsPeer::secured(&server_config(), move |peer| {
            let mut wire = Vec::new();
            let mut rest = &all[..];
            for number in 0..MESSAGES {
                let (message, later) = rest.split_at(size(number));
                rest = later;
                for part in message.chunks(16_000) {
                    wire.extend(peer.sealed(part));
                }
                // Several records together, or a part of one.
                let cut = size(number * 31 + 7).min(wire.len());
                let now: Vec<u8> = wire.drain(..cut).collect();
                peer.raw(&now);
                if number % 16 == 0 {
                    std::thread::yield_now();
                }
            }
            peer.raw(&wire);
            peer.ends();
        });
        let socket = sockeye::connect_with(peer.address(), options(authority())).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&socket, 7, READABLE).unwrap();
        let mut events = Events::with_capacity(4);
        let mut received = Vec::new();
        let mut round = 0_usize;
        loop {
            assert!(
                poller.wait(&mut events, 20 * PROMPT).unwrap() > 0,
                "stuck at {}",
                received.len()
            );
            round += 1;
            let is_level = round % 3 == 0;
            // Sometimes only a part is read.
            let mut buf = vec![0; 1 + round * 7919 % 40_000];
            match socket.try_read(&mut buf) {
                Ok(0) => break,
                Ok(bytes) => received.extend_from_slice(&buf[..bytes]),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let interest = if is_level { READABLE.level() } else { READABLE };
            poller.modify(7, interest).unwrap();
        }
        assert_bytes_eq(&received, &expected);
        peer.finish();
    });
}
