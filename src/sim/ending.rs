//! Ends a scenario: unblocks both ends, closes them, and checks the outcome.

use std::time::Duration;

use super::endpoint::{Endpoint, Reader, Writer};
use super::environment::Network;
use super::rules::{CheckResult, rule};
use super::scenario::UserCall;
use super::world::{MAX_EVENTS, MAX_ROUNDS, Remote, World};
use crate::info::Phase;
use crate::machine::Fault;

impl World {
    pub(super) fn finish(&mut self) -> CheckResult {
        if self.peer_stalls {
            self.net.wire.set_window(0, 0);
        } else {
            self.net.wire.set_window(0, usize::MAX);
            self.net.wire.set_window(1, usize::MAX);
            self.unblock_all()?;
            self.close_cleanly()?;
        }
        self.close()
    }

    /// Runs until connects and upgrades are decided.
    fn unblock_all(&mut self) -> CheckResult {
        for _ in 0..MAX_EVENTS {
            self.run_to_quiescence()?;
            let decided = |side: &Endpoint| {
                side.machine.opened().is_some() && !side.machine.is_upgrade_pending()
            };
            if self.all(decided) {
                break;
            }
            // Without a timer or scheduled event, nothing will happen any more.
            let Some(at) = self.next() else { break };
            self.wait_until(at)?;
        }
        self.check_ends()
    }

    /// Closes from the peer's side, and checks that all data arrives in both directions.
    fn close_cleanly(&mut self) -> CheckResult {
        self.each(|side, net| {
            if side.who == 1 || matches!(side.writer, Writer::Waits { .. }) {
                side.abandon_write(net)?;
            }
            Ok(())
        })?;
        self.run_to_quiescence()?;
        match &mut self.remote {
            Remote::Machine(remote) => {
                remote.abandon_write(&mut self.net)?;
                remote.user_call(UserCall::CloseWrite, &mut self.net)?;
            }
            Remote::Scripted(peer) => {
                peer.end(&mut self.net);
                if self.net.corrupted_bytes {
                    // A machine that cannot decipher a proxy's close_notify waits for FIN.
                    self.net.finish_proxy();
                }
            }
        }
        loop {
            let before = self.net.trace.len();
            self.each(|side, net| {
                if matches!(side.reader, Reader::Idle) && !side.read_over {
                    side.read(net)?;
                }
                if side.read_over && side.machine.phase() == Phase::HalfClosed {
                    side.abandon_write(net)?;
                    side.user_call(UserCall::CloseWrite, net)?;
                }
                Ok(())
            })?;
            self.run_to_quiescence()?;
            self.check_ends()?;
            let open = |side: &Endpoint| side.machine.opened() == Some(Ok(()));
            if self.all(|side| side.read_over || !open(side)) {
                break;
            }
            if self.remote_is_missing() {
                // The missing machine sends no EOF.
                return Ok(());
            }
            rule(self.net.trace.len() > before, "a reader ends after the peer's EOF")?;
        }
        self.each(|side, net| {
            side.abandon_write(net)?;
            match side.machine.phase() {
                Phase::HalfClosed => side.user_call(UserCall::CloseWrite, net),
                _ => Ok(()),
            }
        })?;
        self.run_to_quiescence()?;
        self.check_clean()
    }

    /// Returns whether one of two machines did not connect.
    fn remote_is_missing(&self) -> bool {
        let Remote::Machine(remote) = &self.remote else { return false };
        ![&self.local, remote].iter().all(|side| side.machine.opened() == Some(Ok(())))
    }

    /// Checks that everything ended cleanly, if neither the peer nor the wire misbehaved.
    fn check_clean(&mut self) -> CheckResult {
        if self.net.corrupted || self.remote_is_missing() {
            return Ok(());
        }
        self.each(|side, net| {
            let outcome = side.machine.outcome();
            check_refusal(side, net)?;
            let may_fail = side.closed_by_user
                || side.cancelled
                || side.machine.opened() != Some(Ok(()))
                || outcome == Some(Err(Fault::UnreadPlaintext));
            rule(may_fail || side.saw_eof, "without corruption, a reader sees EOF")?;
            rule(
                may_fail || outcome == Some(Ok(())),
                "without corruption, a connection ends cleanly",
            )
        })
    }

    /// Closes both machines, and checks that they end, whatever happened before.
    fn close(&mut self) -> CheckResult {
        let started_at = self.net.now;
        self.each(|side, net| side.user_call(UserCall::Close, net))?;
        for _ in 0..MAX_EVENTS {
            self.run_to_quiescence()?;
            if self.all(Endpoint::is_done) {
                break;
            }
            let Some(at) = self.next() else { break };
            self.wait_until(at)?;
        }
        let took = self.net.now.saturating_duration_since(started_at);
        rule(took <= MAX_CLOSE, "a close takes at most the close timeout")?;
        self.each(drain_and_release)?;
        self.run_to_quiescence()?;
        self.each(|side, net| side.user_call(UserCall::Close, net))?;
        self.each(|side, _| side.model.check_end(&side.machine))?;
        self.check_ends()?;
        self.check_delivery()
    }

    /// Checks that accepted data has arrived, if the outcome is clean and nothing misbehaved.
    fn check_delivery(&mut self) -> CheckResult {
        let Remote::Scripted(peer) = &self.remote else { return Ok(()) };
        let side = &self.local;
        let well = side.machine.outcome() == Some(Ok(())) && side.machine.opened() == Some(Ok(()));
        if !well || self.net.corrupted || self.peer_stalls {
            return Ok(());
        }
        let ends_in_order = self.net.proxy.as_ref().is_none_or(|it| it.has_seen_close_notify());
        rule(ends_in_order, "a proxy sees the close")?;
        rule(peer.received == side.accepted, "accepted data arrives if the outcome is clean")?;
        rule(peer.saw_eof && peer.has_seen_close_notify(), "the peer sees the close")
    }
}

/// Checks that a proxy that accepts opens the socket, if neither it nor the wire misbehaved.
fn check_refusal(side: &Endpoint, net: &Network) -> CheckResult {
    let Some(proxy) = &net.proxy else { return Ok(()) };
    let is_own = matches!(
        side.machine.opened(),
        Some(Err(Fault::Proxy(_) | Fault::Tls | Fault::UnreadPlaintext))
    );
    rule(!is_own || !proxy.is_good(), "a proxy that accepts opens the socket")
}

/// Reads the rest, and returns all permits and buffers.
fn drain_and_release(side: &mut Endpoint, net: &mut Network) -> CheckResult {
    side.abandon_write(net)?;
    if side.lent.is_some() {
        side.transmit(0, net)?;
    }
    for _ in 0..MAX_ROUNDS {
        if let Reader::Idle | Reader::Waits { .. } = side.reader {
            if side.read_over {
                break;
            }
            side.read(net)?;
            rule(
                !matches!(side.reader, Reader::Waits { .. }) || side.background_permit.is_some(),
                "no read waits after the end",
            )?;
        }
        side.receive(usize::from(u16::MAX), false, net)?;
        if !matches!(side.reader, Reader::Idle) {
            side.abandon_read(net)?;
            break;
        }
        if side.background_permit.is_some() {
            side.drive_recv(usize::MAX, net)?;
        }
    }
    match side.background_permit {
        Some(_) => side.drive_recv(usize::MAX, net),
        None => Ok(()),
    }
}

/// The longest close timeout of a scenario.
const MAX_CLOSE: Duration = Duration::from_secs(5);
