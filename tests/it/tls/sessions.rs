//! The cache of sessions for resumption: it stays small whatever servers send.

use std::fs;

use sockeye::{SecureTransport, SocketOptions, TlsOptions, TlsVersion};

use crate::support::subprocess::in_subprocess;
use crate::support::tls::forge::{DATA, ticket};
use crate::support::tls::{CertSpec, ServerSetup, TlsPeer, authority, connect, provider, with};
use crate::support::{WATCHDOG, read_exactly};

/// More servers than the rustls cache holds.
const SERVERS: usize = 64;
/// The number of sessions that the cache keeps per server.
const TICKETS: usize = 8;

#[test]
fn hostile_servers_leave_little_memory() {
    in_subprocess("tls::sessions::hostile_servers_leave_little_memory", 4 * WATCHDOG, || {
        for (ticket, names) in [(60_000, 10), (60_000, 700), (100, 700), (14_000, 10)] {
            // A separate configuration for each size.
            let alpn = format!("{ticket}-{names}");
            visit("warm-up", ticket, names, &alpn);
            let before = resident();
            for number in 0..SERVERS {
                visit(&format!("n{number}"), ticket, names, &alpn);
            }
            let grown = resident().saturating_sub(before);
            println!("tickets of {ticket}, {names} names: {} KiB more", grown / 1024);
            assert!(
                grown < 4 << 20,
                "{grown} bytes more for tickets of {ticket} bytes and {names} names"
            );
        }
    });
}

/// Opens a connection to a server of this name, and closes it when all its tickets have arrived.
fn visit(name: &str, length: usize, names: usize, alpn: &str) {
    let names: Vec<_> = (0..names).map(|number| format!("n{number:012}.test")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let identity = authority().issues(&CertSpec::new(&names));
    let setup = ServerSetup::new(identity).only(TlsVersion::Tls13).tickets(0);
    let peer = TlsPeer::secured(&setup, move |peer| {
        let mut forge = peer.forge();
        for _ in 0..TICKETS {
            peer.raw(&forge.handshake(&ticket(length)));
        }
        peer.raw(&forge.record(DATA, b"x"));
    });
    let socket = connect(&peer, options(name, alpn));
    assert_eq!(read_exactly(&socket, 1).expect("the byte comes after the tickets"), b"x");
    socket.close().expect("the close succeeds");
    socket.closed().expect("it was closed");
    drop(socket);
    peer.finish();
}

fn options(name: &str, alpn: &str) -> SocketOptions {
    provider();
    let tls = TlsOptions::new().danger_accept_invalid_certs(true).alpn([alpn]);
    with(SecureTransport::On, tls.server_name(format!("{name}.test")))
}

fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/statm").expect("Linux has the file");
    let pages = text.split(' ').nth(1).expect("the second field is the resident size");
    pages.parse::<usize>().expect("a number") * 4096
}
