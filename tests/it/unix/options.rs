//! Options that do not fit.

use sockeye::{
    Connector, ErrorKind, IngressRules, Keepalive, ListenOptions, SecureTransport, Socket,
    SocketOptions, TcpOptions, TlsOptions, connect_unix, listen_unix, listen_with,
};

use super::{Folder, OwnServer, StdServer, assert_talks};
use crate::support::{assert_fails, ms, with_watchdog};

/// Returns options that set a TCP option which a Unix-domain socket does not have.
fn tcp_only() -> Vec<(&'static str, TcpOptions)> {
    let second = std::time::Duration::from_secs(1);
    let keepalive = Keepalive { idle: second, interval: second, retries: 1 };
    let mut all = vec![
        ("nodelay", TcpOptions::new().nodelay(true)),
        ("nodelay", TcpOptions::new().nodelay(false)),
        ("keepalive", TcpOptions::new().keepalive(keepalive)),
        ("bind", TcpOptions::new().bind("127.0.0.1:0".parse().unwrap())),
    ];
    if cfg!(target_os = "linux") {
        all.push(("user_timeout", TcpOptions::new().user_timeout(second)));
    }
    all
}

#[test]
fn tcp_options_are_refused_by_name_if_they_are_set() {
    with_watchdog(|| {
        let server = StdServer::new();
        for (name, tcp) in tcp_only() {
            let options = SocketOptions::new().tcp(tcp);
            let error = connect_unix(server.address(), options.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert!(error.to_string().contains(name), "{error}");
            let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            let adopted = Connector::global().adopt_unix(ours, options.clone());
            assert_fails(adopted, ErrorKind::InvalidOptions);
            let folder = Folder::new();
            let listener = listen_unix(folder.address("s"), ListenOptions::new().socket(options));
            assert_fails(listener, ErrorKind::InvalidOptions);
            assert!(!folder.path("s").exists(), "nothing is bound");
        }
    });
}

#[test]
fn buffer_sizes_reach_each_socket() {
    with_watchdog(|| {
        let size = |socket: &Socket| {
            let descriptor = socket.descriptor().expect("it is open");
            let socket = socket2::SockRef::from(&descriptor);
            (socket.send_buffer_size().unwrap(), socket.recv_buffer_size().unwrap())
        };
        let sizes = TcpOptions::new().send_buffer_size(8192).recv_buffer_size(9216);
        let small = SocketOptions::new().tcp(sizes);
        let server = OwnServer::new(ListenOptions::new().socket(small.clone()));
        let dialled = connect_unix(server.folder.address("s"), small.clone()).unwrap();
        dialled.opened().expect("it listens");
        let accepted = server.accept();
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let adopted = Connector::global().adopt_unix(ours, small).unwrap();
        adopted.opened().expect("it is connected");
        // Linux doubles both.
        let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
        for (name, socket) in [("dialled", dialled), ("accepted", accepted), ("adopted", adopted)] {
            assert_eq!(size(&socket), (8192 * factor, 9216 * factor), "{name}");
        }
        let server = OwnServer::new(ListenOptions::new());
        let client = server.client();
        let default = server.accept();
        assert_ne!(size(&default), (8192 * factor, 9216 * factor));
        assert_talks(&client, &default);
    });
}

#[test]
fn options_of_a_tcp_listener_are_refused() {
    with_watchdog(|| {
        let folder = Folder::new();
        let new = ListenOptions::new;
        let per_client = IngressRules::allow_all().max_per_client(3);
        let refused = [
            new().reuse_port(true),
            new().only_v6(true),
            new().ingress(IngressRules::deny_all()),
            new().ingress(per_client),
            new().proxy_protocol_from("127.0.0.1").unwrap(),
            new().unix_mode(0o1000),
            new().unix_mode(u32::MAX),
        ];
        for options in refused {
            let listener = listen_unix(folder.address("s"), options);
            assert_fails(listener, ErrorKind::InvalidOptions);
            assert!(!folder.path("s").exists(), "nothing is bound");
        }
        listen_unix(folder.address("s"), new().ingress(IngressRules::allow_all()))
            .expect("default");
    });
}

#[test]
fn options_of_a_unix_domain_listener_are_refused_for_tcp_and_some_for_a_name() {
    with_watchdog(|| {
        let new = ListenOptions::new;
        let refused = [new().replace_stale(true), new().unix_mode(0o600), new().allow_uids([0])];
        for options in refused {
            assert_fails(listen_with("127.0.0.1:0", options.clone()), ErrorKind::InvalidOptions);
            let bound = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let adopted = sockeye::Listener::adopt(bound, options);
            assert_fails(adopted, ErrorKind::InvalidOptions);
        }
        let adopt = |options| {
            let folder = Folder::new();
            let bound = std::os::unix::net::UnixListener::bind(folder.path("s")).unwrap();
            sockeye::Listener::adopt_unix(bound, options)
        };
        for options in [new().replace_stale(true), new().unix_mode(0o600), new().backlog(3)] {
            assert_fails(adopt(options), ErrorKind::InvalidOptions);
        }
        #[cfg(target_os = "linux")]
        {
            let name = format!("sockeye-it-options-{}", std::process::id());
            let name = sockeye::UnixAddress::from_abstract_name(name).unwrap();
            for options in [new().replace_stale(true), new().unix_mode(0o600)] {
                assert_fails(listen_unix(name.clone(), options), ErrorKind::InvalidOptions);
            }
            listen_unix(name, new().allow_uids([0])).expect("a name has users too");
        }
    });
}

#[test]
fn a_tls_client_needs_a_server_name() {
    with_watchdog(|| {
        let server = StdServer::new();
        for mode in [SecureTransport::On, SecureTransport::StartTls] {
            let options = SocketOptions::new().secure_transport(mode);
            for options in [options.clone(), options.tls(TlsOptions::new())] {
                let error = connect_unix(server.address(), options).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                assert!(error.to_string().contains("server_name"), "{error}");
            }
        }
        let named = TlsOptions::new().server_name("db.test");
        let connector = Connector::builder().tls(named.clone()).build().unwrap();
        let options = SocketOptions::new().secure_transport(SecureTransport::StartTls);
        connector.connect_unix(server.address(), options.clone()).expect("the connector has one");
        let (socket, _peer) = {
            let socket = connect_unix(server.address(), options.tls(named)).unwrap();
            socket.opened().unwrap();
            (socket, server.accept())
        };
        assert_fails(socket.start_tls_with(TlsOptions::new()), ErrorKind::InvalidOptions);
    });
}

#[test]
fn calls_of_tcp_are_refused() {
    with_watchdog(|| {
        let server = StdServer::new();
        let (socket, peer) = server.open(SocketOptions::new());
        assert_fails(socket.set_nodelay(true), ErrorKind::InvalidState);
        assert_fails(socket.nodelay(), ErrorKind::InvalidState);
        assert_fails(socket.detach(), ErrorKind::InvalidState);
        assert_talks(&peer, &socket);
    });
}

#[test]
fn invalid_limits_are_refused_as_for_tcp() {
    with_watchdog(|| {
        let server = StdServer::new();
        let options = SocketOptions::new().close_timeout(ms(0));
        assert_fails(connect_unix(server.address(), options), ErrorKind::InvalidOptions);
        let options = ListenOptions::new().max_pending(0);
        let listener = listen_unix(server.folder.address("t"), options);
        assert_fails(listener, ErrorKind::InvalidOptions);
    });
}
