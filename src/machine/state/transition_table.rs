//! A snapshot test of the transition table: every state, every input, and the result, in `table.txt`.
//!
//! The diff of that file shows which transitions a change affects. `UPDATE_EXPECT=1` regenerates it.

mod site;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustls::Connection;

use self::site::{https_proxy, peer_of, server_setup, setup};
use super::super::io_step::Holder;
use super::super::{
    Actions, AttemptId, Config, Endpoints, Fault, Input, Machine, ReadStep, RecvBuf, RecvEvent,
    RecvPermit, Release, Route, SendEvent, SendPermit, Target, TimerKind, Transmit, Wake,
    WriteStep,
};
use super::{Closed, EndedBy, Fin, Flushing, Half, Pipe, ReadEnd, State, Unread, ended};
use crate::egress::IngressRules;
use crate::proxy::Proxy;
use crate::tls::TlsSetup;

const TABLE: &str = include_str!("table.txt");
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/machine/state/table.txt");

#[test]
#[expect(clippy::disallowed_methods, reason = "an environment variable requests the new table")]
fn every_transition_matches_the_table() {
    let table = table();
    if std::env::var_os("UPDATE_EXPECT").is_some_and(|value| value == "1") {
        std::fs::write(FILE, &table).expect("the table can be written");
        return;
    }
    let differing = TABLE.lines().zip(table.lines()).find(|(expected, found)| expected != found);
    assert!(
        TABLE == table,
        "src/machine/state/table.txt differs (UPDATE_EXPECT=1 regenerates it): {differing:?}"
    );
}

fn table() -> String {
    let mut table = String::from(HEAD);
    for make in states() {
        let _ = writeln!(table, "\n{}", name(&make().machine.state));
        let mut rest = Vec::new();
        for input in inputs() {
            let results = [false, true].map(|half_open| {
                let mut subject = make();
                subject.machine.policy.allow_half_open = half_open;
                let before = name(&subject.machine.state);
                let came = (input.apply)(&mut subject)?;
                let after = name(&subject.machine.state);
                let after = if after == before { "stays".to_owned() } else { after };
                Some([vec![after], came].concat())
            });
            let [Some(first), Some(half_open)] = results else { continue };
            if first == ["stays"] && half_open == ["stays"] {
                rest.push(input.name);
                continue;
            }
            let _ = writeln!(table, "    {}: {}", input.name, first.join(" "));
            if first != half_open {
                let _ = writeln!(table, "    {}, half-open: {}", input.name, half_open.join(" "));
            }
        }
        let _ = writeln!(table, "    no effect: {}", rest.join(", "));
    }
    table
}

const HEAD: &str = "\
Every state of the machine, every input, and the result: the next state and the actions. A second line shows the
result with `allow_half_open`, if it differs. UPDATE_EXPECT=1 cargo test --lib table generates this file.
";

// -------------------------------------------------------------------- names

fn name(state: &State) -> String {
    match state {
        State::Connecting(connecting) => {
            let step = match connecting.next_timer() {
                Some((_, TimerKind::Slot)) => "not started",
                Some((_, TimerKind::Lookup)) => "looking up",
                Some((_, TimerKind::Connect)) => "dialling",
                Some((_, TimerKind::NextAttempt)) => "waiting for the next attempt",
                deadline => unreachable!("the connect timeout is the first: {deadline:?}"),
            };
            let target = if connecting.is_unix() { "Unix-domain, " } else { "" };
            format!("Connecting({target}{step}{})", cancelled(connecting.read()))
        }
        State::Preamble(preamble) => {
            let in_plaintext = !preamble.is_tls();
            let unsent = if preamble.has_unsent() && in_plaintext { ", unsent" } else { "" };
            let rest = cancelled(preamble.read());
            let pipe = pipe_name(preamble.pipe());
            format!("Preamble({}{pipe}{unsent}{rest}{})", preamble.about(), preamble.next())
        }
        State::Handshaking(handshaking) => {
            let from = match handshaking.phase() {
                crate::Phase::Upgrading => "upgrade",
                _ => "from the start",
            };
            let rest = cancelled(handshaking.read());
            let not_started = if handshaking.is_started() { "" } else { ", not started" };
            format!("Handshaking({from}, {}{rest}{not_started})", pipe_name(handshaking.pipe()))
        }
        State::Open(pipe) => format!("Open({})", pipe_name(pipe)),
        State::UpgradePending(pipe, Unread::Refused) => {
            format!("UpgradePending({})", pipe_name(pipe))
        }
        State::UpgradePending(pipe, Unread::ClientHello) => {
            format!("UpgradePending({}, accepting a ClientHello)", pipe_name(pipe))
        }
        State::HalfClosed(pipe, half) => {
            let half = match half {
                Half::ReadOnly => "ReadOnly",
                Half::WriteOnly => "WriteOnly",
                Half::Discarding => "Discarding",
                Half::Finishing(_) => "Finishing",
            };
            format!("HalfClosed({half}, {})", pipe_name(pipe))
        }
        State::Closed(Closed::Flushing(flushing)) => format!(
            "Flushing({}, {:?}, reads {})",
            pipe_name(&flushing.pipe),
            flushing.release,
            reads_name(&flushing.read_end)
        ),
        State::Closed(Closed::Ended { read_end, outcome, .. }) => {
            format!("Ended({outcome:?}, reads {})", reads_name(read_end))
        }
        State::Closed(Closed::Upgraded) => "Upgraded".to_owned(),
        State::Closed(Closed::Detached) => "Detached".to_owned(),
        State::Poisoned => "Poisoned".to_owned(),
        State::Closed(Closed::ConnectFailed(failed)) => {
            format!("ConnectFailed({:?}, outcome {:?})", failed.fault, failed.outcome)
        }
    }
}

