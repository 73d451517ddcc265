//! Verifiers and pins of a program, over sockets. A verifier may block, wait for other sockets and panic; it affects only
//! its own handshake.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use sockeye::{
    ErrorKind, PeerCertificates, Phase, SecureTransport, Socket, SocketOptions, TlsFailure,
    TlsOptions,
};

use crate::support::net::{self, TcpListener};
use crate::support::peer::listen;
use crate::support::tls::{
    TlsPeer, VERSIONS, assert_never_opened, authority, connect, open, server_config, trust_only,
    with,
};
use crate::support::{
    PROMPT, WATCHDOG, assert_fails, ms, raise_descriptor_limit, read_exactly, skip, spawn_call,
    timed, with_limit, with_watchdog, within_100_ms,
};

const SLEEP: Duration = Duration::from_secs(5);

/// Trusts the peer of most tests, and then asks `verify`.
fn verified_by<F>(verify: F) -> TlsOptions
where
    F: Fn(&PeerCertificates<'_>) -> Result<(), String> + Send + Sync + 'static,
{
    trust_only(authority()).add_verifier(verify)
}

/// Returns options whose verifier says that it runs, and then sleeps.
fn sleeping() -> (SocketOptions, Receiver<()>) {
    let (reach, reached) = channel();
    let tls = verified_by(move |_| {
        // The test may have ended.
        let _ = reach.send(());
        thread::sleep(SLEEP);
        Ok(())
    });
    (with(SecureTransport::On, tls), reached)
}

fn await_verifier(reached: &Receiver<()>) {
    reached.recv_timeout(WATCHDOG).expect("the verifier runs");
}

#[test]
fn a_close_does_not_wait_for_a_verifier_that_sleeps() {
    for version in VERSIONS {
        with_watchdog(move || {
            within_100_ms(|| {
                let peer = TlsPeer::refused(&server_config().only(version));
                let (options, reached) = sleeping();
                let socket = connect(&peer, options);
                let other = socket.clone();
                let waits = spawn_call(move || other.opened().map(drop));
                await_verifier(&reached);
                let (closed, took) = timed(|| socket.close());
                closed.expect("nothing was written");
                assert_fails(waits.join_within(PROMPT), ErrorKind::Closed);
                took
            });
        });
    }
}

#[test]
fn a_connect_timeout_passes_on_time_while_a_verifier_sleeps() {
    for version in VERSIONS {
        with_watchdog(move || {
            let peer = TlsPeer::refused(&server_config().only(version));
            let (options, _reached) = sleeping();
            let (socket, begun) =
                (connect(&peer, options.connect_timeout(ms(1000))), Instant::now());
            assert_fails(socket.opened().map(drop), ErrorKind::TimedOut);
            let took = begun.elapsed();
            assert!((ms(900)..ms(1000) + PROMPT).contains(&took), "{took:?}");
        });
    }
}

#[test]
fn a_verifier_may_ask_another_server() {
    for answer in [b'+', b'-'] {
        with_watchdog(move || {
            let service = listen();
            let address = service.local_addr().expect("it listens");
            let serving = spawn_call(move || {
                let (mut stream, _) = service.accept().expect("the verifier asks");
                let mut hash = [0; 32];
                stream.read_exact(&mut hash).expect("the verifier sends it");
                stream.write_all(&[answer]).expect("the verifier reads");
                hash
            });
            let tls = verified_by(move |certificates| {
                let ask = || -> std::io::Result<u8> {
                    let mut socket = sockeye::connect(address)?;
                    socket.write_all(&certificates.spki_sha256())?;
                    Ok(read_exactly(&socket, 1)?[0])
                };
                match ask() {
                    Ok(b'+') => Ok(()),
                    Ok(_) => Err(String::from("the service knows it as stolen")),
                    Err(error) => Err(error.to_string()),
                }
            });
            let options = with(SecureTransport::On, tls);
            if answer == b'+' {
                let peer = TlsPeer::reading(&server_config());
                open(&peer, options).close().expect("the peer reads");
            } else {
                let peer = TlsPeer::refused(&server_config());
                let error = assert_never_opened(&connect(&peer, options), ErrorKind::Tls);
                assert_eq!(error.tls_failure(), Some(TlsFailure::CertificateRejected));
                let says = "is refused: the service knows it as stolen";
                assert!(error.to_string().ends_with(says), "{error}");
            }
            assert_ne!(serving.join(), [0; 32]);
        });
    }
}

#[test]
fn a_verifier_that_panics_refuses_and_harms_nothing_else() {
    with_watchdog(|| {
        let tls = verified_by(|certificates| match certificates.server_name() {
            Some("localhost") => panic!("a fault of the program"),
            _ => Ok(()),
        });
        for _ in 0..3 {
            let peer = TlsPeer::refused(&server_config());
            let socket = connect(&peer, with(SecureTransport::On, tls.clone()));
            let error = socket.opened().expect_err("the verifier panics");
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert_eq!(error.tls_failure(), Some(TlsFailure::CertificateRejected));
            let failure = peer.finish().failure;
            assert!(matches!(failure, Some(rustls::Error::AlertReceived(_))), "{failure:?}");
        }
        let peer = TlsPeer::reading(&server_config());
        open(&peer, with(SecureTransport::On, tls.server_name("good.test")));
    });
}

// -------------------------------------------------------------------- resumption

#[test]
fn pins_hold_for_resumed_sessions_and_verifiers_see_full_handshakes_only() {
    for version in VERSIONS {
        with_watchdog(move || {
            let config = server_config().only(version).config();
            let calls = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&calls);
            let tls = verified_by(move |_| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
            let pin = pin_of(&config);
            let pinned = tls.clone().pin_spki_sha256([1; 32]).pin_spki_sha256(pin);
            // The options are equal, so the second one resumes.
            assert!(!visit(&config, &pinned).expect("the pin matches"));
            assert_eq!(calls.load(Ordering::SeqCst), 1);
            for _ in 0..3 {
                assert!(visit(&config, &pinned).expect("the pin matches"));
            }
            assert_eq!(calls.load(Ordering::SeqCst), 1, "a resumed session was verified before");
            // Other pins share no session, and the server's key matches none of them.
            let other = tls.clone().pin_spki_sha256([1; 32]);
            for _ in 0..2 {
                let error = visit(&config, &other).expect_err("no pin matches");
                assert_eq!(error.tls_failure(), Some(TlsFailure::CertificateRejected), "{error}");
            }
            assert!(visit(&config, &pinned).expect("the sessions are still there"));
            assert!(!visit(&config, &pinned.clone().resumption(false)).expect("the pin matches"));
            assert_eq!(calls.load(Ordering::SeqCst), 2);
        });
    }
}

/// Returns the hash of the server's key, which a verifier sees.
fn pin_of(config: &Arc<ServerConfig>) -> [u8; 32] {
    let (tell, told) = channel();
    let tls = verified_by(move |certificates| {
        tell.send(certificates.spki_sha256()).map_err(|error| error.to_string())
    });
    visit(config, &tls).expect("the server is trusted");
    told.recv().expect("the verifier ran")
}

/// Connects, and returns whether the session was resumed.
fn visit(config: &Arc<ServerConfig>, tls: &TlsOptions) -> Result<bool, sockeye::Error> {
    let peer = TlsPeer::sharing(listen(), Arc::clone(config), |peer| {
        if peer.try_handshake().is_ok() {
            peer.send(b"x");
        }
    });
    let socket = connect(&peer, with(SecureTransport::On, tls.clone()));
    let resumed = socket.opened()?.tls().expect("it is secure").resumed();
    // Tickets of TLS 1.3 come before the data.
    assert_eq!(read_exactly(&socket, 1).expect("the peer sends"), b"x");
    socket.close().expect("the peer reads");
    Ok(resumed)
}

// -------------------------------------------------------------------- a thousand other sockets

/// The number of threads that have sockets, and the number of sockets of each. Half of them are secured.
const THREADS: usize = 50;
const EACH: usize = 20;

#[test]
fn a_verifier_that_sleeps_delays_none_of_a_thousand_open_sockets() {
    if !raise_descriptor_limit(5_000) {
        return skip("tls::verifiers::thousand", "the limit of descriptors is too low");
    }
    with_limit(Duration::from_secs(180), || {
        let sockets = open_all();
        delays(&sockets); // warms up
        // If the verifier held the event loop or a lock of other sockets, then some of these would wait for seconds. A
        // hundredth of that is far above what the scheduler adds. A busy machine may be slow, so the best of four counts.
        let mut found = Vec::new();
        for _ in 0..4 {
            let quiet = delays(&sockets);
            let peers = [(); 4].map(|()| TlsPeer::refused(&server_config()));
            let (options, reached) = sleeping();
            let begun = Instant::now();
            let sleepers = peers.each_ref().map(|peer| connect(peer, options.clone()));
            peers.iter().for_each(|_| await_verifier(&reached));
            let beside = delays(&sockets);
            let is_asleep = begun.elapsed() < SLEEP;
            drop(sleepers);
            println!("p99 of ping-pongs and timers: {quiet:?} alone, {beside:?} beside verifiers");
            let is_late = |at: usize| beside[at] > quiet[at] + SLEEP / 100;
            if is_asleep && !is_late(0) && !is_late(1) {
                return;
            }
            found.push((quiet, beside, is_asleep));
        }
        panic!("p99 alone, beside verifiers, and whether these still slept: {found:?}");
    });
}

/// Opens all sockets, and returns those of each thread.
fn open_all() -> Vec<Vec<Socket>> {
    let config = server_config().config();
    let opened: Vec<_> = (0..THREADS)
        .map(|_| {
            let listener = listen();
            let address = listener.local_addr().expect("it listens");
            let config = Arc::clone(&config);
            thread::spawn(move || echo(&listener, &config));
            spawn_call(move || (0..EACH).map(|number| open_one(address, number)).collect())
        })
        .collect();
    opened.into_iter().map(|sockets| sockets.join()).collect()
}

fn is_secured(number: usize) -> bool {
    number % 2 == 1
}

fn open_one(address: SocketAddr, number: usize) -> Socket {
    let options = match is_secured(number) {
        true => with(SecureTransport::On, trust_only(authority())),
        false => SocketOptions::new(),
    };
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    socket.opened().expect("the server is trusted");
    socket
}

/// A stream of either kind.
trait Wire: Read + Write {}

impl<T: Read + Write> Wire for T {}

/// Accepts the sockets of one thread, and echoes single bytes in their order, until they end.
fn echo(listener: &TcpListener, config: &Arc<ServerConfig>) {
    let accept = |number| -> Box<dyn Wire> {
        let (stream, _) = listener.accept().expect("the test connects");
        net::set_nodelay(&stream).expect("every stream has the option");
        match is_secured(number) {
            true => Box::new(secured(stream, config)),
            false => Box::new(stream),
        }
    };
    let mut wires: Vec<_> = (0..EACH).map(accept).collect();
    loop {
        for wire in &mut wires {
            let mut byte = [0];
            if wire.read_exact(&mut byte).is_err() || wire.write_all(&byte).is_err() {
                return;
            }
        }
    }
}

fn secured(
    mut stream: TcpStream,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    let mut session = ServerConnection::new(Arc::clone(config)).expect("it is complete");
    while session.is_handshaking() {
        session.complete_io(&mut stream).expect("the test trusts the server");
    }
    StreamOwned::new(session, stream)
}

/// Sends a byte on every socket and awaits it, in all threads at once. Then lets the event loop end sockets that nothing
/// else waits for, at their connect timeout. Returns the time and the lateness of the slowest hundredth.
fn delays(sockets: &[Vec<Socket>]) -> [Duration; 2] {
    let threads: Vec<_> = sockets
        .iter()
        .map(|sockets| {
            let sockets = sockets.clone();
            spawn_call(move || {
                let rounds = (0..3).flat_map(|_| sockets.iter().map(ping_pong));
                (rounds.collect::<Vec<_>>(), (0..2).map(|_| timer_delay()).collect::<Vec<_>>())
            })
        })
        .collect();
    let (mut times, mut late) = (Vec::new(), Vec::new());
    for thread in threads {
        let (of_thread, late_of_thread) = thread.join();
        times.extend(of_thread);
        late.extend(late_of_thread);
    }
    [times, late].map(|mut times| {
        times.sort_unstable();
        times[times.len() * 99 / 100]
    })
}

fn ping_pong(mut socket: &Socket) -> Duration {
    let ((), took) = timed(|| {
        socket.write_all(b"p").expect("the peer reads");
        assert_eq!(read_exactly(socket, 1).expect("the peer answers"), b"p");
    });
    took
}

/// Returns how late a connect timeout ends a socket on which no thread waits.
fn timer_delay() -> Duration {
    const LIMIT: Duration = ms(100);
    let mute = listen();
    let address = mute.local_addr().expect("it listens");
    let options = with(SecureTransport::On, trust_only(authority())).connect_timeout(LIMIT);
    let begun = Instant::now();
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    while socket.phase() != Phase::Closed {
        assert!(begun.elapsed() < WATCHDOG, "its connect timeout never passes");
        thread::sleep(ms(1));
    }
    begun.elapsed().saturating_sub(LIMIT)
}
