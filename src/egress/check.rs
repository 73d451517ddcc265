//! Checks a host, a port or an address against the rules.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::denial::{Denial, PortReason, Reason};
use super::embedded_ipv4::Embedded;
use super::host::Host;
use super::live_listeners::{self, FileId};
use super::public;
use super::rule_list::{Rule, Verdict};
use super::rules::{DefaultRule, EgressRules, NetDefault};
use crate::address::SocketAddress;
use crate::error::{DENIED_MESSAGE, DenialText, Error, ErrorKind, Fault, Result};
use crate::unix::{Requested, UnixAddress};

impl EgressRules {
    /// Checks the requested address against the rules for ports and hosts, before the lookup.
    ///
    /// # Errors
    /// [`Denied`](crate::ErrorKind::Denied).
    pub(crate) fn check_name(&self, requested: &SocketAddress) -> Result<()> {
        if let Err(denial) = self.check_port(requested.port()) {
            return Err(Error::from_denial(&denial.text(), requested));
        }
        let hostname = requested.hostname();
        let host = Host::new(hostname);
        let reason =
            match (self.hosts.last_match(|pattern| pattern.matches(&host)), self.hosts.default) {
                (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, DefaultRule::Allow) => {
                    return Ok(());
                }
                (Some(Rule { verdict: Verdict::Deny, matcher }), _) => {
                    format!("the host {hostname} is denied by the rule {matcher}")
                }
                (None, DefaultRule::Deny) => format!("no rule allows the host {hostname}"),
            };
        let denial = DenialText { reason, platform_message: DENIED_MESSAGE };
        Err(Error::from_denial(&denial, requested))
    }

    /// Checks a numeric address against the own listeners and the rules for ports and nets.
    /// [`denied_by`](Self::denied_by) returns the reason for `Fault::Denied`.
    pub(crate) fn check(&self, address: SocketAddr) -> Result<(), Fault> {
        self.check_own_listeners(address)?;
        self.denied_by(address).map_or(Ok(()), |_| Err(Fault::Denied))
    }

    /// Checks a numeric address against the own listeners only, as for a proxy that the program has chosen.
    pub(crate) fn check_own_listeners(&self, address: SocketAddr) -> Result<(), Fault> {
        if self.own_listeners.contain(address) { Err(Fault::OwnListener) } else { Ok(()) }
    }

    /// Returns the rule that denies a numeric address, if one does and it is not an own listener.
    pub(crate) fn denied_by(&self, address: SocketAddr) -> Option<Denial> {
        if self.own_listeners.contain(address) {
            return None;
        }
        self.check_port(address.port()).and_then(|()| self.check_ip(address.ip())).err()
    }

    /// Returns whether the caller must refuse this address if [`is_local`](super::is_local) says that it belongs to
    /// this machine. The caller asks this for addresses that [`check`](Self::check) allows.
    pub(crate) fn needs_local_check(&self, address: SocketAddr) -> bool {
        self.own_listeners.need_local_check(address)
            || self.denies_live_listeners && live_listeners::need_local_check(address)
    }

    /// Returns whether the caller must refuse this address because a listener of this process has it now.
    pub(crate) fn denies_live_listener(&self, address: SocketAddr) -> bool {
        self.denies_live_listeners && live_listeners::contain(address)
    }

    /// Checks a Unix-domain address. Rules that restrict anything deny each address that no rule allows. `find` returns
    /// the file of a path.
    ///
    /// # Errors
    /// [`Denied`](crate::ErrorKind::Denied), or [`Loop`](crate::ErrorKind::Loop) for a listener of this process.
    pub(crate) fn check_unix(
        &self,
        address: &UnixAddress,
        find: impl FnOnce(&UnixAddress) -> Option<FileId>,
    ) -> Result<()> {
        let is_allowed =
            self.is_unrestricted() || self.unix.iter().any(|rule| rule.allows(address));
        // The file of a path that no rule allows is not looked for.
        let find = |address: &UnixAddress| if is_allowed { find(address) } else { None };
        if self.denies_live_unix_listener(address, find) {
            let message = format!("{} ({})", Fault::OwnListener.text(), address.text());
            return Err(Error::with_message(ErrorKind::Loop, message));
        }
        if is_allowed {
            return Ok(());
        }
        let reason = format!("no rule allows {}", address.text());
        let denial = DenialText { reason, platform_message: DENIED_MESSAGE };
        Err(Error::from_denial(&denial, &Requested::unix(Some(address.clone()))))
    }

    /// Returns whether the caller must refuse this address because a listener of this process has it now. `find` returns
    /// the file of a path.
    pub(crate) fn denies_live_unix_listener(
        &self,
        address: &UnixAddress,
        find: impl FnOnce(&UnixAddress) -> Option<FileId>,
    ) -> bool {
        self.denies_live_listeners && live_listeners::contain_unix(address, find)
    }

    fn check_port(&self, port: u16) -> Result<(), Denial> {
        match (self.ports.last_match(|denied| *denied == port), self.ports.default) {
            (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, DefaultRule::Allow) => Ok(()),
            (Some(Rule { verdict: Verdict::Deny, .. }), _) => {
                Err(Denial::for_port(port, PortReason::Rule))
            }
            (None, DefaultRule::Deny) => Err(Denial::for_port(port, PortReason::NoRule)),
        }
    }

    fn check_ip(&self, dialled: IpAddr) -> Result<(), Denial> {
        let judge = |embedded: Option<Ipv4Addr>| {
            let ip = embedded.map_or(dialled, IpAddr::V4);
            self.check_net(ip).map_err(|reason| Denial::for_address(dialled, embedded, reason))
        };
        let IpAddr::V6(ip) = dialled else {
            return judge(None);
        };
        if let Some(mapped) = ip.to_ipv4_mapped() {
            return judge(Some(mapped));
        }
        judge(None)?;
        Embedded::of(ip).iter().try_for_each(|embedded| judge(Some(embedded)))
    }

    /// Checks one address without the IPv4 addresses embedded in it.
    fn check_net(&self, ip: IpAddr) -> Result<(), Reason> {
        match (self.nets.last_match(|net| net.contains(ip)), self.nets.default) {
            (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, NetDefault::Allow) => Ok(()),
            (Some(Rule { verdict: Verdict::Deny, matcher }), _) => {
                Err(Reason::Rule { prefix: matcher.prefix() })
            }
            (None, NetDefault::Deny) => Err(Reason::NoRule),
            (None, NetDefault::Public) => public::check_public(ip),
            (None, NetDefault::Workers) => {
                public::check_public(ip).and_then(|()| public::check_cloudflare(ip))
            }
        }
    }
}
