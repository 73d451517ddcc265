//! A machine, the server at its other end, and what is on its way between them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};

use crate::TlsOptions;
use crate::info::Phase;
use crate::machine::{
    Discarded, Endpoints, Fault, Input, Intake, Loan, Machine, Output, Parcel, Plan, ReadStep,
    Received, RecvPass, Release, SendPass, Target, TlsSetup, WriteStep,
};

pub(super) fn plan() -> Plan {
    let mut plan = Plan::new(Target::Address(address()));
    static SETUP: OnceLock<TlsSetup> = OnceLock::new();
    let setup = SETUP.get_or_init(|| {
        if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let options = TlsOptions::new().add_root_pem(site().certificate.pem()).unwrap();
        TlsSetup::new(&options.only_added_roots(), "a.test").unwrap()
    });
    plan.tls = Some(setup.clone());
    plan
}

pub(super) struct Site {
    pub(super) certificate: rcgen::Certificate,
    pub(super) key: KeyPair,
}

pub(super) fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        Site { certificate: params.self_signed(&key).unwrap(), key }
    })
}

pub(super) fn server_config(version: &'static SupportedProtocolVersion) -> ServerConfig {
    let key = PrivateKeyDer::try_from(site().key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![site().certificate.der().clone()], key)
        .unwrap()
}

pub(super) fn address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 1))
}

/// A machine, its server, and what is on its way between them.
pub(super) struct Wire {
    pub(super) machine: Machine,
    pub(super) server: ServerConnection,
    pub(super) random: fastrand::Rng,
    pub(super) now: Instant,
    pub(super) intake: Intake,
    pub(super) to_server: Vec<u8>,
    pub(super) to_client: Vec<u8>,
    pub(super) lent: Option<Parcel>,
    /// The session, while it runs foreign code.
    pub(super) loan: Option<Loan>,
    /// What the machine accepted, and what of it the server has.
    pub(super) written: Vec<u8>,
    pub(super) served: Vec<u8>,
    /// What the server sent, and how much of it was read.
    pub(super) sent_by_server: Vec<u8>,
    pub(super) read: usize,
    pub(super) server_saw_close_notify: bool,
    pub(super) opened: u32,
    pub(super) opened_well: bool,
    pub(super) closed: u32,
    pub(super) released: Option<Release>,
    pub(super) shut: bool,
    pub(super) phase: Phase,
    pub(super) outcome: Option<Result<(), Fault>>,
    /// Something of the handshake was changed on its way.
    pub(super) mangled: bool,
}

impl Wire {
    pub(super) fn new(version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        Wire::of(plan(), version, seed)
    }

    pub(super) fn open(version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        let mut wire = Wire::new(version, seed);
        wire.shake_hands(usize::MAX);
        wire
    }

    pub(super) fn of(plan: Plan, version: &'static SupportedProtocolVersion, seed: u64) -> Self {
        Wire::with(plan, server_config(version), seed)
    }

    pub(super) fn with(mut plan: Plan, config: ServerConfig, seed: u64) -> Self {
        let now = Instant::now();
        if seed % 2 == 1 || std::env::var_os("ALL_FOREIGN").is_some() {
            plan.tls = plan.tls.map(TlsSetup::foreign);
        }
        let mut wire = Wire {
            mangled: false,
            machine: Machine::new(plan, now),
            server: ServerConnection::new(Arc::new(config)).unwrap(),
            random: fastrand::Rng::with_seed(seed),
            now,
            intake: Intake::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
            lent: None,
            loan: None,
            written: Vec::new(),
            served: Vec::new(),
            sent_by_server: Vec::new(),
            read: 0,
            server_saw_close_notify: false,
            opened: 0,
            opened_well: false,
            closed: 0,
            released: None,
            shut: false,
            phase: Phase::Connecting,
            outcome: None,
        };
        let outputs: Vec<_> = wire.machine.start(now).collect();
        let [Output::Attempt { id, .. }] = outputs[..] else { panic!("{outputs:?}") };
        let result = Ok(Endpoints { remote: address(), local: None });
        wire.handle(Input::Attempted { id, result });
        wire
    }

