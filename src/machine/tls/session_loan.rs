//! Moves a session out of the state while it runs the program's code, and back.
//!
//! Until then, the state holds a session without a connection. It keeps the sealed and the decrypted data, so that
//! sending and reading continue.

use super::super::recv_queue::RecvBuf;
use super::connection::Connection;
use super::{CloseNotify, PeerState, Session, Terms, catch_panic};
use crate::tls::TlsSetup;

impl Session {
    /// Creates a session that runs the program's code, with `preface` queued. The driver has to [begin](Self::begin) its
    /// handshake without the lock.
    pub(in super::super) fn to_begin(setup: TlsSetup, preface: &[u8]) -> Box<Self> {
        let terms = Terms::new(&setup);
        let mut session = Box::new(Session {
            foreign: true,
            setup: Some(Box::new(setup)),
            ..Session::without_connection(terms)
        });
        session.send_queue.push(preface);
        session
    }

    /// Returns whether the handshake has yet to begin, and the session is not lent for that.
    pub(in super::super) fn awaits_begin(&self) -> bool {
        self.setup.is_some()
    }

    /// Returns whether it runs the program's code.
    pub(in super::super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Returns whether the connection is lent.
    pub(in super::super) fn is_lent(&self) -> bool {
        self.connection.is_none() && self.setup.is_none()
    }

    /// Lends the session until it is [restored](Self::restore). Returns `None` if it is lent already, or needs no
    /// input.
    pub(in super::super) fn lend(&mut self) -> Option<Box<Self>> {
        if self.is_lent() {
            return None;
        }
        let mut leftover = Session::without_connection(self.terms);
        leftover.foreign = true;
        leftover.peer_state = match self.peer_state {
            PeerState::Handshaking => PeerState::Handshaking,
            PeerState::Established => PeerState::Established,
            // Such a session takes no more input.
            PeerState::Ended | PeerState::Truncated | PeerState::Failed(_) => return None,
        };
        leftover.close_notify = self.close_notify;
        leftover.has_sealed = self.has_sealed;
        leftover.kept_fault = self.kept_fault;
        leftover.recv_deferred = self.recv_deferred;
        leftover.handshake = self.handshake;
        leftover.send_queue = std::mem::take(self.wire_queue_mut());
        leftover.leftover = std::mem::take(&mut self.leftover);
        leftover.negotiated = self.negotiated.take();
        Some(Box::new(std::mem::replace(self, leftover)))
    }

    /// Takes a session back, with the data that it decrypted and sealed. Returns whether that queued ciphertext.
    pub(in super::super) fn restore(&mut self, session: Session) -> bool {
        let mut leftover = std::mem::replace(self, session);
        let before = leftover.send_queue.len();
        leftover.send_queue.extend(std::mem::take(self.wire_queue_mut()));
        leftover.leftover.append(&mut self.leftover);
        *self.wire_queue_mut() = leftover.send_queue;
        self.leftover = leftover.leftover;
        match leftover.peer_state {
            PeerState::Handshaking | PeerState::Established => {}
            // The session ended while its connection was lent.
            PeerState::Ended | PeerState::Truncated | PeerState::Failed(_) => {
                self.peer_state = leftover.peer_state;
            }
        }
        self.recv_deferred |= leftover.recv_deferred;
        self.kept_fault = leftover.kept_fault;
        self.negotiated = leftover.negotiated.or(self.negotiated.take());
        match (leftover.close_notify, self.close_notify) {
            (CloseNotify::Due, CloseNotify::No) => {
                self.close_notify();
            }
            (CloseNotify::Queued, _) => self.close_notify = CloseNotify::Queued,
            (CloseNotify::No | CloseNotify::Due, _) => {}
        }
        self.wire_queue().len() > before
    }

    /// Begins the handshake. Queues a client's first message.
    pub(in super::super) fn begin(&mut self) {
        let Some(setup) = self.setup.take() else { return };
        match Connection::new(&setup) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.process();
            }
            Err(failure) => {
                self.peer_state = PeerState::Failed(Box::new(failure));
                self.close_outer();
            }
        }
        // This may drop the last reference to the program's configuration.
        drop(catch_panic(|| drop(setup)));
    }

    /// Processes received ciphertext and decrypts all of it, so that readers need no connection.
    pub(in super::super) fn read_tls_all(&mut self, recv_buf: &mut RecvBuf) {
        if self.outer.is_some() {
            self.read_through(recv_buf);
        } else {
            self.flood.received(recv_buf.filled());
            self.recv_queue.append(recv_buf);
            self.process();
            self.count_tickets();
            self.release(recv_buf);
        }
        self.buffer_all();
        let handshaken = !matches!(self.peer_state, PeerState::Handshaking);
        if handshaken && self.negotiated.is_none() {
            self.negotiated = self.negotiated().map(Box::new);
        }
    }
}
