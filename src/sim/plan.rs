//! What happens in a life: its setting and its steps, decoded from bytes.
//!
//! There is one decoder. A seed is stretched to bytes, a fuzzer brings bytes of its own, and both become
//! steps in the same way; whatever the bytes are they decode to something, and where they run out the steps
//! do.

use std::fmt;
use std::time::Duration;

use super::names::{ADDRESSES, Answer, Fate, Names};

/// Which of the two ends of a wire: 0 is the machine, 1 its peer, or the other machine.
pub(super) type Who = usize;

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Life {
    /// A machine in plaintext, and a scripted peer.
    Plain,
    /// A machine with TLS from the start, and a scripted server.
    Secure,
    /// A machine that may be upgraded from plaintext to TLS, and a scripted server.
    Upgrade,
    /// Two machines in plaintext, each the other's peer.
    Pair,
}

/// A life that is to be led: [run](super::run) it.
#[derive(Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) life: Life,
    pub(super) settings: [Setting; 2],
    pub(super) server: ServerSetting,
    /// At the end the peer neither reads nor ends, and the wire takes no more.
    pub(super) stuck: bool,
    pub(super) steps: Vec<Step>,
    /// For the random numbers of the cryptography.
    pub(super) chance: u64,
}

/// What one machine is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) allow_half_open: bool,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
    pub(super) names: Names,
}

/// What the scripted server of TLS is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerSetting {
    pub(super) tls13: bool,
    /// Records are short, and messages of the handshake span several.
    pub(super) short_records: bool,
    /// Whether the machine takes FIN without close_notify for a truncation.
    pub(super) require_close_notify: bool,
    /// Whether the session is lent for what it receives, and comes back later.
    pub(super) foreign: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A reader comes.
    Read(Who),
    /// Who reads makes a system call for so many bytes at most; `late`, although its permit was withdrawn
    /// meanwhile.
    Receive {
        who: Who,
        most: usize,
        late: bool,
    },
    /// Who reads gives up.
    LeaveReading(Who),
    /// A writer comes.
    Write(Who),
    Send {
        who: Who,
        most: usize,
        late: bool,
    },
    LeaveWriting(Who),
    /// A transmit buffer is lent, or sent in part and given back.
    Transmit {
        who: Who,
        most: usize,
    },
    /// Whoever is at the wire while nobody reads does so.
    Attend {
        who: Who,
        most: usize,
    },
    /// The wire is watched, as while nobody reads for long.
    Watch(Who),
    Command(Who, Command),
    /// Who upgrades looks at the wire, where nobody else is at it.
    Look,
    /// Something is reported that nobody asked for, as by a driver that is behind.
    Stray(Who, Stray),
    PeerWrite(usize),
    PeerRead(usize),
    /// The peer ends, over TLS with close_notify.
    PeerEnd,
    /// Over TLS, close_notify without FIN, or FIN without close_notify.
    PeerHalfEnd {
        fin: bool,
    },
    PeerReset,
    PeerNewKeys,
    /// Plaintext where TLS is spoken.
    Inject(usize),
    Deliver {
        from: Who,
        most: usize,
    },
    Window {
        from: Who,
        size: usize,
    },
    Corrupt {
        from: Who,
        at: usize,
        bit: u8,
    },
    /// The wire loses all that is behind this byte, and ends.
    Cut {
        from: Who,
        at: usize,
    },
    /// Time passes, and every deadline is kept.
    Wait(Duration),
    /// Time passes, and deadlines are late.
    Oversleep(Duration),
    /// All do what they can do now.
    Settle,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Close,
    Abort,
    AbortWriting,
    FinishWriting,
    CancelReading,
    StartTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stray {
    Deadline,
    Answered,
    Unresolved,
    Attempted,
    HandOver,
    Start,
}

