//! How much of a workload is done.

use std::time::Duration;

/// The amount of work in [`Mode::Quick`].
#[derive(Clone, Copy)]
pub struct Effort {
    /// The number of turns of each contender per round.
    pub turns: u32,
    /// The length of a turn, if the workload depends on it.
    pub turn: Duration,
    /// The number of operations, sockets or threads, if the workload depends on it.
    pub count: u32,
    pub most_rounds: u32,
    /// Triples the count in the full mode.
    pub grows: bool,
    /// Runs the client under strace, which gives the figures.
    pub traced: bool,
}

impl Effort {
    pub const fn turns(turns: u32, turn: Duration) -> Self {
        Self { turns, turn, count: 0, most_rounds: u32::MAX, grows: false, traced: false }
    }

    pub const fn count(self, count: u32) -> Self {
        Self { count, ..self }
    }

    pub const fn most_rounds(self, most_rounds: u32) -> Self {
        Self { most_rounds, ..self }
    }

    pub const fn grows(self) -> Self {
        Self { grows: true, ..self }
    }

    pub const fn traced(self) -> Self {
        Self { traced: true, ..self }
    }

    pub fn in_mode(self, mode: Mode) -> Self {
        match mode {
            Mode::Smoke => Self {
                turns: self.turns.min(2),
                turn: self.turn.min(Duration::from_millis(5)),
                count: self.count.div_ceil(100),
                most_rounds: 1,
                ..self
            },
            Mode::Quick => self,
            Mode::Full => Self {
                turn: if self.count == 0 { self.turn * 2 } else { self.turn },
                count: if self.grows { self.count * 3 } else { self.count },
                ..self
            },
        }
    }
}

/// How thoroughly to measure.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Checks only that every workload works.
    Smoke,
    Quick,
    Full,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Smoke, Self::Quick, Self::Full];
        all.into_iter().find(|mode| mode.name() == name)
    }

    pub fn rounds(self) -> u32 {
        match self {
            Self::Smoke => 1,
            Self::Quick => 3,
            Self::Full => 15,
        }
    }
}
