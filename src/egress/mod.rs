//! Who may be dialled: rules about hosts, ports and addresses, and what they say.
//!
//! Nothing is looked up or dialled here. The rules are asked twice: about the host and the port before
//! anything is sent, and about every numeric address before it is dialled, wherever it came from. The
//! second is what protects: names can be made to resolve to anything.
//!
//! `special` is the table of addresses that are for something else than hosts on the Internet, generated
//! from `special-ranges.txt` and, for those that only look like hosts', `cloud-ranges.txt`; `ranges` reads it. `net` and `host` are what rules are about. `embedded`
//! finds IPv4 addresses inside IPv6 ones. `local` is the one question that the system has to answer.

mod denial;
mod embedded;
mod host;
mod local;
mod net;
mod ranges;
mod special;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::address::SocketAddress;
use crate::error::{Error, Fault, Result};

use self::denial::{PortReason, Reason};
use self::embedded::Embedded;
use self::host::{Host, Pattern};
use self::net::Net;

pub(crate) use self::denial::{Denial, REFUSED};
pub(crate) use self::local::is_local;

/// Which peers may be dialled.
///
/// A program that connects to where others tell it to, such as a proxy, a crawler or whatever calls
/// webhooks, can be sent to places that only it can reach: its own admin port, its neighbours, the
/// credentials that a cloud tells at `169.254.169.254`. A check of the name does not help, for a name
/// resolves to what its owner likes, and to something else the next time. These rules are asked about
/// every numeric address before it is dialled, and about the host and the port before that.
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
/// There are rules about hosts, about ports and about nets, and a connection needs the leave of each
/// kind. Within a kind the rule that was added last and matches decides; where none matches, what the
/// rules began with: [`allow_all`](Self::allow_all), [`deny_all`](Self::deny_all),
/// [`public_only`](Self::public_only) or [`workers`](Self::workers). So `allow_*` lifts earlier denials
/// of its kind, and restricts nothing by itself.
///
/// Rules about hosts look at the text that is connected to, also where it is an IP literal; never at
/// what a name resolves to. Rules about nets look at addresses, whether they were written or resolved to.
/// Of a name with several addresses only those are dialled that are allowed.
///
/// # IPv4 addresses inside IPv6 addresses
///
/// An IPv4-mapped address (`::ffff:10.0.0.1`) is judged as the IPv4 address and nothing else: no IPv6 net
/// contains it, and a net of such addresses is the IPv4 net. Other IPv6 addresses that stand for an IPv4
/// address, or may, have to be allowed themselves, and so has each IPv4 address in them:
///
/// | | | |
/// |---|---|---|
/// | `64:ff9b::/96` | translated, NAT64 | [RFC 6052] |
/// | `64:ff9b:1::/48` | translated by one's own network, in any layout | [RFC 8215] |
/// | `2002::/16` | 6to4 | [RFC 3056] |
/// | `2001::/32` | Teredo: the server and the client | [RFC 4380] |
/// | any `…:0:5efe:a.b.c.d` and `…:200:5efe:a.b.c.d` | ISATAP | [RFC 5214] |
/// | `::/96` | IPv4-compatible | [RFC 4291] |
/// | `::ffff:0:0:0/96` | IPv4-translated | [RFC 2765] |
///
/// So `allow_all().deny_net("10.0.0.0/8")` refuses `10.0.0.1` in all its spellings, and
/// `deny_all().allow_net("64:ff9b::/96")` allows nothing until IPv4 addresses are allowed too. Of the
/// layouts of `64:ff9b:1::/48` each that gives an address outside `0.0.0.0/8` counts.
///
/// # Errors
///
/// A connection that is refused fails with [`Denied`](crate::ErrorKind::Denied) and says which rule it was,
/// or with [`Loop`](crate::ErrorKind::Loop) where it would come back to an
/// [own listener](Self::own_listener). A rule that can't be read is
/// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
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
    hosts: Rules<Base, Pattern>,
    ports: Rules<Base, u16>,
    nets: Rules<NetBase, Net>,
    /// None is IPv4-mapped.
    own: Vec<SocketAddr>,
}

