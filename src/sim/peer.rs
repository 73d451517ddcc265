//! The scripted peer: it speaks plaintext, TLS with a rustls server, or first the one and then the other.

use super::environment::Network;
use super::reading::pattern_offset;
use super::rules::{CheckResult, rule};
use super::scenario::ServerSetup;
use super::tls::TlsPeer;
use super::upgrading::GO_AHEAD;
use super::wire::{SimRecv, SimSend, fill, fits};

#[derive(Debug)]
pub(super) struct Peer {
    setup: ServerSetup,
    server: Option<Box<TlsPeer>>,
    /// Bytes that the wire has not accepted yet.
    outgoing: Vec<u8>,
    /// The plaintext bytes sent before it began TLS.
    sent_in_plaintext: u64,
    /// How much of the go-ahead it has seen.
    go_ahead_seen: usize,
    /// The application bytes sent and received, since the upgrade if there was one.
    pub(super) sent: u64,
    pub(super) received: u64,
    /// The number of key updates.
    changes: usize,
    /// Whether FIN follows the outgoing bytes.
    ending: bool,
    /// Whether it has sent close_notify, or in plaintext FIN.
    pub(super) ended: bool,
    pub(super) saw_eof: bool,
    pub(super) saw_reset: bool,
    /// Whether it rejected the other side's data, or is gone.
    pub(super) failed: bool,
}

/// The endpoint of the scripted peer.
const PEER: usize = 1;