fn pipe_name(pipe: &Pipe) -> String {
    let tls = pipe.tls.as_deref();
    let mut name = match tls {
        None => "plain",
        Some(tls) if tls.is_with_proxy() => "tls with a proxy",
        Some(tls) if tls.goes_through_proxy() => "tls through tls with a proxy",
        Some(tls) if tls.is_server() => "tls as the server",
        Some(_) => "tls",
    }
    .to_owned();
    for (is, what) in [
        (pipe.receiving, ", receiving"),
        (pipe.sending, ", sending"),
        (pipe.fin == Fin::Sent, ", FIN sent"),
        (tls.is_some_and(|tls| !tls.is_flushed()), ", unsent"),
        (tls.is_some_and(|tls| tls.has_undelivered_data()), " data"),
        (tls.is_some_and(|tls| tls.has_unread()), ", unread"),
    ] {
        if is {
            name.push_str(what);
        }
    }
    name
}

fn reads_name(read_end: &ReadEnd) -> String {
    match read_end {
        ReadEnd::Undrained(pipe) => format!("Undrained({})", pipe_name(pipe)),
        ReadEnd::Buffered(pipe) => format!("Buffered({})", pipe_name(pipe)),
        ReadEnd::Eof(ended_by) => format!("Eof({ended_by:?})"),
        ReadEnd::Fail(fault) => format!("Fail({fault:?})"),
    }
}

fn cancelled(step: ReadStep) -> &'static str {
    match step {
        ReadStep::Eof => ", cancelled",
        _ => "",
    }
}

// -------------------------------------------------------------------- states

/// A machine in some state, and its peer if it uses TLS.
struct Subject {
    machine: Machine,
    peer: Option<Connection>,
    now: Instant,
}

type Make = Box<dyn Fn() -> Subject>;

