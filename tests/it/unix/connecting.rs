//! Connecting: refusals, full queues, limits and scopes.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::Duration;

use sockeye::{Connector, ErrorKind, ListenOptions, Phase, SocketOptions, Step};

use super::{Folder, StdServer, assert_talks};
use crate::support::subprocess::in_subprocess;
use crate::support::{
    WATCHDOG, assert_fails, at_once, ms, spawn_blocked, spawn_call, timed, with_watchdog,
};

#[track_caller]
fn assert_refused(address: sockeye::UnixAddress, expected: io::ErrorKind, text: &str) {
    let socket = sockeye::connect_unix(address, SocketOptions::new()).expect("it is dialled");
    let error = at_once(|| socket.opened().expect_err("nothing answers"));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.step(), Some(Step::Connect));
    let message = error.to_string();
    assert!(message.contains("unix:/") && message.contains(text), "{message}");
    assert!(error.attempts().is_empty(), "there was no numeric address");
    assert_eq!(io::Error::from(error).kind(), expected);
    assert_fails(socket.closed(), ErrorKind::Connect);
}

#[test]
fn a_path_that_leads_nowhere_is_a_failed_connect_with_the_path() {
    with_watchdog(|| {
        let folder = Folder::new();
        assert_refused(folder.address("s"), io::ErrorKind::NotFound, "/s: the path does not exist");
        drop(UnixListener::bind(folder.path("stale")).expect("the path is free"));
        assert_refused(folder.address("stale"), io::ErrorKind::ConnectionRefused, "refused");
        std::fs::write(folder.path("file"), "").expect("the folder is writable");
        assert_refused(folder.address("file"), io::ErrorKind::ConnectionRefused, "refused");
        let _datagrams = UnixDatagram::bind(folder.path("datagrams")).expect("the path is free");
        let socket = sockeye::connect_unix(folder.address("datagrams"), SocketOptions::new());
        assert_fails(socket.expect("it is dialled").opened(), ErrorKind::Connect);
    });
}

/// The test changes the directory of its process.
#[test]
fn a_relative_path_starts_at_the_current_directory() {
    const NAME: &str = "unix::connecting::a_relative_path_starts_at_the_current_directory";
    in_subprocess(NAME, WATCHDOG, || {
        let (folder, elsewhere) = (Folder::new(), Folder::new());
        let go = |folder: &Folder| std::env::set_current_dir(folder.path(".")).expect("it exists");
        let address = || sockeye::UnixAddress::from_pathname("s").expect("it is one");
        let connect = || sockeye::connect_unix(address(), SocketOptions::new()).expect("it is set");
        go(&folder);
        let listener =
            sockeye::listen_unix(address(), ListenOptions::new()).expect("the path is free");
        assert!(folder.path("s").exists());
        let socket = connect();
        socket.opened().expect("it listens");
        listener.accept_timeout(WATCHDOG).expect("the socket has connected");
        go(&elsewhere);
        let error = connect().opened().expect_err("there is no such path here");
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains("unix:s: "), "{error}");
        // The path is that of the time at which it was bound.
        std::fs::write(elsewhere.path("s"), "data").expect("the folder is writable");
        listener.close();
        assert!(!folder.path("s").exists());
        assert!(elsewhere.path("s").exists());
        std::env::set_current_dir("/").expect("it exists");
    });
}

