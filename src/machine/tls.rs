//! The TLS session of one connection, on top of rustls.
//!
//! A session takes ciphertext in with [`read_tls`](Session::read_tls) and gives application data out with
//! [`take`](Session::take). It encrypts data with [`seal`](Session::seal), gives ciphertext out with
//! [`next_transmit`](Session::next_transmit), and ends with [`close_notify`](Session::close_notify).
//!
//! Only this module and its submodule use rustls' connection type. They use the unbuffered API, so that received bytes
//! are decrypted in place and an idle connection holds no buffer.
//!
//! Between two calls, a session has processed its input up to the first unread application data, or until it needs
//! more. So its state shows whether data is unread and whether the peer has ended, and at most one record is decrypted
//! ahead.

mod session_loan;

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::UnbufferedClientConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{Error, HandshakeKind};

use super::flood::FloodGuard;
use super::recv_queue::{RecvBuf, RecvQueue};
use super::send_queue::{SendQueue, Transmit};
use crate::info::Negotiated;
use crate::panic;
use crate::tls::{
    Failure, Stage, TlsInfo, TlsSetup, TlsVersion, size_of_certificates, with_certificates,
};

/// The maximum overhead of a record, in bytes: header, explicit nonce, type and tag.
const RECORD_OVERHEAD: usize = 64;
/// The maximum application data of a record, in bytes (RFC 8446, section 5.1).
const MAX_RECORD: usize = 16 * 1024;
/// The overhead of an unpadded TLS 1.3 record, in bytes: header, type and tag. The tag has this length in all cipher
/// suites of rustls (RFC 8446, section 5.2).
const TLS13_OVERHEAD: usize = 5 + 1 + 16;
/// The maximum number of key updates that are answered while this side writes nothing. Later answers wait for the next
/// data, because some peers treat many key updates as an attack.
const MAX_KEY_UPDATE_REPLIES: u8 = 16;
/// The maximum size of unprocessed input: the longest handshake message that rustls accepts, and the record that
/// completes it.
const MAX_RECV_QUEUE: usize = 128 * 1024;

pub(super) struct Session {
    /// `None` before the handshake has begun, and while the connection is lent.
    connection: Option<UnbufferedClientConnection>,
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
    /// Whether records other than data were processed since the last check for a pending key update answer.
    check_key_update: bool,
    /// Whether nothing may be sent any more, because close_notify or an alert was sent.
    close_notify_done: bool,
    /// Whether this side closed its write side while the session was lent.
    close_notify_due: bool,
    /// Whether a receive was deferred until the current transmit is done.
    recv_deferred: bool,
    /// The number of bytes at the end of the send queue that are only close_notify.
    close_notify_len: usize,
    /// The number of key updates answered since data was last sealed.
    key_update_replies: u8,
    require_close_notify: bool,
    /// The size of the peer's certificates, in bytes, from the first state after the handshake.
    certificates_size: Option<usize>,
    /// The duration of the handshake.
    handshake: Duration,
    /// The result of the handshake, kept if the connection may be lent.
    negotiated: Option<Box<Negotiated>>,
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

/// The remains of a session that is over.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) negotiated: Option<Negotiated>,
    pub(super) failure: Option<Failure>,
    /// The records to send last, such as an alert.
    pub(super) final_records: Vec<u8>,
    /// Objects that may run the program's code when they are dropped.
    pub(super) discarded: Option<Discarded>,
}

#[derive(Default)]
struct Leftover {
    bytes: Vec<u8>,
    start: usize,
}

impl Session {
    /// Creates a session that begins its handshake; its first message is queued.
    pub(super) fn new(setup: &TlsSetup) -> Result<Box<Self>, Failure> {
        let connection = catch_panic(|| {
            let config = Arc::clone(setup.config());
            UnbufferedClientConnection::new(config, setup.server_name().clone())
        })?
        .map_err(|error| Failure::new(error, Stage::Handshake))?;
        let mut session = Box::new(Session {
            connection: Some(connection),
            ..Session::without_connection(setup.require_close_notify())
        });
        session.process();
        match session.peer_state {
            PeerState::Failed(failure) => Err(*failure),
            PeerState::Handshaking
            | PeerState::Established
            | PeerState::Ended
            | PeerState::Truncated => Ok(session),
        }
    }

