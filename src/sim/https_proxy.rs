//! A simulated `https` proxy: it ends one layer of TLS, answers the request, and passes everything else on.
//!
//! The machine is at end 0 of the wire and the proxy at end 1. The scripted target is behind the proxy: what it sends
//! waits here until the proxy encrypts it.

use super::environment::Network;
use super::proxied::{Meaning, ProxyAnswer, ProxyFault, ProxySetup, TARGET};
use super::rules::{CheckResult, rule};
use super::targets::{ADDRESSES, address};
use super::tls::TlsPeer;
use super::wire::{SimRecv, SimSend, SimWire};
use crate::error::ProxyReply;
use crate::machine::{Fault, Machine};

#[derive(Debug)]
pub(super) struct HttpsProxy {
    setup: ProxySetup,
    /// The number of connections before this one.
    earlier: usize,
    tls: TlsPeer,
    answer: ProxyAnswer,
    /// Ciphertext that the wire has not accepted.
    outgoing: Vec<u8>,
    /// The request, as far as it has arrived.
    head: Vec<u8>,
    is_asked: bool,
    /// What is to be encrypted: the rest of the answer, and then data of the target.
    waiting: Vec<u8>,
    answer_left: usize,
    /// The number of the target's bytes that were encrypted.
    pub(super) passed: u64,
    /// Decrypted data that the target has not received.
    to_target: Vec<u8>,
    /// Whether nothing more comes from the machine.
    machine_ended: bool,
    /// Whether nothing more comes from the target.
    target_ended: bool,
    /// Whether it has sent close_notify.
    pub(super) ended: bool,
    /// Whether FIN follows the outgoing bytes.
    ending: bool,
    /// Whether it rejected the machine's records, or the connection was reset.
    failed: bool,
    /// The number of key updates.
    changes: usize,
}

/// The end of the wire.
const PROXY: usize = 1;

impl HttpsProxy {
    pub(super) fn new(setup: ProxySetup, earlier: usize) -> Self {
        let mut proxy = HttpsProxy {
            setup,
            earlier,
            tls: TlsPeer::new(setup.tls),
            answer: setup.answer(earlier),
            outgoing: Vec::new(),
            head: Vec::new(),
            is_asked: false,
            waiting: Vec::new(),
            answer_left: 0,
            passed: 0,
            to_target: Vec::new(),
            machine_ended: false,
            target_ended: false,
            ended: false,
            ending: false,
            failed: false,
            changes: 0,
        };
        if proxy.answers_early() {
            // It leaves in the moment in which TLS allows data.
            proxy.tls.write(proxy.answer.bytes);
        }
        proxy
    }

    /// Creates the proxy's end of another connection of the same machine.
    fn again(&self) -> Self {
        let target_ended = self.target_ended;
        HttpsProxy { target_ended, ..HttpsProxy::new(self.setup, self.earlier + 1) }
    }

    /// Returns whether the whole answer was encrypted, and accepts.
    fn has_accepted(&self) -> bool {
        let is_asked = self.is_asked || self.answers_early();
        is_asked && self.answer.meaning == Meaning::Accepts && self.answer_left == 0
    }

    /// Returns whether it accepts the request, and does nothing wrong.
    pub(super) fn is_good(&self) -> bool {
        self.answer.meaning == Meaning::Accepts && self.setup.fault == ProxyFault::None
    }

    /// Returns whether the machine has sent close_notify.
    pub(super) fn has_seen_close_notify(&self) -> bool {
        self.tls.has_peer_ended()
    }

    fn answers_early(&self) -> bool {
        self.setup.fault == ProxyFault::AnswersEarly
    }

    /// Returns whether the target is connected.
    fn is_tunnel(&self) -> bool {
        self.is_asked && self.answer.meaning == Meaning::Accepts
    }

    // ------------------------------------------------------------- from the machine

