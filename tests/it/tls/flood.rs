//! Peers that send records without data as fast as they can: limits apply, and the flood ends the connection.

use std::io::{Read, Write};
use std::time::Instant;

use sockeye::{Error, ErrorKind, Socket, SocketOptions, TlsVersion};

use crate::support::tls::forge::{DATA, Forge, HANDSHAKE, message, ticket};
use crate::support::tls::{Opening, TlsCase, TlsPeer, authority, connect, options, server_config};
use crate::support::{
    HasErrorKind, PROMPT, SpawnedCall, assert_ended_with, assert_fails, at_once, crate_kind,
    fill_send_buffer, ms, read, read_exactly, small_send_buffer, spawn_blocked, spawn_call, timed,
    with_watchdog,
};

/// The records of a flood.
#[derive(Clone, Copy, Debug)]
enum Flood {
    /// One ticket per record.
    Tickets,
    /// Many small tickets per record.
    TicketsInBulk,
    /// Tickets of nearly 64 KiB, each over several records.
    LargeTickets,
    /// Empty records, with a ticket whenever rustls would otherwise treat them as an attack.
    Empty,
    /// The same, with the maximum padding.
    Padding,
}

const FLOODS: [Flood; 5] =
    [Flood::Tickets, Flood::TicketsInBulk, Flood::LargeTickets, Flood::Empty, Flood::Padding];

impl Flood {
    /// Seals a part of the flood, of a few hundred records at most.
    fn part(self, forge: &mut Forge) -> Vec<u8> {
        match self {
            Flood::Tickets => (0..64).flat_map(|_| forge.handshake(&ticket(200))).collect(),
            Flood::TicketsInBulk => forge.handshake(&ticket(100).repeat(16 * 1024 / 118)),
            Flood::LargeTickets => forge.handshake(&ticket(60_000)),
            Flood::Empty => {
                let empty: Vec<u8> = (0..31).flat_map(|_| forge.record(DATA, b"")).collect();
                [empty, forge.handshake(&ticket(8))].concat()
            }
            Flood::Padding => {
                let padded: Vec<u8> = (0..8).flat_map(|_| forge.padding(16_000)).collect();
                [padded, forge.handshake(&ticket(8))].concat()
            }
        }
    }
}

const SETTING: TlsCase = TlsCase { way: Opening::On, version: TlsVersion::Tls13 };

/// Opens a socket whose peer floods it at a cue and never ends by itself.
fn flooded(flood: Flood, options: SocketOptions) -> (TlsPeer, Socket) {
    let peer = SETTING.scripted(move |peer| {
        peer.wait_signal();
        let mut forge = peer.forge();
        peer.flood(|| flood.part(&mut forge));
    });
    let socket = SETTING.open(&peer, options);
    (peer, socket)
}

#[track_caller]
fn is_told_why(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(!error.is_retryable());
    assert!(error.to_string().contains("without data"), "{error}");
}

// -------------------------------------------------------------------- limits

#[test]
fn a_read_during_a_flood_ends_within_its_limit() {
    for flood in FLOODS {
        for deadline in [false, true] {
            with_watchdog(move || {
                let (peer, socket) = flooded(flood, SocketOptions::new());
                peer.signal();
                let limit = ms(1000);
                if deadline {
                    socket.set_read_deadline(Some(Instant::now() + limit));
                } else {
                    socket.set_read_timeout(Some(limit)).expect("not zero");
                }
                let (result, took) = timed(|| read(&socket, 100));
                let kind = crate_kind(&result.expect_err("the flood has no data"));
                assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Tls), "{kind:?}");
                assert!(took < limit + PROMPT, "{flood:?}: {took:?}");
                socket.abort();
            });
        }
    }
}

#[test]
fn a_deadline_moved_into_the_past_ends_a_read_during_a_flood() {
    for flood in FLOODS {
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            let reader = socket.reader();
            let reading = spawn_blocked(move || read(reader, 100));
            peer.signal();
            socket.set_read_deadline(Some(Instant::now()));
            let kind = crate_kind(&reading.join_within(PROMPT).expect_err("the flood has no data"));
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Tls), "{kind:?}");
            socket.abort();
        });
    }
}

#[test]
fn close_and_abort_end_a_read_during_a_flood() {
    for end in [|socket: &Socket| drop(socket.close()), Socket::abort] {
        for flood in FLOODS {
            with_watchdog(move || {
                let (peer, socket) = flooded(flood, SocketOptions::new());
                let reader = socket.reader();
                let reading = spawn_blocked(move || read(reader, 100));
                peer.signal();
                at_once(|| end(&socket));
                let kind =
                    crate_kind(&reading.join_within(PROMPT).expect_err("the flood has no data"));
                assert!(matches!(kind, ErrorKind::Closed | ErrorKind::Tls), "{kind:?}");
            });
        }
    }
}

