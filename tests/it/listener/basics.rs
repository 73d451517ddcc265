//! What an accepted socket is, and which options are refused.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr};
use std::time::Duration;

use sockeye::{
    Connector, ErrorKind, IngressRules, ListenOptions, Phase, SecureTransport, SocketOptions,
    TcpOptions, TlsOptions, listen, listen_with,
};

use super::{
    accept, address_of, assert_client_reset, assert_talks, client, client_from, client_of, local,
    local_with,
};
use crate::support::net::{self, TcpListener};
use crate::support::{PROMPT, assert_fails, crate_kind, ms, read, skip, with_watchdog};

#[test]
fn an_accepted_socket_is_open_and_knows_both_addresses() {
    with_watchdog(|| {
        let listener = local();
        let client = client_of(&listener);
        let socket = accept(&listener);
        assert_eq!(socket.phase(), Phase::Open);
        let info = socket.opened().expect("it is open");
        assert_eq!(info.remote_address(), Some(client.local_addr().unwrap()));
        assert_eq!(info.local_address(), Some(address_of(&listener)));
        assert_eq!(info.requested().to_string(), client.local_addr().unwrap().to_string());
        assert_eq!(info.timings().connect, Duration::ZERO);
        assert_eq!(socket.secure_transport(), SecureTransport::Off);
        assert_talks(&client, &socket);
        socket.close().expect("nothing is unsent");
    });
}

/// A dual-stack listener gets IPv4 clients as `::ffff:127.0.0.1`.
#[test]
fn the_addresses_of_a_dual_stack_listener_are_canonical() {
    with_watchdog(|| {
        let Ok(listener) = listen((Ipv6Addr::UNSPECIFIED, 0)) else {
            return skip("dual-stack", "the system has no IPv6");
        };
        let port = address_of(&listener).port();
        let client = client(SocketAddr::from(([127, 0, 0, 1], port)));
        let info = accept(&listener).opened().expect("it is open");
        assert_eq!(info.remote_address(), Some(client.local_addr().unwrap()));
        assert_eq!(info.local_address(), Some(client.peer_addr().unwrap()));
        let options = ListenOptions::new().only_v6(true);
        let listener = listen_with((Ipv6Addr::UNSPECIFIED, 0), options).expect("a port is free");
        let v4 = SocketAddr::from(([127, 0, 0, 1], address_of(&listener).port()));
        net::connect(v4).expect_err("IPv6 clients only");
    });
}

#[test]
fn an_accepted_socket_is_half_open_unless_the_options_say_otherwise() {
    with_watchdog(|| {
        let listener = local();
        let mut client = client_of(&listener);
        let mut socket = accept(&listener);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        socket.read_to_string(&mut question).unwrap();
        assert_eq!((question.as_str(), socket.phase()), ("question", Phase::HalfClosed));
        socket.write_all(b"answer").unwrap();
        socket.close().unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer");

        let options = SocketOptions::new().allow_half_open(false);
        let listener = local_with(ListenOptions::new().socket(options));
        let client = client_of(&listener);
        let socket = accept(&listener);
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read(&socket, 1).unwrap(), b"");
        assert_eq!(socket.phase(), Phase::Closed);
    });
}

/// No thread reads; the event loop watches the connection.
#[test]
fn the_end_of_a_client_reaches_closed_without_a_read() {
    with_watchdog(|| {
        let options = SocketOptions::new().allow_half_open(false);
        let listener = local_with(ListenOptions::new().socket(options));
        let client = client_of(&listener);
        let socket = accept(&listener);
        drop(client);
        socket.closed_timeout(PROMPT).expect("the client has ended");
    });
}

#[test]
fn accepted_sockets_have_the_socket_options_of_the_listener() {
    with_watchdog(|| {
        let tcp = TcpOptions::new().nodelay(false);
        let options = SocketOptions::new().tcp(tcp).read_timeout(ms(20));
        let listener = local_with(ListenOptions::new().socket(options));
        let client = client_of(&listener);
        let socket = accept(&listener);
        assert!(!socket.nodelay().unwrap());
        assert_eq!(socket.read_timeout(), Some(ms(20)));
        assert_eq!(crate_kind(&read(&socket, 1).unwrap_err()), ErrorKind::TimedOut);
        drop(client);
        let listener = local();
        let _client = client_of(&listener);
        assert!(accept(&listener).nodelay().unwrap(), "the default");
    });
}

/// The connection is reset before it is accepted: accept returns it, and the first read reports the reset.
#[test]
fn a_client_that_resets_before_accept_is_an_error_of_its_socket() {
    with_watchdog(|| {
        let listener = local();
        crate::support::peer::reset(client_of(&listener));
        let socket = accept(&listener);
        socket.opened().expect("it was open");
        assert_eq!(crate_kind(&read(&socket, 1).unwrap_err()), ErrorKind::Reset);
    });
}

#[test]
fn bytes_from_before_the_accept_are_read() {
    with_watchdog(|| {
        let listener = local();
        let mut client = client_of(&listener);
        client.write_all(b"early").unwrap();
        drop(client);
        let socket = accept(&listener);
        let mut text = String::new();
        socket.reader().read_to_string(&mut text).unwrap();
        assert_eq!(text, "early");
    });
}