    /// Receives at most `max` bytes, and does what follows from them.
    fn run(&mut self, max: usize, net: &mut Network) -> CheckResult {
        if self.setup.fault == ProxyFault::Silent {
            return Ok(());
        }
        self.receive(max, net)?;
        if self.setup.fault == ProxyFault::EndsAfterHandshake {
            self.end(net);
        }
        if self.setup.is_prompt {
            self.pass(usize::MAX, net);
        }
        self.push(net);
        Ok(())
    }

    fn receive(&mut self, max: usize, net: &mut Network) -> CheckResult {
        if self.failed || self.to_target.len() > MAX_WAITING {
            return Ok(());
        }
        let mut buf = vec![0; max.min(100_000)];
        match net.wire.receive(PROXY, &mut buf) {
            SimRecv::Bytes(bytes) => self.handle_bytes(&buf[..bytes], net),
            SimRecv::WouldBlock => Ok(()),
            SimRecv::Eof => {
                self.machine_ended = true;
                Ok(())
            }
            SimRecv::Failed(_) => {
                self.failed = true;
                Ok(())
            }
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8], net: &mut Network) -> CheckResult {
        rule(!self.tls.has_peer_ended(), "nothing follows the machine's close_notify")?;
        let mut data = Vec::new();
        let fault = self.tls.read_tls(bytes, &mut data);
        net.trace.note(PROXY, "decrypts", data.len());
        self.machine_ended |= self.tls.has_peer_ended();
        self.handle_data(data, net)?;
        let Err(fault) = fault else { return Ok(()) };
        net.trace.note(PROXY, "rejects the records", 0);
        let alerted = fault.contains("received fatal alert") && net.corrupted;
        rule(net.corrupted_bytes || alerted, "the proxy accepts the machine's records")?;
        // An alert and FIN follow.
        self.push(net);
        (self.failed, self.ending) = (true, true);
        net.corrupted = true;
        Ok(())
    }

    fn handle_data(&mut self, mut data: Vec<u8>, net: &mut Network) -> CheckResult {
        if !self.is_asked {
            self.head.append(&mut data);
            let Some(end) = self.head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                return Ok(());
            };
            data = self.head.split_off(end + 4);
            rule(self.is_request(), "the proxy is asked for the target")?;
            net.trace.note(PROXY, "is asked", 0);
            self.is_asked = true;
            if !self.answers_early() {
                self.waiting.extend_from_slice(self.answer.bytes);
                self.answer_left = self.answer.bytes.len();
            }
        }
        let may_follow = data.is_empty() || self.has_accepted();
        rule(may_follow, "nothing follows the request before the proxy has accepted")?;
        self.to_target.append(&mut data);
        Ok(())
    }

    /// Returns whether the head is the request for the target, or for one of its addresses.
    fn is_request(&self) -> bool {
        let is_for = |authority: &str| {
            let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            self.head == request.as_bytes()
        };
        match self.setup.resolves_locally {
            true => (0..ADDRESSES).any(|index| is_for(&address(index).to_string())),
            false => is_for(TARGET),
        }
    }

    // ------------------------------------------------------------- to the machine

    /// Encrypts at most `max` bytes in one record, and ends behind them if nothing more comes.
    fn pass(&mut self, max: usize, net: &mut Network) {
        let is_over = self.ended || self.ending || self.failed;
        if is_over || self.tls.is_handshaking() || self.outgoing.len() > MAX_WAITING {
            return;
        }
        let bytes = self.waiting.len().min(max);
        if bytes > 0 {
            net.trace.note(PROXY, "passes", bytes);
            self.tls.write(&self.waiting[..bytes]);
            self.waiting.drain(..bytes);
            let of_answer = bytes.min(self.answer_left);
            self.answer_left -= of_answer;
            self.passed += (bytes - of_answer) as u64;
        }
        if !self.is_asked || self.answer_left > 0 {
            return;
        }
        let is_refused = match self.answer.meaning {
            Meaning::Refuses(_) | Meaning::Malformed => self.setup.ends_after_refusal,
            Meaning::Accepts | Meaning::Unfinished => false,
        };
        let target_ended = self.is_tunnel() && self.target_ended && self.waiting.is_empty();
        if self.setup.fault == ProxyFault::EndsBehindAnswer {
            self.end(net);
        } else if is_refused || target_ended {
            self.end(net);
            self.ending = true;
        }
    }

    /// Sends close_notify, and nothing of what waits.
    fn end(&mut self, net: &mut Network) {
        // During a handshake, there is no close_notify.
        if self.ended || self.ending || self.failed || self.tls.is_handshaking() {
            return;
        }
        net.trace.note(PROXY, "ends its session", 0);
        net.corrupted |= !(self.is_tunnel() && self.target_ended && self.waiting.is_empty());
        self.ended = true;
        self.waiting.clear();
        self.tls.end();
    }

    fn push(&mut self, net: &mut Network) {
        self.tls.write_tls(&mut self.outgoing);
        if net.wire.is_finished(PROXY) {
            // Either the last bytes were sent, or the wire drops all further ones.
            self.outgoing.clear();
        }
        if !self.outgoing.is_empty() {
            match net.send(PROXY, &self.outgoing) {
                SimSend::Bytes(bytes) => drop(self.outgoing.drain(..bytes)),
                SimSend::WouldBlock => {}
                SimSend::Failed(_) => {
                    self.failed = true;
                    self.outgoing.clear();
                }
            }
        }
        if self.ending && self.outgoing.is_empty() {
            net.wire.finish(PROXY);
        }
    }

    fn change_keys(&mut self, net: &mut Network) {
        if self.ended || self.ending || self.failed {
            return;
        }
        self.tls.change_keys();
        self.changes += 1;
        if self.changes > MAX_KEY_CHANGES {
            // The machine may treat this many as an attack.
            (net.corrupted, net.corrupted_bytes) = (true, true);
        }
    }
}