fn states() -> Vec<Make> {
    let mut states: Vec<Make> = Vec::new();
    let mut add = |make: Box<dyn Fn() -> Subject>| states.push(make);
    add(Box::new(|| fresh(Target::Address(address()), None)));
    add(Box::new(|| started(Target::Host, None)));
    add(Box::new(|| started(Target::Address(address()), None)));
    add(Box::new(|| {
        let mut subject = started(Target::Address(address()), None);
        subject.handle(Input::CancelRead);
        subject
    }));
    for route in [Routed::Lookup, Routed::Direct] {
        add(Box::new(move || routed(route, None)));
    }
    for tls in [None, Some(setup()), Some(server_setup())] {
        add(Box::new(move || in_preamble(Routed::Direct, tls)));
    }
    add(Box::new(|| {
        let mut subject = in_preamble(Routed::Direct, None);
        assert!(subject.machine.begin_background_recv().is_some(), "the machine needs data");
        subject
    }));
    add(Box::new(|| {
        let mut subject = in_preamble(Routed::Direct, None);
        subject.handle(Input::CancelRead);
        subject
    }));
    // Another address is left.
    add(Box::new(|| in_preamble(Routed::Lookup, None)));
    add(Box::new(|| {
        let mut subject = routed(Routed::Direct, None);
        subject.connected();
        subject
    }));
    add(Box::new(|| secured_preamble(Routed::Direct, None, Stage::Handshake)));
    for tls in [None, Some(setup()), Some(server_setup())] {
        add(Box::new(move || secured_preamble(Routed::Direct, tls, Stage::Asked)));
    }
    add(Box::new(|| {
        let mut subject = secured_preamble(Routed::Direct, None, Stage::Asked);
        subject.handle(Input::CancelRead);
        subject
    }));
    // Another address is left.
    add(Box::new(|| secured_preamble(Routed::Lookup, None, Stage::Asked)));
    for pipe in ["", "o", "i"] {
        add(Box::new(move || to_proxy(pipe, State::Open)));
    }
    for unread in [Unread::Refused, Unread::ClientHello] {
        add(Box::new(move || to_proxy("", |pipe| State::UpgradePending(pipe, unread))));
    }
    add(Box::new(|| secured_preamble(Routed::Direct, Some(setup()), Stage::Accepted)));
    add(Box::new(|| fresh(Target::Unix, None)));
    add(Box::new(|| started(Target::Unix, None)));
    add(Box::new(|| {
        let mut subject = started(Target::Unix, None);
        subject.handle(Input::Attempted { id: AttemptId(0), result: Err(Fault::Busy) });
        subject
    }));
    for tls in [None, Some(setup()), Some(server_setup())] {
        add(Box::new(move || awaiting_header(tls)));
    }
    add(Box::new(|| {
        let mut subject = awaiting_header(None);
        assert!(subject.machine.begin_background_recv().is_some(), "the machine needs data");
        subject
    }));
    add(Box::new(|| {
        let mut subject = awaiting_header(None);
        subject.handle(Input::CancelRead);
        subject
    }));
    add(Box::new(|| header_not_started(None)));
    // Where a wire has to be registered first.
    add(Box::new(|| {
        let config =
            Config { header_rules: Some(header_rules()), ..plan(Target::Address(address()), None) };
        let mut subject =
            Subject { machine: Machine::new(config, base()), peer: None, now: base() };
        drop(subject.machine.start(subject.now));
        subject
    }));
    add(Box::new(handshaking));
    add(Box::new(|| {
        let mut subject = handshaking();
        assert!(subject.machine.begin_background_recv().is_some(), "the machine needs data");
        subject
    }));
    add(Box::new(|| {
        let mut subject = handshaking();
        subject.handle(Input::CancelRead);
        subject
    }));
    for tls in [None, Some(setup())] {
        let config = plan(Target::Host, tls);
        add(Box::new(move || {
            let now = base();
            let machine = Machine::established(config.clone(), now);
            Subject { machine, peer: Some(peer_of(setup())), now }
        }));
    }
    add(Box::new(|| {
        let now = base();
        let limit = now.checked_add(CONNECT);
        let machine = Machine::upgraded(&plan(Target::Host, None), setup(), &[], None, limit, now);
        Subject { machine, peer: Some(peer_of(setup())), now }
    }));
    add(Box::new(|| handshaking_with(server_setup())));
    add(Box::new(|| {
        let mut subject = handshaking_with(server_setup());
        assert!(subject.machine.begin_background_recv().is_some(), "the machine needs data");
        subject
    }));
    add(Box::new(|| {
        let now = base();
        let limit = now.checked_add(CONNECT);
        let machine =
            Machine::upgraded(&plan(Target::Host, None), server_setup(), &[], None, limit, now);
        Subject { machine, peer: Some(peer_of(server_setup())), now }
    }));
    for pipe in ["", "r", "s", "rs"] {
        add(Box::new(move || plain(pipe, State::Open)));
    }
    for pipe in ["", "r", "s", "o", "i", "os", "t", "to"] {
        add(Box::new(move || tls(pipe, State::Open)));
    }
    for pipe in ["", "r"] {
        for unread in [Unread::Refused, Unread::ClientHello] {
            add(Box::new(move || plain(pipe, |pipe| State::UpgradePending(pipe, unread))));
        }
    }
    let halves = [
        (Half::ReadOnly, "f", &["", "r"][..], &["", "r", "i"][..]),
        (Half::ReadOnly, "", &[], &["o", "oi", "t"]),
        (Half::WriteOnly, "", &["", "s"], &["", "s", "o", "t"]),
        (Half::Discarding, "", &["", "r", "s"], &["", "r", "s", "o", "t"]),
        (Half::Finishing(base() + CLOSE), "", &["s"], &["s", "o", "t"]),
    ];
    for pipe in ["", "i"] {
        add(Box::new(move || {
            let mut subject = tls(pipe, State::Open);
            subject.handle(Input::CloseWrite);
            subject
        }));
    }
    for (half, fin, in_plain, over_tls) in halves {
        for pipe in in_plain {
            add(Box::new(move || {
                plain(&format!("{pipe}{fin}"), |pipe| State::HalfClosed(pipe, half))
            }));
        }
        for pipe in over_tls {
            add(Box::new(move || {
                tls(&format!("{pipe}{fin}"), |pipe| State::HalfClosed(pipe, half))
            }));
        }
    }
    for fault in [Fault::Closed, Fault::Reset(None)] {
        add(Box::new(move || plain("s", |pipe| flushing(pipe, ReadEnd::Fail(fault)))));
    }
    add(Box::new(|| plain("s", |pipe| flushing(pipe, ReadEnd::Eof(EndedBy::Peer)))));
    for pipe in ["s", "o", "t"] {
        add(Box::new(move || tls(pipe, |pipe| flushing(pipe, ReadEnd::Fail(Fault::Closed)))));
    }
    let failed = Err(Fault::Reset(None));
    for pipe in ["", "r"] {
        add(Box::new(move || {
            plain(pipe, |pipe| undrained(ReadEnd::Undrained(Box::new(pipe)), failed))
        }));
        add(Box::new(move || {
            tls(pipe, |pipe| undrained(ReadEnd::Undrained(Box::new(pipe)), failed))
        }));
    }
    add(Box::new(|| {
        let failed = Err(Fault::ResetAfterEnd(32));
        plain("r", |pipe| undrained(ReadEnd::Undrained(Box::new(pipe)), failed))
    }));
    add(Box::new(move || tls("i", |pipe| undrained(ReadEnd::Undrained(Box::new(pipe)), failed))));
    add(Box::new(|| {
        let failed = Err(Fault::Tls);
        tls("i", |pipe| undrained(ReadEnd::Buffered(Box::new(pipe)), failed))
    }));
    let overs: [fn() -> ReadEnd; 3] = [
        || ReadEnd::Eof(EndedBy::Peer),
        || ReadEnd::Eof(EndedBy::Local),
        || ReadEnd::Fail(Fault::Closed),
    ];
    for read_end in overs {
        add(Box::new(move || plain("", |pipe| State::Closed(ended(pipe, read_end(), Ok(()))))));
    }
    add(Box::new(move || {
        plain("", |pipe| State::Closed(ended(pipe, ReadEnd::Fail(Fault::Reset(None)), failed)))
    }));
    add(Box::new(|| plain("", |_| State::Closed(Closed::Upgraded))));
    add(Box::new(|| plain("", |_| State::Closed(Closed::Detached))));
    add(Box::new(|| plain("", |_| State::Poisoned)));
    add(Box::new(|| {
        let mut subject = started(Target::Address(address()), None);
        let result = Err(Fault::Connect(111));
        subject.handle(Input::Attempted { id: AttemptId(0), result });
        subject
    }));
    states
}

