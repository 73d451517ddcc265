//! What a server may do, and what a socket has to make of it in each situation.

use std::io;

use sockeye::ErrorKind;
use sockeye::ErrorKind::{Closed, TimedOut};

use crate::forge::{Server, Version};

/// What the program does with the socket while the server misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// Nobody is at the socket; a thread waits in `closed`.
    Idle,
    /// A read waits, under a deadline.
    Reading,
    /// Writes follow each other, under a deadline.
    Writing,
    /// A thread waits in `opened`, under the connect timeout; where that is done, it closes the socket.
    Opening,
    /// The same for a connection in plaintext that is upgraded.
    Upgrading,
}

pub const SITUATIONS: [Situation; 5] = [
    Situation::Idle,
    Situation::Reading,
    Situation::Writing,
    Situation::Opening,
    Situation::Upgrading,
];

/// How a situation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Well: it was opened and closed, or is open still where that was watched for as long as it could be.
    Open,
    /// By the peer's end.
    Clean,
    Fails(ErrorKind),
}

/// How much the client has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Next to nothing, which is checked.
    Quiet,
    /// As the server decides.
    Busy,
    /// All that the machine can, so that not many are played at once.
    Flood,
}

/// What a server does. It fails where the client is gone.
pub type Script = Box<dyn Fn(&mut Server) -> io::Result<()> + Send + Sync>;

pub struct Behaviour {
    pub name: String,
    pub play: Script,
    /// The handshake ends well, and the misbehaviour comes behind it.
    pub opens: bool,
    /// What the client takes for a clean end.
    pub lenient: bool,
    pub load: Load,
    idle: Vec<Outcome>,
    reading: Vec<Outcome>,
    writing: Vec<Outcome>,
    opening: Vec<Outcome>,
    /// What is right of an upgrade, besides what is of opening.
    upgrading: Vec<Outcome>,
    /// A reader gets at least so much.
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
            load: Load::Quiet,
            idle: vec![Outcome::Open],
            reading: vec![Outcome::Fails(TimedOut)],
            writing: vec![Outcome::Fails(TimedOut)],
            opening: vec![Outcome::Open],
            upgrading: Vec::new(),
            reads: 0,
        }
    }

    /// The handshake fails, and everybody is told the same.
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

    /// The handshake ends well in spite of it, though not at once, and nothing follows.
    pub fn opens_late(
        name: &str,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { opens: false, ..Behaviour::new(name, play) }
    }

    /// The connection goes on: nothing is told to anybody but that time passes.
    pub fn goes_on(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour::behind(name, version, play)
    }

    /// The connection fails, and everybody is told the same.
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
            ..Behaviour::behind(name, version, play)
        }
    }

    /// The peer ends the connection cleanly, after which nothing can be written.
    pub fn ends(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour {
            idle: vec![Outcome::Clean],
            reading: vec![Outcome::Clean],
            writing: vec![Outcome::Fails(Closed)],
            ..Behaviour::behind(name, version, play)
        }
    }

    /// There is so much data, and only a reader comes to what is behind it.
    pub fn behind_data(
        name: &str,
        version: Version,
        reads: u64,
        reading: Outcome,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { reads, reading: vec![reading], ..Behaviour::behind(name, version, play) }
    }

    /// The server reads nothing of what it is sent behind the handshake.
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

    /// Behind a handshake without fault, while the server goes on reading.
    fn behind(
        name: &str,
        version: Version,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour::new(format!("{name}, {}", version.name()), move |server| {
            server.open(version)?;
            play(server)
        })
    }

    // ---------------------------------------------------------------- what is special

    pub fn busy(self) -> Behaviour {
        Behaviour { load: Load::Busy, ..self }
    }

    pub fn flood(self) -> Behaviour {
        Behaviour { load: Load::Flood, ..self }
    }

    /// The client does not ask for close_notify.
    pub fn lenient(self) -> Behaviour {
        Behaviour { lenient: true, ..self }
    }

    /// A writer may be told this as well: it may look one record further than the data that nobody reads.
    pub fn or_writing(mut self, kind: ErrorKind) -> Behaviour {
        self.writing.push(Outcome::Fails(kind));
        self
    }

    /// Whoever waits for the handshake may be told this.
    pub fn or_opening(mut self, kind: ErrorKind) -> Behaviour {
        self.opening.push(Outcome::Fails(kind));
        self
    }

    /// Plays this in place of a handshake without fault and what comes behind it.
    pub fn played_from_the_start(
        self,
        play: impl Fn(&mut Server) -> io::Result<()> + Send + Sync + 'static,
    ) -> Behaviour {
        Behaviour { opens: false, play: Box::new(play), ..self }
    }

    /// Everybody may be told this as well.
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

    /// An upgrade may be told this as well: it comes before the handshake.
    pub fn or_upgrading(mut self, kind: ErrorKind) -> Behaviour {
        self.upgrading.push(Outcome::Fails(kind));
        self
    }

    /// What is right in a situation.
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
