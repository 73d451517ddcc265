//! Listeners that wait because the process is out of descriptors. They try again when the crate closes one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::per_process::PerProcess;
use super::sync::atomic::{AtomicUsize, Ordering};

/// A listener that waits for a descriptor.
pub(crate) trait Starved: fmt::Debug + Send + Sync {
    /// A descriptor was closed. Called under no lock of the driver.
    fn on_descriptor_freed(self: Arc<Self>);
}

/// The listeners that wait.
#[derive(Default)]
struct StarvedList {
    /// The number of listeners in the list, which every close of a descriptor reads.
    len: AtomicUsize,
    /// The lock is held only to change the list, and no lock is taken under it.
    listeners: Mutex<Vec<Weak<dyn Starved>>>,
}

static STARVED: PerProcess<StarvedList> = PerProcess::new();

fn list() -> &'static StarvedList {
    STARVED.get(|_| StarvedList::default())
}

/// Calls the listener back when a descriptor is closed, once.
pub(crate) fn call_when_freed(listener: Weak<dyn Starved>) {
    let list = list();
    let mut listeners = list.listeners.lock().unwrap_or_else(PoisonError::into_inner);
    listeners.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&listener));
    listeners.push(listener);
    list.len.store(listeners.len(), Ordering::SeqCst);
}

/// Calls the waiting listeners back when it is dropped: the last field of whatever owns a descriptor.
#[derive(Debug)]
pub(crate) struct NotifyFreed;

impl Drop for NotifyFreed {
    #[inline]
    fn drop(&mut self) {
        let list = list();
        if list.len.load(Ordering::Relaxed) != 0 {
            list.notify();
        }
    }
}

impl StarvedList {
    #[cold]
    fn notify(&self) {
        let listeners = {
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            self.len.store(0, Ordering::SeqCst);
            std::mem::take(&mut *listeners)
        };
        for listener in listeners {
            if let Some(listener) = listener.upgrade() {
                listener.on_descriptor_freed();
            }
        }
    }
}
