//! User code that runs during a handshake, here a certificate verifier. It may block, wait for other sockets, and drop
//! its own; it affects only its own handshake.

use std::fmt::{self, Debug, Formatter};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sockeye::{Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions};

use crate::support::net::TcpListener;
use crate::support::peer::listen;
use crate::support::tls::{ServerSetup, TlsPeer, VERSIONS, ask, server_config, with};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, at_once, crate_kind, eventually, ms, raise_descriptor_limit,
    read, skip, spawn_call, timed, with_limit, with_watchdog,
};

/// The longest time that a gate stays closed.
const LONG: Duration = Duration::from_secs(20);

// -------------------------------------------------------------------- limits

#[test]
fn a_connect_timeout_applies_while_a_verifier_runs() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = peer(&server_config().only(version));
            let tls = verified_by(|| thread::sleep(ms(3000)));
            let options = with(SecureTransport::On, tls).connect_timeout(ms(1000));
            // The timeout starts when the socket is created.
            let begun = Instant::now();
            let socket = connect(&peer, options);
            let other = socket.clone();
            let waits = spawn_call(move || (other.opened().map(drop), begun.elapsed()));
            let (result, took) = (socket.opened().map(drop), begun.elapsed());
            for (result, took) in [(result, took), waits.join()] {
                assert_fails(result, ErrorKind::TimedOut);
                assert!((ms(1000)..ms(2500)).contains(&took), "{took:?}");
            }
        });
    }
}

#[test]
fn a_connect_timeout_applies_while_a_verifier_of_an_upgrade_runs() {
    with_watchdog(|| {
        let peer = TlsPeer::scripted(&server_config(), |peer| {
            peer.accept_starttls();
            let _ = peer.try_handshake();
        });
        let tls = verified_by(|| thread::sleep(ms(2000)));
        let options = with(SecureTransport::StartTls, tls).connect_timeout(ms(500));
        let socket = connect(&peer, options);
        ask(&socket);
        let (secured, took) = timed(|| socket.start_tls().expect("it is open"));
        assert!(took < PROMPT, "{took:?}");
        let (result, took) = timed(|| secured.opened().map(drop));
        assert_fails(result, ErrorKind::TimedOut);
        assert!((ms(450)..ms(1500)).contains(&took), "{took:?}");
    });
}

#[test]
fn limits_of_calls_apply_while_a_verifier_runs() {
    with_watchdog(|| {
        let (verifier, blocked) = gate();
        let peer = peer(&server_config());
        let socket = connect(&peer, with(SecureTransport::On, verifier));
        let about = |wanted: Duration, took: Duration| {
            assert!((wanted..wanted + PROMPT).contains(&took), "{took:?}");
        };
        let (result, took) = timed(|| socket.opened_timeout(ms(100)).map(drop));
        assert_fails(result, ErrorKind::TimedOut);
        about(ms(100), took);
        blocked.is_reached();
        let (result, took) = timed(|| socket.opened_timeout(ms(100)).map(drop));
        assert_fails(result, ErrorKind::TimedOut);
        about(ms(100), took);
        at_once(|| socket.set_read_timeout(Some(ms(150))).expect("it can be set"));
        let (result, took) = timed(|| read(&socket, 1));
        assert_eq!(crate_kind(&result.expect_err("the peer sends nothing")), ErrorKind::TimedOut);
        about(ms(150), took);
        blocked.opens();
        socket.opened().expect("the verifier accepts it");
    });
}

// -------------------------------------------------------------------- the socket itself

