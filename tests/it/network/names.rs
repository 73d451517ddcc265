//! What the system's resolver is told, by a name server of the test's own, and what becomes of that. The client is in
//! a network and a mount namespace in which the configuration names a server on the loopback address.

use std::error::Error as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use sockeye::{Connector, EgressRules, Error, ErrorKind, Socket, SocketOptions};

use crate::support::alone::{Actor, part, play, say, this_binary};
use crate::support::process::take_all_descriptors;
use crate::support::{PATIENCE, ms, skip, system_code, timed};

/// The client's part. A server that does not answer is given up after so many seconds. Prints what the client says of
/// this figure, if there is one.
#[track_caller]
fn with_name_server(name: &str, gives_up_after: u32, figure: Option<&str>, client: impl FnOnce()) {
    if part().is_some() {
        return play(|| {
            serve_names();
            client();
        });
    }
    let folder =
        std::env::temp_dir().join(format!("sockeye-{}-{}", std::process::id(), name.len()));
    let script = format!(
        "ip link set lo up
        mount --make-rprivate /
        for file in resolv.conf hosts nsswitch.conf; do
            mount --bind {folder}/$file /etc/$file
        done
        exec \"$@\"",
        folder = folder.display(),
    );
    let in_there = |command: &mut Command| {
        command.args(["--mount", "--net", "sh", "-ec", &script, "sh"]);
    };
    fs::create_dir_all(&folder).expect("there is room");
    let options = format!("options timeout:{gives_up_after} attempts:1");
    let files = [
        ("resolv.conf", format!("nameserver 127.0.0.1\n{options}\n")),
        ("hosts", "127.0.0.1 localhost\n127.0.0.1 Listed.Test\n".to_owned()),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ];
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("there is room");
    }
    let mut probe = Command::new("unshare");
    in_there(&mut probe);
    let probe = probe.arg("true").stdin(Stdio::null()).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        in_there(&mut command);
        command.arg(this_binary());
        let mut client = Actor::start(name, "client", command);
        if let Some(figure) = figure {
            println!("{name}: {figure} {}", client.says(figure));
        }
        client.finishes(PATIENCE * 2);
    } else {
        skip(name, "no namespaces in which to have a name server");
    }
    fs::remove_dir_all(&folder).expect("it was made above");
}

/// Answers by what a name begins with, and not at all where it is none of these.
fn serve_names() {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("nobody else is in here");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                socket.send_to(&answer, from).expect("it still waits");
            }
        }
    });
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    /// RFC 1035, section 4.1.1.
    const SERVFAIL: u8 = 2;
    const NXDOMAIN: u8 = 3;
    const REFUSED: u8 = 5;
    let label = query.get(13..13 + usize::from(*query.get(12)?))?;
    let (code, known) = match label {
        b"missing" => (NXDOMAIN, false),
        b"broken" => (SERVFAIL, false),
        b"refused" => (REFUSED, false),
        b"empty" => (0, false),
        b"known" => (0, true),
        _ => return None,
    };
    let end = 12 + query[12..].iter().position(|byte| *byte == 0)? + 5;
    let for_ipv4 = query[end - 4..end] == [0, 1, 0, 1];
    let count = u8::from(known && for_ipv4);
    let mut answer = query[..2].to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(&query[12..end]);
    if count == 1 {
        // Of the name in the question: A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

fn failure(name: &str) -> Error {
    let socket = sockeye::connect((name, 9)).expect("the address is fine");
    socket.opened_timeout(PATIENCE).expect_err("there is no address")
}

/// The kind in what a read gives, whether the failure passes, and the kind in the source.
#[track_caller]
fn check(name: &str, expected: (io::ErrorKind, bool)) {
    let error = failure(name);
    assert_eq!(error.kind(), ErrorKind::Resolve, "{error:?}");
    let source = error.source().expect("what the system said");
    let source = source.downcast_ref::<io::Error>().expect("an io::Error");
    let said = source.kind() == io::ErrorKind::NotFound;
    assert_eq!(said, expected.0 == io::ErrorKind::NotFound, "{error:?}");
    assert!(!error.is_retryable(), "the socket has failed");
    let transient = error.is_transient();
    assert_eq!((io::Error::from(error.clone()).kind(), transient), expected, "{name}: {error:?}");
    say(&format!("{name}: {error}"));
}

#[test]
fn only_a_name_that_is_known_not_to_exist_is_not_found() {
    const NAME: &str = "network::names::only_a_name_that_is_known_not_to_exist_is_not_found";
    with_name_server(NAME, 1, None, || {
        check("missing.test", (io::ErrorKind::NotFound, false));
        check("empty.test", (io::ErrorKind::NotFound, false));
        // glibc takes the next server after a refusal as well, and there is none.
        for name in ["broken.test", "silent.test", "refused.test"] {
            check(name, (io::ErrorKind::Other, true));
        }
        let address = listen();
        for name in ["known.test", "listed.test", "localhost"] {
            let socket = sockeye::connect((name, address.port())).expect("the address is fine");
            let info = socket.opened().expect("it listens");
            assert_eq!(info.remote_address(), Some(address), "{name}");
        }
    });
}

#[test]
fn without_descriptors_a_lookup_fails_as_io() {
    const NAME: &str = "network::names::without_descriptors_a_lookup_fails_as_io";
    with_name_server(NAME, 1, None, || {
        let names = ["known.test", "missing.test", "broken.test", "listed.test", "localhost"];
        // What is opened once for all is opened before.
        failure("missing.test");
        let before = getrlimit(Resource::Nofile);
        let taken = take_all_descriptors();
        for name in names {
            let error = failure(name);
            assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error:?}");
            assert_eq!(system_code(&error), Some(libc::EMFILE), "{name}: {error:?}");
            say(&format!("{name}: {error}"));
        }
        drop(taken);
        setrlimit(Resource::Nofile, before).expect("it was so before");
        let error = failure("known.test");
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        assert_eq!(failure("missing.test").kind(), ErrorKind::Resolve);
    });
}

