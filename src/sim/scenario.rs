//! Scenarios: participants and steps, decoded from bytes.
//!
//! There is one decoder. A seed is expanded to bytes, and a fuzzer supplies its own bytes; both decode in the same way.
//! Any bytes decode to a scenario, and the steps end when the bytes do.

use std::fmt;
use std::time::Duration;

use super::proxied::ProxySetup;
use super::targets::{ADDRESSES, AttemptFate, LookupPart, Names};

/// An end of the wire: 0 is the machine, 1 is its peer or the other machine.
pub(super) type EndId = usize;

/// The participants of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScenarioKind {
    /// A plaintext machine and a scripted peer.
    Plain,
    /// A machine with TLS from the start and a scripted server.
    Secure,
    /// A machine that may be upgraded from plaintext to TLS and a scripted server.
    Upgrade,
    /// Two plaintext machines, each the other's peer.
    Pair,
    /// A machine that is the TLS server from the start, and a scripted client.
    Serve,
    /// A machine that may be upgraded to TLS as the server, and a scripted client.
    ServeUpgrade,
    /// A machine that uses TLS with a proxy, and a scripted target in plaintext.
    ToProxy,
    /// A machine that uses TLS with a proxy, and within it TLS with a scripted server.
    Proxied,
    /// A machine that uses TLS with a proxy, and may be upgraded to TLS within it.
    ProxiedUpgrade,
}

/// A simulated sequence of events, which [`run`](super::run) executes.
#[derive(Clone, PartialEq, Eq)]
pub struct Scenario {
    pub(super) kind: ScenarioKind,
    pub(super) endpoints: [EndpointConfig; 2],
    pub(super) server: ServerSetup,
    /// The `https` proxy, if there is one.
    pub(super) proxy: Option<ProxySetup>,
    /// Whether, at the end, the peer neither reads nor closes, and the wire accepts nothing.
    pub(super) peer_stalls: bool,
    pub(super) steps: Vec<Step>,
    /// The seed of the random numbers for cryptography.
    pub(super) rng_seed: u64,
}

/// The configuration of one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointConfig {
    pub(super) allow_half_open: bool,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) close_timeout: Duration,
    pub(super) names: Names,
}

