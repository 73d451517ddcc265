//! The rules of a program, as it states them.

use std::net::SocketAddr;

use super::cidr::Net;
use super::host::Pattern;
use super::local::is_local;
use super::own_listeners::OwnListeners;
use super::rule_list::{RuleList, Verdict};
use super::unix::UnixRule;
use crate::error::Result;
use crate::options::TcpOptions;

/// Rules that decide which peers may be dialled.
///
/// A proxy, a crawler or a webhook sender connects to hosts that others choose. An attacker can direct it to services
/// that only it can reach: its own admin port, its neighbours, or the cloud credentials at `169.254.169.254`. To check
/// the name is not enough, because its owner can change the address between the check and the connection. These rules
/// check the host and the port first, and then every numeric address right before it is dialled.
///
/// ```
/// use sockeye::EgressRules;
///
/// let rules = EgressRules::public_only()
///     .deny_port(25)
///     .deny_host("*.internal.example")?
///     .allow_net("10.1.2.0/24")?;
///
/// assert!(rules.allows("93.184.215.14:443".parse()?));
/// assert!(rules.allows("10.1.2.3:443".parse()?));
/// assert!(!rules.allows("10.1.3.3:443".parse()?));
/// assert!(!rules.allows("[::ffff:10.1.3.3]:443".parse()?));
/// assert!(!rules.allows("169.254.169.254:80".parse()?));
/// assert!(!rules.allows("93.184.215.14:25".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # How rules decide
///
/// There are rules for hosts, for ports and for nets, and all three kinds must allow a connection. Within a kind, the
/// last added rule that matches decides. If none matches, the constructor decides: [`allow_all`](Self::allow_all),
/// [`deny_all`](Self::deny_all), [`public_only`](Self::public_only) or [`workers`](Self::workers). So `allow_*`
/// overrides earlier denials of its kind, and restricts nothing by itself.
///
/// Host rules match the requested text, including an IP literal, but never the addresses that a name resolves to. Net
/// rules match addresses, whether the caller wrote them or a name resolved to them. If a name has several addresses,
/// only the allowed ones are dialled.
///
/// # IPv4 addresses inside IPv6 addresses
///
/// An IPv4-mapped address (`::ffff:10.0.0.1`) is treated as the IPv4 address only: no IPv6 net contains it, and a net
/// of such addresses is the IPv4 net. Other IPv6 addresses can embed IPv4 addresses. The rules must allow both the
/// IPv6 address and each IPv4 address in it:
///
/// | | | |
/// |---|---|---|
/// | `64:ff9b::/96` | translated, NAT64 | [RFC 6052] |
/// | `64:ff9b:1::/48` | translated by the local network, in any layout | [RFC 8215] |
/// | `2002::/16` | 6to4 | [RFC 3056] |
/// | `2001::/32` | Teredo: server and client | [RFC 4380] |
/// | any `…:0:5efe:a.b.c.d` and `…:200:5efe:a.b.c.d` | ISATAP | [RFC 5214] |
/// | `::/96` | IPv4-compatible | [RFC 4291] |
/// | `::ffff:0:0:0/96` | IPv4-translated | [RFC 2765] |
///
/// So `allow_all().deny_net("10.0.0.0/8")` refuses `10.0.0.1` in every form, and
/// `deny_all().allow_net("64:ff9b::/96")` allows nothing until IPv4 addresses are allowed too. For `64:ff9b:1::/48`,
/// every layout applies that yields an address outside `0.0.0.0/8`.
///
/// # Errors
///
/// A refused connection fails with [`Denied`](crate::ErrorKind::Denied), and the message names the rule. If it would
/// reach an [own listener](Self::own_listener), or any of them with
/// [`deny_own_listeners`](Self::deny_own_listeners), it fails with [`Loop`](crate::ErrorKind::Loop). A malformed rule is an
/// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) error.
///
/// [RFC 2765]: https://www.rfc-editor.org/rfc/rfc2765#section-2.1
/// [RFC 3056]: https://www.rfc-editor.org/rfc/rfc3056#section-2
/// [RFC 4291]: https://www.rfc-editor.org/rfc/rfc4291#section-2.5.5
/// [RFC 4380]: https://www.rfc-editor.org/rfc/rfc4380#section-4
/// [RFC 5214]: https://www.rfc-editor.org/rfc/rfc5214#section-6.1
/// [RFC 6052]: https://www.rfc-editor.org/rfc/rfc6052#section-2
/// [RFC 8215]: https://www.rfc-editor.org/rfc/rfc8215
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(alias("ssrf", "firewall", "allowlist", "blocklist", "block_list", "BlockList", "acl"))]
pub struct EgressRules {
    pub(super) hosts: RuleList<DefaultRule, Pattern>,
    pub(super) ports: RuleList<DefaultRule, u16>,
    pub(super) nets: RuleList<NetDefault, Net>,
    pub(super) own_listeners: OwnListeners,
    /// Whether the listeners of this process that are open at that moment are denied too.
    pub(super) denies_live_listeners: bool,
    /// The Unix-domain addresses that are allowed although something is denied.
    pub(super) unix: Vec<UnixRule>,
}