/// The proxy's steps. Without a proxy they do nothing.
impl Network {
    pub(super) fn run_proxy(&mut self, max: usize) -> CheckResult {
        self.with_proxy(|proxy, net| proxy.run(max, net)).unwrap_or(Ok(()))
    }

    pub(super) fn pass_through_proxy(&mut self, max: usize) {
        self.with_proxy(|proxy, net| {
            proxy.pass(max, net);
            proxy.push(net);
        });
    }

    /// Ends the session with the machine; with `keeps`, after all that waits.
    pub(super) fn end_proxy(&mut self, keeps: bool) {
        self.with_proxy(|proxy, net| {
            if keeps {
                proxy.pass(usize::MAX, net);
            }
            proxy.end(net);
            proxy.push(net);
        });
    }

    /// Ends the wire without close_notify.
    pub(super) fn finish_proxy(&mut self) {
        self.with_proxy(|proxy, net| {
            net.corrupted |= !proxy.ended;
            proxy.ending = true;
            proxy.push(net);
        });
    }

    pub(super) fn change_proxy_keys(&mut self) {
        self.with_proxy(|proxy, net| {
            proxy.change_keys(net);
            proxy.push(net);
        });
    }

    /// Puts a new wire and a new connection of the proxy in the place of those that the machine has released.
    pub(super) fn reconnect(&mut self) {
        if let Some(proxy) = &mut self.proxy {
            **proxy = proxy.again();
            self.wire = SimWire::new();
            self.trace.note(PROXY, "is dialled again", 0);
        }
    }

    /// Checks that a connect has the result that the proxy gave it.
    pub(super) fn check_answer(&self, machine: &Machine) -> CheckResult {
        let Some(proxy) = &self.proxy else { return Ok(()) };
        let meaning = proxy.answer.meaning;
        let fits = match machine.opened() {
            Some(Ok(())) => proxy.has_accepted(),
            Some(Err(Fault::Proxy(ProxyReply::Http(status)))) => {
                meaning == Meaning::Refuses(status)
            }
            Some(Err(Fault::Proxy(ProxyReply::Malformed))) => {
                meaning == Meaning::Malformed || proxy.answers_early()
            }
            Some(Err(Fault::Proxy(ProxyReply::Disconnected))) => {
                self.corrupted || proxy.ended || proxy.ending
            }
            Some(Err(Fault::Proxy(_))) => false,
            Some(Err(_)) | None => true,
        };
        rule(fits, "a connect has the result that its proxy gave it")
    }

