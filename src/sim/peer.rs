//! The peer that does what the plan says: in plaintext, over TLS by a server of rustls, or first the one
//! and then the other.

use super::model::{CheckResult, rule};
use super::net::Network;
use super::plan::ServerSetup;
use super::reading::pattern_offset;
use super::tls::Server;
use super::wire::{SimRecv, SimSend, fill, fits};

#[derive(Debug)]
pub(super) struct Peer {
    setup: ServerSetup,
    server: Option<Box<Server>>,
    /// What it has to say and the wire has not taken.
    outgoing: Vec<u8>,
    /// How much application data it has sent and got; since the upgrade, if there was one.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// How often it has changed its keys.
    changes: usize,
    /// FIN is to follow what it has said.
    ending: bool,
    /// It has said close_notify, or in plaintext that it ends.
    pub(super) ended: bool,
    pub(super) saw_eof: bool,
    pub(super) saw_reset: bool,
    /// It found fault with the other end, or is gone.
    pub(super) failed: bool,
}

/// Which end a scripted peer is.
const PEER: usize = 1;

impl Peer {
    pub(super) fn new(secure: bool, setup: ServerSetup) -> Self {
        Peer {
            setup,
            server: secure.then(|| Box::new(Server::new(setup))),
            outgoing: Vec::new(),
            sent: 0,
            received: 0,
            changes: 0,
            ending: false,
            ended: false,
            saw_eof: false,
            saw_reset: false,
            failed: false,
        }
    }

    /// Says so much, where it can.
    pub(super) fn write(&mut self, bytes: usize, net: &mut Network) {
        if self.ended || self.failed || self.ending || self.outgoing.len() > MAX_OUTGOING {
            return;
        }
        let mut data = vec![0; bytes];
        fill(pattern_offset(PEER, self.server.is_some()), self.sent, &mut data);
        match &mut self.server {
            None => self.outgoing.extend_from_slice(&data),
            Some(server) if server.is_handshaking() => return,
            Some(server) => server.write(&data),
        }
        self.sent += bytes as u64;
        self.push(net);
    }

    /// Says what does not belong there.
    pub(super) fn inject(&mut self, bytes: usize, net: &mut Network) {
        if self.server.is_some() && !self.ending {
            let mut data = vec![0; bytes];
            fill(pattern_offset(PEER, false), 0, &mut data);
            self.outgoing.extend_from_slice(&data);
            (net.corrupted, net.corrupted_bytes) = (true, true);
            self.push(net);
        }
    }

    pub(super) fn change_keys(&mut self, net: &mut Network) {
        if self.ended || self.ending || self.failed {
            return;
        }
        let Some(server) = &mut self.server else { return };
        server.change_keys();
        self.changes += 1;
        if self.changes > MAX_KEY_CHANGES {
            // That is an attack, and taken for one.
            (net.corrupted, net.corrupted_bytes) = (true, true);
        }
        self.push(net);
    }

    /// Ends what it says: by close_notify where TLS is spoken, by FIN.
    pub(super) fn end(&mut self, net: &mut Network) {
        self.half_close(false, net);
        self.half_close(true, net);
    }

    /// By FIN alone, or by close_notify alone.
    pub(super) fn half_close(&mut self, fin: bool, net: &mut Network) {
        if self.failed || self.ending {
            return;
        }
        if fin {
            self.ending = true;
        } else if let Some(server) = &mut self.server {
            // Within a handshake there is nothing to end.
            if !server.is_handshaking() {
                self.ended = true;
                server.end();
            }
        }
        if self.server.is_none() {
            self.ending = true;
            self.ended = true;
        } else if fin && !self.ended {
            net.corrupted = true;
        }
        self.push(net);
    }

    pub(super) fn reset(&mut self, net: &mut Network) {
        if !self.failed {
            self.failed = true;
            net.corrupted = true;
            self.outgoing.clear();
            net.wire.reset(PEER);
            net.wire.linger(PEER);
        }
    }

