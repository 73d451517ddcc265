//! The slots of accepted sockets: a listener takes one before it accepts, and counts the sockets of each client.

use std::net::IpAddr;
use std::sync::{Arc, Weak};

use super::{
    Member, NextInQueue, Occupant, Registry, RegistryInner, ScopeId, SlotId, shut_down_error,
};
use crate::error::Result;

/// The result of asking for a slot before a connection is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// There is no limit: [`admit_accepted`](Registry::admit_accepted) takes a slot.
    Unlimited,
    /// A slot.
    Slot(SlotId),
    /// The listener waits in the queue. The caller that frees one for it must start it.
    Queued(SlotId),
    /// No slot is free.
    AtLimit,
}

/// The reason why an accepted connection gets no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The listener or the connector was shut down.
    ShutDown,
    /// The client has as many open sockets as it may have.
    TooManyOfClient,
}

/// A client, as [`max_per_client`](crate::IngressRules::max_per_client) counts: an IPv4 address, or an IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ClientKey {
    V4(u32),
    V6([u16; 4]),
}

impl ClientKey {
    /// Returns the client with this address, which is canonical.
    pub(crate) fn new(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => ClientKey::V4(ip.to_bits()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                ClientKey::V6([a, b, c, d])
            }
        }
    }
}

/// What a listener's registry knows of an accepted socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accepted {
    /// Its slot in the parent.
    pub(super) parent_slot: Option<SlotId>,
    /// Its client, if it is counted.
    pub(super) client: Option<ClientKey>,
}

impl<S: Member> Registry<S> {
    /// Takes a slot before a connection is accepted. If there is none, the listener waits for one if `wait`.
    pub(crate) fn reserve(&self, listener: &Weak<S::Listener>, wait: bool) -> Reservation {
        if let Some(parent) = &self.parent {
            return parent.reserve(listener, wait);
        }
        let Some(max) = self.limit.max else { return Reservation::Unlimited };
        let mut inner = self.lock();
        if inner.admitted >= max && !wait {
            return Reservation::AtLimit;
        }
        let has_slot = inner.admitted < max;
        let slot = SlotId(inner.sockets.add(Occupant::Listener(Weak::clone(listener))));
        if has_slot {
            inner.admitted += 1;
            inner.reserved += 1;
            Reservation::Slot(slot)
        } else {
            inner.queue.push_back(slot);
            Reservation::Queued(slot)
        }
    }

    /// Returns whether a listener that waited has got its slot.
    pub(crate) fn has_slot(&self, slot: SlotId) -> bool {
        match &self.parent {
            Some(parent) => parent.has_slot(slot),
            None => !self.lock().queue.contains(&slot),
        }
    }

    /// Gives back a reserved slot, or leaves the queue. Returns who gets the slot, which the caller must start.
    pub(crate) fn cancel(&self, slot: SlotId) -> Option<NextInQueue<S>> {
        if let Some(parent) = &self.parent {
            return parent.cancel(slot);
        }
        let mut inner = self.lock();
        if !inner.queue.contains(&slot) {
            inner.reserved -= 1;
        }
        let next = inner.leave(slot);
        let removed = inner.free_slot(slot);
        drop(inner);
        drop(removed);
        next
    }

