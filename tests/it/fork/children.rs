//! A forked child opens its own sockets, whatever the parent's threads did during the fork.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use sockeye::{
    Connector, ConnectorStats, ErrorKind, Events, Interest, Poller, SecureTransport, Socket,
    SocketOptions,
};

use super::{Child, LONG, in_a_forked_child, still_works};
use crate::support::peer::{Server, black_hole, listen};
use crate::support::subprocess::in_subprocess;
use crate::support::tls::{authority, server_config, trust_only};
use crate::support::{WATCHDOG, assert_fails, ms, read, read_exactly, spawn_call};

/// The number of forks in a test for locks that are held at the fork.
const FORKS: usize = 60;

// -------------------------------------------------------------------- one fork

#[test]
fn a_child_opens_every_kind_of_socket() {
    in_subprocess("fork::children::a_child_opens_every_kind_of_socket", LONG, || {
        let site = Site::new();
        let own = site.connector();
        let theirs = site.opens_all(&own);
        in_a_forked_child(|| {
            // The same again, with connectors created here.
            drop(site.opens_all(&own));
            drop(site.opens_all(&site.connector()));
            for socket in &theirs {
                assert_fails(socket.opened(), ErrorKind::InvalidState);
                assert_fails(read(socket, 1), ErrorKind::InvalidState);
            }
        });
        theirs.iter().for_each(still_works);
    });
}

/// Even a query of statistics installs the detection of forks.
#[test]
fn a_child_opens_sockets_if_its_parent_only_queried_statistics() {
    in_subprocess(
        "fork::children::a_child_opens_sockets_if_its_parent_only_queried_statistics",
        LONG,
        || {
            let site = Site::new();
            assert_eq!(Connector::global().stats(), ConnectorStats::default());
            in_a_forked_child(|| drop(site.opens_all(&site.connector())));
        },
    );
}

#[test]
fn the_parents_sockets_take_no_slots_and_are_not_counted_in_the_child() {
    in_subprocess(
        "fork::children::the_parents_sockets_take_no_slots_and_are_not_counted_in_the_child",
        LONG,
        || {
            let server = Server::echoes();
            let build = |wait| {
                let limited = Connector::builder().max_open_sockets(1).wait_at_limit(wait);
                limited.build().expect("the rules are valid")
            };
            let (fails_at_limit, waits) = (build(false), build(true));
            let connect = |connector: &Connector| connector.connect(server.address());
            let first = connect(&fails_at_limit).expect("a slot is free");
            let second = connect(&waits).expect("a slot is free");
            let queued = connect(&waits).expect("it waits");
            in_a_forked_child(|| {
                for connector in [&fails_at_limit, &waits] {
                    assert_eq!(connector.open_sockets(), 0);
                    assert_eq!(connector.stats(), ConnectorStats::default());
                    let socket = connect(connector).expect("the slot is free here");
                    assert_eq!(connector.open_sockets(), 1);
                    socket.opened().expect("the server accepts");
                }
                let held = connect(&fails_at_limit).expect("the first one was dropped");
                assert_fails(connect(&fails_at_limit), ErrorKind::Limit);
                held.close().expect("the server reads");
                // The parent's sockets free no slot here.
                drop((first.clone(), queued.clone()));
                assert_eq!(fails_at_limit.open_sockets(), 0);
                assert_eq!(fails_at_limit.shutdown(WATCHDOG), 0);
                assert_fails(connect(&fails_at_limit), ErrorKind::Closed);
            });
            assert_eq!(fails_at_limit.open_sockets(), 1, "the child shut down only its own");
            still_works(&first);
            still_works(&second);
            still_works(&queued);
        },
    );
}

#[test]
fn a_connector_stays_shut_down_in_the_child() {
    in_subprocess("fork::children::a_connector_stays_shut_down_in_the_child", LONG, || {
        let server = Server::echoes();
        let connector = Connector::builder().build().expect("the rules are valid");
        assert_eq!(connector.shutdown(WATCHDOG), 0);
        in_a_forked_child(|| assert_fails(connector.connect(server.address()), ErrorKind::Closed));
    });
}

