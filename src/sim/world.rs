//! Runs a scenario: the two ends, the wire between them, virtual time, and one step after another.

use std::time::{Duration, Instant};

use super::endpoint::{Endpoint, Reader, Writer};
use super::environment::Network;
use super::peer::Peer;
use super::rules::{CheckResult, rule};
use super::scenario::{EndId, Scenario, ScenarioKind, Step};
use super::tls;

#[derive(Debug)]
pub(super) struct World {
    pub(super) net: Network,
    pub(super) local: Endpoint,
    pub(super) remote: Remote,
    pub(super) peer_stalls: bool,
    require_close_notify: bool,
}

/// The remote end of the wire.
#[derive(Debug)]
pub(super) enum Remote {
    Machine(Box<Endpoint>),
    Scripted(Box<Peer>),
}

impl World {
    pub(super) fn new(scenario: &Scenario) -> Self {
        tls::seed(scenario.rng_seed);
        let net = Network::new(scenario.proxy);
        let secure = matches!(
            scenario.kind,
            ScenarioKind::Secure | ScenarioKind::Serve | ScenarioKind::Proxied
        );
        let remote = match scenario.kind {
            ScenarioKind::Pair => {
                Remote::Machine(Box::new(Endpoint::new(1, scenario, false, &net)))
            }
            ScenarioKind::Plain
            | ScenarioKind::Secure
            | ScenarioKind::Upgrade
            | ScenarioKind::Serve
            | ScenarioKind::ServeUpgrade
            | ScenarioKind::ToProxy
            | ScenarioKind::Proxied
            | ScenarioKind::ProxiedUpgrade => {
                Remote::Scripted(Box::new(Peer::new(secure, scenario.server)))
            }
        };
        World {
            local: Endpoint::new(0, scenario, secure, &net),
            remote,
            net,
            peer_stalls: scenario.peer_stalls,
            require_close_notify: scenario.server.require_close_notify,
        }
    }

    pub(super) fn run(&mut self, scenario: &Scenario) -> CheckResult {
        self.each(Endpoint::start)?;
        for &step in &scenario.steps {
            let at = self.net.now.saturating_duration_since(self.net.started_at);
            self.net.trace.step(at, step);
            self.run_due_events()?;
            self.step(step)?;
            self.check_ends()?;
        }
        self.finish()
    }

    fn step(&mut self, step: Step) -> CheckResult {
        let (side, net) = self.side(step.who());
        match step {
            Step::Read(_) => side.read(net),
            Step::Receive { max, delayed, .. } => side.receive(max, delayed, net),
            Step::AbandonRead(_) => side.abandon_read(net),
            Step::Write(_) => side.write(net),
            Step::Send { max, delayed, .. } => side.send(max, delayed, net),
            Step::AbandonWrite(_) => side.abandon_write(net),
            Step::Transmit { max, .. } => side.transmit(max, net),
            Step::DriveRecv { max, .. } => side.drive_recv(max, net),
            Step::Monitor(_) => side.monitor(net),
            Step::UserCall(_, command) => side.user_call(command, net),
            Step::Misplaced(_, misplaced) => side.misplaced(misplaced, net),
            Step::CheckWire => self.check_wire(),
            Step::Deliver { from, max } => {
                self.deliver(from, max);
                Ok(())
            }
            Step::Window { from, size } => {
                net.wire.set_window(from, size);
                Ok(())
            }
            Step::Corrupt { from, at, bit } => {
                if side.has_records && net.wire.corrupt(from, at, bit) {
                    (net.corrupted, net.corrupted_bytes) = (true, true);
                }
                Ok(())
            }
            Step::Cut { from, at } => {
                net.wire.cut(from, at);
                (net.corrupted, net.cut) = (true, true);
                Ok(())
            }
            Step::Wait(time) => self.wait_until(self.net.now + time),
            Step::DelayTimer(time) => self.delay_timer(time),
            Step::RunToQuiescence => self.run_to_quiescence(),
            Step::PeerWrite(_)
            | Step::PeerRead(_)
            | Step::PeerEnd
            | Step::PeerHalfClose { .. }
            | Step::PeerReset
            | Step::PeerNewKeys
            | Step::Inject(_) => self.peer_step(step),
            Step::ProxyPass(max) => {
                self.net.pass_through_proxy(max);
                Ok(())
            }
            Step::ProxyEnd { behind } => {
                self.end_proxy(behind);
                Ok(())
            }
            Step::ProxyFin => {
                self.net.finish_proxy();
                Ok(())
            }
            Step::ProxyNewKeys => {
                self.net.change_proxy_keys();
                Ok(())
            }
        }
    }

