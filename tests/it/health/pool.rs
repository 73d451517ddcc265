//! A pool of a thousand TLS 1.3 connections whose session tickets arrive late.

use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};

use rustls::ServerConnection;

use super::*;
use crate::support::net::TcpListener;
use crate::support::peer::{listen, reset};
use crate::support::{raise_descriptor_limit, skip};

const CONNECTIONS: usize = 1000;

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    Fin,
    Notified,
    Reset,
}

impl Fate {
    /// Returns the end of each connection: half of them stay open.
    fn of(number: usize) -> Fate {
        match number % 6 {
            1 => Fate::Fin,
            3 => Fate::Notified,
            5 => Fate::Reset,
            _ => Fate::Lives,
        }
    }

    fn expected(self) -> Is {
        match self {
            Fate::Lives => Is::Idle,
            Fate::Fin => Is::Failed(ErrorKind::Truncated),
            Fate::Notified => Is::Ended,
            Fate::Reset => Is::Failed(ErrorKind::Reset),
        }
    }
}

#[test]
fn exactly_the_ended_ones_of_a_thousand_idle_connections_are_found() {
    if !raise_descriptor_limit(4096) {
        return skip("health::pool", "the limit of descriptors is below 4096");
    }
    with_watchdog(|| {
        let listener = listen();
        let address = listener.local_addr().expect("a listener has an address");
        let (cue, cued) = mpsc::channel();
        let (sender, receiver) = mpsc::channel();
        let server = spawn_call(move || serve(&listener, &cued, &sender));
        let options = tls::options(authority());
        let sockets: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let socket = sockeye::connect_with(address, options.clone());
                let socket = socket.expect("the address and the options are valid");
                socket.opened().expect("the peer is trusted");
                socket
            })
            .collect();
        receiver.recv().expect("all connections are accepted");
        all(&sockets, |_| Is::Idle);
        cue.send(()).expect("the server waits");
        receiver.recv().expect("the tickets are sent");
        all(&sockets, |_| Is::Idle);
        cue.send(()).expect("the server waits");
        receiver.recv().expect("half of them have ended");
        eventually(PROMPT, "the ends have arrived", || {
            let idle = sockets.iter().filter(|socket| socket.health().is_idle()).count();
            idle <= CONNECTIONS / 2
        });
        for (number, socket) in sockets.iter().enumerate() {
            // While the event loop processes an end, `health` only reports that the connection has ended.
            eventually(PROMPT, "the kind of the end is known", || {
                health(socket) != Is::Ended || Fate::of(number).expected() == Is::Ended
            });
        }
        all(&sockets, |number| Fate::of(number).expected());
        assert_eq!(sockets.iter().map(|socket| socket.stats().bytes_read).sum::<u64>(), 0);
        cue.send(()).expect("the server waits");
        server.join();
    });
}

#[track_caller]
fn all(sockets: &[Socket], expected: impl Fn(usize) -> Is) {
    for (number, socket) in sockets.iter().enumerate() {
        assert_eq!(health(socket), expected(number), "of {number}");
    }
}

/// Runs the handshakes, sends the tickets at the first cue, and ends half of the connections at the second one.
fn serve(listener: &TcpListener, cued: &mpsc::Receiver<()>, sender: &mpsc::Sender<()>) {
    let config = server_config().only(TlsVersion::Tls13).tickets(4).config();
    let mut connections: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (stream, _) = listener.accept().expect("the listener accepts");
            let session =
                ServerConnection::new(config.clone()).expect("the configuration is valid");
            shake_hands(stream, session).expect("the other end trusts this one")
        })
        .collect();
    sender.send(()).expect("the test waits for it");
    cued.recv().expect("the test continues");
    for (stream, session) in &mut connections {
        assert!(session.wants_write(), "there are tickets");
        flush(stream, session).expect("the other end reads");
    }
    sender.send(()).expect("the test waits for it");
    cued.recv().expect("the test continues");
    let mut living = Vec::new();
    for (number, (stream, mut session)) in connections.into_iter().enumerate() {
        match Fate::of(number) {
            Fate::Reset => {
                reset(stream);
                continue;
            }
            Fate::Notified => {
                session.send_close_notify();
                flush(&stream, &mut session).expect("the other end reads");
                stream.shutdown(Shutdown::Write).expect("it is open");
            }
            Fate::Fin => stream.shutdown(Shutdown::Write).expect("it is open"),
            Fate::Lives => {}
        }
        living.push(stream);
    }
    sender.send(()).expect("the test waits for it");
    cued.recv().expect("the test continues");
}

/// Runs a handshake, and holds the tickets back.
fn shake_hands(
    stream: TcpStream,
    mut session: ServerConnection,
) -> io::Result<(TcpStream, ServerConnection)> {
    while session.is_handshaking() {
        flush(&stream, &mut session)?;
        let mut bytes = [0; 4096];
        let count = (&stream).read(&mut bytes)?;
        let mut rest = &bytes[..count];
        while !rest.is_empty() {
            session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
    Ok((stream, session))
}

fn flush(mut stream: &TcpStream, session: &mut ServerConnection) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(&mut stream)?;
    }
    Ok(())
}
