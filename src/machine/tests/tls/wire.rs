//! The test bench for TLS tests: a machine, a rustls connection as its peer, and the bytes in transit between them.
//! An `https` proxy may be between them too.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{
    ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::https_proxy::{ACCEPTED, HttpsProxy, proxy, route};
use super::site::{Way, address, client_config, machine_config, role, server_config, way};
use crate::error::Step;
use crate::info::Phase;
use crate::machine::{
    Actions, Attempt, Config, Discarded, Endpoints, Fault, Input, Loan, Machine, ReadStep, RecvBuf,
    RecvEvent, RecvPermit, Release, SendPermit, TlsSetup, Transmit, WriteStep,
};
use crate::tls::Role;

/// A machine, its peer, and the bytes in transit between them.
pub(super) struct Wire {
    pub(super) machine: Machine,
    pub(super) peer: Connection,
    /// The proxy that everything passes.
    pub(super) proxy: Option<HttpsProxy>,
    /// Its records that the machine has not received.
    in_transit: Vec<u8>,
    pub(super) random: fastrand::Rng,
    pub(super) now: Instant,
    pub(super) recv_buf: RecvBuf,
    pub(super) to_peer: Vec<u8>,
    pub(super) to_machine: Vec<u8>,
    pub(super) lent: Option<Transmit>,
    /// The session, while it is lent.
    pub(super) loan: Option<Loan>,
    /// The bytes that the machine accepted, and those that the peer received.
    pub(super) written: Vec<u8>,
    pub(super) served: Vec<u8>,
    /// The bytes that the peer sent, and how many of them were read.
    pub(super) sent_by_peer: Vec<u8>,
    pub(super) read: usize,
    pub(super) peer_saw_close_notify: bool,
    pub(super) opened: u32,
    pub(super) opened_well: bool,
    pub(super) closed: u32,
    pub(super) released: Option<Release>,
    pub(super) shut: bool,
    pub(super) phase: Phase,
    pub(super) outcome: Option<Result<(), Fault>>,
    /// Whether part of the handshake was corrupted in transit.
    pub(super) mangled: bool,
}

impl Wire {
    pub(super) fn new(version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        Wire::of(machine_config(), version, seed)
    }

    pub(super) fn open(version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        let mut wire = Wire::new(version, seed);
        wire.shake_hands(usize::MAX);
        wire
    }

    pub(super) fn of(
        config: Config,
        version: &'static SupportedProtocolVersion,
        seed: u64,
    ) -> Self {
        match role() {
            Role::Client => Wire::with(config, server_config(version), seed),
            Role::Server => Wire::with_client(config, client_config(version), seed),
        }
    }

    pub(super) fn with(config: Config, peer: ServerConfig, seed: u64) -> Self {
        let peer = ServerConnection::new(Arc::new(peer)).unwrap();
        Wire::with_peer(config, Connection::Server(peer), seed)
    }

    pub(super) fn with_client(config: Config, peer: ClientConfig, seed: u64) -> Self {
        let name = ServerName::try_from("a.test").unwrap();
        let peer = ClientConnection::new(Arc::new(peer), name).unwrap();
        Wire::with_peer(config, Connection::Client(peer), seed)
    }

    fn with_peer(mut machine_config: Config, peer: Connection, seed: u64) -> Self {
        let now = Instant::now();
        if seed % 2 == 1 || std::env::var_os("ALL_FOREIGN").is_some() {
            machine_config.tls = machine_config.tls.map(TlsSetup::foreign);
        }
        if way() != Way::Direct {
            route(&mut machine_config, &proxy(seed / 2 % 2 == 1));
        }
        if way() == Way::ToProxy {
            machine_config.tls = None;
        }
        let mut wire = Wire {
            mangled: false,
            machine: Machine::new(machine_config, now),
            peer,
            proxy: None,
            in_transit: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
            now,
            recv_buf: RecvBuf::new(),
            to_peer: Vec::new(),
            to_machine: Vec::new(),
            lent: None,
            loan: None,
            written: Vec::new(),
            served: Vec::new(),
            sent_by_peer: Vec::new(),
            read: 0,
            peer_saw_close_notify: false,
            opened: 0,
            opened_well: false,
            closed: 0,
            released: None,
            shut: false,
            phase: Phase::Connecting,
            outcome: None,
        };
        let actions = wire.machine.start(now);
        let Some(Attempt { id, .. }) = actions.attempt else { panic!("{actions:?}") };
        let result = Ok(Endpoints::new(address(), None));
        wire.handle(Input::Attempted { id, result });
        if way() != Way::Direct {
            let version =
                if seed % 3 == 0 { &rustls::version::TLS12 } else { &rustls::version::TLS13 };
            wire.pass_proxy(HttpsProxy::new(version, ACCEPTED));
            assert_eq!(
                wire.machine.step(),
                Some(Step::Handshake).filter(|_| way() == Way::Proxied)
            );
        }
        if let (Way::ToProxy, Some(proxy)) = (way(), wire.proxy.take_if(|_| way() == Way::ToProxy))
        {
            wire.peer = Connection::Server(proxy.connection);
        }
        wire
    }

