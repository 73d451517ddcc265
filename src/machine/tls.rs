//! TLS of one connection, behind five verbs: [`feed`](Session::feed) ciphertext in,
//! [`take`](Session::take) application data out, [`seal`](Session::seal) application data,
//! [`drain`](Session::drain) ciphertext out, and [`close_notify`](Session::close_notify).
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
use super::intake::{Inbox, Intake};
use super::outbox::{Outbox, Parcel};
use crate::info::Agreed;
use crate::tls::{
    Failure, TlsInfo, TlsSetup, TlsVersion, When, size_of_certificates, with_certificates,
};

/// What sealing adds to a record at most, and its header: an explicit nonce, a type and a tag.
const RECORD_OVERHEAD: usize = 64;
/// The most application data of a record (RFC 8446, section 5.1).
const RECORD_MOST: usize = 16 * 1024;
/// What TLS 1.3 adds to the data of a record, where it is not padded: its header, its type, and the tag, which is as
/// long in all suites of rustls (RFC 8446, section 5.2).
const RECORD_ADDED: usize = 5 + 1 + 16;
/// So many requests for new keys are answered at once; others, while nothing is written, with the next
/// data, as some peers take many messages of that sort for an attack.
const ANSWERS_MOST: u8 = 16;
/// The longest handshake message that rustls takes, and the record that completes it.
const INBOX_MOST: usize = 128 * 1024;

pub(super) struct Session {
    /// None before the handshake has begun, and while it is lent.
    connection: Option<UnbufferedClientConnection>,
    /// It runs code that is not this crate's, and does so without the lock that guards the state.
    foreign: bool,
    /// By what the handshake begins, where it has not.
    setup: Option<Box<TlsSetup>>,
    inbox: Inbox,
    /// Decrypted data that did not fit the reader's buffer.
    rest: Rest,
    outbox: Outbox,
    standing: Standing,
    /// What came since the last data.
    flood: FloodGuard,
    /// The connection holds decrypted data.
    loaded: bool,
    /// Something but data was processed since it was last looked whether that wants an answer.
    stirred: bool,
    said_goodbye: bool,
    /// This side has ended while the session was lent.
    goodbye_due: bool,
    put_off: bool,
    /// How much of what waits, at its end, says no more than that this side has ended.
    goodbye: usize,
    /// Requests for new keys that were answered since data was sealed.
    answers: u8,
    require_close_notify: bool,
    /// How long the handshake took.
    handshake: Duration,
    /// What the handshake led to, where the connection may be lent.
    agreed: Option<Box<Agreed>>,
}

/// How the peer's direction stands.
#[derive(Debug)]
enum Standing {
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
pub(super) enum Progress {
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
pub(super) struct Remains {
    pub(super) agreed: Option<Agreed>,
    pub(super) failure: Option<Failure>,
    /// What is still to be sent, such as an alert.
    pub(super) farewell: Vec<u8>,
    /// What may run foreign code when it is dropped.
    pub(super) discarded: Option<Discarded>,
}

#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    start: usize,
}

impl Session {
    /// A session that is about to begin its handshake, with its first message ready to be sent.
    pub(super) fn new(setup: &TlsSetup) -> Result<Box<Self>, Failure> {
        let connection = guarded(|| {
            let config = Arc::clone(setup.config());
            UnbufferedClientConnection::new(config, setup.server_name().clone())
        })?
        .map_err(|error| Failure::new(error, When::Handshake))?;
        let mut session = Box::new(Session {
            connection: Some(connection),
            ..Session::without_connection(setup.require_close_notify())
        });
        session.advance();
        match session.standing {
            Standing::Failed(failure) => Err(*failure),
            Standing::Handshaking
            | Standing::Established
            | Standing::Ended
            | Standing::Truncated => Ok(session),
        }
    }

    fn without_connection(require_close_notify: bool) -> Self {
        Session {
            connection: None,
            foreign: false,
            setup: None,
            inbox: Inbox::default(),
            rest: Rest::default(),
            outbox: Outbox::default(),
            standing: Standing::Handshaking,
            flood: FloodGuard::default(),
            loaded: false,
            stirred: false,
            said_goodbye: false,
            goodbye_due: false,
            put_off: false,
            goodbye: 0,
            answers: 0,
            require_close_notify,
            handshake: Duration::ZERO,
            agreed: None,
        }
    }

