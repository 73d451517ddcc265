//! Feeds a client the same corrupted TLS bytes in pieces of different sizes. The result must not depend on the sizes.

use std::time::Instant;

use super::rules::{CheckResult, rule};
use super::scenario::{ByteSource, ServerSetup, checksum};
use super::targets::address;
use super::tls::{self, TlsPeer};
use crate::info::Phase;
use crate::machine::{
    Config, Endpoints, Fault, Input, Machine, ReadStep, RecvBuf, RecvEvent, RecvPermit, Target,
};

/// A flight of the server, and its delivery.
pub(super) struct RecordsScenario {
    setup: ServerSetup,
    rng_seed: u64,
    /// Whether the flight follows the handshake.
    after: bool,
    piece: usize,
    now: Instant,
}

/// The final state of a client.
#[derive(Debug)]
struct ClientEnd {
    phase: Phase,
    opened: Option<Result<(), Fault>>,
    outcome: Option<Result<(), Fault>>,
    failure: Option<String>,
    read: Vec<u8>,
    reads: Result<(), Fault>,
}

impl RecordsScenario {
    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    pub(super) fn new(source: &mut ByteSource<'_>) -> Self {
        let flags = source.byte();
        RecordsScenario {
            setup: ServerSetup {
                tls13: flags & 1 == 0,
                short_records: flags & 6 == 6,
                require_close_notify: flags & 24 != 24,
                foreign: false,
                serves: false,
                go_ahead: false,
            },
            rng_seed: checksum(source.0),
            after: flags & 32 != 0,
            piece: source.size() + 1,
            now: Instant::now(),
        }
    }

    pub(super) fn run(&self, source: ByteSource<'_>) -> CheckResult {
        let flight = changed(self.flight(&source), source);
        let whole = self.drive(&flight, usize::MAX)?;
        rule(
            self.drive(&flight, 1)?.matches(&whole),
            "delivery byte by byte ends as in one piece",
        )?;
        let pieces = self.drive(&flight, self.piece)?;
        rule(pieces.matches(&whole), "delivery in several pieces ends as in one piece")
    }

    /// Creates a client and a server at the point before the flight, and the server's output.
    fn set_up(&self) -> (Client, TlsPeer, Vec<u8>) {
        tls::seed(self.rng_seed);
        let mut server = TlsPeer::new(self.setup);
        let mut client = Client::new(self);
        let mut flight = Vec::new();
        for _ in 0..if self.after { 3 } else { 1 } {
            client.feed(&std::mem::take(&mut flight), usize::MAX, self.now);
            let sent = std::mem::take(&mut client.sent);
            server.read_tls(&sent, &mut Vec::new()).expect("nothing is corrupted yet");
            server.write_tls(&mut flight);
        }
        (client, server, flight)
    }

    fn flight(&self, source: &ByteSource<'_>) -> Vec<u8> {
        let (_, mut server, mut flight) = self.set_up();
        if !server.is_handshaking() {
            for &byte in source.0.iter().take(4) {
                match byte % 8 {
                    0 => server.change_keys(),
                    1 => server.end(),
                    _ => server.write(&vec![byte; usize::from(byte)]),
                }
            }
            server.write_tls(&mut flight);
        }
        flight
    }

    fn drive(&self, flight: &[u8], piece: usize) -> Result<ClientEnd, &'static str> {
        let (mut client, _, _) = self.set_up();
        client.feed(flight, piece, self.now);
        client.end(self.now);
        let machine = &client.machine;
        rule(machine.phase() == Phase::Closed || !self.ends(machine), "EOF ends the machine")?;
        rule(machine.opened().is_some(), "a truncated handshake ends")?;
        Ok(ClientEnd {
            phase: machine.phase(),
            opened: machine.opened(),
            outcome: machine.outcome(),
            failure: machine.tls_failure().map(str::to_owned),
            read: client.read,
            reads: client.reads,
        })
    }

    /// Returns whether the peer's EOF must end the machine, which does not allow half-open connections.
    fn ends(&self, machine: &Machine) -> bool {
        machine.opened() == Some(Ok(())) && !machine.has_unsent()
    }
}

impl ClientEnd {
    /// Returns whether both are the same. A failure right after the last handshake message may count as during the
    /// handshake or after it.
    fn matches(&self, other: &ClientEnd) -> bool {
        let untouched = self.outcome == Some(Err(Fault::Tls)) && self.read.is_empty();
        (self.opened == other.opened || untouched)
            && self.phase == other.phase
            && self.outcome == other.outcome
            && self.failure == other.failure
            && self.read == other.read
            && self.reads == other.reads
    }
}