    /// Registers an accepted socket, in a reserved slot if there is a limit. The slot stays reserved on failure.
    /// `client` is counted if it has a maximum.
    pub(crate) fn admit_accepted(
        &self,
        socket: &Weak<S>,
        scope: Option<ScopeId>,
        client: Option<(ClientKey, usize)>,
        reserved: Option<SlotId>,
    ) -> Result<SlotId, NotAdmitted> {
        let mut inner = self.lock();
        if inner.is_shut_down {
            return Err(NotAdmitted::ShutDown);
        }
        if let Some((client, max)) = client {
            let open = inner.clients.get(&client).copied().unwrap_or_default();
            if open >= max {
                return Err(NotAdmitted::TooManyOfClient);
            }
        }
        let own = reserved.filter(|_| self.parent.is_none());
        let slot = inner.occupy(own, socket);
        let client = client.map(|(client, _)| client);
        if let Some(client) = client {
            *inner.clients.entry(client).or_default() += 1;
        }
        if client.is_some() || self.parent.is_some() {
            inner.accepted.insert(slot, Accepted { parent_slot: None, client });
        }
        if let Some(id) = scope {
            inner.add_to_scope(slot, id);
        }
        let Some(parent) = &self.parent else { return Ok(slot) };
        // The parent's lock has the same rank.
        drop(inner);
        let admitted = parent.admit_accepted(socket, None, None, reserved);
        let mut inner = self.lock();
        match admitted {
            Ok(parent_slot) => {
                if let Some(accepted) = inner.accepted.get_mut(&slot) {
                    accepted.parent_slot = Some(parent_slot);
                }
                Ok(slot)
            }
            Err(reason) => {
                inner.forget_accepted(slot);
                inner.admitted -= 1;
                let removed = inner.free_slot(slot);
                drop(inner);
                drop(removed);
                Err(reason)
            }
        }
    }

    /// Counts a socket that has a slot as one of a client. Returns whether the client has fewer than `max` others.
    pub(crate) fn count_client(&self, slot: SlotId, client: ClientKey, max: usize) -> bool {
        let mut inner = self.lock();
        let open = inner.clients.entry(client).or_default();
        if planted!(HeaderForgetsClient) {
            return true;
        }
        if *open >= max {
            return false;
        }
        *open += 1;
        let uncounted = Accepted { parent_slot: None, client: None };
        inner.accepted.entry(slot).or_insert(uncounted).client = Some(client);
        true
    }

    /// Returns the number of open sockets of a client that has a maximum.
    pub(crate) fn open_of_client(&self, client: ClientKey) -> usize {
        self.lock().clients.get(&client).copied().unwrap_or_default()
    }

    /// Adds a socket that has a slot to a scope.
    pub(crate) fn enter_scope(&self, slot: SlotId, id: ScopeId) {
        self.lock().add_to_scope(slot, id);
    }

    /// Adds a listener that a shutdown is to close.
    pub(crate) fn add_listener(&self, listener: Weak<S::Listener>) -> Result<()> {
        let mut inner = self.lock();
        if inner.is_shut_down {
            return Err(shut_down_error());
        }
        inner.listeners.retain(|known| known.strong_count() > 0);
        inner.listeners.push(listener);
        Ok(())
    }

    /// Takes the listeners to close. Later ones are refused.
    pub(crate) fn take_listeners(&self) -> Vec<Arc<S::Listener>> {
        let mut inner = self.lock();
        inner.is_shut_down = !planted!(AcceptsSocketsAfterShutdown);
        let listeners = std::mem::take(&mut inner.listeners);
        drop(inner);
        listeners.iter().filter_map(Weak::upgrade).collect()
    }
}

impl<S: Member> RegistryInner<S> {
    /// Puts an accepted socket into a reserved slot, or into a new one.
    fn occupy(&mut self, reserved: Option<SlotId>, socket: &Weak<S>) -> SlotId {
        let occupant = Occupant::Socket(Weak::clone(socket));
        match reserved {
            Some(slot) => {
                if let Some(held) = self.sockets.at_mut(slot.0) {
                    *held = occupant;
                }
                self.reserved -= 1;
                slot
            }
            None => {
                self.admitted += 1;
                SlotId(self.sockets.add(occupant))
            }
        }
    }

    /// Forgets what is known of an accepted socket, and counts it no longer.
    pub(super) fn forget_accepted(&mut self, slot: SlotId) -> Option<Accepted> {
        // Most sockets have no entry, and a map lookup costs a hash.
        let accepted = if self.accepted.is_empty() { None } else { self.accepted.remove(&slot) };
        if let Some(client) = accepted.and_then(|accepted| accepted.client) {
            if let Some(open) = self.clients.get_mut(&client) {
                *open -= 1;
                if *open == 0 {
                    self.clients.remove(&client);
                }
            }
        }
        accepted
    }
}
