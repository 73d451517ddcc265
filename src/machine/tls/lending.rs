//! How a session leaves the state while it runs foreign code, and comes back.
//!
//! What is in the state meanwhile is a session without a connection: it has all that was sealed and all that
//! was decrypted, so that both go on.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;

use super::super::intake::Intake;
use super::{Session, Standing, guarded};
use crate::tls::{Failure, TlsSetup, When};

impl Session {
    /// A session of foreign code, whose handshake somebody has to [begin](Self::begin) without a lock.
    pub(in super::super) fn to_begin(setup: TlsSetup) -> Box<Self> {
        let require_close_notify = setup.require_close_notify();
        Box::new(Session {
            foreign: true,
            setup: Some(Box::new(setup)),
            ..Session::without_connection(require_close_notify)
        })
    }

    /// Whether its handshake has not begun, and nobody is about to begin it.
    pub(in super::super) fn awaits_begin(&self) -> bool {
        self.setup.is_some()
    }

    /// Whether it runs code that is not this crate's.
    pub(in super::super) fn is_foreign(&self) -> bool {
        self.foreign
    }

    /// Whether the connection is elsewhere.
    pub(in super::super) fn is_lent(&self) -> bool {
        self.connection.is_none() && self.setup.is_none()
    }

    /// Gives the session away, to be [restored](Self::restore), where there is a connection or one to begin.
    pub(in super::super) fn lend(&mut self) -> Option<Box<Self>> {
        if self.is_lent() {
            return None;
        }
        let mut rest = Session::without_connection(self.require_close_notify);
        rest.foreign = true;
        rest.standing = match self.standing {
            Standing::Handshaking => Standing::Handshaking,
            Standing::Established => Standing::Established,
            // Nothing is fed to it any more.
            Standing::Ended | Standing::Truncated | Standing::Failed(_) => return None,
        };
        rest.said_goodbye = self.said_goodbye;
        rest.goodbye = self.goodbye;
        rest.put_off = self.put_off;
        rest.handshake = self.handshake;
        rest.outbox = std::mem::take(&mut self.outbox);
        rest.rest = std::mem::take(&mut self.rest);
        rest.agreed = self.agreed.take();
        Some(Box::new(std::mem::replace(self, rest)))
    }

    /// Takes a session back, with what it has decrypted and sealed. Whether ciphertext waits because of that.
    pub(in super::super) fn restore(&mut self, session: Session) -> bool {
        let mut rest = std::mem::replace(self, session);
        let before = rest.outbox.len();
        rest.outbox.extend(std::mem::take(&mut self.outbox));
        rest.rest.append(&mut self.rest);
        self.outbox = rest.outbox;
        self.rest = rest.rest;
        match rest.standing {
            Standing::Handshaking | Standing::Established => {}
            // It ended meanwhile.
            Standing::Ended | Standing::Truncated | Standing::Failed(_) => {
                self.standing = rest.standing;
            }
        }
        self.put_off |= rest.put_off;
        self.agreed = rest.agreed.or(self.agreed.take());
        if rest.goodbye > 0 {
            self.goodbye = rest.goodbye;
        }
        let goodbye = rest.goodbye_due && !self.said_goodbye;
        self.said_goodbye |= rest.said_goodbye && !goodbye;
        if goodbye {
            self.close_notify();
        }
        self.outbox.len() > before
    }

    /// Begins the handshake: the first message waits to be sent then.
    pub(in super::super) fn begin(&mut self) {
        let Some(setup) = self.setup.take() else { return };
        let connection = guarded(|| {
            let config = Arc::clone(setup.config());
            UnbufferedClientConnection::new(config, setup.server_name().clone())
        })
        .and_then(|made| made.map_err(|error| Failure::new(error, When::Handshake)));
        match connection {
            Ok(connection) => {
                self.connection = Some(connection);
                self.advance();
            }
            Err(failure) => self.standing = Standing::Failed(Box::new(failure)),
        }
        // With it a whole configuration may go.
        drop(guarded(|| drop(setup)));
    }

    /// Takes in what was received, and decrypts all of it: to take it takes no connection then.
    pub(in super::super) fn feed_all(&mut self, intake: &mut Intake) {
        self.flood.received(intake.received());
        self.inbox.append(intake);
        self.advance();
        self.unload_all();
        self.count_tickets();
        self.inbox.release(intake);
        let handshaken = !matches!(self.standing, Standing::Handshaking);
        if handshaken && self.agreed.is_none() {
            self.agreed = self.agreed().map(Box::new);
        }
    }
}
