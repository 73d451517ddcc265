//! The dialogue with an `https` proxy, plaintext behind it, and upgrades through it. The other tests of TLS run through
//! such a proxy as well.

mod bench;
mod injected;
mod last_records;

use std::io::Write;

use self::bench::Bench;
use super::VERSIONS;
use super::https_proxy::{ACCEPTED, HttpsProxy, proxy};
use super::site::{Way, address, machine_config, on_way, site};
use super::wire::Wire;
use crate::error::{ProxyReply, Step};
use crate::machine::{
    Background, Fault, Input, Machine, RecvEvent, Release, TimerKind, Transmit, UpgradeError,
    WriteStep,
};
use crate::{Proxy, TlsOptions};

#[test]
fn plaintext_flows_through_an_https_proxy_in_pieces_of_any_size() {
    on_way(Way::ToProxy, || {
        for seed in 0..12 {
            let mut wire = Wire::new(&rustls::version::TLS13, seed);
            assert_eq!(wire.machine.opened(), Some(Ok(())));
            assert!(wire.machine.is_tls() && wire.machine.negotiated().is_none());
            assert_eq!(wire.machine.upgrade_error(), None);
            wire.exchange(100_000);
            wire.handle(Input::Close);
            wire.drain();
            assert!(wire.shut && wire.peer_saw_close_notify);
            assert_eq!(wire.machine.outcome(), Some(Ok(())));
        }
    });
}

#[test]
fn only_close_notify_of_the_proxy_ends_plaintext_cleanly() {
    on_way(Way::ToProxy, || {
        for seed in 0..4 {
            let mut wire = Wire::new(&rustls::version::TLS13, seed);
            wire.peer.writer().write_all(b"bye").unwrap();
            wire.peer.send_close_notify();
            wire.serve();
            wire.deliver(usize::MAX);
            assert_eq!(wire.read_all(), 3);
            wire.drain();
            assert_eq!(wire.machine.outcome(), Some(Ok(())));

            let mut wire = Wire::new(&rustls::version::TLS13, seed);
            let permit = wire.machine.begin_background_recv().expect("the machine needs data");
            wire.receive(permit, RecvEvent::Eof);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::Truncated)));
        }
    });
}

#[test]
fn of_two_sessions_the_inner_one_decides_how_it_ends() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            for seed in 0..4 {
                // The proxy ends without close_notify, after that of the target.
                let mut wire = Wire::open(version, seed);
                wire.peer.send_close_notify();
                wire.serve();
                wire.deliver(usize::MAX);
                wire.drain();
                assert_eq!(wire.machine.outcome(), Some(Ok(())));

                // The proxy ends cleanly, and the target does not.
                let mut wire = Wire::open(version, seed);
                wire.peer.writer().write_all(b"bye").unwrap();
                wire.serve();
                wire.deliver(usize::MAX);
                wire.proxy.as_mut().expect("there is one").connection.send_close_notify();
                wire.deliver_from_proxy();
                assert_eq!(wire.read_all(), 3, "data before the end stays readable");
                wire.deliver_from_proxy();
                assert_eq!(wire.machine.outcome(), Some(Err(Fault::Truncated)));
                assert!(!wire.machine.failed_with_proxy());
            }
        }
    });
}

/// As over a direct connection, whose FIN is behind the data.
#[test]
fn while_data_of_a_target_that_ended_is_unread_writes_are_sealed() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            for seed in 0..4 {
                let mut wire = Wire::open(version, seed);
                wire.peer.writer().write_all(b"bye").unwrap();
                wire.serve();
                let data = std::mem::take(&mut wire.to_machine);
                let proxy = wire.proxy.as_mut().expect("there is one");
                let mut bytes = proxy.pass_down(&data);
                proxy.connection.send_close_notify();
                bytes.extend(proxy.pass_down(&[]));
                wire.deliver_raw(&bytes);
                for _ in 0..2 {
                    wire.write(b"more");
                }
                assert_eq!(wire.written, b"moremore");
                assert_eq!(wire.read_all(), 3);
                wire.deliver_from_proxy();
                assert_eq!(wire.machine.outcome(), Some(Err(Fault::Truncated)));
            }
        }
    });
}

#[test]
fn both_sessions_end_before_fin() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            for seed in 0..4 {
                for input in [Input::Close, Input::CloseWrite] {
                    let mut wire = Wire::open(version, seed);
                    wire.write(b"last");
                    wire.handle(input);
                    assert!(!wire.shut, "accepted data goes first");
                    wire.drain();
                    assert!(wire.shut && wire.peer_saw_close_notify);
                    assert!(wire.proxy.as_ref().is_some_and(|proxy| proxy.saw_close_notify));
                    assert_eq!(wire.served, b"last");
                    // Nothing but two close_notify was left.
                    assert!(!wire.machine.has_undelivered_data());
                }
            }
        }
    });
}

