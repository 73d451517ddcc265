//! Upgrades of a simulated endpoint: its driver checks the wire, and another machine takes the connection over.

use super::endpoint::{Endpoint, Reader, Writer, plan};
use super::environment::Network;
use super::rules::{CheckResult, Model, rule};
use super::tls;
use super::wire::SimRecv;
use crate::info::Phase;
use crate::machine::{Fault, Input, Machine};

/// The go-ahead of a machine that is the server.
pub(super) const GO_AHEAD: &[u8] = b"220 go\r\n";
/// The content type of a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

impl Endpoint {
    /// Starts an upgrade like the driver, which first ensures that no write is in progress.
    pub(super) fn start_tls(&mut self, net: &mut Network) -> CheckResult {
        let free = matches!(self.writer, Writer::Idle | Writer::Waits { .. });
        let refused = self.machine.upgrade_error().is_some();
        let opened = self.machine.phase() == Phase::Open;
        let was_yielding = self.machine.is_upgrade_pending();
        let accepts_hello = self.accepts_hello();
        self.handle(Input::StartTls { accepts_hello }, net)?;
        let begins = free && !refused && opened;
        rule(
            self.machine.is_upgrade_pending() == (begins || was_yielding),
            "an upgrade begins if nothing prevents it",
        )?;
        if begins {
            self.plaintext = Some(self.accepted);
        }
        Ok(())
    }

    /// Checks the wire before an upgrade, if no permit is in use.
    pub(super) fn check_wire(&mut self, net: &mut Network) -> CheckResult {
        if !self.machine.is_idle_for_upgrade() {
            return Ok(());
        }
        rule(self.plaintext == Some(self.accepted), "nothing is written during an upgrade")?;
        if self.has_records {
            return self.check_decrypted(net);
        }
        match net.wire.peek(self.who) {
            SimRecv::Bytes(_) => {
                let first = net.wire.first_unread(self.who);
                self.handle(Input::UnexpectedPlaintext { first }, net)?;
                if self.accepts_hello() && first == HANDSHAKE_RECORD {
                    rule(self.machine.is_upgrade_pending(), "a server takes a ClientHello")?;
                    return self.complete_upgrade(net);
                }
                rule(
                    self.machine.outcome() == Some(Err(Fault::UnreadPlaintext)),
                    "unread plaintext ends an upgrade",
                )
            }
            SimRecv::Eof => self.handle(Input::WireEof, net),
            SimRecv::Failed(fault) => self.handle(Input::WireFailed(fault), net),
            SimRecv::WouldBlock => self.complete_upgrade(net),
        }
    }

    /// Decrypts what a proxy has sent, and checks that nothing of it is the peer's.
    fn check_decrypted(&mut self, net: &mut Network) -> CheckResult {
        while self.machine.is_upgrade_pending() && self.ingest_once(net)? {}
        if !self.machine.is_upgrade_pending() {
            return Ok(());
        }
        match self.machine.first_unread() {
            Some(first) => {
                self.handle(Input::UnexpectedPlaintext { first }, net)?;
                rule(
                    self.machine.outcome() == Some(Err(Fault::UnreadPlaintext)),
                    "unread plaintext ends an upgrade",
                )
            }
            // Otherwise something is being sent, which goes first.
            None if self.machine.is_idle_for_upgrade() => self.complete_upgrade(net),
            None => Ok(()),
        }
    }

    /// Returns whether bytes that are unread before the upgrade may be a ClientHello.
    fn accepts_hello(&self) -> bool {
        self.server.serves && !self.server.go_ahead
    }

    fn complete_upgrade(&mut self, net: &mut Network) -> CheckResult {
        let plaintext = self.plaintext;
        let session = self.machine.take_proxy_session();
        rule(session.is_some() == self.has_records, "the session with a proxy is passed on")?;
        self.handle(Input::UpgradeReady, net)?;
        self.plaintext = plaintext;
        self.model.check_upgraded(&self.machine)?;
        let limit = self.setting.connect_timeout;
        let deadline = limit.and_then(|limit| net.now.checked_add(limit));
        let setup = tls::setup(self.server);
        let preface = if self.server.serves && self.server.go_ahead { GO_AHEAD } else { &[] };
        let plan = plan(&self.setting);
        self.machine = Machine::upgraded(&plan, &setup, preface, session, deadline, net.now);
        self.model = Model::upgrading();
        (self.secure, self.has_records) = (true, true);
        (self.read, self.accepted) = (0, 0);
        // Waiting threads ask the new machine.
        (self.reader, self.writer) = (Reader::Idle, Writer::Idle);
        (self.read_over, self.write_over) = (false, false);
        self.start(net)
    }
}
