//! Results of the system's resolver with a name server of the test. The client runs in a network and a mount namespace
//! whose configuration names a server on the loopback address.

use std::error::Error as _;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use sockeye::{Connector, EgressRules, Error, ErrorKind, Socket, SocketOptions};

use crate::support::process::take_all_descriptors;
use crate::support::subprocess::{TestProcess, child_part, run_part, say, this_binary};
use crate::support::{WATCHDOG, ms, skip, system_code, timed};

/// Runs the client's part. The system's resolver gives up on a server after `gives_up_after` seconds. Prints the
/// client's value of `figure`, if there is one.
#[track_caller]
fn with_name_server(name: &str, gives_up_after: u32, figure: Option<&str>, client: impl FnOnce()) {
    if child_part().is_some() {
        return run_part(|| {
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
    fs::create_dir_all(&folder).expect("the folder can be created");
    // musl does not ignore the case of names in the file.
    let listed = if cfg!(target_env = "musl") { "listed.test" } else { "Listed.Test" };
    let options = format!("options timeout:{gives_up_after} attempts:1");
    let files = [
        ("resolv.conf", format!("nameserver 127.0.0.1\n{options}\n")),
        ("hosts", format!("127.0.0.1 localhost\n127.0.0.1 {listed}\n")),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ];
    for (file, text) in files {
        fs::write(folder.join(file), text).expect("the file can be written");
    }
    let mut probe = Command::new("unshare");
    in_there(&mut probe);
    let probe = probe.arg("true").stdin(Stdio::null()).stderr(Stdio::null()).status();
    if probe.is_ok_and(|status| status.success()) {
        let mut command = Command::new("unshare");
        in_there(&mut command);
        command.arg(this_binary());
        let mut client = TestProcess::start(name, "client", command);
        if let Some(figure) = figure {
            println!("{name}: {figure} {}", client.expect_line(figure));
        }
        client.expect_success(WATCHDOG * 2);
    } else {
        skip(name, "this machine cannot create namespaces for a name server");
    }
    fs::remove_dir_all(&folder).expect("the folder was created above");
}

/// Answers according to the prefix of a name, and does not answer other names.
fn serve_names() {
    let socket =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 53)).expect("the namespace has no other server");
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            if let Some(answer) = answer(&query[..length]) {
                socket.send_to(&answer, from).expect("the resolver waits for the answer");
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
        // A record for the name of the question: A, IN, 60 s, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}

fn failure(name: &str) -> Error {
    let socket = sockeye::connect((name, 9)).expect("the address is valid");
    socket.opened_timeout(WATCHDOG).expect_err("the lookup fails")
}

/// Checks the kind of a read's error, whether the failure is transient, and the kind of its source.
#[track_caller]
fn check(name: &str, expected: (io::ErrorKind, bool)) {
    let error = failure(name);
    assert_eq!(error.kind(), ErrorKind::Resolve, "{error:?}");
    let source = error.source().expect("the source is the system's error");
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
    const NAME: &str = "network_faults::names::only_a_name_that_is_known_not_to_exist_is_not_found";
    with_name_server(NAME, 1, None, || {
        check("missing.test", (io::ErrorKind::NotFound, false));
        check("empty.test", (io::ErrorKind::NotFound, false));
        // glibc tries the next server after a refusal, too, and there is none.
        for name in ["broken.test", "silent.test", "refused.test"] {
            check(name, (io::ErrorKind::Other, true));
        }
        let address = listen();
        for name in ["known.test", "listed.test", "localhost"] {
            let socket = sockeye::connect((name, address.port())).expect("the address is valid");
            let info = socket.opened().expect("it listens");
            assert_eq!(info.remote_address(), Some(address), "{name}");
        }
    });
}

#[test]
fn without_descriptors_a_lookup_fails_as_io() {
    const NAME: &str = "network_faults::names::without_descriptors_a_lookup_fails_as_io";
    with_name_server(NAME, 1, None, || {
        let names = ["known.test", "missing.test", "broken.test", "listed.test", "localhost"];
        // The first lookup opens the descriptors that the process keeps.
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
        setrlimit(Resource::Nofile, before).expect("the limit was valid before");
        let error = failure("known.test");
        assert_eq!(error.kind(), ErrorKind::Connect, "{error:?}");
        assert_eq!(failure("missing.test").kind(), ErrorKind::Resolve);
    });
}

// -------------------------------------------------------------------- names that hang

/// The longest time that unrelated lookups may take. It was 8 s without shares and separate pools.
const IN_TIME: Duration = ms(500);

fn hang(connector: &Connector, count: usize) -> Vec<Socket> {
    let dial = |number| {
        let options = SocketOptions::new().connect_timeout(Duration::from_secs(2));
        connector
            .connect_with((format!("silent{number}.test"), 9), options)
            .expect("the address is valid")
    };
    (0..count).map(dial).collect()
}

/// Opens sockets to names of all kinds, with these connectors and others, and returns the longest time that one took.
fn longest(connectors: &[(&str, &Connector)], port: u16) -> Duration {
    let own = Connector::builder().resolver(|_: &str| Ok(vec![Ipv4Addr::LOCALHOST.into()])).build();
    let own = own.expect("the rules are valid");
    let all = connectors.iter().copied().chain([("own resolver", &own)]);
    let mut longest = Duration::ZERO;
    for (which, connector) in all {
        let is_hung = which == "the same connector";
        // On the connector whose lookups hang, names that need a server have to wait.
        let names = ["localhost", "listed.test", "known.test"];
        for name in &names[..if is_hung { 2 } else { 3 }] {
            let options = SocketOptions::new().connect_timeout(Duration::from_secs(30));
            let (opened, took) = timed(|| {
                connector
                    .connect_with((*name, port), options)
                    .expect("the address is valid")
                    .opened()
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
    // More sockets connect than the backlog holds.
    thread::spawn(move || while listener.accept().is_ok() {});
    address
}

#[test]
fn names_that_hang_delay_no_others() {
    const NAME: &str = "network_faults::names::names_that_hang_delay_no_others";
    with_name_server(NAME, 20, Some("longest"), || {
        let address = listen();
        let stuck = Connector::builder().build().expect("the rules are valid");
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

/// Every 5 s the stranger starts the maximum number of lookups, and closes their sockets after 2 s. The system's
/// resolver gives up only after 20 s.
#[test]
fn hanging_lookups_of_a_stranger_delay_no_others() {
    const NAME: &str = "network_faults::names::hanging_lookups_of_a_stranger_delay_no_others";
    with_name_server(NAME, 20, Some("longest"), || {
        let address = listen();
        let rules = EgressRules::public_only();
        let strangers = Connector::builder().egress(rules).build().expect("the rules are valid");
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