    fn without_connection(require_close_notify: bool) -> Self {
        Session {
            connection: None,
            foreign: false,
            setup: None,
            recv_queue: RecvQueue::default(),
            leftover: Leftover::default(),
            send_queue: SendQueue::default(),
            peer_state: PeerState::Handshaking,
            flood: FloodGuard::default(),
            has_plaintext: false,
            check_key_update: false,
            close_notify_done: false,
            close_notify_due: false,
            recv_deferred: false,
            close_notify_len: 0,
            key_update_replies: 0,
            certificates_size: None,
            require_close_notify,
            handshake: Duration::ZERO,
            negotiated: None,
        }
    }

    // ------------------------------------------------------------- the peer's direction

    /// Processes received ciphertext. Returns whether that queued ciphertext to send. The buffer's memory may be
    /// swapped.
    pub(super) fn read_tls(&mut self, recv_buf: &mut RecvBuf) -> bool {
        if !self.wants_tls() {
            return false;
        }
        let before = self.send_queue.len();
        self.flood.received(recv_buf.filled());
        self.recv_queue.append(recv_buf);
        if !self.has_unread() {
            self.process();
        }
        self.count_tickets();
        self.recv_queue.release(recv_buf);
        self.send_queue.len() > before
    }

    fn count_tickets(&mut self) {
        if let Some(connection) = &self.connection {
            self.flood.tickets(connection.tls13_tickets_received());
        }
    }

    /// Returns whether so much arrived without data that the caller has to call [`bound_flood`](Self::bound_flood).
    pub(super) fn is_suspicious(&self) -> bool {
        self.flood.is_suspicious() && self.wants_tls() && !self.has_unread()
    }

    /// Fails the session if more arrived without data than any legitimate peer sends.
    pub(super) fn bound_flood(&mut self, now: Instant) {
        if self.flood.is_flood(now) {
            self.fail(Failure::with_message("the peer sent too many records without data"));
        }
    }

    /// Handles the peer's FIN; no data is unread.
    pub(super) fn eof(&mut self) {
        // The rest of the queue is part of a record, or of a message in several records.
        let is_between_records = self.recv_queue.len() == 0;
        match self.peer_state {
            PeerState::Handshaking => {
                self.peer_state = PeerState::Failed(Box::new(Failure::unexpected_eof()));
            }
            PeerState::Established if self.require_close_notify || !is_between_records => {
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
        let busy =
            matches!(self.peer_state, PeerState::Handshaking) && self.send_queue.is_in_flight();
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

    /// Records the duration of the handshake.
    pub(super) fn set_handshake_time(&mut self, took: Duration) {
        self.handshake = took;
    }

    // ------------------------------------------------------------- this side's direction

    /// Returns whether any data may be sealed.
    pub(super) fn can_seal(&self) -> bool {
        self.connection.is_some() && self.send_queue.available() > 0
    }

    /// Seals as much of `bytes_to_seal` as the send queue has room for. If the queue is empty, the ciphertext goes
    /// straight into `transmit`. Returns the number of bytes: 0 if TLS has failed or fails now.
    pub(super) fn seal(&mut self, bytes_to_seal: &[u8], transmit: &mut Transmit) -> usize {
        transmit.clear();
        let bytes_to_seal = &bytes_to_seal[..bytes_to_seal.len().min(self.send_queue.available())];
        if bytes_to_seal.is_empty() || !self.ready_to_encrypt() {
            return 0;
        }
        self.key_update_replies = 0;
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return 0;
        };
        let sealed = match connection.process_tls_records(recv_queue.bytes_mut()).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let room =
                    bytes_to_seal.len() + (bytes_to_seal.len() / MAX_RECORD + 1) * RECORD_OVERHEAD;
                let fill =
                    |room: &mut [u8]| traffic.encrypt(bytes_to_seal, room).map_err(required_size);
                if send_queue.is_empty() {
                    let sealed = transmit.fill(room, fill);
                    send_queue.lend(sealed.unwrap_or(0));
                    sealed
                } else {
                    send_queue.append(room, fill)
                }
            }
            Ok(_) | Err(_) => None,
        };
        match sealed {
            Some(_) => bytes_to_seal.len(),
            None => {
                self.fail(Failure::with_message("the keys of this connection are used up"));
                0
            }
        }
    }

