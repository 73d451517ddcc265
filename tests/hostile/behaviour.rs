//! Behaviours of a server, and the expected outcome in each situation.

use std::io;

use sockeye::ErrorKind;
use sockeye::ErrorKind::{Closed, TimedOut};

use crate::forge::{Server, Version};

/// The program's use of the socket while the server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// No call uses the wire; a thread waits in `closed`.
    Idle,
    /// A thread reads, with a deadline.
    Reading,
    /// A thread writes again and again, with a deadline.
    Writing,
    /// A thread waits in `opened`, with a connect timeout, and then closes the socket.
    Opening,
    /// Like `Opening`, after an upgrade from plaintext.
    Upgrading,
}

pub const SITUATIONS: [Situation; 5] = [
    Situation::Idle,
    Situation::Reading,
    Situation::Writing,
    Situation::Opening,
    Situation::Upgrading,
];

/// The end of a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The socket was opened and closed, or an idle one is still open at the limit.
    Open,
    /// The peer ended the connection cleanly.
    Clean,
    Fails(ErrorKind),
}

/// The work of the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerLoad {
    /// Next to none, and its CPU time is limited.
    Quiet,
    /// Some, and its CPU time is not limited.
    Busy,
    /// As much as the machine can do, so only a few run at once.
    Flood,
}

/// The script of a server. It fails when the client is gone.
pub type Script = Box<dyn Fn(&mut Server) -> io::Result<()> + Send + Sync>;

pub struct Behaviour {
    pub name: String,
    pub play: Script,
    /// The handshake succeeds, and the misbehaviour follows.
    pub opens: bool,
    /// The client does not require close_notify.
    pub lenient: bool,
    pub load: ServerLoad,
    idle: Vec<Outcome>,
    reading: Vec<Outcome>,
    writing: Vec<Outcome>,
    opening: Vec<Outcome>,
    /// Outcomes of an upgrade, besides those of opening.
    upgrading: Vec<Outcome>,
    /// The least number of bytes that a reader gets.
    pub reads: u64,
}

impl Behaviour {
    fn new(
        name: impl Into<String>,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour {
            name: name.into(),
            play: Box::new(play),
            opens: true,
            lenient: false,
            load: ServerLoad::Quiet,
            idle: vec![Outcome::Open],
            reading: vec![Outcome::Fails(TimedOut)],
            writing: vec![Outcome::Fails(TimedOut)],
            opening: vec![Outcome::Open],
            upgrading: Vec::new(),
            reads: 0,
        }
    }

    /// Makes a behaviour whose handshake fails with this kind in every situation.
    pub fn never_opens(
        name: &str,
        kind: ErrorKind,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        let all = vec![Outcome::Fails(kind)];
        Behaviour {
            opens: false,
            idle: all.clone(),
            reading: all.clone(),
            writing: all.clone(),
            opening: all,
            ..Behaviour::new(name, play)
        }
    }

    /// Makes a behaviour whose handshake succeeds in the end, and nothing follows.
    pub fn opens_late(
        name: &str,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { opens: false, ..Behaviour::new(name, play) }
    }

    /// Makes a behaviour after which the connection stays open, and calls end at their deadlines.
    pub fn stays_open(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour::after_handshake(name, version, play)
    }

    /// Makes a behaviour after which the connection fails with this kind in every situation.
    pub fn fails(
        name: &str,
        version: Version,
        kind: ErrorKind,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        let all = vec![Outcome::Fails(kind)];
        Behaviour {
            idle: all.clone(),
            reading: all.clone(),
            writing: all,
            ..Behaviour::after_handshake(name, version, play)
        }
    }

    /// Makes a behaviour in which the peer ends the connection cleanly, and later writes fail.
    pub fn ends(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour {
            idle: vec![Outcome::Clean],
            reading: vec![Outcome::Clean],
            writing: vec![Outcome::Fails(Closed)],
            ..Behaviour::after_handshake(name, version, play)
        }
    }

    /// Makes a behaviour in which the server sends data first, and only a reader gets past it.
    pub fn after_data(
        name: &str,
        version: Version,
        reads: u64,
        reading: Outcome,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour {
            reads,
            reading: vec![reading],
            ..Behaviour::after_handshake(name, version, play)
        }
    }

    /// Replaces the script: the server stops reading after the handshake.
    pub fn reads_nothing(
        self,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        let play = move |server: &mut Server| {
            server.open_and_stop_reading(version)?;
            play(server)
        };
        Behaviour { play: Box::new(play), ..self }
    }

    /// Makes a behaviour that follows a correct handshake, while a thread discards the client's data.
    fn after_handshake(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour::new(format!("{name}, {}", version.name()), move |server| {
            server.open(version)?;
            play(server)
        })
    }

    // ---------------------------------------------------------------- exceptions

    pub fn busy(self) -> Behaviour {
        Behaviour { load: ServerLoad::Busy, ..self }
    }

    pub fn flood(self) -> Behaviour {
        Behaviour { load: ServerLoad::Flood, ..self }
    }

    /// Makes the client not require close_notify.
    pub fn lenient(self) -> Behaviour {
        Behaviour { lenient: true, ..self }
    }

    /// Allows this kind too for a writer, which may process one record after the unread data.
    pub fn or_writing(mut self, kind: ErrorKind) -> Behaviour {
        self.writing.push(Outcome::Fails(kind));
        self
    }

    /// Allows this kind too for `opened`.
    pub fn or_opening(mut self, kind: ErrorKind) -> Behaviour {
        self.opening.push(Outcome::Fails(kind));
        self
    }

    /// Replaces the script, including the handshake.
    pub fn played_from_the_start(
        self,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { opens: false, play: Box::new(play), ..self }
    }

    /// Allows this kind too in every situation.
    pub fn or(mut self, kind: ErrorKind) -> Behaviour {
        let also = Outcome::Fails(kind);
        self.idle.push(also);
        self.reading.push(also);
        self.writing.push(also);
        if !self.opens {
            self.opening.push(also);
        }
        self
    }

    /// Allows this kind too for an upgrade, which can fail before the handshake.
    pub fn or_upgrading(mut self, kind: ErrorKind) -> Behaviour {
        self.upgrading.push(Outcome::Fails(kind));
        self
    }

    /// Returns the outcomes that are right in a situation.
    pub fn expected(&self, situation: Situation) -> Vec<Outcome> {
        match situation {
            Situation::Idle => self.idle.clone(),
            Situation::Reading => self.reading.clone(),
            Situation::Writing => self.writing.clone(),
            Situation::Opening => self.opening.clone(),
            Situation::Upgrading => [&self.opening[..], &self.upgrading].concat(),
        }
    }
}