/// The configuration of both ends of TLS. Usually the scripted peer is the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerSetup {
    pub(super) tls13: bool,
    /// Whether records are short, so that handshake messages span several.
    pub(super) short_records: bool,
    /// Whether the machine treats FIN without close_notify as a truncation.
    pub(super) require_close_notify: bool,
    /// Whether the session is lent for each receive, and restored later.
    pub(super) foreign: bool,
    /// Whether the machine is the server, and the peer its client.
    pub(super) serves: bool,
    /// Whether the machine sends a go-ahead with its upgrade, for which the client waits.
    pub(super) go_ahead: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A reader starts.
    Read(EndId),
    /// The reader receives at most `max` bytes; with `delayed`, even if its permit was revoked.
    Receive {
        who: EndId,
        max: usize,
        delayed: bool,
    },
    /// The reader gives up.
    AbandonRead(EndId),
    /// A writer starts.
    Write(EndId),
    Send {
        who: EndId,
        max: usize,
        delayed: bool,
    },
    AbandonWrite(EndId),
    /// A transmit buffer is lent, or sent in part and returned.
    Transmit {
        who: EndId,
        max: usize,
    },
    /// The driver receives in the background.
    DriveRecv {
        who: EndId,
        max: usize,
    },
    /// The driver monitors the wire, as it does when no caller has read for a while.
    Monitor(EndId),
    UserCall(EndId, UserCall),
    /// The upgrading thread checks the wire, if no permit is in use.
    CheckWire,
    /// A report that the machine does not expect, as from a driver that is late.
    Misplaced(EndId, MisplacedInput),
    PeerWrite(usize),
    PeerRead(usize),
    /// The peer closes its write side, over TLS with close_notify.
    PeerEnd,
    /// The peer sends close_notify without FIN, or FIN without close_notify.
    PeerHalfClose {
        fin: bool,
    },
    PeerReset,
    PeerNewKeys,
    /// The peer sends plaintext into a TLS stream.
    Inject(usize),
    /// The proxy encrypts at most so much of what it has, as one record.
    ProxyPass(usize),
    /// The proxy sends close_notify, and drops what it has. Or the target writes, and close_notify follows that.
    ProxyEnd {
        behind: Option<usize>,
    },
    /// The proxy sends FIN without close_notify.
    ProxyFin,
    ProxyNewKeys,
    Deliver {
        from: EndId,
        max: usize,
    },
    Window {
        from: EndId,
        size: usize,
    },
    Corrupt {
        from: EndId,
        at: usize,
        bit: u8,
    },
    /// The wire drops everything after this byte, and ends the stream.
    Cut {
        from: EndId,
        at: usize,
    },
    /// Time passes, and every timer expires on time.
    Wait(Duration),
    /// Time passes, and timers expire late.
    DelayTimer(Duration),
    /// Everything runs until nothing more can happen.
    RunToQuiescence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UserCall {
    Close,
    Abort,
    AbortWrite,
    CloseWrite,
    CancelRead,
    StartTls,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MisplacedInput {
    TimerExpired,
    PartialResolved,
    LookupFailed,
    Attempted,
    UpgradeReady,
    Start,
}

impl Scenario {
    /// Creates the scenario of a seed.
    ///
    /// ```
    /// use sockeye::sim::Scenario;
    ///
    /// assert_eq!(Scenario::from_seed(7), Scenario::from_seed(7));
    /// ```
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        Scenario::from_bytes(&bytes_from_seed(seed))
    }

    /// Creates the scenario of a seed in which the machine is the TLS server.
    #[must_use]
    pub fn serving(seed: u64) -> Self {
        let kind = if seed % 2 == 0 { ScenarioKind::ServeUpgrade } else { ScenarioKind::Serve };
        Scenario::of_kind(kind, &bytes_from_seed(seed))
    }

    /// Creates the scenario of a seed in which the machine connects through an `https` proxy.
    #[must_use]
    pub fn proxied(seed: u64) -> Self {
        let kind = match seed % 3 {
            0 => ScenarioKind::ToProxy,
            1 => ScenarioKind::Proxied,
            _ => ScenarioKind::ProxiedUpgrade,
        };
        Scenario::of_kind(kind, &bytes_from_seed(seed))
    }

    /// Decodes a scenario from any bytes, such as a fuzzer's. The participants are decoded too.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut source = ByteSource(bytes);
        let kind = match source.byte() % 8 {
            0..=2 => ScenarioKind::Plain,
            3 | 4 => ScenarioKind::Secure,
            5 | 6 => ScenarioKind::Upgrade,
            _ => ScenarioKind::Pair,
        };
        Scenario::decode(kind, source)
    }

    /// Decodes a scenario with the given participants from any bytes.
    #[must_use]
    pub fn of_kind(kind: ScenarioKind, bytes: &[u8]) -> Self {
        Scenario::decode(kind, ByteSource(bytes))
    }

    /// Returns the participants.
    #[must_use]
    pub fn kind(&self) -> ScenarioKind {
        self.kind
    }

    fn decode(kind: ScenarioKind, mut source: ByteSource<'_>) -> Self {
        let flags = source.byte();
        let violent = flags & 3 == 0;
        let more_flags = source.byte();
        let server = ServerSetup {
            tls13: flags & 4 == 0,
            short_records: flags & 24 == 24,
            require_close_notify: flags & 96 != 96,
            foreign: flags & 128 != 0,
            serves: matches!(kind, ScenarioKind::Serve | ScenarioKind::ServeUpgrade),
            go_ahead: more_flags & 16 == 0,
        };
        let peer_stalls = more_flags % 16 == 15;
        let proxy = kind.is_proxied().then(|| ProxySetup::decode(violent, server, &mut source));
        let mut endpoints =
            [EndpointConfig::decode(&mut source), EndpointConfig::decode(&mut source)];
        if let Some(proxy) = &proxy {
            proxy.adapt(&mut endpoints[0].names);
        }
        let rng_seed = checksum(source.0);
        let mut steps = Vec::new();
        while !source.0.is_empty() && steps.len() < MAX_STEPS {
            steps.extend(Step::decode(kind, violent, &mut source));
        }
        Scenario { kind, endpoints, server, proxy, peer_stalls, steps, rng_seed }
    }
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:?} {:?}{}",
            self.kind,
            self.server,
            if self.peer_stalls { " peer_stalls" } else { "" }
        )?;
        if let Some(proxy) = &self.proxy {
            writeln!(f, "{proxy:?}")?;
        }
        for setting in &self.endpoints {
            writeln!(f, "{setting:?}")?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step:?}"))
    }
}