#[test]
fn a_socket_can_be_queried_and_configured_while_its_verifier_runs() {
    with_watchdog(|| {
        let (verifier, blocked) = gate();
        let peer = peer(&server_config());
        let connector = connector();
        let socket = connector
            .connect_with(peer.address(), with(SecureTransport::On, verifier))
            .expect("the options are valid");
        let waits = {
            spawn_call({
                let socket = socket.clone();
                move || socket.opened().map(drop)
            })
        };
        blocked.is_reached();
        at_once(|| {
            assert_eq!(socket.phase(), Phase::Connecting);
            assert!(!format!("{socket:?}").is_empty());
            socket.set_deadline(Some(Instant::now() + LONG));
            assert_eq!(socket.stats().bytes_read, 0);
            assert_eq!(connector.open_sockets(), 1);
            assert_eq!(connector.stats().open, 1);
            assert!(matches!(socket.health(), sockeye::Health::Opening));
        });
        blocked.opens();
        waits.join().expect("the verifier accepts it");
    });
}

type End = fn(&Connector, Socket);

/// The ways in which a program ends a socket.
const ENDS: [(&str, End); 4] = [
    ("close", |_, socket| socket.close().expect("no data is lost")),
    ("abort", |_, socket| socket.abort()),
    ("drop", |_, socket| drop(socket)),
    ("shutdown", |connector, socket| {
        assert_eq!(connector.shutdown(LONG), 0, "no data is lost");
        drop(socket);
    }),
];

#[test]
fn a_socket_ends_at_once_while_its_verifier_runs() {
    for (name, end) in ENDS {
        for waited_for in [true, false] {
            with_watchdog(move || {
                let (verifier, blocked) = gate();
                let peer = peer(&server_config());
                let connector = connector();
                let socket = connector
                    .connect_with(peer.address(), with(SecureTransport::On, verifier))
                    .expect("the options are valid");
                let waits = (waited_for && name != "drop").then(|| {
                    let socket = socket.clone();
                    spawn_call(move || socket.opened().map(drop))
                });
                blocked.is_reached();
                at_once(|| end(&connector, socket));
                if let Some(waits) = waits {
                    let error = waits.join_within(PROMPT).expect_err("it was not opened");
                    assert_eq!(error.kind(), ErrorKind::Closed, "{name}");
                }
                eventually(PROMPT, "its slot is free", || connector.open_sockets() == 0);
                blocked.opens();
                // The verifier returns to a socket that is closed.
                assert!(peer.finish().bytes.is_empty(), "{name}");
            });
        }
    }
}

#[test]
fn a_verifier_may_drop_the_last_handle_of_its_socket() {
    with_watchdog(|| {
        let held: Arc<Mutex<Option<Socket>>> = Arc::default();
        let drops = Arc::clone(&held);
        let (dropped, receiver) = channel();
        let tls = verified_by(move || {
            eventually(WATCHDOG, "the test has stored the handle", || {
                drops.lock().expect("no thread panics while it holds the lock").is_some()
            });
            drop(drops.lock().expect("no thread panics while it holds the lock").take());
            let _ = dropped.send(());
        });
        let peer = peer(&server_config());
        let connector = connector();
        let socket = connector
            .connect_with(peer.address(), with(SecureTransport::On, tls))
            .expect("the options are valid");
        *held.lock().expect("no thread panics while it holds the lock") = Some(socket);
        receiver.recv_timeout(WATCHDOG).expect("the verifier has run");
        eventually(PROMPT, "its slot is free", || connector.open_sockets() == 0);
        assert!(peer.finish().bytes.is_empty());
    });
}

#[test]
fn a_verifier_that_panics_fails_its_handshake() {
    with_watchdog(|| {
        let peer = peer(&server_config());
        let tls = verified_by(|| panic!("a verifier that panics: this is expected"));
        let socket = connect(&peer, with(SecureTransport::On, tls));
        assert_fails(socket.opened(), ErrorKind::Tls);
    });
}

// -------------------------------------------------------------------- other sockets