fn flushing(pipe: Pipe, read_end: ReadEnd) -> State {
    let (deadline, release) = (base() + CLOSE, Release::Linger);
    State::Closed(Closed::Flushing(Box::new(Flushing { pipe, timer: deadline, release, read_end })))
}

fn undrained(read_end: ReadEnd, outcome: Result<(), Fault>) -> State {
    State::Closed(Closed::Ended { read_end, outcome, summary: None })
}

fn fresh(target: Target, setup: Option<&TlsSetup>) -> Subject {
    let now = base();
    let machine = Machine::new(plan(target, setup), now);
    let peer = setup.map(peer_of);
    Subject { machine, peer, now }
}

fn started(target: Target, setup: Option<&TlsSetup>) -> Subject {
    let mut subject = fresh(target, setup);
    drop(subject.machine.start(subject.now));
    subject
}

/// How a target is reached through a proxy.
#[derive(Clone, Copy)]
enum Routed {
    /// The proxy resolves the name.
    Direct,
    /// The name is resolved locally.
    Lookup,
}

/// Creates a machine that has started to connect to a proxy, or to look up the target.
fn routed(routed: Routed, setup: Option<&TlsSetup>) -> Subject {
    routed_by(&Proxy::http(address()).expect("the address is valid"), routed, setup)
}

fn routed_by(proxy: &Proxy, routed: Routed, setup: Option<&TlsSetup>) -> Subject {
    let now = base();
    let proxy = proxy.clone();
    let proxy = match routed {
        Routed::Direct => proxy,
        Routed::Lookup => proxy.resolve_locally(),
    };
    let target = "target.test:1".parse().expect("the address is valid");
    let route = Some(Route::new(&proxy, &target).expect("a proxy can get a name"));
    let config = Config { route, ..plan(Target::Address(address()), setup) };
    let peer = setup.map(peer_of);
    let mut subject = Subject { machine: Machine::new(config, now), peer, now };
    drop(subject.machine.start(now));
    subject
}

