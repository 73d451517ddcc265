//! The addresses of this process's listeners that are open now.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use super::own_listeners::OwnListeners;
use crate::process::PerProcess;
use crate::unix::UnixAddress;

/// The addresses. Two listeners that share a port have it twice.
///
/// The lock is held only to read or change the list, and no lock is taken under it.
static LIVE: PerProcess<Mutex<OwnListeners>> = PerProcess::new();

/// The device and the inode of a file.
pub(crate) type FileId = (u64, u64);

/// A Unix-domain listener: its address as it was written, and the file of a path.
type UnixListener = (UnixAddress, Option<FileId>);

/// The Unix-domain listeners.
///
/// The lock is held only to read or change the list, and no lock is taken under it.
static LIVE_UNIX: PerProcess<Mutex<Vec<UnixListener>>> = PerProcess::new();

fn with_unix<R>(work: impl FnOnce(&mut Vec<UnixListener>) -> R) -> R {
    let live = LIVE_UNIX.get(|_| Mutex::default());
    work(&mut live.lock().unwrap_or_else(PoisonError::into_inner))
}

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

/// Adds a Unix-domain listener of this process.
pub(crate) fn remember_unix_listener(address: &UnixAddress, file: Option<FileId>) {
    with_unix(|live| live.push((address.clone(), file)));
}

/// Removes a Unix-domain listener of this process, once.
pub(crate) fn forget_unix_listener(address: &UnixAddress, file: Option<FileId>) {
    let is_it = |listener: &UnixListener| listener.0 == *address && listener.1 == file;
    with_unix(|live| {
        if let Some(index) = live.iter().position(is_it) {
            live.swap_remove(index);
        }
    });
}

/// Returns whether a Unix-domain address leads to a listener of this process. `find` returns the file of a path, which
/// has other spellings and links too.
pub(super) fn contain_unix(
    address: &UnixAddress,
    find: impl FnOnce(&UnixAddress) -> Option<FileId>,
) -> bool {
    if with_unix(|live| live.iter().any(|listener| listener.0 == *address)) {
        return true;
    }
    match find(address) {
        None => false,
        file => with_unix(|live| live.iter().any(|listener| listener.1 == file)),
    }
}