#[test]
fn a_sleeping_verifier_delays_no_other_socket() {
    with_watchdog(|| {
        let (verifier, blocked) = gate();
        let peer = peer(&server_config());
        // No call waits for this socket.
        let verified = connect(&peer, with(SecureTransport::On, verifier));
        blocked.is_reached();
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let (socket, took) = timed(|| {
            let socket = sockeye::connect(address).expect("the address is valid");
            socket.opened().expect("it listens");
            socket
        });
        assert!(took < PROMPT, "a connect took {took:?}");
        let (accepted, _) = listener.accept().expect("it was connected to");
        socket.set_read_timeout(Some(ms(100))).expect("it can be set");
        let (result, took) = timed(|| read(&socket, 1));
        assert_eq!(crate_kind(&result.expect_err("the peer sends nothing")), ErrorKind::TimedOut);
        assert!(took < ms(100) + PROMPT, "a timeout took {took:?}");
        let mute = mute_server();
        let limited = with(SecureTransport::On, TlsOptions::new()).connect_timeout(ms(100));
        let (result, took) = timed(|| {
            sockeye::connect_with(mute.1, limited).expect("it is valid").opened().map(drop)
        });
        assert_fails(result, ErrorKind::TimedOut);
        assert!(took < ms(100) + PROMPT, "a connect timeout took {took:?}");
        drop(accepted);
        let ((), took) = timed(|| socket.closed().expect("the peer has ended"));
        assert!(took < PROMPT, "an end took {took:?}");
        assert_eq!(verified.phase(), Phase::Connecting);
        blocked.opens();
        verified.opened().expect("the verifier accepts it");
    });
}

#[test]
fn a_verifier_may_connect_through_the_crate_and_wait() {
    for nested_tls in [false, true] {
        for waited_for in [true, false] {
            with_watchdog(move || {
                let plain = listen();
                let plain_address = plain.local_addr().expect("it listens");
                let inner = peer(&server_config());
                let inner_address = inner.address();
                let tls = verified_by(move || {
                    let socket = match nested_tls {
                        true => {
                            let options = with(SecureTransport::On, verified_by(|| {}));
                            sockeye::connect_with(inner_address, options)
                        }
                        false => sockeye::connect(plain_address),
                    };
                    let socket = socket.expect("the address is valid");
                    socket.opened().expect("it listens");
                    socket.close().expect("no data is lost");
                });
                let outer = peer(&server_config());
                let socket = connect(&outer, with(SecureTransport::On, tls));
                if waited_for {
                    socket.opened().expect("the verifier accepts it");
                } else {
                    eventually(WATCHDOG, "it opens by itself", || socket.phase() == Phase::Open);
                }
                socket.close().expect("no data is lost");
            });
        }
    }
}

#[test]
fn a_socket_whose_verifier_connects_through_the_crate_can_be_ended() {
    for (_, end) in ENDS {
        with_watchdog(move || {
            let mute = mute_server();
            let address = mute.1;
            let (reached, receiver) = channel();
            let (over, ended) = channel();
            let reached = Mutex::new(reached);
            let over = Mutex::new(over);
            let tls = verified_by(move || {
                let options = with(SecureTransport::On, TlsOptions::new()).connect_timeout(ms(700));
                let socket = sockeye::connect_with(address, options).expect("it is valid");
                reached
                    .lock()
                    .expect("no thread panics while it holds the lock")
                    .send(())
                    .expect("the test waits");
                assert_fails(socket.opened(), ErrorKind::TimedOut);
                over.lock()
                    .expect("no thread panics while it holds the lock")
                    .send(())
                    .expect("the test waits");
            });
            let peer = peer(&server_config());
            let connector = connector();
            let socket = connector
                .connect_with(peer.address(), with(SecureTransport::On, tls))
                .expect("the options are valid");
            receiver.recv_timeout(WATCHDOG).expect("the verifier runs");
            at_once(|| end(&connector, socket));
            eventually(PROMPT, "its slot is free", || connector.open_sockets() == 0);
            ended.recv_timeout(WATCHDOG).expect("the verifier has ended");
        });
    }
}

