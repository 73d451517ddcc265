//! The addresses of this process's listeners that are open now.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::own_listeners::OwnListeners;
use crate::process::PerProcess;

/// The addresses. Two listeners that share a port have it twice.
///
/// The lock is held only to read or change the list, and no lock is taken under it.
static LIVE: PerProcess<Mutex<OwnListeners>> = PerProcess::new();

fn with<R>(work: impl FnOnce(&mut OwnListeners) -> R) -> R {
    let live = LIVE.get(|_| Mutex::default());
    work(&mut live.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Adds a listener of this process.
pub(crate) fn remember_listener(address: SocketAddr) {
    with(|live| live.add(address));
}

/// Removes a listener of this process, once.
pub(crate) fn forget_listener(address: SocketAddr) {
    with(|live| live.remove(address));
}

/// Returns whether an address certainly leads to a listener of this process.
pub(super) fn contain(address: SocketAddr) -> bool {
    with(|live| live.contain(address))
}

/// Returns whether an address leads to a listener of this process if it belongs to this machine.
pub(super) fn need_local_check(address: SocketAddr) -> bool {
    with(|live| live.need_local_check(address))
}
