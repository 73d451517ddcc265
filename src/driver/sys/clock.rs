//! The clock: that of the system, or that of the model.

use std::time::Duration;
#[cfg(not(sockeye_shuttle))]
use std::time::Instant;

#[cfg(sockeye_shuttle)]
pub(crate) use super::shuttle::now;

#[cfg(not(sockeye_shuttle))]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The maximum time of one wait in the system. Every wait checks its limit again afterwards. Apple's systems reject a
/// poll(2) of more than 2,147,483,647 ms, which is 24.8 days.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
