//! A global value that each process makes for itself, and each run of the model.

#[cfg(not(sockeye_shuttle))]
pub(crate) use crate::process::PerProcess;

#[cfg(sockeye_shuttle)]
pub(crate) use super::shuttle::PerProcess;
