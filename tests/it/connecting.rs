//! From a name to one connection: the lookup, the race of the addresses, and how its results are reported.

mod lookups;
#[cfg(target_os = "linux")]
mod racing;
#[cfg(target_os = "linux")]
mod scarce;
#[cfg(target_os = "linux")]
mod shares;
#[cfg(target_os = "linux")]
mod site;
