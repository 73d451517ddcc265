//! What a server does with its connections, in plaintext and over TLS.

/// The server's treatment of each connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Sends the received bytes back, and closes after the client's EOF.
    Echo,
    /// Like `Echo`, but so late that every client has to wait for every reply.
    LateEcho,
    /// Like `Echo`, but never closes, so that only the client itself can end its wait.
    OpenEcho,
    /// Reads and drops the bytes.
    Sink,
    /// Sends endlessly.
    Source,
    /// Closes at once. It has several addresses, so that ports in TIME_WAIT do not run out.
    Close,
    /// Keeps the connection open and does nothing.
    Hold,
    /// `Echo` on its first address, `Hold` on the others.
    EchoAndHold,
    /// Speaks TLS.
    Secure(SecureService),
}

impl Service {
    const ALL: [Self; 14] = [
        Self::Echo,
        Self::LateEcho,
        Self::OpenEcho,
        Self::Sink,
        Self::Source,
        Self::Close,
        Self::Hold,
        Self::EchoAndHold,
        Self::Secure(SecureService::Echo),
        Self::Secure(SecureService::Sink),
        Self::Secure(SecureService::Source),
        Self::Secure(SecureService::SinkAndSource),
        Self::Secure(SecureService::Close),
        Self::Secure(SecureService::EchoThenHold),
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::LateEcho => "late-echo",
            Self::OpenEcho => "open-echo",
            Self::Sink => "sink",
            Self::Source => "source",
            Self::Close => "close",
            Self::Hold => "hold",
            Self::EchoAndHold => "echo-and-hold",
            Self::Secure(service) => service.name(),
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// The server's treatment of each connection after the handshake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SecureService {
    /// Sends the received bytes back.
    Echo,
    /// Reads and drops the bytes.
    Sink,
    /// Sends endlessly.
    Source,
    /// Reads and drops bytes, and sends endlessly at the same time.
    SinkAndSource,
    /// Waits for the client's EOF and closes.
    Close,
    /// Sends the first bytes back, then keeps the connection open and does nothing.
    EchoThenHold,
}

impl SecureService {
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "tls-echo",
            Self::Sink => "tls-sink",
            Self::Source => "tls-source",
            Self::SinkAndSource => "tls-sink-and-source",
            Self::Close => "tls-close",
            Self::EchoThenHold => "tls-echo-then-hold",
        }
    }
}
