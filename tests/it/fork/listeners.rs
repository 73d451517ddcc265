//! Listeners and forks: a child leaves its parent's listener alone, and may adopt one that both have.

use std::io::{ErrorKind as IoErrorKind, Write};
use std::time::Duration;

use sockeye::{
    ErrorKind, Identity, ListenOptions, Listener, SecureTransport, ServerTlsOptions, SocketOptions,
    listen, listen_with,
};

use super::{Child, LONG, fork, in_a_forked_child, leave_child};
use crate::support::net;
use crate::support::subprocess::in_subprocess;
use crate::support::tls::{authority, valid_cert};
use crate::support::{WATCHDOG, assert_fails, ms, read, read_exactly, spawn_blocked};

fn client(listener: &Listener) -> std::net::TcpStream {
    net::connect(listener.local_address().unwrap()).expect("it listens")
}

/// Checks that the listener works.
#[track_caller]
fn still_accepts(listener: &Listener) {
    let client = client(listener);
    let socket = listener.accept_timeout(WATCHDOG).expect("a client has connected");
    (&socket).write_all(b"works").expect("the client reads");
    assert_eq!(read_exactly(&client, 5).expect("the server writes"), b"works");
}

#[test]
fn in_the_child_every_call_fails_and_the_parents_listener_stays() {
    const NAME: &str =
        "fork::listeners::in_the_child_every_call_fails_and_the_parents_listener_stays";
    in_subprocess(NAME, LONG, || {
        let ends: [fn(Listener); 5] = [
            drop,
            |listener| listener.close(),
            |listener| listener.abort(),
            |listener| assert_eq!(listener.shutdown(ms(10)), 0),
            |listener| assert_fails(listener.serve(1, drop), ErrorKind::InvalidState),
        ];
        for end in ends {
            let mut copy = Some(listen("127.0.0.1:0").unwrap());
            let queued = client(copy.as_ref().unwrap());
            in_a_forked_child(|| {
                let listener = copy.take().expect("only the child takes its copy");
                assert_fails(listener.accept(), ErrorKind::InvalidState);
                assert_fails(listener.accept_timeout(Duration::ZERO), ErrorKind::InvalidState);
                assert_fails(listener.closed(), ErrorKind::InvalidState);
                assert_fails(listener.closed_timeout(ms(1)), ErrorKind::InvalidState);
                assert!(listener.incoming().next().is_none());
                assert!(listener.descriptor().is_none());
                assert_eq!(listener.open_sockets(), 0);
                let accepted = listener.scope(|scope| scope.accept());
                assert_fails(accepted, ErrorKind::InvalidState);
                end(listener);
            });
            let listener = copy.as_ref().expect("the child took only its copy");
            let socket = listener.accept_timeout(WATCHDOG).expect("the client was complete");
            (&socket).write_all(b"x").unwrap();
            assert_eq!(read_exactly(&queued, 1).unwrap(), b"x");
            still_accepts(listener);
        }
    });
}

