//! The traits of other crates that a socket has by a feature, used through these crates.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use imap::types::UnsolicitedResponse;
use sockeye::{Socket, SocketOptions, connect_with};
use tungstenite::stream::NoDelay;

/// The limit for each wait.
const LIMIT: Duration = Duration::from_secs(20);

fn connect(address: SocketAddr) -> Socket {
    let options = SocketOptions::new().read_timeout(LIMIT).write_timeout(LIMIT);
    connect_with(address, options).expect("the options are valid")
}

/// A server that is silent in the first IDLE until the client ends it, and reports a mail in the second one.
fn idle_server() -> (SocketAddr, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("one comes");
        stream.set_read_timeout(Some(LIMIT)).expect("it is valid");
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor is free")).lines();
        stream.write_all(b"* OK ready\r\n").expect("it is open");
        let (mut idles, mut idle_tag) = (0, String::new());
        while let Some(Ok(line)) = lines.next() {
            let (tag, command) = line.split_once(' ').unwrap_or(("", &line));
            let answer = match command.split(' ').next().unwrap_or_default() {
                "IDLE" => {
                    idles += 1;
                    tag.clone_into(&mut idle_tag);
                    let news = if idles == 2 { "* 1 EXISTS\r\n" } else { "" };
                    format!("+ idling\r\n{news}")
                }
                "DONE" => format!("{idle_tag} OK done\r\n"),
                "LOGOUT" => format!("* BYE\r\n{tag} OK\r\n"),
                _ => format!("{tag} OK\r\n"),
            };
            stream.write_all(answer.as_bytes()).expect("it is open");
        }
        idles
    });
    (address, server)
}

/// The keepalive needs a read that times out and a connection that lives on.
#[test]
fn imap_idles_over_a_socket_with_a_keepalive() {
    let (address, server) = idle_server();
    let socket = connect(address);
    let limits = socket.clone();
    let mut client = imap::Client::new(socket);
    client.read_greeting().expect("it comes");
    let mut session =
        client.login("salmon", "secret").map_err(|(error, _)| error).expect("it is OK");
    let begun = Instant::now();
    let mut idle = session.idle();
    idle.timeout(Duration::from_millis(200));
    let mut seen = Vec::new();
    let outcome = idle.wait_while(|response| {
        seen.push(response);
        false
    });
    drop(idle);
    outcome.expect("a mail comes");
    assert!(matches!(seen[..], [UnsolicitedResponse::Exists(1)]), "{seen:?}");
    assert!(begun.elapsed() >= Duration::from_millis(200), "the first one timed out");
    assert_eq!(limits.read_timeout(), None, "imap lifts the timeout at the end");
    session.logout().expect("it is OK");
    drop(session);
    limits.close().expect("it is open");
    assert_eq!(server.join().expect("it has not panicked"), 2);
}

#[test]
fn tungstenite_switches_nodelay_of_a_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut socket = connect(listener.local_addr().expect("it listens"));
    socket.opened().expect("it listens");
    for on in [false, true] {
        NoDelay::set_nodelay(&mut socket, on).expect("it is open");
        assert_eq!(socket.nodelay().expect("it is open"), on);
    }
    socket.abort();
    NoDelay::set_nodelay(&mut socket, true).expect_err("it has ended");
}