/// What is decided where no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Allow,
    Deny,
}

/// What is decided about an address that no rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NetBase {
    Allow,
    Deny,
    Public,
    Workers,
}

/// The rules of one kind, in the order in which they were added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules<B, M> {
    base: B,
    added: Vec<Rule<M>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule<M> {
    about: M,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Deny,
}

impl EgressRules {
    /// Everything is allowed until it is denied: what a connector does that is given no rules.
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
        EgressRules::new(Base::Allow, NetBase::Allow)
    }

    /// Nothing is allowed until it is: a connection needs a matching rule about its host, one about its
    /// port, and one about its address.
    ///
    /// Where the host is an IP literal it needs all three as well: [`allow_host`](Self::allow_host) takes
    /// addresses too.
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
        EgressRules::new(Base::Deny, NetBase::Deny)
    }

    /// Only addresses of hosts on the Internet: not this machine, private networks, neighbours on the link,
    /// carriers' own networks, documentation, multicast, or what is reserved.
    ///
    /// These are the addresses that the IANA registries of [IPv4] and [IPv6] special-purpose addresses
    /// leave, and of those that they call globally reachable not the ones that lead to the nearest server of
    /// their own network or that are no hosts. Of IPv6 nothing outside `2000::/3` is allowed but
    /// `64:ff9b::/96`, where the IPv4 address in it decides. Hosts and ports are not restricted.
    ///
    /// Of those that look like hosts on the Internet `168.63.129.16` is denied too: from every machine of Azure
    /// it leads to the host's own service. With `169.254.169.254` and the like, that denies the metadata
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
        EgressRules::new(Base::Allow, NetBase::Public)
    }

    /// The rules of the platform of Cloudflare Workers: [`public_only`](Self::public_only), none of the
    /// [addresses of Cloudflare](https://www.cloudflare.com/ips/), and not port 25.
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
        EgressRules::new(Base::Allow, NetBase::Workers).deny_port(25)
    }

    fn new(base: Base, nets: NetBase) -> Self {
        EgressRules {
            hosts: Rules::new(base),
            ports: Rules::new(base),
            nets: Rules::new(nets),
            own: Vec::new(),
        }
    }

    /// Denies the addresses of a net: `10.0.0.0/8`, `fd00::/8`, or one address.
    ///
    /// IPv4 addresses inside IPv6 ones are found too: see [above](Self#ipv4-addresses-inside-ipv6-addresses).
    ///
    /// # Errors
    ///
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) where the text is no address, its prefix no
    /// decimal number in range, or where the address has bits beyond the prefix, as `10.0.0.1/8` has.
    pub fn deny_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Deny);
        Ok(self)
    }

    /// Allows the addresses of a net again, as [`deny_net`](Self::deny_net) takes it.
    ///
    /// It does not lift an [own listener](Self::own_listener).
    ///
    /// # Errors
    ///
    /// As those of [`deny_net`](Self::deny_net).
    pub fn allow_net(mut self, net: &str) -> Result<Self> {
        self.nets.add(Net::parse(net)?, Verdict::Allow);
        Ok(self)
    }

    /// Denies a port, whatever the host.
    #[must_use]
    pub fn deny_port(mut self, port: u16) -> Self {
        self.ports.add(port, Verdict::Deny);
        self
    }

    /// Allows a port again.
    #[must_use]
    pub fn allow_port(mut self, port: u16) -> Self {
        self.ports.add(port, Verdict::Allow);
        self
    }

    /// Denies a host: a name, an address, or `*.example.com` for every name under another, at any depth,
    /// but not for that itself. Case and a dot at the end make no difference.
    ///
    /// A host by its name only: denied addresses are for [`deny_net`](Self::deny_net), since another name may
    /// have the same ones.
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
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions) where the text is none of these: a star elsewhere,
    /// a host that [`SocketAddress`](crate::SocketAddress) would not take, an empty label, more than 255
    /// bytes.
    pub fn deny_host(mut self, pattern: &str) -> Result<Self> {
        self.hosts.add(Pattern::parse(pattern)?, Verdict::Deny);
        Ok(self)
    }

    /// Allows a host again, as [`deny_host`](Self::deny_host) takes it.
    ///
    /// # Errors
    ///
    /// As those of [`deny_host`](Self::deny_host).
    pub fn allow_host(mut self, pattern: &str) -> Result<Self> {
        self.hosts.add(Pattern::parse(pattern)?, Verdict::Allow);
        Ok(self)
    }

    /// An address on which this program itself listens: to dial it is [`Loop`](crate::ErrorKind::Loop),
    /// whatever the rules say. [`Socket::opened`](crate::Socket::opened) tells it, for numeric addresses too.
    ///
    /// An unspecified IP, of either family, stands for every address of this machine, of both families. Which
    /// those are beside loopback only the system can tell, and it is asked about what the rules allow: those of
    /// its interfaces, and on Linux those that its routes call local. If the system does not tell, the
    /// connection is refused with [`Io`](crate::ErrorKind::Io) and the reason: it may be out of descriptors, or
    /// a sandbox may forbid sockets of `AF_NETLINK` on Linux. What a packet filter redirects is not known. To
    /// dial the unspecified address is to dial the loopback address of its family, as Linux does it. Scopes
    /// of IPv6 addresses are compared where both have one.
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
        self.own.push(unmapped(address));
        self
    }

    /// The verdict on a numeric address, without dialling it: that of the rules about ports and nets and of
    /// own listeners. Rules about hosts are about what is written, and not asked.
    ///
    /// Nothing is sent. If a listener on an unspecified address has this port, the system is asked whether
    /// the address is one of this machine; the verdict is `false` if it does not tell.
    #[must_use]
    pub fn allows(&self, address: SocketAddr) -> bool {
        self.judge(address).is_ok()
            && (!self.asks_whether_local(address)
                || is_local(address, None).is_ok_and(|local| !local))
    }

    /// Whether nothing could ever be refused.
    pub(crate) fn is_unrestricted(&self) -> bool {
        self.hosts.base == Base::Allow
            && self.ports.base == Base::Allow
            && self.nets.base == NetBase::Allow
            && !self.hosts.denies()
            && !self.ports.denies()
            && !self.nets.denies()
            && self.own.is_empty()
    }

    /// The verdict on what is connected to, before it is looked up: of the rules about ports and hosts.
    ///
    /// # Errors
    /// [`Denied`](crate::ErrorKind::Denied).
    pub(crate) fn judge_name(&self, requested: &SocketAddress) -> Result<()> {
        if let Err(denial) = self.judge_port(requested.port()) {
            return Err(Error::from_denial(&denial.reason(), denial.page(), requested));
        }
        let hostname = requested.hostname();
        let host = Host::new(hostname);
        let fault = match (self.hosts.last(|pattern| pattern.matches(&host)), self.hosts.base) {
            (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, Base::Allow) => return Ok(()),
            (Some(Rule { verdict: Verdict::Deny, about }), _) => {
                format!("the host {hostname} is denied by the rule {about}")
            }
            (None, Base::Deny) => format!("no rule allows the host {hostname}"),
        };
        Err(Error::from_denial(&fault, REFUSED, requested))
    }

    /// The verdict on a numeric address: of own listeners, and of the rules about ports and nets. Why it is
    /// denied, [`denial`](Self::denial) tells.
    pub(crate) fn judge(&self, address: SocketAddr) -> Result<(), Fault> {
        if self.is_own_listener(address) {
            return Err(Fault::OwnListener);
        }
        self.denial(address).map_or(Ok(()), |_| Err(Fault::Denied))
    }

    /// Which rule denies a numeric address, if one does and it is no own listener.
    pub(crate) fn denial(&self, address: SocketAddr) -> Option<Denial> {
        if self.is_own_listener(address) {
            return None;
        }
        self.judge_port(address.port()).and_then(|()| self.judge_ip(address.ip())).err()
    }

    /// Whether it would be a loop to dial this address if it is one of this machine, which
    /// [`is_local`] tells. It is asked about what [`judge`](Self::judge) allows.
    pub(crate) fn asks_whether_local(&self, address: SocketAddr) -> bool {
        self.own.iter().any(|own| own.ip().is_unspecified() && own.port() == address.port())
    }

    /// Whether an address leads to an own listener for certain, without asking the system.
    fn is_own_listener(&self, address: SocketAddr) -> bool {
        if self.own.is_empty() {
            return false;
        }
        let address = unmapped(address);
        self.own.iter().filter(|own| own.port() == address.port()).any(|own| {
            if own.ip().is_unspecified() {
                return local::is_certainly_local(address.ip());
            }
            match (own, address) {
                (SocketAddr::V4(own), SocketAddr::V4(address)) => {
                    *own.ip() == reached_v4(*address.ip())
                }
                (SocketAddr::V6(own), SocketAddr::V6(address)) => {
                    let scopes = [own.scope_id(), address.scope_id()];
                    *own.ip() == reached_v6(*address.ip())
                        && (scopes.contains(&0) || scopes[0] == scopes[1])
                }
                (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
                    false
                }
            }
        })
    }

    fn judge_port(&self, port: u16) -> Result<(), Denial> {
        match (self.ports.last(|denied| *denied == port), self.ports.base) {
            (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, Base::Allow) => Ok(()),
            (Some(Rule { verdict: Verdict::Deny, .. }), _) => {
                Err(Denial::of_port(port, PortReason::Rule))
            }
            (None, Base::Deny) => Err(Denial::of_port(port, PortReason::NoRule)),
        }
    }

    fn judge_ip(&self, dialled: IpAddr) -> Result<(), Denial> {
        let judge = |embedded: Option<Ipv4Addr>| {
            let ip = embedded.map_or(dialled, IpAddr::V4);
            self.judge_net(ip).map_err(|reason| Denial::of_address(dialled, embedded, reason))
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

    /// The verdict on one address by itself.
    fn judge_net(&self, ip: IpAddr) -> Result<(), Reason> {
        match (self.nets.last(|net| net.contains(ip)), self.nets.base) {
            (Some(Rule { verdict: Verdict::Allow, .. }), _) | (None, NetBase::Allow) => Ok(()),
            (Some(Rule { verdict: Verdict::Deny, about }), _) => {
                Err(Reason::Rule { prefix: about.prefix() })
            }
            (None, NetBase::Deny) => Err(Reason::NoRule),
            (None, NetBase::Public) => ranges::judge_public(ip),
            (None, NetBase::Workers) => {
                ranges::judge_public(ip).and_then(|()| ranges::judge_cloudflare(ip))
            }
        }
    }
}

/// That of [`allow_all`](EgressRules::allow_all).
impl Default for EgressRules {
    fn default() -> Self {
        EgressRules::allow_all()
    }
}

impl<B, M> Rules<B, M> {
    fn new(base: B) -> Self {
        Rules { base, added: Vec::new() }
    }

    fn add(&mut self, about: M, verdict: Verdict) {
        self.added.push(Rule { about, verdict });
    }

    /// The rule that decides, where one matches.
    fn last(&self, matches: impl Fn(&M) -> bool) -> Option<&Rule<M>> {
        self.added.iter().rfind(|rule| matches(&rule.about))
    }

    fn denies(&self) -> bool {
        self.added.iter().any(|rule| rule.verdict == Verdict::Deny)
    }
}

/// The address that is dialled where an IPv4-mapped one is given.
fn unmapped(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

/// Where a packet to an address arrives: Linux takes the unspecified one for loopback.
fn reached_v4(ip: Ipv4Addr) -> Ipv4Addr {
    if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip }
}

/// As [`reached_v4`].
fn reached_v6(ip: Ipv6Addr) -> Ipv6Addr {
    if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip }
}

#[cfg(test)]
mod tests;