    fn side(&mut self, who: EndId) -> (&mut Endpoint, &mut Network) {
        match &mut self.remote {
            Remote::Machine(remote) if who == 1 => (remote, &mut self.net),
            Remote::Machine(_) | Remote::Scripted(_) => (&mut self.local, &mut self.net),
        }
    }

    fn peer_step(&mut self, step: Step) -> CheckResult {
        let World { net, local, remote, .. } = self;
        let Remote::Scripted(peer) = remote else { return Ok(()) };
        // The machine uses TLS already, so plaintext of the peer is unexpected.
        let delayed = local.secure && !peer.is_secure();
        match step {
            Step::PeerWrite(bytes) => peer.write(bytes, net),
            Step::PeerEnd => peer.end(net),
            Step::PeerHalfClose { fin } => peer.half_close(fin, net),
            Step::PeerReset => peer.reset(net),
            Step::PeerNewKeys => peer.change_keys(net),
            Step::Inject(bytes) => peer.inject(bytes, net),
            Step::PeerRead(max) => {
                net.run_proxy(max)?;
                return peer.read(max, local.plaintext, net);
            }
            _ => return Ok(()),
        }
        net.corrupted |= delayed;
        net.corrupted_bytes |= delayed;
        Ok(())
    }

    /// Ends the session of the proxy, whatever the target does; behind data of the target, if it is to write any.
    fn end_proxy(&mut self, behind: Option<usize>) {
        let World { net, local, remote, .. } = self;
        if let (Remote::Scripted(peer), Some(bytes)) = (remote, behind) {
            // As in `peer_step`.
            let delayed = local.secure && !peer.is_secure();
            peer.write(bytes, net);
            net.corrupted |= delayed;
            net.corrupted_bytes |= delayed;
        }
        net.end_proxy(behind.is_some());
    }

    /// Lets the upgrading thread check the wire.
    fn check_wire(&mut self) -> CheckResult {
        let World { net, local, remote, .. } = self;
        let (before, read) = (local.secure, local.read);
        local.check_wire(net)?;
        if let (Remote::Scripted(peer), true) = (remote, local.secure && !before) {
            // The peer still sends plaintext. A client that has begun TLS may send its ClientHello.
            let still_sends = match peer.is_secure() || net.proxy.is_some() {
                true => read != peer.plaintext_sent() || net.is_peer_finished(),
                false => {
                    !peer.has_sent_all() || net.wire.in_flight(1) > 0 || net.wire.is_finished(1)
                }
            };
            net.corrupted |= still_sends;
            net.corrupted_bytes |= still_sends;
        }
        Ok(())
    }

    fn deliver(&mut self, from: EndId, max: usize) -> bool {
        let moved = self.net.wire.deliver(from, max);
        if moved {
            // The event loop of the receiving end gets an event.
            match &mut self.remote {
                Remote::Machine(remote) if from == 0 => remote.pending_edge |= remote.is_wired(),
                Remote::Machine(_) | Remote::Scripted(_) if from == 1 => {
                    self.local.pending_edge |= self.local.is_wired();
                }
                Remote::Machine(_) | Remote::Scripted(_) => {}
            }
        }
        self.net.corrupted |= self.net.wire.is_reset(0) || self.net.wire.is_reset(1);
        moved
    }

