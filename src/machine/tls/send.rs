//! The output of a session: sealed data, close_notify, and the queue of ciphertext.

use rustls::unbuffered::{ConnectionState, EncryptError, InsufficientSizeError};

use super::super::recv_queue::RecvQueue;
use super::super::send_queue::{SendQueue, Transmit};
use super::connection::{Connection, Records};
use super::{CloseNotify, MAX_RECORD, PeerState, RECORD_OVERHEAD, Session};
use crate::tls::Failure;

impl Session {
    /// Returns whether any data may be sealed.
    pub(in super::super) fn can_seal(&self) -> bool {
        self.connection.is_some() && self.send_queue.available() > 0
    }

    /// Seals as much of `bytes_to_seal` as the send queue has room for. If the queue is empty, the ciphertext goes
    /// straight into `transmit`. Returns the number of bytes: 0 if TLS has failed or fails now.
    pub(in super::super) fn seal(
        &mut self,
        bytes_to_seal: &[u8],
        transmit: &mut Transmit,
    ) -> usize {
        transmit.clear();
        let bytes_to_seal = &bytes_to_seal[..bytes_to_seal.len().min(self.send_queue.available())];
        if bytes_to_seal.is_empty() || !self.ready_to_encrypt() {
            return 0;
        }
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return 0;
        };
        let sealed = match connection {
            Connection::Client(client) => {
                encrypt(client, bytes_to_seal, recv_queue, send_queue, transmit)
            }
            Connection::Server(server) => {
                encrypt(server, bytes_to_seal, recv_queue, send_queue, transmit)
            }
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
    pub(in super::super) fn close_notify(&mut self) -> bool {
        if self.is_silent() {
            return false;
        }
        if self.is_lent() && matches!(self.peer_state, PeerState::Established) {
            self.close_notify = CloseNotify::Due;
            return false;
        }
        self.close_notify = CloseNotify::Queued { len: 0 };
        if !self.ready_to_encrypt() {
            return false;
        }
        let Session { connection: Some(connection), recv_queue, send_queue, .. } = self else {
            return false;
        };
        let len = match connection {
            Connection::Client(client) => queue_close_notify(client, recv_queue, send_queue),
            Connection::Server(server) => queue_close_notify(server, recv_queue, send_queue),
        };
        let Some(len) = len else { return false };
        self.close_notify = CloseNotify::Queued { len };
        len > 0
    }

    /// Returns whether nothing may be sent any more.
    pub(super) fn is_silent(&self) -> bool {
        self.close_notify != CloseNotify::No
    }

    /// Ends this side's direction without close_notify.
    pub(super) fn silence(&mut self) {
        if !self.is_silent() {
            self.close_notify = CloseNotify::Queued { len: 0 };
        }
    }

    /// Lends the queued ciphertext.
    pub(in super::super) fn next_transmit(&mut self) -> Option<Transmit> {
        self.send_queue.next()
    }

    /// Takes a transmit buffer back, and queues its unsent bytes again.
    pub(in super::super) fn return_unsent(&mut self, transmit: &mut Transmit) {
        self.send_queue.return_unsent(transmit);
    }

    /// Returns whether there is ciphertext other than close_notify that the kernel has not accepted.
    pub(in super::super) fn has_undelivered_data(&self) -> bool {
        let close_notify_len = match self.close_notify {
            CloseNotify::Queued { len } => len,
            CloseNotify::No | CloseNotify::Due => 0,
        };
        !self.send_queue.is_empty() && self.send_queue.len() > close_notify_len
    }

    /// Drops queued ciphertext, because nothing can be sent any more.
    pub(in super::super) fn discard_unsent(&mut self) {
        self.send_queue.discard_all();
        self.close_notify = CloseNotify::Queued { len: 0 };
    }

    /// Returns whether a transmit buffer is lent.
    pub(in super::super) fn transmit_in_flight(&self) -> bool {
        self.send_queue.is_in_flight()
    }

    /// Returns whether the kernel has accepted all ciphertext.
    pub(in super::super) fn is_flushed(&self) -> bool {
        self.send_queue.is_empty() && self.close_notify != CloseNotify::Due
    }
}

/// Encrypts data, into `transmit` if nothing is queued. Returns the size of the ciphertext.
#[inline]
fn encrypt<C: Records>(
    connection: &mut C,
    bytes_to_seal: &[u8],
    recv_queue: &mut RecvQueue,
    send_queue: &mut SendQueue,
    transmit: &mut Transmit,
) -> Option<usize> {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) =
        connection.process(recv_queue.bytes_mut()).state
    else {
        return None;
    };
    let room = bytes_to_seal.len() + (bytes_to_seal.len() / MAX_RECORD + 1) * RECORD_OVERHEAD;
    let fill = |room: &mut [u8]| traffic.encrypt(bytes_to_seal, room).map_err(required_size);
    if send_queue.is_empty() {
        let sealed = transmit.fill(room, fill);
        send_queue.lend(sealed.unwrap_or(0));
        sealed
    } else {
        send_queue.append(room, fill)
    }
}

/// Queues close_notify. Returns its size, or `None` if the connection cannot encrypt.
fn queue_close_notify<C: Records>(
    connection: &mut C,
    recv_queue: &mut RecvQueue,
    send_queue: &mut SendQueue,
) -> Option<usize> {
    let Ok(ConnectionState::WriteTraffic(mut traffic)) =
        connection.process(recv_queue.bytes_mut()).state
    else {
        return None;
    };
    let fill = |room: &mut [u8]| traffic.queue_close_notify(room).map_err(required_size);
    Some(send_queue.append(RECORD_OVERHEAD, fill).unwrap_or(0))
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
