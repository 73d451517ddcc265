//! What a socket says of its addresses and its peer.

use std::os::unix::net::UnixStream;

use sockeye::{Connector, ListenOptions, Phase, SecureTransport, SocketOptions, UnixAddress};

use super::{OwnServer, StdServer, assert_talks, uid};
use crate::support::with_watchdog;

#[test]
fn a_dialled_socket_knows_the_path_and_no_numeric_address() {
    with_watchdog(|| {
        let server = StdServer::new();
        let (socket, peer) = server.open(SocketOptions::new());
        let info = socket.opened().expect("it is open");
        assert_eq!(info.unix_address(), Some(server.address()));
        assert_eq!((info.remote_address(), info.local_address()), (None, None));
        assert_eq!((info.requested().hostname(), info.requested().port()), ("localhost", 0));
        let text = info.requested().to_string();
        assert!(sockeye::connect(text.as_str()).is_err(), "no connect accepts {text}");
        assert!(sockeye::connect(info.requested().clone()).is_err());
        assert_eq!(socket.phase(), Phase::Open);
        assert_eq!(socket.secure_transport(), SecureTransport::Off);
        assert_talks(&peer, &socket);
        let text = format!("{socket:?}");
        assert!(text.contains("unix:/"), "{text}");
    });
}

#[test]
fn both_sides_know_the_process_at_the_other_end() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        let client = sockeye::connect_unix(server.folder.address("s"), SocketOptions::new());
        let client = client.expect("the options are valid");
        let socket = server.accept();
        for end in [&client, &socket] {
            let found = end.opened().expect("it is open").peer_credentials();
            let found = found.expect("this system reports them");
            assert_eq!(found.uid, uid());
            assert_eq!(found.gid, rustix::process::getegid().as_raw());
            if cfg!(target_os = "linux") {
                assert_eq!(found.pid, i32::try_from(std::process::id()).ok());
            }
        }
        // The client is not bound.
        let info = socket.opened().expect("it is open");
        assert_eq!(info.unix_address(), None);
        assert_eq!(info.requested().hostname(), "localhost");
        // What was known stays known.
        client.close().expect("nothing is unsent");
        assert!(client.opened().expect("it was open").peer_credentials().is_some());
    });
}

#[test]
fn a_tcp_socket_has_neither() {
    with_watchdog(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let socket = sockeye::connect(listener.local_addr().unwrap()).expect("it is an address");
        let info = socket.opened().expect("it listens");
        assert!(info.unix_address().is_none());
        if !cfg!(sockeye_unix) {
            assert!(info.peer_credentials().is_none());
        }
        let listener = sockeye::listen("127.0.0.1:0").expect("a port is free");
        assert!(listener.unix_address().is_none() && listener.local_address().is_some());
    });
}

#[test]
fn a_bound_client_is_known_to_the_listener() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        let path = server.folder.path("client");
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let client = socket.expect("a descriptor is free");
        client.bind(&socket2::SockAddr::unix(&path).unwrap()).expect("the path is free");
        let to = socket2::SockAddr::unix(server.folder.path("s")).unwrap();
        client.connect(&to).expect("it listens");
        let info = server.accept().opened().expect("it is open");
        assert_eq!(info.unix_address(), Some(server.folder.address("client")));
    });
}

/// Linux gives a client an abstract name if it binds none.
#[test]
#[cfg(target_os = "linux")]
fn the_name_that_the_system_chose_for_a_client_is_known_to_the_listener() {
    with_watchdog(|| {
        let server = OwnServer::new(ListenOptions::new());
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None);
        let client = socket.expect("a descriptor is free");
        client.bind(&socket2::SockAddr::unix("").unwrap()).expect("a name is free");
        let to = socket2::SockAddr::unix(server.folder.path("s")).unwrap();
        client.connect(&to).expect("it listens");
        let info = server.accept().opened().expect("it is open");
        let name = info.unix_address().expect("it is bound");
        // unix(7): five bytes of hexadecimal digits.
        assert_eq!(name.as_abstract_name().map(<[u8]>::len), Some(5), "{name:?}");
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_abstract_name_works_as_a_path_does() {
    with_watchdog(|| {
        let name = format!("sockeye-it-abstract-{}\0\n", std::process::id());
        let address = UnixAddress::from_abstract_name(&name).expect("it is short");
        let listener =
            sockeye::listen_unix(address.clone(), ListenOptions::new()).expect("it is free");
        assert_eq!(listener.unix_address(), Some(address.clone()));
        assert_eq!(listener.local_address(), None);
        let client = sockeye::connect_unix(address.clone(), SocketOptions::new()).unwrap();
        assert_eq!(client.opened().expect("it listens").unix_address(), Some(address.clone()));
        listener.accept().expect("the client has connected");
        let error = sockeye::listen_unix(address.clone(), ListenOptions::new()).unwrap_err();
        assert!(error.to_string().contains("unix:@sockeye-it-abstract-"), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
        listener.close();
        listener.closed().expect("it was closed");
        sockeye::listen_unix(address, ListenOptions::new()).expect("the name is free again");
    });
}

#[test]
fn an_adopted_pair_talks() {
    with_watchdog(|| {
        let (ours, theirs) = UnixStream::pair().expect("two descriptors are free");
        let socket = Connector::global().adopt_unix(ours, SocketOptions::new()).unwrap();
        let info = socket.opened().expect("it is open");
        assert_eq!((info.unix_address(), info.remote_address()), (None, None));
        assert_eq!(info.peer_credentials().map(|it| it.uid), Some(uid()));
        assert_talks(&theirs, &socket);
        socket.close().expect("nothing is unsent");
    });
}