impl Plan {
    /// The plan of a seed.
    ///
    /// ```
    /// use sockeye::sim::Plan;
    ///
    /// assert_eq!(Plan::from_seed(7), Plan::from_seed(7));
    /// ```
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Plan::from_bytes(&bytes_of_seed(seed))
    }

    /// The plan of any bytes, such as a fuzzer's. Who takes part is decoded too.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut source = Source(bytes);
        let life = match source.byte() % 8 {
            0..=2 => Life::Plain,
            3 | 4 => Life::Secure,
            5 | 6 => Life::Upgrade,
            _ => Life::Pair,
        };
        Plan::decode(life, source)
    }

    /// The plan of any bytes for certain participants.
    #[must_use]
    pub fn of_life(life: Life, bytes: &[u8]) -> Self {
        Plan::decode(life, Source(bytes))
    }

    /// Who takes part.
    #[must_use]
    pub fn life(&self) -> Life {
        self.life
    }

    fn decode(life: Life, mut source: Source<'_>) -> Self {
        let flags = source.byte();
        let violent = flags & 3 == 0;
        let server = ServerSetting {
            tls13: flags & 4 == 0,
            short_records: flags & 24 == 24,
            require_close_notify: flags & 96 != 96,
            foreign: flags & 128 != 0,
        };
        let stuck = source.byte() % 16 == 15;
        let settings = [Setting::decode(&mut source), Setting::decode(&mut source)];
        let chance = checksum(source.0);
        let mut steps = Vec::new();
        while !source.0.is_empty() && steps.len() < STEPS_MOST {
            steps.extend(Step::decode(life, violent, &mut source));
        }
        Plan { life, settings, server, stuck, steps, chance }
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} {:?}{}", self.life, self.server, if self.stuck { " stuck" } else { "" })?;
        for setting in &self.settings {
            writeln!(f, "{setting:?}")?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step:?}"))
    }
}

impl Setting {
    fn decode(source: &mut Source<'_>) -> Self {
        let flags = source.byte();
        let names = match flags & 3 {
            0 => Names::decode(source),
            _ => Names::simple(),
        };
        Setting {
            allow_half_open: flags & 4 == 0,
            connect_timeout: match (flags >> 3) & 7 {
                0 => None,
                1 => Some(Duration::ZERO),
                2 | 3 => Some(Duration::from_secs(1)),
                _ => Some(Duration::from_secs(30)),
            },
            close_timeout: match flags >> 6 {
                0 => Duration::ZERO,
                1 => Duration::from_millis(1),
                _ => Duration::from_secs(5),
            },
            names,
        }
    }
}

impl Names {
    pub(super) fn decode(source: &mut Source<'_>) -> Self {
        let flags = source.byte();
        let mut fates = [Fate::Accepts(Duration::ZERO); ADDRESSES];
        for fate in &mut fates {
            *fate = match source.byte() % 16 {
                0..=4 => Fate::Accepts(source.delay()),
                5..=9 => Fate::Refuses(source.delay()),
                10..=12 => Fate::Silent,
                13 => Fate::Fails(source.delay()),
                _ => Fate::LeadsBack(source.delay()),
            };
        }
        let denied = if flags & 3 == 0 { source.byte() } else { 0 };
        let mut answers = Vec::new();
        if flags & 4 == 0 {
            for _ in 0..=(flags >> 3) % 4 {
                let mask = source.byte();
                answers.push(Answer { after: source.delay(), first: source.byte(), mask });
            }
        }
        Names {
            fates,
            denied,
            answers,
            ends: match (flags >> 5) & 7 {
                0 => None,
                1 => Some(Err(source.delay())),
                _ => Some(Ok(source.delay())),
            },
            bind: match source.byte() % 16 {
                0 => Some(0),
                1 => Some(9),
                _ => None,
            },
        }
    }
}

