//! Planted bugs, which prove that the tests find such bugs.
//!
//! A site is one expression, `planted!(Name)`, at the place of the bug. In a build without `--cfg sockeye_planted` the
//! expression is the constant `false`. In a build with it all bugs are present, and `plant` activates one of them.

/// Declares the enum of bugs. With `sockeye_planted` also declares the list of their names.
macro_rules! bugs {
    ($($bug:ident: $what:literal,)*) => {
        /// A planted bug. The compiler reports a bug without a site as dead code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[cfg_attr(sockeye_planted, allow(missing_docs))]
        pub(crate) enum Bug {
            $(#[doc = $what] $bug,)*
        }

        /// The name and the description of each bug, in the order of the enum.
        #[cfg(sockeye_planted)]
        pub const ALL: &[(&str, &str)] = &[$((stringify!($bug), $what),)*];

        #[cfg(sockeye_planted)]
        const BUGS: &[Bug] = &[$(Bug::$bug,)*];
    };
}

bugs! {
    // The driver's bugs, which the models of tests/schedules find.
    AbortForgetsAccept: "A client that is accepted during the abort of a listener is returned.",
    AbortForgetsOpening: "The abort of a listener resets no connection that just begins to open.",
    AcceptTurnLost: "A thread that has accepted wakes no thread to accept the next client.",
    AcceptsSocketsAfterShutdown: "A connector that was shut down opens new sockets.",
    AnnouncesWaitLate: "A wait is announced after the last check of the state.",
    BelievesOldReceive: "A receive from before a failure shows that no data is left.",
    BelievesZeroRead: "A receive of nothing is taken for a clean end.",
    CloseBelievesOldAccept: "An accept from before a close shows that no client is left.",
    CloseReturnsEarly: "A close returns before FIN is sent.",
    ClosesOneHandleEarly: "The socket closes while one handle is left.",
    DeadlineWakesNobody: "A new deadline wakes no blocked call.",
    ForgetsReadiness: "Readiness that is reported during a call is forgotten.",
    FreesSlotLate: "An end is reported before its slot is free.",
    GoAheadBeforeCheck: "A go-ahead is sent before the check for unread plaintext, and again after it.",
    HandshakeSpins: "A thread that finds the wire ready polls again while another one may receive.",
    HeaderForgetsClient: "A client that a PROXY header names is not counted.",
    IgnoresCallTimer: "A limit that has passed is taken for none.",
    IngestionForgetsMissed: "The end of an ingestion does not make the event loop look at what it has left alone.",
    LeaksLateConnection: "A connection that is made too late is never closed.",
    LeavesHandshakeUnmonitored: "The end of a handshake does not queue the socket for monitoring.",
    ListenerForgetsWake: "The end of a listener and a new deadline wake no accept that is parked in poll(2).",
    ListenerKeepsSlot: "An accept that gives up its wait for a slot keeps its place.",
    LoopLosesCommand: "The event loop blocks although a command is queued.",
    LoopSendsSilently: "The event loop sends queued data and wakes no writer.",
    LentSessionSpins: "A write that needs a TLS session which is lent polls for room.",
    LosesSlot: "A socket that stops waiting for a slot takes one with it.",
    NeverLingers: "A close does not drain what the peer still sends.",
    NoExecutorNotice: "A wait for the end of all actions is not notified.",
    NoReaderAfterUpgradeCheck: "An upgrade does not wait for a read that is in a system call.",
    NoRelist: "The end of a receive turn does not queue the socket for monitoring.",
    NoWake: "A change of the state wakes no thread that is parked in poll(2).",
    OpenedIsForgotten: "The last socket that is returned wakes no thread that waits for the end.",
    PollerBelievesOldPoll: "What a poll has found is believed although a thread has read since.",
    PollerForgetsLevel: "A level-triggered key that was reported is not looked at again.",
    PollerForgetsMissed: "The end of a turn does not make the event loop look at a wire that it has left alone.",
    PollerForgetsRoom: "The event loop does not report room in the send buffer to a poller.",
    PollerForgetsSecondKey: "A second key of a socket replaces the first one in the epoll(7) of their poller.",
    PollerHidesLateClient: "A client that is taken for a poller during a close is not returned.",
    PollerHidesMissed: "After a look that was missed, the kernel still reports to the poller, and not to the event loop.",
    PollerHidesRest: "What a thread leaves unread is not reported to another one that waits.",
    PollerKeepsClient: "A client that is taken for a poller wakes no thread that waits for one.",
    PollerLosesModify: "A key that is armed again is not checked for what is so already.",
    PollerKeepsItsPlace: "A thread that leaves a poller's epoll(7) tells no thread that sleeps to take its place.",
    PollerLosesWake: "The wake of a poller does not reach a thread that sleeps in it.",
    PollerMissesClients: "The event loop does not report clients to a poller.",
    PollerMissesTransitions: "The actions of a transition are not reported to pollers.",
    PollerReportsAfterRemove: "A key that is removed while it is queued is still reported.",
    PollerSkipsLook: "A key that is armed again is not looked at, although the last receive has left something.",
    QueueKeepsDropped: "A socket that stops waiting for a slot stays in the queue.",
    ReaderKeepsLateLine: "A line that is received during an upgrade is handed to its reader.",
    ResetsBeforeState: "A reset is sent before the machine knows of it.",
    ServerNotHalfOpen: "The end of a client closes an accepted socket.",
    ScopeForgetsQueued: "A scope does not know its sockets that wait for a slot.",
    ShutdownForgetsTaken: "A shutdown does not wait for connections that are being reset.",
    SlotWakesNoListener: "A freed slot does not reach the listener that waits for it.",
    TakesUnixEndForReset: "The close of a Unix-domain peer that has read everything is taken for a reset.",
    TrustsUnixHangUp: "The close of a Unix-domain peer is an end, whatever a sender knows.",
    TurnReleasedSilently: "The end of a turn wakes no thread that waits for it.",
    UseIsForgotten: "The end of a listener does not wait for what a thread has of it.",
    UpgradesTwice: "Two upgrades of one socket may run at once.",
    WorkerKeepsSocket: "A worker that is done with a socket takes no other work for it.",
    // The machine's bugs, which the scenarios of tests/sim find.
    AcceptorSpins: "A listener without descriptors accepts again at once.",
    AsksEndedProxy: "A proxy that ends its session with the handshake is asked all the same.",
    ClientHelloTrusted: "A ClientHello that arrives before the go-ahead is taken.",
    DialsDenied: "An address that the egress rules deny is dialled.",
    FinBeforeData: "FIN is sent before accepted data.",
    KeepsStaleTimer: "A timer stays due after it has fired.",
    LosesWritable: "Room in the send queue wakes no writer.",
    RetriesAtOnce: "A Unix-domain listener whose queue is full is dialled again at once.",
    TruncationSpins: "A write behind an end without close_notify accepts nothing, and does not fail.",
    TrustsPlaintext: "Plaintext that arrives during an upgrade is believed.",
}

/// Returns `false`: an ordinary build plants no bugs.
#[cfg(not(sockeye_planted))]
pub(crate) const fn is_active(_: Bug) -> bool {
    false
}

/// The planted bug's index in [`BUGS`] plus one, or 0 for none. This is std's atomic even under a model of the
/// scheduler, so that a check adds no step to a schedule.
#[cfg(sockeye_planted)]
static ACTIVE: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Returns whether `bug` was planted.
#[cfg(sockeye_planted)]
pub(crate) fn is_active(bug: Bug) -> bool {
    let active = ACTIVE.load(std::sync::atomic::Ordering::Relaxed);
    active != 0 && BUGS[active - 1] == bug
}

/// Plants one bug. Must be called before other code of the crate runs.
///
/// # Panics
/// If there is no bug of this name.
#[cfg(sockeye_planted)]
pub fn plant(name: &str) {
    let index = ALL.iter().position(|(bug, _)| *bug == name);
    let index = index.unwrap_or_else(|| panic!("no planted bug is called {name}"));
    ACTIVE.store(index + 1, std::sync::atomic::Ordering::Relaxed);
}

/// Returns whether this bug is planted: see [`failpoint`](crate::failpoint).
macro_rules! planted {
    ($bug:ident) => {
        $crate::failpoint::is_active($crate::failpoint::Bug::$bug)
    };
}
