//! Listening on a path: permissions, stale paths, removal, users and adoption.

use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};

use sockeye::{ErrorKind, ListenOptions, Listener, listen_unix};

use super::{Folder, OwnServer, assert_talks, uid};
use crate::support::{PROMPT, assert_fails, at_once, eventually, read, with_watchdog};

#[test]
fn a_listener_has_its_path_until_it_is_closed() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        assert_eq!(server.listener.unix_address(), Some(server.folder.address("s")));
        assert_eq!(server.listener.local_address(), None);
        let text = format!("{:?}", server.listener);
        assert!(text.contains("unix:/"), "{text}");
        let client = server.client();
        let socket = server.accept();
        assert_talks(&client, &socket);
        server.listener.close();
        server.listener.closed().expect("it was closed");
        assert!(!server.folder.path("s").exists(), "the path is removed");
        assert_fails(server.listener.accept(), ErrorKind::Closed);
        // Its sockets live on.
        assert_talks(&client, &socket);
    });
}

#[test]
fn each_way_to_end_a_listener_removes_its_path() {
    with_watchdog(|| {
        let ends: [fn(&Listener); 3] = [
            |listener| listener.close(),
            |listener| listener.abort(),
            |listener| assert_eq!(listener.shutdown(PROMPT), 0),
        ];
        for end in ends {
            let server = OwnServer::new(ListenOptions::new());
            end(&server.listener);
            server.listener.closed().expect("it was closed");
            assert!(!server.folder.path("s").exists());
        }
        let OwnServer { listener, folder } = OwnServer::new(ListenOptions::new());
        drop(listener);
        eventually(PROMPT, "the path is removed", || !folder.path("s").exists());
    });
}

#[test]
fn a_close_returns_the_clients_in_the_queue() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        let clients: Vec<_> = (0..5).map(|_| server.client()).collect();
        server.listener.close();
        let sockets: Vec<_> = server.listener.incoming().collect();
        assert_eq!(sockets.len(), 5);
        for (client, socket) in clients.iter().zip(&sockets) {
            assert_talks(client, socket);
        }
        server.listener.closed().expect("it was closed");
    });
}

/// The client in the queue waits for a slot, and the path is already free for a successor.
#[test]
fn the_path_goes_when_the_close_begins() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new().max_open_sockets(1));
        let first = server.client();
        let open = server.accept();
        let queued = server.client();
        server.listener.close();
        assert!(!server.folder.path("s").exists(), "the path is removed at once");
        let successor = listen_unix(server.folder.address("s"), ListenOptions::new());
        let successor = successor.expect("the path is free");
        drop((first, open));
        assert_talks(&queued, &server.accept());
        assert_fails(server.listener.accept(), ErrorKind::Closed);
        server.listener.closed().expect("it was closed");
        let client = UnixStream::connect(server.folder.path("s")).expect("the successor listens");
        assert_talks(&client, &successor.accept().expect("the client has connected"));
    });
}

/// Another descriptor keeps the queue of a Unix-domain listener alive, which shutdown(2) does not empty.
#[cfg(target_os = "linux")]
#[test]
fn an_abort_ends_the_queue_although_the_program_holds_a_descriptor() {
    with_watchdog(|| {
        let ends: [fn(&Listener); 2] =
            [|listener| listener.abort(), |listener| assert_eq!(listener.shutdown(PROMPT), 0)];
        for end in ends {
            let server = OwnServer::new(ListenOptions::new());
            let held = server.listener.descriptor().expect("it listens");
            let clients: Vec<_> = (0..3).map(|_| server.client()).collect();
            (&clients[0]).write_all(b"unread").expect("it is connected");
            end(&server.listener);
            let error = at_once(|| read(&clients[0], 1)).expect_err("its data was lost");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
            for client in &clients[1..] {
                assert_eq!(at_once(|| read(client, 1)).expect("it is disconnected"), b"");
            }
            drop(held);
        }
    });
}

/// The socket is bound before the event loop starts, which takes more descriptors than there are.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_that_cannot_start_leaves_no_path() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const NAME: &str = "unix::listening::a_listener_that_cannot_start_leaves_no_path";
    crate::support::subprocess::in_subprocess(NAME, crate::support::WATCHDOG, || {
        let folder = Folder::new();
        let before = getrlimit(Resource::Nofile);
        // From too few descriptors for a socket to enough for everything.
        for free in 0..12 {
            let next = std::fs::File::open("/dev/null").expect("a descriptor is free");
            let next = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap();
            let current = Some(next + free);
            setrlimit(Resource::Nofile, Rlimit { current, ..before }).expect("it may be lowered");
            let listened = listen_unix(folder.address("s"), ListenOptions::new());
            setrlimit(Resource::Nofile, before).expect("it may be raised again");
            match listened {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "{free} descriptors: {error}");
                    assert!(!folder.path("s").exists(), "{free} descriptors");
                }
                Ok(listener) => {
                    assert!(free > 2, "the event loop needs descriptors too");
                    assert!(folder.path("s").exists());
                    return listener.close();
                }
            }
        }
        panic!("no limit was enough");
    });
}

#[test]
fn a_successors_path_is_left_alone() {
    with_watchdog(|| {
        let OwnServer { listener, folder } = OwnServer::new(ListenOptions::new());
        std::fs::remove_file(folder.path("s")).expect("it exists");
        let successor = listen_unix(folder.address("s"), ListenOptions::new()).expect("it is free");
        listener.close();
        listener.closed().expect("it was closed");
        let client = UnixStream::connect(folder.path("s")).expect("the successor listens");
        assert_talks(&client, &successor.accept().expect("the client has connected"));
        // A file is not the socket either.
        std::fs::remove_file(folder.path("s")).expect("it exists");
        std::fs::write(folder.path("s"), "data").expect("the folder is writable");
        successor.close();
        successor.closed().expect("it was closed");
        assert_eq!(std::fs::read(folder.path("s")).expect("it is still there"), b"data");
    });
}

