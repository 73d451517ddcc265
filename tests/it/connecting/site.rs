//! Addresses of this machine that share a port, like those of one name, each with its own reaction.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Socket, Type};
use sockeye::Connector;

use crate::support::{WATCHDOG, eventually};

/// The reaction of an address to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// Opens at once.
    Fast,
    /// Does not answer until it is woken, because its backlog is full.
    Slow,
    /// Refuses at once.
    Refused,
}

pub struct Site {
    port: u16,
    places: Vec<Place>,
}

enum Place {
    Listens(TcpListener),
    Full { listener: TcpListener, _filler: TcpStream },
    Taken { _socket: Socket },
}

impl Site {
    pub fn of(sorts: &[Sort]) -> Site {
        for _ in 0..100 {
            match Site::try_of(sorts) {
                Ok(site) => return site,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => panic!("every address of 127.0.0.0/8 can be bound: {error}"),
            }
        }
        panic!("no port is free on {} addresses at once", sorts.len());
    }

    fn try_of(sorts: &[Sort]) -> io::Result<Site> {
        let mut site = Site { port: 0, places: Vec::new() };
        for &sort in sorts {
            let address = site.v4(site.places.len());
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&address.into())?;
            site.port = socket.local_addr()?.as_socket().expect("it is an IP address").port();
            let address = SocketAddr::new(address.ip(), site.port);
            site.places.push(match sort {
                Sort::Fast => {
                    socket.listen(4096)?;
                    Place::Listens(socket.into())
                }
                Sort::Slow => {
                    socket.listen(0)?;
                    let _filler = TcpStream::connect(address)?;
                    eventually(WATCHDOG, "the backlog is full", || is_full(address));
                    Place::Full { listener: socket.into(), _filler }
                }
                Sort::Refused => Place::Taken { _socket: socket },
            });
        }
        Ok(site)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address with this index.
    pub fn v4(&self, place: usize) -> SocketAddr {
        let last = u8::try_from(10 + place).expect("a site has few addresses");
        (Ipv4Addr::new(127, 0, 0, last), self.port).into()
    }

    /// Returns the same address in the other family.
    pub fn v6(&self, place: usize) -> SocketAddr {
        let IpAddr::V4(ip) = self.v4(place).ip() else { unreachable!("it is an IPv4 address") };
        (ip.to_ipv6_mapped(), self.port).into()
    }

    pub fn fast(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|place| matches!(self.places[*place], Place::Listens(_)))
    }

    /// Returns the number of connections at an address that have not been accepted.
    #[track_caller]
    pub fn came(&self, place: usize) -> usize {
        let (Place::Listens(listener) | Place::Full { listener, .. }) = &self.places[place] else {
            panic!("the address has no listener");
        };
        listener.set_nonblocking(true).expect("every listener has the option");
        let mut count = 0;
        loop {
            match listener.accept() {
                Ok(_) => count += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("cannot accept at the address: {error}"),
            }
        }
        listener.set_nonblocking(false).expect("every listener has the option");
        count
    }

    /// Waits for a connection at an address.
    pub fn accept(&self, place: usize) -> TcpStream {
        match &self.places[place] {
            Place::Listens(listener) | Place::Full { listener, .. } => {
                listener.accept().expect("the listener accepts").0
            }
            Place::Taken { .. } => panic!("the address has no listener"),
        }
    }

    /// Frees one slot in the backlog of a slow address: it answers the next SYN.
    pub fn wake(&self, place: usize) {
        drop(self.accept(place));
    }

    /// Closes an address: from now on it refuses.
    pub fn shut(&mut self, place: usize) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a descriptor is free");
        self.places[place] = Place::Taken { _socket: socket };
    }

    /// Returns the number of attempts in progress to an address, from all of this machine.
    pub fn attempts(&self, place: usize) -> usize {
        self.dialled().filter(|address| *address == self.v4(place)).count()
    }

    /// Returns the destination of every attempt in progress.
    fn dialled(&self) -> impl Iterator<Item = SocketAddr> {
        let of = |family| diag::sockets(family, diag::SYN_SENT, self.port);
        [of(diag::V4), of(diag::V6)].into_iter().flatten().map(|socket| socket.remote)
    }

    #[track_caller]
    pub fn await_attempt(&self, place: usize) {
        eventually(WATCHDOG, "the address is dialled", || self.attempts(place) > 0);
    }

    #[track_caller]
    pub fn await_quiet(&self) {
        eventually(WATCHDOG, "no attempt is left", || {
            let own: Vec<_> = (0..self.places.len()).map(|place| self.v4(place)).collect();
            self.dialled().all(|address| !own.contains(&address))
        });
    }
}

