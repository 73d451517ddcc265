//! TLS for tests: options that trust a generated authority, and several ways to open a secured connection. Certificates
//! are in `authority`, the other end in `peer`, its configuration in `terms`, and records that no library sends in
//! `forge`.

pub mod authority;
pub mod forge;
pub mod peer;
pub mod server_setup;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Once, OnceLock};
use std::time::Duration;

use sockeye::{
    Connector, Error, ErrorKind, Phase, SecureTransport, Socket, SocketOptions, TlsOptions,
    TlsVersion,
};

pub use authority::{Authority, CertSpec, Identity};
pub use peer::{Accepted, TlsPeer};
pub use server_setup::ServerSetup;

use super::net::TcpListener;
use super::peer::{listen, listen_with_room};
use super::{
    PROMPT, assert_ended_with, assert_fails, at_once, read, read_exactly, spawn_call, with_watchdog,
};

/// The request for TLS that a program sends.
pub const ASK: &[u8] = b"STARTTLS\r\n";
pub const GO: &[u8] = b"GO\r\n";

pub const VERSIONS: [TlsVersion; 2] = [TlsVersion::Tls12, TlsVersion::Tls13];

/// Installs a crypto provider if the crate is built without one.
pub fn provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
        {
            // The call fails if a provider is installed already.
            let _ = rustls::crypto::CryptoProvider::install_default(
                rustls::crypto::ring::default_provider(),
            );
        }
    });
}

// -------------------------------------------------------------------- defaults for most tests

/// Returns the authority of all tests that need no authority of their own.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(Authority::new)
}

/// Returns the settings of a peer with a valid certificate for `localhost` and `good.test`.
pub fn server_config() -> ServerSetup {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| authority().issues(&valid_cert()));
    ServerSetup::new(identity.clone())
}

/// Returns the template of a valid certificate.
pub fn valid_cert() -> CertSpec {
    CertSpec::new(&["localhost", "good.test"])
}

/// Trusts this authority only, and expects a certificate for `localhost`.
pub fn trust_only(authority: &Authority) -> TlsOptions {
    trust_only_names(authority).server_name("localhost")
}

/// Trusts this authority only, and expects a certificate for the dialled host.
pub fn trust_only_names(authority: &Authority) -> TlsOptions {
    provider();
    TlsOptions::new().only_added_roots().add_root_pem(authority.pem()).expect("it is PEM")
}

/// Returns options for TLS from the start with a certificate of this authority for `localhost`.
pub fn options(authority: &Authority) -> SocketOptions {
    with(SecureTransport::On, trust_only(authority))
}

/// Returns options for an upgrade with a certificate of this authority for `localhost`.
pub fn upgradable(authority: &Authority) -> SocketOptions {
    with(SecureTransport::StartTls, trust_only(authority))
}

pub fn with(mode: SecureTransport, tls: TlsOptions) -> SocketOptions {
    SocketOptions::new().secure_transport(mode).tls(tls)
}

// -------------------------------------------------------------------- connections

#[track_caller]
pub fn connect(peer: &TlsPeer, options: SocketOptions) -> Socket {
    sockeye::connect_with(peer.address(), options).expect("the address and the options are valid")
}

/// Opens a socket that is connected to `peer`. If it is secure from the start, the handshake is complete.
#[track_caller]
pub fn open(peer: &TlsPeer, options: SocketOptions) -> Socket {
    let socket = connect(peer, options);
    socket.opened().expect("the peer accepts and is trusted");
    socket
}

/// Returns a connector that resolves names under `.test`: `v6` is `::1`, and every other name is 127.0.0.1.
pub fn connector() -> Connector {
    let resolver = |name: &str| -> std::io::Result<Vec<IpAddr>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_suffix(".test") {
            Some("v6") => Ok(vec![Ipv6Addr::LOCALHOST.into()]),
            Some(_) => Ok(vec![Ipv4Addr::LOCALHOST.into()]),
            None => Err(std::io::ErrorKind::NotFound.into()),
        }
    };
    Connector::builder().resolver(resolver).build().expect("the rules are valid")
}

/// Dials `host` at the peer's port; names under `.test` are resolved.
#[track_caller]
pub fn dial(host: &str, peer: &TlsPeer, options: SocketOptions) -> Socket {
    connector()
        .connect_with(format!("{host}:{}", peer.address().port()), options)
        .expect("the address and the options are valid")
}

// -------------------------------------------------------------------- upgrades

