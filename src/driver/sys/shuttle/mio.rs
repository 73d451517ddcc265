//! A model of the part of mio that the driver uses, with the same names.

pub(crate) use ::mio::{Interest, Token};

use std::io;
use std::time::Duration;

use super::poll_bits::PollBits;
use super::time::Timer;
use super::{call, wait};

pub(crate) use self::event::Event;

/// A model of mio's `Poll`: that of the event loop, or of a poller.
#[derive(Debug)]
pub(crate) struct Poll {
    registry: Registry,
}

#[derive(Debug)]
pub(crate) struct Registry(pub(super) PollId);

#[derive(Debug)]
pub(crate) struct Waker(PollId);

/// The number of a `Poll`.
pub(super) type PollId = usize;

#[derive(Debug)]
pub(crate) struct Events {
    events: Vec<Event>,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Poll { registry: Registry(call(|system| system.open_poll())) })
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn poll(&mut self, events: &mut Events, limit: Option<Duration>) -> io::Result<()> {
        events.clear();
        let timer = Timer::after(limit);
        let id = self.registry.0;
        wait(|world, waker| {
            world.system.take_events(id, &mut events.events);
            let over = world.over || timer.is_due(&mut world.time, waker);
            if over || !events.events.is_empty() {
                return Some(());
            }
            world.system.polls[id].waiter = Some(waker.clone());
            None
        });
        Ok(())
    }
}

impl Registry {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Registry(self.0))
    }
}

impl Waker {
    pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        super::world().system.polls[registry.0].waker = token;
        Ok(Waker(registry.0))
    }

    pub(crate) fn wake(&self) -> io::Result<()> {
        call(|system| {
            system.polls[self.0].woken = true;
            system.wake(self.0);
        });
        Ok(())
    }
}

impl Events {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Events { events: Vec::with_capacity(capacity) }
    }

    pub(crate) fn clear(&mut self) {
        self.events.clear();
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Event> {
        self.events.iter()
    }
}

pub(crate) mod event {
    use super::{Interest, PollBits, Registry, Token, io};

    #[derive(Debug)]
    pub(crate) struct Event {
        pub(crate) token: Token,
        pub(crate) bits: PollBits,
    }

    /// The flags of epoll(7), interpreted as by mio.
    impl Event {
        pub(crate) fn token(&self) -> Token {
            self.token
        }

        pub(crate) fn is_readable(&self) -> bool {
            self.bits.contains(PollBits::IN)
        }

        pub(crate) fn is_read_closed(&self) -> bool {
            self.bits.contains(PollBits::HUP)
                || self.is_readable() && self.bits.contains(PollBits::RDHUP)
        }

        /// The model has no urgent data.
        pub(crate) fn is_priority(&self) -> bool {
            false
        }

        pub(crate) fn is_writable(&self) -> bool {
            self.bits.contains(PollBits::OUT)
        }

        pub(crate) fn is_error(&self) -> bool {
            self.bits.contains(PollBits::ERR)
        }

        pub(crate) fn is_write_closed(&self) -> bool {
            self.bits.contains(PollBits::HUP)
                || self.bits.contains(PollBits::OUT) && self.is_error()
                || self.bits == PollBits::ERR
        }
    }

    pub(crate) trait Source {
        fn register(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()>;

        #[cfg(not(sockeye_condvar))]
        fn reregister(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()>;

        #[cfg(not(sockeye_condvar))]
        fn deregister(&mut self, registry: &Registry) -> io::Result<()>;
    }
}

#[cfg(not(sockeye_condvar))]
pub(crate) mod unix {
    use super::{Interest, Registry, Token, call, event, io};

    #[derive(Debug)]
    pub(crate) struct SourceFd<'a>(pub(crate) &'a i32);

    impl event::Source for SourceFd<'_> {
        fn register(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()> {
            call(|system| system.register(registry.0, *self.0, token, interest))
        }

        fn reregister(
            &mut self,
            registry: &Registry,
            token: Token,
            interest: Interest,
        ) -> io::Result<()> {
            call(|system| system.reregister(registry.0, *self.0, token, interest))
        }

        fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
            call(|system| system.deregister(registry.0, *self.0));
            Ok(())
        }
    }
}

pub(crate) mod net {
    pub(crate) use super::super::kernel::{TcpListener, TcpStream};
}

impl From<Interest> for PollBits {
    fn from(interest: Interest) -> Self {
        PollBits::NOTHING
            .with(PollBits::IN, interest.is_readable())
            .with(PollBits::OUT, interest.is_writable())
    }
}
