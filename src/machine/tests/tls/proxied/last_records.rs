//! What a failure leaves on the session with a proxy: an orderly end, as far as the proxy still reads.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::super::VERSIONS;
use super::super::https_proxy::{ACCEPTED, HttpsProxy, proxy};
use super::super::site::{self, Way, machine_config, on_way};
use super::super::wire::Wire;
use super::bench::Bench;
use crate::machine::{Fault, Input, Machine, TimerKind, TlsSetup};

#[test]
fn an_upgrade_that_cannot_begin_ends_the_session_with_the_proxy() {
    for is_foreign in [false, true] {
        let mut bench = Bench::new(&proxy(false), false);
        bench.ask(HttpsProxy::new(&rustls::version::TLS13, ACCEPTED));
        drop(bench.machine.handle(Input::StartTls { accepts_hello: false }, bench.now));
        let session = bench.machine.take_proxy_session();
        drop(bench.machine.handle(Input::UpgradeReady, bench.now));
        let setup = setup_that_cannot_begin();
        let setup = if is_foreign { setup.foreign() } else { setup };
        let config = machine_config();
        bench.machine = Machine::upgraded(&config, &setup, b"GO", session, None, bench.now);
        let actions = bench.machine.start(bench.now);
        bench.see(actions);
        assert_eq!(bench.machine.opened(), Some(Err(Fault::Tls)));
        bench.pass_final();
        assert!(bench.proxy.saw_close_notify, "foreign: {is_foreign}");
    }
}

#[test]
fn a_handshake_that_is_too_slow_ends_the_session_with_the_proxy() {
    for is_foreign in [false, true] {
        let mut bench = Bench::new(&proxy(is_foreign), true);
        bench.ask(HttpsProxy::new(&rustls::version::TLS12, ACCEPTED));
        let (at, kind) = bench.machine.next_timer().expect("connecting is bounded");
        assert_eq!(kind, TimerKind::Handshake);
        bench.now = at;
        let actions = bench.machine.handle(Input::TimerExpired, at);
        bench.see(actions);
        assert_eq!(bench.machine.opened(), Some(Err(Fault::TimedOut(TimerKind::Handshake))));
        bench.pass_final();
        assert!(bench.proxy.saw_close_notify, "foreign: {is_foreign}");
    }
}

#[test]
fn a_handshake_that_ends_too_late_ends_the_session_with_the_proxy() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            // No code of the program runs, so that the session is never lent.
            for seed in [0, 4] {
                let mut config = machine_config();
                config.connect_timeout = Some(Duration::from_secs(3));
                let mut wire = Wire::of(config, version, seed);
                while wire.machine.opened().is_none() {
                    wire.transmit(usize::MAX);
                    wire.serve();
                    if let (false, Some((at, _))) =
                        (wire.peer.is_handshaking(), wire.machine.next_timer())
                    {
                        wire.now = at;
                    }
                    if version == &rustls::version::TLS13 {
                        // The server's only flight ends the machine's handshake.
                        wire.now = wire.machine.next_timer().expect("it is bounded").0;
                    }
                    wire.deliver(usize::MAX);
                }
                let late = Fault::TimedOut(TimerKind::Handshake);
                assert_eq!(wire.machine.opened(), Some(Err(late)));
                wire.pass_final_records();
                assert!(wire.proxy.as_ref().is_some_and(|proxy| proxy.saw_close_notify));
            }
        }
    });
}

#[test]
fn a_panic_of_the_programs_code_ends_the_session_with_the_proxy() {
    on_way(Way::Proxied, || {
        for version in VERSIONS {
            for seed in 0..2 {
                let mut config = site::client_config(version);
                config.key_log = Arc::new(Panics);
                let mut machine_config = machine_config();
                machine_config.tls = Some(setup(config));
                let mut wire = Wire::of(machine_config, version, seed);
                while wire.machine.opened().is_none() {
                    wire.transmit(usize::MAX);
                    wire.serve();
                    wire.deliver(usize::MAX);
                }
                assert_eq!(wire.machine.opened(), Some(Err(Fault::Tls)));
                let why = wire.machine.tls_failure().unwrap_or_default();
                assert!(why.contains("panic") && !wire.machine.failed_with_proxy(), "{why}");
                wire.pass_final_records();
                assert!(wire.proxy.as_ref().is_some_and(|proxy| proxy.saw_close_notify));
            }
        }
    });
}

/// Code of the program that panics in the handshake.
#[derive(Debug)]
struct Panics;

impl rustls::KeyLog for Panics {
    fn log(&self, _: &str, _: &[u8], _: &[u8]) {
        panic!("as planned")
    }
}

/// Returns a setup that rustls refuses when it creates the connection.
fn setup_that_cannot_begin() -> TlsSetup {
    let mut config = site::client_config(&rustls::version::TLS13);
    config.max_fragment_size = Some(1);
    setup(config)
}

fn setup(config: ClientConfig) -> TlsSetup {
    let name = ServerName::try_from("a.test").unwrap();
    TlsSetup::with_config(Arc::new(config), name, true)
}
