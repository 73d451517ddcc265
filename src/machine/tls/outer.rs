//! TLS within TLS: a session whose records are the data of another one, which secures the connection to a proxy.
//!
//! The inner session is the user's. The outer one never keeps data: what it decrypts is the input of the inner one at
//! once, and what the inner one encrypts it encrypts again at once. So the queue of ciphertext is that of the outer
//! session, and unread data is that of the inner one.

use std::time::Instant;

use super::super::recv_queue::RecvBuf;
use super::super::send_queue::{Content, SendQueue, Transmit};
use super::{PeerState, Session};
use crate::tls::Failure;

/// The session with a proxy, on its way to the machine that takes over an upgraded connection.
#[derive(Debug)]
pub struct ProxySession(pub(in super::super) Box<Session>);

impl Session {
    /// Marks the session as one with a proxy: it says nothing about the target.
    pub(in super::super) fn with_proxy(mut self: Box<Self>) -> Box<Self> {
        self.terms.is_with_proxy = true;
        self
    }

    /// Returns whether only a proxy is at the other end, so that the data is the plaintext of the target.
    pub(in super::super) fn is_with_proxy(&self) -> bool {
        self.terms.is_with_proxy
    }

    /// Returns whether a session with a proxy carries this one.
    pub(in super::super) fn goes_through_proxy(&self) -> bool {
        self.outer.is_some()
    }

    /// Sends and receives through `outer` from now on. Data that is unread there is input of this session.
    pub(in super::super) fn through(mut self: Box<Self>, outer: Box<Session>) -> Box<Self> {
        self.foreign |= outer.foreign;
        self.outer = Some(outer);
        self.pull();
        self.wrap_queued();
        self
    }

    /// Returns whether the failure of this session is one of TLS with a proxy.
    pub(in super::super) fn failed_with_proxy(&self) -> bool {
        match &self.outer {
            Some(outer) => matches!(outer.peer_state, PeerState::Failed(_)),
            None => self.terms.is_with_proxy && matches!(self.peer_state, PeerState::Failed(_)),
        }
    }

    // ------------------------------------------------------------- data of a dialogue

    /// Decrypts everything that has arrived. Returns what no reader has taken.
    pub(in super::super) fn unread(&mut self) -> &[u8] {
        self.buffer_all();
        &self.leftover.bytes[self.leftover.start..]
    }

    /// Takes the first bytes of [`unread`](Self::unread).
    pub(in super::super) fn skip(&mut self, bytes: usize) {
        self.leftover.skip(bytes);
    }

    /// Returns whether a part of a record has arrived, and no data before it is unread.
    pub(in super::super) fn has_partial_record(&self) -> bool {
        self.wants_tls() && !self.has_unread() && self.recv_queue.len() > 0
    }

    /// Queues a message of a dialogue, whatever the queue holds. It is lost if TLS has failed.
    pub(in super::super) fn queue(&mut self, data: &[u8]) {
        self.seal_all(data, Content::Own, None);
    }

    /// Defers a receive until the kernel has everything that is queued. Returns whether it has to wait.
    pub(in super::super) fn defers_until_flushed(&mut self) -> bool {
        let busy = !self.is_flushed();
        self.recv_deferred |= busy;
        busy
    }

    // ------------------------------------------------------------- the inner session

    /// Processes ciphertext of the outer session.
    #[inline(never)]
    pub(super) fn read_through(&mut self, recv_buf: &mut RecvBuf) {
        if let Some(outer) = &mut self.outer {
            outer.read_tls(recv_buf);
            self.pull();
        }
    }

    /// Moves what the outer session has decrypted to the input.
    pub(super) fn pull(&mut self) {
        let Session { outer: Some(outer), recv_queue, flood, .. } = self else { return };
        outer.buffer_all();
        let records = outer.leftover.take_all();
        if !records.is_empty() {
            flood.received(&records);
            recv_queue.extend(records);
        }
        if !self.has_unread() {
            self.process();
        }
        self.count_tickets();
        self.follow_outer_end();
    }

    /// Ends the peer's direction if the outer session has ended, once all input before that is processed.
    pub(super) fn follow_outer_end(&mut self) {
        if self.recv_queue.len() == 0 {
            // An idle session holds no memory.
            self.recv_queue.clear();
        }
        if self.has_plaintext || !self.wants_tls() {
            return;
        }
        let Some(outer) = &self.outer else { return };
        match &outer.peer_state {
            PeerState::Handshaking | PeerState::Established => {}
            PeerState::Ended | PeerState::Truncated => self.end_peer(),
            PeerState::Failed(_) => self.fail_with_outer(),
        }
    }

    /// Fails because the outer session has failed.
    fn fail_with_outer(&mut self) {
        let failure = match self.outer.as_ref().map(|outer| &outer.peer_state) {
            Some(PeerState::Failed(failure)) => failure.clone(),
            _ => Box::new(Failure::with_message("TLS with the proxy has ended")),
        };
        self.peer_state = PeerState::Failed(failure);
        self.silence();
        self.recv_queue.clear();
    }

    /// Fails the outer session if it received more without data than any legitimate proxy sends.
    pub(super) fn bound_outer_flood(&mut self, now: Instant) {
        if let Some(outer) = self.outer.as_mut().filter(|outer| outer.is_suspicious()) {
            outer.bound_flood(now);
            self.follow_outer_end();
        }
    }

    /// Handles the FIN of the wire.
    pub(super) fn outer_eof(&mut self) {
        if let Some(outer) = &mut self.outer {
            // Whether anything is missing, only the inner session knows.
            if matches!(outer.peer_state, PeerState::Established) {
                outer.peer_state = PeerState::Ended;
            }
            self.follow_outer_end();
        }
    }

    // ------------------------------------------------------------- the way out

    /// Encrypts what this session has queued once more.
    pub(super) fn wrap_queued(&mut self) {
        if self.outer.is_some() && !self.send_queue.is_empty() {
            self.wrap(None);
        }
    }

    /// Encrypts what this session has queued once more, into `transmit` if nothing else waits. Returns whether it could.
    pub(super) fn wrap(&mut self, transmit: Option<&mut Transmit>) -> bool {
        let Some(outer) = &mut self.outer else { return true };
        let content = if self.send_queue.has_data() { Content::Data } else { Content::Own };
        let records = std::mem::take(&mut self.send_queue).into_bytes();
        let wrapped = outer.seal_all(&records, content, transmit);
        if !wrapped && !matches!(self.peer_state, PeerState::Failed(_)) {
            self.fail_with_outer();
        }
        wrapped
    }

    /// Ends this side's direction of the outer session. Returns whether that queued anything.
    pub(in super::super) fn close_outer(&mut self) -> bool {
        self.wrap_queued();
        self.outer.as_mut().is_some_and(|outer| outer.close_notify())
    }

    /// Returns the queue of the wire.
    #[inline]
    pub(super) fn wire_queue(&self) -> &SendQueue {
        match &self.outer {
            None => &self.send_queue,
            Some(outer) => &outer.send_queue,
        }
    }

    #[inline]
    pub(super) fn wire_queue_mut(&mut self) -> &mut SendQueue {
        match &mut self.outer {
            None => &mut self.send_queue,
            Some(outer) => &mut outer.send_queue,
        }
    }
}