#[test]
fn only_close_notify_left_is_no_undelivered_data() {
    on_way(Way::Proxied, || {
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.handle(Input::CloseWrite);
        assert!(wire.machine.has_unsent() && !wire.machine.has_undelivered_data());
        let mut wire = Wire::open(&rustls::version::TLS13, 0);
        wire.write(b"x");
        wire.handle(Input::CloseWrite);
        assert!(wire.machine.has_undelivered_data());
    });
}

#[test]
fn a_broken_record_of_the_proxy_fails_both_sessions() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            let mut wire = Wire::open(version, 0);
            wire.deliver_raw(&[
                23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0,
            ]);
            assert_eq!(wire.machine.outcome(), Some(Err(Fault::Tls)));
            assert!(wire.machine.failed_with_proxy());
            assert!(!wire.machine.take_final_records().is_empty(), "an alert");
        }
    });
}

#[test]
fn what_follows_the_answer_belongs_to_the_target() {
    let whole = [ACCEPTED, b"220 ready\r\n"].concat();
    for version in VERSIONS {
        for cut in 0..=whole.len() {
            let mut bench = Bench::new(&proxy(cut % 2 == 1), false);
            bench.ask(HttpsProxy::new(version, &whole[..cut]));
            let opens = cut >= ACCEPTED.len();
            assert_eq!(bench.machine.opened(), opens.then_some(Ok(())), "{cut} bytes");
            let mut greeting = bench.read();
            bench.deliver(&whole[cut..]);
            assert_eq!(bench.machine.opened(), Some(Ok(())), "{cut} bytes");
            greeting.extend(bench.read());
            assert_eq!(greeting, b"220 ready\r\n", "{cut} bytes");
        }
    }
}

#[test]
fn a_single_byte_at_a_time_makes_no_difference() {
    let mut bench = Bench::new(&proxy(false), false);
    bench.ask(HttpsProxy::new(&rustls::version::TLS13, b""));
    for byte in ACCEPTED {
        assert_eq!(bench.machine.opened(), None);
        bench.deliver(&[*byte]);
    }
    assert_eq!(bench.machine.opened(), Some(Ok(())));
}

#[test]
fn bytes_between_the_answer_and_the_handshake_are_refused() {
    for injected in [&b"2"[..], b"220 mail\r\n", &[22, 3, 3, 0, 4, 14, 0, 0, 0], &[b'x'; 5000]] {
        for is_foreign in [false, true] {
            let mut bench = Bench::new(&proxy(is_foreign), true);
            let answer = [ACCEPTED, injected].concat();
            bench.ask(HttpsProxy::new(&rustls::version::TLS13, &answer));
            assert_eq!(bench.machine.opened(), Some(Err(Fault::UnreadPlaintext)));
            bench.pass_final();
            assert!(bench.proxy.saw_close_notify, "an orderly end");
        }
    }
}

#[test]
fn an_answer_before_the_request_is_refused() {
    let mut bench = Bench::new(&proxy(false), false);
    let mut proxy = HttpsProxy::new(&rustls::version::TLS12, b"");
    proxy.is_early = true;
    bench.ask(proxy);
    assert_eq!(bench.machine.opened(), Some(Err(Fault::Proxy(ProxyReply::Malformed))));
    assert_eq!(bench.machine.proxy_answer(), Some("answered before it was asked"));
    assert!(!bench.proxy.is_asked);
}

/// The end comes in one piece with the last message of the handshake, which TLS 1.2 leaves to the server.
#[test]
fn a_proxy_that_ends_before_the_request_is_not_asked() {
    for is_foreign in [false, true] {
        let mut bench = Bench::new(&proxy(is_foreign), true);
        let mut proxy = HttpsProxy::new(&rustls::version::TLS12, ACCEPTED);
        proxy.leaves_early = true;
        bench.ask(proxy);
        let disconnected = Fault::Proxy(ProxyReply::Disconnected);
        assert_eq!(bench.machine.opened(), Some(Err(disconnected)));
        assert!(!bench.proxy.is_asked);
    }
}

