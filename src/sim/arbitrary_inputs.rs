//! Applies arbitrary inputs in arbitrary order to one machine, without a wire, peer or driver.
//!
//! Nothing restricts the next input: data may follow EOF, a failure may be reported twice, and an attempt may complete
//! that was never made. Only the rules of the machine itself are checked.

use std::time::{Duration, Instant};

use super::rules::{CheckResult, Expectations, Model, rule};
use super::scenario::{ByteSource, ServerSetup, checksum};
use super::targets::{LookupPart, Names, address};
use super::tls::{self, TlsPeer};
use super::trace::Trace;
use crate::machine::{
    Actions, Attempt, AttemptId, Config, Endpoints, Fault, Input, Machine, ReadStep, RecvBuf,
    RecvEvent, RecvPermit, SendEvent, SendPermit, Transmit, WriteStep,
};

pub(super) struct ArbitraryInputs {
    machine: Machine,
    model: Model,
    pub(super) trace: Trace,
    names: Names,
    server_setting: ServerSetup,
    config: Config,
    secure: bool,
    now: Instant,
    reader: Option<RecvPermit>,
    writer: Option<SendPermit>,
    lent: Option<Transmit>,
    recv_buf: RecvBuf,
    latest: Option<AttemptId>,
    server: Option<TlsPeer>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl ArbitraryInputs {
    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    pub(super) fn new(source: &mut ByteSource<'_>) -> Self {
        let now = Instant::now();
        tls::seed(checksum(source.0));
        let flags = source.byte();
        let server_setting = ServerSetup {
            tls13: flags & 1 == 0,
            short_records: flags & 6 == 6,
            require_close_notify: flags & 24 != 24,
            foreign: false,
            serves: false,
            go_ahead: false,
        };
        let secure = flags & 32 != 0;
        let names = if flags & 64 == 0 { Names::simple() } else { Names::decode(source) };
        let config = Config {
            route: None,
            target: names.target(),
            bind: names.bind_address(),
            egress: names.egress(),
            header_rules: None,
            tls: secure.then(|| tls::setup(server_setting)),
            allow_half_open: flags & 128 != 0,
            connect_timeout: Some(Duration::from_secs(30)),
            connect_deadline: None,
            close_timeout: Duration::from_secs(5),
        };
        ArbitraryInputs {
            machine: Machine::new(config.clone(), now),
            model: Model::new(),
            trace: Trace::default(),
            names,
            server_setting,
            config,
            secure,
            now,
            reader: None,
            writer: None,
            lent: None,
            recv_buf: RecvBuf::new(),
            latest: None,
            server: secure.then(|| TlsPeer::new(server_setting)),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    pub(super) fn run(&mut self, mut source: ByteSource<'_>) -> CheckResult {
        if source.byte() % 8 != 0 {
            self.start()?;
        }
        for _ in 0..MAX_INPUTS {
            if source.0.is_empty() {
                break;
            }
            self.step(&mut source)?;
        }
        self.finish()
    }

    fn step(&mut self, source: &mut ByteSource<'_>) -> CheckResult {
        let fault = Fault::Reset(None);
        match source.byte() % 40 {
            0 => self.answer(source, true),
            1 => self.answer(source, false),
            2 => self.handle(Input::Resolved(Err(Fault::Resolve))),
            3..=5 => self.attempted(source),
            6 => {
                self.now += source.delay();
                self.handle(Input::TimerExpired)?;
                Model::check_timer(&self.machine, self.now)
            }
            7 => self.handle(Input::WireEof),
            8 => self.handle(Input::WireFailed(fault)),
            9 => self.handle(Input::Close),
            10 => self.handle(Input::Abort),
            11 => self.handle(Input::AbortWrite),
            12 => self.handle(Input::CloseWrite),
            13 => self.handle(Input::CancelRead),
            14 => self.handle(Input::StartTls { accepts_hello: false }),
            15 => self.complete_upgrade(),
            16 => self.handle(Input::UnexpectedPlaintext { first: b'2' }),
            17..=19 => self.read(),
            20..=22 => self.write(),
            23 => self.received(RecvEvent::Cancelled),
            24 => self.received(RecvEvent::Eof),
            25 => self.received(RecvEvent::Failed(fault)),
            26 => self.sent(SendEvent::Cancelled),
            27 => self.sent(SendEvent::Failed(fault)),
            28..=30 => {
                let bytes = source.size();
                self.receive_bytes(bytes, None)
            }
            31 => {
                let length = usize::from(source.byte()).min(source.0.len());
                let (raw, rest) = source.0.split_at(length);
                source.0 = rest;
                self.receive_bytes(raw.len(), Some(raw))
            }
            32..=33 => {
                let bytes = source.size();
                self.send_bytes(bytes)
            }
            34..=35 => {
                let bytes = source.size();
                self.transmit(bytes, None)
            }
            36 => self.transmit(0, Some(fault)),
            37 => {
                if self.reader.is_none() {
                    self.reader = self.machine.begin_background_recv();
                }
                Ok(())
            }
            38 => self.serve(source),
            _ => self.start(),
        }
    }

    fn start(&mut self) -> CheckResult {
        let actions = self.machine.start(self.now);
        self.check(actions)
    }

    fn handle(&mut self, input: Input<'_>) -> CheckResult {
        let actions = self.machine.handle(input, self.now);
        self.check(actions)
    }

    fn answer(&mut self, source: &mut ByteSource<'_>, last: bool) -> CheckResult {
        let (mask, first) = (source.byte(), source.byte());
        let addresses = LookupPart { after: Duration::ZERO, mask, first }.addresses();
        match last {
            true => self.handle(Input::Resolved(Ok(&addresses))),
            false => self.handle(Input::PartialResolved(&addresses)),
        }
    }

    fn attempted(&mut self, source: &mut ByteSource<'_>) -> CheckResult {
        let Some(id) = self.latest else { return Ok(()) };
        let remote = address(0);
        let result = match source.byte() % 8 {
            0 => Err(Fault::Connect(111)),
            1 => Err(Fault::Io(24)),
            2 => Ok(Endpoints::new(remote, remote)),
            _ => Ok(Endpoints::new(remote, None)),
        };
        self.handle(Input::Attempted { id, result })
    }

    /// Completes an upgrade like a driver, if no permit is in use.
    fn complete_upgrade(&mut self) -> CheckResult {
        let quiet = self.machine.is_idle_for_upgrade();
        self.handle(Input::UpgradeReady)?;
        if !quiet {
            return Ok(());
        }
        self.model.check_upgraded(&self.machine)?;
        let setup = tls::setup(self.server_setting);
        self.machine = Machine::upgraded(&self.config, &setup, &[], None, None, self.now);
        self.model = Model::upgrading();
        self.secure = true;
        self.server = Some(TlsPeer::new(self.server_setting));
        self.start()
    }

    fn read(&mut self) -> CheckResult {
        match self.machine.read() {
            ReadStep::Recv(permit) | ReadStep::Ingest(permit) | ReadStep::TakePlaintext(permit) => {
                rule(self.reader.is_none(), "at most one receive permit is in use")?;
                rule(self.machine.permits_recv(&permit), "a new permit is valid")?;
                rule(self.model.is_adopted(), "there is a wire to receive from")?;
                self.reader = Some(permit);
            }
            ReadStep::Wait | ReadStep::Eof | ReadStep::Fail(_) => {}
        }
        Ok(())
    }

    fn write(&mut self) -> CheckResult {
        match self.machine.write() {
            WriteStep::Send(permit) | WriteStep::Seal(permit) => {
                rule(self.writer.is_none(), "at most one send permit is in use")?;
                rule(self.machine.permits_send(&permit), "a new permit is valid")?;
                rule(
                    self.model.is_adopted()
                        && !self.model.is_released()
                        && !self.model.is_finished(),
                    "there is a wire to send on",
                )?;
                self.writer = Some(permit);
            }
            WriteStep::Wait | WriteStep::Fail(_) => {}
        }
        Ok(())
    }

    fn received(&mut self, what: RecvEvent) -> CheckResult {
        let Some(permit) = self.reader.take() else { return Ok(()) };
        let actions = self.machine.handle_recv_event(permit, what, self.now);
        self.check(actions)
    }

    fn sent(&mut self, what: SendEvent) -> CheckResult {
        let Some(permit) = self.writer.take() else { return Ok(()) };
        let actions = self.machine.handle_send_event(permit, what);
        self.check(actions)
    }

    /// Receives bytes of the server, or `raw` bytes.
    fn receive_bytes(&mut self, max: usize, raw: Option<&[u8]>) -> CheckResult {
        let Some(permit) = self.reader.take() else { return Ok(()) };
        let before = self.machine.stats().bytes_read;
        if !self.secure {
            let actions = self.machine.handle_recv(permit, max);
            return self.check(actions);
        }
        if self.machine.has_unread() {
            let mut buf = vec![0; max];
            let (bytes, actions) = self.machine.take_plaintext(permit, &mut buf, || self.now);
            let read = self.machine.stats().bytes_read - before;
            rule(read == bytes as u64, "taken bytes are counted")?;
            return self.check(actions);
        }
        let spare = self.recv_buf.spare_mut();
        let bytes = match raw {
            Some(raw) => {
                spare[..raw.len()].copy_from_slice(raw);
                raw.len()
            }
            None => {
                let bytes = max.min(spare.len()).min(self.to_client.len());
                spare[..bytes].copy_from_slice(&self.to_client[..bytes]);
                self.to_client.drain(..bytes);
                bytes
            }
        };
        self.recv_buf.advance(bytes);
        let actions = self.machine.ingest(permit, &mut self.recv_buf, || self.now);
        self.check(actions)
    }

    fn send_bytes(&mut self, bytes: usize) -> CheckResult {
        let Some(permit) = self.writer.take() else { return Ok(()) };
        if !self.secure {
            let actions = self.machine.handle_send(permit, bytes);
            return self.check(actions);
        }
        let mut transmit = Transmit::default();
        let data = vec![0; bytes];
        let (bytes, actions) = self.machine.seal(permit, &data, &mut transmit, || self.now);
        rule(bytes <= MAX_SEND_QUEUE, "accepted bytes are bounded")?;
        if !transmit.is_empty() {
            rule(self.lent.is_none(), "at most one transmit buffer is lent")?;
            self.lent = Some(transmit);
        }
        self.check(actions)
    }

    fn transmit(&mut self, max: usize, fault: Option<Fault>) -> CheckResult {
        let Some(mut transmit) = self.lent.take() else {
            self.lent = self.machine.next_transmit();
            let lent = self.lent.as_ref().map_or(0, |transmit| transmit.bytes().len());
            return rule(lent <= MAX_TRANSMIT, "queued ciphertext is bounded");
        };
        let bytes = transmit.bytes().len().min(max);
        self.to_server.extend_from_slice(&transmit.bytes()[..bytes]);
        transmit.sent(bytes);
        let actions = match fault {
            None => self.machine.transmit_done(&mut transmit),
            Some(fault) => self.machine.transmit_failed(&mut transmit, fault, self.now),
        };
        self.check(actions)
    }

    fn serve(&mut self, source: &mut ByteSource<'_>) -> CheckResult {
        let Some(server) = &mut self.server else { return Ok(()) };
        let fault = server.read_tls(&self.to_server, &mut Vec::new());
        self.to_server.clear();
        if fault.is_ok() && !server.is_handshaking() {
            match source.byte() % 8 {
                0 => server.end(),
                1 => server.change_keys(),
                _ => server.write(&vec![0; source.size()]),
            }
        }
        server.write_tls(&mut self.to_client);
        if fault.is_err() {
            self.server = None;
        }
        Ok(())
    }

    fn check(&mut self, actions: Actions) -> CheckResult {
        self.trace.actions(0, &actions);
        if let Some(Attempt { id, .. }) = actions.attempt {
            self.latest = Some(id);
        }
        let expectations = Expectations {
            tls: self.secure,
            receiving: self.reader.as_ref().map(|permit| self.machine.permits_recv(permit)),
            sending: self.writer.as_ref().map(|permit| self.machine.permits_send(permit)),
            lent: self.lent.is_some(),
        };
        self.model.check(&actions, &self.machine, expectations, &self.names)
    }

    /// Returns all permits and buffers, and closes the machine, which must end it.
    fn finish(&mut self) -> CheckResult {
        self.start()?;
        self.handle(Input::Close)?;
        self.received(RecvEvent::Cancelled)?;
        self.sent(SendEvent::Cancelled)?;
        for _ in 0..10 {
            if self.model.is_released() {
                break;
            }
            self.transmit(usize::MAX, None)?;
        }
        if self.lent.is_some() {
            self.transmit(0, None)?;
        }
        self.handle(Input::Close)?;
        self.model.check_end(&self.machine)
    }
}

const MAX_INPUTS: usize = 2_000;
const MAX_SEND_QUEUE: usize = 64 * 1024;
const MAX_TRANSMIT: usize = MAX_SEND_QUEUE + 16 * 1024;
