//! Whether a socket uses TLS, and its settings in either role.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::tls::{ServerTlsOptions, TlsOptions, TlsSetup};
use crate::unix::Requested;

/// The TLS settings of a socket in its role.
#[derive(Clone, Debug)]
pub(crate) enum TlsSide {
    Client(TlsOptions),
    Server(ServerTlsOptions),
}

impl TlsSide {
    /// Prepares a handshake. A client verifies the requested host, unless its options have another name.
    pub(crate) fn setup(&self, requested: &Requested) -> Result<TlsSetup> {
        match self {
            TlsSide::Client(tls) => client_setup(tls, requested),
            TlsSide::Server(tls) => TlsSetup::server(tls),
        }
    }

    /// Returns whether dropping the settings may run the program's code.
    pub(crate) fn runs_foreign_code(&self) -> bool {
        match self {
            TlsSide::Client(tls) => tls.runs_foreign_code(),
            TlsSide::Server(tls) => tls.runs_foreign_code(),
        }
    }
}

/// Prepares a handshake of a client with these settings.
pub(crate) fn client_setup(tls: &TlsOptions, requested: &Requested) -> Result<TlsSetup> {
    if requested.is_unix() {
        check_server_name(tls)?;
    }
    TlsSetup::new(tls, requested.as_socket_address().hostname())
}

/// Refuses settings without the name to verify, for a connection that has no host.
pub(super) fn check_server_name(tls: &TlsOptions) -> Result<()> {
    match tls.server_name_override() {
        Some(_) => Ok(()),
        None => Err(Error::invalid_options(
            "server_name is not set: a TLS client over a Unix-domain socket needs the name to verify",
        )),
    }
}

/// Whether and when a connection uses TLS. `FromStr` and `Display` use `off`, `on` and `starttls`.
///
/// ```
/// use sockeye::SecureTransport;
///
/// assert_eq!("starttls".parse::<SecureTransport>()?, SecureTransport::StartTls);
/// assert_eq!(SecureTransport::On.to_string(), "on");
/// # Ok::<(), sockeye::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[doc(alias("secureTransport"))]
pub enum SecureTransport {
    /// Plaintext only.
    #[default]
    Off,
    /// TLS from the start: the connection opens when the handshake is done.
    On,
    /// Plaintext until [`Socket::start_tls`](crate::Socket::start_tls) upgrades the connection.
    StartTls,
}

impl fmt::Display for SecureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl SecureTransport {
    fn name(self) -> &'static str {
        match self {
            SecureTransport::Off => "off",
            SecureTransport::On => "on",
            SecureTransport::StartTls => "starttls",
        }
    }
}

impl FromStr for SecureTransport {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [SecureTransport::Off, SecureTransport::On, SecureTransport::StartTls]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| {
                Error::invalid_options(format!(
                    "secure_transport {text:?} is not off, on or starttls"
                ))
            })
    }
}