/// Fills the queue of a listener that has none, and returns the clients in it.
#[cfg(target_os = "linux")]
pub fn fill(folder: &Folder) -> (UnixListener, Vec<UnixStream>) {
    use socket2::{Domain, SockAddr, Socket, Type};
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a descriptor is free");
    let name = SockAddr::unix(folder.path("s")).expect("the path is short");
    socket.bind(&name).expect("the path is free");
    socket.listen(0).expect("it is bound");
    let mut clients = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a descriptor is free");
        client.set_nonblocking(true).expect("every socket can be");
        match client.connect(&name) {
            Ok(()) => clients.push(client.into()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                return (socket.into(), clients);
            }
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_queue_is_waited_for() {
    with_watchdog(|| {
        let folder = Folder::new();
        let (listener, clients) = fill(&folder);
        let socket = sockeye::connect_unix(folder.address("s"), SocketOptions::new()).unwrap();
        let opened = spawn_blocked({
            let socket = socket.clone();
            move || socket.opened().map(|info| info.timings().connect)
        });
        std::thread::sleep(ms(200));
        assert!(opened.is_running());
        assert_eq!(socket.phase(), Phase::Connecting);
        for _ in clients {
            listener.accept().expect("the queue has one");
        }
        let took = opened.join().expect("there is room now");
        assert!(took >= ms(200), "{took:?}");
        let (peer, _) = listener.accept().expect("the socket has connected");
        assert_talks(&peer, &socket);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_queue_that_stays_full_ends_with_the_connect_timeout() {
    with_watchdog(|| {
        let folder = Folder::new();
        let (_listener, _clients) = fill(&folder);
        let options = SocketOptions::new().connect_timeout(ms(150));
        let connect = || sockeye::connect_unix(folder.address("s"), options).unwrap().opened();
        let (result, took) = timed(connect);
        let error = result.expect_err("the queue is full");
        assert_eq!((error.kind(), error.step()), (ErrorKind::TimedOut, Some(Step::Connect)));
        assert!(error.to_string().contains("unix:/"), "{error}");
        assert!(took >= ms(150) && took < Duration::from_secs(2), "{took:?}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn a_close_and_an_abort_end_the_wait_for_a_full_queue() {
    with_watchdog(|| {
        let folder = Folder::new();
        let (listener, clients) = fill(&folder);
        let options = SocketOptions::new().connect_timeout(None);
        let connecting = || {
            let socket =
                sockeye::connect_unix(folder.address("s"), options.clone()).expect("it is dialled");
            let opened = spawn_blocked({
                let socket = socket.clone();
                move || socket.opened().map(drop)
            });
            (socket, opened)
        };
        let (socket, opened) = connecting();
        at_once(|| socket.close()).expect("a close cancels the attempt");
        assert_fails(opened.join(), ErrorKind::Closed);
        socket.closed().expect("this side has closed it");

        let (socket, opened) = connecting();
        at_once(|| socket.abort());
        assert_fails(opened.join(), ErrorKind::Closed);
        assert_fails(socket.closed(), ErrorKind::Closed);

        // None of them enters the queue when it has room.
        std::thread::sleep(ms(100));
        for _ in clients {
            listener.accept().expect("the queue has one");
        }
        std::thread::sleep(ms(150));
        listener.set_nonblocking(true).expect("every socket can be");
        let error = listener.accept().expect_err("both have ended");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    });
}

/// The retries do not end by themselves.
#[test]
#[cfg(target_os = "linux")]
fn without_a_connect_timeout_a_full_queue_is_waited_for_as_long_as_it_takes() {
    with_watchdog(|| {
        let folder = Folder::new();
        let (listener, clients) = fill(&folder);
        let options = SocketOptions::new().connect_timeout(None);
        let socket = sockeye::connect_unix(folder.address("s"), options).expect("it is dialled");
        assert_fails(socket.opened_timeout(ms(1500)), ErrorKind::TimedOut);
        for _ in clients {
            listener.accept().expect("the queue has one");
        }
        socket.opened().expect("there is room now");
        let (peer, _) = listener.accept().expect("the socket has connected");
        assert_talks(&peer, &socket);
    });
}

/// Every client gets through, although the queue has room for one at a time.
#[test]
fn many_clients_share_a_short_queue() {
    with_watchdog(|| {
        let folder = Folder::new();
        let options = ListenOptions::new().backlog(1);
        let listener = sockeye::listen_unix(folder.address("s"), options).expect("it is free");
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let address = folder.address("s");
                spawn_call(move || {
                    let socket = sockeye::connect_unix(address, SocketOptions::new()).unwrap();
                    let mut answer = [0; 2];
                    socket.reader().read_exact(&mut answer).map(|()| answer)
                })
            })
            .collect();
        for _ in 0..50 {
            let socket = listener.accept_timeout(WATCHDOG).expect("a client waits");
            socket.writer().write_all(b"ok").expect("the client reads");
            socket.close().expect("nothing is unsent");
        }
        for client in clients {
            assert_eq!(&client.join().expect("the server answers"), b"ok");
        }
    });
}

#[test]
fn limits_scopes_and_counts_apply() {
    with_watchdog(|| {
        let server = StdServer::new();
        let connector = Connector::builder().max_open_sockets(1).build().unwrap();
        let socket = connector.scope(|scope| {
            let socket = scope.connect_unix(server.address(), SocketOptions::new()).unwrap();
            socket.opened().expect("it listens");
            let more = connector.connect_unix(server.address(), SocketOptions::new());
            assert_fails(more, ErrorKind::Limit);
            socket
        });
        assert_eq!(socket.phase(), Phase::Closed);
        let (ours, _theirs) = UnixStream::pair().expect("two descriptors are free");
        connector.scope(|scope| {
            let adopted = scope.adopt_unix(ours, SocketOptions::new()).expect("it is connected");
            assert_eq!(connector.open_sockets(), 1);
            adopted.opened().expect("it is connected");
            adopted
        });
        assert_eq!(connector.open_sockets(), 0);
        assert_eq!((connector.stats().opened, connector.stats().over_limit), (2, 1));
        assert_eq!(connector.shutdown(ms(100)), 0);
        let late = connector.connect_unix(server.address(), SocketOptions::new());
        assert_fails(late, ErrorKind::Closed);
    });
}

#[test]
fn only_a_connected_unix_domain_stream_is_adopted() {
    with_watchdog(|| {
        let adopt = |descriptor: std::os::fd::OwnedFd, kind, text: &str| {
            let stream = UnixStream::from(descriptor);
            let error = Connector::global().adopt_unix(stream, SocketOptions::new()).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(text), "{error}");
        };
        let folder = Folder::new();
        let listener = UnixListener::bind(folder.path("s")).expect("the path is free");
        adopt(listener.into(), ErrorKind::InvalidState, "a listening socket");
        let (datagrams, _other) = UnixDatagram::pair().expect("two descriptors are free");
        adopt(datagrams.into(), ErrorKind::InvalidState, "another type");
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        adopt(tcp.into(), ErrorKind::InvalidState, "a TCP socket");
        let file = std::fs::File::open("/dev/null").expect("every system has it");
        adopt(file.into(), ErrorKind::InvalidState, "not a socket");
        let new = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        adopt(new.expect("a descriptor is free").into(), ErrorKind::Connect, "not connected");
    });
}

#[test]
fn a_stream_whose_peer_has_closed_is_adopted_with_its_data() {
    with_watchdog(|| {
        let (ours, mut theirs) = UnixStream::pair().expect("two descriptors are free");
        theirs.write_all(b"last words").expect("there is room");
        drop(theirs);
        let socket = Connector::global().adopt_unix(ours, SocketOptions::new()).unwrap();
        let mut text = String::new();
        socket.reader().read_to_string(&mut text).expect("the peer ended cleanly");
        assert_eq!(text, "last words");
        socket.closed().expect("both directions have ended");
    });
}