    /// Queues close_notify, once. Returns whether it did.
    pub(super) fn close_notify(&mut self) -> bool {
        if std::mem::replace(&mut self.close_notify_done, true) {
            return false;
        }
        self.close_notify_due = self.is_lent() && matches!(self.peer_state, PeerState::Established);
        if !self.ready_to_encrypt() {
            return false;
        }
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return false;
        };
        let state = connection.process_tls_records(recv_queue.bytes_mut()).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let fill = |room: &mut [u8]| traffic.queue_close_notify(room).map_err(required_size);
            self.close_notify_len = send_queue.append(RECORD_OVERHEAD, fill).unwrap_or(0);
        }
        self.close_notify_len > 0
    }

    /// Lends the queued ciphertext.
    pub(super) fn next_transmit(&mut self) -> Option<Transmit> {
        self.send_queue.next()
    }

    /// Takes a transmit buffer back, and queues its unsent bytes again.
    pub(super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.send_queue.return_unsent(transmit);
    }

    /// Returns whether there is ciphertext other than close_notify that the kernel has not accepted.
    pub(super) fn has_undelivered_data(&self) -> bool {
        !self.send_queue.is_empty() && self.send_queue.len() > self.close_notify_len
    }

    /// Drops queued ciphertext, because nothing can be sent any more.
    pub(super) fn discard_unsent(&mut self) {
        self.send_queue.discard_all();
        self.close_notify_done = true;
        self.close_notify_due = false;
    }

    /// Returns whether a transmit buffer is lent.
    pub(super) fn transmit_in_flight(&self) -> bool {
        self.send_queue.is_in_flight()
    }

    /// Returns whether the kernel has accepted all ciphertext.
    pub(super) fn is_flushed(&self) -> bool {
        self.send_queue.is_empty() && !self.close_notify_due
    }

    // ------------------------------------------------------------- results

    /// Returns the result of the handshake, once it is complete.
    pub(super) fn negotiated(&self) -> Option<Negotiated> {
        if let Some(negotiated) = &self.negotiated {
            return Some(Negotiated { handshake: self.handshake, ..Negotiated::clone(negotiated) });
        }
        let connection = self.connection.as_ref()?;
        let version = TlsVersion::from_rustls(connection.protocol_version()?)?;
        let suite = connection.negotiated_cipher_suite()?;
        let certificates = connection.peer_certificates().unwrap_or_default();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Some(Negotiated {
            tls: TlsInfo::new(version, suite, certificates.to_vec(), resumed),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
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
        std::mem::take(&mut self.send_queue).into_bytes()
    }

    pub(super) fn into_summary(mut self: Box<Self>) -> Summary {
        let negotiated = self.negotiated();
        let final_records = self.take_final_records();
        let failure = match std::mem::replace(&mut self.peer_state, PeerState::Ended) {
            PeerState::Failed(failure) => Some(*failure),
            PeerState::Handshaking
            | PeerState::Established
            | PeerState::Ended
            | PeerState::Truncated => None,
        };
        let discarded = self.foreign.then(|| Discarded::session(self));
        Summary { negotiated, failure, final_records, discarded }
    }

    // ------------------------------------------------------------- the connection

    /// Processes input up to the first application data, or until more input is needed.
    fn process(&mut self) {
        while !self.has_plaintext && self.process_one() {}
        if self.recv_queue.len() > MAX_RECV_QUEUE {
            self.fail(Failure::with_message("the peer sent a TLS message that is too long"));
        }
    }

    /// Processes one state of the rustls connection. Returns whether there may be another.
    fn process_one(&mut self) -> bool {
        match catch_panic(|| self.next_state_within_bounds()) {
            Ok(more) => more,
            Err(failure) => {
                // The connection's state is unknown now, so it is not used again. After this side's
                // close_notify, a debug build of rustls panics when it would send an alert.
                let failure = match self.close_notify_done {
                    true => Failure::with_message("the peer sent a record that can't be processed"),
                    false => failure,
                };
                self.peer_state = PeerState::Failed(Box::new(failure));
                self.close_notify_done = true;
                self.recv_queue.clear();
                false
            }
        }
    }

    /// Processes the next state, and provides the size of the peer's certificates to the session cache.
    fn next_state_within_bounds(&mut self) -> bool {
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
    fn process_state(&mut self) -> bool {
        let silent = self.close_notify_done;
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return false;
        };
        let UnbufferedStatus { discard, state, .. } =
            connection.process_tls_records(recv_queue.bytes_mut());
        let mut discard = discard;
        let mut handshaken = false;
        let mut asks_for_reply = false;
        let mut has_reply = false;
        let mut nothing_else = discard == 0;
        let (more, peer_state) = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                if matches!(self.peer_state, PeerState::Handshaking) {
                    // Data follows the peer's last handshake message. rustls returns it before this side's
                    // last message, so it must be read first.
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        self.leftover.bytes.extend_from_slice(record.payload);
                    }
                    self.flood.reset();
                    (true, None)
                } else {
                    self.has_plaintext = true;
                    self.flood.reset();
                    // True if exactly one record was processed, and it is data.
                    let data = traffic.peek_len().map_or(0, NonZeroUsize::get);
                    nothing_else = discard == data + TLS13_OVERHEAD;
                    (false, None)
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                append_message(send_queue, silent, |room| message.encode(room));
                (true, None)
            }
            Ok(ConnectionState::TransmitTlsData(transmitted)) => {
                transmitted.done();
                (true, None)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                handshaken = true;
                let check_key_update = std::mem::take(&mut self.check_key_update) || discard > 0;
                if check_key_update && !silent && self.key_update_replies < MAX_KEY_UPDATE_REPLIES {
                    // rustls would answer a key update only with the next data. To encrypt one byte into an
                    // empty buffer fails, but makes rustls queue the answer.
                    let _ = traffic.encrypt(&[0], &mut []);
                    asks_for_reply = true;
                    has_reply = connection.wants_write();
                }
                (asks_for_reply, None)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                (false, Some(PeerState::Ended))
            }
            // The other states occur only in servers, or need more input.
            Ok(_) => (false, None),
            Err(error) => {
                let when = match (&self.peer_state, &error) {
                    // The server has answered in TLS before, so this is not plaintext.
                    (PeerState::Handshaking, Error::InvalidMessage(_))
                        if connection.protocol_version().is_some() =>
                    {
                        Stage::Data
                    }
                    (PeerState::Handshaking, _) => Stage::Handshake,
                    _ => Stage::Data,
                };
                (false, Some(PeerState::Failed(Box::new(Failure::new(error, when)))))
            }
        };
        self.check_key_update |= !nothing_else && !asks_for_reply;
        self.key_update_replies += u8::from(has_reply);
        self.recv_queue.discard(discard);
        if handshaken && matches!(self.peer_state, PeerState::Handshaking) {
            self.peer_state = PeerState::Established;
            self.flood.reset();
        }
        if let Some(peer_state) = peer_state {
            self.set_peer_state(peer_state);
        }
        more
    }

    /// Sets the final state of the peer's direction, and drops further input. If TLS failed, queues the alert.
    fn set_peer_state(&mut self, peer_state: PeerState) {
        self.peer_state = peer_state;
        if let (PeerState::Failed(_), Some(connection)) = (&self.peer_state, &mut self.connection) {
            let silent = self.close_notify_done;
            let (recv_queue, send_queue) = (&mut self.recv_queue, &mut self.send_queue);
            // The alert tells the peer the reason. Without the check of wants_write, rustls would process
            // the failed input again.
            while connection.wants_write() {
                let UnbufferedStatus {
                    state: Ok(ConnectionState::EncodeTlsData(mut message)), ..
                } = connection.process_tls_records(recv_queue.bytes_mut())
                else {
                    break;
                };
                append_message(send_queue, silent, |room| message.encode(room));
            }
            self.close_notify_done = true;
        }
        self.recv_queue.clear();
    }

    fn fail(&mut self, failure: Failure) {
        self.set_peer_state(PeerState::Failed(Box::new(failure)));
    }

    /// Moves one decrypted record to `buf`, and the part that does not fit to `leftover`. Then processes the next one.
    fn next_record(&mut self, buf: &mut [u8]) -> usize {
        let Session { connection: Some(connection), recv_queue, leftover, .. } = self else {
            return 0;
        };
        let UnbufferedStatus { mut discard, state, .. } =
            connection.process_tls_records(recv_queue.bytes_mut());
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
        self.has_plaintext = false;
        // Usually the input is exhausted, and there is nothing to answer.
        let idle = matches!(self.peer_state, PeerState::Established) && self.recv_queue.len() == 0;
        let answers = connection.wants_write();
        if !idle || self.check_key_update || answers {
            self.process();
        }
        moved
    }

    /// Decrypts all input, and moves the data to `leftover`.
    fn buffer_all(&mut self) {
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
    fn ready_to_encrypt(&mut self) -> bool {
        if !matches!(self.peer_state, PeerState::Established | PeerState::Ended) {
            return false;
        }
        // A reader takes the data from `leftover` later.
        self.buffer_all();
        matches!(self.peer_state, PeerState::Established | PeerState::Ended)
    }
}