    fn with_proxy<R>(&mut self, act: impl FnOnce(&mut HttpsProxy, &mut Network) -> R) -> Option<R> {
        let mut proxy = self.proxy.take()?;
        let result = act(&mut proxy, self);
        self.proxy = Some(proxy);
        Some(result)
    }
}

/// The scripted peer's end of the wire, or of the tunnel.
impl Network {
    pub(super) fn peer_send(&mut self, bytes: &[u8]) -> SimSend {
        let Some(proxy) = &mut self.proxy else { return self.send(PROXY, bytes) };
        if !proxy.is_tunnel() {
            return SimSend::WouldBlock;
        }
        if proxy.failed {
            return SimSend::Failed(Fault::Reset(None));
        }
        let accepted = bytes.len().min(MAX_WAITING.saturating_sub(proxy.waiting.len()));
        if accepted == 0 {
            return SimSend::WouldBlock;
        }
        proxy.waiting.extend_from_slice(&bytes[..accepted]);
        self.trace.note(PROXY, "gets from the target", accepted);
        SimSend::Bytes(accepted)
    }

    pub(super) fn peer_receive(&mut self, buf: &mut [u8]) -> SimRecv {
        let Some(proxy) = &mut self.proxy else { return self.wire.receive(PROXY, buf) };
        let bytes = proxy.to_target.len().min(buf.len());
        if !proxy.is_tunnel() {
            SimRecv::WouldBlock
        } else if bytes > 0 {
            buf[..bytes].copy_from_slice(&proxy.to_target[..bytes]);
            proxy.to_target.drain(..bytes);
            SimRecv::Bytes(bytes)
        } else if proxy.failed {
            SimRecv::Failed(Fault::Reset(None))
        } else if proxy.machine_ended {
            SimRecv::Eof
        } else {
            SimRecv::WouldBlock
        }
    }

    pub(super) fn peer_finish(&mut self) {
        match &mut self.proxy {
            None => self.wire.finish(PROXY),
            Some(proxy) => proxy.target_ended = true,
        }
    }

    /// Returns whether what the peer sends from now on is lost. Before it is connected, it waits.
    pub(super) fn is_peer_finished(&self) -> bool {
        let is_over = self.wire.is_finished(PROXY);
        match self.proxy.as_deref() {
            None => is_over,
            Some(proxy) => {
                let is_cut_off = is_over || proxy.ended || proxy.ending;
                proxy.target_ended || proxy.is_tunnel() && is_cut_off
            }
        }
    }

    /// Returns whether the machine has received an end: FIN, or the proxy's close_notify, which stands for it.
    pub(super) fn is_eof_to_machine(&self) -> bool {
        let has_ended = |proxy: &HttpsProxy| proxy.ended && proxy.outgoing.is_empty();
        self.wire.is_eof(0) || self.proxy.as_deref().is_some_and(has_ended)
    }

    /// Returns whether the machine has received the end of its proxy.
    pub(super) fn has_proxy_gone(&self) -> bool {
        // A reset may have dropped the end.
        let has_arrived = self.wire.is_drained(0) && !self.wire.is_reset(0);
        // A close_notify of which a bit has changed may look like the beginning of a longer record.
        let is_told = self.wire.is_eof(0) || !self.corrupted_bytes;
        self.proxy.is_some() && has_arrived && self.is_eof_to_machine() && is_told
    }

    pub(super) fn peer_reset(&mut self) {
        if let Some(proxy) = &mut self.proxy {
            proxy.failed = true;
            proxy.outgoing.clear();
        }
        self.wire.reset(PROXY);
        self.wire.linger(PROXY);
    }
}

/// The number of key updates that rustls accepts.
const MAX_KEY_CHANGES: usize = 16;

/// The maximum that waits in one direction, in bytes.
const MAX_WAITING: usize = 40_000;
