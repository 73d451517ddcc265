//! Peers that send as fast as they can to sockets that no caller reads, and the delay of other sockets during that.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use sockeye::{Socket, SocketOptions};

use super::net::TcpListener;
use super::peer::{BlackHole, Server, black_hole, listen};
use super::tls::{authority, options, server_config};
use super::{Peer, assert_fails, ms, timed};

/// The data that a peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Plaintext to a socket whose reader is cancelled.
    Plaintext,
    /// The same over TLS.
    Records,
    /// TLS key updates with a byte after each, to a socket whose reader is cancelled.
    KeyUpdates,
    /// Session tickets, this many at a time, to a socket that no caller reads.
    Tickets(usize),
}

/// Connections that are flooded while this value exists.
pub struct Flooded {
    sockets: Vec<Socket>,
    over: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    peer: Option<JoinHandle<()>>,
}

impl Flooded {
    pub fn begin(flood: Flood, count: usize) -> Flooded {
        let listener = listen();
        let address = listener.local_addr().expect("it listens");
        let over = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (stop, bytes) = (Arc::clone(&over), Arc::clone(&sent));
        let peer = thread::spawn(move || pour_out(&listener, flood, count, &stop, &bytes));
        let sockets: Vec<Socket> = (0..count)
            .map(|_| {
                let options = match flood {
                    Flood::Plaintext => SocketOptions::new(),
                    Flood::Records | Flood::KeyUpdates | Flood::Tickets(_) => options(authority()),
                };
                let socket = sockeye::connect_with(address, options).expect("they are valid");
                socket.opened().expect("the peer accepts");
                if !matches!(flood, Flood::Tickets(_)) {
                    socket.reader().cancel();
                }
                socket
            })
            .collect();
        Flooded { sockets, over, sent, peer: Some(peer) }
    }

    /// Returns the number of bytes sent up to now.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Returns the number of open connections.
    pub fn standing(&self) -> usize {
        self.sockets.iter().filter(|socket| socket.phase() != sockeye::Phase::Closed).count()
    }
}

impl Drop for Flooded {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            socket.abort();
        }
        if let (Some(peer), false) = (self.peer.take(), thread::panicking()) {
            peer.join().expect("the peer only sends");
        }
    }
}

/// The peer's end of one connection.
struct Victim {
    stream: TcpStream,
    session: Option<ServerConnection>,
    pending: Vec<u8>,
    gone: bool,
}

