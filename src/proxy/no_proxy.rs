//! Exceptions from proxies, in the syntax of the environment variable `NO_PROXY`.

use std::net::IpAddr;

use crate::address::SocketAddress;

/// A list of exceptions in the syntax of `NO_PROXY`, as [Go reads it].
///
/// Entries are separated by commas, with optional spaces. Every entry but a net may end in `:port`.
///
/// | entry | matches |
/// |---|---|
/// | `example.com` | that name and every name below it |
/// | `.example.com`, `*.example.com` | only names below it |
/// | `10.1.2.3`, `::1`, `[::1]:80` | targets written as this address, also if IPv4-mapped |
/// | `10.0.0.0/8`, `fd00::/8` | targets written as an address in this net |
/// | `*` | everything |
///
/// Names are not resolved. Case and a trailing dot are ignored. International names must be in their ASCII form.
///
/// ```
/// use sockeye::NoProxy;
///
/// let list = NoProxy::parse("localhost, .corp.example, 10.0.0.0/8, example.com:8443");
/// assert!(list.matches(&"www.corp.example:80".parse()?));
/// assert!(!list.matches(&"corp.example:80".parse()?));
/// assert!(list.matches(&"10.1.2.3:80".parse()?));
/// assert!(!list.matches(&"example.com:443".parse()?));
/// # Ok::<(), sockeye::Error>(())
/// ```
///
/// [Go reads it]: https://pkg.go.dev/golang.org/x/net/http/httpproxy#Config
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Everything,
    Net { network: IpAddr, prefix: u8 },
    Address { ip: IpAddr, port: Option<u16> },
    Name { name: Box<str>, only_below: bool, port: Option<u16> },
}

impl NoProxy {
    /// Parses a list. Ignores entries that cannot be parsed, as other implementations do.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let entries = list.split(',').map(|entry| entry.trim().to_lowercase());
        NoProxy { entries: entries.filter_map(|entry| parse(&entry)).collect() }
    }

    /// Returns whether `target` is dialled directly.
    #[must_use]
    pub fn matches(&self, target: &SocketAddress) -> bool {
        let hostname = target.hostname();
        let host = hostname.strip_suffix('.').unwrap_or(hostname);
        let ip = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        self.entries.iter().any(|entry| match (entry, ip) {
            (Entry::Everything, _) => true,
            (Entry::Net { network, prefix }, Some(ip)) => is_in_net(ip, *network, *prefix),
            (Entry::Address { ip: own, port }, Some(ip)) => {
                *own == ip && is_port(*port, target.port())
            }
            (Entry::Name { name, only_below, port }, None) => {
                is_name(host, name, *only_below) && is_port(*port, target.port())
            }
            (Entry::Net { .. } | Entry::Address { .. }, None) | (Entry::Name { .. }, Some(_)) => {
                false
            }
        })
    }

    pub(super) fn add(&mut self, more: NoProxy) {
        self.entries.extend(more.entries);
    }
}

fn parse(entry: &str) -> Option<Entry> {
    if entry == "*" {
        return Some(Entry::Everything);
    }
    if let Some(net) = parse_net(entry) {
        return Some(net);
    }
    let (host, port) = match split_host_port(entry) {
        Some((host, "")) => (host, None),
        // Go compares texts, so a port in another form than a target's never matches.
        Some((host, port)) => (host, Some(port.parse().ok().filter(|it| is_text_of(*it, port))?)),
        None => (entry, None),
    };
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(Entry::Address { ip: ip.to_canonical(), port });
    }
    let (name, only_below) = match host.strip_prefix('*').unwrap_or(host).strip_prefix('.') {
        Some(below) => (below, true),
        None => (host, false),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    match name {
        "" => None,
        name => Some(Entry::Name { name: name.into(), only_below, port }),
    }
}

/// Parses a net. Bits beyond the prefix are ignored.
fn parse_net(entry: &str) -> Option<Entry> {
    let (ip, prefix) = entry.split_once('/')?;
    let ip: IpAddr = ip.parse().ok()?;
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let prefix = prefix.parse::<u8>().ok()?;
    let max = if ip.is_ipv4() { 32 } else { 128 };
    if prefix > max {
        return None;
    }
    // An IPv4-mapped net is an IPv4 net, if its prefix covers the mark of mapped addresses.
    Some(match ip.to_canonical() {
        IpAddr::V4(v4) if ip.is_ipv6() && prefix >= 96 => {
            Entry::Net { network: v4.into(), prefix: prefix - 96 }
        }
        _ => Entry::Net { network: ip, prefix },
    })
}

/// Splits `host:port` or `[host]:port`. Returns `None` for anything else, such as a host without a port.
fn split_host_port(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = entry.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    let has_bracket = [host, port].iter().any(|part| part.contains(['[', ']']));
    (!host.is_empty() && !has_bracket).then_some((host, port))
}