/// A session or setup that is not needed any more. Dropping it may run the program's code.
#[derive(Debug)]
#[expect(dead_code, reason = "the fields exist only to be dropped")]
pub struct Discarded {
    session: Option<Box<Session>>,
    setup: Option<TlsSetup>,
}

impl Discarded {
    pub(super) fn session(session: Box<Session>) -> Self {
        Discarded { session: Some(session), setup: None }
    }

    pub(super) fn setup(setup: TlsSetup) -> Self {
        Discarded { session: None, setup: Some(setup) }
    }
}

/// Runs `work`, which may run the program's code: a verifier, a key log or a session store. Turns a panic into a
/// failure.
fn catch_panic<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    panic::catch_panic(work)
        .ok_or_else(|| Failure::with_message("a panic in TLS or in the code of its configuration"))
}

/// Appends a message from rustls to the send queue, or drops it if `silent`.
fn append_message(
    send_queue: &mut SendQueue,
    silent: bool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) {
    send_queue.append(0, |room| match encode(room) {
        // The message is taken out of rustls, but not sent.
        Ok(_) if silent => Ok(0),
        Ok(bytes) => Ok(bytes),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            Err(Some(required_size))
        }
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}

/// Returns the buffer size that encryption requires, or `None` if it is impossible.
fn required_size(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Some(required_size)
        }
        EncryptError::EncryptExhausted => None,
    }
}

impl Leftover {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn take(&mut self, buf: &mut [u8]) -> usize {
        let leftover = &self.bytes[self.start..];
        let taken = leftover.len().min(buf.len());
        buf[..taken].copy_from_slice(&leftover[..taken]);
        self.start += taken;
        if self.is_empty() {
            self.clear();
        }
        taken
    }

    /// Stores `bytes`; the buffer must be empty.
    fn set(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes = bytes.to_vec();
            self.start = 0;
        }
    }

    fn append(&mut self, later: &mut Leftover) {
        self.bytes.extend_from_slice(&later.bytes[later.start..]);
        later.clear();
    }

    /// Frees the memory, so that an idle session holds none.
    fn clear(&mut self) {
        *self = Leftover::default();
    }
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
