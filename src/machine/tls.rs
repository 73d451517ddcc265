//! The TLS session of one connection, on top of rustls.
//!
//! A session takes ciphertext in with [`read_tls`](Session::read_tls) and gives application data out with
//! [`take`](Session::take). It encrypts data with [`seal`](Session::seal), gives ciphertext out with
//! [`next_transmit`](Session::next_transmit), and ends with [`close_notify`](Session::close_notify).
//!
//! A session is the client or the server: [`connection`] has both roles, and everything else is common to them.
//!
//! Only this module and its submodules use rustls' connection types. They use the unbuffered API, so that received
//! bytes are decrypted in place and an idle connection holds no buffer.
//!
//! Between two calls, a session has processed its input up to the first unread application data, or until it needs
//! more. So its state shows whether data is unread and whether the peer has ended, and at most one record is decrypted
//! ahead.

mod connection;
mod leftover;
mod outer;
mod process;
mod send;
mod session_loan;
mod summary;

use std::fmt;
use std::time::{Duration, Instant};

use rustls::HandshakeKind;

use self::connection::Connection;
use self::leftover::Leftover;
pub use self::outer::ProxySession;
pub use self::summary::Discarded;
pub(super) use self::summary::Summary;
use super::flood::FloodGuard;
use super::recv_queue::{RecvBuf, RecvQueue};
use super::send_queue::SendQueue;
use crate::error::Fault;
use crate::info::Negotiated;
use crate::panic;
use crate::tls::{
    EchStatus, Failure, Hello, NegotiatedParts, Role, ServerLeaf, TlsInfo, TlsSetup, TlsVersion,
};

/// The maximum overhead of a record, in bytes: header, explicit nonce, type and tag.
const RECORD_OVERHEAD: usize = 64;
/// The maximum application data of a record, in bytes (RFC 8446, section 5.1).
const MAX_RECORD: usize = 16 * 1024;
/// The maximum size of unprocessed input: the longest handshake message that rustls accepts, and the record that
/// completes it.
const MAX_RECV_QUEUE: usize = 128 * 1024;
/// The same for a server before the client has proven anything: its longest message is the ClientHello.
const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// The same for a server that asks for a certificate: the longest message of rustls, and the record that completes it.
const MAX_CLIENT_CERTIFICATES: usize = 0xffff + 5 + MAX_RECORD + 2048;

pub(super) struct Session {
    /// `None` before the handshake has begun, and while the connection is lent.
    connection: Option<Connection>,
    terms: Terms,
    /// Whether it runs the program's code, for which it is lent out of the lock.
    foreign: bool,
    /// The setup, until the handshake begins.
    setup: Option<Box<TlsSetup>>,
    recv_queue: RecvQueue,
    /// Decrypted data that did not fit into the reader's buffer.
    leftover: Leftover,
    send_queue: SendQueue,
    peer_state: PeerState,
    /// The records and bytes received since the last data.
    flood: FloodGuard,
    /// Whether the connection holds decrypted data.
    has_plaintext: bool,
    /// Whether a message was queued that rustls does not know to be sent. rustls encrypts nothing before that.
    unfinished_message: bool,
    close_notify: CloseNotify,
    /// Whether data of the program was ever sealed.
    has_sealed: bool,
    /// A failure of the wire, if a receive is to tell whether the peer had ended before it.
    kept_fault: Option<Fault>,
    /// Whether a receive was deferred until the current transmit is done.
    recv_deferred: bool,
    /// The part of the ClientHello that a server keeps.
    hello: Option<Box<Hello>>,
    /// The size of the peer's certificates, in bytes, from the first state after the handshake.
    certificates_size: Option<usize>,
    /// The duration of the handshake.
    handshake: Duration,
    /// The result of the handshake, kept if the connection may be lent.
    negotiated: Option<Box<Negotiated>>,
    /// The session with a proxy, through which this one sends and receives.
    outer: Option<Box<Session>>,
}

/// The settings that outlive the setup.
#[derive(Clone, Copy, Debug)]
struct Terms {
    role: Role,
    require_close_notify: bool,
    offers_ech: bool,
    sends_long_hello: bool,
    /// Whether only a proxy is at the other end.
    is_with_proxy: bool,
    /// The maximum size of unprocessed input during the handshake, in bytes.
    max_handshake_input: usize,
}

