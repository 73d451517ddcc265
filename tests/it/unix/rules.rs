//! The egress rules of a connector.

use sockeye::{
    Connector, EgressRules, ErrorKind, ListenOptions, SocketOptions, UnixAddress, listen_unix,
};

use super::{Folder, OwnServer, StdServer, assert_talks};
use crate::support::subprocess::in_subprocess;
use crate::support::{WATCHDOG, assert_fails, ms, with_watchdog};

#[test]
fn restricted_connectors_deny_every_address_that_no_rule_allows() {
    with_watchdog(|| {
        let server = StdServer::new();
        let folder = server.folder.0.to_str().expect("it is text").to_owned();
        let rules = [
            EgressRules::public_only(),
            EgressRules::workers(),
            EgressRules::allow_all().deny_port(25),
            EgressRules::public_only().allow_unix("/nowhere").unwrap(),
            EgressRules::public_only().allow_unix(&format!("{folder}/other")).unwrap(),
        ];
        for rules in rules {
            let connector = Connector::builder().egress(rules.clone()).build().unwrap();
            let error = connector.connect_unix(server.address(), SocketOptions::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains("unix:/"), "{error}");
            assert_eq!((connector.stats().denied, connector.open_sockets()), (1, 0));

            let rules = rules.allow_unix(&folder).unwrap();
            let connector = Connector::builder().egress(rules).build().unwrap();
            let socket = connector.connect_unix(server.address(), SocketOptions::new()).unwrap();
            socket.opened().expect("a rule allows it");
            assert_talks(&server.accept(), &socket);
        }
    });
}

/// Paths are compared as they are written, and the system follows a link below an allowed one.
#[test]
fn a_link_leads_wherever_it_leads() {
    with_watchdog(|| {
        let (server, folder) = (StdServer::new(), Folder::new());
        std::os::unix::fs::symlink(server.folder.path("s"), folder.path("link")).unwrap();
        let allowed = folder.0.to_str().expect("it is text");
        let rules = EgressRules::deny_all().allow_unix(allowed).unwrap();
        let connector = Connector::builder().egress(rules).build().unwrap();
        let denied = connector.connect_unix(server.address(), SocketOptions::new());
        assert_fails(denied, ErrorKind::Denied);
        let socket = connector.connect_unix(folder.address("link"), SocketOptions::new()).unwrap();
        socket.opened().expect("a rule allows the link");
        assert_talks(&server.accept(), &socket);
    });
}

#[test]
fn a_restricted_connector_adopts_because_nothing_is_dialled() {
    with_watchdog(|| {
        let connector = Connector::builder().egress(EgressRules::deny_all()).build().unwrap();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = connector.adopt_unix(ours, SocketOptions::new()).expect("it is connected");
        assert_talks(&theirs, &socket);
    });
}

#[test]
fn plain_rules_restrict_nothing() {
    with_watchdog(|| {
        let server = StdServer::new();
        let rules = EgressRules::allow_all().allow_unix("/nowhere").unwrap();
        let connector = Connector::builder().egress(rules).build().unwrap();
        let socket = connector.connect_unix(server.address(), SocketOptions::new()).unwrap();
        socket.opened().expect("everything is allowed");
    });
}

#[test]
fn own_listeners_are_a_loop_if_the_rules_deny_them() {
    with_watchdog(|| {
        let own = OwnServer::new(ListenOptions::new());
        let address = own.folder.address("s");
        let rules = EgressRules::workers().allow_unix("/").unwrap();
        let connector = Connector::builder().egress(rules).build().unwrap();
        let connect = || connector.connect_unix(address.clone(), SocketOptions::new());
        assert_fails(connect(), ErrorKind::Loop);
        assert_eq!(connector.stats().denied, 1);
        own.listener.close();
        own.listener.closed().expect("it was closed");
        let error = connect().expect("it is dialled").opened().expect_err("nothing listens");
        assert_eq!(error.kind(), ErrorKind::Connect);
    });
}

fn that_denies_own_listeners() -> sockeye::ConnectorBuilder {
    Connector::builder().egress(EgressRules::workers().allow_unix("/").unwrap())
}