/// The child has a copy of everything that the parent needs to remove the path.
#[test]
fn in_the_child_no_end_of_a_listener_removes_its_path() {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;
    const NAME: &str = "fork::listeners::in_the_child_no_end_of_a_listener_removes_its_path";
    in_subprocess(NAME, LONG, || {
        let ends: [fn(Listener); 5] = [
            drop,
            |listener| listener.close(),
            |listener| listener.abort(),
            |listener| assert_eq!(listener.shutdown(ms(10)), 0),
            |_| std::process::exit(0),
        ];
        let name = format!("sockeye-it-fork-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let address = sockeye::UnixAddress::from_pathname(&path).expect("it is short");
        for end in ends {
            let listened = sockeye::listen_unix(address.clone(), ListenOptions::new());
            let mut copy = Some(listened.expect("the path is free"));
            let inode = || path.metadata().expect("the path is still there").ino();
            let before = inode();
            in_a_forked_child(|| end(copy.take().expect("only the child takes its copy")));
            assert_eq!(inode(), before);
            let listener = copy.expect("the child took only its copy");
            let client = UnixStream::connect(&path).expect("it listens");
            let socket = listener.accept_timeout(WATCHDOG).expect("a client has connected");
            (&socket).write_all(b"works").expect("the client reads");
            assert_eq!(read_exactly(&client, 5).expect("the server writes"), b"works");
            listener.close();
            assert!(!path.exists(), "the parent removes it");
        }
    });
}

/// The child still has the descriptor, so the queue stays until the parent empties it.
#[cfg(target_os = "linux")]
#[test]
fn an_abort_ends_the_queue_of_a_path_although_a_child_has_it() {
    use std::os::unix::net::UnixStream;
    const NAME: &str = "fork::listeners::an_abort_ends_the_queue_of_a_path_although_a_child_has_it";
    in_subprocess(NAME, LONG, || {
        let name = format!("sockeye-it-queue-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let address = sockeye::UnixAddress::from_pathname(&path).expect("it is short");
        let listener = sockeye::listen_unix(address, ListenOptions::new()).expect("it is free");
        let client = UnixStream::connect(&path).expect("it listens");
        client.set_read_timeout(Some(WATCHDOG)).expect("the limit is not zero");
        let (parents, childs) = UnixStream::pair().expect("two descriptors are free");
        let Some(child) = fork() else {
            // Until the parent closes its end.
            drop(parents);
            let ended = std::io::Read::read(&mut &childs, &mut [0]);
            leave_child(ended.is_ok_and(|bytes| bytes == 0));
        };
        drop(childs);
        listener.abort();
        assert_eq!(read(&client, 1).expect("it is disconnected"), b"");
        drop(parents);
        child.ends_well();
    });
}

#[test]
fn a_fork_during_an_accept_disturbs_it_not() {
    const NAME: &str = "fork::listeners::a_fork_during_an_accept_disturbs_it_not";
    in_subprocess(NAME, LONG, || {
        let listener = listen("127.0.0.1:0").unwrap();
        for _ in 0..20 {
            let acceptor = listener.clone();
            let accepting = spawn_blocked(move || acceptor.accept());
            in_a_forked_child(|| {
                assert_fails(listener.accept(), ErrorKind::InvalidState);
                listener.close();
            });
            let client = client(&listener);
            let socket = accepting.join().expect("a client has connected");
            (&socket).write_all(b"x").unwrap();
            assert_eq!(read_exactly(&client, 1).unwrap(), b"x");
        }
    });
}

/// A program that forks has to bind before that.
#[test]
fn a_child_cannot_listen_but_adopt() {
    const NAME: &str = "fork::listeners::a_child_cannot_listen_but_adopt";
    in_subprocess(NAME, LONG, || {
        // A process that has not used this crate is no parent.
        in_a_forked_child(|| drop(listen("127.0.0.1:0").expect("nothing was used before")));
        let _used = listen("127.0.0.1:0").unwrap();
        in_a_forked_child(|| {
            assert_fails(listen("127.0.0.1:0"), ErrorKind::InvalidState);
            let bound = net::TcpListener::bind("127.0.0.1:0").unwrap();
            still_accepts(&Listener::try_from(net::std_listener(bound)).unwrap());
        });
    });
}

/// The lock of the settings may be held by a thread that the child does not have.
#[test]
fn in_the_child_the_tls_settings_cannot_be_replaced() {
    const NAME: &str = "fork::listeners::in_the_child_the_tls_settings_cannot_be_replaced";
    in_subprocess(NAME, LONG, || {
        let issued = authority().issues(&valid_cert());
        let identity = || Identity::from_pem(issued.chain_pem(), issued.key_pem()).unwrap();
        let tls = || ServerTlsOptions::new(identity());
        let socket = SocketOptions::new().secure_transport(SecureTransport::On).server_tls(tls());
        let listener = listen_with("127.0.0.1:0", ListenOptions::new().socket(socket)).unwrap();
        listener.set_server_tls(tls()).expect("this is the parent");
        in_a_forked_child(|| {
            assert_fails(listener.set_server_tls(tls()), ErrorKind::InvalidState);
        });
    });
}

/// The client of the parent gets no FIN.
#[test]
fn a_scope_from_before_the_fork_ends_nothing_in_the_child() {
    const NAME: &str = "fork::listeners::a_scope_from_before_the_fork_ends_nothing_in_the_child";
    in_subprocess(NAME, LONG, || {
        let listener = listen("127.0.0.1:0").unwrap();
        let client = client(&listener);
        let child = listener.scope(|scope| {
            let socket = scope.accept_timeout(WATCHDOG).expect("a client has connected");
            // The child leaves the scope, and keeps the socket.
            let Some(child) = fork() else { return Err(socket) };
            child.ends_well();
            (&socket).write_all(b"x").unwrap();
            assert_eq!(read_exactly(&client, 1).unwrap(), b"x");
            Ok(())
        });
        if child.is_err() {
            leave_child(true);
        }
        assert_eq!(read_exactly(&client, 1).unwrap_err().kind(), IoErrorKind::UnexpectedEof);
    });
}

/// A pre-forking server: every child adopts the listener that it inherits.
#[test]
fn forked_children_share_an_adopted_listener() {
    const CHILDREN: usize = 3;
    const NAME: &str = "fork::listeners::forked_children_share_an_adopted_listener";
    in_subprocess(NAME, LONG, || {
        let bound = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = bound.local_addr().unwrap();
        let children: Vec<_> = (0..CHILDREN)
            .map(|_| {
                Child::forked(|| {
                    let listener =
                        Listener::try_from(net::std_listener(bound.try_clone().unwrap())).unwrap();
                    for socket in &listener {
                        let mut request = [0];
                        std::io::Read::read_exact(&mut socket.reader(), &mut request).unwrap();
                        if request == *b"q" {
                            // The client is answered before the child ends.
                            socket.writer().write_all(b"q").unwrap();
                            socket.close().unwrap();
                            break;
                        }
                        socket.writer().write_all(&request).unwrap();
                        socket.close().unwrap();
                    }
                    listener.close();
                })
            })
            .collect();
        let ask = |byte: u8| {
            let mut client = net::connect(address).unwrap();
            client.set_read_timeout(Some(WATCHDOG)).unwrap();
            client.write_all(&[byte]).unwrap();
            assert_eq!(read_exactly(&client, 1).unwrap(), [byte]);
        };
        for byte in 0..60 {
            ask(byte);
        }
        for _ in 0..CHILDREN {
            ask(b'q');
        }
        for child in children {
            child.ends_well();
        }
    });
}