    /// Continues until the proxy has answered, and passes everything through it from then on.
    pub(super) fn pass_proxy(&mut self, proxy: HttpsProxy) {
        self.proxy = Some(proxy);
        for _ in 0..100 {
            if self.machine.step() != Some(Step::Proxy) {
                return;
            }
            self.transmit(usize::MAX);
            self.in_transit.extend(self.proxy.as_mut().expect("it is set").pass_down(&[]));
            self.deliver(0);
        }
        panic!("the proxy does not answer");
    }

    /// Delivers bytes to the peer, or to the proxy, which passes them on.
    pub(super) fn pass(&mut self, bytes: &[u8]) {
        match &mut self.proxy {
            None => self.to_peer.extend_from_slice(bytes),
            Some(proxy) => self.to_peer.extend(proxy.pass_up(bytes)),
        }
    }

    /// Delivers what the proxy has to send by itself.
    pub(super) fn deliver_from_proxy(&mut self) {
        let bytes = self.proxy.as_mut().map(|proxy| proxy.pass_down(&[])).unwrap_or_default();
        self.deliver_raw(&bytes);
    }

    /// Delivers bytes as they are, past the proxy.
    pub(super) fn deliver_raw(&mut self, bytes: &[u8]) {
        self.in_transit.extend_from_slice(bytes);
        self.deliver(0);
    }

    /// Takes the next bytes of the peer out of transit, as the machine receives them.
    fn next_in_transit(&mut self, bytes: usize) {
        let bytes: Vec<u8> = self.to_machine.drain(..bytes).collect();
        match &mut self.proxy {
            None => self.in_transit.extend(bytes),
            Some(proxy) => self.in_transit.extend(proxy.pass_down(&bytes)),
        }
    }

    /// Fills the receive buffer with what is in transit.
    fn fill_recv_buf(&mut self) {
        let space = self.recv_buf.spare_mut();
        let bytes = self.in_transit.len().min(space.len());
        space[..bytes].copy_from_slice(&self.in_transit[..bytes]);
        self.recv_buf.advance(bytes);
        self.in_transit.drain(..bytes);
    }

    /// Completes the handshake in steps of `step` bytes.
    pub(super) fn shake_hands(&mut self, step: usize) {
        for _ in 0..100_000 {
            self.transmit(step);
            self.serve();
            self.deliver(step);
            if self.opened > 0 && self.to_machine.is_empty() && !self.peer.is_handshaking() {
                break;
            }
        }
        assert_eq!(self.machine.opened(), Some(Ok(())), "{:?}", self.machine.tls_failure());
        assert_eq!(self.machine.phase(), Phase::Open);
        while self.machine.has_unsent() {
            self.transmit(step);
        }
        self.serve();
        self.deliver(usize::MAX);
    }

    /// Sends `bytes` bytes in each direction, in chunks of any size.
    pub(super) fn exchange(&mut self, bytes: usize) {
        self.peer.set_buffer_limit(None);
        let bytes_to_seal: Vec<u8> = (0..bytes).map(|_| self.random.u8(..)).collect();
        let back: Vec<u8> = (0..bytes).map(|_| self.random.u8(..)).collect();
        let (mut written, mut sent) = (0, 0);
        let mut got = Vec::new();
        let served = self.served.len();
        while self.served.len() < served + bytes || got.len() < bytes {
            let size = 1 + self.random.usize(..40_000).min(1 << self.random.u8(..16));
            match self.random.u8(..6) {
                0 if written < bytes && self.lent.is_none() => {
                    written += self.seal(&bytes_to_seal[written..bytes.min(written + size)]);
                }
                1 => self.transmit_or_back(size),
                2 => self.serve(),
                3 => self.deliver(size),
                4 => {
                    let size = size.min(bytes - sent);
                    self.peer.writer().write_all(&back[sent..sent + size]).unwrap();
                    sent += size;
                }
                _ => {
                    let mut buf = vec![0; size];
                    let read = self.read_into(&mut buf);
                    got.extend_from_slice(&buf[..read]);
                }
            }
        }
        assert!(self.served[served..] == bytes_to_seal, "the peer receives the written data");
        assert!(got == back, "the machine reads the peer's data");
    }