#[test]
fn an_own_listener_is_found_by_every_spelling_of_its_path() {
    with_watchdog(|| {
        let own = OwnServer::new(ListenOptions::new());
        let path = own.folder.path("s").into_os_string().into_string().expect("it is text");
        let link = own.folder.path("link");
        std::os::unix::fs::symlink(&path, &link).expect("the name is free");
        let hard_link = own.folder.path("hard");
        std::fs::hard_link(&path, &hard_link).expect("the name is free");
        let link = link.to_str().unwrap().to_owned();
        let hard_link = hard_link.to_str().unwrap().to_owned();
        let connector = that_denies_own_listeners().build().unwrap();
        for spelling in [&path, &path.replace('/', "//"), &link, &hard_link] {
            let address = UnixAddress::from_pathname(spelling).unwrap();
            let error = connector.connect_unix(address, SocketOptions::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Loop, "{spelling}");
        }
        // So is an adopted one, which does not know its file.
        let bound = std::os::unix::net::UnixListener::bind(own.folder.path("t")).unwrap();
        let adopted = sockeye::Listener::adopt_unix(bound, ListenOptions::new()).unwrap();
        let doubled = format!("/{}", own.folder.path("t").to_str().unwrap());
        let doubled = UnixAddress::from_pathname(doubled).unwrap();
        assert_fails(
            connector.connect_unix(doubled.clone(), SocketOptions::new()),
            ErrorKind::Loop,
        );
        adopted.close();
        adopted.closed().expect("it was closed");
        connector.connect_unix(doubled, SocketOptions::new()).expect("it is dialled");
        // Another server is none, whatever its folder.
        let other = StdServer::new();
        let socket = connector.connect_unix(other.address(), SocketOptions::new()).unwrap();
        socket.opened().expect("it is another server");
    });
}

#[test]
fn an_own_listener_on_a_relative_path_is_found_by_its_absolute_one() {
    const NAME: &str =
        "unix::rules::an_own_listener_on_a_relative_path_is_found_by_its_absolute_one";
    in_subprocess(NAME, WATCHDOG, || {
        let folder = Folder::new();
        std::env::set_current_dir(&folder.0).expect("it exists");
        let relative = UnixAddress::from_pathname("s").unwrap();
        let own = listen_unix(relative.clone(), ListenOptions::new()).expect("it is free");
        let client = sockeye::connect_unix(relative, SocketOptions::new()).unwrap();
        client.opened().expect("it is reached by its relative path");
        drop(own.accept().expect("a client has connected"));
        let connector = that_denies_own_listeners().build().unwrap();
        let connect = || connector.connect_unix(folder.address("s"), SocketOptions::new());
        std::env::set_current_dir("/").expect("it exists");
        assert_fails(connect(), ErrorKind::Loop);
        own.close();
        own.closed().expect("it was closed");
        assert!(!folder.path("s").exists(), "the current directory does not matter any more");
        connect().expect("it is dialled").opened().expect_err("nothing listens");
    });
}

/// The socket waits for a slot while the listener opens.
#[test]
fn an_own_listener_is_found_when_it_is_dialled() {
    with_watchdog(|| {
        let server = StdServer::new();
        let connector =
            that_denies_own_listeners().max_open_sockets(1).wait_at_limit(true).build().unwrap();
        let first = connector.connect_unix(server.address(), SocketOptions::new()).unwrap();
        first.opened().expect("it listens");
        let later = server.folder.address("later");
        let queued = connector.connect_unix(later.clone(), SocketOptions::new()).unwrap();
        let own = listen_unix(later, ListenOptions::new()).expect("it is free");
        drop(first);
        assert_fails(queued.opened(), ErrorKind::Loop);
        assert_eq!(own.stats().accepted, 0);
        assert_fails(own.accept_timeout(ms(50)), ErrorKind::TimedOut);
    });
}

/// No text that connect accepts names a path.
#[test]
fn text_names_no_path() {
    let server = StdServer::new();
    let path = server.folder.path("s");
    let path = path.to_str().expect("it is text");
    for text in [
        path.to_owned(),
        format!("unix:{path}"),
        format!("unix://{path}"),
        format!("{path}:80"),
        format!("unix:{path}:80"),
        "@name".to_owned(),
        "unix:@name".to_owned(),
        "localhost:0".to_owned(),
    ] {
        assert_fails(sockeye::connect(text.as_str()), ErrorKind::InvalidAddress);
    }
}