/// Returns a connector that resolves every name to these addresses.
pub fn names(addresses: &[SocketAddr]) -> Connector {
    let answer: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
    Connector::builder()
        .resolver(move |_: &str| Ok(answer.clone()))
        .build()
        .expect("the rules are valid")
}

/// Checks whether this system has both address families.
pub fn has_two_families() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, None).is_ok()
}

fn is_full(listener: SocketAddr) -> bool {
    let mut listeners = diag::sockets(diag::V4, diag::LISTEN, 0).into_iter();
    listeners.any(|socket| socket.local == listener && socket.waiting > 0)
}

/// The kernel's list of sockets in one state. The lists in /proc hold the sockets of all states, which may include a
/// hundred thousand in TIME-WAIT.
mod diag {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

    use rustix::net::netlink::{SOCK_DIAG, SocketAddrNetlink};
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, sendto, socket};

    pub const V4: u8 = 2;
    pub const V6: u8 = 10;
    pub const SYN_SENT: u32 = 2;
    pub const LISTEN: u32 = 10;

    pub struct SocketEntry {
        pub local: SocketAddr,
        pub remote: SocketAddr,
        /// The number of connections in a listener's backlog.
        pub waiting: u32,
    }

    /// Returns the sockets in this state, and with this destination port unless it is 0.
    pub fn sockets(family: u8, state: u32, port: u16) -> Vec<SocketEntry> {
        const REQUEST_BYTES: u32 = 72;
        const BY_FAMILY: u16 = 20;
        const REQUEST_AND_DUMP: u16 = 0x301;
        const TCP: u8 = 6;
        let mut request = Vec::new();
        request.extend(REQUEST_BYTES.to_ne_bytes());
        request.extend(BY_FAMILY.to_ne_bytes());
        request.extend(REQUEST_AND_DUMP.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([family, TCP, 0, 0]);
        request.extend((1_u32 << state).to_ne_bytes());
        request.extend([0; 2]);
        request.extend(port.to_be_bytes());
        request.resize(REQUEST_BYTES as usize, 0);
        let link = socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(SOCK_DIAG))
            .expect("Linux has the file");
        sendto(&link, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))
            .expect("the kernel accepts the request");
        let mut message = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (count, _) =
                recv(&link, &mut buffer, RecvFlags::empty()).expect("the kernel answers");
            if !take(&buffer[..count], &mut message) {
                return message;
            }
        }
    }

    /// Parses messages; returns whether more follow.
    fn take(mut messages: &[u8], message: &mut Vec<SocketEntry>) -> bool {
        const FAILED: u16 = 2;
        const DONE: u16 = 3;
        while !messages.is_empty() {
            let len = number(messages) as usize;
            match u16::from_ne_bytes([messages[4], messages[5]]) {
                DONE => return false,
                FAILED => panic!("the kernel does not list sockets"),
                _ => {}
            }
            let body = &messages[16..len];
            message.push(SocketEntry {
                local: address(body[0], &body[4..6], &body[8..24]),
                remote: address(body[0], &body[6..8], &body[24..40]),
                waiting: number(&body[56..]),
            });
            messages = &messages[len.next_multiple_of(4)..];
        }
        true
    }

    fn number(bytes: &[u8]) -> u32 {
        u32::from_ne_bytes(bytes[..4].try_into().expect("four bytes"))
    }

    fn address(family: u8, port: &[u8], ip: &[u8]) -> SocketAddr {
        let ip: [u8; 16] = ip.try_into().expect("sixteen bytes");
        let ip = if family == V4 {
            IpAddr::from(Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]))
        } else {
            Ipv6Addr::from(ip).to_canonical()
        };
        (ip, u16::from_be_bytes([port[0], port[1]])).into()
    }
}
