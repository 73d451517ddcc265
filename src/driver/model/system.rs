//! The system's sockets: as those of Linux, as far as the driver can tell.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(not(sockeye_condvar))]
use std::os::fd::AsRawFd;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::task::Waker;

use rustix::io::Errno;

use super::mio::{Event, Interest, Token};
use super::{call, wait, world};
use crate::driver::dial::{ALWAYS_PENDING, Dialled};
use crate::driver::wire::Wire;
use crate::error::Fault;
use crate::options::TcpOptions;

/// How a site takes to being dialled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Site {
    /// The connection is made at once, as on loopback.
    #[default]
    Near,
    /// It is made when [`Peer::take_in`] says so.
    Far,
    /// As `Near`, and so many bytes are on their way to the peer at most.
    Narrow(usize),
}

#[derive(Debug)]
pub(super) struct System {
    pub(super) site: Site,
    /// By descriptor.
    connections: Vec<Connection>,
    /// So many of them have a [`Peer`].
    accepted: usize,
    registrations: Vec<Registration>,
    /// The loop, asleep.
    pub(super) poller: Option<Waker>,
    pub(super) waker: Token,
    /// The loop is to wake up.
    pub(super) woken: bool,
    /// Who waits for any descriptor to come or go.
    onlookers: Vec<Waker>,
}

/// One of those of epoll(7), edge-triggered.
#[derive(Debug)]
struct Registration {
    descriptor: RawFd,
    token: Token,
    interest: Happened,
    /// Something happened since it was looked at.
    pending: bool,
}

/// As the flags of poll(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened(u8);

impl Happened {
    pub(super) const NOTHING: Happened = Happened(0);
    pub(super) const IN: Happened = Happened(1);
    pub(super) const OUT: Happened = Happened(2);
    pub(super) const ERR: Happened = Happened(4);
    pub(super) const HUP: Happened = Happened(8);
    const ANYTHING: Happened = Happened(15);

    pub(super) fn contains(self, other: Happened) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Happened, on: bool) -> Self {
        if on { Happened(self.0 | other.0) } else { self }
    }

    /// What is told to who asks for this: failures always.
    pub(super) fn told(self, interest: Happened) -> Self {
        Happened(self.0 & interest.with(Happened::ERR, true).with(Happened::HUP, true).0)
    }
}

impl From<Interest> for Happened {
    fn from(interest: Interest) -> Self {
        Happened::NOTHING
            .with(Happened::IN, interest.is_readable())
            .with(Happened::OUT, interest.is_writable())
    }
}

/// A connection, as this side's system has it.
#[derive(Debug)]
pub(super) struct Connection {
    /// What was dialled.
    address: SocketAddr,
    state: State,
    incoming: VecDeque<u8>,
    /// The peer's FIN came.
    ended: bool,
    /// This side's FIN went.
    shut: bool,
    outgoing: Vec<u8>,
    /// The most that is on its way.
    room: usize,
    /// What the system tells once.
    failure: Option<Errno>,
    /// The peer was sent a reset.
    reset: bool,
    /// Somebody found no room, and is to be told of some.
    crowded: bool,
    /// The descriptor is closed.
    closed: bool,
    pub(super) watchers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Dialling,
    Established,
    /// The peer has reset it.
    Reset,
    /// This side has.
    Disconnected,
}

impl Default for System {
    fn default() -> Self {
        System {
            site: Site::Near,
            connections: Vec::new(),
            accepted: 0,
            registrations: Vec::new(),
            poller: None,
            waker: Token(usize::MAX),
            woken: false,
            onlookers: Vec::new(),
        }
    }
}

impl System {
    fn dial(&mut self, address: SocketAddr) -> RawFd {
        let (state, room) = match self.site {
            Site::Near => (State::Established, usize::MAX),
            Site::Far => (State::Dialling, usize::MAX),
            Site::Narrow(room) => (State::Established, room),
        };
        self.connections.push(Connection {
            address,
            state,
            incoming: VecDeque::new(),
            ended: false,
            shut: false,
            outgoing: Vec::new(),
            room,
            failure: None,
            reset: false,
            crowded: false,
            closed: false,
            watchers: Vec::new(),
        });
        self.changed();
        RawFd::try_from(self.connections.len() - 1).expect("a run has few")
    }