    // ------------------------------------------------------------- time

    /// Executes scheduled events that are due.
    fn run_due_events(&mut self) -> CheckResult {
        while let Some((who, event)) = self.net.take_due() {
            match (&mut self.remote, who) {
                (Remote::Machine(remote), 1) => remote.on_event(event, &mut self.net)?,
                _ => self.local.on_event(event, &mut self.net)?,
            }
        }
        Ok(())
    }

    /// Returns the time of the next scheduled event or timer.
    pub(super) fn next(&self) -> Option<Instant> {
        let deadline = |side: &Endpoint| side.machine.next_timer().map(|(at, _)| at);
        let remote = match &self.remote {
            Remote::Machine(remote) => deadline(remote),
            Remote::Scripted(_) => None,
        };
        [self.net.next(), deadline(&self.local), remote].into_iter().flatten().min()
    }

    pub(super) fn wait_until(&mut self, until: Instant) -> CheckResult {
        for _ in 0..MAX_EVENTS {
            self.run_due_events()?;
            let now = self.net.now;
            self.each(|side, net| match side.machine.next_timer() {
                Some((at, _)) if at <= now => side.expire_timer(net),
                Some(_) | None => Ok(()),
            })?;
            match self.next() {
                Some(at) if at <= until => self.net.now = self.net.now.max(at),
                Some(_) | None => {
                    self.net.now = until;
                    return Ok(());
                }
            }
        }
        Err("the number of events per wait is bounded")
    }

    /// Lets time pass without reporting timers until the end.
    fn delay_timer(&mut self, time: Duration) -> CheckResult {
        self.net.now += time;
        self.run_due_events()?;
        self.wait_until(self.net.now)
    }

    // ------------------------------------------------------------- quiescence

    /// Runs both ends until nothing more can happen.
    pub(super) fn run_to_quiescence(&mut self) -> CheckResult {
        for _ in 0..MAX_ROUNDS {
            let before = self.net.trace.len();
            self.run_due_events()?;
            let mut moved = false;
            if !self.peer_stalls {
                moved |= self.deliver(0, usize::MAX);
                moved |= self.deliver(1, usize::MAX);
            }
            self.each(make_progress)?;
            self.check_wire()?;
            if let (Remote::Scripted(peer), false) = (&mut self.remote, self.peer_stalls) {
                self.net.run_proxy(usize::MAX)?;
                peer.push(&mut self.net);
                peer.read(usize::MAX, self.local.plaintext, &mut self.net)?;
                self.net.pass_through_proxy(usize::MAX);
            }
            if !moved && self.net.trace.len() == before {
                return self.each(check_stalled);
            }
        }
        Err("without new events, both ends come to rest")
    }

    pub(super) fn each(
        &mut self,
        mut act: impl FnMut(&mut Endpoint, &mut Network) -> CheckResult,
    ) -> CheckResult {
        act(&mut self.local, &mut self.net)?;
        match &mut self.remote {
            Remote::Machine(remote) => act(remote, &mut self.net),
            Remote::Scripted(_) => Ok(()),
        }
    }

    pub(super) fn all(&self, mut is: impl FnMut(&Endpoint) -> bool) -> bool {
        let remote = match &self.remote {
            Remote::Machine(remote) => is(remote),
            Remote::Scripted(_) => true,
        };
        is(&self.local) && remote
    }

