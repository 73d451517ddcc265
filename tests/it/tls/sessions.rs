//! What is kept of servers to resume sessions with them: little, whatever they send.

use std::fs;

use sockeye::{SecureTransport, SocketOptions, TlsOptions, TlsVersion};

use crate::support::alone::alone;
use crate::support::tls::forge::{DATA, ticket};
use crate::support::tls::{Draft, Terms, TlsPeer, authority, connect, provider, with};
use crate::support::{PATIENCE, read_exactly};

/// More than the cache of rustls has room for.
const SERVERS: usize = 64;
/// As many as are kept for one server.
const TICKETS: usize = 8;

#[test]
fn hostile_servers_leave_little_memory() {
    alone("tls::sessions::hostile_servers_leave_little_memory", 4 * PATIENCE, || {
        for (ticket, names) in [(60_000, 10), (60_000, 700), (100, 700), (14_000, 10)] {
            // Of each size a configuration of its own.
            let alpn = format!("{ticket}-{names}");
            visit("warm-up", ticket, names, &alpn);
            let before = resident();
            for number in 0..SERVERS {
                visit(&format!("n{number}"), ticket, names, &alpn);
            }
            let grown = resident().saturating_sub(before);
            println!("tickets of {ticket}, {names} names: {} KiB more", grown / 1024);
            assert!(grown < 4 << 20, "{grown} bytes for {ticket} and {names}");
        }
    });
}

/// Opens a connection to a server of this name, and ends it when all its tickets are here.
fn visit(name: &str, length: usize, names: usize, alpn: &str) {
    let names: Vec<_> = (0..names).map(|number| format!("n{number:012}.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let identity = authority().issues(&Draft::new(&names));
    let terms = Terms::new(identity).only(TlsVersion::Tls13).tickets(0);
    let peer = TlsPeer::secured(&terms, move |peer| {
        let mut forge = peer.forge();
        for _ in 0..TICKETS {
            peer.raw(&forge.handshake(&ticket(length)));
        }
        peer.raw(&forge.record(DATA, b"x"));
    });
    let socket = connect(&peer, options(name, alpn));
    assert_eq!(read_exactly(&socket, 1).expect("it comes behind the tickets"), b"x");
    socket.close().expect("nothing is in the way");
    socket.closed().expect("it was closed");
    drop(socket);
    peer.ending();
}

fn options(name: &str, alpn: &str) -> SocketOptions {
    provider();
    let tls = TlsOptions::new().danger_accept_invalid_certs(true).alpn([alpn]);
    with(SecureTransport::On, tls.server_name(format!("{name}.test")))
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("the system tells");
    let pages = text.split(' ').nth(1).expect("the second is what is resident");
    pages.parse::<usize>().expect("a number") * 4096
}