/// Asks the peer for TLS, and expects the answer of [`Accepted::agrees`].
#[track_caller]
pub fn ask(mut socket: &Socket) {
    socket.write_all(ASK).expect("the peer reads");
    assert_eq!(read_exactly(socket, GO.len()).expect("the peer answers"), GO);
}

/// Checks that the old socket of an upgrade is unusable: every call reports the upgrade.
#[track_caller]
pub fn assert_upgraded(old: &Socket) {
    assert!(old.upgraded());
    assert_eq!(old.phase(), Phase::Closed);
    assert_eq!(old.secure_transport(), SecureTransport::StartTls);
    old.closed_timeout(PROMPT).expect("it was upgraded");
    let info = old.opened().expect("it was open");
    assert!(info.tls().is_none() && info.alpn().is_none(), "it was in plaintext");
    assert_eq!(info.timings().handshake, Duration::ZERO);
    for _ in 0..2 {
        assert_fails(read(old, 1), ErrorKind::Upgraded);
        assert_fails(read(old.reader(), 1), ErrorKind::Upgraded);
        assert_fails((&mut &*old).write(b"plain?"), ErrorKind::Upgraded);
        assert_fails(old.writer().write(b"plain?"), ErrorKind::Upgraded);
    }
    assert_fails(old.start_tls(), ErrorKind::InvalidState);
}

/// Checks that both ways to upgrade fail with this kind and change nothing.
#[track_caller]
pub fn assert_refuses_upgrades(socket: &Socket, kind: ErrorKind) {
    let (phase, mode) = (socket.phase(), socket.secure_transport());
    for _ in 0..2 {
        assert_fails(at_once(|| socket.start_tls()), kind);
        assert_fails(at_once(|| socket.start_tls_with(trust_only(authority()))), kind);
    }
    assert!(!socket.upgraded());
    assert_eq!(socket.secure_transport(), mode);
    // The connection may have been made since.
    if !matches!(phase, Phase::Connecting | Phase::Upgrading) {
        assert_eq!(socket.phase(), phase);
    }
}

/// Checks that the handshake of the upgrade fails with one of these kinds, the same for every call. It never falls back
/// to plaintext, and the peer receives none of the written data. The caller has already asked the peer for TLS.
#[track_caller]
pub fn assert_upgrade_fails(peer: TlsPeer, old: &Socket, causes: &[ErrorKind]) {
    let new = old.start_tls().expect("the upgrade may start");
    let (reader, mut writer) = (new.reader(), new.writer());
    let writing = spawn_call(move || writer.write(b"secret"));
    let reading = spawn_call(move || read(reader, 10));
    let cause = new.opened().expect_err("the handshake fails").kind();
    assert!(causes.contains(&cause), "{cause:?}");
    assert_never_opened(&new, cause);
    assert_fails(writing.join_within(PROMPT), cause);
    assert_fails(reading.join_within(PROMPT), cause);
    assert_eq!((new.stats().bytes_read, new.stats().bytes_written), (0, 0));
    assert_upgraded(old);
    at_once(|| new.close()).expect("it had ended");
    let ending = peer.finish();
    assert_eq!(ending.clear(), ASK);
    assert_eq!(ending.bytes, b"");
    assert!(!contains(&ending.wire, b"secret"), "the data was sent in plaintext");
}

/// Checks that the upgrade is refused because of unread plaintext: permanently, for every caller, and without any read
/// of it.
#[track_caller]
pub fn assert_injection_refused(socket: &Socket) {
    let before = socket.stats().bytes_read;
    let error = socket.start_tls().expect_err("plaintext is unread");
    assert_eq!(error.kind(), ErrorKind::UnreadPlaintext, "{error}");
    assert!(!error.is_retryable());
    assert!(!socket.upgraded());
    assert_ended_with(socket, ErrorKind::UnreadPlaintext);
    assert_fails(socket.start_tls(), ErrorKind::UnreadPlaintext);
    socket.opened().expect("it was open");
    socket.close().expect("it had ended");
    assert_fails(socket.closed(), ErrorKind::UnreadPlaintext);
    assert!(!socket.upgraded());
    assert_eq!(socket.stats().bytes_read, before);
}

// -------------------------------------------------------------------- failures

/// Checks a failed handshake with [`gives`] and with `opened`.
#[track_caller]
pub fn assert_never_opened(socket: &Socket, cause: ErrorKind) -> Error {
    let error = socket.opened().expect_err("the handshake fails");
    assert_eq!(error.kind(), cause, "{error}");
    assert!(!error.is_retryable(), "{error}");
    assert!(!error.to_string().contains("panic"), "{error}");
    assert_ended_with(socket, cause);
    error
}

