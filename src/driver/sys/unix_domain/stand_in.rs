//! Unix-domain sockets in place of TCP, with `--cfg sockeye_unix`: each address has an abstract name. So tests of TCP
//! also test what a Unix-domain socket does with data and with ends.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, SockRef};

use crate::driver::sys::bind_options::BindOptions;
use crate::driver::sys::connecting::{ALWAYS_PENDING, apply_buffer_sizes};
use crate::driver::sys::socket::nonblocking_socket;
use crate::driver::sys::sync::mio::net::{TcpListener, TcpStream};
use crate::options::TcpOptions;

/// Where every client seems to come from.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

pub(crate) fn start_connect(
    address: SocketAddr,
    options: &TcpOptions,
) -> io::Result<(TcpStream, bool)> {
    let socket = nonblocking_socket(Domain::UNIX, None)?;
    apply_buffer_sizes(&socket, options)?;
    let mut connected = Err(io::ErrorKind::ConnectionRefused.into());
    for address in names_for(address) {
        connected = socket.connect(&name_of(address)?);
        match &connected {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(()) | Err(_) => break,
        }
    }
    let pending = match connected {
        Ok(()) => ALWAYS_PENDING,
        // As over TCP, where a full queue does not answer. It stays so, even if there is room later.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
        Err(error) => return Err(error),
    };
    Ok((TcpStream::from_std(socket.into()), pending))
}

pub(crate) fn bind(mut address: SocketAddr, options: &BindOptions) -> io::Result<TcpListener> {
    let socket = nonblocking_socket(Domain::UNIX, None)?;
    apply_buffer_sizes(&socket, &options.tcp)?;
    let chooses_port = address.port() == 0;
    loop {
        if chooses_port {
            // A port that no listener of TCP has.
            let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            address.set_port(free.local_addr()?.port());
        }
        match socket.bind(&name_of(address)?) {
            Err(error) if chooses_port && error.kind() == io::ErrorKind::AddrInUse => {}
            bound => break bound?,
        }
    }
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(TcpListener::from_std(socket.into()))
}

pub(crate) fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
    let name = SockRef::from(listener).local_addr()?;
    let text = name.as_abstract_namespace().and_then(|name| std::str::from_utf8(name).ok());
    let address = text.and_then(|text| text.strip_prefix("sockeye/")?.parse().ok());
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

pub(crate) fn accept(listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr)> {
    let (socket, _) = SockRef::from(listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok((TcpStream::from_std(socket.into()), CLIENT))
}

/// Returns the addresses of listeners that accept connections to this one.
fn names_for(address: SocketAddr) -> [SocketAddr; 3] {
    let port = address.port();
    [address, (Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
}

/// Returns the name for an address; `tests/it/support` uses the same names.
fn name_of(address: SocketAddr) -> io::Result<SockAddr> {
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    SockAddr::unix(format!("\0sockeye/{address}"))
}
