//! The input of a session, one state of the rustls connection after the other.

use rustls::Error;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};

use super::super::flood::FloodGuard;
use super::super::recv_queue::RecvQueue;
use super::super::send_queue::{Content, SendQueue};
use super::connection::{Connection, Records};
use super::leftover::Leftover;
use super::{MAX_CLIENT_HELLO, MAX_RECV_QUEUE, PeerState, Session, catch_panic};
use crate::tls::{Failure, Role, Stage, size_of_certificates, with_certificates, with_hello};

impl Session {
    /// Processes input up to the first application data, or until more input is needed.
    pub(super) fn process(&mut self) {
        while !self.has_plaintext && self.process_one() {}
        // A ClientHello that is not complete yet. What is not TLS was recognized by now.
        let awaits_hello = self.terms.role == Role::Server
            && self.connection.as_ref().is_some_and(|it| it.protocol_version().is_none());
        let limit = match self.peer_state {
            PeerState::Handshaking if awaits_hello => MAX_CLIENT_HELLO,
            PeerState::Handshaking => self.terms.max_handshake_input,
            _ => MAX_RECV_QUEUE,
        };
        if self.recv_queue.len() > limit {
            let peer = self.terms.role.peer().name();
            let what = if awaits_hello { "ClientHello" } else { "TLS message" };
            self.fail(Failure::misbehaved(format!("{peer} sent a {what} that is too long")));
        }
        self.wrap_queued();
    }

    /// Processes one state of the rustls connection. Returns whether there may be another.
    pub(super) fn process_one(&mut self) -> bool {
        match catch_panic(|| self.next_state_within_bounds()) {
            Ok(more) => more,
            Err(failure) => {
                // The connection's state is unknown now, so it is not used again. After this side's
                // close_notify, a debug build of rustls panics when it would send an alert.
                let failure = match self.is_silent() {
                    true => Failure::with_message("a record of the peer can't be processed"),
                    false => failure,
                };
                self.peer_state = PeerState::Failed(Box::new(failure));
                self.silence();
                self.close_outer();
                self.recv_queue.clear();
                false
            }
        }
    }

    /// Processes the next state. A client provides the size of the peer's certificates to the session cache. A server
    /// learns what its configuration saw of the ClientHello.
    pub(super) fn next_state_within_bounds(&mut self) -> bool {
        if self.terms.role == Role::Server {
            if !matches!(self.peer_state, PeerState::Handshaking) {
                return self.process_state();
            }
            let (more, hello) = with_hello(self.hello.take(), || self.process_state());
            self.hello = hello;
            if let (PeerState::Failed(_), Some(hello)) = (&self.peer_state, &self.hello) {
                if hello.leaf.is_none() {
                    let failure = Failure::no_identity(hello);
                    self.peer_state = PeerState::Failed(Box::new(failure));
                }
            }
            return more;
        }
        let certificates = match self.certificates_size {
            None => self.connection.as_ref().and_then(|it| it.peer_certificates()),
            // They do not change after the handshake.
            Some(size) => return with_certificates(Some(size), || self.process_state()),
        };
        let size = certificates.map(size_of_certificates);
        if !matches!(self.peer_state, PeerState::Handshaking) {
            self.certificates_size = size;
        }
        with_certificates(size, || self.process_state())
    }

    #[inline]
    pub(super) fn process_state(&mut self) -> bool {
        let silent = self.is_silent();
        let Session { connection: Some(connection), .. } = self else { return false };
        let mut part = Part {
            recv_queue: &mut self.recv_queue,
            send_queue: &mut self.send_queue,
            leftover: &mut self.leftover,
            flood: &mut self.flood,
            unfinished_message: &mut self.unfinished_message,
            silent,
            handshaking: matches!(self.peer_state, PeerState::Handshaking),
            role: self.terms.role,
        };
        let progress = match connection {
            Connection::Client(client) => part.process(client),
            Connection::Server(server) => part.process(server),
        };
        self.has_plaintext |= progress.has_plaintext;
        self.recv_queue.discard(progress.discard);
        if progress.handshaken && matches!(self.peer_state, PeerState::Handshaking) {
            self.peer_state = PeerState::Established;
            self.flood.reset();
        }
        if let Some(peer_state) = progress.peer_state {
            self.set_peer_state(peer_state);
        }
        progress.more
    }