    /// Receives so much; `plaintext` says how much comes before an upgrade that has begun.
    pub(super) fn read(
        &mut self,
        max: usize,
        plaintext: Option<u64>,
        net: &mut Network,
    ) -> CheckResult {
        let mut buf = vec![0; max.min(100_000)];
        match net.wire.receive(PEER, &mut buf) {
            SimRecv::Bytes(bytes) => {
                net.trace.note(PEER, "receives", bytes);
                self.handle_bytes(&buf[..bytes], plaintext, net)?;
                self.push(net);
            }
            SimRecv::WouldBlock => {}
            SimRecv::Eof => {
                if !self.saw_eof {
                    net.trace.note(PEER, "reads the end", 0);
                }
                self.saw_eof = true;
            }
            SimRecv::Failed(_) => (self.saw_reset, self.failed) = (true, true),
        }
        Ok(())
    }

    /// Hands what it has to say to the wire.
    pub(super) fn push(&mut self, net: &mut Network) {
        if let Some(server) = &mut self.server {
            server.write_tls(&mut self.outgoing);
        }
        if net.wire.is_finished(PEER) && !net.cut {
            self.outgoing.clear();
        }
        if !self.outgoing.is_empty() {
            match net.send(PEER, &self.outgoing) {
                SimSend::Bytes(bytes) => drop(self.outgoing.drain(..bytes)),
                SimSend::WouldBlock => {}
                SimSend::Failed(_) => {
                    (self.saw_reset, self.failed) = (true, true);
                    self.outgoing.clear();
                }
            }
        }
        if self.ending && self.outgoing.is_empty() && !self.failed {
            net.wire.finish(PEER);
        }
    }

    pub(super) fn has_sent_all(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether close_notify has come, where TLS is spoken.
    pub(super) fn has_seen_close_notify(&self) -> bool {
        self.server.as_ref().is_none_or(|server| server.has_peer_ended())
    }

    pub(super) fn is_secure(&self) -> bool {
        self.server.is_some()
    }

    fn handle_bytes(
        &mut self,
        bytes: &[u8],
        plaintext: Option<u64>,
        net: &mut Network,
    ) -> CheckResult {
        let mut ciphertext = bytes;
        if self.server.is_none() {
            let left = plaintext.map_or(u64::MAX, |all| all - self.received);
            let plain = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (plain, rest) = bytes.split_at(plain);
            let fits = fits(pattern_offset(0, false), self.received, plain);
            self.received += plain.len() as u64;
            // Nothing protects plaintext.
            rule(fits || net.corrupted_bytes, "the peer gets what was written, in order")?;
            if rest.is_empty() {
                return Ok(());
            }
            // ClientHello. What the peer has said until now was not meant for it.
            self.server = Some(Box::new(Server::new(self.setup)));
            (self.sent, self.received) = (0, 0);
            self.ended = false;
            ciphertext = rest;
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        if self.failed {
            return Ok(());
        }
        let mut data = Vec::new();
        let fault = server.read_tls(ciphertext, &mut data);
        let fits = fits(pattern_offset(0, true), self.received, &data);
        self.received += data.len() as u64;
        rule(fits, "the peer gets what was written, in order")?;
        if let Err(fault) = fault {
            net.trace.note(PEER, "finds fault", 0);
            self.failed = true;
            // Its alert tells why, and its end follows.
            server.write_tls(&mut self.outgoing);
            self.send_last(net);
            rule(
                net.corrupted_bytes || fault.contains("received fatal alert") && net.corrupted,
                "the peer finds no fault with what it gets",
            )?;
        }
        Ok(())
    }

    fn send_last(&mut self, net: &mut Network) {
        net.corrupted = true;
        net.send(PEER, &self.outgoing);
        self.outgoing.clear();
        net.wire.finish(PEER);
    }
}

/// So many requests for new keys rustls takes.
const MAX_KEY_CHANGES: usize = 16;

/// More is not said while the wire takes nothing.
const MAX_OUTGOING: usize = 100_000;