#[test]
fn writes_and_flushes_during_a_flood_end_within_their_limits() {
    for flood in FLOODS {
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, small_send_buffer());
            let _ = fill_send_buffer(&socket);
            socket.set_write_timeout(Some(ms(500))).expect("not zero");
            peer.signal();
            let other = socket.clone();
            let flushing: SpawnedCall<_> = spawn_call(move || timed(|| other.writer().flush()));
            let (result, took) = timed(|| {
                loop {
                    if let Err(error) = (&socket).write(&[7; 10_000]) {
                        return error;
                    }
                }
            });
            let kind = crate_kind(&result);
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Tls), "{kind:?}");
            assert!(took < ms(500) + PROMPT, "{flood:?}: {took:?}");
            let (result, took) = flushing.join_within(3 * PROMPT);
            let kind = result.failure().expect("the peer reads nothing");
            assert!(matches!(kind, ErrorKind::TimedOut | ErrorKind::Tls), "{kind:?}");
            assert!(took < ms(500) + PROMPT, "{flood:?}: {took:?}");
            socket.abort();
        });
    }
}

#[test]
fn health_returns_soon_during_a_flood() {
    for flood in FLOODS {
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            peer.signal();
            let begun = Instant::now();
            while begun.elapsed() < ms(300) {
                // `health` processes received records up to the bound, which is slow in an unoptimised build.
                let (_, took) = timed(|| socket.health());
                assert!(took < 3 * PROMPT, "{flood:?}: {took:?}");
            }
            socket.abort();
        });
    }
}

// -------------------------------------------------------------------- the bound

#[test]
fn a_flood_ends_the_connection_and_gives_the_reason() {
    for flood in FLOODS {
        println!("{flood:?}");
        // With a blocked read.
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            peer.signal();
            let error = read(&socket, 100).expect_err("the flood has no data");
            is_told_why(Error::from_io(&error).expect("it carries the crate's error"));
            assert_ended_with(&socket, ErrorKind::Tls);
            peer.finish();
        });
        // Without a reader.
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            peer.signal();
            is_told_why(&socket.closed_timeout(2 * PROMPT).expect_err("the peer is hostile"));
            assert_ended_with(&socket, ErrorKind::Tls);
            peer.finish();
        });
        // With a cancelled reader.
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            socket.reader().cancel();
            peer.signal();
            is_told_why(&socket.closed_timeout(2 * PROMPT).expect_err("the peer is hostile"));
            peer.finish();
        });
        // After this side has ended.
        with_watchdog(move || {
            let (peer, socket) = flooded(flood, SocketOptions::new());
            socket.writer().close().expect("the peer reads");
            peer.signal();
            let error = read(&socket, 100).expect_err("the flood has no data");
            is_told_why(Error::from_io(&error).expect("it carries the crate's error"));
            peer.finish();
        });
    }
}

#[test]
fn data_before_a_flood_is_read_first() {
    with_watchdog(|| {
        let peer = SETTING.scripted(|peer| {
            let mut forge = peer.forge();
            peer.raw(&forge.record(DATA, b"data"));
            peer.flood(|| Flood::Tickets.part(&mut forge));
        });
        let socket = SETTING.open(&peer, SocketOptions::new());
        assert_eq!(read_exactly(&socket, 4).expect("the data arrived before"), b"data");
        let error = read(&socket, 100).expect_err("the flood has no data");
        is_told_why(Error::from_io(&error).expect("it carries the crate's error"));
        peer.finish();
    });
}

/// Between two records of data are fewer records than the bound, but many times the bound in all.
#[test]
fn records_without_data_between_data_are_not_a_flood() {
    with_watchdog(|| {
        const ROUNDS: usize = 30;
        let peer = SETTING.scripted(|peer| {
            let mut forge = peer.forge();
            for _ in 0..ROUNDS {
                for _ in 0..15 {
                    peer.raw(&Flood::Empty.part(&mut forge));
                }
                peer.raw(&forge.record(DATA, &[7; 1000]));
            }
            let end = forge.record(21, &[1, 0]);
            peer.raw(&end);
        });
        let socket = SETTING.open(&peer, SocketOptions::new());
        let mut all = Vec::new();
        (&socket).read_to_end(&mut all).expect("the records are below the bound");
        assert_eq!(all.len(), ROUNDS * 1000);
        peer.finish();
    });
}