/// Whether this side has ended its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseNotify {
    /// This side may send.
    No,
    /// It ended while the session was lent. close_notify is queued when the session is restored.
    Due,
    /// It was queued, or an alert in its place, if anything could be. Nothing may follow.
    Queued,
}

/// The state of the peer's direction.
#[derive(Debug)]
enum PeerState {
    Handshaking,
    Established,
    /// Ended with close_notify, or with a FIN that is accepted in its place.
    Ended,
    /// Ended with a FIN without close_notify.
    Truncated,
    Failed(Box<Failure>),
}

/// The state of a session after all data before it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// The handshake is in progress.
    Handshaking,
    /// The peer may send data.
    Established,
    /// The peer sent close_notify.
    Ended,
    /// The peer sent FIN without close_notify.
    Truncated,
    /// TLS failed.
    Failed,
}

impl Session {
    /// Creates a session that begins its handshake. `preface` is queued, then a client's first message.
    pub(super) fn new(setup: &TlsSetup, preface: &[u8]) -> Result<Box<Self>, Failure> {
        let mut session = Box::new(Session {
            connection: Some(Connection::new(setup)?),
            ..Session::without_connection(Terms::new(setup))
        });
        session.send_queue.push(preface);
        session.process();
        match session.peer_state {
            PeerState::Failed(failure) => Err(*failure),
            PeerState::Handshaking
            | PeerState::Established
            | PeerState::Ended
            | PeerState::Truncated => Ok(session),
        }
    }

    fn without_connection(terms: Terms) -> Self {
        Session {
            connection: None,
            terms,
            foreign: false,
            setup: None,
            recv_queue: RecvQueue::default(),
            leftover: Leftover::default(),
            send_queue: SendQueue::default(),
            peer_state: PeerState::Handshaking,
            flood: FloodGuard::default(),
            has_plaintext: false,
            unfinished_message: false,
            close_notify: CloseNotify::No,
            has_sealed: false,
            kept_fault: None,
            recv_deferred: false,
            hello: None,
            certificates_size: None,
            handshake: Duration::ZERO,
            negotiated: None,
            outer: None,
        }
    }

    // ------------------------------------------------------------- the peer's direction

    /// Processes received ciphertext. Returns whether that queued ciphertext to send. The buffer's memory may be
    /// swapped.
    pub(super) fn read_tls(&mut self, recv_buf: &mut RecvBuf) -> bool {
        if !self.wants_tls() {
            return false;
        }
        let before = self.wire_queue().len();
        if self.outer.is_some() {
            self.read_through(recv_buf);
        } else {
            self.flood.received(recv_buf.filled());
            self.recv_queue.append(recv_buf);
            if !self.has_unread() {
                self.process();
            }
            self.count_tickets();
            self.release(recv_buf);
        }
        self.wire_queue().len() > before
    }

    /// Returns the memory of the queue to the buffer, or what it does not need for a client that has proven nothing.
    fn release(&mut self, recv_buf: &mut RecvBuf) {
        if self.terms.role == Role::Server && matches!(self.peer_state, PeerState::Handshaking) {
            self.recv_queue.compact(recv_buf);
        }
        self.recv_queue.release(recv_buf);
    }

    fn count_tickets(&mut self) {
        if let Some(connection) = &self.connection {
            self.flood.tickets(connection.tickets_received());
        }
    }

    /// Returns whether so much arrived without data that the caller has to call [`bound_flood`](Self::bound_flood).
    pub(super) fn is_suspicious(&self) -> bool {
        let is_suspicious = self.flood.is_suspicious() && self.wants_tls() && !self.has_unread();
        is_suspicious || self.outer.as_ref().is_some_and(|outer| outer.is_suspicious())
    }

    /// Fails the session if more arrived without data than any legitimate peer sends.
    pub(super) fn bound_flood(&mut self, now: Instant) {
        self.bound_outer_flood(now);
        if self.flood.is_suspicious() && self.wants_tls() && self.flood.is_flood(now) {
            let peer = self.terms.role.peer().name();
            self.fail(Failure::misbehaved(format!("{peer} sent too many records without data")));
        }
    }