#[test]
fn a_refusal_an_end_and_a_timeout_name_the_proxy() {
    let refused = |answer: &[u8]| {
        let mut bench = Bench::new(&proxy(false), true);
        bench.ask(HttpsProxy::new(&rustls::version::TLS13, answer));
        bench
    };
    let mut bench = refused(b"HTTP/1.1 403 Forbidden\r\n\r\nGo away");
    assert_eq!(bench.machine.opened(), Some(Err(Fault::Proxy(ProxyReply::Http(403)))));
    assert_eq!(bench.machine.proxy_answer(), Some("refused: 403 Forbidden"));
    assert_eq!(bench.released, Some(Release::Linger));
    bench.pass_final();
    assert!(bench.proxy.saw_close_notify);

    let disconnected = Some(Err(Fault::Proxy(ProxyReply::Disconnected)));
    let mut bench = refused(b"HTTP/1.1 2");
    bench.proxy.connection.send_close_notify();
    bench.deliver(b"");
    assert_eq!(bench.machine.opened(), disconnected);
    let mut bench = refused(b"HTTP/1.1 2");
    bench.eof();
    assert_eq!(bench.machine.opened(), disconnected);
    // In the handshake.
    let mut bench = Bench::new(&proxy(false), true);
    bench.transmit();
    bench.eof();
    assert_eq!(bench.machine.opened(), disconnected);
    assert!(bench.machine.tls_failure().is_none());

    let mut bench = refused(b"HTTP/1.1 2");
    let (at, kind) = bench.machine.next_timer().expect("connecting is bounded");
    assert_eq!((kind, bench.machine.step()), (TimerKind::Proxy, Some(Step::Proxy)));
    bench.now = at;
    let actions = bench.machine.handle(Input::TimerExpired, at);
    bench.see(actions);
    assert_eq!(bench.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Proxy))));
    assert_eq!(bench.machine.proxy_answer(), Some("did not answer in time"));
}

#[test]
fn a_certificate_of_the_proxy_that_is_not_trusted_fails_before_the_request() {
    for version in VERSIONS {
        let options = TlsOptions::new().add_root_pem(site().certificate.pem()).unwrap();
        let options = options.only_added_roots().server_name("other.test");
        let mut bench = Bench::new(&Proxy::https(address(), options).unwrap(), true);
        bench.ask(HttpsProxy::new(version, ACCEPTED));
        assert_eq!(bench.machine.opened(), Some(Err(Fault::Tls)));
        assert!(bench.machine.failed_with_proxy() && bench.machine.is_proxy_unreachable());
        let why = bench.machine.tls_failure().unwrap_or_default();
        assert!(why.contains("other.test"), "{why}");
        assert!(!bench.proxy.is_asked, "the request has credentials");
        assert_eq!(bench.machine.step(), Some(Step::Proxy));
    }
}

#[test]
fn debug_shows_nothing_of_the_request() {
    let proxy = proxy(false).credentials("alice", "pa55").unwrap();
    let proxy = proxy.header("X-Key", "v4lue").unwrap();
    let mut bench = Bench::new(&proxy, true);
    bench.proxy = HttpsProxy::new(&rustls::version::TLS13, b"HTTP/1.1 2");
    for _ in 0..4 {
        let text = format!("{:?}", bench.machine);
        for secret in ["alice", "pa55", "v4lue", "YWxpY2U6", "97, 108, 105, 99, 101"] {
            assert!(!text.contains(secret), "{text}");
        }
        bench.round();
    }
    assert!(bench.proxy.is_asked);
}

#[test]
fn close_and_abort_end_it_at_any_point() {
    for version in VERSIONS {
        for input in [Input::Close, Input::Abort, Input::AbortWrite] {
            for steps in 0..4 {
                let mut bench = Bench::new(&proxy(steps % 2 == 1), true);
                bench.proxy = HttpsProxy::new(version, b"HTTP/1.1 2");
                for _ in 0..steps {
                    bench.round();
                }
                let actions = bench.machine.handle(input, bench.now);
                bench.see(actions);
                assert!(bench.released.is_some() && bench.machine.outcome().is_some());
                assert_eq!(bench.machine.next_timer(), None);
            }
        }
    }
}

#[test]
fn another_address_is_tried_on_another_connection() {
    let proxy = proxy(true).resolve_locally();
    let mut bench = Bench::unconnected(&proxy, true);
    let found = [address(), "192.0.2.9:443".parse().unwrap()];
    let actions = bench.machine.handle(Input::Resolved(Ok(&found)), bench.now);
    bench.see(actions);
    bench.connected(0);
    let mut first = HttpsProxy::new(&rustls::version::TLS13, b"HTTP/1.1 502 x\r\n\r\n");
    first.expected = "192.0.2.1:1";
    bench.ask(first);
    assert_eq!(bench.released.take(), Some(Release::Linger));
    bench.pass_final();
    assert!(bench.proxy.saw_close_notify, "the first connection ends in order");
    assert!(bench.discards > 0, "code of the program is dropped without the lock");
    bench.connected(1);
    let mut second = HttpsProxy::new(&rustls::version::TLS12, ACCEPTED);
    second.expected = "192.0.2.9:443";
    bench.ask(second);
    assert_eq!(bench.machine.step(), Some(Step::Handshake));
}

// -------------------------------------------------------------------- upgrades

