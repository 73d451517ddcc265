//! A peer in a process of its own, which can be stopped, killed and cut off: it brings a connection to a
//! stage, and then does as it is told, line by line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use sockeye::{SecureTransport, SocketOptions, TlsOptions};

use crate::stage::Stage;
use crate::support::alone::{Actor, next_line, say, this_binary};
use crate::support::peer::listen_on;
use crate::support::tls::{Accepted, TlsPeer, authority, provider, terms};

/// So little room for what comes in that who sends is soon stuck.
const ROOM: usize = 4096;

/// The peer, as who tells it what to do has it.
pub struct Remote {
    actor: Actor,
    pid: Pid,
    port: u16,
    host: IpAddr,
    root: String,
}

impl Remote {
    pub fn start() -> Remote {
        Remote::start_by(Command::new(this_binary()))
    }

    /// Starts it by `command`, to which the arguments are added.
    pub fn start_by(command: Command) -> Remote {
        let mut actor = Actor::start("peer", "peer", command);
        let pid = actor.says("pid").parse().expect("a number");
        let port = actor.says("listens").parse().expect("a port");
        let root = actor.says("root").replace('|', "\n");
        let pid = Pid::from_raw(pid).expect("no process has the number zero");
        Remote { actor, pid, port, host: Ipv4Addr::LOCALHOST.into(), root }
    }

    /// Reached at this address instead of the loopback's.
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

    /// Trusts the peer, and has this mode.
    pub fn secured(&self, options: SocketOptions, mode: SecureTransport) -> SocketOptions {
        provider();
        let tls = TlsOptions::new().only_added_roots().add_root_pem(&self.root);
        let tls = tls.expect("it is PEM").server_name("localhost");
        options.secure_transport(mode).tls(tls)
    }

    /// Accepts the next connection and brings it to this stage.
    pub fn accept(&mut self, stage: Stage) {
        self.actor.tell(&format!("accept {}", stage.name()));
    }

    /// Waits until it is there.
    pub fn is_ready(&mut self) {
        self.actor.says("ready");
    }

    /// Has it done, and says when that began.
    pub fn does(&mut self, deed: &str) -> Instant {
        let begun = Instant::now();
        self.actor.tell(deed);
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

/// One that is stopped would not see that nobody tells it anything any more.
impl Drop for Remote {
    fn drop(&mut self) {
        // It may have ended.
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
        let stage = line.strip_prefix("accept ").and_then(Stage::named).expect("a stage");
        let listener = listener.try_clone().expect("a descriptor is free");
        TlsPeer::on(listener, &terms(), move |wire| {
            let flight = bring(wire, stage);
            say("ready");
            obey(wire, &flight);
        })
        .ending();
    }
    ExitCode::SUCCESS
}

/// What the server would say next in a handshake that is halted.
fn bring(wire: &mut Accepted, stage: Stage) -> Vec<u8> {
    match stage {
        Stage::Open => {}
        Stage::OpenTls => wire.handshake(),
        Stage::PeerEnded => wire.fin(),
        Stage::PeerEndedTls => {
            wire.handshake();
            wire.ends();
        }
        Stage::Finished => wire.read_to_end(),
        Stage::FinishedTls => {
            wire.handshake();
            wire.read_to_end();
        }
        Stage::Handshake | Stage::Upgrading => {
            if stage == Stage::Upgrading {
                wire.agrees();
            }
            wire.begin();
            loop {
                assert!(wire.take_in().expect("a good ClientHello"), "a ClientHello comes");
                let flight = wire.withheld();
                if !flight.is_empty() {
                    return flight;
                }
            }
        }
    }
    Vec::new()
}

/// Does as it is told until the connection is over.
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
            // More than is left of any record.
            "garbage for ever" => wire.raw(&GARBAGE.repeat(1000)),
            "alive" => wire.send(b"alive"),
            // Reads up to the end, and ends.
            "over" => return,
            other => panic!("no deed: {other:?}"),
        }
    }
}