impl EndpointConfig {
    fn decode(source: &mut ByteSource<'_>) -> Self {
        let flags = source.byte();
        let names = match flags & 3 {
            0 => Names::decode(source),
            _ => Names::simple(),
        };
        EndpointConfig {
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
    pub(super) fn decode(source: &mut ByteSource<'_>) -> Self {
        let flags = source.byte();
        let mut fates = [AttemptFate::Accepts(Duration::ZERO); ADDRESSES];
        for fate in &mut fates {
            *fate = match source.byte() % 16 {
                0..=4 => AttemptFate::Accepts(source.delay()),
                5..=9 => AttemptFate::Refuses(source.delay()),
                10..=12 => AttemptFate::Silent,
                13 => AttemptFate::Fails(source.delay()),
                _ => AttemptFate::SelfConnects(source.delay()),
            };
        }
        let denied = if flags & 3 == 0 { source.byte() } else { 0 };
        let mut answers = Vec::new();
        if flags & 4 == 0 {
            for _ in 0..=(flags >> 3) % 4 {
                let mask = source.byte();
                answers.push(LookupPart { after: source.delay(), first: source.byte(), mask });
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
    /// Decodes a step. Returns `None` if the step does not apply to this kind of scenario.
    fn decode(kind: ScenarioKind, violent: bool, source: &mut ByteSource<'_>) -> Option<Step> {
        let operation = source.byte();
        if kind.is_proxied() {
            if let Some(step) = Step::decode_proxied(operation, violent, source) {
                return Some(step);
            }
        }
        let other = usize::from(operation >> 7);
        let who = if kind == ScenarioKind::Pair { other } else { 0 };
        let pair = kind == ScenarioKind::Pair;
        let step = match operation & 0x7F {
            0..=7 => Step::Read(who),
            8..=19 => Step::Receive { who, max: source.size(), delayed: operation & 7 == 7 },
            20..=21 => Step::AbandonRead(who),
            22..=29 => Step::Write(who),
            30..=41 => Step::Send { who, max: source.size(), delayed: operation & 7 == 7 },
            42..=43 => Step::AbandonWrite(who),
            44..=51 => Step::Transmit { who, max: source.size() },
            52..=57 => Step::DriveRecv { who, max: source.size() },
            58..=61 => Step::Monitor(who),
            62..=63 => Step::UserCall(who, UserCall::CloseWrite),
            64 => Step::UserCall(who, UserCall::CancelRead),
            65 if violent => Step::UserCall(who, UserCall::Abort),
            66 if violent => Step::UserCall(who, UserCall::AbortWrite),
            67 if violent => Step::UserCall(who, UserCall::Close),
            68..=70 if kind.may_upgrade() => Step::UserCall(who, UserCall::StartTls),
            71 => Step::CheckWire,
            72..=73 => Step::Misplaced(who, MisplacedInput::decode(source.byte())),
            74..=83 if !pair => Step::PeerWrite(source.size()),
            84..=91 if !pair => Step::PeerRead(source.size()),
            92 if !pair => Step::PeerEnd,
            93 if !pair && violent => Step::PeerHalfClose { fin: other == 0 },
            94 if !pair && violent => Step::PeerReset,
            95..=97 if !pair => Step::PeerNewKeys,
            98 if !pair && violent => Step::Inject(source.size()),
            99..=110 => Step::Deliver { from: other, max: source.size() },
            111..=113 => Step::Window { from: other, size: source.size().max(MIN_WINDOW) },
            114 if violent && !pair => {
                let at = source.size() - 1;
                Step::Corrupt { from: other, at, bit: source.byte() % 8 }
            }
            115 if violent => Step::Cut { from: other, at: source.size() - 1 },
            116..=118 => Step::Wait(source.delay()),
            119 => Step::DelayTimer(source.delay()),
            120..=127 => Step::RunToQuiescence,
            _ => return None,
        };
        Some(step)
    }

    /// Returns the endpoint of the step; 0 if it has none.
    pub(super) fn who(self) -> EndId {
        match self {
            Step::Read(who)
            | Step::Receive { who, .. }
            | Step::AbandonRead(who)
            | Step::Write(who)
            | Step::Send { who, .. }
            | Step::AbandonWrite(who)
            | Step::Transmit { who, .. }
            | Step::DriveRecv { who, .. }
            | Step::Monitor(who)
            | Step::UserCall(who, _)
            | Step::Misplaced(who, _) => who,
            _ => 0,
        }
    }
}

impl MisplacedInput {
    fn decode(byte: u8) -> Self {
        match byte % 6 {
            0 => MisplacedInput::TimerExpired,
            1 => MisplacedInput::PartialResolved,
            2 => MisplacedInput::LookupFailed,
            3 => MisplacedInput::Attempted,
            4 => MisplacedInput::UpgradeReady,
            _ => MisplacedInput::Start,
        }
    }
}

/// A source of bytes; after the end, all bytes are zero.
pub(super) struct ByteSource<'a>(pub(super) &'a [u8]);

impl ByteSource<'_> {
    pub(super) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// Decodes a length: usually short, sometimes at one of the limits in the code.
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

/// The maximum number of steps, so that no input makes a scenario endless.
const MAX_STEPS: usize = 400;

/// The minimum window. A smaller one shows nothing new and takes longer.
const MIN_WINDOW: usize = 64;

const LIMITS: [usize; 12] = [
    16_384, 16_384, 16_385, 16_640, 20_000, 30_000, 40_000, 65_535, 65_536, 65_537, 70_000, 140_000,
];

/// Delays, in milliseconds.
const DELAYS: [u64; 12] = [0, 0, 0, 1, 49, 50, 51, 249, 250, 300, 1_000, 31_000];

/// Expands a seed to bytes.
#[must_use]
pub(super) fn bytes_from_seed(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let length = 8 + splitmix64(&mut state) % 56;
    (0..length).flat_map(|_| splitmix64(&mut state).to_le_bytes()).collect()
}

/// Returns the next pseudo-random number (SplitMix64).
pub(super) fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Returns a hash of the bytes (FNV-1a).
pub(super) fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |sum, &byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}