/// Changes, drops, repeats and inserts bytes.
fn changed(mut flight: Vec<u8>, mut source: ByteSource<'_>) -> Vec<u8> {
    for _ in 0..MAX_CHANGES {
        if source.0.is_empty() {
            break;
        }
        let change = source.byte();
        let at = usize::from(source.byte()) * 256 + usize::from(source.byte());
        let at = at % (flight.len() + 1);
        match change % 8 {
            0..=2 => {
                if let Some(place) = flight.get_mut(at) {
                    *place ^= source.byte();
                }
            }
            3 => {
                let end = flight.len().min(at + usize::from(source.byte()));
                flight.drain(at..end);
            }
            4 => flight.truncate(at),
            5 => {
                let end = flight.len().min(at + usize::from(source.byte()));
                let again = flight[at..end].to_vec();
                flight.splice(at..at, again);
            }
            _ => {
                let length = usize::from(source.byte()).min(source.0.len());
                let (raw, rest) = source.0.split_at(length);
                source.0 = rest;
                flight.splice(at..at, raw.iter().copied());
            }
        }
    }
    flight
}

struct Client {
    machine: Machine,
    recv_buf: RecvBuf,
    /// The bytes for the server.
    sent: Vec<u8>,
    read: Vec<u8>,
    /// The result of the last read.
    reads: Result<(), Fault>,
}

impl Client {
    fn new(records: &RecordsScenario) -> Self {
        let mut config = Config::new(Target::Address(address(0)));
        config.tls = Some(tls::setup(records.setup));
        let mut machine = Machine::new(config, records.now);
        let attempt = machine.start(records.now).attempt;
        let id = attempt.expect("the machine dials its only address").id;
        let result = Ok(Endpoints::new(address(0), None));
        drop(machine.handle(Input::Attempted { id, result }, records.now));
        let mut client = Client {
            machine,
            recv_buf: RecvBuf::new(),
            sent: Vec::new(),
            read: Vec::new(),
            reads: Ok(()),
        };
        client.transmit();
        client
    }

    fn feed(&mut self, bytes: &[u8], piece: usize, now: Instant) {
        let mut left = bytes;
        while !left.is_empty() {
            let Some(permit) = self.permit(now) else { break };
            let spare = self.recv_buf.spare_mut();
            let (first, rest) = left.split_at(left.len().min(piece).min(spare.len()));
            spare[..first.len()].copy_from_slice(first);
            self.recv_buf.advance(first.len());
            drop(self.machine.ingest(permit, &mut self.recv_buf, || now));
            left = rest;
            self.transmit();
        }
        // Reads the remaining data.
        if let Some(permit) = self.permit(now) {
            drop(self.machine.handle_recv_event(permit, RecvEvent::Cancelled, now));
        }
    }

    fn end(&mut self, now: Instant) {
        if let Some(permit) = self.permit(now) {
            drop(self.machine.handle_recv_event(permit, RecvEvent::Eof, now));
        }
        self.transmit();
        while let Some(permit) = self.permit(now) {
            drop(self.machine.handle_recv_event(permit, RecvEvent::Eof, now));
        }
    }

    /// Reads all available data, and returns a permit to receive.
    fn permit(&mut self, now: Instant) -> Option<RecvPermit> {
        loop {
            match self.machine.read() {
                ReadStep::TakePlaintext(permit) => {
                    let mut buf = [0; 4096];
                    let bytes = self.machine.take_plaintext(permit, &mut buf, || now).0;
                    self.read.extend_from_slice(&buf[..bytes]);
                }
                ReadStep::Ingest(permit) => return Some(permit),
                ReadStep::Wait => return self.machine.begin_background_recv(),
                ReadStep::Fail(fault) => {
                    self.reads = Err(fault);
                    return None;
                }
                ReadStep::Recv(_) | ReadStep::Eof => return None,
            }
        }
    }

    fn transmit(&mut self) {
        while let Some(mut transmit) = self.machine.next_transmit() {
            self.sent.extend_from_slice(transmit.bytes());
            let bytes = transmit.bytes().len();
            transmit.sent(bytes);
            drop(self.machine.transmit_done(&mut transmit));
        }
    }
}

const MAX_CHANGES: usize = 64;