#[test]
fn a_scope_of_the_parent_ends_its_sockets_in_the_child() {
    in_subprocess(
        "fork::children::a_scope_of_the_parent_ends_its_sockets_in_the_child",
        LONG,
        || {
            let server = Server::echoes();
            let connector = Connector::builder().build().expect("the rules are valid");
            let kept = connector.scope(|scope| {
                let parents = scope.connect(server.address()).expect("the address is valid");
                in_a_forked_child(|| {
                    let (mine, other) = connector.scope(|inner| {
                        let mine = scope.connect(server.address()).expect("the address is valid");
                        let other = inner.connect(server.address()).expect("the address is valid");
                        (mine, other)
                    });
                    assert_fails(read(&other, 1), ErrorKind::Closed);
                    still_works(&mine);
                });
                still_works(&parents);
                parents
            });
            kept.closed().expect("the scope has closed it");
        },
    );
}

/// A logger, a resolver or a verifier may fork on a thread of the crate.
#[test]
fn a_child_that_is_forked_on_a_thread_of_the_crate_can_wait() {
    in_subprocess(
        "fork::children::a_child_that_is_forked_on_a_thread_of_the_crate_can_wait",
        LONG,
        || {
            let server = Server::echoes();
            let (ended, receiver) = mpsc::channel();
            let (address, done) = (server.address(), AtomicBool::new(false));
            log::set_logger(Box::leak(Box::new(ForksOnce { address, done, ended })))
                .expect("the process has no logger yet");
            log::set_max_level(log::LevelFilter::Trace);
            let hole = black_hole();
            // No call waits for this socket, so the event loop logs its end.
            let options = SocketOptions::new().connect_timeout(ms(50));
            let _socket = sockeye::connect_with(hole.address, options).expect("it is valid");
            receiver.recv_timeout(WATCHDOG).expect("the child succeeded");
        },
    );
}

// -------------------------------------------------------------------- threads that use the crate

#[test]
fn no_child_hangs_however_many_threads_use_the_crate() {
    in_subprocess(
        "fork::children::no_child_hangs_however_many_threads_use_the_crate",
        LONG * 3,
        || {
            let site = Arc::new(Site::new());
            let own = site.connector();
            let over = Arc::new(AtomicBool::new(false));
            let rounds = Arc::new(AtomicUsize::new(0));
            let work = |work: fn(&Site, &Connector)| {
                let (site, own) = (Arc::clone(&site), own.clone());
                let (over, rounds) = (Arc::clone(&over), Arc::clone(&rounds));
                spawn_call(move || {
                    while !over.load(Ordering::SeqCst) {
                        work(&site, &own);
                        rounds.fetch_add(1, Ordering::SeqCst);
                    }
                })
            };
            let busy = [
                work(|site, own| drop(site.opens_all(own))),
                work(|site, own| drop(site.plain(own, site.plain.address()))),
                work(|site, own| drop(site.named(own))),
                work(|site, _| drop(site.secure(&site.connector()))),
                work(|_, own| _ = (own.stats(), Connector::global().stats())),
                work(|site, own| {
                    own.scope(|scope| {
                        drop(scope.connect(site.plain.address()).expect("it is valid"))
                    });
                }),
            ];
            let (done, receiver) = pipe();
            for round in 0..FORKS {
                while rounds.load(Ordering::SeqCst) < round {
                    thread::yield_now();
                }
                in_a_forked_child(|| {
                    if !threads_start() {
                        return;
                    }
                    drop(site.opens_all(&own));
                    assert!(own.stats().opened > 0);
                    (&receiver).write_all(&[1]).expect("the test reads the pipe");
                });
            }
            over.store(true, Ordering::SeqCst);
            busy.into_iter().for_each(|busy| busy.join());
            drop(receiver);
            let worked = read(done, FORKS).expect("the pipe is readable").len();
            assert!(worked > FORKS / 2, "only {worked} children of {FORKS} could start a thread");
            site.opens_all(&own).iter().for_each(still_works);
        },
    );
}

/// The forking thread has a wake descriptor. A child with the same descriptor would take the parent's wake-ups.
#[test]
fn parent_and_child_have_separate_wake_descriptors() {
    in_subprocess("fork::children::parent_and_child_have_separate_wake_descriptors", LONG, || {
        let server = Server::echoes();
        let waits_and_is_woken = || {
            for _ in 0..50 {
                let socket = sockeye::connect(server.address()).expect("the address is valid");
                socket.opened().expect("the server accepts");
                let aborter = socket.clone();
                let aborting = thread::spawn(move || {
                    thread::sleep(ms(2));
                    aborter.abort();
                });
                assert_fails(read(&socket, 1), ErrorKind::Closed);
                aborting.join().expect("aborting does not panic");
            }
        };
        waits_and_is_woken();
        let child = Child::forked(waits_and_is_woken);
        waits_and_is_woken();
        child.ends_well();
    });
}