#[test]
fn an_existing_path_is_an_error_that_names_it() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        for stale in [false, true] {
            // A server that is alive is never replaced.
            let options = ListenOptions::new().replace_stale(stale);
            let error = listen_unix(server.folder.address("s"), options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().contains("cannot listen on unix:/"), "{error}");
            let kind = std::io::Error::from(error).kind();
            assert_eq!(kind, std::io::ErrorKind::AddrInUse);
        }
        // The check of the last one has left a client, which is gone.
        let probe = server.accept();
        assert_eq!(read(&probe, 1).expect("a clean end"), b"");
        let client = server.client();
        assert_talks(&client, &server.accept());
    });
}

#[test]
fn only_a_stale_socket_is_replaced() {
    with_watchdog(|| {
        let folder = Folder::new();
        let stale = || ListenOptions::new().replace_stale(true);
        drop(UnixListener::bind(folder.path("s")).expect("it is free"));
        assert_fails(listen_unix(folder.address("s"), ListenOptions::new()), ErrorKind::Io);
        let listener = listen_unix(folder.address("s"), stale()).expect("it refuses connections");
        let client = UnixStream::connect(folder.path("s")).expect("it listens");
        assert_talks(&client, &listener.accept().expect("the client has connected"));
        std::fs::write(folder.path("file"), "data").expect("the folder is writable");
        assert_fails(listen_unix(folder.address("file"), stale()), ErrorKind::Io);
        assert_eq!(std::fs::read(folder.path("file")).expect("it is still there"), b"data");
        // The link is not followed.
        drop(UnixListener::bind(folder.path("old")).expect("it is free"));
        std::os::unix::fs::symlink(folder.path("old"), folder.path("link")).expect("it is free");
        assert_fails(listen_unix(folder.address("link"), stale()), ErrorKind::Io);
        assert!(folder.path("old").exists() && folder.path("link").exists());
        // A path that does not exist is not stale.
        listen_unix(folder.address("new"), stale()).expect("it is free");
    });
}

/// A busy server is alive, although it takes no client for the moment.
#[cfg(target_os = "linux")]
#[test]
fn a_server_whose_queue_is_full_is_not_replaced() {
    use std::os::unix::fs::MetadataExt;
    with_watchdog(|| {
        let folder = Folder::new();
        let (server, clients) = super::connecting::fill(&folder);
        let inode = || folder.path("s").metadata().expect("it is still there").ino();
        let before = inode();
        let options = ListenOptions::new().replace_stale(true);
        let error = at_once(|| listen_unix(folder.address("s"), options)).unwrap_err();
        assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::AddrInUse);
        assert_eq!(inode(), before);
        for client in clients {
            drop(server.accept().expect("it has connected"));
            drop(client);
        }
    });
}

#[test]
fn only_the_allowed_users_get_through() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new().allow_uids([uid(), 4_000_000_000]));
        let client = server.client();
        assert_talks(&client, &server.accept());

        for denied in [vec![uid() + 1], vec![]] {
            let server = OwnServer::new(ListenOptions::new().allow_uids(denied));
            let client = server.client();
            assert_fails(
                server.listener.accept_timeout(crate::support::ms(50)),
                ErrorKind::TimedOut,
            );
            assert_eq!(at_once(|| read(&client, 1)).expect("it is disconnected"), b"");
            let stats = server.listener.stats();
            assert_eq!((stats.accepted, stats.denied, stats.opened), (1, 1, 0));
        }
    });
}

#[test]
fn an_adopted_listener_leaves_its_path_alone() {
    with_watchdog(|| {
        let folder = Folder::new();
        let bound = UnixListener::bind(folder.path("s")).expect("it is free");
        let options = ListenOptions::new().allow_uids([uid()]);
        let listener = Listener::adopt_unix(bound, options).expect("it listens");
        assert_eq!(listener.unix_address(), Some(folder.address("s")));
        let client = UnixStream::connect(folder.path("s")).expect("it listens");
        assert_talks(&client, &listener.accept().expect("the client has connected"));
        listener.close();
        listener.closed().expect("it was closed");
        assert!(folder.path("s").exists());
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let tcp = UnixListener::from(std::os::fd::OwnedFd::from(tcp));
        let error = Listener::adopt_unix(tcp, ListenOptions::new()).unwrap_err();
        assert!(error.to_string().contains("a TCP socket"), "{error}");
        let (stream, _other) = UnixStream::pair().expect("two descriptors are free");
        let stream = UnixListener::from(std::os::fd::OwnedFd::from(stream));
        assert_fails(Listener::adopt_unix(stream, ListenOptions::new()), ErrorKind::InvalidState);
    });
}

#[test]
fn a_shared_connector_serve_and_limits_work_as_over_tcp() {
    with_watchdog(|| {
        let connector = sockeye::Connector::builder().max_open_sockets(2).build().unwrap();
        let server = OwnServer::new(ListenOptions::new().connector(&connector));
        let client = server.client();
        let socket = server.accept();
        assert_eq!(connector.open_sockets(), 1);
        assert_talks(&client, &socket);
        drop((client, socket));
        let client = server.client();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        server
            .listener
            .serve(2, |socket| {
                std::io::copy(&mut socket.reader(), &mut socket.writer()).expect("it is an echo");
                server.listener.close();
            })
            .expect("it was closed");
        assert_eq!(read(&client, 1).expect("a clean end"), b"");
    });
}