/// Creates a machine that has sent its request to a proxy.
fn in_preamble(how: Routed, setup: Option<&TlsSetup>) -> Subject {
    let mut subject = routed(how, setup);
    subject.handle(Input::Resolved(Ok(&[address(), ([192, 0, 2, 2], 1).into()])));
    subject.connected();
    let mut transmit = subject.machine.next_transmit().expect("the request is queued");
    let bytes = transmit.bytes().len();
    transmit.sent(bytes);
    drop(subject.machine.transmit_done(&mut transmit));
    subject
}

/// How far the dialogue with an `https` proxy has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Handshake,
    Asked,
    Accepted,
}

/// Creates a machine in a dialogue with an `https` proxy, which is its peer.
fn secured_preamble(how: Routed, setup: Option<&TlsSetup>, stage: Stage) -> Subject {
    let mut subject = routed_by(&https_proxy(), how, setup);
    subject.peer = Some(peer_of(self::setup()));
    subject.handle(Input::Resolved(Ok(&[address(), ([192, 0, 2, 2], 1).into()])));
    subject.connected();
    if stage == Stage::Handshake {
        return subject;
    }
    while subject.peer().is_handshaking() {
        subject.exchange();
    }
    subject.exchange();
    if stage == Stage::Accepted {
        subject.saw(b"HTTP/1.1 200 OK\r\n\r\n").expect("it was asked");
        subject.exchange();
    }
    subject
}

/// Creates a connection that is plaintext to the target, through an `https` proxy. The flags are those of [`tls`].
fn to_proxy(flags: &str, state: impl FnOnce(Pipe) -> State) -> Subject {
    let mut subject = secured_preamble(Routed::Direct, None, Stage::Accepted);
    prepare(&mut subject, flags, state);
    subject
}

/// Creates the machine of an accepted connection that begins with a PROXY header.
fn header_not_started(setup: Option<&TlsSetup>) -> Subject {
    let now = base();
    let config =
        Config { header_rules: Some(header_rules()), ..plan(Target::Address(address()), setup) };
    Subject { machine: Machine::established(config, now), peer: setup.map(peer_of), now }
}

fn awaiting_header(setup: Option<&TlsSetup>) -> Subject {
    let mut subject = header_not_started(setup);
    drop(subject.machine.start(subject.now));
    subject
}

/// Denies 192.0.2.66, and limits each client to one socket.
fn header_rules() -> Arc<IngressRules> {
    let rules = IngressRules::allow_all().deny_net("192.0.2.66").expect("the net is valid");
    Arc::new(rules.max_per_client(1))
}

fn handshaking() -> Subject {
    handshaking_with(setup())
}

fn handshaking_with(setup: &TlsSetup) -> Subject {
    let mut subject = started(Target::Address(address()), Some(setup));
    let result = Ok(Endpoints::new(address(), None));
    subject.handle(Input::Attempted { id: AttemptId(0), result });
    subject
}

/// Creates a plaintext connection. Flags: `r` and `s` for a receive or send permit in use, `f` for a sent FIN.
fn plain(flags: &str, state: impl FnOnce(Pipe) -> State) -> Subject {
    let mut subject = started(Target::Address(address()), None);
    subject.machine.state = state(with_flags(Pipe::default(), flags));
    subject
}

/// Creates a TLS connection. Further flags: `t` for a server's session tickets, which are queued, `o` for data that is,
/// and `i` for unread data.
fn tls(flags: &str, state: impl FnOnce(Pipe) -> State) -> Subject {
    let has_tickets = flags.contains('t');
    let mut subject = handshaking_with(if has_tickets { server_setup() } else { setup() });
    while subject.machine.opened().is_none() {
        subject.exchange();
    }
    if !has_tickets {
        subject.exchange();
    }
    prepare(&mut subject, flags, state);
    subject
}

fn prepare(subject: &mut Subject, flags: &str, state: impl FnOnce(Pipe) -> State) {
    if flags.contains('o') {
        let WriteStep::Seal(permit) = subject.machine.write() else { panic!("can't seal") };
        let mut transmit = Transmit::default();
        drop(subject.machine.seal(permit, &[1; 9], &mut transmit, || subject.now));
        drop(subject.machine.transmit_done(&mut transmit));
    }
    if flags.contains('i') {
        subject.peer().writer().write_all(&[2; 9]).expect("there is room");
        subject.deliver();
    }
    let moved = std::mem::replace(&mut subject.machine.state, State::Poisoned);
    let State::Open(pipe) = moved else { panic!("not open") };
    subject.machine.state = state(with_flags(pipe, flags));
}

