//! Which clients may connect to a listener.

use std::net::{IpAddr, SocketAddr};

use super::cidr::Net;
use super::local::canonical;
use super::rule_list::{Rule, RuleList, Verdict};
use super::rules::DefaultRule;
use crate::error::{Error, Result};

/// Rules that decide which clients may connect to a [`Listener`](crate::Listener).
///
/// They judge the numeric address that the system reports, or that a
/// [PROXY header](crate::ListenOptions::proxy_protocol_from) names. An IPv4-mapped address (`::ffff:10.0.0.1`) is the IPv4
/// address. As in [`EgressRules`](crate::EgressRules), the last added rule that matches decides. If none matches, the
/// constructor decides. A denied client is reset before any of its data is read, and counted.
/// [`accept`](crate::Listener::accept) does not return it, unless it did so before a PROXY header was complete.
///
/// ```
/// use sockeye::IngressRules;
///
/// let rules = IngressRules::deny_all()
///     .allow_net("10.0.0.0/8")?
///     .deny_net("10.66.0.0/16")?
///     .max_per_client(100);
/// assert!(rules.allows("10.1.2.3".parse()?));
/// assert!(rules.allows("::ffff:10.1.2.3".parse()?));
/// assert!(!rules.allows("10.66.2.3".parse()?));
/// assert!(!rules.allows("192.0.2.1".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias("firewall", "allowlist", "blocklist", "acl", "ban"))]
pub struct IngressRules {
    nets: RuleList<DefaultRule, Net>,
    max_per_client: Option<usize>,
}

impl IngressRules {
    /// Allows every client that no rule denies. This is the default.
    #[must_use]
    pub fn allow_all() -> Self {
        IngressRules { nets: RuleList::new(DefaultRule::Allow), max_per_client: None }
    }

    /// Denies every client that no rule allows.
    #[must_use]
    pub fn deny_all() -> Self {
        IngressRules { nets: RuleList::new(DefaultRule::Deny), max_per_client: None }
    }

    /// Allows the addresses of a net, such as `10.0.0.0/8` or `fd00::/8`, or a single address.
    ///
    /// # Errors
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text is not an address or the prefix is not a decimal
    /// number in range. Bits of the address beyond the prefix are an error too, as in `10.0.0.1/8`.
    pub fn allow_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Allow);
        Ok(self)
    }

    /// Denies the addresses of a net, in the format of [`allow_net`](Self::allow_net).
    ///
    /// # Errors
    /// Those of `allow_net`.
    pub fn deny_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Deny);
        Ok(self)
    }

    /// Limits the number of open sockets of each client: of each IPv4 address, or of each IPv6 /64. Further connections
    /// are denied. Default none. Zero is [`InvalidOptions`](crate::ErrorKind::InvalidOptions) from
    /// [`listen_with`](crate::listen_with).
    ///
    /// A closed connection that is still drained in the background does not count.
    #[must_use]
    #[doc(alias("limit_conn"))]
    pub fn max_per_client(mut self, max: usize) -> Self {
        self.max_per_client = Some(max);
        self
    }

    /// Returns the verdict of the rules for nets.
    #[must_use]
    pub fn allows(&self, client: IpAddr) -> bool {
        let ip = canonical(SocketAddr::new(client, 0)).ip();
        match (self.nets.last_match(|net| net.contains(ip)), self.nets.default) {
            (Some(Rule { verdict, .. }), _) => *verdict == Verdict::Allow,
            (None, default) => default == DefaultRule::Allow,
        }
    }

    /// Returns the maximum number of open sockets of each client.
    pub(crate) fn max_of_client(&self) -> Option<usize> {
        self.max_per_client
    }

    pub(crate) fn check(&self) -> Result<()> {
        match self.max_per_client {
            Some(0) => {
                Err(Error::invalid_options("max_per_client is zero: no client could connect"))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Same as [`allow_all`](IngressRules::allow_all).
impl Default for IngressRules {
    fn default() -> Self {
        IngressRules::allow_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &IngressRules, allowed: &[&str], denied: &[&str]) {
        for (clients, expected) in [(allowed, true), (denied, false)] {
            for client in clients {
                let ip = client.parse().unwrap();
                assert_eq!(rules.allows(ip), expected, "{client}");
            }
        }
    }

    #[test]
    fn the_last_matching_rule_decides_and_otherwise_the_constructor() {
        let rules = IngressRules::allow_all()
            .deny_net("10.0.0.0/8")
            .and_then(|rules| rules.allow_net("10.1.0.0/16"))
            .and_then(|rules| rules.deny_net("10.1.2.3"))
            .and_then(|rules| rules.deny_net("2001:db8::/32"))
            .unwrap();
        check(&rules, &["192.0.2.1", "10.1.2.4", "::1"], &["10.2.0.1", "10.1.2.3", "2001:db8::1"]);
        let rules = IngressRules::deny_all().allow_net("::1").unwrap();
        check(&rules, &["::1"], &["::2", "127.0.0.1", "0.0.0.1"]);
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_address() {
        let rules = IngressRules::allow_all().deny_net("127.0.0.0/8").unwrap();
        check(&rules, &["::127.0.0.1", "::1"], &["::ffff:127.0.0.1", "127.0.0.1"]);
        let rules = IngressRules::allow_all().deny_net("::/0").unwrap();
        check(&rules, &["::ffff:127.0.0.1", "127.0.0.1"], &["::1"]);
        let rules = IngressRules::allow_all().deny_net("::ffff:127.0.0.0/104").unwrap();
        check(&rules, &[], &["::ffff:127.0.0.1", "127.0.0.1"]);
    }

    #[test]
    fn malformed_nets_and_zero_are_refused() {
        assert!(IngressRules::allow_all().deny_net("10.0.0.1/8").is_err());
        assert!(IngressRules::allow_all().allow_net("example.com").is_err());
        assert!(IngressRules::allow_all().max_per_client(0).check().is_err());
        assert!(IngressRules::allow_all().max_per_client(1).check().is_ok());
    }
}