    pub(super) fn handle(&mut self, input: Input<'_>) {
        let actions = self.machine.handle(input, self.now);
        self.see(actions);
    }

    pub(super) fn permit(&mut self) -> SendPermit {
        match self.machine.write() {
            WriteStep::Seal(permit) => permit,
            step => panic!("{step:?}"),
        }
    }

    /// Seals data, and keeps the transmit buffer if it was filled.
    pub(super) fn seal(&mut self, bytes_to_seal: &[u8]) -> usize {
        let mut transmit = Transmit::default();
        let permit = match self.machine.write() {
            WriteStep::Seal(permit) => permit,
            WriteStep::Wait | WriteStep::Fail(_) => return 0,
            step @ WriteStep::Send(_) => panic!("{step:?}"),
        };
        let (bytes, actions) = self.machine.seal(permit, bytes_to_seal, &mut transmit, || self.now);
        self.see(actions);
        if !transmit.is_empty() {
            assert!(self.lent.is_none(), "one transmit buffer at a time");
            self.lent = Some(transmit);
        }
        bytes
    }

    pub(super) fn write(&mut self, bytes_to_seal: &[u8]) {
        let bytes = self.seal(bytes_to_seal);
        self.written.extend_from_slice(&bytes_to_seal[..bytes]);
    }

    /// Returns the transmit buffer after the kernel accepted at most `bytes` bytes of it. Returns how many it accepted.
    pub(super) fn give_back(&mut self, bytes: usize) -> usize {
        let mut transmit = self.lent.take().expect("a transmit buffer is lent");
        let bytes = transmit.bytes().len().min(bytes);
        // After a TLS failure, bytes may still be sent.
        let failed = matches!(self.machine.outcome(), Some(Err(_))) || !self.opened_well;
        assert!(bytes == 0 || !self.shut || failed, "nothing follows FIN");
        self.pass(&transmit.bytes()[..bytes]);
        transmit.sent(bytes);
        let actions = self.machine.transmit_done(&mut transmit);
        self.see(actions);
        bytes
    }

    pub(super) fn transmit(&mut self, bytes: usize) {
        if let Some(transmit) = self.machine.next_transmit() {
            assert!(self.lent.is_none() && !transmit.is_empty());
            assert!(self.released.is_none(), "the wire is released");
            self.lent = Some(transmit);
            self.give_back(bytes);
        }
    }

    pub(super) fn transmit_or_back(&mut self, bytes: usize) {
        match &self.lent {
            Some(_) => {
                self.give_back(bytes);
            }
            // A wire that was released sends only the final records.
            None if self.released.is_some() => {}
            None if self.random.bool() => self.transmit(bytes),
            None => self.lent = self.machine.next_transmit(),
        }
    }

    pub(super) fn drain(&mut self) {
        while self.machine.has_unsent() {
            if self.lent.is_some() {
                self.give_back(usize::MAX);
            }
            self.transmit(usize::MAX);
        }
        self.serve();
    }

    /// Delivers the last records of a machine that has ended.
    pub(super) fn pass_final_records(&mut self) {
        let records = self.machine.take_final_records();
        self.pass(&records);
    }

    /// Delivers up to `bytes` bytes of the peer's output, if the machine needs data.
    pub(super) fn deliver(&mut self, bytes: usize) {
        let mut left = bytes.min(self.to_machine.len());
        while left > 0 || !self.in_transit.is_empty() {
            let Some(permit) = self.machine.begin_background_recv() else { return };
            if self.in_transit.is_empty() {
                let bytes = left.min(self.recv_buf.spare_mut().len());
                self.next_in_transit(bytes);
                left -= bytes;
            }
            self.fill_recv_buf();
            match self.machine.lend(permit) {
                Ok(mut loan) => {
                    loan.read_tls(&mut self.recv_buf);
                    self.restore(loan);
                }
                Err(permit) => {
                    let actions = self.machine.ingest(permit, &mut self.recv_buf, || self.now);
                    self.see(actions);
                }
            }
        }
    }

    /// Delivers up to `bytes` bytes to the machine's session, and keeps the session.
    pub(super) fn deliver_and_keep(&mut self, bytes: usize) {
        let bytes = bytes.min(self.to_machine.len());
        if bytes == 0 {
            return;
        }
        let Some(permit) = self.machine.begin_background_recv() else { return };
        let mut loan = match self.machine.lend(permit) {
            Ok(loan) => loan,
            Err(permit) => return self.receive(permit, RecvEvent::Cancelled),
        };
        let bytes = bytes.min(self.recv_buf.spare_mut().len());
        self.next_in_transit(bytes);
        self.fill_recv_buf();
        loan.read_tls(&mut self.recv_buf);
        assert!(self.machine.is_lent() && self.loan.is_none());
        self.loan = Some(loan);
    }

