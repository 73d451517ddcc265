//! A model of the kernel's sockets, which behave like those of Linux as far as the driver can tell.

mod listener;
mod peer;
mod stream;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::task::Waker;

use rustix::io::Errno;

use super::mio::{Event, Interest, PollId, Token};
use super::poll_bits::PollBits;

pub(crate) use self::listener::{
    TcpListener, accept, bind, has_connection, local_addr, shrink_backlog, stop,
};
pub use self::peer::{Peer, PeerSaw};
pub(crate) use self::stream::{TcpStream, start_connect};

/// How the peer responds to a connect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reachability {
    /// The connection is established at once, as on loopback.
    #[default]
    Immediate,
    /// The connection is established by [`Peer::complete_connect`].
    Deferred,
    /// Like `Immediate`, and at most this number of bytes can be in flight to the peer.
    SendWindow(usize),
    /// Like `Immediate`, with a Unix-domain socket.
    Unix,
}

#[derive(Debug)]
pub(super) struct System {
    pub(super) reachability: Reachability,
    /// The sockets, indexed by descriptor.
    sockets: Vec<ModelSocket>,
    /// The number of sockets that [`Peer::accept`] has passed.
    accepted: usize,
    registrations: Vec<Registration>,
    /// The instances of epoll(7).
    pub(super) polls: Vec<PollModel>,
    /// The tasks that wait for a descriptor to be opened or closed.
    change_waiters: Vec<Waker>,
}

/// An instance of epoll(7) with its waker.
#[derive(Debug)]
pub(super) struct PollModel {
    /// The task that is blocked in it.
    pub(super) waiter: Option<Waker>,
    pub(super) waker: Token,
    /// Whether the waker was woken since the last poll.
    pub(super) woken: bool,
}

/// An edge-triggered registration as of epoll(7).
#[derive(Debug)]
struct Registration {
    poll: PollId,
    descriptor: RawFd,
    token: Token,
    interest: PollBits,
    /// Whether an event happened since the last poll.
    pending: bool,
}

/// A connection as this side's kernel sees it.
#[derive(Debug)]
pub(super) struct ModelSocket {
    /// The address that was dialled.
    address: SocketAddr,
    state: State,
    incoming: VecDeque<u8>,
    /// Whether the peer's FIN has arrived.
    fin_received: bool,
    /// Whether this side has sent FIN.
    fin_sent: bool,
    outgoing: Vec<u8>,
    /// The maximum number of bytes in flight to the peer.
    send_window: usize,
    /// The pending error, which is reported once.
    failure: Option<Errno>,
    /// Whether a reset was sent to the peer.
    reset: bool,
    /// Whether a call found the send window full and must be notified when there is room.
    send_window_full: bool,
    /// Whether it is a Unix-domain socket.
    is_unix: bool,
    /// Whether the peer has closed, which only a Unix-domain socket shows.
    peer_closed: bool,
    /// Whether the descriptor is closed.
    closed: bool,
    /// Whether the socket was dialled, so that [`Peer::accept`] returns its peer.
    dialled: bool,
    /// The connections that a listener has not yet accepted.
    pending: VecDeque<RawFd>,
    /// The maximum number of these.
    backlog: usize,
    pub(super) wakers: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Listening,
    Dialling,
    Established,
    /// The peer has reset the connection.
    Reset,
    /// This side has reset the connection.
    Disconnected,
}

impl Default for System {
    fn default() -> Self {
        System {
            reachability: Reachability::Immediate,
            sockets: Vec::new(),
            accepted: 0,
            registrations: Vec::new(),
            polls: Vec::new(),
            change_waiters: Vec::new(),
        }
    }
}

impl System {
    fn dial(&mut self, address: SocketAddr) -> RawFd {
        let (state, send_window) = match self.reachability {
            Reachability::Immediate => (State::Established, usize::MAX),
            Reachability::Deferred => (State::Dialling, usize::MAX),
            Reachability::SendWindow(send_window) => (State::Established, send_window),
            Reachability::Unix => (State::Established, usize::MAX),
        };
        let is_unix = self.reachability == Reachability::Unix;
        let socket = ModelSocket::new(address, state, send_window);
        self.open(ModelSocket { dialled: true, is_unix, ..socket })
    }