    pub(super) fn connection(&mut self, descriptor: RawFd) -> &mut Connection {
        &mut self.connections[usize::try_from(descriptor).expect("it is an index")]
    }

    /// Has who waits for this descriptor look at it.
    fn happened(&mut self, descriptor: RawFd, what: Happened) {
        let connection = self.connection(descriptor);
        connection.watchers.drain(..).for_each(Waker::wake);
        for registration in &mut self.registrations {
            if registration.descriptor == descriptor
                && what.told(registration.interest) != Happened::NOTHING
            {
                registration.pending = true;
            }
        }
        if self.registrations.iter().any(|registration| registration.pending) {
            self.wake_loop();
        }
    }

    pub(super) fn wake_loop(&mut self) {
        if let Some(poller) = self.poller.take() {
            poller.wake();
        }
    }

    fn changed(&mut self) {
        self.onlookers.drain(..).for_each(Waker::wake);
    }

    /// Wakes when a descriptor has come or gone.
    pub(super) fn tell_of_changes(&mut self, waker: &Waker) {
        self.onlookers.push(waker.clone());
    }

    /// Whether every descriptor is closed.
    pub(super) fn is_deserted(&self) -> bool {
        self.connections.iter().all(|connection| connection.closed)
    }

    // ------------------------------------------------------------- the loop's

    pub(super) fn register(
        &mut self,
        descriptor: RawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        if self.registrations.iter().any(|registration| registration.descriptor == descriptor) {
            return Err(Errno::EXIST.into());
        }
        let interest = interest.into();
        self.registrations.push(Registration { descriptor, token, interest, pending: true });
        self.wake_loop();
        Ok(())
    }

    #[cfg(not(sockeye_condvar))]
    pub(super) fn reregister(
        &mut self,
        descriptor: RawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.deregister(descriptor);
        self.register(descriptor, token, interest)
    }

    pub(super) fn deregister(&mut self, descriptor: RawFd) {
        self.registrations.retain(|registration| registration.descriptor != descriptor);
    }

    pub(super) fn take_events(&mut self, events: &mut Vec<Event>) {
        for registration in &mut self.registrations {
            if std::mem::take(&mut registration.pending) {
                let index = usize::try_from(registration.descriptor).expect("it is an index");
                let happened = self.connections[index].look().told(registration.interest);
                if happened != Happened::NOTHING {
                    events.push(Event { token: registration.token, happened });
                }
            }
        }
        if std::mem::take(&mut self.woken) {
            events.push(Event { token: self.waker, happened: Happened::IN });
        }
    }

    // ------------------------------------------------------------- a descriptor's

    fn disconnect(&mut self, descriptor: RawFd) {
        let connection = self.connection(descriptor);
        match connection.state {
            State::Dialling => {}
            State::Established => connection.reset = true,
            State::Reset | State::Disconnected => return,
        }
        connection.state = State::Disconnected;
        connection.failure = Some(Errno::CONNRESET);
        connection.incoming.clear();
        self.happened(descriptor, Happened::ANYTHING);
    }

    fn close(&mut self, descriptor: RawFd) {
        self.deregister(descriptor);
        let connection = self.connection(descriptor);
        connection.closed = true;
        if connection.state == State::Established {
            if connection.incoming.is_empty() {
                connection.shut = true;
            } else {
                connection.reset = true;
            }
        }
        self.happened(descriptor, Happened::ANYTHING);
        self.changed();
    }
}

impl Connection {
    fn farewell(&self) -> Option<Farewell> {
        match (self.shut, self.reset) {
            (_, true) => Some(Farewell::Reset),
            (true, false) => Some(Farewell::End),
            (false, false) => None,
        }
    }