/// The verdict on hosts and ports that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DefaultRule {
    Allow,
    Deny,
}

/// The verdict on addresses that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetDefault {
    Allow,
    Deny,
    Public,
    Workers,
}

impl EgressRules {
    /// Allows everything that no rule denies. This is the default.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::allow_all().deny_net("10.0.0.0/8")?;
    /// assert!(rules.allows("127.0.0.1:80".parse()?));
    /// assert!(!rules.allows("10.1.2.3:80".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn allow_all() -> Self {
        EgressRules::new(DefaultRule::Allow, NetDefault::Allow)
    }

    /// Denies everything that no rule allows: a connection needs one matching rule each for its host, its port and its
    /// address.
    ///
    /// An IP literal needs all three as well; [`allow_host`](Self::allow_host) accepts addresses.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::deny_all()
    ///     .allow_host("db.example.com")?
    ///     .allow_port(5432)
    ///     .allow_net("198.51.100.0/24")?;
    /// assert!(rules.allows("198.51.100.7:5432".parse()?));
    /// assert!(!rules.allows("198.51.100.7:22".parse()?));
    /// assert!(!rules.allows("203.0.113.7:5432".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn deny_all() -> Self {
        EgressRules::new(DefaultRule::Deny, NetDefault::Deny)
    }

    /// Allows only addresses of Internet hosts. This excludes loopback, private and link-local networks, carrier-grade
    /// NAT, documentation, multicast and reserved ranges.
    ///
    /// The IANA registries of [IPv4] and [IPv6] special-purpose addresses list these ranges. Some that they call
    /// globally reachable are denied too, because they lead to the nearest server of the local network or identify no
    /// host. Of IPv6, everything outside `2000::/3` is denied except `64:ff9b::/96`, where the embedded IPv4 address
    /// decides. Hosts and ports are not restricted.
    ///
    /// `168.63.129.16` is denied too: it looks like an Internet host, but every Azure virtual machine reaches the
    /// platform's own service there. Together with `169.254.169.254` and similar addresses, this denies the metadata
    /// services of all clouds that publish their addresses.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::public_only();
    /// assert!(rules.allows("8.8.8.8:53".parse()?));
    /// assert!(rules.allows("[64:ff9b::8.8.8.8]:53".parse()?));
    /// for address in ["127.0.0.1:80", "192.168.0.1:80", "[fd00::1]:80", "[64:ff9b::10.0.0.1]:80"] {
    ///     assert!(!rules.allows(address.parse()?));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry/
    /// [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry/
    #[must_use]
    #[doc(alias("is_global", "private"))]
    pub fn public_only() -> Self {
        EgressRules::new(DefaultRule::Allow, NetDefault::Public)
    }

    /// Applies the rules of the Cloudflare Workers platform: [`public_only`](Self::public_only), no
    /// [Cloudflare addresses](https://www.cloudflare.com/ips/), no port 25, and no
    /// [own listeners](Self::deny_own_listeners).
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::workers();
    /// assert!(rules.allows("8.8.8.8:53".parse()?));
    /// assert!(!rules.allows("8.8.8.8:25".parse()?));
    /// assert!(!rules.allows("104.16.132.229:443".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("cloudflare"))]
    pub fn workers() -> Self {
        EgressRules::new(DefaultRule::Allow, NetDefault::Workers).deny_port(25).deny_own_listeners()
    }

    fn new(default: DefaultRule, nets: NetDefault) -> Self {
        EgressRules {
            hosts: RuleList::new(default),
            ports: RuleList::new(default),
            nets: RuleList::new(nets),
            own_listeners: OwnListeners::default(),
            denies_live_listeners: false,
            unix: Vec::new(),
        }
    }

    /// Denies the addresses of a net, such as `10.0.0.0/8` or `fd00::/8`, or a single address.
    ///
    /// An IPv4 net also covers IPv4 addresses embedded in IPv6 addresses: see
    /// [above](Self#ipv4-addresses-inside-ipv6-addresses).
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text is not an address or the prefix is not a
    /// decimal number in range. Bits of the address beyond the prefix are an error too, as in `10.0.0.1/8`.
    pub fn deny_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Deny);
        Ok(self)
    }

    /// Allows the addresses of a net, in the format of [`deny_net`](Self::deny_net).
    ///
    /// This does not override an [own listener](Self::own_listener) or
    /// [`deny_own_listeners`](Self::deny_own_listeners).
    ///
    /// # Errors
    ///
    /// Same as for [`deny_net`](Self::deny_net).
    pub fn allow_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Allow);
        Ok(self)
    }

    /// Denies a port on all hosts.
    #[must_use]
    pub fn deny_port(mut self, port: u16) -> Self {
        self.ports.add(port, Verdict::Deny);
        self
    }

    /// Allows a port on all hosts.
    #[must_use]
    pub fn allow_port(mut self, port: u16) -> Self {
        self.ports.add(port, Verdict::Allow);
        self
    }

    /// Denies a host: a name, an address, or a pattern. The pattern `*.example.com` matches every name below
    /// `example.com` at any depth, but not `example.com` itself. Case and a trailing dot are ignored.
    ///
    /// The rule matches the requested host only. To deny an address, use [`deny_net`](Self::deny_net), because another
    /// name may resolve to it.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::allow_all()
    ///     .deny_host("example.com")?
    ///     .deny_host("*.example.com")?
    ///     .allow_host("www.example.com")?;
    /// assert!(rules.deny_host("*example.com").is_err());
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) if the text has a star elsewhere, an empty label or more
    /// than 255 bytes, or if [`SocketAddress`](crate::SocketAddress) does not accept the host.
    pub fn deny_host(mut self, pattern: &str) -> Result<Self> {
        self.hosts.add(Pattern::parse(pattern)?, Verdict::Deny);
        Ok(self)
    }

    /// Allows a host, in the format of [`deny_host`](Self::deny_host).
    ///
    /// # Errors
    ///
    /// Same as for [`deny_host`](Self::deny_host).
    pub fn allow_host(mut self, pattern: &str) -> Result<Self> {
        self.hosts.add(Pattern::parse(pattern)?, Verdict::Allow);
        Ok(self)
    }

    /// Adds an address on which this program listens. A connection to it fails with [`Loop`](crate::ErrorKind::Loop),
    /// whatever the rules say. [`Socket::opened`](crate::Socket::opened) returns the error, for numeric addresses too.
    ///
    /// An unspecified IP address of either family stands for every address of this machine, of both families. Besides
    /// loopback, these are the addresses of its interfaces and, on Linux, those that its routes declare local. For each
    /// address that the rules allow, the socket asks the system whether it is one of them. If the system does not
    /// answer, the connection fails with [`Io`](crate::ErrorKind::Io) and the cause: the process may be out of
    /// descriptors, or a sandbox may forbid `AF_NETLINK` sockets on Linux.
    ///
    /// Redirections by a packet filter are not detected. To dial the unspecified address is to dial the loopback
    /// address of its family, as on Linux. The scopes of two IPv6 addresses are compared if both have one.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::allow_all().own_listener("0.0.0.0:8080".parse()?);
    /// assert!(!rules.allows("127.0.0.1:8080".parse()?));
    /// assert!(!rules.allows("[::1]:8080".parse()?));
    /// assert!(rules.allows("127.0.0.1:8081".parse()?));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    #[doc(alias("loop"))]
    pub fn own_listener(mut self, address: SocketAddr) -> Self {
        self.own_listeners.add(address);
        self
    }

    /// Denies every [`Listener`](crate::Listener) of this process that is open when the address is dialled: the connection
    /// fails with [`Loop`](crate::ErrorKind::Loop) ("TCP Loop detected"), as for an [`own_listener`](Self::own_listener).
    /// A listener on an unspecified IP address counts for every local address. A Unix-domain listener is recognized by its
    /// address as it was written, and by the device and inode of its path, so links and other spellings do not hide it.
    /// Included in [`workers`](Self::workers), and off in every other set of rules, so that a program may talk to itself.
    ///
    /// ```
    /// # use sockeye::EgressRules;
    /// let rules = EgressRules::allow_all().deny_own_listeners();
    /// let listener = sockeye::listen("127.0.0.1:0")?;
    /// let address = listener.local_address().unwrap();
    /// assert!(!rules.allows(address));
    /// listener.close();
    /// assert!(rules.allows(address));
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("loop"))]
    pub fn deny_own_listeners(mut self) -> Self {
        self.denies_live_listeners = true;
        self
    }

    /// Allows a path and everything below it, or an abstract name with a leading `@`, for
    /// [`connect_unix`](crate::connect_unix).
    ///
    /// Rules that restrict anything, such as one denied port, deny every Unix-domain address that is not allowed here.
    /// On [`allow_all`](Self::allow_all) alone, this restricts nothing.
    ///
    /// Whole components are compared as written: `/run/a` allows `/run/a` and `/run/a/b`, but not `/run/ab`. A path that
    /// is relative, or contains `.` or `..`, is never allowed. Symbolic links are not resolved: one below an allowed
    /// prefix leads wherever it leads. The prefix is text, so an abstract name with NUL cannot be allowed, and a path that
    /// is not UTF-8 only by a folder above it.
    ///
    /// ```
    /// # #[cfg(unix)] {
    /// use sockeye::{Connector, EgressRules, ErrorKind, SocketOptions, UnixAddress};
    ///
    /// let rules = EgressRules::public_only().allow_unix("/run/postgresql")?;
    /// let connector = Connector::builder().egress(rules).build()?;
    /// let docker = UnixAddress::from_pathname("/run/docker.sock")?;
    /// let error = connector.connect_unix(docker, SocketOptions::new()).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Denied);
    /// # }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) for a path that is not absolute or contains `.` or `..`, for
    /// an empty abstract name, and for NUL.
    #[cfg(unix)]
    #[doc(alias("AF_UNIX"))]
    pub fn allow_unix(mut self, prefix: &str) -> Result<Self> {
        self.unix.push(UnixRule::parse(prefix)?);
        Ok(self)
    }

    /// Returns whether the rules for ports and nets and the own listeners allow a numeric address. Host rules are not
    /// checked.
    ///
    /// This sends nothing. If an own listener with an unspecified address has this port, it asks the system whether the
    /// address belongs to this machine. If the system does not answer, it returns `false`.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        self.check(address).is_ok()
            && !self.denies_live_listener(address)
            && (!self.needs_local_check(address)
                || is_local(address, &TcpOptions::new()).is_ok_and(|local| !local))
    }

    /// Returns whether the rules deny any address by its net, so that every address must be judged.
    pub(crate) fn restricts_nets(&self) -> bool {
        self.nets.default != NetDefault::Allow || self.nets.denies()
    }

    /// Returns whether the rules allow everything.
    pub(crate) fn is_unrestricted(&self) -> bool {
        self.hosts.default == DefaultRule::Allow
            && self.ports.default == DefaultRule::Allow
            && self.nets.default == NetDefault::Allow
            && !self.hosts.denies()
            && !self.ports.denies()
            && !self.nets.denies()
            && self.own_listeners.is_empty()
            && !self.denies_live_listeners
    }
}

/// Same as [`allow_all`](EgressRules::allow_all).
impl Default for EgressRules {
    fn default() -> Self {
        EgressRules::allow_all()
    }
}