    /// Checks that a reader that saw EOF has read everything.
    pub(super) fn check_ends(&mut self) -> CheckResult {
        let World { net, local, remote, require_close_notify, .. } = self;
        net.check_answer(&local.machine)?;
        match remote {
            Remote::Machine(remote) => {
                check_plain_eof(local, remote.accepted, net)?;
                check_plain_eof(remote, local.accepted, net)
            }
            Remote::Scripted(_) if !local.secure && net.proxy.is_some() => {
                check_proxied_eof(local, *require_close_notify, net)
            }
            Remote::Scripted(peer) if !local.secure => {
                check_plain_eof(local, peer.plaintext_sent(), net)
            }
            Remote::Scripted(peer) => {
                if !std::mem::take(&mut local.unverified_eof) || local.cancelled {
                    return Ok(());
                }
                let proved = peer.is_secure() && peer.ended;
                rule(
                    proved || !*require_close_notify && net.is_eof_to_machine(),
                    "an EOF over TLS is the peer's close_notify",
                )?;
                rule(
                    local.read == peer.sent || !*require_close_notify && net.corrupted,
                    "a reader that sees EOF over TLS has read everything",
                )
            }
        }
    }
}

/// Executes everything that one end can do now.
fn make_progress(side: &mut Endpoint, net: &mut Network) -> CheckResult {
    match side.reader {
        Reader::Waits { woken: true } => side.read(net)?,
        Reader::Receives(_) | Reader::Ingests(_) | Reader::Takes(_) => {
            side.receive(usize::from(u16::MAX), false, net)?;
        }
        Reader::Idle | Reader::Waits { woken: false } => {}
    }
    match side.writer {
        Writer::Waits { woken: true } => side.write(net)?,
        Writer::Sends(_) | Writer::Seals { woken: true, .. } => side.send(1000, false, net)?,
        Writer::Idle | Writer::Waits { woken: false } | Writer::Seals { woken: false, .. } => {}
    }
    if side.lent.is_none() || !side.is_wired() || net.wire.can_send(side.who) {
        side.transmit(usize::MAX, net)?;
    }
    side.drive_recv(usize::MAX, net)
}

/// Checks that threads that still wait at quiescence have to wait.
fn check_stalled(side: &mut Endpoint, net: &mut Network) -> CheckResult {
    if matches!(side.reader, Reader::Waits { woken: false }) {
        side.read(net)?;
    }
    if matches!(side.writer, Writer::Waits { woken: false }) {
        side.write(net)?;
    }
    if matches!(side.writer, Writer::Seals { woken: false, .. }) {
        let full = side.lent.is_some() || !side.machine.can_seal();
        rule(full, "a writer that waits for room is woken when there is some")?;
    }
    let waits = side.machine.opened().is_none() && side.is_wired() && !side.machine.has_unsent();
    rule(!waits || !net.has_proxy_gone(), "a connect does not outlast its proxy")
}

/// Checks that a reader that saw EOF in plaintext through an `https` proxy has read all that the proxy has passed on.
fn check_proxied_eof(side: &mut Endpoint, strict: bool, net: &Network) -> CheckResult {
    let Some(proxy) = &net.proxy else { return Ok(()) };
    if !std::mem::take(&mut side.unverified_eof) || side.cancelled {
        return Ok(());
    }
    rule(
        proxy.ended || !strict && net.wire.is_eof(0),
        "an EOF through a proxy is its close_notify",
    )?;
    rule(
        side.read == proxy.passed || !strict && net.corrupted,
        "a reader that sees EOF through a proxy has read everything",
    )
}

fn check_plain_eof(side: &mut Endpoint, written: u64, net: &Network) -> CheckResult {
    if !std::mem::take(&mut side.unverified_eof) || side.cancelled || net.cut {
        return Ok(());
    }
    rule(net.wire.is_eof(side.who), "an EOF is the peer's")?;
    // A client that does not wait sends its ClientHello into the plaintext.
    let may_differ = side.server.serves && net.corrupted_bytes;
    rule(may_differ || side.read == written, "a reader that sees EOF has read everything")
}

/// The maximum number of events of a wait or close.
pub(super) const MAX_EVENTS: usize = 1_000;
/// The maximum number of rounds until both ends rest. A session with foreign code takes three for a receive, which may
/// be of 64 bytes.
pub(super) const MAX_ROUNDS: usize = 100_000;
