//! The input of a session, one state of the rustls connection after the other.

use std::num::NonZeroUsize;

use rustls::Error;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};

use super::super::send_queue::SendQueue;
use super::{
    MAX_KEY_UPDATE_REPLIES, MAX_RECV_QUEUE, PeerState, Session, TLS13_OVERHEAD, catch_panic,
};
use crate::tls::{Failure, Stage, size_of_certificates, with_certificates};

impl Session {
    /// Processes input up to the first application data, or until more input is needed.
    pub(super) fn process(&mut self) {
        while !self.has_plaintext && self.process_one() {}
        if self.recv_queue.len() > MAX_RECV_QUEUE {
            self.fail(Failure::with_message("the peer sent a TLS message that is too long"));
        }
    }

    /// Processes one state of the rustls connection. Returns whether there may be another.
    pub(super) fn process_one(&mut self) -> bool {
        match catch_panic(|| self.next_state_within_bounds()) {
            Ok(more) => more,
            Err(failure) => {
                // The connection's state is unknown now, so it is not used again. After this side's
                // close_notify, a debug build of rustls panics when it would send an alert.
                let failure = match self.is_silent() {
                    true => Failure::with_message("the peer sent a record that can't be processed"),
                    false => failure,
                };
                self.peer_state = PeerState::Failed(Box::new(failure));
                self.silence();
                self.recv_queue.clear();
                false
            }
        }
    }

    /// Processes the next state, and provides the size of the peer's certificates to the session cache.
    pub(super) fn next_state_within_bounds(&mut self) -> bool {
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
    pub(super) fn set_peer_state(&mut self, peer_state: PeerState) {
        self.peer_state = peer_state;
        let silent = self.is_silent();
        if let (PeerState::Failed(_), Some(connection)) = (&self.peer_state, &mut self.connection) {
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
            self.silence();
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
        if !matches!(self.peer_state, PeerState::Established | PeerState::Ended) {
            return false;
        }
        // A reader takes the data from `leftover` later.
        self.buffer_all();
        matches!(self.peer_state, PeerState::Established | PeerState::Ended)
    }
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
