//! Connection pools with r2d2 0.8 (feature `r2d2-0_8`).

use ::r2d2::ManageConnection;

use crate::address::SocketAddress;
use crate::error::{Error, ErrorKind, Result};
use crate::info::Health;
use crate::options::SocketOptions;
use crate::socket::{Connector, Socket};

/// Opens and checks the sockets of a pool of r2d2.
///
/// A socket is lent only if its [`health`](Socket::health) is [`Idle`](Health::Idle): open in both directions, with
/// nothing unread. The check sends nothing and does not wait. Any other socket is dropped, and the pool opens another.
///
/// A socket whose last answer is still on its way is idle too. So a borrower that gives up during an exchange
/// [aborts](Socket::abort) the socket, or the next borrower reads that answer. Timeouts and deadlines that a borrower has
/// set apply to the next one, too.
///
/// To pool the clients of a protocol, such as logged-in ones, implement [`ManageConnection`] for a type that contains
/// a `SocketManager`.
///
/// ```
/// use sockeye::r2d2::SocketManager;
/// use sockeye::{Connector, SocketOptions};
///
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let address = listener.local_addr()?;
/// let manager = SocketManager::new(Connector::global(), address, SocketOptions::new())?;
/// let pool = r2d2::Pool::builder().max_size(2).build(manager)?;
///
/// let socket = pool.get()?;
/// let local = socket.opened()?.local_address();
/// drop(socket); // the pool has it again
/// # while pool.state().idle_connections < 2 { std::thread::yield_now() }
/// let [first, second] = [pool.get()?, pool.get()?];
/// assert!([&first, &second].iter().any(|socket| {
///     socket.opened().is_ok_and(|info| info.local_address() == local)
/// }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct SocketManager {
    connector: Connector,
    address: SocketAddress,
    options: SocketOptions,
}

impl SocketManager {
    /// Creates a manager that connects to `address` under the rules of `connector`.
    ///
    /// # Errors
    /// [`InvalidAddress`](ErrorKind::InvalidAddress). All other errors are those of the connection.
    pub fn new<A>(connector: &Connector, address: A, options: SocketOptions) -> Result<Self>
    where
        A: TryInto<SocketAddress>,
        Error: From<A::Error>,
    {
        let address = address.try_into().map_err(Error::from)?;
        Ok(SocketManager { connector: connector.clone(), address, options })
    }
}

impl ManageConnection for SocketManager {
    type Connection = Socket;
    type Error = Error;

    /// Connects, and waits until the socket has opened. The limits are those of its options.
    fn connect(&self) -> Result<Socket> {
        let socket = self.connector.connect_with(self.address.clone(), self.options.clone())?;
        socket.opened()?;
        Ok(socket)
    }

    /// Fails with the socket's failure, with [`Closed`](ErrorKind::Closed) after an end, and otherwise with
    /// [`InvalidState`](ErrorKind::InvalidState).
    fn is_valid(&self, socket: &mut Socket) -> Result<()> {
        let (kind, message) = match socket.health() {
            Health::Idle => return Ok(()),
            Health::Failed(error) => return Err(error),
            Health::Ended => (ErrorKind::Closed, "a pooled socket has ended"),
            Health::Unread => (ErrorKind::InvalidState, "a pooled socket has unread bytes"),
            Health::Opening => (ErrorKind::InvalidState, "a pooled socket is being opened"),
        };
        Err(Error::with_message(kind, message))
    }

    fn has_broken(&self, socket: &mut Socket) -> bool {
        !socket.health().is_idle()
    }
}
