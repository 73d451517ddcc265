//! Queries the Linux routing tables via rtnetlink(7).
//!
//! The addresses of interfaces are local, and so are whole nets with a local route (`ip route add local`). Only the
//! routing tables cover both. bind(2) refuses the addresses of such an IPv6 net, and with the setting
//! `ip_nonlocal_bind` it accepts every address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

const GET_ROUTE: u16 = 26;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;
const REQUEST: u16 = 1;
/// The sequence number of the request. Each socket sends one request, so an arbitrary constant other than zero is
/// enough.
const SEQUENCE: u32 = 0x50c8;

/// Sizes of the message header and of the route header, in bytes.
const HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;

const DESTINATION: u16 = 1;
const SOURCE: u16 = 2;
const INTERFACE: u16 = 4;
const MARK: u16 = 16;
const PROTOCOL: u16 = 27;
const DESTINATION_PORT: u16 = 29;

const TCP: u8 = 6;

/// A route to another machine.
const UNICAST: u8 = 1;
/// Routes to this machine.
const LOCAL: u8 = 2;
const ANYCAST: u8 = 4;
/// Routes to no single machine: broadcast, multicast, blackhole, unreachable and the like.
const NOBODY: [u8; 6] = [3, 5, 6, 7, 8, 9];

/// The destination of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leads {
    Here,
    ToAnother,
    Nowhere,
}

/// Options of a socket that the choice of a route may depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Via {
    pub(super) mark: Option<u32>,
    /// Index of the interface that the socket is bound to.
    pub(super) interface: Option<u32>,
}

/// Returns the index of the interface with this name.
pub(super) fn interface(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// Queries the route for a TCP connection to `peer`, with `from` as its source address if known.
pub(super) fn leads(peer: SocketAddr, from: Option<IpAddr>, via: Via) -> io::Result<Leads> {
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    send(&socket, &request(peer, from, via), SendFlags::empty())?;
    // The kernel queues the reply before send returns. It has less than 200 bytes.
    let mut answer = [0; 4096];
    let (_, len) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    read(answer.get(..len).unwrap_or(&answer))
}

fn request(peer: SocketAddr, from: Option<IpAddr>, via: Via) -> Vec<u8> {
    let mut message = Vec::with_capacity(128);
    message.extend([0; 4]);
    message.extend(GET_ROUTE.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend([0; 4]);
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let family = u8::try_from(family.as_raw()).expect("address families are small numbers");
    let bits = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    message.extend([family, bits(peer.ip()), from.map_or(0, bits), 0, 0, 0, 0, 0]);
    message.extend([0; 4]);
    add_address(&mut message, DESTINATION, peer.ip());
    if let Some(from) = from {
        add_address(&mut message, SOURCE, from);
    }
    let scope = match peer {
        SocketAddr::V6(peer) => Some(peer.scope_id()).filter(|scope| *scope != 0),
        SocketAddr::V4(_) => None,
    };
    if let Some(interface) = via.interface.or(scope) {
        add(&mut message, INTERFACE, &interface.to_ne_bytes());
    }
    if let Some(mark) = via.mark {
        add(&mut message, MARK, &mark.to_ne_bytes());
    }
    add(&mut message, PROTOCOL, &[TCP]);
    add(&mut message, DESTINATION_PORT, &peer.port().to_be_bytes());
    let len = u32::try_from(message.len()).expect("the message is short");
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message
}

fn add_address(message: &mut Vec<u8>, kind: u16, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => add(message, kind, &ip.octets()),
        IpAddr::V6(ip) => add(message, kind, &ip.octets()),
    }
}

/// Adds an attribute, padded to a multiple of four bytes.
fn add(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).expect("the value is short");
    message.extend(len.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// Parses a reply. Everything other than a route, or an error that means "no route", is an error.
fn read(answer: &[u8]) -> io::Result<Leads> {
    let odd = || io::Error::from(Errno::PROTO);
    let word = |at: usize| -> io::Result<[u8; 4]> {
        answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or_else(odd)
    };
    let len = u32::from_ne_bytes(word(0)?);
    let [low, high, ..] = word(4)?;
    if u32::from_ne_bytes(word(8)?) != SEQUENCE || usize::try_from(len).ok() > Some(answer.len()) {
        return Err(odd());
    }
    match u16::from_ne_bytes([low, high]) {
        NEW_ROUTE => {
            // The route's type is the last byte of the route header before the flags.
            let [.., route] = word(HEADER + ROUTE_HEADER - 8)?;
            match route {
                LOCAL | ANYCAST => Ok(Leads::Here),
                UNICAST => Ok(Leads::ToAnother),
                other if NOBODY.contains(&other) => Ok(Leads::Nowhere),
                _ => Err(odd()),
            }
        }
        ERROR => {
            let code = i32::from_ne_bytes(word(HEADER)?).checked_neg().ok_or_else(odd)?;
            // No route, an unreachable one, a prohibited one.
            let nowhere = [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS];
            if nowhere.iter().any(|errno| errno.raw_os_error() == code) {
                Ok(Leads::Nowhere)
            } else {
                Err(if code > 0 { io::Error::from_raw_os_error(code) } else { odd() })
            }
        }
        _ => Err(odd()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_route_types_are_classified_and_unknown_ones_are_errors() {
        use Leads::{Here, Nowhere, ToAnother};
        let meanings = [
            None,
            Some(ToAnother),
            Some(Here),
            Some(Nowhere),
            Some(Here),
            Some(Nowhere),
            Some(Nowhere),
            Some(Nowhere),
            Some(Nowhere),
            Some(Nowhere),
            None,
            None,
        ];
        for (kind, meaning) in (0..).zip(meanings) {
            assert_eq!(read(&route(kind)).ok(), meaning, "{kind}");
        }
    }

    #[test]
    fn kernel_errors_are_errors_unless_they_mean_no_route() {
        for errno in [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ACCESS] {
            assert_eq!(read(&refusal(errno.raw_os_error())).unwrap(), Leads::Nowhere);
        }
        for errno in [Errno::INVAL, Errno::PERM, Errno::OPNOTSUPP, Errno::NOBUFS, Errno::NOMEM] {
            let error = read(&refusal(errno.raw_os_error())).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(errno.raw_os_error()));
        }
        for code in [0, i32::MIN] {
            assert!(read(&refusal(code)).is_err(), "{code}");
        }
    }

    #[test]
    fn truncated_or_unrelated_replies_are_errors() {
        for whole in [route(LOCAL), route(UNICAST), refusal(Errno::ACCESS.raw_os_error())] {
            assert!(read(&whole).is_ok());
            for len in 0..whole.len() {
                assert!(read(&whole[..len]).is_err(), "{len} bytes");
            }
            let mut other = whole.clone();
            other[8] ^= 1;
            assert!(read(&other).is_err(), "the reply to another request");
            let mut other = whole;
            other[4] = 3;
            assert!(read(&other).is_err(), "neither a route nor an error");
        }
    }

    fn route(kind: u8) -> Vec<u8> {
        message(NEW_ROUTE, &[2, 32, 0, 0, 254, 0, 0, kind, 0, 0, 0, 0])
    }

    fn refusal(code: i32) -> Vec<u8> {
        message(ERROR, &code.wrapping_neg().to_ne_bytes())
    }

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(HEADER + body.len()).unwrap();
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend([0; 2]);
        message.extend(SEQUENCE.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        message
    }
}