#[test]
fn a_sleeping_verifier_delays_none_of_a_thousand_sockets() {
    if !raise_descriptor_limit(5_000) {
        return skip("sleeping_verifier", "the limit of descriptors is too low");
    }
    with_limit(Duration::from_secs(180), || {
        // A busy machine may be slow, but not late by seconds in every round, so the best round decides.
        let mut best = None;
        for _ in 0..4 {
            let quiet = lateness();
            let peers: Vec<_> = (0..4).map(|_| peer(&server_config())).collect();
            let tls = verified_by(|| thread::sleep(ms(5000)));
            let sleepers: Vec<_> = peers
                .iter()
                .map(|peer| connect(peer, with(SecureTransport::On, tls.clone())))
                .collect();
            thread::sleep(ms(50));
            let beside = lateness();
            println!("delay at p99: {quiet:?} alone, {beside:?} with sleeping verifiers");
            let more = (0..3).map(|kind| beside[kind].saturating_sub(quiet[kind])).max();
            best = best.min(more).or(more);
            drop(sleepers);
            if best <= Some(ms(50)) {
                return;
            }
        }
        panic!("delayed by {best:?} with sleeping verifiers");
    });
}

/// Measures the delay of the slowest hundredth of a thousand sockets: connecting and closing, timing out, and noticing
/// the peer's end.
fn lateness() -> [Duration; 3] {
    /// The number of threads that do so at once.
    const THREADS: usize = 50;
    const EACH: usize = 20;
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    let mute = mute_server();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // Each thread ends when its socket receives a byte.
            thread::spawn(move || std::io::Read::read(&mut stream, &mut [0; 1]));
        }
    });
    let open = move || {
        timed(|| {
            let socket = sockeye::connect(address).expect("the address is valid");
            socket.opened().expect("it listens");
            socket
        })
    };
    let life = move |(mut socket, mut late): (Socket, Duration)| {
        socket.set_read_timeout(Some(ms(20))).expect("it can be set");
        let (result, took) = timed(|| read(&socket, 1));
        assert_eq!(crate_kind(&result.expect_err("the peer sends nothing")), ErrorKind::TimedOut);
        let read_late = took.saturating_sub(ms(20));
        let limited = with(SecureTransport::On, TlsOptions::new()).connect_timeout(ms(100));
        let (result, took) = timed(|| {
            sockeye::connect_with(mute.1, limited).expect("it is valid").opened().map(drop)
        });
        assert_fails(result, ErrorKind::TimedOut);
        let expired_late = took.saturating_sub(ms(100)).max(read_late);
        std::io::Write::write_all(&mut socket, b"!").expect("it is open");
        let ((), ended) = timed(|| socket.closed().expect("the peer has ended"));
        let ((), closed) = timed(|| {
            let socket = sockeye::connect(address).expect("the address is valid");
            socket.opened().expect("it listens");
            socket.close().expect("no data is lost");
        });
        late = late.max(closed);
        [late, expired_late, ended]
    };
    let life = Arc::new(life);
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let life = Arc::clone(&life);
            spawn_call(move || {
                let sockets: Vec<_> = (0..EACH).map(|_| open()).collect();
                sockets.into_iter().map(|socket| life(socket)).collect::<Vec<_>>()
            })
        })
        .collect();
    let lives: Vec<_> = threads.into_iter().flat_map(|thread| thread.join()).collect();
    [0, 1, 2].map(|kind| {
        let mut late: Vec<_> = lives.iter().map(|life| life[kind]).collect();
        late.sort();
        late[late.len() * 99 / 100]
    })
}

#[test]
fn verifiers_beyond_the_number_of_workers_run_on_waiting_threads() {
    /// More sockets than worker threads.
    const SOCKETS: usize = 70;
    with_watchdog(|| {
        let running = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicBool::new(false));
        let tls = {
            let (running, open) = (Arc::clone(&running), Arc::clone(&open));
            verified_by(move || {
                running.fetch_add(1, Ordering::SeqCst);
                eventually(LONG, "the gate opens", || open.load(Ordering::SeqCst));
            })
        };
        let peers: Vec<_> = (0..SOCKETS).map(|_| peer(&server_config())).collect();
        let waits: Vec<_> = peers
            .iter()
            .map(|peer| {
                let socket = connect(peer, with(SecureTransport::On, tls.clone()));
                spawn_call(move || socket.opened().map(drop))
            })
            .collect();
        eventually(WATCHDOG, "all verifiers run", || running.load(Ordering::SeqCst) == SOCKETS);
        open.store(true, Ordering::SeqCst);
        waits.into_iter().for_each(|wait| wait.join().expect("the verifier accepts it"));
    });
}