    // ------------------------------------------------------------- the peer's direction

    /// Takes in what was received, and says whether that has led to ciphertext that waits. The memory of
    /// the intake may be exchanged.
    pub(super) fn feed(&mut self, intake: &mut Intake) -> bool {
        if !self.wants_more() {
            return false;
        }
        let before = self.outbox.len();
        self.flood.received(intake.received());
        self.inbox.append(intake);
        if !self.has_unread() {
            self.advance();
        }
        self.count_tickets();
        self.inbox.release(intake);
        self.outbox.len() > before
    }

    fn count_tickets(&mut self) {
        if let Some(connection) = &self.connection {
            self.flood.tickets(connection.tls13_tickets_received());
        }
    }

    /// Whether so much came without data that [`bound_flood`](Self::bound_flood) has to be asked.
    pub(super) fn is_suspicious(&self) -> bool {
        self.flood.is_suspicious() && self.wants_more() && !self.has_unread()
    }

    /// Fails where more came without data than any peer has to send.
    pub(super) fn bound_flood(&mut self, now: Instant) {
        if self.flood.is_flood(now) {
            self.fail(Failure::plain("the peer sent too many records without data"));
        }
    }

    /// The peer's FIN has come, and nothing is unread.
    pub(super) fn eof(&mut self) {
        // What is left in the command queue is a part of a record, or of a message in several records.
        let is_between_records = self.inbox.len() == 0;
        match self.standing {
            Standing::Handshaking => {
                self.standing = Standing::Failed(Box::new(Failure::ended_early()));
            }
            Standing::Established if self.require_close_notify || !is_between_records => {
                self.standing = Standing::Truncated;
            }
            Standing::Established => self.standing = Standing::Ended,
            Standing::Ended | Standing::Truncated | Standing::Failed(_) => {}
        }
    }

    /// Moves unread data to `buf`, as much as there is and fits.
    pub(super) fn take(&mut self, buf: &mut [u8]) -> usize {
        let mut taken = self.rest.take(buf);
        while self.loaded && taken < buf.len() && self.rest.is_empty() {
            taken += self.unload(&mut buf[taken..]);
        }
        taken
    }

    /// Drops unread data, of which there may be more than one record.
    pub(super) fn drop_unread(&mut self) {
        self.rest.clear();
        while self.loaded {
            self.unload(&mut []);
            self.rest.clear();
        }
    }

    /// Whether there is decrypted data that nobody has taken.
    pub(super) fn has_unread(&self) -> bool {
        self.loaded || !self.rest.is_empty()
    }

    /// Whether what comes in is of any use.
    pub(super) fn wants_more(&self) -> bool {
        matches!(self.standing, Standing::Handshaking | Standing::Established)
    }

    /// Whether it wants more, and can take it.
    pub(super) fn is_fed(&self) -> bool {
        self.wants_more() && self.connection.is_some()
    }

    /// In a handshake one step follows another: where the next one fails, the alert that says so goes behind
    /// what is being sent. Whether that is so now.
    pub(super) fn puts_off(&mut self) -> bool {
        let busy = matches!(self.standing, Standing::Handshaking) && self.outbox.is_lent();
        self.put_off |= busy;
        busy
    }

    /// Whether somebody was put off, who has to be asked again.
    pub(super) fn has_put_off(&mut self) -> bool {
        std::mem::take(&mut self.put_off)
    }

    pub(super) fn progress(&self) -> Progress {
        match self.standing {
            Standing::Handshaking => Progress::Handshaking,
            Standing::Established => Progress::Established,
            Standing::Ended => Progress::Ended,
            Standing::Truncated => Progress::Truncated,
            Standing::Failed(_) => Progress::Failed,
        }
    }

    /// The handshake is done, after so long.
    pub(super) fn secured(&mut self, took: Duration) {
        self.handshake = took;
    }

    // ------------------------------------------------------------- this side's direction

    /// Whether anything may be sealed.
    pub(super) fn has_room(&self) -> bool {
        self.connection.is_some() && self.outbox.room() > 0
    }