#[test]
fn the_first_address_that_can_be_bound_is_used() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let addresses = [taken, SocketAddr::from(([127, 0, 0, 1], 0))];
    let listener = listen(&addresses[..]).expect("the second one is free");
    assert_ne!(address_of(&listener), taken);
    let error = listen(taken).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains(&taken.to_string()), "{error}");
    assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::AddrInUse);
    drop(holder);
}

#[test]
fn an_address_that_does_not_resolve_is_named_as_such() {
    assert_fails(listen("127.0.0.1"), ErrorKind::Resolve);
    assert_fails(listen(&[][..] as &[SocketAddr]), ErrorKind::Resolve);
}

#[test]
fn a_port_can_be_bound_again_at_once() {
    with_watchdog(|| {
        let listener = local();
        let address = address_of(&listener);
        let mut client = client_of(&listener);
        accept(&listener).close().unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(listener);
        // This side has ended first, so its port is in TIME_WAIT.
        listen(address).expect("SO_REUSEADDR is set");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn listeners_share_a_port_if_they_want_to() {
    let options = ListenOptions::new().reuse_port(true);
    let first = local_with(options.clone());
    let second = listen_with(address_of(&first), options).expect("both share the port");
    assert_eq!(address_of(&first), address_of(&second));
    assert_fails(listen(address_of(&first)), ErrorKind::Io);
}

#[test]
fn invalid_options_are_refused_by_name_before_anything_is_bound() {
    let new = ListenOptions::new;
    let connector = Connector::builder().build().unwrap();
    let bound = TcpOptions::new().bind("127.0.0.1:0".parse().unwrap());
    let cases = [
        (new().handshake_timeout(Duration::ZERO), "handshake_timeout"),
        (new().max_pending(0), "max_pending"),
        (new().max_open_sockets(0), "max_open_sockets"),
        (new().backlog(0), "backlog"),
        (new().ingress(IngressRules::allow_all().max_per_client(0)), "max_per_client"),
        (new().connector(&connector).max_open_sockets(1), "max_open_sockets"),
        (new().socket(SocketOptions::new().tcp(bound)), "bind"),
        (new().socket(SocketOptions::new().read_timeout(Duration::ZERO)), "read_timeout"),
        (
            new().socket(SocketOptions::new().secure_transport(SecureTransport::On)),
            "secure_transport",
        ),
        (
            new().socket(SocketOptions::new().secure_transport(SecureTransport::StartTls)),
            "secure_transport",
        ),
        (new().socket(SocketOptions::new().tls(TlsOptions::new())), "tls"),
    ];
    // The address is in use, which would be the error if anything were bound.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for (options, name) in cases {
        let error = listen_with(taken.local_addr().unwrap(), options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{name}: {error}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
}

#[test]
fn stats_count_what_happened() {
    with_watchdog(|| {
        let rules = IngressRules::allow_all().deny_net("127.0.0.2").unwrap();
        let listener = local_with(ListenOptions::new().ingress(rules));
        let client = client_of(&listener);
        let socket = accept(&listener);
        assert_talks(&client, &socket);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.opened, stats.open), (1, 1, 1));
        assert_eq!((stats.bytes_read, stats.bytes_written), (4, 4));
        assert_eq!((stats.failed, stats.denied, stats.over_limit, stats.pending), (0, 0, 0, 0));
        assert_eq!(listener.open_sockets(), 1);
        socket.close().unwrap();
        assert_eq!((listener.stats().open, listener.stats().opened), (0, 1));
        assert_eq!(listener.stats().bytes_read, 4);
        let Some(denied) = client_from([127, 0, 0, 2], address_of(&listener).port()) else {
            return skip("the count of denied clients", "only 127.0.0.1 is local");
        };
        let good = client_of(&listener);
        // A call that may not wait still tries the client behind it.
        let socket = listener.accept_timeout(Duration::ZERO).expect("a client is there");
        assert_talks(&good, &socket);
        assert_client_reset(denied);
        let stats = listener.stats();
        assert_eq!((stats.accepted, stats.denied, stats.opened, stats.open), (3, 1, 2, 1));
    });
}

#[cfg(unix)]
#[test]
fn the_descriptor_is_lent_until_the_listener_closes() {
    use std::os::fd::AsFd;
    let listener = local();
    let descriptor = listener.descriptor().expect("it listens");
    let local = socket2::SockRef::from(&descriptor.as_fd()).local_addr().unwrap();
    assert_eq!(local.as_socket(), Some(address_of(&listener)));
    listener.close();
    assert!(listener.descriptor().is_none());
    // The descriptor is still open, but nothing listens any more.
    if cfg!(target_os = "linux") {
        net::connect(address_of(&listener)).expect_err("it is closed");
    }
    drop(descriptor);
}

#[test]
fn debug_shows_the_address() {
    let listener = local();
    let shown = format!("{listener:?}");
    assert!(shown.contains(&address_of(&listener).to_string()), "{shown}");
}