impl Step {
    /// `None` where the bytes say something that is not wanted in such a life.
    fn decode(life: Life, violent: bool, source: &mut Source<'_>) -> Option<Step> {
        let operation = source.byte();
        let other = usize::from(operation >> 7);
        let who = if life == Life::Pair { other } else { 0 };
        let pair = life == Life::Pair;
        let step = match operation & 0x7F {
            0..=7 => Step::Read(who),
            8..=19 => Step::Receive { who, most: source.size(), late: operation & 7 == 7 },
            20..=21 => Step::LeaveReading(who),
            22..=29 => Step::Write(who),
            30..=41 => Step::Send { who, most: source.size(), late: operation & 7 == 7 },
            42..=43 => Step::LeaveWriting(who),
            44..=51 => Step::Transmit { who, most: source.size() },
            52..=57 => Step::Attend { who, most: source.size() },
            58..=61 => Step::Watch(who),
            62..=63 => Step::Command(who, Command::FinishWriting),
            64 => Step::Command(who, Command::CancelReading),
            65 if violent => Step::Command(who, Command::Abort),
            66 if violent => Step::Command(who, Command::AbortWriting),
            67 if violent => Step::Command(who, Command::Close),
            68..=70 if life == Life::Upgrade => Step::Command(who, Command::StartTls),
            71 => Step::Look,
            72..=73 => Step::Stray(who, Stray::decode(source.byte())),
            74..=83 if !pair => Step::PeerWrite(source.size()),
            84..=91 if !pair => Step::PeerRead(source.size()),
            92 if !pair => Step::PeerEnd,
            93 if !pair && violent => Step::PeerHalfEnd { fin: other == 0 },
            94 if !pair && violent => Step::PeerReset,
            95..=97 if !pair => Step::PeerNewKeys,
            98 if !pair && violent => Step::Inject(source.size()),
            99..=110 => Step::Deliver { from: other, most: source.size() },
            111..=113 => Step::Window { from: other, size: source.size().max(NARROWEST) },
            114 if violent && !pair => {
                let at = source.size() - 1;
                Step::Corrupt { from: other, at, bit: source.byte() % 8 }
            }
            115 if violent => Step::Cut { from: other, at: source.size() - 1 },
            116..=118 => Step::Wait(source.delay()),
            119 => Step::Oversleep(source.delay()),
            120..=127 => Step::Settle,
            _ => return None,
        };
        Some(step)
    }

    /// Whose step it is, where it is a machine's.
    pub(super) fn who(self) -> Who {
        match self {
            Step::Read(who)
            | Step::Receive { who, .. }
            | Step::LeaveReading(who)
            | Step::Write(who)
            | Step::Send { who, .. }
            | Step::LeaveWriting(who)
            | Step::Transmit { who, .. }
            | Step::Attend { who, .. }
            | Step::Watch(who)
            | Step::Command(who, _)
            | Step::Stray(who, _) => who,
            _ => 0,
        }
    }
}

impl Stray {
    fn decode(byte: u8) -> Self {
        match byte % 6 {
            0 => Stray::Deadline,
            1 => Stray::Answered,
            2 => Stray::Unresolved,
            3 => Stray::Attempted,
            4 => Stray::HandOver,
            _ => Stray::Start,
        }
    }
}

/// Bytes that are taken one after another; behind them all is zero.
pub(super) struct Source<'a>(pub(super) &'a [u8]);

impl Source<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// A length: mostly short, and sometimes at what is a limit somewhere.
    pub(super) fn size(&mut self) -> usize {
        let byte = usize::from(self.byte());
        match byte {
            0..=127 => 1 + byte % 40,
            128..=231 => 41 + (byte - 128) * 11,
            232..=243 => 1200 + (byte - 232) * 700,
            _ => LIMITS[byte - 244],
        }
    }

    pub(super) fn delay(&mut self) -> Duration {
        Duration::from_millis(DELAYS[usize::from(self.byte()) % DELAYS.len()])
    }
}

/// More are not decoded, so that no bytes make a life without end.
const STEPS_MOST: usize = 400;

/// A narrower window makes no other life, only a longer one.
const NARROWEST: usize = 64;

const LIMITS: [usize; 12] = [
    16_384, 16_384, 16_385, 16_640, 20_000, 30_000, 40_000, 65_535, 65_536, 65_537, 70_000, 140_000,
];

/// In milliseconds.
const DELAYS: [u64; 12] = [0, 0, 0, 1, 49, 50, 51, 249, 250, 300, 1_000, 31_000];

/// The bytes that a seed stands for.
#[must_use]
pub(super) fn bytes_of_seed(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let length = 8 + mixed(&mut state) % 56;
    (0..length).flat_map(|_| mixed(&mut state).to_le_bytes()).collect()
}

/// The next number of a sequence without any pattern (SplitMix64).
pub(super) fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// A number that tells bytes from others (FNV-1a).
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