    /// Adds a socket. Returns its descriptor.
    fn open(&mut self, socket: ModelSocket) -> RawFd {
        self.sockets.push(socket);
        self.changed();
        RawFd::try_from(self.sockets.len() - 1).expect("a run opens few descriptors")
    }

    pub(super) fn socket(&mut self, descriptor: RawFd) -> &mut ModelSocket {
        &mut self.sockets[usize::try_from(descriptor).expect("a descriptor is an index")]
    }

    /// Wakes the tasks that wait for this descriptor, and marks its registrations.
    fn signal(&mut self, descriptor: RawFd, what: PollBits) {
        let socket = self.socket(descriptor);
        socket.wakers.drain(..).for_each(Waker::wake);
        for registration in &mut self.registrations {
            if registration.descriptor == descriptor
                && what.reported(registration.interest) != PollBits::NOTHING
            {
                registration.pending = true;
            }
        }
        for poll in 0..self.polls.len() {
            if self.registrations.iter().any(|it| it.pending && it.poll == poll) {
                self.wake(poll);
            }
        }
    }

    pub(super) fn open_poll(&mut self) -> PollId {
        let waker = Token(usize::MAX);
        self.polls.push(PollModel { waiter: None, waker, woken: false });
        self.polls.len() - 1
    }

    pub(super) fn wake(&mut self, poll: PollId) {
        if let Some(waiter) = self.polls[poll].waiter.take() {
            waiter.wake();
        }
    }

    pub(super) fn wake_all(&mut self) {
        (0..self.polls.len()).for_each(|poll| self.wake(poll));
    }

    fn changed(&mut self) {
        self.change_waiters.drain(..).for_each(Waker::wake);
    }

    /// Wakes `waker` when a descriptor is opened or closed.
    pub(super) fn watch_changes(&mut self, waker: &Waker) {
        self.change_waiters.push(waker.clone());
    }

    /// Returns whether every descriptor is closed.
    pub(super) fn is_fully_closed(&self) -> bool {
        self.sockets.iter().all(|socket| socket.closed)
    }

    // ------------------------------------------------------------- calls on an instance of epoll(7)

    pub(super) fn register(
        &mut self,
        poll: PollId,
        descriptor: RawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        if self.registrations.iter().any(|it| it.poll == poll && it.descriptor == descriptor) {
            return Err(Errno::EXIST.into());
        }
        let interest = interest.into();
        self.registrations.push(Registration { poll, descriptor, token, interest, pending: true });
        self.wake(poll);
        Ok(())
    }

    #[cfg(not(sockeye_condvar))]
    pub(super) fn reregister(
        &mut self,
        poll: PollId,
        descriptor: RawFd,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.deregister(poll, descriptor);
        self.register(poll, descriptor, token, interest)
    }

    #[cfg(not(sockeye_condvar))]
    pub(super) fn deregister(&mut self, poll: PollId, descriptor: RawFd) {
        self.registrations.retain(|it| it.poll != poll || it.descriptor != descriptor);
    }

    pub(super) fn take_events(&mut self, poll: PollId, events: &mut Vec<Event>) {
        for registration in self.registrations.iter_mut().filter(|it| it.poll == poll) {
            if std::mem::take(&mut registration.pending) {
                let index =
                    usize::try_from(registration.descriptor).expect("a descriptor is an index");
                let happened = self.sockets[index].poll_bits().reported(registration.interest);
                if happened != PollBits::NOTHING {
                    events.push(Event { token: registration.token, bits: happened });
                }
            }
        }
        let poll = &mut self.polls[poll];
        if std::mem::take(&mut poll.woken) {
            events.push(Event { token: poll.waker, bits: PollBits::IN });
        }
    }