impl Peer {
    pub(super) fn new(secure: bool, setup: ServerSetup) -> Self {
        Peer {
            setup,
            server: secure.then(|| Box::new(TlsPeer::new(setup))),
            outgoing: Vec::new(),
            sent_in_plaintext: 0,
            go_ahead_seen: 0,
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

    /// Sends `bytes` bytes of application data, if it can.
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

    /// Sends plaintext into a TLS stream.
    pub(super) fn inject(&mut self, bytes: usize, net: &mut Network) {
        if self.ending || self.failed {
            return;
        }
        if self.setup.serves && self.server.is_none() {
            // A client that does not wait for the go-ahead.
            (net.corrupted, net.corrupted_bytes) = (true, true);
            self.begin_tls();
            self.push(net);
            return;
        }
        if self.server.is_some() {
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
            // The machine may treat this many as an attack.
            (net.corrupted, net.corrupted_bytes) = (true, true);
        }
        self.push(net);
    }

    /// Sends close_notify, over TLS, and FIN.
    pub(super) fn end(&mut self, net: &mut Network) {
        self.half_close(false, net);
        self.half_close(true, net);
    }

    /// Sends only FIN, or only close_notify.
    pub(super) fn half_close(&mut self, fin: bool, net: &mut Network) {
        if self.failed || self.ending {
            return;
        }
        if fin {
            self.ending = true;
        } else if let Some(server) = &mut self.server {
            // During a handshake, there is no close_notify.
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
            net.peer_reset();
        }
    }

    /// Begins TLS. The plaintext that it has sent precedes it.
    fn begin_tls(&mut self) {
        self.server = Some(Box::new(TlsPeer::new(self.setup)));
        self.sent_in_plaintext = self.sent;
        (self.sent, self.received) = (0, 0);
        self.ended = false;
    }

    /// Begins TLS as the client of a server without a go-ahead, once its last plaintext has arrived.
    fn begin_tls_if_due(&mut self, plaintext: Option<u64>, net: &mut Network) {
        let is_due = plaintext == Some(self.received) && !self.ending && !self.failed;
        if self.setup.serves && !self.setup.go_ahead && self.server.is_none() && is_due {
            self.begin_tls();
            self.push(net);
        }
    }

    /// Returns the number of plaintext bytes that it has sent.
    pub(super) fn plaintext_sent(&self) -> u64 {
        if self.server.is_some() { self.sent_in_plaintext } else { self.sent }
    }

    /// Receives up to `max` bytes. `plaintext` is the number of plaintext bytes before a pending upgrade.
    pub(super) fn read(
        &mut self,
        max: usize,
        plaintext: Option<u64>,
        net: &mut Network,
    ) -> CheckResult {
        self.begin_tls_if_due(plaintext, net);
        let mut buf = vec![0; max.min(100_000)];
        match net.peer_receive(&mut buf) {
            SimRecv::Bytes(bytes) => {
                net.trace.note(PEER, "receives", bytes);
                self.handle_bytes(&buf[..bytes], plaintext, net)?;
                self.push(net);
            }
            SimRecv::WouldBlock => {}
            SimRecv::Eof => {
                if !self.saw_eof {
                    net.trace.note(PEER, "reads EOF", 0);
                }
                self.saw_eof = true;
            }
            SimRecv::Failed(_) => (self.saw_reset, self.failed) = (true, true),
        }
        Ok(())
    }

    /// Sends outgoing bytes on the wire.
    pub(super) fn push(&mut self, net: &mut Network) {
        if let Some(server) = &mut self.server {
            server.write_tls(&mut self.outgoing);
        }
        if net.is_peer_finished() {
            // Either the last bytes were sent, or the wire drops all further ones.
            self.outgoing.clear();
        }
        if !self.outgoing.is_empty() {
            match net.peer_send(&self.outgoing) {
                SimSend::Bytes(bytes) => drop(self.outgoing.drain(..bytes)),
                SimSend::WouldBlock => {}
                SimSend::Failed(_) => {
                    (self.saw_reset, self.failed) = (true, true);
                    self.outgoing.clear();
                }
            }
        }
        if self.ending && self.outgoing.is_empty() && !self.failed {
            net.peer_finish();
        }
    }

    pub(super) fn has_sent_all(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Returns whether it received close_notify; always true in plaintext.
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
            rule(fits || net.corrupted_bytes, "the peer receives the written bytes in order")?;
            if rest.is_empty() {
                return Ok(());
            }
            ciphertext = rest;
            if self.setup.serves && self.setup.go_ahead {
                let wanted = &GO_AHEAD[self.go_ahead_seen..];
                let (seen, rest) = rest.split_at(rest.len().min(wanted.len()));
                if !wanted.starts_with(seen) {
                    // A client that does not understand the answer ends the connection.
                    self.failed = true;
                    self.send_last(net);
                    return rule(net.corrupted_bytes, "the go-ahead follows the plaintext");
                }
                self.go_ahead_seen += seen.len();
                if self.go_ahead_seen < GO_AHEAD.len() {
                    return Ok(());
                }
                ciphertext = rest;
            }
            // Usually a ClientHello. Earlier bytes of the peer belong to the plaintext connection.
            self.begin_tls();
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        if self.failed {
            return Ok(());
        }
        let mut data = Vec::new();
        let begins = server.is_handshaking();
        let fault = server.read_tls(ciphertext, &mut data);
        let fits = fits(pattern_offset(0, true), self.received, &data);
        self.received += data.len() as u64;
        rule(fits, "the peer receives the written bytes in order")?;
        if let Err(fault) = fault {
            net.trace.note(PEER, "rejects the data", 0);
            self.failed = true;
            // An alert and FIN follow.
            server.write_tls(&mut self.outgoing);
            self.send_last(net);
            // A client that did not wait for the go-ahead. Its ClientHello was lost, so the plaintext continues.
            let lost_hello = net.cut && self.setup.serves && !self.setup.go_ahead && begins;
            let alerted = fault.contains("received fatal alert") && net.corrupted;
            rule(
                net.corrupted_bytes || alerted || lost_hello,
                "the peer accepts the machine's records",
            )?;
        }
        Ok(())
    }

    fn send_last(&mut self, net: &mut Network) {
        net.corrupted = true;
        // Nothing follows FIN.
        if !net.is_peer_finished() {
            net.peer_send(&self.outgoing);
        }
        self.outgoing.clear();
        net.peer_finish();
    }
}

/// The number of key updates that rustls accepts.
const MAX_KEY_CHANGES: usize = 16;

/// The maximum of outgoing bytes while the wire accepts nothing.
const MAX_OUTGOING: usize = 100_000;
