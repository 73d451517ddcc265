//! From a name to one connection: the look-up, the race of the addresses, and what is told of them.

mod lookups;
#[cfg(target_os = "linux")]
mod racing;
#[cfg(target_os = "linux")]
mod scarce;
#[cfg(target_os = "linux")]
mod shares;
#[cfg(target_os = "linux")]
mod site;
