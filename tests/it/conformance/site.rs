//! Addresses that share a port, like those of one name, each with its own reaction; and the times in which a name with
//! two of them is reached.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::names::Names;
use crate::support::net::{self, TcpListener};
use crate::support::peer::{BlackHole, fill_backlog};
use crate::support::{PROMPT, WATCHDOG, eventually, ms, skip, timed, with_watchdog, within_100_ms};

/// The reaction of an address to an attempt.
#[derive(Clone, Copy, Debug)]
pub enum Sort {
    Listens,
    /// Answers no SYN.
    Silent,
    Refuses,
}

/// Addresses that share a port, like those of one name.
pub struct Site {
    pub port: u16,
    places: Vec<Place>,
}

/// The state of an address, kept while the value exists.
enum Place {
    Listens(TcpListener),
    Silent { _hole: BlackHole },
    Refuses { _socket: Socket },
}

impl Site {
    /// Returns `None` if the machine does not have the addresses.
    pub fn of(id: &str, sorts: &[(IpAddr, Sort)]) -> Option<Site> {
        for _ in 0..100 {
            match Site::try_of(sorts) {
                Ok(site) => return Some(site),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    skip(id, &format!("cannot set up {sorts:?} on this machine: {error}"));
                    return None;
                }
            }
        }
        panic!("no port is free at {sorts:?}");
    }

    fn try_of(sorts: &[(IpAddr, Sort)]) -> io::Result<Site> {
        let mut site = Site { port: 0, places: Vec::new() };
        for &(ip, sort) in sorts {
            await_route(ip)?;
            let address = SocketAddr::new(ip, site.port);
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.bind(&address.into())?;
            let bound = socket.local_addr()?;
            site.port = bound.as_socket().expect("it is an IP address").port();
            site.places.push(match sort {
                Sort::Listens => {
                    socket.listen(16)?;
                    Place::Listens(socket.into())
                }
                Sort::Silent => {
                    socket.listen(0)?;
                    Place::Silent { _hole: fill_backlog(socket.into()) }
                }
                Sort::Refuses => Place::Refuses { _socket: socket },
            });
        }
        Ok(site)
    }

    /// Returns the listener of an address.
    pub fn listener(&self, place: usize) -> &TcpListener {
        match &self.places[place] {
            Place::Listens(listener) => listener,
            Place::Silent { .. } | Place::Refuses { .. } => panic!("the address has no listener"),
        }
    }
}

/// Waits until a newly added address is reachable: an IPv6 address loses SYNs before.
fn await_route(ip: IpAddr) -> io::Result<()> {
    let listener = TcpListener::bind((ip, 0))?;
    let address = listener.local_addr()?;
    eventually(WATCHDOG, "the address is reached", || {
        net::connect_timeout(&address, ms(200)).is_ok()
    });
    Ok(())
}

// -------------------------------------------------------------------- names with two addresses

/// Checks a name whose first address refuses: the second one, which listens, is tried at once.
pub fn refused_first(id: &'static str, name: &'static str, addresses: [IpAddr; 2]) {
    let sorts = [(addresses[0], Sort::Refuses), (addresses[1], Sort::Listens)];
    let Some(site) = Site::of(id, &sorts) else { return };
    with_watchdog(move || within_100_ms(|| second_answers(&site, name, addresses)));
}

/// Checks a name whose first address answers no SYN: the second one, which listens, is tried after the delay.
pub fn silent_first(id: &'static str, name: &'static str, addresses: [IpAddr; 2]) {
    let sorts = [(addresses[0], Sort::Silent), (addresses[1], Sort::Listens)];
    let Some(site) = Site::of(id, &sorts) else { return };
    with_watchdog(move || {
        let took = second_answers(&site, name, addresses);
        assert!(took >= ms(240) && took <= PROMPT, "took {took:?}");
    });
}

/// Returns the time until the second address of the name is reached.
#[track_caller]
fn second_answers(site: &Site, name: &'static str, addresses: [IpAddr; 2]) -> Duration {
    let names = Names::with(name, &addresses);
    let ((socket, opened), took) = timed(|| {
        let socket = names.connector().connect((name, site.port)).expect("it is an address");
        let opened = socket.opened();
        (socket, opened)
    });
    let info = opened.expect("the second listens");
    assert_eq!(info.remote_address(), Some((addresses[1], site.port).into()));
    let (_, from) = site.listener(1).accept().expect("the connection is in the backlog");
    assert_eq!(info.local_address(), Some(from));
    drop(socket);
    took
}
