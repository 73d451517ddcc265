//! TLS of one connection, behind five verbs: [`read_tls`](Session::read_tls) ciphertext in,
//! [`take`](Session::take) application data out, [`seal`](Session::seal) application data,
//! [`next_transmit`](Session::next_transmit) ciphertext out, and [`close_notify`](Session::close_notify).
//!
//! Nothing else in the crate knows what a connection of rustls is. Its unbuffered interface is used: what
//! was received is decrypted where it lies, and an idle connection holds no buffer.
//!
//! Between two calls a session has processed what it was fed up to the first application data that is
//! unread, or up to where more is needed: so whoever looks knows whether anything is unread, and whether
//! the peer has ended, and no more than one record is taken ahead.

mod lending;

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
use super::intake::{RecvBuf, RecvQueue};
use super::outbox::{SendQueue, Transmit};
use crate::info::Negotiated;
use crate::tls::{
    Failure, Stage, TlsInfo, TlsSetup, TlsVersion, size_of_certificates, with_certificates,
};

/// What sealing adds to a record at most, and its header: an explicit nonce, a type and a tag.
const RECORD_OVERHEAD: usize = 64;
/// The most application data of a record (RFC 8446, section 5.1).
const MAX_RECORD: usize = 16 * 1024;
/// What TLS 1.3 adds to the data of a record, where it is not padded: its header, its type, and the tag, which is as
/// long in all suites of rustls (RFC 8446, section 5.2).
const TLS13_OVERHEAD: usize = 5 + 1 + 16;
/// So many requests for new keys are answered at once; others, while nothing is written, with the next
/// data, as some peers take many messages of that sort for an attack.
const MAX_KEY_UPDATE_REPLIES: u8 = 16;
/// The longest handshake message that rustls takes, and the record that completes it.
const MAX_RECV_QUEUE: usize = 128 * 1024;

pub(super) struct Session {
    /// None before the handshake has begun, and while it is lent.
    connection: Option<UnbufferedClientConnection>,
    /// It runs code that is not this crate's, and does so without the lock that guards the state.
    foreign: bool,
    /// By what the handshake begins, where it has not.
    setup: Option<Box<TlsSetup>>,
    recv_queue: RecvQueue,
    /// Decrypted data that did not fit the reader's buffer.
    leftover: Leftover,
    send_queue: SendQueue,
    peer_state: PeerState,
    /// What came since the last data.
    flood: FloodGuard,
    /// The connection holds decrypted data.
    has_plaintext: bool,
    /// Something but data was processed since it was last looked whether that wants an answer.
    check_key_update: bool,
    close_notify_done: bool,
    /// This side has ended while the session was lent.
    close_notify_due: bool,
    recv_deferred: bool,
    /// How much of what waits, at its end, says no more than that this side has ended.
    close_notify_len: usize,
    /// Requests for new keys that were answered since data was sealed.
    key_update_replies: u8,
    require_close_notify: bool,
    /// How long the handshake took.
    handshake: Duration,
    /// What the handshake led to, where the connection may be lent.
    negotiated: Option<Box<Negotiated>>,
}

/// How the peer's direction stands.
#[derive(Debug)]
enum PeerState {
    Handshaking,
    Established,
    /// By close_notify, or by an end that is as good.
    Ended,
    /// By an end without close_notify.
    Truncated,
    Failed(Box<Failure>),
}

/// How far a session has come, where nothing of it is unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// In the handshake.
    Handshaking,
    /// Data may come.
    Established,
    /// The peer has ended.
    Ended,
    /// The peer has ended without saying so.
    Truncated,
    /// TLS failed.
    Failed,
}

/// What is left of a session that is over.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub(super) negotiated: Option<Negotiated>,
    pub(super) failure: Option<Failure>,
    /// What is still to be sent, such as an alert.
    pub(super) final_records: Vec<u8>,
    /// What may run foreign code when it is dropped.
    pub(super) discarded: Option<Discarded>,
}

#[derive(Default)]
struct Leftover {
    bytes: Vec<u8>,
    start: usize,
}