    pub(super) fn restore(&mut self, loan: Loan) -> Option<Discarded> {
        let (discarded, actions) = self.machine.restore(loan, self.now);
        self.see(actions);
        discarded
    }

    pub(super) fn receive(&mut self, permit: RecvPermit, what: RecvEvent) {
        let actions = self.machine.handle_recv_event(permit, what, self.now);
        self.see(actions);
    }

    /// Reads available data.
    pub(super) fn read_into(&mut self, buf: &mut [u8]) -> usize {
        match self.machine.read() {
            ReadStep::TakePlaintext(permit) => {
                let (bytes, actions) = self.machine.take_plaintext(permit, buf, || self.now);
                self.see(actions);
                assert!(bytes > 0, "a permit to take data means that there is some");
                let end = self.sent_by_peer.len().min(self.read + bytes);
                if end > self.read {
                    assert!(self.sent_by_peer[self.read..end] == buf[..bytes], "a prefix");
                    self.read = end;
                }
                bytes
            }
            ReadStep::Ingest(permit) | ReadStep::Recv(permit) => {
                self.receive(permit, RecvEvent::Cancelled);
                0
            }
            ReadStep::Wait | ReadStep::Eof | ReadStep::Fail(_) => 0,
        }
    }

    pub(super) fn read_some(&mut self, bytes: usize) -> usize {
        self.read_into(&mut vec![0; bytes])
    }

    /// Reads until no data is available.
    pub(super) fn read_all(&mut self) -> usize {
        let mut all = 0;
        loop {
            match self.read_some(10_000) {
                0 => return all,
                bytes => all += bytes,
            }
        }
    }

    /// Lets the peer process its input and send its output.
    pub(super) fn serve(&mut self) {
        while !self.to_peer.is_empty() {
            let mut rest = &self.to_peer[..];
            let took = self.peer.read_tls(&mut rest).unwrap_or(0);
            self.to_peer.drain(..took);
            match self.peer.process_new_packets() {
                Ok(state) => self.peer_saw_close_notify |= state.peer_has_closed(),
                Err(error) => {
                    let actions = matches!(error, rustls::Error::AlertReceived(_));
                    // After a corrupted ServerHello, the two sides have different keys.
                    assert!(
                        actions || self.mangled,
                        "the peer rejects the machine's records: {error}"
                    );
                }
            }
            let mut buf = [0; 4096];
            while let Ok(bytes @ 1..) = self.peer.reader().read(&mut buf) {
                self.served.extend_from_slice(&buf[..bytes]);
            }
            if took == 0 {
                break;
            }
        }
        while self.peer.wants_write() {
            self.peer.write_tls(&mut self.to_machine).unwrap();
        }
    }

    pub(super) fn see(&mut self, actions: Actions) {
        self.opened += u32::from(actions.wake.opened);
        self.closed += u32::from(actions.wake.closed);
        if actions.shutdown_write {
            assert!(!self.shut && self.released.is_none(), "one FIN");
            let fine = !matches!(self.machine.outcome(), Some(Err(_)))
                && self.machine.opened() == Some(Ok(()));
            assert!(!fine || !self.machine.has_unsent(), "unsent data precedes the FIN");
            self.shut = true;
        }
        if let Some(how) = actions.release {
            assert!(self.released.is_none(), "released once");
            self.released = Some(how);
        }
        let phase = self.machine.phase();
        assert!(phase >= self.phase, "phases only advance");
        self.phase = phase;
        assert!(self.opened <= 1 && self.closed <= 1);
        assert_eq!(self.opened > 0, self.machine.opened().is_some());
        self.opened_well |= self.machine.opened() == Some(Ok(()));
        assert_eq!(self.closed > 0, self.machine.outcome().is_some());
        assert_eq!(self.closed > 0, phase == Phase::Closed);
        if self.outcome.is_some() {
            assert_eq!(self.machine.outcome(), self.outcome, "the first outcome stays");
        }
        self.outcome = self.machine.outcome();
        let left_over = self.machine.next_timer().is_some_and(|(at, _)| at <= self.now);
        assert!(!left_over, "no expired timer is left");
        if actions.begin_handshake {
            let mut loan = self.machine.lend_to_begin().expect("a handshake to begin");
            loan.begin_handshake();
            assert!(self.restore(loan).is_none());
        }
    }

    pub(super) fn is_over(&mut self) {
        assert_eq!(self.machine.phase(), Phase::Closed);
        assert_eq!((self.opened, self.closed), (1, 1));
        assert!(self.released.is_some());
        assert_eq!(self.machine.next_timer(), None);
        assert!(self.machine.next_transmit().is_none());
    }
}
