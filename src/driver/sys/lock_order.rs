//! The order of the driver's locks. Debug builds check it whenever a thread takes a lock.
//!
//! Every lock has a rank. A thread may take a lock only if all locks that it holds have lower ranks. Release builds use
//! the plain locks.

/// The ranks of the locks.
pub(crate) mod rank {
    /// The queue of a pool for lookups, under which a lookup is asked whether it is still wanted.
    pub(crate) const LOOKUPS: u8 = 0;
    /// The state of a connection.
    pub(crate) const STATE: u8 = 1;
    /// A list that a thread updates together with the state of a connection.
    pub(crate) const UNDER_STATE: u8 = 2;
    /// A lock that is taken alone: under no other, and no other under it.
    pub(crate) const ALONE: u8 = 7;
}

#[cfg(debug_assertions)]
mod checked;

#[cfg(debug_assertions)]
pub(crate) use self::checked::{RankedCondvar, RankedGuard, RankedMutex};

#[cfg(not(debug_assertions))]
pub(crate) type RankedMutex<T, const RANK: u8> = super::sync::Mutex<T>;
#[cfg(not(debug_assertions))]
pub(crate) type RankedGuard<'a, T, const RANK: u8> = super::sync::MutexGuard<'a, T>;
#[cfg(not(debug_assertions))]
pub(crate) use super::sync::Condvar as RankedCondvar;