/// A large answer arrives in many records, and each record completes before rustls returns data.
#[test]
fn handshakes_in_many_small_records_are_not_a_flood() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        with_watchdog(move || {
            let peer = TlsPeer::scripted(&server_config().only(version).fragments(64), |peer| {
                peer.handshake();
                peer.echo();
            });
            let socket = connect(&peer, options(authority()));
            (&socket).write_all(b"echo").expect("the peer reads");
            assert_eq!(read_exactly(&socket, 4).expect("it answers"), b"echo");
        });
    }
}

#[test]
fn a_handshake_in_endless_records_ends() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.expect_client_hello();
            // A message with a large length field, and one byte of it per record.
            let start = message(2, &vec![0; 60_000]);
            let mut bytes = start.chunks(1);
            peer.flood(|| {
                let byte = bytes.next().map_or(0, |byte| byte[0]);
                vec![HANDSHAKE, 3, 3, 0, 1, byte]
            });
        });
        let socket = connect(&peer, options(authority()));
        let error = socket.opened().expect_err("the handshake never completes");
        is_told_why(&error);
        assert_fails(read(&socket, 1), ErrorKind::Tls);
        peer.finish();
    });
}

// -------------------------------------------------------------------- slow work

/// Tickets that are slow to process: the limit of a call applies before the bound is reached.
#[cfg(feature = "rustls-0_23")]
mod slow {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::client::{
        ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    };
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, NamedGroup};
    use sockeye::{SecureTransport, TlsOptions};

    use super::*;
    use crate::support::tls::with;

    const EACH: Duration = ms(100);

    #[derive(Debug)]
    struct Slow;

    impl ClientSessionStore for Slow {
        fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}
        fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
            None
        }
        fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}
        fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
            None
        }
        fn remove_tls12_session(&self, _: &ServerName<'static>) {}
        fn insert_tls13_ticket(&self, _: ServerName<'static>, _: Tls13ClientSessionValue) {
            std::thread::sleep(EACH);
        }
        fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
            None
        }
    }

    fn slowly() -> SocketOptions {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(authority().roots())
            .with_no_client_auth();
        config.resumption = Resumption::store(Arc::new(Slow));
        let tls = TlsOptions::new().rustls_0_23_config(Arc::new(config)).server_name("localhost");
        with(SecureTransport::On, tls)
    }

    /// Starts a peer whose tickets are so large that one receive takes no more than one or two.
    fn peer() -> TlsPeer {
        SETTING.scripted(|peer| {
            peer.wait_signal();
            let mut forge = peer.forge();
            // Sending fails once the other end is gone.
            while peer.try_raw(&Flood::LargeTickets.part(&mut forge)).is_ok() {}
        })
    }

    /// Checks that `end`, called after a while, ends a read that these tickets keep busy, with this kind.
    fn ended_by(end: impl FnOnce(&Socket), kind: ErrorKind) {
        let peer = peer();
        let socket = connect(&peer, slowly());
        socket.opened().expect("the peer is trusted");
        let reader = socket.reader();
        let reading = spawn_blocked(move || timed(|| read(reader, 100)));
        peer.signal();
        std::thread::sleep(ms(250));
        end(&socket);
        let (result, took) = reading.join_within(2 * PROMPT);
        assert_fails(result, kind);
        assert!(took < ms(250) + 6 * EACH, "{took:?}");
        socket.abort();
    }

    #[test]
    fn a_limit_ends_a_read_during_slow_tickets() {
        with_watchdog(|| {
            let peer = peer();
            let socket = connect(&peer, slowly());
            socket.opened().expect("the peer is trusted");
            let reader = socket.reader();
            socket.set_read_timeout(Some(ms(250))).expect("not zero");
            let reading = spawn_blocked(move || timed(|| read(reader, 100)));
            peer.signal();
            let (result, took) = reading.join_within(2 * PROMPT);
            assert_fails(result, ErrorKind::TimedOut);
            assert!(took < ms(250) + 6 * EACH, "{took:?}");
            socket.abort();
        });
    }

    #[test]
    fn a_deadline_moved_into_the_past_ends_a_read_between_two_rounds() {
        for _ in 0..3 {
            with_watchdog(|| {
                ended_by(
                    |socket| socket.set_read_deadline(Some(Instant::now())),
                    ErrorKind::TimedOut,
                );
            });
        }
    }

    #[test]
    fn close_and_abort_end_a_read_between_two_rounds() {
        for _ in 0..3 {
            with_watchdog(|| ended_by(|socket| drop(socket.close()), ErrorKind::Closed));
            with_watchdog(|| ended_by(Socket::abort, ErrorKind::Closed));
        }
    }
}