/// Returns the rustls error, which has to be the source.
#[track_caller]
pub fn rustls_error(error: &Error) -> &rustls::Error {
    let source = std::error::Error::source(error);
    let Some(error) = source.and_then(|source| source.downcast_ref()) else {
        panic!("not an error of rustls: {error:?}");
    };
    error
}

/// Checks that the message contains one of these phrases, ignoring case and spaces.
#[track_caller]
pub fn assert_message_contains(error: &Error, words: &[&str]) {
    let bare = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let message = bare(&error.to_string());
    assert!(words.iter().any(|word| message.contains(&bare(word))), "none of {words:?}: {error}");
}

/// Checks whether `whole` contains `part`.
pub fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

// -------------------------------------------------------------------- one test over every kind of connection

/// How a connection was secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    Plain,
    On,
    Upgraded,
}

/// A secured connection: how it was secured, and the version of TLS.
#[derive(Clone, Copy, Debug)]
pub struct TlsCase {
    pub way: Opening,
    pub version: TlsVersion,
}

/// Runs the test over every kind of secured connection. A failure prints the setting's name.
#[track_caller]
pub fn for_each_tls_setup(tell: impl Fn(TlsCase) + Copy + Send + 'static) {
    for way in [Opening::On, Opening::Upgraded] {
        for version in VERSIONS {
            let setting = TlsCase { way, version };
            println!("{setting:?}");
            with_watchdog(move || tell(setting));
        }
    }
}

impl TlsCase {
    pub fn server_config(self) -> ServerSetup {
        server_config().only(self.version)
    }

    pub fn scripted(self, script: impl FnOnce(&mut Accepted) + Send + 'static) -> TlsPeer {
        self.way.on(listen(), &self.server_config(), script)
    }

    /// Starts a peer that only reads.
    pub fn reading(self) -> TlsPeer {
        self.scripted(|_| ())
    }

    /// Starts a peer with a small receive buffer that neither sends nor reads between the handshake and its cue.
    pub fn not_reading(self) -> TlsPeer {
        self.way.on(listen_with_room(4096), &self.server_config(), Accepted::wait_signal)
    }

    #[track_caller]
    pub fn open(self, peer: &TlsPeer, options: SocketOptions) -> Socket {
        self.way.open(peer, options)
    }
}

impl Opening {
    pub fn scripted(self, script: impl FnOnce(&mut Accepted) + Send + 'static) -> TlsPeer {
        self.on(listen(), &server_config(), script)
    }

    pub fn reading(self) -> TlsPeer {
        self.scripted(|_| ())
    }

    /// Starts a peer with a small receive buffer that neither sends nor reads before its cue.
    pub fn not_reading(self) -> TlsPeer {
        self.on(listen_with_room(4096), &server_config(), Accepted::wait_signal)
    }

    /// Starts a peer that does the handshake that this way requires, then runs the script.
    pub fn on(
        self,
        listener: TcpListener,
        setup: &ServerSetup,
        script: impl FnOnce(&mut Accepted) + Send + 'static,
    ) -> TlsPeer {
        TlsPeer::on(listener, setup, move |peer| {
            match self {
                Opening::Plain => {}
                Opening::On => peer.handshake(),
                Opening::Upgraded => {
                    peer.accept_starttls();
                    peer.handshake();
                }
            }
            script(peer);
        })
    }

    /// Opens a socket to such a peer. It replaces the TLS settings of the options.
    #[track_caller]
    pub fn open(self, peer: &TlsPeer, options: SocketOptions) -> Socket {
        self.try_open(peer, options).expect("the peer accepts and is trusted")
    }

    pub fn try_open(self, peer: &TlsPeer, options: SocketOptions) -> Result<Socket, Error> {
        match self {
            Opening::Plain => {
                let socket = connect(peer, options);
                socket.opened().map(|_| socket)
            }
            Opening::On => {
                let tls = trust_only(authority());
                let socket = connect(peer, options.secure_transport(SecureTransport::On).tls(tls));
                socket.opened().map(|_| socket)
            }
            Opening::Upgraded => {
                let tls = trust_only(authority());
                let mode = SecureTransport::StartTls;
                let plain = connect(peer, options.secure_transport(mode).tls(tls));
                ask(&plain);
                let socket = plain.start_tls()?;
                socket.opened().map(|_| socket)
            }
        }
    }
}