fn with_flags(mut pipe: Pipe, flags: &str) -> Pipe {
    pipe.receiving = flags.contains('r');
    pipe.sending = flags.contains('s');
    if flags.contains('f') {
        pipe.fin = Fin::Sent;
        if let Some(tls) = &mut pipe.tls {
            tls.discard_unsent();
        }
    }
    pipe
}

// -------------------------------------------------------------------- inputs

struct Stimulus {
    name: &'static str,
    /// Applies the input and returns the actions, or `None` if the input is impossible in this state.
    apply: fn(&mut Subject) -> Option<Vec<String>>,
}

fn inputs() -> Vec<Stimulus> {
    let s = |name, apply| Stimulus { name, apply };
    vec![
        s("start", |subject| {
            let now = subject.now;
            Some(names_of(subject.machine.start(now)))
        }),
        s("PartialResolved", |subject| subject.input(Input::PartialResolved(&[address()]))),
        s("Resolved", |subject| subject.input(Input::Resolved(Ok(&[address()])))),
        s("Resolved with an error", |subject| subject.input(Input::Resolved(Err(Fault::Resolve)))),
        s("Attempted", |subject| {
            let result = Ok(Endpoints::new(address(), None));
            subject.input(Input::Attempted { id: AttemptId(0), result })
        }),
        s("Attempted with an error", |subject| {
            let result = Err(Fault::Connect(111));
            subject.input(Input::Attempted { id: AttemptId(0), result })
        }),
        s("Attempted, busy", |subject| {
            subject.input(Input::Attempted { id: AttemptId(0), result: Err(Fault::Busy) })
        }),
        s("TimerExpired, early", |subject| subject.input(Input::TimerExpired)),
        s("TimerExpired", |subject| {
            subject.now += CLOSE;
            subject.input(Input::TimerExpired)
        }),
        s("WireEof", |subject| subject.input(Input::WireEof)),
        s("WireFailed", |subject| subject.input(Input::WireFailed(Fault::Reset(None)))),
        s("Close", |subject| subject.input(Input::Close)),
        s("Abort", |subject| subject.input(Input::Abort)),
        s("AbortWrite", |subject| subject.input(Input::AbortWrite)),
        s("CloseWrite", |subject| subject.input(Input::CloseWrite)),
        s("CancelRead", |subject| subject.input(Input::CancelRead)),
        s("AllowHalfOpen", |subject| subject.input(Input::AllowHalfOpen)),
        s("StartTls", |subject| subject.input(Input::StartTls { accepts_hello: false })),
        s("StartTls, accepting a ClientHello", |subject| {
            subject.input(Input::StartTls { accepts_hello: true })
        }),
        s("UpgradeReady", |subject| subject.input(Input::UpgradeReady)),
        s("UnexpectedPlaintext", |subject| {
            subject.input(Input::UnexpectedPlaintext { first: b'2' })
        }),
        s("UnexpectedPlaintext, a handshake record", |subject| {
            subject.input(Input::UnexpectedPlaintext { first: 22 })
        }),
        s("Detach", |subject| subject.input(Input::Detach)),
        s("read", |subject| {
            Some(vec![match subject.machine.read() {
                ReadStep::Recv(_) => "Recv".to_owned(),
                ReadStep::Ingest(_) => "Ingest".to_owned(),
                ReadStep::TakePlaintext(_) => "TakePlaintext".to_owned(),
                step => format!("{step:?}"),
            }])
        }),
        s("write", |subject| {
            Some(vec![match subject.machine.write() {
                WriteStep::Send(_) => "Send".to_owned(),
                WriteStep::Seal(_) => "Seal".to_owned(),
                step => format!("{step:?}"),
            }])
        }),
        s("receive cancelled", |subject| subject.received(RecvEvent::Cancelled)),
        s("received EOF", |subject| subject.received(RecvEvent::Eof)),
        s("receive failed", |subject| subject.received(RecvEvent::Failed(Fault::Lost(110)))),
        s("received bytes", |subject| {
            let permit = subject.permit()?;
            subject.peer.is_none().then(|| names_of(subject.machine.handle_recv(permit, 1)))
        }),
        s("send cancelled", |subject| subject.sent(SendEvent::Cancelled)),
        s("send failed", |subject| subject.sent(SendEvent::Failed(Fault::Lost(110)))),
        s("sent bytes", |subject| {
            let sends = subject.peer.is_none() && subject.is_sending();
            sends.then(|| names_of(subject.machine.handle_send(SendPermit(()), 1)))
        }),
        s("seal", |subject| {
            let seals = subject.peer.is_some() && subject.is_sending();
            let now = subject.now;
            let seal = |machine: &mut Machine| {
                names_of(machine.seal(SendPermit(()), &[1; 9], &mut Transmit::default(), || now).1)
            };
            seals.then(|| seal(&mut subject.machine))
        }),
        s("ingest data", |subject| {
            subject.open_peer()?.writer().write_all(&[2; 9]).expect("there is room");
            subject.ingest()
        }),
        s("ingest close_notify", |subject| {
            subject.open_peer()?.send_close_notify();
            subject.ingest()
        }),
        s("ingest garbage", |subject| {
            subject.peer.as_ref()?;
            subject.ingest_bytes(&[
                23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0,
            ])
        }),
        s("take all", |subject| {
            if !subject.machine.has_unread() {
                return None;
            }
            let now = subject.now;
            Some(names_of(
                subject.machine.take_plaintext(RecvPermit(Holder::Reader), &mut [0; 99], || now).1,
            ))
        }),
        s("saw a part of an answer", |subject| subject.saw(b"HTTP/1.1 200 OK\r\n")),
        s("saw an acceptance", |subject| subject.saw(b"HTTP/1.1 200 OK\r\n\r\n")),
        s("saw an acceptance and more", |subject| subject.saw(b"HTTP/1.1 200 OK\r\n\r\n2")),
        s("saw a late acceptance", |subject| {
            subject.now += CLOSE;
            subject.saw(b"HTTP/1.1 200 OK\r\n\r\n")
        }),
        s("saw a refusal", |subject| subject.saw(b"HTTP/1.1 403 Forbidden\r\n\r\n")),
        s("saw that the target is unreachable", |subject| subject.saw(b"HTTP/1.1 502 x\r\n\r\n")),
        s("saw a malformed answer", |subject| subject.saw(b"220 mail\r\n")),
        s("saw a PROXY header", |subject| subject.saw(HEADER)),
        s("saw a PROXY header and more", |subject| subject.saw(&[HEADER, b"2"].concat())),
        s("saw a PROXY header of an unknown client", |subject| subject.saw(b"PROXY UNKNOWN\r\n")),
        s("saw a PROXY header of a denied client", |subject| {
            subject.saw(b"PROXY TCP4 192.0.2.66 192.0.2.1 1 2\r\n")
        }),
        s("saw a late PROXY header", |subject| {
            subject.now += CLOSE;
            subject.saw(HEADER)
        }),
        s("saw a PROXY header of a client at its limit", |subject| {
            let (client, max) = subject.machine.counted_client(HEADER)?;
            assert_eq!(max, 1);
            let permit = subject.permit().or_else(|| subject.machine.begin_background_recv())?;
            Some(names_of(subject.machine.deny_client(permit, client, subject.now)))
        }),
        s("transmit done", |subject| {
            let mut transmit = subject.machine.next_transmit()?;
            let bytes = transmit.bytes().len();
            transmit.sent(bytes);
            Some(names_of(subject.machine.transmit_done(&mut transmit)))
        }),
        s("transmit failed", |subject| {
            let mut transmit = subject.machine.next_transmit()?;
            Some(names_of(subject.machine.transmit_failed(
                &mut transmit,
                Fault::Lost(110),
                subject.now,
            )))
        }),
        s("transmit failed, the peer has closed", |subject| {
            let mut transmit = subject.machine.next_transmit()?;
            let fault = Fault::ResetAfterEnd(32);
            Some(names_of(subject.machine.transmit_failed(&mut transmit, fault, subject.now)))
        }),
    ]
}