    pub(super) fn look(&mut self) -> Happened {
        let reset = self.state == State::Reset;
        let gone = reset || self.state == State::Disconnected;
        let established = self.state == State::Established;
        let room = self.outgoing.len() < self.room;
        self.crowded |= established && !room;
        Happened::NOTHING
            .with(Happened::IN, !self.incoming.is_empty() || self.ended || reset)
            .with(Happened::OUT, gone || established && (room || self.shut))
            .with(Happened::ERR, self.failure.is_some())
            .with(Happened::HUP, gone || self.shut && self.ended)
    }

    fn receive(&mut self, buf: &mut [u8], takes: bool) -> io::Result<usize> {
        let bytes = self.incoming.len().min(buf.len());
        if bytes > 0 {
            buf.iter_mut().zip(&self.incoming).for_each(|(to, from)| *to = *from);
            if takes {
                self.incoming.drain(..bytes);
            }
            return Ok(bytes);
        }
        if self.ended {
            return Ok(0);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        match self.state {
            State::Reset => Ok(0),
            State::Disconnected => Err(Errno::NOTCONN.into()),
            State::Dialling | State::Established => Err(Errno::AGAIN.into()),
        }
    }

    fn send(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        match self.state {
            State::Established if !self.shut => {}
            State::Dialling => return Err(Errno::AGAIN.into()),
            _ => return Err(Errno::PIPE.into()),
        }
        let bytes = buf.len().min(self.room - self.outgoing.len());
        if bytes == 0 {
            self.crowded = true;
            return Err(Errno::AGAIN.into());
        }
        self.outgoing.extend_from_slice(&buf[..bytes]);
        Ok(bytes)
    }
}

// ----------------------------------------------------------------- this side

/// Stands for that of mio.
#[derive(Debug)]
pub(crate) struct TcpStream(pub(super) RawFd);

/// Dials the one site there is.
#[expect(clippy::unnecessary_wraps, reason = "as the driver's own")]
pub(in crate::driver) fn dial(
    address: SocketAddr,
    _options: &TcpOptions,
) -> Result<Dialled, Fault> {
    let (descriptor, site) = call(|system| (system.dial(address), system.site));
    let wire = Arc::new(Wire::new(TcpStream(descriptor)));
    // As in the driver's own: elsewhere the loop has to register a wire before anyone shares it.
    let alone = cfg!(sockeye_condvar);
    let pending = alone || ALWAYS_PENDING || site == Site::Far;
    Ok(if pending { Dialled::Pending(wire) } else { Dialled::Open(wire) })
}

impl TcpStream {
    pub(crate) fn from_std(_stream: std::net::TcpStream) -> Self {
        unreachable!("the model dials")
    }

    pub(crate) fn shutdown(&self, _how: std::net::Shutdown) -> io::Result<()> {
        call(|system| {
            let connection = system.connection(self.0);
            if connection.state != State::Established {
                return Err(Errno::NOTCONN.into());
            }
            connection.shut = true;
            system.happened(self.0, Happened::ANYTHING);
            Ok(())
        })
    }

    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(call(|system| system.connection(self.0).failure.take()).map(io::Error::from))
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match call(|system| system.connection(self.0).state) {
            State::Established => Ok(call(|system| system.connection(self.0).address)),
            State::Dialling | State::Reset | State::Disconnected => Err(Errno::NOTCONN.into()),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000)))
    }

    pub(crate) fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        call(|system| system.connection(self.0).receive(buf, false))
    }

    pub(crate) fn is_hung_up(&self) -> bool {
        call(|system| system.connection(self.0).look().contains(Happened::HUP))
    }

    /// By connect(2) to no address.
    pub(crate) fn reset(&self) {
        call(|system| system.disconnect(self.0));
    }
}

#[cfg(sockeye_condvar)]
impl super::mio::event::Source for TcpStream {
    fn register(
        &mut self,
        _registry: &super::mio::Registry,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        call(|system| system.register(self.0, token, interest))
    }
}

#[cfg(not(sockeye_condvar))]
impl AsRawFd for TcpStream {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl io::Read for &TcpStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        call(|system| system.connection(self.0).receive(buf, true))
    }
}

