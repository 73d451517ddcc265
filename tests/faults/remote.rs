//! A peer in its own process, which can be stopped, killed and cut off. It brings a connection to a stage and then
//! executes the commands that it reads, one a line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::stage::SocketPhase;
use crate::support::peer::listen_on;
use crate::support::subprocess::{TestProcess, next_line, say, this_binary};
use crate::support::tls::{Accepted, TlsPeer, authority, provider, server_config};

/// A receive buffer so small that a sender soon blocks.
const ROOM: usize = 4096;

/// The parent's handle to the peer.
pub struct Remote {
    actor: TestProcess,
    pid: Pid,
    port: u16,
    host: IpAddr,
    root: String,
}

impl Remote {
    pub fn start() -> Remote {
        Remote::start_by(Command::new(this_binary()))
    }

    /// Starts the peer with `command`, to which this adds its arguments.
    pub fn start_by(command: Command) -> Remote {
        let mut actor = TestProcess::start("peer", "peer", command);
        let pid = actor.expect_line("pid").parse().expect("a number");
        let port = actor.expect_line("listens").parse().expect("a port");
        let root = actor.expect_line("root").replace('|', "\n");
        let pid = Pid::from_raw(pid).expect("no process has the number zero");
        Remote { actor, pid, port, host: Ipv4Addr::LOCALHOST.into(), root }
    }

    /// Uses this address in place of the loopback address.
    pub fn at(mut self, host: IpAddr) -> Remote {
        self.host = host;
        self
    }

    pub fn address(&self) -> SocketAddr {
        (self.host, self.port).into()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Adds trust in the peer and this mode to the options.
    pub fn secured(&self, options: SocketOptions, mode: SecureTransport) -> SocketOptions {
        provider();
        let tls = TlsOptions::new().only_added_roots().add_root_pem(&self.root);
        let tls = tls.expect("it is PEM").server_name("localhost");
        options.secure_transport(mode).tls(tls)
    }

    /// Accepts the next connection and brings it to this stage.
    pub fn accept(&mut self, stage: SocketPhase) {
        self.actor.send_line(&format!("accept {}", stage.name()));
    }

    /// Waits until the connection has reached its stage.
    pub fn is_ready(&mut self) {
        self.actor.expect_line("ready");
    }

    /// Sends a command to the peer, and returns the time before that.
    pub fn does(&mut self, deed: &str) -> Instant {
        let begun = Instant::now();
        self.actor.send_line(deed);
        begun
    }

    pub fn stop(&self) -> Instant {
        self.signal(Signal::STOP)
    }

    pub fn go_on(&self) -> Instant {
        self.signal(Signal::CONT)
    }

    pub fn kill(&self) -> Instant {
        self.signal(Signal::KILL)
    }

    fn signal(&self, signal: Signal) -> Instant {
        let begun = Instant::now();
        kill_process(self.pid, signal).expect("it is a child of this process");
        begun
    }
}

/// A stopped process would not see that its standard input has closed.
impl Drop for Remote {
    fn drop(&mut self) {
        // The process may have ended.
        let _ = kill_process(self.pid, Signal::CONT);
    }
}

// -------------------------------------------------------------------- in its own process

pub fn serve() -> ExitCode {
    let listener = listen_on((Ipv6Addr::UNSPECIFIED, 0).into(), 64, Some(ROOM));
    say(&format!("pid {}", std::process::id()));
    say(&format!("listens {}", listener.local_addr().expect("it listens").port()));
    say(&format!("root {}", authority().pem().replace('\n', "|")));
    while let Some(line) = next_line() {
        let stage = line.strip_prefix("accept ").and_then(SocketPhase::named).expect("a stage");
        let listener = listener.try_clone().expect("a descriptor is free");
        TlsPeer::on(listener, &server_config(), move |wire| {
            let flight = bring(wire, stage);
            say("ready");
            obey(wire, &flight);
        })
        .finish();
    }
    ExitCode::SUCCESS
}

/// Brings a connection to this stage. Returns the server's next flight if it holds the handshake back.
fn bring(wire: &mut Accepted, stage: SocketPhase) -> Vec<u8> {
    match stage {
        SocketPhase::Open => {}
        SocketPhase::OpenTls => wire.handshake(),
        SocketPhase::PeerEnded => wire.fin(),
        SocketPhase::PeerEndedTls => {
            wire.handshake();
            wire.ends();
        }
        SocketPhase::Finished => wire.read_to_end(),
        SocketPhase::FinishedTls => {
            wire.handshake();
            wire.read_to_end();
        }
        SocketPhase::Handshake | SocketPhase::Upgrading => {
            if stage == SocketPhase::Upgrading {
                wire.accept_starttls();
            }
            wire.begin();
            loop {
                assert!(
                    wire.take_in().expect("a good ClientHello"),
                    "the client sends a ClientHello"
                );
                let flight = wire.hold_back();
                if !flight.is_empty() {
                    return flight;
                }
            }
        }
    }
    Vec::new()
}

/// Executes the parent's commands until the connection ends.
fn obey(wire: &mut Accepted, flight: &[u8]) {
    const GARBAGE: &[u8] = b"\x17\x03\x03\x00\x20this is no record that anyone has sealed";
    let mut rest = Vec::new();
    while let Some(deed) = next_line() {
        match deed.as_str() {
            "reset" => return wire.reset(),
            "fin" => wire.fin(),
            "garbage" => wire.raw(GARBAGE),
            "plaintext" => wire.raw(b"250 OK, and more of that\r\n"),
            "alert" => wire.alert(),
            "half" => wire.raw(&flight[..flight.len() / 2]),
            "half a record" => {
                rest = wire.sealed(&[b'r'; 4000]);
                let half = rest.len() / 2;
                wire.raw(&rest[..half]);
                rest.drain(..half);
            }
            "the other half" => wire.raw(&rest),
            // More bytes than any record has left.
            "garbage for ever" => wire.raw(&GARBAGE.repeat(1000)),
            "alive" => wire.send(b"alive"),
            // Reads up to EOF, and then closes.
            "over" => return,
            other => panic!("unknown command: {other:?}"),
        }
    }
}