    // ------------------------------------------------------------- calls on a descriptor

    fn disconnect(&mut self, descriptor: RawFd) {
        let socket = self.socket(descriptor);
        match socket.state {
            State::Dialling => {}
            State::Established => socket.reset = true,
            State::Listening | State::Reset | State::Disconnected => return,
        }
        socket.state = State::Disconnected;
        socket.failure = Some(Errno::CONNRESET);
        socket.incoming.clear();
        self.signal(descriptor, PollBits::ANYTHING);
    }

    fn close(&mut self, descriptor: RawFd) {
        self.registrations.retain(|registration| registration.descriptor != descriptor);
        let socket = self.socket(descriptor);
        socket.closed = true;
        if socket.state == State::Established {
            if socket.incoming.is_empty() {
                socket.fin_sent = true;
            } else {
                socket.reset = true;
            }
        }
        self.signal(descriptor, PollBits::ANYTHING);
        self.changed();
    }
}

impl ModelSocket {
    fn new(address: SocketAddr, state: State, send_window: usize) -> Self {
        ModelSocket {
            address,
            state,
            incoming: VecDeque::new(),
            fin_received: false,
            fin_sent: false,
            outgoing: Vec::new(),
            send_window,
            failure: None,
            reset: false,
            send_window_full: false,
            is_unix: false,
            peer_closed: false,
            closed: false,
            dialled: false,
            pending: VecDeque::new(),
            backlog: 0,
            wakers: Vec::new(),
        }
    }

    fn peer_saw(&self) -> Option<PeerSaw> {
        match (self.fin_sent, self.reset) {
            (_, true) => Some(PeerSaw::Reset),
            (true, false) => Some(PeerSaw::Fin),
            (false, false) => None,
        }
    }

    pub(super) fn poll_bits(&mut self) -> PollBits {
        let reset = self.state == State::Reset;
        let gone = reset || self.state == State::Disconnected;
        let established = self.state == State::Established;
        let has_room = self.outgoing.len() < self.send_window;
        self.send_window_full |= established && !has_room;
        PollBits::NOTHING
            .with(
                PollBits::IN,
                !self.incoming.is_empty() || !self.pending.is_empty() || self.fin_received || reset,
            )
            .with(
                PollBits::OUT,
                gone || established && (has_room || self.fin_sent || self.peer_closed),
            )
            .with(PollBits::RDHUP, self.fin_received || gone || self.peer_closed)
            .with(PollBits::ERR, self.failure.is_some())
            .with(PollBits::HUP, gone || self.peer_closed || self.fin_sent && self.fin_received)
    }

    fn recv(&mut self, buf: &mut [u8], takes: bool) -> io::Result<usize> {
        let bytes = self.incoming.len().min(buf.len());
        if bytes > 0 {
            buf.iter_mut().zip(&self.incoming).for_each(|(to, from)| *to = *from);
            if takes {
                self.incoming.drain(..bytes);
            }
            return Ok(bytes);
        }
        // A Unix-domain socket reports the failure before the end, once.
        if self.is_unix {
            if let Some(failure) = self.failure.take() {
                return Err(failure.into());
            }
        }
        if self.fin_received {
            return Ok(0);
        }
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        match self.state {
            State::Reset => Ok(0),
            State::Disconnected => Err(Errno::NOTCONN.into()),
            State::Listening | State::Dialling | State::Established => Err(Errno::AGAIN.into()),
        }
    }

    fn send(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(failure) = self.failure.take() {
            return Err(failure.into());
        }
        match self.state {
            State::Established if !self.fin_sent && !self.peer_closed => {}
            State::Dialling => return Err(Errno::AGAIN.into()),
            _ => return Err(Errno::PIPE.into()),
        }
        let bytes = buf.len().min(self.send_window - self.outgoing.len());
        if bytes == 0 {
            self.send_window_full = true;
            return Err(Errno::AGAIN.into());
        }
        self.outgoing.extend_from_slice(&buf[..bytes]);
        Ok(bytes)
    }
}