/// Returns the read end and the write end of a pipe.
fn pipe() -> (File, File) {
    let (reads, writes) = rustix::pipe::pipe().expect("a descriptor is free");
    (reads.into(), writes.into())
}

/// Checks whether `std` can start a thread in this process. It cannot if a thread of the parent was starting or ending
/// at the fork and held a lock of `std`; the crate cannot help that.
fn threads_start() -> bool {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(()));
    receiver.recv_timeout(WATCHDOG / 3).is_ok()
}

// -------------------------------------------------------------------- common uses of fork

#[test]
fn a_pre_forking_server_serves_from_its_children() {
    in_subprocess("fork::children::a_pre_forking_server_serves_from_its_children", LONG, || {
        let upstream = Server::echoes();
        // The parent has used the crate.
        still_works(&sockeye::connect(upstream.address()).expect("the address is valid"));
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let serve = || {
            for _ in 0..3 {
                let (stream, _) = listener.accept().expect("a client connects");
                let client = Connector::global().adopt(stream, SocketOptions::new());
                let mut client = client.expect("the options are valid");
                let mut upstream = sockeye::connect(upstream.address()).expect("it is valid");
                let word = read_exactly(&client, 4).expect("the client asks");
                upstream.write_all(&word).expect("it reads");
                let word = read_exactly(&upstream, 4).expect("it answers");
                client.write_all(&word).expect("the client reads");
                client.close().expect("the client reads");
            }
        };
        let workers: Vec<Child> = (0..4).map(|_| Child::forked(serve)).collect();
        for _ in 0..12 {
            let mut socket = sockeye::connect(address).expect("the address is valid");
            socket.write_all(b"ping").expect("a worker reads");
            assert_eq!(read_exactly(&socket, 4).expect("a worker answers"), b"ping");
            assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        }
        workers.into_iter().for_each(Child::ends_well);
    });
}

#[test]
fn a_grandchild_opens_sockets_too() {
    in_subprocess("fork::children::a_grandchild_opens_sockets_too", LONG, || {
        let site = Site::new();
        let own = site.connector();
        let first = site.plain(&own, site.plain.address());
        in_a_forked_child(|| {
            let second = site.plain(&own, site.plain.address());
            in_a_forked_child(|| {
                drop(site.opens_all(&own));
                for older in [&first, &second] {
                    assert_fails(older.opened(), ErrorKind::InvalidState);
                }
            });
            // This child has not used the crate before it forks again.
            still_works(&second);
        });
        in_a_forked_child(|| in_a_forked_child(|| drop(site.opens_all(&own))));
        still_works(&first);
    });
}

#[test]
fn a_daemon_that_forks_twice_opens_sockets() {
    in_subprocess("fork::children::a_daemon_that_forks_twice_opens_sockets", LONG, || {
        let site = Site::new();
        drop(site.opens_all(&site.connector()));
        let (mut done, receiver) = pipe();
        in_a_forked_child(|| {
            rustix::process::setsid().expect("a child leads no group");
            // The daemon's parent ends without a wait, which makes the daemon an orphan.
            let _daemon = Child::forked(|| {
                drop(site.opens_all(&site.connector()));
                (&receiver).write_all(b"served").expect("the test reads the pipe");
            });
        });
        drop(receiver);
        let mut word = String::new();
        rustix::event::poll(
            &mut [rustix::event::PollFd::new(&done.as_fd(), rustix::event::PollFlags::IN)],
            Some(&rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 }),
        )
        .expect("poll works");
        done.read_to_string(&mut word).expect("the output is text");
        assert_eq!(word, "served");
    });
}

// -------------------------------------------------------------------- the servers

/// Servers of the parent, which serve its children, too.
struct Site {
    plain: Server,
    tls: Server,
}

impl Site {
    fn new() -> Site {
        let config = server_config().config();
        let tls = Server::scripted(move |stream| {
            let config = Arc::clone(&config);
            thread::spawn(move || echo_by_tls(stream, config));
        });
        Site { plain: Server::echoes(), tls }
    }

    /// Returns a connector that resolves `*.test` to this machine.
    fn connector(&self) -> Connector {
        Connector::builder()
            .resolver(|_: &str| Ok(vec![IpAddr::from(Ipv4Addr::LOCALHOST)]))
            .build()
            .expect("the rules are valid")
    }

