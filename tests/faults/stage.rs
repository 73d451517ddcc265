//! The phases in which a fault may strike, and how to reach them.

use std::time::{Duration, Instant};

use sockeye::{ErrorKind, SecureTransport, Socket, SocketOptions};

use crate::judge::{BlockedCalls, fails_not, told_ever_after};
use crate::remote::Remote;
use crate::support::tls::ask;
use crate::support::{PROMPT, WATCHDOG, assert_fails, read, small_send_buffer};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketPhase {
    /// The peer has received the ClientHello of a socket that is secure from the start, and does not answer.
    Handshake,
    Open,
    OpenTls,
    /// Like `Handshake`, after `start_tls`.
    Upgrading,
    /// The peer has closed its side; this side can still write.
    PeerEnded,
    PeerEndedTls,
    /// This side has closed its side, and the peer has seen the EOF.
    Finished,
    FinishedTls,
}

use SocketPhase::{
    Finished, FinishedTls, Handshake, Open, OpenTls, PeerEnded, PeerEndedTls, Upgrading,
};

impl SocketPhase {
    pub const ALL: [SocketPhase; 8] =
        [Handshake, Open, OpenTls, Upgrading, PeerEnded, PeerEndedTls, Finished, FinishedTls];

    pub fn name(self) -> &'static str {
        match self {
            Handshake => "handshake",
            Open => "open",
            OpenTls => "open-tls",
            Upgrading => "upgrading",
            PeerEnded => "peer-ended",
            PeerEndedTls => "peer-ended-tls",
            Finished => "finished",
            FinishedTls => "finished-tls",
        }
    }

    pub fn named(name: &str) -> Option<SocketPhase> {
        SocketPhase::ALL.into_iter().find(|stage| stage.name() == name)
    }

    /// Checks if the socket has yet to open in this stage.
    pub fn is_opening(self) -> bool {
        matches!(self, Handshake | Upgrading)
    }

    pub fn reads(self) -> bool {
        !matches!(self, PeerEnded | PeerEndedTls)
    }

    pub fn writes(self) -> bool {
        !matches!(self, Finished | FinishedTls)
    }

    fn mode(self) -> SecureTransport {
        match self {
            Open | PeerEnded | Finished => SecureTransport::Off,
            Handshake | OpenTls | PeerEndedTls | FinishedTls => SecureTransport::On,
            Upgrading => SecureTransport::StartTls,
        }
    }

    /// Connects a socket and brings it to this stage. Its send buffer is small, and its peer neither reads nor sends.
    pub fn reach(self, peer: &mut Remote, options: SocketOptions) -> Socket {
        let options = options.allow_half_open(!self.reads());
        let options = match self.mode() {
            SecureTransport::Off => options,
            mode => peer.secured(options, mode),
        };
        peer.accept(self);
        let socket = sockeye::connect_with(peer.address(), options).expect("the options are fine");
        let socket = match self {
            Handshake => socket,
            Upgrading => {
                ask(&socket);
                let secured = socket.start_tls().expect("nothing is unread");
                fails_not(socket.closed_timeout(PROMPT));
                secured
            }
            Open | OpenTls | PeerEnded | PeerEndedTls | Finished | FinishedTls => {
                socket.opened_timeout(WATCHDOG).expect("the peer is there and trusted");
                socket
            }
        };
        if !self.writes() {
            socket.writer().close().expect("the peer reads");
        }
        peer.is_ready();
        if !self.reads() {
            assert_eq!(read(&socket, 1).expect("a clean end"), b"");
        }
        socket
    }

    /// Starts every call that can block in this stage.
    pub fn waiters(self, socket: &Socket) -> BlockedCalls {
        let mut waiters = BlockedCalls::default();
        if self.is_opening() {
            waiters = waiters.opened(socket);
        }
        if self.reads() {
            waiters = waiters.read(socket);
        }
        if self.writes() {
            waiters = waiters.write(socket);
        }
        waiters.closed(socket)
    }

    /// Checks that later calls fail with this error, and that `opened` repeats its earlier result.
    #[track_caller]
    pub fn told_ever_after(self, socket: &Socket, kind: ErrorKind) {
        if self.is_opening() {
            assert_fails(socket.opened(), kind);
        } else {
            fails_not(socket.opened());
        }
        if self.reads() && self.writes() {
            told_ever_after(socket, kind);
        } else {
            assert_fails(socket.closed_timeout(PROMPT), kind);
        }
    }
}

/// Checks the results of the waiting calls in one stage after this fault.
pub fn strikes(
    stage: SocketPhase,
    fault: impl FnOnce(&mut Remote) -> Instant,
    kind: Option<ErrorKind>,
) {
    let mut peer = Remote::start();
    let socket = stage.reach(&mut peer, small_send_buffer());
    let waiters = stage.waiters(&socket);
    let cause = fault(&mut peer);
    waiters.at_once(cause, kind);
    match kind {
        Some(kind) => stage.told_ever_after(&socket, kind),
        None => fails_not(socket.closed_timeout(Duration::ZERO)),
    }
}
