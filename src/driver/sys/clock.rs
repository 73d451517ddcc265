//! The clock: that of the system, or that of the model.

#[cfg(not(sockeye_shuttle))]
use std::time::Instant;

#[cfg(sockeye_shuttle)]
pub(crate) use super::shuttle::now;

#[cfg(not(sockeye_shuttle))]
pub(crate) fn now() -> Instant {
    Instant::now()
}
