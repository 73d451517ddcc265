//! A machine that speaks TLS and its server, in one process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as cryptography;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as cryptography;
use rustls::pki_types::PrivateKeyDer;
use rustls::version::TLS13;
use rustls::{CipherSuite, ServerConfig, ServerConnection};
use sockeye::TlsOptions;
use sockeye::machine::{
    Config, Endpoints, Input, Machine, ReadStep, RecvBuf, RecvEvent, Target, TlsSetup, Transmit,
    WriteStep,
};

pub struct Pair {
    machine: Machine,
    server: ServerConnection,
    now: Instant,
    recv_buf: RecvBuf,
    transmit: Transmit,
    read: Vec<u8>,
}

impl Pair {
    /// Returns a pair after a full handshake.
    pub fn open() -> Self {
        let (setup, config) = settings();
        let now = Instant::now();
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let mut config = Config::new(Target::Address(peer));
        config.tls = Some(setup);
        let mut machine = Machine::new(config, now);
        let id = machine.start(now).attempt.expect("it wants its one address dialled").id;
        let result = Ok(Endpoints::new(peer, None));
        drop(machine.handle(Input::Attempted { id, result }, now));
        let mut server = ServerConnection::new(config).expect("the settings are right");
        server.set_buffer_limit(None);
        let mut pair = Pair {
            machine,
            server,
            now,
            recv_buf: RecvBuf::new(),
            transmit: Transmit::default(),
            read: vec![0; 64 * 1024],
        };
        pair.shake_hands();
        pair
    }

    fn shake_hands(&mut self) {
        while self.machine.opened().is_none() || self.server.is_handshaking() {
            while let Some(mut transmit) = self.machine.next_transmit() {
                let bytes = transmit.bytes().len();
                self.open_by_server(transmit.bytes());
                transmit.sent(bytes);
                drop(self.machine.transmit_done(&mut transmit));
            }
            let mut flight = Vec::new();
            while self.server.wants_write() {
                self.server.write_tls(&mut flight).expect("memory takes everything");
            }
            let mut flight = &flight[..];
            while !flight.is_empty() {
                let permit = self.machine.begin_background_recv().expect("it waits for the server");
                flight = fill(&mut self.recv_buf, flight);
                drop(self.machine.ingest(permit, &mut self.recv_buf, || self.now));
            }
        }
        assert_eq!(self.machine.opened(), Some(Ok(())), "{:?}", self.machine.tls_failure());
    }

    /// Seals the plaintext with the machine and passes the ciphertext to `wire`.
    pub fn send(&mut self, mut plaintext: &[u8], mut wire: impl FnMut(&[u8])) {
        while !plaintext.is_empty() {
            let WriteStep::Seal(permit) = self.machine.write() else { panic!("it is open") };
            let (bytes, actions) =
                self.machine.seal(permit, plaintext, &mut self.transmit, || self.now);
            drop(actions);
            assert!(bytes > 0, "all that was sealed before has left");
            plaintext = &plaintext[bytes..];
            wire(self.transmit.bytes());
            let length = self.transmit.bytes().len();
            self.transmit.sent(length);
            drop(self.machine.transmit_done(&mut self.transmit));
        }
    }

    /// Passes the ciphertext to the machine and reads all of it. Returns the number of plaintext bytes.
    pub fn receive(&mut self, mut ciphertext: &[u8]) -> usize {
        let mut in_all = 0;
        loop {
            match self.machine.read() {
                ReadStep::TakePlaintext(permit) => {
                    let (bytes, actions) =
                        self.machine.take_plaintext(permit, &mut self.read, || self.now);
                    drop(actions);
                    in_all += bytes;
                }
                ReadStep::Ingest(permit) if ciphertext.is_empty() => {
                    drop(self.machine.handle_recv_event(permit, RecvEvent::Cancelled, self.now));
                    return in_all;
                }
                ReadStep::Ingest(permit) => {
                    ciphertext = fill(&mut self.recv_buf, ciphertext);
                    drop(self.machine.ingest(permit, &mut self.recv_buf, || self.now));
                }
                step => panic!("{step:?} over an open connection"),
            }
        }
    }

    pub fn seal_by_server(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.server.writer().write_all(plaintext).expect("it has no limit");
        let mut ciphertext = Vec::with_capacity(plaintext.len() + plaintext.len() / 64);
        while self.server.wants_write() {
            self.server.write_tls(&mut ciphertext).expect("memory takes everything");
        }
        ciphertext
    }

    /// Decrypts with the server. Returns the number of plaintext bytes.
    pub fn open_by_server(&mut self, mut ciphertext: &[u8]) -> usize {
        let mut in_all = 0;
        while !ciphertext.is_empty() {
            self.server.read_tls(&mut ciphertext).expect("it is read from memory");
            self.server.process_new_packets().expect("the machine speaks TLS");
            while let Ok(bytes @ 1..) = self.server.reader().read(&mut self.read) {
                in_all += bytes;
            }
        }
        in_all
    }
}

/// Receives as much as fits, and returns the rest.
fn fill<'a>(recv_buf: &mut RecvBuf, ciphertext: &'a [u8]) -> &'a [u8] {
    let space = recv_buf.spare_mut();
    let (now, later) = ciphertext.split_at(ciphertext.len().min(space.len()));
    space[..now.len()].copy_from_slice(now);
    recv_buf.advance(now.len());
    later
}

/// Returns the settings, which are the same for every connection.
fn settings() -> (TlsSetup, Arc<ServerConfig>) {
    static SETTINGS: OnceLock<(TlsSetup, Arc<ServerConfig>)> = OnceLock::new();
    SETTINGS.get_or_init(make_settings).clone()
}

fn make_settings() -> (TlsSetup, Arc<ServerConfig>) {
    const NAME: &str = "localhost";
    // If the crate is built without a provider, it uses the one that the program installed.
    if cfg!(not(any(feature = "aws-lc-rs", feature = "ring"))) {
        cryptography::default_provider().install_default().ok();
    }
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a name is enough");
    let options = TlsOptions::new()
        .add_root_pem(made.cert.pem())
        .expect("it was made right now")
        .only_added_roots();
    let setup = TlsSetup::new(&options, NAME).expect("the options go together");

    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("it is a key");
    let mut provider = cryptography::default_provider();
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])
        .expect("the suite is of this version")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is the certificate's");
    config.send_tls13_tickets = 0;
    (setup, Arc::new(config))
}
