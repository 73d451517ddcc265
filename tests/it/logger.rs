//! A logger that uses sockets of the crate itself: it connects, waits and writes, whichever thread it is called on.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use sockeye::{Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions};

use crate::support::alone::alone;
use crate::support::peer::listen;
use crate::support::{AT_ONCE, PATIENCE, at_once, fails, kind_of, ms, read, timed};

const LONG: Duration = Duration::from_secs(100);

/// Sends each record to a server, to which it connects again where it has to.
struct Remote {
    server: OnceLock<SocketAddr>,
    /// Where it connects instead, once: to one that never answers.
    detour: Mutex<Option<SocketAddr>>,
    socket: Mutex<Option<Socket>>,
    /// Another handle of the same, for who wants to disturb.
    handle: Mutex<Option<Socket>>,
}

static REMOTE: Remote = Remote {
    server: OnceLock::new(),
    detour: Mutex::new(None),
    socket: Mutex::new(None),
    handle: Mutex::new(None),
};

thread_local! {
    /// The sockets of the logger are not logged.
    static AT_IT: Cell<bool> = const { Cell::new(false) };
}

impl Remote {
    fn connect(&self) -> sockeye::Result<Socket> {
        let detour = self.detour.lock().expect("nobody panics with it").take();
        let options = match detour {
            Some(_) => SocketOptions::new()
                .secure_transport(SecureTransport::On)
                .tls(TlsOptions::new())
                .connect_timeout(ms(300)),
            None => SocketOptions::new(),
        };
        let server = *self.server.get().expect("it is set before the logger");
        let socket = sockeye::connect_with(detour.unwrap_or(server), options)?;
        *self.handle.lock().expect("nobody panics with it") = Some(socket.clone());
        socket.opened()?;
        Ok(socket)
    }

    /// Writes it, to a new connection where the old one is gone.
    fn send(&self, line: &str) {
        let mut kept = self.socket.lock().expect("nobody panics with it");
        for _ in 0..3 {
            let Ok(socket) = kept.take().map_or_else(|| self.connect(), Ok) else { continue };
            if (&socket).write_all(line.as_bytes()).is_ok() {
                *kept = Some(socket);
                return;
            }
        }
    }
}

impl Log for Remote {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("sockeye")
    }

    fn log(&self, record: &Record<'_>) {
        let line = format!("{}: {}\n", thread::current().name().unwrap_or("?"), record.args());
        let server = self.server.get().expect("it is set before the logger").to_string();
        if AT_IT.get() || line.contains(&server) || !line.contains("not opened") {
            return;
        }
        AT_IT.set(true);
        self.send(&line);
        AT_IT.set(false);
    }

    fn flush(&self) {}
}

/// What has come at the server, and no other.
struct Lines(Receiver<String>);

impl Lines {
    /// Until the loop's record of a socket to this address comes.
    #[track_caller]
    fn tell_of(&self, address: SocketAddr) {
        loop {
            let line = self.0.recv_timeout(PATIENCE).expect("a record of that comes");
            if line.contains(&address.to_string()) {
                assert!(line.starts_with("sockeye-log: "), "not by the loop: {line}");
                return;
            }
        }
    }
}

#[test]
fn a_logger_may_connect_wait_and_reconnect_through_the_crate() {
    const NAME: &str = "logger::a_logger_may_connect_wait_and_reconnect_through_the_crate";
    alone(NAME, LONG, || {
        let lines = serve();
        log::set_logger(&REMOTE).expect("there is none yet");
        log::set_max_level(LevelFilter::Trace);
        expires().tell(&lines);
        type End = fn(Socket);
        let ends: [(&str, End); 5] = [
            ("abort", |socket| socket.abort()),
            ("close", |socket| socket.close().expect("there is nothing to lose")),
            ("drop", drop),
            ("half-close", |socket| socket.writer().close().expect("it is open")),
            ("cancel", |socket| socket.reader().cancel()),
        ];
        for (name, end) in ends {
            let handle = REMOTE.handle.lock().expect("nobody panics with it").take();
            end(handle.or_else(|| REMOTE.connect().ok()).expect(name));
            expires().tell(&lines);
            others_do_not_notice();
        }
    });
}

#[test]
fn a_logger_that_waits_in_vain_stops_nobody_and_can_be_ended() {
    const NAME: &str = "logger::a_logger_that_waits_in_vain_stops_nobody_and_can_be_ended";
    alone(NAME, LONG, || {
        let lines = serve();
        let mute = listen();
        let mute_address = mute.local_addr().expect("it listens");
        log::set_logger(&REMOTE).expect("there is none yet");
        log::set_max_level(LevelFilter::Trace);
        let ends: [Option<fn(Socket)>; 4] = [
            // It runs out of time.
            None,
            Some(|socket| socket.abort()),
            Some(|socket| socket.close().expect("there is nothing to lose")),
            Some(drop),
        ];
        for end in ends {
            *REMOTE.handle.lock().expect("nobody panics with it") = None;
            drop(REMOTE.socket.lock().expect("nobody panics with it").take());
            *REMOTE.detour.lock().expect("nobody panics with it") = Some(mute_address);
            let expired = expires();
            others_do_not_notice();
            if let Some(end) = end {
                let handle = REMOTE.handle.lock().expect("nobody panics with it").take();
                if let Some(handle) = handle {
                    at_once(|| end(handle));
                }
            }
            expired.tell(&lines);
        }
    });
}

/// A socket that ran out of time, as the loop found.
struct Expired(SocketAddr);

impl Expired {
    #[track_caller]
    fn tell(&self, lines: &Lines) {
        lines.tell_of(self.0);
    }
}

#[track_caller]
fn expires() -> Expired {
    let mute = listen();
    let address = mute.local_addr().expect("it listens");
    let options = SocketOptions::new()
        .secure_transport(SecureTransport::On)
        .tls(TlsOptions::new())
        .connect_timeout(ms(50));
    let socket = sockeye::connect_with(address, options).expect("the options are fine");
    let (result, took) = timed(|| socket.opened().map(drop));
    fails(result, ErrorKind::TimedOut);
    assert!(took < ms(50) + AT_ONCE, "{took:?}");
    Expired(address)
}

/// Connects, limits and ends of another socket.
#[track_caller]
fn others_do_not_notice() {
    let listener = listen();
    let connector = Connector::builder().build().expect("there is nothing to refuse");
    let address = listener.local_addr().expect("it listens");
    let socket = connector.connect(address).expect("it is fine");
    at_once(|| socket.opened().expect("it listens"));
    let (peer, _) = listener.accept().expect("it was connected to");
    socket.set_read_timeout(Some(ms(50))).expect("it can be set");
    let (result, took) = timed(|| read(&socket, 1));
    assert_eq!(kind_of(&result.expect_err("there is nothing")), ErrorKind::TimedOut);
    assert!(took < ms(50) + AT_ONCE, "{took:?}");
    drop(peer);
    at_once(|| socket.closed().expect("the peer has ended"));
    assert_eq!(socket.phase(), Phase::Closed);
}

/// The server of the logger.
fn serve() -> Lines {
    let listener = listen();
    REMOTE.server.set(listener.local_addr().expect("it listens")).expect("it is the first");
    let (tell, lines) = channel();
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
    });
    Lines(lines)
}