impl io::Write for &TcpStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        call(|system| {
            let sent = system.connection(self.0).send(buf)?;
            system.happened(self.0, Happened::NOTHING);
            Ok(sent)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        call(|system| system.close(self.0));
    }
}

// ----------------------------------------------------------------- the other side

/// The other end of a connection, and its system.
#[derive(Debug)]
pub struct Peer(RawFd);

/// How the socket ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// By FIN.
    End,
    /// By a reset.
    Reset,
}

impl Peer {
    /// Waits for the next connection that is dialled.
    #[must_use]
    pub fn accept() -> Self {
        wait(|world, waker| {
            let system = &mut world.system;
            if system.accepted < system.connections.len() {
                system.accepted += 1;
                return Some(Peer(RawFd::try_from(system.accepted - 1).expect("a run has few")));
            }
            system.tell_of_changes(waker);
            None
        })
    }

    /// The address that was dialled.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        world().system.connection(self.0).address
    }

    /// Makes the connection that is being dialled, if it still is.
    pub fn take_in(&self) {
        call(|system| {
            let connection = system.connection(self.0);
            if connection.state == State::Dialling {
                connection.state = State::Established;
                system.happened(self.0, Happened::ANYTHING);
            }
        });
    }

    /// Sends, without an end of the room for it.
    pub fn send(&self, bytes: &[u8]) {
        call(|system| {
            let connection = system.connection(self.0);
            if connection.state != State::Established {
                return;
            }
            if connection.closed {
                connection.reset = true;
                return;
            }
            connection.incoming.extend(bytes);
            system.happened(self.0, Happened::IN);
        });
    }

    /// Sends FIN.
    pub fn end(&self) {
        call(|system| {
            let connection = system.connection(self.0);
            if connection.state == State::Established {
                connection.ended = true;
                system.happened(self.0, Happened::ANYTHING);
            }
        });
    }

    /// Sends a reset.
    pub fn reset(&self) {
        call(|system| {
            let connection = system.connection(self.0);
            if connection.state == State::Established {
                let after_end = connection.ended;
                connection.failure = Some(if after_end { Errno::PIPE } else { Errno::CONNRESET });
                connection.state = State::Reset;
                system.happened(self.0, Happened::ANYTHING);
            }
        });
    }

    /// Takes what has come, which makes room.
    #[must_use]
    pub fn take(&self) -> Vec<u8> {
        call(|system| {
            let connection = system.connection(self.0);
            let taken = std::mem::take(&mut connection.outgoing);
            if std::mem::take(&mut connection.crowded) {
                system.happened(self.0, Happened::OUT);
            }
            taken
        })
    }

    /// Takes what comes until something has.
    #[must_use]
    pub fn await_bytes(&self) -> Vec<u8> {
        self.wait(|connection| !connection.outgoing.is_empty());
        self.take()
    }

    /// Takes what comes up to the end.
    #[must_use]
    pub fn await_end(&self) -> (Vec<u8>, Farewell) {
        let mut taken = Vec::new();
        loop {
            let (bytes, farewell) = self.await_some();
            taken.extend(bytes);
            if let Some(farewell) = farewell {
                return (taken, farewell);
            }
        }
    }

    /// Takes what has come, when anything has, and the end with the last of it.
    #[must_use]
    pub fn await_some(&self) -> (Vec<u8>, Option<Farewell>) {
        self.wait(|connection| !connection.outgoing.is_empty() || connection.farewell().is_some());
        let taken = self.take();
        let farewell = call(|system| {
            let connection = system.connection(self.0);
            connection.farewell().filter(|_| connection.outgoing.is_empty())
        });
        (taken, farewell)
    }

    /// How the socket has ended it by now.
    #[must_use]
    pub fn farewell(&self) -> Option<Farewell> {
        world().system.connection(self.0).farewell()
    }

    fn wait(&self, ready: impl Fn(&Connection) -> bool) {
        wait(|world, waker| {
            let connection = world.system.connection(self.0);
            if ready(connection) {
                return Some(());
            }
            connection.watchers.push(waker.clone());
            None
        });
    }
}