    /// Handles the peer's FIN; no data is unread.
    pub(super) fn eof(&mut self) {
        if self.outer.is_some() {
            self.outer_eof();
        } else {
            self.end_peer();
        }
    }

    /// Ends the peer's direction, whose data is all processed.
    fn end_peer(&mut self) {
        // The rest of the queue is part of a record, or of a message in several records.
        let is_between_records = self.recv_queue.len() == 0
            && self.outer.as_ref().is_none_or(|outer| outer.recv_queue.len() == 0);
        match self.peer_state {
            PeerState::Handshaking => {
                self.peer_state =
                    PeerState::Failed(Box::new(Failure::unexpected_eof(self.terms.role.peer())));
            }
            PeerState::Established if self.terms.require_close_notify || !is_between_records => {
                self.peer_state = PeerState::Truncated;
            }
            PeerState::Established => self.peer_state = PeerState::Ended,
            PeerState::Ended | PeerState::Truncated | PeerState::Failed(_) => {}
        }
    }

    /// Moves unread data to `buf`, as much as fits. Returns the number of bytes.
    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut taken = self.leftover.take(buf);
        while self.has_plaintext && taken < buf.len() && self.leftover.is_empty() {
            taken += self.next_record(&mut buf[taken..]);
        }
        taken
    }

    /// Returns unread data of one record up to and including `delimiter`, at most `max` bytes.
    pub(super) fn take_until(&mut self, delimiter: u8, max: usize) -> Vec<u8> {
        if self.leftover.is_empty() && self.has_plaintext {
            self.next_record(&mut []);
        }
        self.leftover.take_until(delimiter, max)
    }

    /// Copies unread data, at most as much as one record holds. Returns the number of bytes: 0 if no data is unread.
    pub(super) fn peek(&mut self, buf: &mut [u8]) -> usize {
        while self.leftover.is_empty() && self.has_plaintext {
            self.next_record(&mut []);
        }
        let max = buf.len().min(MAX_RECORD);
        self.leftover.peek(&mut buf[..max])
    }

    /// Drops all unread data, which may be in several records.
    pub(super) fn drop_unread(&mut self) {
        self.leftover.clear();
        while self.has_plaintext {
            self.next_record(&mut []);
            self.leftover.clear();
        }
    }

    /// Returns whether there is decrypted data that no reader has taken.
    pub(super) fn has_unread(&self) -> bool {
        self.has_plaintext || !self.leftover.is_empty()
    }

    /// Returns whether further input is of any use.
    pub(super) fn wants_tls(&self) -> bool {
        matches!(self.peer_state, PeerState::Handshaking | PeerState::Established)
    }

    /// Returns whether the session needs input and has its connection to process it.
    pub(super) fn can_read_tls(&self) -> bool {
        self.wants_tls() && self.connection.is_some()
    }

    /// Returns whether receiving has to wait until the current transmit is done. In a handshake, the next step may
    /// fail, and its alert must follow the bytes that are being sent.
    pub(super) fn defers_recv(&mut self) -> bool {
        let busy = matches!(self.peer_state, PeerState::Handshaking) && self.transmit_in_flight();
        self.recv_deferred |= busy;
        busy
    }

    /// Returns whether a receive was deferred and has to be requested again. Clears the flag.
    pub(super) fn take_recv_deferred(&mut self) -> bool {
        std::mem::take(&mut self.recv_deferred)
    }

    pub(super) fn state(&self) -> SessionState {
        match self.peer_state {
            PeerState::Handshaking => SessionState::Handshaking,
            PeerState::Established => SessionState::Established,
            PeerState::Ended => SessionState::Ended,
            PeerState::Truncated => SessionState::Truncated,
            PeerState::Failed(_) => SessionState::Failed,
        }
    }

    /// Returns whether this side is the server.
    #[cfg(test)]
    pub(super) fn is_server(&self) -> bool {
        self.terms.role == Role::Server
    }

    /// Records the duration of the handshake.
    pub(super) fn set_handshake_time(&mut self, took: Duration) {
        self.handshake = took;
    }

    // ------------------------------------------------------------- results

    /// Returns the result of the handshake with the target, once it is complete.
    pub(super) fn negotiated(&self) -> Option<Negotiated> {
        if self.terms.is_with_proxy {
            return None;
        }
        if let Some(negotiated) = &self.negotiated {
            return Some(Negotiated { handshake: self.handshake, ..Negotiated::clone(negotiated) });
        }
        let connection = self.connection.as_ref()?;
        let version = TlsVersion::from_rustls(connection.protocol_version()?)?;
        let suite = connection.negotiated_cipher_suite()?;
        let certificates = connection.peer_certificates().unwrap_or_default();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let hello = self.hello.as_deref();
        let server_leaf = match self.terms.role {
            Role::Client => ServerLeaf::Peer,
            Role::Server => ServerLeaf::Own(hello.and_then(|hello| hello.leaf.clone())),
        };
        let group = connection.negotiated_key_exchange_group();
        Some(Negotiated {
            tls: TlsInfo::new(NegotiatedParts {
                version,
                suite,
                group: group.map(|group| group.name().into()),
                certificates: certificates.to_vec(),
                resumed,
                // If the server rejects it, rustls fails the handshake.
                ech: match self.terms.offers_ech {
                    true => EchStatus::Accepted,
                    false => EchStatus::NotOffered,
                },
                server_leaf,
            }),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            server_name: hello.and_then(|hello| hello.server_name.clone()),
            handshake: self.handshake,
        })
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.peer_state {
            PeerState::Failed(failure) => Some(failure),
            PeerState::Handshaking
            | PeerState::Established
            | PeerState::Ended
            | PeerState::Truncated => None,
        }
    }

    /// Takes the queued ciphertext, when the connection ends.
    pub(super) fn take_final_records(&mut self) -> Vec<u8> {
        std::mem::take(self.wire_queue_mut()).into_bytes()
    }

    /// Returns whether nothing has come in answer to a long ClientHello.
    pub(super) fn is_unanswered(&self) -> bool {
        let knows_nothing =
            self.connection.as_ref().is_some_and(|it| it.protocol_version().is_none());
        self.terms.sends_long_hello && knows_nothing && self.recv_queue.len() == 0
    }

    pub(super) fn into_summary(mut self: Box<Self>) -> Summary {
        let negotiated = self.negotiated();
        let failed_with_proxy = self.failed_with_proxy();
        let final_records = self.take_final_records();
        let is_unanswered = self.is_unanswered();
        let failure = match std::mem::replace(&mut self.peer_state, PeerState::Ended) {
            PeerState::Failed(failure) => Some(*failure),
            PeerState::Handshaking
            | PeerState::Established
            | PeerState::Ended
            | PeerState::Truncated => None,
        };
        let discarded = self.foreign.then(|| Discarded::session(self));
        Summary { negotiated, failure, final_records, failed_with_proxy, is_unanswered, discarded }
    }
}

impl Terms {
    fn new(setup: &TlsSetup) -> Self {
        Terms {
            role: setup.role(),
            require_close_notify: setup.require_close_notify(),
            offers_ech: setup.offers_ech(),
            sends_long_hello: setup.sends_long_hello(),
            is_with_proxy: false,
            max_handshake_input: match (setup.role(), setup.may_ask_for_certificate()) {
                (Role::Client, _) => MAX_RECV_QUEUE,
                (Role::Server, true) => MAX_CLIENT_CERTIFICATES,
                // The rest of a handshake is short. But a client may send early data, which rustls skips.
                (Role::Server, false) => MAX_CLIENT_HELLO + MAX_RECORD + RECORD_OVERHEAD,
            },
        }
    }
}

/// Runs `work`, which may run the program's code: a verifier, a key log or a session store. Turns a panic into a
/// failure.
fn catch_panic<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    panic::catch_panic(work)
        .ok_or_else(|| Failure::with_message("a panic in TLS or in the code of its configuration"))
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer_state", &self.peer_state)
            .field("unread", &self.has_unread())
            .field("flushed", &self.is_flushed())
            .finish_non_exhaustive()
    }
}
