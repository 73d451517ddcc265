//! A logger that itself uses sockets of the crate: it connects, waits and writes on any thread that logs.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use log::{LevelFilter, Log, Metadata, Record};
use sockeye::{Connector, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions};

use crate::support::peer::listen;
use crate::support::subprocess::in_subprocess;
use crate::support::{PROMPT, WATCHDOG, assert_fails, at_once, crate_kind, ms, read, timed};

const LONG: Duration = Duration::from_secs(100);

/// A logger that sends each record to a server, and reconnects if necessary.
struct Remote {
    server: OnceLock<SocketAddr>,
    /// An address that never answers, to which the next connect goes instead.
    detour: Mutex<Option<SocketAddr>>,
    socket: Mutex<Option<Socket>>,
    /// Another handle of the same socket, with which a test can end it.
    handle: Mutex<Option<Socket>>,
}

static REMOTE: Remote = Remote {
    server: OnceLock::new(),
    detour: Mutex::new(None),
    socket: Mutex::new(None),
    handle: Mutex::new(None),
};

thread_local! {
    /// Set while this thread logs: the logger's own sockets are not logged.
    static AT_IT: Cell<bool> = const { Cell::new(false) };
}

impl Remote {
    fn connect(&self) -> sockeye::Result<Socket> {
        let detour = self.detour.lock().expect("no thread panics while it holds the lock").take();
        let options = match detour {
            Some(_) => SocketOptions::new()
                .secure_transport(SecureTransport::On)
                .tls(TlsOptions::new())
                .connect_timeout(ms(300)),
            None => SocketOptions::new(),
        };
        let server = *self.server.get().expect("the server is set before the logger");
        let socket = sockeye::connect_with(detour.unwrap_or(server), options)?;
        *self.handle.lock().expect("no thread panics while it holds the lock") =
            Some(socket.clone());
        socket.opened()?;
        Ok(socket)
    }

    /// Writes the line, on a new connection if the old one has ended.
    fn send(&self, line: &str) {
        let mut kept = self.socket.lock().expect("no thread panics while it holds the lock");
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
        let server = self.server.get().expect("the server is set before the logger").to_string();
        if AT_IT.get() || line.contains(&server) || !line.contains("failed to open") {
            return;
        }
        AT_IT.set(true);
        self.send(&line);
        AT_IT.set(false);
    }

    fn flush(&self) {}
}

/// The lines that the server has received.
struct Lines(Receiver<String>);

impl Lines {
    /// Waits for the event loop's record of a socket to this address.
    #[track_caller]
    fn tell_of(&self, address: SocketAddr) {
        loop {
            let line = self.0.recv_timeout(WATCHDOG).expect("the server receives a record");
            if line.contains(&address.to_string()) {
                assert!(line.starts_with("sockeye-log: "), "not logged by the event loop: {line}");
                return;
            }
        }
    }
}

#[test]
fn a_logger_may_connect_wait_and_reconnect_through_the_crate() {
    const NAME: &str = "logger::a_logger_may_connect_wait_and_reconnect_through_the_crate";
    in_subprocess(NAME, LONG, || {
        let lines = serve();
        log::set_logger(&REMOTE).expect("the process has no logger yet");
        log::set_max_level(LevelFilter::Trace);
        expires().tell(&lines);
        type End = fn(Socket);
        let ends: [(&str, End); 5] = [
            ("abort", |socket| socket.abort()),
            ("close", |socket| socket.close().expect("no data is lost")),
            ("drop", drop),
            ("half-close", |socket| socket.writer().close().expect("it is open")),
            ("cancel", |socket| socket.reader().cancel()),
        ];
        for (name, end) in ends {
            let handle =
                REMOTE.handle.lock().expect("no thread panics while it holds the lock").take();
            end(handle.or_else(|| REMOTE.connect().ok()).expect(name));
            expires().tell(&lines);
            others_do_not_notice();
        }
    });
}