    /// Opens sockets by address and by name, in plaintext, over TLS from the start and by upgrade, with this connector
    /// and the global one. Returns all of them open.
    fn opens_all(&self, own: &Connector) -> Vec<Socket> {
        let address = self.plain.address();
        let sockets = vec![
            self.plain(Connector::global(), address),
            self.plain(own, address),
            self.named(own),
            self.secure(own),
        ];
        // With the system's resolver.
        let local = Connector::global().connect(("localhost", address.port()));
        still_works(&local.expect("the address is valid"));
        for socket in &sockets {
            socket.opened().expect("the server accepts");
        }
        sockets
    }

    fn plain(&self, connector: &Connector, address: SocketAddr) -> Socket {
        let mut socket = connector.connect(address).expect("the address is valid");
        socket.write_all(b"plain").expect("the server reads");
        assert_eq!(read_exactly(&socket, 5).expect("the server answers"), b"plain");
        socket
    }

    fn named(&self, own: &Connector) -> Socket {
        let mut socket =
            own.connect(("echo.test", self.plain.address().port())).expect("it is valid");
        socket.write_all(b"named").expect("the server reads");
        assert_eq!(read_exactly(&socket, 5).expect("the server answers"), b"named");
        socket
    }

    fn secure(&self, own: &Connector) -> Socket {
        let options =
            SocketOptions::new().secure_transport(SecureTransport::On).tls(trust_only(authority()));
        let socket = own.connect_with(self.tls.address(), options).expect("the options are valid");
        (&socket).write_all(b"secure").expect("the server reads");
        (&socket).flush().expect("the server reads");
        assert_eq!(read_exactly(&socket, 6).expect("the server answers"), b"secure");
        socket
    }
}

fn echo_by_tls(stream: TcpStream, config: Arc<rustls::ServerConfig>) {
    let session = rustls::ServerConnection::new(config).expect("the configuration is valid");
    let mut wire = rustls::StreamOwned::new(session, stream);
    let mut buffer = [0; 4096];
    // The echo simply ends if the test ends the connection.
    while let Ok(bytes @ 1..) = wire.read(&mut buffer) {
        if wire.write_all(&buffer[..bytes]).and_then(|()| wire.flush()).is_err() {
            return;
        }
    }
    wire.conn.send_close_notify();
    let _ = wire.conn.complete_io(&mut wire.sock);
    let _ = wire.sock.shutdown(std::net::Shutdown::Write);
}

// -------------------------------------------------------------------- a logger that forks

/// A logger that forks once on a thread of the crate; its child opens a socket.
struct ForksOnce {
    address: SocketAddr,
    done: AtomicBool,
    ended: mpsc::Sender<()>,
}

impl log::Log for ForksOnce {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        let own = thread::current().name().is_some_and(|name| name.starts_with("sockeye-"));
        if !own || self.done.swap(true, Ordering::SeqCst) {
            return;
        }
        in_a_forked_child(|| {
            let socket = sockeye::connect(self.address).expect("the address is valid");
            still_works(&socket);
        });
        self.ended.send(()).expect("the test waits for it");
    }

    fn flush(&self) {}
}

#[test]
fn a_poller_of_the_parent_fails_in_a_child_and_goes_on_in_the_parent() {
    let name = "a_poller_of_the_parent_fails_in_a_child_and_goes_on_in_the_parent";
    in_subprocess(&format!("fork::children::{name}"), LONG, || {
        let listener = listen();
        let socket = sockeye::connect(listener.local_addr().unwrap()).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        socket.opened().unwrap();
        let mut poller = Some(Poller::new().unwrap());
        let mut events = Events::with_capacity(1);
        let readable = Interest::READABLE;
        poller.as_ref().unwrap().add(&socket, 7, readable).unwrap();
        in_a_forked_child(|| {
            let parents = poller.take().unwrap();
            let refused = ErrorKind::InvalidState;
            assert_fails(parents.wait(&mut events, None), refused);
            assert_fails(parents.wait_until(&mut events, Instant::now()), refused);
            assert_fails(parents.add(&socket, 8, readable), refused);
            assert_fails(parents.modify(7, readable), refused);
            assert!(!parents.remove(7) && parents.is_empty());
            parents.wake();
            assert_fails(Poller::new().map(drop), refused);
            assert_fails(sockeye::wait_any(&[(&socket, readable)], None), refused);
            drop(parents);
        });
        let poller = poller.unwrap();
        assert_eq!(poller.len(), 1);
        peer.write_all(b"x").unwrap();
        assert_eq!(poller.wait(&mut events, LONG).unwrap(), 1);
    });
}
