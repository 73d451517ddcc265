//! The peer that does what the plan says: in plaintext, over TLS by a server of rustls, or first the one
//! and then the other.

use super::model::{Check, rule};
use super::net::Net;
use super::plan::ServerSetting;
use super::reading::salt;
use super::tls::Server;
use super::wire::{Came, Went, fill, fits};

#[derive(Debug)]
pub(super) struct Peer {
    setting: ServerSetting,
    server: Option<Box<Server>>,
    /// What it has to say and the wire has not taken.
    outgoing: Vec<u8>,
    /// How much application data it has sent and got; since the upgrade, if there was one.
    pub(super) sent: u64,
    pub(super) got: u64,
    /// How often it has changed its keys.
    changes: usize,
    /// FIN is to follow what it has said.
    ending: bool,
    /// It has said close_notify, or in plaintext that it ends.
    pub(super) ended: bool,
    pub(super) saw_end: bool,
    pub(super) saw_reset: bool,
    /// It found fault with the other end, or is gone.
    pub(super) failed: bool,
}

/// Which end a scripted peer is.
const PEER: usize = 1;

impl Peer {
    pub(super) fn new(secure: bool, setting: ServerSetting) -> Self {
        Peer {
            setting,
            server: secure.then(|| Box::new(Server::new(setting))),
            outgoing: Vec::new(),
            sent: 0,
            got: 0,
            changes: 0,
            ending: false,
            ended: false,
            saw_end: false,
            saw_reset: false,
            failed: false,
        }
    }

    /// Says so much, where it can.
    pub(super) fn write(&mut self, bytes: usize, net: &mut Net) {
        if self.ended || self.failed || self.ending || self.outgoing.len() > OUTGOING_MOST {
            return;
        }
        let mut load = vec![0; bytes];
        fill(salt(PEER, self.server.is_some()), self.sent, &mut load);
        match &mut self.server {
            None => self.outgoing.extend_from_slice(&load),
            Some(server) if server.is_handshaking() => return,
            Some(server) => server.write(&load),
        }
        self.sent += bytes as u64;
        self.push(net);
    }

    /// Says what does not belong there.
    pub(super) fn inject(&mut self, bytes: usize, net: &mut Net) {
        if self.server.is_some() && !self.ending {
            let mut load = vec![0; bytes];
            fill(salt(PEER, false), 0, &mut load);
            self.outgoing.extend_from_slice(&load);
            (net.harmed, net.mangled) = (true, true);
            self.push(net);
        }
    }

    pub(super) fn change_keys(&mut self, net: &mut Net) {
        if self.ended || self.ending || self.failed {
            return;
        }
        let Some(server) = &mut self.server else { return };
        server.change_keys();
        self.changes += 1;
        if self.changes > CHANGES_MOST {
            // That is an attack, and taken for one.
            (net.harmed, net.mangled) = (true, true);
        }
        self.push(net);
    }

    /// Ends what it says: by close_notify where TLS is spoken, by FIN.
    pub(super) fn end(&mut self, net: &mut Net) {
        self.half_end(false, net);
        self.half_end(true, net);
    }

    /// By FIN alone, or by close_notify alone.
    pub(super) fn half_end(&mut self, fin: bool, net: &mut Net) {
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
            net.harmed = true;
        }
        self.push(net);
    }

    pub(super) fn reset(&mut self, net: &mut Net) {
        if !self.failed {
            self.failed = true;
            net.harmed = true;
            self.outgoing.clear();
            net.wire.reset(PEER);
            net.wire.linger(PEER);
        }
    }

    /// Receives so much; `plaintext` says how much comes before an upgrade that has begun.
    pub(super) fn read(&mut self, most: usize, plaintext: Option<u64>, net: &mut Net) -> Check {
        let mut buf = vec![0; most.min(100_000)];
        match net.wire.receive(PEER, &mut buf) {
            Came::Bytes(bytes) => {
                net.trace.note(PEER, "receives", bytes);
                self.take_in(&buf[..bytes], plaintext, net)?;
                self.push(net);
            }
            Came::Nothing => {}
            Came::End => {
                if !self.saw_end {
                    net.trace.note(PEER, "reads the end", 0);
                }
                self.saw_end = true;
            }
            Came::Failed(_) => (self.saw_reset, self.failed) = (true, true),
        }
        Ok(())
    }

    /// Hands what it has to say to the wire.
    pub(super) fn push(&mut self, net: &mut Net) {
        if let Some(server) = &mut self.server {
            server.give_out(&mut self.outgoing);
        }
        if net.wire.is_finished(PEER) && !net.cut {
            self.outgoing.clear();
        }
        if !self.outgoing.is_empty() {
            match net.send(PEER, &self.outgoing) {
                Went::Bytes(bytes) => drop(self.outgoing.drain(..bytes)),
                Went::Full => {}
                Went::Failed(_) => {
                    (self.saw_reset, self.failed) = (true, true);
                    self.outgoing.clear();
                }
            }
        }
        if self.ending && self.outgoing.is_empty() && !self.failed {
            net.wire.finish(PEER);
        }
    }

    pub(super) fn has_said_all(&self) -> bool {
        self.outgoing.is_empty()
    }

    /// Whether close_notify has come, where TLS is spoken.
    pub(super) fn has_seen_goodbye(&self) -> bool {
        self.server.as_ref().is_none_or(|server| server.has_peer_ended())
    }

    pub(super) fn is_secure(&self) -> bool {
        self.server.is_some()
    }

    fn take_in(&mut self, bytes: &[u8], plaintext: Option<u64>, net: &mut Net) -> Check {
        let mut ciphertext = bytes;
        if self.server.is_none() {
            let left = plaintext.map_or(u64::MAX, |all| all - self.got);
            let plain = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (plain, rest) = bytes.split_at(plain);
            let fits = fits(salt(0, false), self.got, plain);
            self.got += plain.len() as u64;
            // Nothing protects plaintext.
            rule(fits || net.mangled, "the peer gets what was written, in order")?;
            if rest.is_empty() {
                return Ok(());
            }
            // ClientHello. What the peer has said until now was not meant for it.
            self.server = Some(Box::new(Server::new(self.setting)));
            (self.sent, self.got) = (0, 0);
            self.ended = false;
            ciphertext = rest;
        }
        let Some(server) = &mut self.server else { return Ok(()) };
        if self.failed {
            return Ok(());
        }
        let mut data = Vec::new();
        let fault = server.take_in(ciphertext, &mut data);
        let fits = fits(salt(0, true), self.got, &data);
        self.got += data.len() as u64;
        rule(fits, "the peer gets what was written, in order")?;
        if let Err(fault) = fault {
            net.trace.note(PEER, "finds fault", 0);
            self.failed = true;
            // Its alert tells why, and its end follows.
            server.give_out(&mut self.outgoing);
            self.send_last(net);
            rule(
                net.mangled || fault.contains("received fatal alert") && net.harmed,
                "the peer finds no fault with what it gets",
            )?;
        }
        Ok(())
    }

    fn send_last(&mut self, net: &mut Net) {
        net.harmed = true;
        net.send(PEER, &self.outgoing);
        self.outgoing.clear();
        net.wire.finish(PEER);
    }
}

/// So many requests for new keys rustls takes.
const CHANGES_MOST: usize = 16;

/// More is not said while the wire takes nothing.
const OUTGOING_MOST: usize = 100_000;