#[test]
fn a_blocked_logger_blocks_no_other_socket_and_can_be_ended() {
    const NAME: &str = "logger::a_blocked_logger_blocks_no_other_socket_and_can_be_ended";
    in_subprocess(NAME, LONG, || {
        let lines = serve();
        let mute = listen();
        let mute_address = mute.local_addr().expect("it listens");
        log::set_logger(&REMOTE).expect("the process has no logger yet");
        log::set_max_level(LevelFilter::Trace);
        let ends: [Option<fn(Socket)>; 4] = [
            // The logger's connect times out.
            None,
            Some(|socket| socket.abort()),
            Some(|socket| socket.close().expect("no data is lost")),
            Some(drop),
        ];
        for end in ends {
            *REMOTE.handle.lock().expect("no thread panics while it holds the lock") = None;
            drop(REMOTE.socket.lock().expect("no thread panics while it holds the lock").take());
            *REMOTE.detour.lock().expect("no thread panics while it holds the lock") =
                Some(mute_address);
            let expired = expires();
            others_do_not_notice();
            if let Some(end) = end {
                let handle =
                    REMOTE.handle.lock().expect("no thread panics while it holds the lock").take();
                if let Some(handle) = handle {
                    at_once(|| end(handle));
                }
            }
            expired.tell(&lines);
        }
    });
}

/// The address of a socket whose timeout the event loop has logged.
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
    let socket = sockeye::connect_with(address, options).expect("the options are valid");
    let (result, took) = timed(|| socket.opened().map(drop));
    assert_fails(result, ErrorKind::TimedOut);
    assert!(took < ms(50) + PROMPT, "{took:?}");
    Expired(address)
}

/// Checks that connects, timeouts and closes of another socket are unaffected.
#[track_caller]
fn others_do_not_notice() {
    let listener = listen();
    let connector = Connector::builder().build().expect("the settings are valid");
    let address = listener.local_addr().expect("it listens");
    let socket = connector.connect(address).expect("it is valid");
    at_once(|| socket.opened().expect("it listens"));
    let (peer, _) = listener.accept().expect("it was connected to");
    socket.set_read_timeout(Some(ms(50))).expect("it can be set");
    let (result, took) = timed(|| read(&socket, 1));
    assert_eq!(crate_kind(&result.expect_err("the peer sends nothing")), ErrorKind::TimedOut);
    assert!(took < ms(50) + PROMPT, "{took:?}");
    drop(peer);
    at_once(|| socket.closed().expect("the peer has ended"));
    assert_eq!(socket.phase(), Phase::Closed);
}

/// Starts the logger's server.
fn serve() -> Lines {
    let listener = listen();
    REMOTE.server.set(listener.local_addr().expect("it listens")).expect("the server is set once");
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

/// A logger that asks a connector for its statistics, which takes the lock of every socket.
struct Statistics(OnceLock<Connector>);

static STATISTICS: Statistics = Statistics(OnceLock::new());

impl Log for Statistics {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &Record<'_>) {
        if let Some(connector) = self.0.get() {
            let _ = connector.stats();
        }
    }

    fn flush(&self) {}
}

/// The first socket of a process starts the event loop, which logs that.
#[test]
fn the_first_socket_by_name_logs_under_no_lock() {
    in_subprocess("logger::the_first_socket_by_name_logs_under_no_lock", LONG, || {
        let listener = listen();
        let port = listener.local_addr().expect("it listens").port();
        let connector = Connector::builder().build().expect("the rules are valid");
        STATISTICS.0.set(connector.clone()).expect("it is set once");
        log::set_logger(&STATISTICS).expect("no logger is set");
        log::set_max_level(LevelFilter::Trace);
        let socket = connector.connect(("localhost", port)).expect("the address is valid");
        socket.opened_timeout(WATCHDOG).expect("it listens");
        assert_eq!(connector.stats().open, 1);
    });
}