fn pour_out(
    listener: &TcpListener,
    flood: Flood,
    count: usize,
    over: &AtomicBool,
    sent: &AtomicU64,
) {
    let config = match flood {
        Flood::Plaintext => None,
        Flood::Tickets(count) => Some(server_config().tickets(count).config()),
        Flood::Records | Flood::KeyUpdates => Some(server_config().config()),
    };
    let mut victims: Vec<Victim> =
        (0..count).map(|_| Victim::accept(listener, config.as_ref())).collect();
    while !over.load(Ordering::Relaxed) {
        let mut progress = 0;
        for victim in &mut victims {
            progress += victim.pour(flood);
        }
        sent.fetch_add(progress, Ordering::Relaxed);
        if progress == 0 {
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Victim {
    fn accept(listener: &TcpListener, config: Option<&Arc<ServerConfig>>) -> Victim {
        let (mut stream, _) = listener.accept().expect("the listener accepts");
        let mut session = config.map(|config| {
            ServerConnection::new(Arc::clone(config)).expect("the configuration is valid")
        });
        let mut pending = Vec::new();
        if let Some(session) = &mut session {
            // The flood itself sends everything after the handshake, so the socket must not be read before.
            while session.is_handshaking() {
                while session.wants_read() && session.is_handshaking() && !session.wants_write() {
                    session.read_tls(&mut stream).expect("the program sends");
                    session.process_new_packets().expect("it speaks TLS");
                }
                if session.is_handshaking() {
                    session.write_tls(&mut stream).expect("the program reads");
                }
            }
            while session.wants_write() {
                session.write_tls(&mut pending).expect("writes to memory succeed");
            }
        }
        stream.set_nonblocking(true).expect("every stream has the option");
        Victim { stream, session, pending, gone: false }
    }

    /// Sends until the wire blocks and returns the number of bytes.
    fn pour(&mut self, flood: Flood) -> u64 {
        static PLAINTEXT: [u8; 64 * 1024] = [b'f'; 64 * 1024];
        if self.gone {
            return 0;
        }
        if self.pending.is_empty() {
            match (flood, &mut self.session) {
                (Flood::Plaintext, _) => return self.send(&PLAINTEXT) as u64,
                (Flood::Records, Some(session)) => {
                    session
                        .writer()
                        .write_all(&PLAINTEXT[..16 * 1024])
                        .expect("writes to memory succeed");
                    session.write_tls(&mut self.pending).expect("writes to memory succeed");
                }
                (Flood::KeyUpdates, Some(session)) => {
                    for _ in 0..64 {
                        for _ in 0..8 {
                            session.refresh_traffic_keys().expect("the session uses TLS 1.3");
                        }
                        session.writer().write_all(b"k").expect("writes to memory succeed");
                        while session.wants_write() {
                            session.write_tls(&mut self.pending).expect("writes to memory succeed");
                        }
                    }
                }
                (Flood::Tickets(_), _) | (_, None) => return 0,
            }
        }
        let pending = std::mem::take(&mut self.pending);
        let count = self.send(&pending);
        self.pending = pending;
        self.pending.drain(..count);
        count as u64
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        match (&self.stream).write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.gone = true;
                0
            }
        }
    }
}

// -------------------------------------------------------------------- the other sockets

/// The delays of other sockets, each list sorted.
#[derive(Debug)]
pub struct Lateness {
    /// Timeouts, measured from their due time.
    pub timers: Vec<Duration>,
    /// Connections, measured from the call.
    pub connects: Vec<Duration>,
    /// Ends of idle connections, measured from the peer's end.
    pub ends: Vec<Duration>,
}

impl Lateness {
    /// Measures `count` delays of each kind.
    pub fn measure(count: usize) -> Lateness {
        let hole = black_hole();
        let server = Server::echoes();
        let mut timers: Vec<_> = (0..count).map(|_| late_timer(&hole)).collect();
        let mut connects: Vec<_> = (0..count).map(|_| connect(&server)).collect();
        let mut ends = late_ends(count);
        for figures in [&mut timers, &mut connects, &mut ends] {
            figures.sort();
        }
        Lateness { timers, connects, ends }
    }

    pub fn medians(&self) -> [Duration; 3] {
        [&self.timers, &self.connects, &self.ends].map(|figures| figures[figures.len() / 2])
    }

    pub fn worst(&self) -> [Duration; 3] {
        [&self.timers, &self.connects, &self.ends]
            .map(|figures| figures.last().copied().unwrap_or_default())
    }
}

fn late_timer(hole: &BlackHole) -> Duration {
    const LIMIT: Duration = ms(50);
    let options = SocketOptions::new().connect_timeout(LIMIT);
    let (opened, took) =
        timed(|| sockeye::connect_with(hole.address, options).expect("they are valid").opened());
    assert_fails(opened, sockeye::ErrorKind::TimedOut);
    took.saturating_sub(LIMIT)
}

fn connect(server: &Server) -> Duration {
    let (socket, took) = timed(|| {
        let socket = sockeye::connect(server.address()).expect("the address is valid");
        socket.opened().expect("the server listens");
        socket
    });
    socket.close().expect("the server reads");
    took
}

fn late_ends(count: usize) -> Vec<Duration> {
    let idle: Vec<_> = (0..count)
        .map(|_| {
            let peer = Peer::scripted(|wire| {
                wire.wait_signal();
                wire.fin();
            });
            let socket = super::open(&peer);
            (peer, socket)
        })
        .collect();
    // The loop watches idle connections after this time.
    thread::sleep(ms(400));
    let ended = |(peer, socket): (Peer, Socket)| {
        let waiting = super::spawn_blocked(move || {
            socket.closed().expect("the peer ends cleanly");
            Instant::now()
        });
        let begun = Instant::now();
        peer.signal();
        waiting.join().saturating_duration_since(begun)
    };
    let late: Vec<_> = idle.into_iter().map(ended).collect();
    late
}
