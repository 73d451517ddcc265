//! Egress rules: which hosts, ports and addresses a program may connect to.
//!
//! This module resolves and dials nothing. The rules are checked twice: the host and port before anything is sent, and
//! every numeric address before it is dialled, whatever its origin. The second check is the one that protects, because
//! a name can resolve to any address.
//!
//! - `special` has the generated tables of special-purpose addresses, and `ranges` searches a table. The sources are
//!   `special-ranges.txt`, `cloud-ranges.txt` and `cloudflare-ranges.txt`.
//! - `public` decides with these tables.
//! - `cidr` and `host` are the nets and host patterns in rules.
//! - `embedded_ipv4` finds IPv4 addresses inside IPv6 addresses.
//! - `local` asks the system whether an address belongs to this machine.
//! - `rules` has the rules as the program states them, `rule_list` the order in which they decide, and
//!   `own_listeners` the listeners of the program. `check` applies them. `live_listeners` knows the listeners that are
//!   open now.
//! - `ingress` has the rules for clients of a listener.
//! - `unix` has the rules for Unix-domain addresses, of which every other rule denies all.
//! - `denial` explains why the rules refused an address.

mod check;
mod cidr;
mod denial;
mod embedded_ipv4;
mod host;
mod ingress;
mod live_listeners;
mod local;
mod own_listeners;
mod public;
mod ranges;
mod rule_list;
mod rules;
mod special;
#[cfg(test)]
mod tests;
#[cfg_attr(not(unix), allow(dead_code, reason = "only Unix systems have such rules"))]
mod unix;

pub(crate) use self::cidr::Net;
pub use self::ingress::IngressRules;
pub(crate) use self::live_listeners::{
    FileId, forget_listener, forget_unix_listener, remember_listener, remember_unix_listener,
};
pub(crate) use self::local::is_local;
pub use self::rules::EgressRules;
