//! The test bench for dialogues with an `https` proxy.

use std::time::{Duration, Instant};

use super::super::https_proxy::{HttpsProxy, route};
use super::super::site::{address, machine_config};
use crate::Proxy;
use crate::machine::{
    Actions, AttemptId, Config, Endpoints, Input, Machine, ReadStep, RecvBuf, RecvEvent, Release,
    UpgradeError,
};

/// A machine and an `https` proxy.
pub(super) struct Bench {
    pub(super) machine: Machine,
    pub(super) proxy: HttpsProxy,
    pub(super) now: Instant,
    pub(super) released: Option<Release>,
    final_records: Vec<u8>,
    /// The number of times that something was left to drop.
    pub(super) discards: usize,
}

impl Bench {
    /// Connects to the proxy. TLS with the target follows if `is_secured`.
    pub(super) fn new(proxy: &Proxy, is_secured: bool) -> Self {
        let mut bench = Bench::unconnected(proxy, is_secured);
        bench.connected(0);
        bench
    }

    pub(super) fn unconnected(proxy: &Proxy, is_secured: bool) -> Self {
        let mut config: Config = machine_config();
        config.connect_timeout = Some(Duration::from_secs(3));
        config.tls = config.tls.filter(|_| is_secured);
        route(&mut config, proxy);
        let now = Instant::now();
        let mut machine = Machine::new(config, now);
        drop(machine.start(now));
        let proxy = HttpsProxy::new(&rustls::version::TLS13, b"");
        Bench { machine, proxy, now, released: None, final_records: Vec::new(), discards: 0 }
    }

    /// Reports that the latest attempt has succeeded.
    pub(super) fn connected(&mut self, id: usize) {
        let id = AttemptId(id);
        let result = Ok(Endpoints::new(address(), None));
        let actions = self.machine.handle(Input::Attempted { id, result }, self.now);
        assert!(actions.attach.is_some());
        self.see(actions);
    }

    /// Exchanges everything with the proxy.
    pub(super) fn ask(&mut self, proxy: HttpsProxy) {
        self.proxy = proxy;
        for _ in 0..6 {
            self.round();
        }
    }

    pub(super) fn round(&mut self) {
        self.transmit();
        self.deliver(b"");
    }

    pub(super) fn transmit(&mut self) {
        while let Some(mut transmit) = self.machine.next_transmit() {
            let passed = self.proxy.pass_up(transmit.bytes());
            assert!(passed.is_empty() || self.machine.opened().is_none());
            transmit.sent(usize::MAX);
            let actions = self.machine.transmit_done(&mut transmit);
            self.see(actions);
        }
    }

    /// Has the proxy send data.
    pub(super) fn deliver(&mut self, data: &[u8]) {
        let bytes = self.proxy.pass_down(data);
        self.deliver_raw(&bytes);
    }

    /// Delivers records as they are.
    pub(super) fn deliver_raw(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(permit) = self.machine.begin_background_recv() else { return };
            let mut recv_buf = RecvBuf::new();
            let space = recv_buf.spare_mut();
            let count = space.len().min(rest.len());
            space[..count].copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            recv_buf.advance(count);
            let actions = match self.machine.lend(permit) {
                Ok(mut loan) => {
                    loan.read_tls(&mut recv_buf);
                    self.machine.restore(loan, self.now).1
                }
                Err(permit) => self.machine.ingest(permit, &mut recv_buf, || self.now),
            };
            self.see(actions);
        }
    }

    pub(super) fn eof(&mut self) {
        let permit = self.machine.begin_background_recv().expect("the machine needs data");
        let actions = self.machine.handle_recv_event(permit, RecvEvent::Eof, self.now);
        self.see(actions);
    }

    pub(super) fn see(&mut self, actions: Actions) {
        if let Some(how) = actions.release {
            self.released = Some(how);
            if actions.transmit {
                self.final_records = self.machine.take_final_records();
            }
        }
        if actions.release.is_some() && self.machine.take_discarded().is_some() {
            self.discards += 1;
        }
        if actions.begin_handshake {
            let mut loan = self.machine.lend_to_begin().expect("a handshake to begin");
            loan.begin_handshake();
            let actions = self.machine.restore(loan, self.now).1;
            self.see(actions);
        }
    }

    /// Delivers the last records to the proxy.
    pub(super) fn pass_final(&mut self) {
        let records = std::mem::take(&mut self.final_records);
        self.proxy.pass_up(&records);
    }

    pub(super) fn read(&mut self) -> Vec<u8> {
        if !self.machine.has_unread() {
            return Vec::new();
        }
        let ReadStep::TakePlaintext(permit) = self.machine.read() else { panic!("not open") };
        let mut buf = [0; 100];
        let (bytes, _) = self.machine.take_plaintext(permit, &mut buf, || self.now);
        buf[..bytes].to_vec()
    }

    /// Completes an upgrade.
    pub(super) fn upgrade(&mut self, preface: &[u8]) {
        let now = self.now;
        if !self.machine.is_upgrade_pending() {
            drop(self.machine.handle(Input::StartTls { accepts_hello: false }, now));
        }
        assert!(self.machine.is_idle_for_upgrade());
        let session = self.machine.take_proxy_session();
        assert!(session.is_some());
        drop(self.machine.handle(Input::UpgradeReady, now));
        assert_eq!(self.machine.upgrade_error(), Some(UpgradeError::Upgraded));
        let config = machine_config();
        let setup = config.tls.clone().unwrap();
        self.machine = Machine::upgraded(&config, &setup, preface, session, None, now);
        let actions = self.machine.start(now);
        assert!(actions.transmit && actions.drive_recv);
        self.see(actions);
    }
}