    /// Seals as much of `load` as there is room for, into `parcel` where nothing waits before it. Nothing
    /// is sealed where TLS has failed, or fails now.
    pub(super) fn seal(&mut self, load: &[u8], parcel: &mut Parcel) -> usize {
        parcel.clear();
        let load = &load[..load.len().min(self.outbox.room())];
        if load.is_empty() || !self.reach_write() {
            return 0;
        }
        self.answers = 0;
        let Session { connection: Some(connection), inbox, outbox, .. } = self else { return 0 };
        let sealed = match connection.process_tls_records(inbox.bytes_mut()).state {
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let room = load.len() + (load.len() / RECORD_MOST + 1) * RECORD_OVERHEAD;
                let fill = |room: &mut [u8]| traffic.encrypt(load, room).map_err(needed);
                if outbox.is_empty() {
                    let sealed = parcel.fill(room, fill);
                    outbox.lend(sealed.unwrap_or(0));
                    sealed
                } else {
                    outbox.append(room, fill)
                }
            }
            Ok(_) | Err(_) => None,
        };
        match sealed {
            Some(_) => load.len(),
            None => {
                self.fail(Failure::plain("the keys of this connection are used up"));
                0
            }
        }
    }

    /// Says that this side will send no more, once. Whether it did.
    pub(super) fn close_notify(&mut self) -> bool {
        if std::mem::replace(&mut self.said_goodbye, true) {
            return false;
        }
        self.goodbye_due = self.is_lent() && matches!(self.standing, Standing::Established);
        if !self.reach_write() {
            return false;
        }
        let Session { connection: Some(connection), inbox, outbox, .. } = self else {
            return false;
        };
        let state = connection.process_tls_records(inbox.bytes_mut()).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let fill = |room: &mut [u8]| traffic.queue_close_notify(room).map_err(needed);
            self.goodbye = outbox.append(RECORD_OVERHEAD, fill).unwrap_or(0);
        }
        self.goodbye > 0
    }

    /// Lends the ciphertext that waits.
    pub(super) fn drain(&mut self) -> Option<Parcel> {
        self.outbox.take()
    }

    /// Takes back a parcel, with what of it was not sent.
    pub(super) fn give_back(&mut self, parcel: &mut Parcel) {
        self.outbox.give_back(parcel);
    }

    /// Whether something is not with the system that says more than that this side has ended.
    pub(super) fn owes_data(&self) -> bool {
        !self.outbox.is_empty() && self.outbox.len() > self.goodbye
    }

    /// Nothing can be sent any more.
    pub(super) fn stop_sending(&mut self) {
        self.outbox.shut();
        self.said_goodbye = true;
        self.goodbye_due = false;
    }

    /// Whether a parcel is lent.
    pub(super) fn is_transmitting(&self) -> bool {
        self.outbox.is_lent()
    }

    /// Whether all ciphertext is with the system.
    pub(super) fn is_drained(&self) -> bool {
        self.outbox.is_empty() && !self.goodbye_due
    }

    // ------------------------------------------------------------- what there is to tell

    /// What the handshake led to, once it has.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        if let Some(agreed) = &self.agreed {
            return Some(Agreed { handshake: self.handshake, ..Agreed::clone(agreed) });
        }
        let connection = self.connection.as_ref()?;
        let version = TlsVersion::from_rustls(connection.protocol_version()?)?;
        let suite = connection.negotiated_cipher_suite()?;
        let certificates = connection.peer_certificates().unwrap_or_default();
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        Some(Agreed {
            tls: TlsInfo::new(version, suite, certificates.to_vec(), resumed),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            handshake: self.handshake,
        })
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        match &self.standing {
            Standing::Failed(failure) => Some(failure),
            Standing::Handshaking
            | Standing::Established
            | Standing::Ended
            | Standing::Truncated => None,
        }
    }

    /// What still may go out where nothing more is wanted of it.
    pub(super) fn take_farewell(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.outbox).into_bytes()
    }

    pub(super) fn into_remains(mut self: Box<Self>) -> Remains {
        let agreed = self.agreed();
        let farewell = self.take_farewell();
        let failure = match std::mem::replace(&mut self.standing, Standing::Ended) {
            Standing::Failed(failure) => Some(*failure),
            Standing::Handshaking
            | Standing::Established
            | Standing::Ended
            | Standing::Truncated => None,
        };
        let discarded = self.foreign.then(|| Discarded::session(self));
        Remains { agreed, failure, farewell, discarded }
    }

    // ------------------------------------------------------------- the connection

    /// Processes what was received, up to the first application data or to where more is needed.
    fn advance(&mut self) {
        while !self.loaded && self.step() {}
        if self.inbox.len() > INBOX_MOST {
            self.fail(Failure::plain("the peer sent a TLS message that is too long"));
        }
    }

    /// One state of the connection; says whether there may be another.
    fn step(&mut self) -> bool {
        match guarded(|| self.next_state_within_bounds()) {
            Ok(more) => more,
            Err(failure) => {
                // Nobody knows what it is in now: it is not touched again. Behind this side's close_notify a
                // debug build of rustls panics where it would send an alert.
                let failure = match self.said_goodbye {
                    true => {
                        Failure::plain("the peer sent a record that is no part of the connection")
                    }
                    false => failure,
                };
                self.standing = Standing::Failed(Box::new(failure));
                self.said_goodbye = true;
                self.inbox.clear();
                false
            }
        }
    }

    /// Only a handshake verifies certificates.
    fn next_state_within_bounds(&mut self) -> bool {
        if !matches!(self.standing, Standing::Handshaking) {
            return self.next_state();
        }
        let certificates = self.connection.as_ref().and_then(|it| it.peer_certificates());
        let certificates = certificates.map(size_of_certificates);
        with_certificates(certificates, || self.next_state())
    }

    #[inline]
    fn next_state(&mut self) -> bool {
        let silent = self.said_goodbye;
        let Session { connection: Some(connection), inbox, outbox, .. } = self else {
            return false;
        };
        let UnbufferedStatus { discard, state, .. } =
            connection.process_tls_records(inbox.bytes_mut());
        let mut discard = discard;
        let mut handshaken = false;
        let mut answer = false;
        let mut answering = false;
        let mut nothing_else = discard == 0;
        let (more, standing) = match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                if matches!(self.standing, Standing::Handshaking) {
                    // Data came right behind the peer's last message, and is in the way of this side's.
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        self.rest.bytes.extend_from_slice(record.payload);
                    }
                    self.flood.reset();
                    (true, None)
                } else {
                    self.loaded = true;
                    self.flood.reset();
                    // All that was processed is one record, of data.
                    let data = traffic.peek_len().map_or(0, NonZeroUsize::get);
                    nothing_else = discard == data + RECORD_ADDED;
                    (false, None)
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => {
                encode(outbox, silent, |room| message.encode(room));
                (true, None)
            }
            Ok(ConnectionState::TransmitTlsData(transmitted)) => {
                transmitted.done();
                (true, None)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                handshaken = true;
                let stirred = std::mem::take(&mut self.stirred) || discard > 0;
                if stirred && !silent && self.answers < ANSWERS_MOST {
                    // What the peer asked for, new keys, rustls would answer with the next data only.
                    // To ask it to seal a byte into no room at all makes it bring the answer out.
                    let _ = traffic.encrypt(&[0], &mut []);
                    answer = true;
                    answering = connection.wants_write();
                }
                (answer, None)
            }
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                (false, Some(Standing::Ended))
            }
            // The rest is of servers, or waits for more.
            Ok(_) => (false, None),
            Err(error) => {
                let when = match (&self.standing, &error) {
                    // It has answered in TLS, so that this is no plaintext.
                    (Standing::Handshaking, Error::InvalidMessage(_))
                        if connection.protocol_version().is_some() =>
                    {
                        When::Data
                    }
                    (Standing::Handshaking, _) => When::Handshake,
                    _ => When::Data,
                };
                (false, Some(Standing::Failed(Box::new(Failure::new(error, when)))))
            }
        };
        self.stirred |= !nothing_else && !answer;
        self.answers += u8::from(answering);
        self.inbox.discard(discard);
        if handshaken && matches!(self.standing, Standing::Handshaking) {
            self.standing = Standing::Established;
            self.flood.reset();
        }
        if let Some(standing) = standing {
            self.end(standing);
        }
        more
    }

    /// Nothing that follows counts, but what is to be said about it.
    fn end(&mut self, standing: Standing) {
        self.standing = standing;
        if let (Standing::Failed(_), Some(connection)) = (&self.standing, &mut self.connection) {
            let silent = self.said_goodbye;
            let (inbox, outbox) = (&mut self.inbox, &mut self.outbox);
            // The alert that tells the peer why. Where nothing is left to be said, rustls would look at what
            // failed once more.
            while connection.wants_write() {
                let UnbufferedStatus {
                    state: Ok(ConnectionState::EncodeTlsData(mut message)), ..
                } = connection.process_tls_records(inbox.bytes_mut())
                else {
                    break;
                };
                encode(outbox, silent, |room| message.encode(room));
            }
            self.said_goodbye = true;
        }
        self.inbox.clear();
    }

    fn fail(&mut self, failure: Failure) {
        self.end(Standing::Failed(Box::new(failure)));
    }

    /// Moves one record that is decrypted to `buf`, and what does not fit to the rest. Then looks for
    /// the next.
    fn unload(&mut self, buf: &mut [u8]) -> usize {
        let Session { connection: Some(connection), inbox, rest, .. } = self else { return 0 };
        let UnbufferedStatus { mut discard, state, .. } =
            connection.process_tls_records(inbox.bytes_mut());
        let mut moved = 0;
        if let Ok(ConnectionState::ReadTraffic(mut traffic)) = state {
            if let Some(Ok(record)) = traffic.next_record() {
                discard += record.discard;
                moved = record.payload.len().min(buf.len());
                let (now, later) = record.payload.split_at(moved);
                buf[..moved].copy_from_slice(now);
                rest.keep(later);
            }
        }
        inbox.discard(discard);
        self.loaded = false;
        // Mostly that was all that came, and there is nothing to say to it.
        let idle = matches!(self.standing, Standing::Established) && self.inbox.len() == 0;
        let answers = connection.wants_write();
        if !idle || self.stirred || answers {
            self.advance();
        }
        moved
    }

    /// Moves all that is decrypted, and all that comes to light behind it, to the rest.
    fn unload_all(&mut self) {
        if self.loaded {
            let mut rest = std::mem::take(&mut self.rest);
            while self.loaded {
                self.unload(&mut []);
                rest.append(&mut self.rest);
            }
            self.rest = rest;
        }
    }

    /// Brings the connection to where it seals; says whether it does. Decrypted data would be in the way,
    /// and what is in the command queue is not to be lost.
    fn reach_write(&mut self) -> bool {
        if !matches!(self.standing, Standing::Established | Standing::Ended) {
            return false;
        }
        // A reader will take it from there.
        self.unload_all();
        matches!(self.standing, Standing::Established | Standing::Ended)
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
fn guarded<R>(work: impl FnOnce() -> R) -> Result<R, Failure> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|payload| {
        // To drop it may panic again.
        std::mem::forget(payload);
        Failure::plain("there was a panic in TLS, or in what its configuration calls")
    })
}

/// Appends a message of rustls' own, or drops it where nothing may follow any more.
fn encode(
    outbox: &mut Outbox,
    silent: bool,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) {
    outbox.append(0, |room| match encode(room) {
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
fn needed(error: EncryptError) -> Option<usize> {
    match error {
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            Some(required_size)
        }
        EncryptError::EncryptExhausted => None,
    }
}

impl Rest {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.bytes[self.start..];
        let taken = rest.len().min(buf.len());
        buf[..taken].copy_from_slice(&rest[..taken]);
        self.start += taken;
        if self.is_empty() {
            self.clear();
        }
        taken
    }

    /// Holds on to `bytes`, where nothing is left.
    fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes = bytes.to_vec();
            self.start = 0;
        }
    }

    fn append(&mut self, later: &mut Rest) {
        self.bytes.extend_from_slice(&later.bytes[later.start..]);
        later.clear();
    }

    /// An idle session holds no memory for it.
    fn clear(&mut self) {
        *self = Rest::default();
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("standing", &self.standing)
            .field("unread", &self.has_unread())
            .field("drained", &self.is_drained())
            .finish_non_exhaustive()
    }
}