impl Session {
    /// A session that is about to begin its handshake, with its first message ready to be sent.
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
            require_close_notify,
            handshake: Duration::ZERO,
            negotiated: None,
        }
    }

    // ------------------------------------------------------------- the peer's direction

    /// Takes in what was received, and says whether that has led to ciphertext that waits. The memory of
    /// the intake may be exchanged.
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

    /// Whether so much came without data that [`bound_flood`](Self::bound_flood) has to be asked.
    pub(super) fn is_suspicious(&self) -> bool {
        self.flood.is_suspicious() && self.wants_tls() && !self.has_unread()
    }

    /// Fails where more came without data than any peer has to send.
    pub(super) fn bound_flood(&mut self, now: Instant) {
        if self.flood.is_flood(now) {
            self.fail(Failure::with_message("the peer sent too many records without data"));
        }
    }

    /// The peer's FIN has come, and nothing is unread.
    pub(super) fn eof(&mut self) {
        // What is left in the command queue is a part of a record, or of a message in several records.
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

    /// Moves unread data to `buf`, as much as there is and fits.
    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut taken = self.leftover.take(buf);
        while self.has_plaintext && taken < buf.len() && self.leftover.is_empty() {
            taken += self.next_record(&mut buf[taken..]);
        }
        taken
    }

    /// Drops unread data, of which there may be more than one record.
    pub(super) fn drop_unread(&mut self) {
        self.leftover.clear();
        while self.has_plaintext {
            self.next_record(&mut []);
            self.leftover.clear();
        }
    }

    /// Whether there is decrypted data that nobody has taken.
    pub(super) fn has_unread(&self) -> bool {
        self.has_plaintext || !self.leftover.is_empty()
    }

    /// Whether what comes in is of any use.
    pub(super) fn wants_tls(&self) -> bool {
        matches!(self.peer_state, PeerState::Handshaking | PeerState::Established)
    }

    /// Whether it wants more, and can take it.
    pub(super) fn can_read_tls(&self) -> bool {
        self.wants_tls() && self.connection.is_some()
    }

    /// In a handshake one step follows another: where the next one fails, the alert that says so goes behind
    /// what is being sent. Whether that is so now.
    pub(super) fn defers_recv(&mut self) -> bool {
        let busy =
            matches!(self.peer_state, PeerState::Handshaking) && self.send_queue.is_in_flight();
        self.recv_deferred |= busy;
        busy
    }

    /// Whether somebody was put off, who has to be asked again.
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

    /// The handshake is done, after so long.
    pub(super) fn set_handshake_time(&mut self, took: Duration) {
        self.handshake = took;
    }

    // ------------------------------------------------------------- this side's direction

    /// Whether anything may be sealed.
    pub(super) fn can_seal(&self) -> bool {
        self.connection.is_some() && self.send_queue.available() > 0
    }

    /// Seals as much of `load` as there is room for, into `transmit buffer` where nothing waits before it. Nothing
    /// is sealed where TLS has failed, or fails now.
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

    /// Says that this side will send no more, once. Whether it did.
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

    /// Lends the ciphertext that waits.
    pub(super) fn next_transmit(&mut self) -> Option<Transmit> {
        self.send_queue.next()
    }

    /// Takes back a transmit buffer, with what of it was not sent.
    pub(super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.send_queue.return_unsent(transmit);
    }

    /// Whether something is not with the system that says more than that this side has ended.
    pub(super) fn has_undelivered_data(&self) -> bool {
        !self.send_queue.is_empty() && self.send_queue.len() > self.close_notify_len
    }

    /// Nothing can be sent any more.
    pub(super) fn discard_unsent(&mut self) {
        self.send_queue.discard_all();
        self.close_notify_done = true;
        self.close_notify_due = false;
    }

    /// Whether a transmit buffer is lent.
    pub(super) fn transmit_in_flight(&self) -> bool {
        self.send_queue.is_in_flight()
    }

    /// Whether all ciphertext is with the system.
    pub(super) fn is_flushed(&self) -> bool {
        self.send_queue.is_empty() && !self.close_notify_due
    }

    // ------------------------------------------------------------- what there is to tell

    /// What the handshake led to, once it has.
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

    /// What still may go out where nothing more is wanted of it.
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

    /// Processes what was received, up to the first application data or to where more is needed.
    fn process(&mut self) {
        while !self.has_plaintext && self.process_one() {}
        if self.recv_queue.len() > MAX_RECV_QUEUE {
            self.fail(Failure::with_message("the peer sent a TLS message that is too long"));
        }
    }

    /// One state of the connection; says whether there may be another.
    fn process_one(&mut self) -> bool {
        match catch_panic(|| self.next_state_within_bounds()) {
            Ok(more) => more,
            Err(failure) => {
                // Nobody knows what it is in now: it is not touched again. Behind this side's close_notify a
                // debug build of rustls panics where it would send an alert.
                let failure = match self.close_notify_done {
                    true => Failure::with_message(
                        "the peer sent a record that is no part of the connection",
                    ),
                    false => failure,
                };
                self.peer_state = PeerState::Failed(Box::new(failure));
                self.close_notify_done = true;
                self.recv_queue.clear();
                false
            }
        }
    }

    /// Only a handshake verifies certificates.
    fn next_state_within_bounds(&mut self) -> bool {
        if !matches!(self.peer_state, PeerState::Handshaking) {
            return self.process_state();
        }
        let certificates = self.connection.as_ref().and_then(|it| it.peer_certificates());
        let certificates = certificates.map(size_of_certificates);
        with_certificates(certificates, || self.process_state())
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
                    // Data came right behind the peer's last message, and is in the way of this side's.
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        self.leftover.bytes.extend_from_slice(record.payload);
                    }
                    self.flood.reset();
                    (true, None)
                } else {
                    self.has_plaintext = true;
                    self.flood.reset();
                    // All that was processed is one record, of data.
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
                    // What the peer asked for, new keys, rustls would answer with the next data only.
                    // To ask it to seal a byte into no room at all makes it bring the answer out.
                    let _ = traffic.encrypt(&[0], &mut []);
                    asks_for_reply = true;
                    has_reply = connection.wants_write();
                }
                (asks_for_reply, None)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                (false, Some(PeerState::Ended))
            }
            // The rest is of servers, or waits for more.
            Ok(_) => (false, None),
            Err(error) => {
                let when = match (&self.peer_state, &error) {
                    // It has answered in TLS, so that this is no plaintext.
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

    /// Nothing that follows counts, but what is to be said about it.
    fn set_peer_state(&mut self, peer_state: PeerState) {
        self.peer_state = peer_state;
        if let (PeerState::Failed(_), Some(connection)) = (&self.peer_state, &mut self.connection) {
            let silent = self.close_notify_done;
            let (recv_queue, send_queue) = (&mut self.recv_queue, &mut self.send_queue);
            // The alert that tells the peer why. Where nothing is left to be said, rustls would look at what
            // failed once more.
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

    /// Moves one record that is decrypted to `buf`, and what does not fit to the rest. Then looks for
    /// the next.
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
        // Mostly that was all that came, and there is nothing to say to it.
        let idle = matches!(self.peer_state, PeerState::Established) && self.recv_queue.len() == 0;
        let answers = connection.wants_write();
        if !idle || self.check_key_update || answers {
            self.process();
        }
        moved
    }

    /// Moves all that is decrypted, and all that comes to light behind it, to the rest.
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

    /// Brings the connection to where it seals; says whether it does. Decrypted data would be in the way,
    /// and what is in the command queue is not to be lost.
    fn ready_to_encrypt(&mut self) -> bool {
        if !matches!(self.peer_state, PeerState::Established | PeerState::Ended) {
            return false;
        }
        // A reader will take it from there.
        self.buffer_all();
        matches!(self.peer_state, PeerState::Established | PeerState::Ended)
    }
}

/// Sessions and settings of which nothing is wanted any more. To drop them may run code that is not this
/// crate's.
#[derive(Debug)]
#[expect(dead_code, reason = "it is there to be dropped")]
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

/// Runs what may run code of the program: a verifier, a key log, a store of sessions.
fn catch_panic<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|payload| {
        // To drop it may panic again.
        std::mem::forget(payload);
        Failure::with_message("there was a panic in TLS, or in what its configuration calls")
    })
}

/// Appends a message of rustls' own, or drops it where nothing may follow any more.
fn append_message(
    send_queue: &mut SendQueue,
    silent: bool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) {
    send_queue.append(0, |room| match encode(room) {
        // What may not follow is taken from rustls all the same.
        Ok(_) if silent => Ok(0),
        Ok(bytes) => Ok(bytes),
        Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
            Err(Some(required_size))
        }
        Err(EncodeError::AlreadyEncoded) => Err(None),
    });
}

/// What sealing takes, where it can be.
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

    /// Holds on to `bytes`, where nothing is left.
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

    /// An idle session holds no memory for it.
    fn clear(&mut self) {
        *self = Leftover::default();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("standing", &self.peer_state)
            .field("unread", &self.has_unread())
            .field("drained", &self.is_flushed())
            .finish_non_exhaustive()
    }
}