    /// In steps of so many bytes.
    pub(super) fn shake_hands(&mut self, step: usize) {
        for _ in 0..100_000 {
            self.transmit(step);
            self.serve();
            self.deliver(step);
            if self.opened > 0 && self.to_client.is_empty() && !self.server.is_handshaking() {
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

    /// So many bytes each way, in chunks of any size.
    pub(super) fn exchange(&mut self, bytes: usize) {
        self.server.set_buffer_limit(None);
        let load: Vec<u8> = (0..bytes).map(|_| self.random.u8(..)).collect();
        let back: Vec<u8> = (0..bytes).map(|_| self.random.u8(..)).collect();
        let (mut written, mut sent) = (0, 0);
        let mut got = Vec::new();
        let served = self.served.len();
        while self.served.len() < served + bytes || got.len() < bytes {
            let size = 1 + self.random.usize(..40_000).min(1 << self.random.u8(..16));
            match self.random.u8(..6) {
                0 if written < bytes && self.lent.is_none() => {
                    written += self.seal(&load[written..bytes.min(written + size)]);
                }
                1 => self.transmit_or_back(size),
                2 => self.serve(),
                3 => self.deliver(size),
                4 => {
                    let size = size.min(bytes - sent);
                    self.server.writer().write_all(&back[sent..sent + size]).unwrap();
                    sent += size;
                }
                _ => {
                    let mut buf = vec![0; size];
                    let read = self.read_into(&mut buf);
                    got.extend_from_slice(&buf[..read]);
                }
            }
        }
        assert!(self.served[served..] == load, "what was written arrives");
        assert!(got == back, "what was sent is read");
    }

    pub(super) fn handle(&mut self, input: Input<'_>) {
        let outputs = self.machine.handle(input, self.now).collect();
        self.see(outputs);
    }

    pub(super) fn pass(&mut self) -> SendPass {
        match self.machine.write() {
            WriteStep::Seal(pass) => pass,
            step => panic!("{step:?}"),
        }
    }

    /// Seals, and keeps the parcel where one was filled.
    pub(super) fn seal(&mut self, load: &[u8]) -> usize {
        let mut parcel = Parcel::default();
        let pass = match self.machine.write() {
            WriteStep::Seal(pass) => pass,
            WriteStep::Wait | WriteStep::Fail(_) => return 0,
            step @ WriteStep::Send(_) => panic!("{step:?}"),
        };
        let (bytes, outputs) = self.machine.seal(pass, load, &mut parcel, || self.now);
        let outputs = outputs.collect();
        self.see(outputs);
        if !parcel.is_empty() {
            assert!(self.lent.is_none(), "one parcel at a time");
            self.lent = Some(parcel);
        }
        bytes
    }

    pub(super) fn write(&mut self, load: &[u8]) {
        let bytes = self.seal(load);
        self.written.extend_from_slice(&load[..bytes]);
    }

    /// The system takes so much of what was lent.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let mut parcel = self.lent.take().expect("a parcel is out");
        let bytes = parcel.bytes().len().min(bytes);
        // Where TLS has failed nobody counts on what is still being sent.
        let failed = matches!(self.machine.outcome(), Some(Err(_))) || !self.opened_well;
        assert!(bytes == 0 || !self.shut || failed, "nothing follows FIN");
        self.to_server.extend_from_slice(&parcel.bytes()[..bytes]);
        parcel.sent(bytes);
        let outputs = self.machine.transmitted(&mut parcel).collect();
        self.see(outputs);
    }

    pub(super) fn transmit(&mut self, bytes: usize) {
        if let Some(parcel) = self.machine.transmit() {
            assert!(self.lent.is_none() && !parcel.is_empty());
            assert!(self.released.is_none(), "there is no wire any more");
            self.lent = Some(parcel);
            self.give_back(bytes);
        }
    }

    pub(super) fn transmit_or_back(&mut self, bytes: usize) {
        match &self.lent {
            Some(_) => self.give_back(bytes),
            None if self.random.bool() => self.transmit(bytes),
            None => {
                if self.released.is_none() {
                    self.lent = self.machine.transmit();
                }
            }
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

    /// The machine receives so much of what the server sent, where it wants anything.
    pub(super) fn deliver(&mut self, bytes: usize) {
        let mut left = bytes.min(self.to_client.len());
        while left > 0 {
            let Some(pass) = self.machine.attend() else { return };
            let space = self.intake.space();
            let bytes = left.min(space.len());
            space[..bytes].copy_from_slice(&self.to_client[..bytes]);
            self.intake.filled(bytes);
            self.to_client.drain(..bytes);
            left -= bytes;
            match self.machine.lend(pass) {
                Ok(mut loan) => {
                    loan.feed(&mut self.intake);
                    self.restore(loan);
                }
                Err(pass) => {
                    let outputs =
                        self.machine.ingest(pass, &mut self.intake, || self.now).collect();
                    self.see(outputs);
                }
            }
        }
    }

    /// The machine's session receives so much, and is not given back.
    pub(super) fn deliver_and_keep(&mut self, bytes: usize) {
        let bytes = bytes.min(self.to_client.len());
        if bytes == 0 {
            return;
        }
        let Some(pass) = self.machine.attend() else { return };
        let mut loan = match self.machine.lend(pass) {
            Ok(loan) => loan,
            Err(pass) => return self.receive(pass, Received::Nothing),
        };
        let space = self.intake.space();
        let bytes = bytes.min(space.len());
        space[..bytes].copy_from_slice(&self.to_client[..bytes]);
        self.intake.filled(bytes);
        self.to_client.drain(..bytes);
        loan.feed(&mut self.intake);
        assert!(self.machine.is_lent() && self.loan.is_none());
        self.loan = Some(loan);
    }

    pub(super) fn restore(&mut self, loan: Loan) -> Option<Discarded> {
        let (discarded, outputs) = self.machine.restore(loan, self.now);
        let outputs = outputs.collect();
        self.see(outputs);
        discarded
    }

    pub(super) fn receive(&mut self, pass: RecvPass, what: Received) {
        let outputs = self.machine.received(pass, what, self.now).collect();
        self.see(outputs);
    }

    /// Reads what is here already.
    pub(super) fn read_into(&mut self, buf: &mut [u8]) -> usize {
        match self.machine.read() {
            ReadStep::Take(pass) => {
                let (bytes, outputs) = self.machine.take(pass, buf, || self.now);
                let outputs = outputs.collect();
                self.see(outputs);
                assert!(bytes > 0, "there is something to take");
                let end = self.sent_by_server.len().min(self.read + bytes);
                if end > self.read {
                    assert!(self.sent_by_server[self.read..end] == buf[..bytes], "a prefix");
                    self.read = end;
                }
                bytes
            }
            ReadStep::Ingest(pass) | ReadStep::Receive(pass) => {
                self.receive(pass, Received::Nothing);
                0
            }
            ReadStep::Wait | ReadStep::End | ReadStep::Fail(_) => 0,
        }
    }

    pub(super) fn read_some(&mut self, bytes: usize) -> usize {
        self.read_into(&mut vec![0; bytes])
    }

    /// Reads and receives until nothing is left.
    pub(super) fn read_all(&mut self) -> usize {
        let mut all = 0;
        loop {
            match self.read_some(10_000) {
                0 => return all,
                bytes => all += bytes,
            }
        }
    }

    /// The server does all that it can.
    pub(super) fn serve(&mut self) {
        while !self.to_server.is_empty() {
            let mut rest = &self.to_server[..];
            let took = self.server.read_tls(&mut rest).unwrap_or(0);
            self.to_server.drain(..took);
            match self.server.process_new_packets() {
                Ok(state) => self.server_saw_close_notify |= state.peer_has_closed(),
                Err(error) => {
                    let told = matches!(error, rustls::Error::AlertReceived(_));
                    // With a ServerHello that was changed on the way the two have different keys.
                    assert!(
                        told || self.mangled,
                        "the server found fault with the client: {error}"
                    );
                }
            }
            let mut buf = [0; 4096];
            while let Ok(bytes @ 1..) = self.server.reader().read(&mut buf) {
                self.served.extend_from_slice(&buf[..bytes]);
            }
            if took == 0 {
                break;
            }
        }
        while self.server.wants_write() {
            self.server.write_tls(&mut self.to_client).unwrap();
        }
    }

    pub(super) fn see(&mut self, outputs: Vec<Output>) {
        let mut begins = false;
        for output in outputs {
            match output {
                Output::ShutdownWrite => {
                    assert!(!self.shut && self.released.is_none(), "one FIN");
                    let fine = !matches!(self.machine.outcome(), Some(Err(_)))
                        && self.machine.opened() == Some(Ok(()));
                    assert!(!fine || !self.machine.has_unsent(), "what is unsent precedes it");
                    self.shut = true;
                }
                Output::Release(how) => {
                    assert!(self.released.is_none(), "let go of once");
                    self.released = Some(how);
                }
                Output::Attend | Output::Transmit => {}
                Output::Begin => begins = true,
                Output::Opened => self.opened += 1,
                Output::Closed => self.closed += 1,
                Output::Resolve
                | Output::Attempt { .. }
                | Output::Adopt { .. }
                | Output::GiveUp { .. }
                | Output::Abandon
                | Output::Readable
                | Output::Writable => {}
            }
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
        let left_over = self.machine.deadline().is_some_and(|(at, _)| at <= self.now);
        assert!(!left_over, "no due deadline is left over");
        if begins {
            let mut loan = self.machine.lend_to_begin().expect("it is to begin");
            loan.begin();
            assert!(self.restore(loan).is_none());
        }
    }

    pub(super) fn is_over(&mut self) {
        assert_eq!(self.machine.phase(), Phase::Closed);
        assert_eq!((self.opened, self.closed), (1, 1));
        assert!(self.released.is_some());
        assert_eq!(self.machine.deadline(), None);
        assert!(self.machine.transmit().is_none());
    }
}
