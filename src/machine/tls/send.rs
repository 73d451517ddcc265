//! The output of a session: sealed data, close_notify, and the queue of ciphertext.

use rustls::unbuffered::{ConnectionState, EncryptError, InsufficientSizeError};

use super::super::recv_queue::RecvQueue;
use super::super::send_queue::{Content, SendQueue, Transmit};
use super::connection::{Connection, Records};
use super::{CloseNotify, MAX_RECORD, PeerState, RECORD_OVERHEAD, Session};
use crate::error::Fault;
use crate::tls::{Failure, Role};

impl Session {
    /// Returns whether any data may be sealed.
    pub(in super::super) fn can_seal(&self) -> bool {
        self.connection.is_some() && self.wire_queue().available() > 0
    }

    /// Seals as much of `bytes_to_seal` as the send queue has room for. If the queue is empty, the ciphertext goes
    /// straight into `transmit`. Returns the number of bytes: 0 if TLS has failed or fails now.
    pub(in super::super) fn seal(
        &mut self,
        bytes_to_seal: &[u8],
        transmit: &mut Transmit,
    ) -> usize {
        transmit.clear();
        let available = self.wire_queue().available();
        let bytes_to_seal = &bytes_to_seal[..bytes_to_seal.len().min(available)];
        if bytes_to_seal.is_empty() {
            return 0;
        }
        let sealed = if self.outer.is_none() {
            self.seal_all(bytes_to_seal, Content::Data, Some(transmit))
        } else {
            self.seal_all(bytes_to_seal, Content::Data, None) && self.wrap(Some(transmit))
        };
        self.has_sealed |= sealed;
        if sealed { bytes_to_seal.len() } else { 0 }
    }

    /// Seals all of `data`, into `transmit` if there is one and nothing is queued. Returns whether it did: not if TLS
    /// has failed or fails now.
    #[inline]
    pub(super) fn seal_all(
        &mut self,
        data: &[u8],
        content: Content,
        transmit: Option<&mut Transmit>,
    ) -> bool {
        if !self.ready_to_encrypt() {
            return false;
        }
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return false;
        };
        let sealed = match connection {
            Connection::Client(client) => {
                encrypt(client, data, content, recv_queue, send_queue, transmit)
            }
            Connection::Server(server) => {
                encrypt(server, data, content, recv_queue, send_queue, transmit)
            }
        };
        if sealed.is_none() {
            self.fail(Failure::with_message("the keys of this connection are used up"));
        }
        sealed.is_some()
    }

    /// Queues close_notify, once. Returns whether it did.
    pub(in super::super) fn close_notify(&mut self) -> bool {
        if self.is_silent() {
            return false;
        }
        if self.is_lent() && matches!(self.peer_state, PeerState::Established) {
            self.close_notify = CloseNotify::Due;
            return false;
        }
        self.close_notify = CloseNotify::Queued;
        let queued = self.queue_close_notify();
        // After that of this session.
        if self.outer.is_some() { self.close_outer() || queued } else { queued }
    }

    fn queue_close_notify(&mut self) -> bool {
        if !self.ready_to_encrypt() {
            return false;
        }
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return false;
        };
        match connection {
            Connection::Client(client) => queue_close_notify(client, recv_queue, send_queue),
            Connection::Server(server) => queue_close_notify(server, recv_queue, send_queue),
        }
    }

    /// Returns whether nothing may be sent any more.
    pub(super) fn is_silent(&self) -> bool {
        self.close_notify != CloseNotify::No
    }

    /// Ends this side's direction without close_notify.
    pub(super) fn silence(&mut self) {
        if !self.is_silent() {
            self.close_notify = CloseNotify::Queued;
        }
    }

    /// Lends the queued ciphertext.
    pub(in super::super) fn next_transmit(&mut self) -> Option<Transmit> {
        self.wire_queue_mut().next()
    }

    /// Takes a transmit buffer back, and queues its unsent bytes again.
    pub(in super::super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.wire_queue_mut().return_unsent(transmit);
    }

    /// Returns whether there is data of the program that the kernel has not accepted.
    pub(in super::super) fn has_undelivered_data(&self) -> bool {
        self.wire_queue().has_data()
    }

    /// Returns whether this side has sent nothing after its handshake except session tickets, and perhaps close_notify.
    pub(in super::super) fn has_sent_only_tickets(&self) -> bool {
        self.terms.role == Role::Server && !self.has_sealed
    }

    /// Keeps a failure of the wire, of which the first counts, for a receive that finds nothing more.
    pub(in super::super) fn keep_fault(&mut self, fault: Fault) {
        self.kept_fault.get_or_insert(fault);
    }

    pub(in super::super) fn kept_fault(&self) -> Option<Fault> {
        self.kept_fault
    }

    /// Drops queued ciphertext, because nothing can be sent any more.
    pub(in super::super) fn discard_unsent(&mut self) {
        self.send_queue.discard_all();
        self.close_notify = CloseNotify::Queued;
        if let Some(outer) = &mut self.outer {
            outer.discard_unsent();
        }
    }

    /// Drops queued records that met a peer which has closed. The program may still write, and then learns of it.
    pub(in super::super) fn discard_own_records(&mut self) {
        self.wire_queue_mut().discard();
    }

    /// Returns whether a transmit buffer is lent.
    pub(in super::super) fn transmit_in_flight(&self) -> bool {
        self.wire_queue().is_in_flight()
    }

    /// Returns whether the kernel has accepted all ciphertext.
    pub(in super::super) fn is_flushed(&self) -> bool {
        self.wire_queue().is_empty() && self.close_notify != CloseNotify::Due
    }
}

/// Encrypts data, into `transmit` if there is one and nothing is queued. Returns the size of the ciphertext.
#[inline]
fn encrypt<C: Records>(
    connection: &mut C,
    bytes_to_seal: &[u8],
    content: Content,
    recv_queue: &mut RecvQueue,
    send_queue: &mut SendQueue,
    transmit: Option<&mut Transmit>,
) -> Option<usize> {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) =
        connection.process(recv_queue.bytes_mut()).state
    else {
        return None;
    };
    let room = bytes_to_seal.len() + (bytes_to_seal.len() / MAX_RECORD + 1) * RECORD_OVERHEAD;
    let fill = |room: &mut [u8]| traffic.encrypt(bytes_to_seal, room).map_err(required_size);
    match transmit {
        Some(transmit) if send_queue.is_empty() => {
            let sealed = transmit.fill(room, fill);
            send_queue.lend(sealed.unwrap_or(0));
            sealed
        }
        Some(_) | None => send_queue.append(content, room, fill),
    }
}

/// Queues close_notify, and the answer to a key update if one is due. Returns whether it did.
fn queue_close_notify<C: Records>(
    connection: &mut C,
    recv_queue: &mut RecvQueue,
    send_queue: &mut SendQueue,
) -> bool {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) =
        connection.process(recv_queue.bytes_mut()).state
    else {
        return false;
    };
    let fill = |room: &mut [u8]| traffic.queue_close_notify(room).map_err(required_size);
    send_queue.append(Content::Own, RECORD_OVERHEAD, fill).is_some_and(|len| len > 0)
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