#[test]
fn an_upgrade_takes_the_session_with_the_proxy_along() {
    for is_foreign in [false, true] {
        let mut bench = Bench::new(&proxy(is_foreign), false);
        bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
        bench.upgrade(b"GO");
        assert_eq!(bench.machine.phase(), crate::Phase::Upgrading);
        let mut passed = Vec::new();
        while let Some(mut transmit) = bench.machine.next_transmit() {
            passed.extend(bench.proxy.pass_up(transmit.bytes()));
            transmit.sent(usize::MAX);
            drop(bench.machine.transmit_done(&mut transmit));
        }
        // The preface is in plaintext to the target, and a ClientHello follows.
        assert!(passed.starts_with(b"GO\x16\x03\x01"), "{passed:?}");
    }
}

#[test]
fn plaintext_before_an_upgrade_is_refused() {
    let mut bench = Bench::new(&proxy(false), false);
    bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
    let actions = bench.machine.handle(Input::StartTls { accepts_hello: false }, bench.now);
    bench.see(actions);
    assert_eq!(bench.machine.background(), Background::Nothing);
    bench.deliver(b"injected");
    assert!(bench.machine.has_unread() && bench.machine.is_upgrade_pending());
    let first = bench.machine.first_unread().expect("it is unread");
    assert_eq!(first, b'i');
    let actions = bench.machine.handle(Input::UnexpectedPlaintext { first }, bench.now);
    bench.see(actions);
    assert_eq!(bench.machine.outcome(), Some(Err(Fault::UnreadPlaintext)));
    bench.pass_final();
    assert!(bench.proxy.saw_close_notify);
}

#[test]
fn the_end_before_an_upgrade_cancels_it() {
    for is_clean in [true, false] {
        let mut bench = Bench::new(&proxy(false), false);
        bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
        let actions = bench.machine.handle(Input::StartTls { accepts_hello: false }, bench.now);
        bench.see(actions);
        if is_clean {
            bench.proxy.connection.send_close_notify();
            bench.deliver(b"");
            assert_eq!(bench.machine.upgrade_error(), Some(UpgradeError::PeerEnded));
        } else {
            bench.eof();
            let failed = UpgradeError::Failed(Fault::Truncated);
            assert_eq!(bench.machine.upgrade_error(), Some(failed));
        }
    }
}

#[test]
fn an_upgrade_waits_for_ciphertext_that_is_being_sent() {
    let mut bench = Bench::new(&proxy(false), false);
    bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
    let WriteStep::Seal(permit) = bench.machine.write() else { panic!("not open") };
    let mut transmit = Transmit::default();
    let (bytes, _) = bench.machine.seal(permit, b"STARTTLS", &mut transmit, || bench.now);
    assert_eq!(bytes, 8);
    drop(bench.machine.handle(Input::StartTls { accepts_hello: false }, bench.now));
    assert!(bench.machine.is_upgrade_pending() && !bench.machine.is_idle_for_upgrade());
    drop(bench.machine.transmit_done(&mut transmit));
    assert!(bench.machine.is_idle_for_upgrade(), "the rest goes along");
    let session = bench.machine.take_proxy_session();
    let (config, now) = (machine_config(), bench.now);
    drop(bench.machine.handle(Input::UpgradeReady, now));
    let setup = config.tls.clone().unwrap();
    bench.machine = Machine::upgraded(&config, &setup, &[], session, None, now);
    drop(bench.machine.start(now));
    let mut transmit = bench.machine.next_transmit().expect("it is queued");
    let passed = bench.proxy.pass_up(transmit.bytes());
    assert!(passed.starts_with(b"STARTTLS\x16\x03\x01"), "{passed:?}");
    transmit.sent(usize::MAX);
}

#[test]
fn a_client_hello_that_was_unread_is_input_of_the_upgraded_session() {
    super::site::as_server(|| {
        let mut bench = Bench::new(&proxy(false), false);
        bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
        drop(bench.machine.handle(Input::StartTls { accepts_hello: true }, bench.now));
        let client = super::site::client_config(&rustls::version::TLS13);
        let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
        let mut client = rustls::ClientConnection::new(std::sync::Arc::new(client), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        bench.deliver(&hello);
        let first = bench.machine.first_unread().expect("it is unread");
        drop(bench.machine.handle(Input::UnexpectedPlaintext { first }, bench.now));
        assert!(bench.machine.is_upgrade_pending());
        bench.upgrade(b"");
        let mut passed = Vec::new();
        while let Some(mut transmit) = bench.machine.next_transmit() {
            passed.extend(bench.proxy.pass_up(transmit.bytes()));
            transmit.sent(usize::MAX);
            drop(bench.machine.transmit_done(&mut transmit));
        }
        client.read_tls(&mut &passed[..]).unwrap();
        client.process_new_packets().expect("the machine answers the ClientHello");
        assert!(!client.is_handshaking());
    });
}