#[test]
fn a_configuration_is_never_dropped_on_the_loop_or_under_the_lock() {
    /// A value that queries its socket and sends the name of its thread when it is dropped.
    struct Dropped(Sender<Option<String>>, Arc<Mutex<Option<Socket>>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            if let Some(socket) =
                self.1.lock().expect("no thread panics while it holds the lock").as_ref()
            {
                assert_eq!(socket.phase(), Phase::Closed);
            }
            let _ = self.0.send(thread::current().name().map(str::to_owned));
        }
    }
    // The event loop notices these ends.
    let ends: [fn(&Socket); 3] = [|socket| socket.abort(), |socket| drop(socket.close()), |_| {}];
    for end in ends {
        with_watchdog(move || {
            let (sender, receiver) = channel();
            let held: Arc<Mutex<Option<Socket>>> = Arc::default();
            let dropped = Dropped(sender, Arc::clone(&held));
            let mute = mute_server();
            let tls = verified_by(move || assert!(dropped.1.lock().is_ok()));
            let options = with(SecureTransport::On, tls).connect_timeout(ms(300));
            let socket = sockeye::connect_with(mute.1, options).expect("it is valid");
            *held.lock().expect("no thread panics while it holds the lock") = Some(socket.clone());
            end(&socket);
            let name = receiver.recv_timeout(WATCHDOG).expect("it was dropped");
            assert_ne!(name.as_deref(), Some("sockeye-loop"));
            held.lock().expect("no thread panics while it holds the lock").take();
        });
    }
}

// -------------------------------------------------------------------- helpers

/// A gate that blocks a verifier until it opens.
struct Gate {
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    #[track_caller]
    fn is_reached(&self) {
        self.reached.recv_timeout(WATCHDOG).expect("the verifier runs");
    }

    fn opens(&self) {
        self.open.send(()).expect("the verifier waits");
    }
}

/// Returns settings whose verifier waits at a gate.
fn gate() -> (TlsOptions, Gate) {
    let (reach, reached) = channel();
    let (open, opened) = channel();
    let ends = Mutex::new((reach, opened));
    let tls = verified_by(move || {
        let ends = ends.lock().expect("no thread panics while it holds the lock");
        let _ = ends.0.send(());
        let _ = ends.1.recv_timeout(LONG);
    });
    (tls, Gate { reached, open })
}

/// Returns settings whose verifier runs `work` and accepts.
fn verified_by(work: impl Fn() + Send + Sync + 'static) -> TlsOptions {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier { work, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for both")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    TlsOptions::new().rustls_0_23_config(Arc::new(config)).server_name("localhost")
}

struct Verifier<F> {
    work: F,
    provider: Arc<CryptoProvider>,
}

impl<F> Debug for Verifier<F> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl<F: Fn() + Send + Sync> ServerCertVerifier for Verifier<F> {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        (self.work)();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Starts a peer whose handshake may fail.
fn peer(setup: &ServerSetup) -> TlsPeer {
    TlsPeer::scripted(setup, |peer| drop(peer.try_handshake()))
}

fn connector() -> Connector {
    Connector::builder().build().expect("the settings are valid")
}

#[track_caller]
fn connect(peer: &TlsPeer, options: SocketOptions) -> Socket {
    sockeye::connect_with(peer.address(), options).expect("the address and the options are valid")
}

/// Accepts connections and sends nothing.
fn mute_server() -> (TcpListener, SocketAddr) {
    let listener = listen();
    let address = listener.local_addr().expect("it listens");
    (listener, address)
}