/// Returns the names of the fields that are set, in their order.
fn names_of(actions: Actions) -> Vec<String> {
    let Actions {
        attach,
        preamble,
        wake: Wake { opened, readable, writable, closed },
        cancel_attempts,
        cancel_attempt,
        resolve,
        attempt,
        drive_recv,
        begin_handshake,
        transmit,
        shutdown_write,
        release,
    } = actions;
    let fields = [
        (attach.is_some(), "attach"),
        (preamble.is_some(), "preamble"),
        (opened, "opened"),
        (readable, "readable"),
        (writable, "writable"),
        (closed, "closed"),
        (cancel_attempts, "cancel_attempts"),
        (cancel_attempt.is_some(), "cancel_attempt"),
        (resolve, "resolve"),
        (attempt.is_some(), "attempt"),
        (drive_recv, "drive_recv"),
        (begin_handshake, "begin_handshake"),
        (transmit, "transmit"),
        (shutdown_write, "shutdown_write"),
        (release == Some(Release::Close), "release(Close)"),
        (release == Some(Release::Linger), "release(Linger)"),
        (release == Some(Release::Reset), "release(Reset)"),
    ];
    let set = fields.into_iter().filter(|&(is_set, _)| is_set);
    set.map(|(_, name)| name.to_owned()).collect()
}

