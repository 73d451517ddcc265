//! Plaintext between the answer of a proxy and the handshake with the target, in records that are cut anywhere.

use rustls::SupportedProtocolVersion;

use super::super::VERSIONS;
use super::super::https_proxy::{ACCEPTED, HttpsProxy, proxy};
use super::bench::Bench;
use crate::error::ProxyReply;
use crate::machine::{Fault, Input, TimerKind};

/// Injected bytes have the same error wherever their record is cut.
#[test]
fn a_record_that_begins_behind_the_answer_is_decrypted_before_the_handshake() {
    for version in VERSIONS {
        for is_foreign in [false, true] {
            let whole = injecting(version, is_foreign).2.len();
            for cut in 1..whole {
                let (mut bench, answer, injected) = injecting(version, is_foreign);
                bench.deliver_raw(&[&answer, &injected[..cut]].concat());
                assert_eq!(bench.machine.opened(), None, "{cut} of {whole}");
                bench.transmit();
                bench.deliver_raw(&injected[cut..]);
                let refused = Some(Err(Fault::UnreadPlaintext));
                assert_eq!(bench.machine.opened(), refused, "{cut} of {whole}");
                bench.pass_final();
                assert!(bench.proxy.saw_close_notify);
            }
        }
    }
}

#[test]
fn a_record_without_data_behind_the_answer_only_delays_the_handshake() {
    for is_foreign in [false, true] {
        let mut bench = asked(&rustls::version::TLS13, is_foreign);
        let answer = bench.proxy.pass_down(ACCEPTED);
        bench.proxy.connection.refresh_traffic_keys().unwrap();
        let key_update = bench.proxy.pass_down(b"");
        let kind = |bench: &Bench| bench.machine.next_timer().map(|(_, kind)| kind);
        bench.deliver_raw(&[&answer, &key_update[..5]].concat());
        assert_eq!(kind(&bench), Some(TimerKind::Proxy));
        bench.deliver_raw(&key_update[5..]);
        assert_eq!(kind(&bench), Some(TimerKind::Handshake));
        // The proxy can decrypt what follows.
        bench.transmit();
    }
}

#[test]
fn a_record_behind_the_answer_that_never_ends_is_a_timeout_or_an_end() {
    let begin = || {
        let (mut bench, answer, injected) = injecting(&rustls::version::TLS13, false);
        bench.deliver_raw(&[&answer, &injected[..1]].concat());
        bench
    };
    let mut bench = begin();
    bench.eof();
    let disconnected = Fault::Proxy(ProxyReply::Disconnected);
    assert_eq!(bench.machine.opened(), Some(Err(disconnected)));

    let mut bench = begin();
    let (at, kind) = bench.machine.next_timer().expect("connecting is bounded");
    assert_eq!(kind, TimerKind::Proxy);
    bench.now = at;
    let actions = bench.machine.handle(Input::TimerExpired, at);
    bench.see(actions);
    assert_eq!(bench.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Proxy))));
    let words = "accepted, but completed no record behind its answer in time";
    assert_eq!(bench.machine.proxy_answer(), Some(words));
}

/// Returns a bench whose proxy has the request and has not answered.
fn asked(version: &'static SupportedProtocolVersion, is_foreign: bool) -> Bench {
    let mut bench = Bench::new(&proxy(is_foreign), true);
    bench.ask(HttpsProxy::new(version, b""));
    assert!(bench.proxy.is_asked && bench.machine.opened().is_none());
    bench
}

/// Returns such a bench, the record with the answer, and one with plaintext.
fn injecting(
    version: &'static SupportedProtocolVersion,
    is_foreign: bool,
) -> (Bench, Vec<u8>, Vec<u8>) {
    let mut bench = asked(version, is_foreign);
    let answer = bench.proxy.pass_down(ACCEPTED);
    let injected = bench.proxy.pass_down(b"220 injected");
    (bench, answer, injected)
}