    /// Sets the final state of the peer's direction, and drops further input. If TLS failed, queues the alert.
    pub(super) fn set_peer_state(&mut self, peer_state: PeerState) {
        self.peer_state = peer_state;
        let silent = self.is_silent();
        if let (PeerState::Failed(_), Some(connection)) = (&self.peer_state, &mut self.connection) {
            let (recv_queue, send_queue) = (&mut self.recv_queue, &mut self.send_queue);
            match connection {
                Connection::Client(client) => queue_alert(client, recv_queue, send_queue, silent),
                Connection::Server(server) => queue_alert(server, recv_queue, send_queue, silent),
            }
            self.silence();
            self.close_outer();
        }
        self.recv_queue.clear();
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        self.set_peer_state(PeerState::Failed(Box::new(failure)));
    }

    /// Moves one decrypted record to `buf`, and the part that does not fit to `leftover`. Then processes the next one.
    pub(super) fn next_record(&mut self, buf: &mut [u8]) -> usize {
        let Session { connection: Some(connection), recv_queue, leftover, .. } = self else {
            return 0;
        };
        let moved = match connection {
            Connection::Client(client) => move_record(client, recv_queue, leftover, buf),
            Connection::Server(server) => move_record(server, recv_queue, leftover, buf),
        };
        self.has_plaintext = false;
        // Usually the input is exhausted.
        let idle = matches!(self.peer_state, PeerState::Established) && self.recv_queue.len() == 0;
        if !idle || self.unfinished_message {
            self.process();
        }
        if self.outer.is_some() {
            self.follow_outer_end();
        }
        moved
    }

    /// Decrypts all input, and moves the data to `leftover`.
    pub(super) fn buffer_all(&mut self) {
        if self.has_plaintext {
            let mut leftover = std::mem::take(&mut self.leftover);
            while self.has_plaintext {
                self.next_record(&mut []);
                leftover.append(&mut self.leftover);
            }
            self.leftover = leftover;
        }
    }

    /// Prepares the connection to encrypt. Returns whether it can. rustls encrypts only when no decrypted data is
    /// pending, so this buffers it, and keeps the input queue.
    pub(super) fn ready_to_encrypt(&mut self) -> bool {
        if !self.may_encrypt() {
            return false;
        }
        // A reader takes the data from `leftover` later.
        self.buffer_all();
        self.may_encrypt()
    }

    /// Returns whether rustls encrypts. That an end without close_notify is known hides no data, and forbids none.
    fn may_encrypt(&self) -> bool {
        match self.peer_state {
            PeerState::Established | PeerState::Ended => true,
            PeerState::Truncated => !planted!(TruncationSpins),
            PeerState::Handshaking | PeerState::Failed(_) => false,
        }
    }
}

/// The parts of a session that a state of its connection may change.
struct Part<'a> {
    recv_queue: &'a mut RecvQueue,
    send_queue: &'a mut SendQueue,
    leftover: &'a mut Leftover,
    flood: &'a mut FloodGuard,
    unfinished_message: &'a mut bool,
    silent: bool,
    handshaking: bool,
    role: Role,
}

/// The result of one state of the connection.
struct Progress {
    discard: usize,
    /// Whether there may be another state.
    more: bool,
    handshaken: bool,
    has_plaintext: bool,
    peer_state: Option<PeerState>,
}