impl Subject {
    fn handle(&mut self, input: Input<'_>) {
        drop(self.machine.handle(input, self.now));
    }

    fn input(&mut self, input: Input<'_>) -> Option<Vec<String>> {
        Some(names_of(self.machine.handle(input, self.now)))
    }

    /// Reports that the latest attempt has succeeded.
    fn connected(&mut self) {
        let result = Ok(Endpoints::new(address(), None));
        self.handle(Input::Attempted { id: AttemptId(0), result });
    }

    /// Passes bytes that a peek saw in a preamble.
    fn saw(&mut self, bytes: &[u8]) -> Option<Vec<String>> {
        if self.machine.state.preamble()?.is_tls() {
            self.open_peer()?.writer().write_all(bytes).expect("there is room");
            return self.ingest();
        }
        let permit = self.permit().or_else(|| self.machine.begin_background_recv())?;
        let own = self.machine.preamble_len(bytes);
        let (same, actions) = self.machine.handle_preamble(permit, bytes, self.now);
        assert_eq!(own, same);
        Some(names_of(actions))
    }

    fn received(&mut self, what: RecvEvent) -> Option<Vec<String>> {
        let permit = self.permit()?;
        Some(names_of(self.machine.handle_recv_event(permit, what, self.now)))
    }

    fn sent(&mut self, what: SendEvent) -> Option<Vec<String>> {
        self.is_sending().then(|| names_of(self.machine.handle_send_event(SendPermit(()), what)))
    }

    /// Returns the receive permit in use.
    fn permit(&self) -> Option<RecvPermit> {
        self.machine.recv_in_flight().then_some(RecvPermit(Holder::Reader))
    }

    fn is_sending(&self) -> bool {
        match &self.machine.state {
            State::Open(pipe) | State::UpgradePending(pipe, _) | State::HalfClosed(pipe, _) => {
                pipe.sending
            }
            State::Closed(Closed::Flushing(flushing)) => flushing.pipe.sending,
            State::Connecting(_)
            | State::Preamble(_)
            | State::Handshaking(_)
            | State::Closed(_)
            | State::Poisoned => false,
        }
    }

    // ------------------------------------------------------------- over TLS

    fn peer(&mut self) -> &mut Connection {
        self.peer.as_mut().expect("the connection uses TLS")
    }

    /// Returns the peer if its handshake is complete.
    fn open_peer(&mut self) -> Option<&mut Connection> {
        self.peer.as_mut().filter(|peer| !peer.is_handshaking())
    }

    /// Delivers the peer's output to the machine.
    fn ingest(&mut self) -> Option<Vec<String>> {
        let mut bytes = Vec::new();
        while self.peer().wants_write() {
            self.peer().write_tls(&mut bytes).expect("memory takes all");
        }
        self.ingest_bytes(&bytes)
    }

    fn ingest_bytes(&mut self, bytes: &[u8]) -> Option<Vec<String>> {
        let permit = self.permit().or_else(|| self.machine.begin_background_recv())?;
        let mut recv_buf = RecvBuf::new();
        recv_buf.spare_mut()[..bytes.len()].copy_from_slice(bytes);
        recv_buf.advance(bytes.len());
        Some(names_of(self.machine.ingest(permit, &mut recv_buf, || self.now)))
    }

    fn deliver(&mut self) {
        self.ingest().expect("the machine needs data");
    }

    /// Delivers all output of both sides.
    fn exchange(&mut self) {
        while let Some(mut transmit) = self.machine.next_transmit() {
            let mut bytes = transmit.bytes().to_vec();
            transmit.sent(bytes.len());
            drop(self.machine.transmit_done(&mut transmit));
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                self.peer().read_tls(&mut rest).expect("memory can be read");
                self.peer().process_new_packets().expect("the machine's records are valid");
            }
            bytes.clear();
        }
        if self.peer().wants_write() {
            self.deliver();
        }
    }
}

// -------------------------------------------------------------------- configuration

/// Shorter than the delays of a race, so that it expires first.
const CONNECT: Duration = Duration::from_millis(10);
const CLOSE: Duration = Duration::from_secs(5);
/// Of a client that the rules allow.
const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n";

#[expect(clippy::disallowed_methods, reason = "tests need a start time")]
fn base() -> Instant {
    static BASE: OnceLock<Instant> = OnceLock::new();
    *BASE.get_or_init(Instant::now)
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 1))
}

fn plan(target: Target, setup: Option<&TlsSetup>) -> Config {
    Config { connect_timeout: Some(CONNECT), tls: setup.cloned(), ..Config::new(target) }
}