fn is_text_of(port: u16, text: &str) -> bool {
    text.len() == port.to_string().len()
}

fn is_port(own: Option<u16>, port: u16) -> bool {
    own.is_none_or(|own| own == port)
}

/// Returns whether a host is a name or below it. The name is in lower case.
fn is_name(host: &str, name: &str, only_below: bool) -> bool {
    let Some(start) = host.len().checked_sub(name.len()) else { return false };
    // A host is ASCII.
    let (rest, end) = host.split_at(start);
    end.eq_ignore_ascii_case(name)
        && if rest.is_empty() { !only_below } else { rest.ends_with('.') }
}

fn is_in_net(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    // A shift by the full width gives None: with prefix 0, every address matches.
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => (ip.to_bits() ^ network.to_bits())
            .checked_shr(u32::from(32 - prefix))
            .is_none_or(|differing| differing == 0),
        (IpAddr::V6(ip), IpAddr::V6(network)) => (ip.to_bits() ^ network.to_bits())
            .checked_shr(u32::from(128 - prefix))
            .is_none_or(|differing| differing == 0),
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[rustfmt::skip]
    fn entries_match_as_go_matches_them() {
        for (list, target, expected) in [
            // Names.
            ("example.com", "example.com:80", true),
            ("example.com", "www.example.com:80", true),
            ("example.com", "a.b.example.com:80", true),
            ("example.com", "notexample.com:80", false),
            ("example.com", "example.com.evil.test:80", false),
            (".example.com", "example.com:80", false),
            (".example.com", "www.example.com:80", true),
            ("*.example.com", "example.com:80", false),
            ("*.example.com", "www.example.com:80", true),
            ("*example.com", "www.example.com:80", false),
            ("EXAMPLE.com", "WWW.example.COM:80", true),
            ("example.com.", "example.com:80", true),
            ("example.com", "www.example.com.:80", true),
            // Ports.
            ("example.com:80", "example.com:80", true),
            ("example.com:80", "www.example.com:80", true),
            ("example.com:80", "example.com:443", false),
            ("example.com:080", "example.com:80", false),
            ("example.com:http", "example.com:80", false),
            ("example.com:", "example.com:443", true),
            (".example.com:80", "www.example.com:80", true),
            (":80", "example.com:80", false),
            // Addresses.
            ("10.1.2.3", "10.1.2.3:80", true),
            ("10.1.2.3", "10.1.2.4:80", false),
            ("10.1.2.3:80", "10.1.2.3:81", false),
            ("10.1.2.3", "[::ffff:10.1.2.3]:80", true),
            ("::ffff:10.1.2.3", "10.1.2.3:80", true),
            ("::1", "[::1]:80", true),
            ("0:0:0:0:0:0:0:1", "[::1]:80", true),
            ("[::1]:80", "[::1]:80", true),
            ("[::1]:80", "[::1]:81", false),
            ("[::1]", "[::1]:80", false),
            ("2.3", "10.1.2.3:80", false),
            // Nets.
            ("10.0.0.0/8", "10.1.2.3:80", true),
            ("10.9.9.9/8", "10.1.2.3:80", true),
            ("10.0.0.0/8", "11.1.2.3:80", false),
            ("10.0.0.0/8", "ten.test:80", false),
            ("0.0.0.0/0", "10.1.2.3:80", true),
            ("0.0.0.0/0", "[::1]:80", false),
            ("::/0", "[2001:db8::1]:80", true),
            ("::/0", "10.1.2.3:80", false),
            ("::/0", "[::ffff:10.1.2.3]:80", false),
            ("fd00::/8", "[fdab::1]:80", true),
            ("::ffff:10.0.0.0/104", "10.1.2.3:80", true),
            ("::ffff:10.0.0.0/80", "10.1.2.3:80", false),
            ("10.0.0.0/33", "10.1.2.3:80", false),
            ("10.0.0.0/", "10.1.2.3:80", false),
            ("10.0.0.0/+8", "10.1.2.3:80", false),
            ("10.0.0.0/8:80", "10.1.2.3:80", false),
            // Lists.
            ("*", "example.com:80", true),
            ("*", "[::1]:80", true),
            ("a.test, *", "b.test:80", true),
            (" a.test ,\tb.test", "b.test:80", true),
            (",,a.test,", "a.test:80", true),
            ("a.test b.test", "b.test:80", false),
            ("", "a.test:80", false),
            (".", "a.test:80", false),
            ("b\u{fc}cher.test", "xn--bcher-kva.test:80", false),
            ("xn--bcher-kva.test", "xn--bcher-kva.test:80", true),
            // Only `ProxyRules::from_env` has exceptions of its own.
            ("", "localhost:80", false),
            ("", "127.0.0.1:80", false),
        ] {
            let target: SocketAddress = target.parse().unwrap();
            assert_eq!(NoProxy::parse(list).matches(&target), expected, "{list:?}, {target}");
        }
    }
}