impl Part<'_> {
    /// Processes the next state of the connection.
    #[inline]
    fn process<C: Records>(&mut self, connection: &mut C) -> Progress {
        let UnbufferedStatus { discard, state, .. } =
            connection.process(self.recv_queue.bytes_mut());
        let mut progress = Progress {
            discard,
            more: false,
            handshaken: false,
            has_plaintext: false,
            peer_state: None,
        };
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                if self.handshaking {
                    // Data follows the peer's last handshake message. rustls returns it before this side's
                    // last message, so it must be read first.
                    while let Some(Ok(record)) = traffic.next_record() {
                        progress.discard += record.discard;
                        self.leftover.bytes.extend_from_slice(record.payload);
                    }
                    progress.more = true;
                } else {
                    progress.has_plaintext = true;
                }
                self.flood.reset();
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append_message(self.send_queue, self.silent, |room| message.encode(room));
                *self.unfinished_message = true;
                progress.more = true;
            }
            Ok(ConnectionState::TransmitTlsData(transmitted)) => {
                transmitted.done();
                *self.unfinished_message = false;
                progress.more = true;
            }
            // rustls answers a key update with the next data that this side sends, once (RFC 8446, section 4.6.3).
            Ok(ConnectionState::WriteTraffic(_)) => progress.handshaken = true,
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                progress.peer_state = Some(PeerState::Ended);
            }
            // Servers refuse early data by their configuration. What arrives before the handshake must not be read
            // as if the client had proven anything.
            Ok(ConnectionState::ReadEarlyData(_)) => {
                let failure = Failure::misbehaved("the client sent early data");
                progress.peer_state = Some(PeerState::Failed(Box::new(failure)));
            }
            // The handshake needs more input.
            Ok(_) => {}
            Err(error) => {
                let has_spoken_tls = connection.common().protocol_version().is_some();
                let failure = self.explain(error, has_spoken_tls);
                progress.peer_state = Some(PeerState::Failed(Box::new(failure)));
            }
        }
        progress
    }

    #[cold]
    fn explain(&mut self, error: Error, has_spoken_tls: bool) -> Failure {
        let peer = self.role.peer();
        match (&error, self.handshaking) {
            // The peer has spoken TLS before, so this is not plaintext.
            (Error::InvalidMessage(_), true) if has_spoken_tls => {
                Failure::new(error, peer, Stage::Data)
            }
            (Error::InvalidMessage(_), true) => {
                Failure::not_tls(error, peer, self.recv_queue.bytes_mut())
            }
            (_, true) => Failure::new(error, peer, Stage::Handshake),
            (_, false) => Failure::new(error, peer, Stage::Data),
        }
    }
}

/// Queues the alert of a connection that failed.
fn queue_alert<C: Records>(
    connection: &mut C,
    recv_queue: &mut RecvQueue,
    send_queue: &mut SendQueue,
    silent: bool,
) {
    // The alert tells the peer the reason. Without the check of wants_write, rustls would process the failed input
    // again.
    while connection.common().wants_write() {
        let UnbufferedStatus { state: Ok(ConnectionState::EncodeTlsData(mut message)), .. } =
            connection.process(recv_queue.bytes_mut())
        else {
            break;
        };
        append_message(send_queue, silent, |room| message.encode(room));
    }
}

/// Moves one decrypted record to `buf`, and the part that does not fit to `leftover`.
#[inline]
fn move_record<C: Records>(
    connection: &mut C,
    recv_queue: &mut RecvQueue,
    leftover: &mut Leftover,
    buf: &mut [u8],
) -> usize {
    let UnbufferedStatus { mut discard, state, .. } = connection.process(recv_queue.bytes_mut());
    let mut moved = 0;
    if let Ok(ConnectionState::ReadTraffic(mut traffic)) = state {
        if let Some(Ok(record)) = traffic.next_record() {
            discard += record.discard;
            moved = record.payload.len().min(buf.len());
            let (now, later) = record.payload.split_at(moved);
            buf[..moved].copy_from_slice(now);
            leftover.set(later);
        }
    }
    recv_queue.discard(discard);
    moved
}

/// Appends a message from rustls to the send queue, or drops it if `silent`.
fn append_message(
    send_queue: &mut SendQueue,
    silent: bool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) {
    send_queue.append(Content::Own, 0, |room| match encode(room) {
        // The message is taken out of rustls, but not sent.
        Ok(_) if silent => Ok(0),
        Ok(bytes) => Ok(bytes),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            Err(Some(required_size))
        }
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}
