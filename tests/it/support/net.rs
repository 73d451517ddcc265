//! The sockets of the tests' peers: those of `std`, or with `--cfg sockeye_unix` Unix-domain sockets in their place.
//!
//! With that cfg the driver dials and binds an abstract name for each address (`src/driver/sys/unix_domain`). The peers
//! here use the same names. A stream of `std` works for either family, except for its addresses and options of TCP.

#[cfg(not(sockeye_unix))]
pub use std::net::TcpListener;

#[cfg(sockeye_unix)]
pub use self::stand_in::{TcpListener, std_listener};

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Connects to the first of these addresses.
pub fn connect(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    #[cfg(not(sockeye_unix))]
    return TcpStream::connect(address);
    #[cfg(sockeye_unix)]
    {
        let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::InvalidInput)?;
        stand_in::connect(address)
    }
}

pub fn connect_timeout(address: &SocketAddr, limit: Duration) -> io::Result<TcpStream> {
    #[cfg(not(sockeye_unix))]
    return TcpStream::connect_timeout(address, limit);
    #[cfg(sockeye_unix)]
    stand_in::connect_timeout(*address, limit)
}

/// Returns the descriptor as a listener of `std`, to be adopted.
#[cfg(all(target_os = "linux", not(sockeye_unix)))]
pub fn std_listener(listener: TcpListener) -> TcpListener {
    listener
}

/// Sets the option, which a Unix-domain socket does not have.
pub fn set_nodelay(stream: &TcpStream) -> io::Result<()> {
    if cfg!(sockeye_unix) { Ok(()) } else { stream.set_nodelay(true) }
}

/// Listens with this backlog, and a receive buffer of about this size.
pub fn listen_on(
    address: SocketAddr,
    backlog: i32,
    room: Option<usize>,
) -> io::Result<TcpListener> {
    #[cfg(not(sockeye_unix))]
    {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            None,
        )?;
        if let Some(room) = room {
            socket.set_recv_buffer_size(room)?;
        }
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        Ok(socket.into())
    }
    #[cfg(sockeye_unix)]
    stand_in::listen_on(address, backlog, room)
}

#[cfg(sockeye_unix)]
mod stand_in {
    use std::io;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
    use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use socket2::{Domain, SockAddr, Socket, Type};

    /// Where every client seems to come from.
    const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    /// A listener with the methods of that of `std`.
    #[derive(Debug)]
    pub struct TcpListener {
        listener: UnixListener,
        address: SocketAddr,
    }

    impl TcpListener {
        pub fn bind(address: impl ToSocketAddrs) -> io::Result<TcpListener> {
            let address = address.to_socket_addrs()?.next().ok_or(io::ErrorKind::InvalidInput)?;
            listen_on(address, 128, None)
        }

        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            Ok(self.address)
        }

        pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            let (stream, _) = self.listener.accept()?;
            Ok((Socket::from(stream).into(), CLIENT))
        }

        pub fn incoming(&self) -> impl Iterator<Item = io::Result<TcpStream>> + '_ {
            std::iter::repeat_with(|| self.accept().map(|(stream, _)| stream))
        }

        pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
            self.listener.set_nonblocking(on)
        }

        pub fn try_clone(&self) -> io::Result<TcpListener> {
            Ok(TcpListener { listener: self.listener.try_clone()?, address: self.address })
        }
    }

    pub fn std_listener(listener: TcpListener) -> std::net::TcpListener {
        OwnedFd::from(listener).into()
    }

    impl From<TcpListener> for OwnedFd {
        fn from(listener: TcpListener) -> Self {
            listener.listener.into()
        }
    }

    /// For the tests about addresses, which are left out: such a socket is one of TCP.
    impl From<Socket> for TcpListener {
        fn from(socket: Socket) -> Self {
            let address = socket.local_addr().ok().and_then(|address| address.as_socket());
            TcpListener { address: address.expect("it is bound"), listener: socket.into() }
        }
    }

    impl AsFd for TcpListener {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.listener.as_fd()
        }
    }

    /// Returns the addresses of listeners that accept connections to this one.
    fn names_for(address: SocketAddr) -> [SocketAddr; 3] {
        let port = address.port();
        [address, (Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
    }

    fn name_of(address: SocketAddr) -> io::Result<SockAddr> {
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        SockAddr::unix(format!("\0sockeye/{address}"))
    }

    pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        connect_one_of(&socket, address)?;
        Ok(socket.into())
    }

    fn connect_one_of(socket: &Socket, address: SocketAddr) -> io::Result<()> {
        for address in names_for(address) {
            match socket.connect(&name_of(address)?) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                connected => return connected,
            }
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    /// Connects. While the queue is full, no call reports when it has room.
    pub fn connect_timeout(address: SocketAddr, limit: Duration) -> io::Result<TcpStream> {
        let begun = Instant::now();
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        loop {
            match connect_one_of(&socket, address) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                connected => break connected?,
            }
            if begun.elapsed() > limit {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        socket.set_nonblocking(false)?;
        Ok(socket.into())
    }

    /// Listens. The size of the receive buffer has no effect on a Unix-domain socket: only that of the sender has.
    pub fn listen_on(
        mut address: SocketAddr,
        backlog: i32,
        _room: Option<usize>,
    ) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let chooses_port = address.port() == 0;
        loop {
            if chooses_port {
                // A port that no listener of TCP has.
                let free = std::net::TcpListener::bind((address.ip(), 0))?;
                address.set_port(free.local_addr()?.port());
            }
            match socket.bind(&name_of(address)?) {
                Err(error) if chooses_port && error.kind() == io::ErrorKind::AddrInUse => {}
                bound => break bound?,
            }
        }
        socket.listen(backlog)?;
        Ok(TcpListener { listener: socket.into(), address })
    }
}