// -------------------------------------------------------------------- names that hang

/// How late what is not about these names may be. Without shares and pools of its own it was 8 s.
const IN_TIME: Duration = ms(500);

fn hang(connector: &Connector, count: usize) -> Vec<Socket> {
    let dial = |number| {
        let options = SocketOptions::new().connect_timeout(Duration::from_secs(2));
        connector
            .connect_with((format!("silent{number}.test"), 9), options)
            .expect("a fine address")
    };
    (0..count).map(dial).collect()
}

/// Opens sockets to names of all sorts, by those connectors and others, and gives the longest time that one took.
fn longest(connectors: &[(&str, &Connector)], port: u16) -> Duration {
    let own = Connector::builder().resolver(|_: &str| Ok(vec![Ipv4Addr::LOCALHOST.into()])).build();
    let own = own.expect("the rules are fine");
    let all = connectors.iter().copied().chain([("own resolver", &own)]);
    let mut longest = Duration::ZERO;
    for (which, connector) in all {
        let is_hung = which == "the same connector";
        // Of the connector whose names hang, those that need a server wait.
        let names = ["localhost", "listed.test", "known.test"];
        for name in &names[..if is_hung { 2 } else { 3 }] {
            let options = SocketOptions::new().connect_timeout(Duration::from_secs(30));
            let (opened, took) = timed(|| {
                connector.connect_with((*name, port), options).expect("a fine address").opened()
            });
            opened.expect("it listens");
            say(&format!("{which}: {name} took {took:?}"));
            longest = longest.max(took);
        }
    }
    longest
}

fn listen() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    // More sockets come than would wait to be accepted.
    thread::spawn(move || while listener.accept().is_ok() {});
    address
}

#[test]
fn names_that_hang_delay_no_others() {
    const NAME: &str = "network::names::names_that_hang_delay_no_others";
    with_name_server(NAME, 20, Some("longest"), || {
        let address = listen();
        let stuck = Connector::builder().build().expect("the rules are fine");
        for socket in hang(&stuck, 16) {
            let error = socket.opened().expect_err("no server answers");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        let connectors =
            [("another connector", Connector::global()), ("the same connector", &stuck)];
        let longest = longest(&connectors, address.port());
        say(&format!("longest {longest:?}"));
        assert!(longest < IN_TIME, "{longest:?}");
    });
}

/// As many names every 5 s as may be looked up at once, each given up after 2 s, where the system gives one up after
/// 20 s.
#[test]
fn a_stranger_whose_names_hang_cuts_nobody_off() {
    const NAME: &str = "network::names::a_stranger_whose_names_hang_cuts_nobody_off";
    with_name_server(NAME, 20, Some("longest"), || {
        let address = listen();
        let rules = EgressRules::public_only();
        let strangers = Connector::builder().egress(rules).build().expect("the rules are fine");
        let mut worst = Duration::ZERO;
        for _ in 0..4 {
            let begun = Instant::now();
            let sockets = hang(&strangers, 16);
            while begun.elapsed() < Duration::from_secs(5) {
                let connectors = [("another connector", Connector::global())];
                worst = worst.max(longest(&connectors, address.port()));
                thread::sleep(ms(500));
            }
            drop(sockets);
        }
        say(&format!("longest {worst:?}"));
        assert!(worst < IN_TIME, "{worst:?}");
    });
}
