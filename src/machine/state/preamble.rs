//! Transitions of a preamble: the dialogue with a proxy on a connection that is established, or the wait for its PROXY
//! header on one that was accepted.

mod secured;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::dialogue::{Answer, Dialogue, Refusal};
use super::super::send_queue::SendQueue;
use super::super::tls::Summary;
use super::super::{Actions, Config, Fault, Input, PreambleDone, ProxyReply, Release, Step};
use super::handshaking::Handshaking;
use super::new_session::{new_session, start_handshake};
use super::opening::{ProxyAgain, ReadIntent, announce_connect_failed, connect_timer, open};
use super::routing::Routing;
use super::{ConnectFailed, Pipe, ProxyPart, State};
use crate::egress::IngressRules;
use crate::info::Timings;
use crate::tls::TlsSetup;

/// The part of a proxy in bytes that follow its answer before TLS begins, in words that follow its name.
const EARLY_PLAINTEXT: &str =
    "accepted, but plaintext followed before the TLS handshake: an attacker may have injected it";

/// The same after a PROXY header.
const EARLY_PLAINTEXT_OF_CLIENT: &str = "plaintext followed the PROXY header before the TLS handshake: an attacker may have injected it";

/// The part of a proxy in a handshake in which it sent nothing, in words that follow its name.
const SILENT_HANDSHAKE: &str = "answered nothing in the TLS handshake in time. Some servers and firewalls drop a \
                                ClientHello with a post-quantum key: try key_exchange_groups without 4588 in its options";

/// A dialogue before the connection is the user's.
#[derive(Debug)]
pub(in super::super) struct Preamble {
    /// The connection, with the TLS session of an `https` proxy.
    pipe: Pipe,
    dialogue: Dialogue,
    /// What is sent in plaintext.
    send_queue: SendQueue,
    /// Whether a receive was deferred until everything is sent.
    recv_deferred: bool,
    stage: Stage,
    /// Whether the wire has failed before everything was sent.
    is_cut_off: bool,
    started_at: Instant,
    timer: Option<Instant>,
    read_intent: ReadIntent,
    /// The setup for TLS with the target or the client.
    setup: Option<TlsSetup>,
    purpose: Purpose,
}

/// How far a dialogue has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The TLS handshake with an `https` proxy.
    Handshake,
    /// The dialogue itself.
    Dialogue,
    /// An `https` proxy has accepted, and a part of a record has followed its answer. Only the whole record shows whether
    /// it has data of the target.
    Accepted,
}

#[derive(Debug)]
enum Purpose {
    /// To reach a target through a proxy.
    Target {
        routing: Box<Routing>,
        /// The address of the proxy, and the number of attempts so far.
        again: Option<(SocketAddr, usize)>,
    },
    /// To learn from a PROXY header who the client is.
    Client { rules: Arc<IngressRules>, is_started: bool },
}

impl Purpose {
    /// Returns the time that earlier steps took.
    fn spent(&self) -> Timings {
        match self {
            Purpose::Target { routing, .. } => routing.spent(),
            Purpose::Client { .. } => Timings::default(),
        }
    }

    fn runs_foreign_code(&self) -> bool {
        matches!(self, Purpose::Target { routing, .. } if routing.runs_foreign_code())
    }
}

impl Preamble {
    /// Begins the dialogue with a proxy.
    pub(super) fn begin(
        routing: Box<Routing>,
        again: Option<(SocketAddr, usize)>,
        timer: Option<Instant>,
        read_intent: ReadIntent,
        setup: Option<TlsSetup>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let (dialogue, request) = routing.dialogue();
        let proxy_setup = routing.proxy_setup();
        let mut preamble = Box::new(Preamble {
            pipe: Pipe::default(),
            dialogue,
            send_queue: SendQueue::default(),
            recv_deferred: false,
            stage: if proxy_setup.is_some() { Stage::Handshake } else { Stage::Dialogue },
            is_cut_off: false,
            started_at: now,
            timer,
            read_intent,
            setup,
            purpose: Purpose::Target { routing, again },
        });
        match proxy_setup.map(|setup| new_session(setup, &[])) {
            None => {
                preamble.send_queue.push(&request);
                actions.transmit = true;
                actions.drive_recv = true;
                State::Preamble(preamble)
            }
            Some(Ok(session)) => {
                let session = session.with_proxy();
                start_handshake(&session, actions);
                preamble.pipe.tls = Some(session);
                State::Preamble(preamble)
            }
            Some(Err(failure)) => {
                let summary = Summary { failed_with_proxy: true, ..Summary::of(failure) };
                preamble.fail_tls(summary, Release::Close, now, actions)
            }
        }
    }

    /// Creates the state of a connection that exists already, and begins with a PROXY header.
    pub(super) fn established(rules: Arc<IngressRules>, config: Config, now: Instant) -> State {
        let timer = connect_timer(&config, now);
        State::Preamble(Box::new(Preamble::not_started(rules, timer, config.tls, now)))
    }

    fn not_started(
        rules: Arc<IngressRules>,
        timer: Option<Instant>,
        setup: Option<TlsSetup>,
        now: Instant,
    ) -> Self {
        Preamble {
            pipe: Pipe::default(),
            dialogue: Dialogue::proxy_header(),
            send_queue: SendQueue::default(),
            recv_deferred: false,
            stage: Stage::Dialogue,
            is_cut_off: false,
            started_at: now,
            timer,
            read_intent: ReadIntent::Wanted,
            setup,
            purpose: Purpose::Client { rules, is_started: false },
        }
    }

    /// Begins to wait for a PROXY header.
    pub(super) fn begin_header(
        rules: Arc<IngressRules>,
        timer: Option<Instant>,
        read_intent: ReadIntent,
        setup: Option<TlsSetup>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let preamble = Preamble::not_started(rules, timer, setup, now);
        Box::new(Preamble { read_intent, ..preamble }).start(actions)
    }

    pub(super) fn start(mut self: Box<Self>, actions: &mut Actions) -> State {
        if let Purpose::Client { is_started: is_started @ false, .. } = &mut self.purpose {
            *is_started = true;
            actions.drive_recv = true;
        }
        State::Preamble(self)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        input: Input<'_>,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match input {
            Input::TimerExpired if self.timer.is_some_and(|at| at <= now) => {
                self.time_out(now, actions)
            }
            Input::Close => {
                actions.shutdown_write = true;
                self.connect_failed(Fault::Closed, Ok(()), Release::Linger, now, actions)
            }
            Input::Abort | Input::AbortWrite => {
                let fault = Fault::Aborted;
                self.connect_failed(fault, Err(fault), Release::Reset, now, actions)
            }
            Input::CancelRead => {
                self.read_intent = ReadIntent::Cancelled;
                actions.wake.readable = true;
                State::Preamble(self)
            }
            Input::WireFailed(fault) => self.fail(fault, now, actions),
            Input::WireEof => self.end(now, actions),
            // Half-closing and upgrading wait, as while connecting.
            Input::PartialResolved(_)
            | Input::Resolved(_)
            | Input::Attempted { .. }
            | Input::TimerExpired
            | Input::CloseWrite
            | Input::StartTls { .. }
            | Input::UpgradeReady
            | Input::UnexpectedPlaintext { .. }
            | Input::Detach
            | Input::AllowHalfOpen => State::Preamble(self),
        }
    }

    /// Handles bytes at the front of the wire, of which the driver has received the part that belongs to the dialogue.
    /// Returns the length of that part.
    pub(super) fn advance(
        mut self: Box<Self>,
        seen: &[u8],
        now: Instant,
        actions: &mut Actions,
    ) -> (usize, State) {
        if self.is_tls() {
            return (0, State::Preamble(self));
        }
        let (own, answer) = self.dialogue.advance(seen);
        (own, self.answered(answer, seen.len() > own, now, actions))
    }

    /// Handles a part of an answer. `is_followed` says that more bytes are in sight.
    fn answered(
        mut self: Box<Self>,
        answer: Answer,
        is_followed: bool,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        match answer {
            Answer::Incomplete => State::Preamble(self),
            // The next message was not sent yet, so this is no answer to it.
            Answer::Send(_) if is_followed => self.refused(Refusal::unasked(), now, actions),
            Answer::Send(message) => {
                self.send(&message);
                actions.transmit = true;
                State::Preamble(self)
            }
            // The timeout covers all of it.
            Answer::Accepted if self.timer.is_some_and(|at| at <= now) => {
                self.time_out(now, actions)
            }
            // The proxy did not get all of the request, so this is no answer to it.
            Answer::Accepted if self.is_cut_off => self.end(now, actions),
            Answer::Accepted if !is_followed && self.awaits_record() => {
                self.stage = Stage::Accepted;
                State::Preamble(self)
            }
            Answer::Accepted => self.accepted(None, is_followed, now, actions),
            Answer::Header(_) if self.timer.is_some_and(|at| at <= now) => {
                self.time_out(now, actions)
            }
            Answer::Header(Some(client)) if !self.allows(client) => {
                self.deny_client(client, Fault::ClientDenied, now, actions)
            }
            Answer::Header(client) => self.accepted(client, is_followed, now, actions),
            Answer::Refused(refusal) => self.refused(refusal, now, actions),
        }
    }

    /// Returns how many bytes at the front of the wire belong to the dialogue.
    pub(in super::super) fn own_len(&self, seen: &[u8]) -> usize {
        if self.is_tls() {
            return 0;
        }
        self.dialogue.clone().advance(seen).0
    }

    /// Returns the client that the PROXY header names, if these bytes complete it and the rules allow the client, and how
    /// many sockets it may have open, if there is a limit.
    pub(in super::super) fn counted_client(&self, seen: &[u8]) -> Option<(SocketAddr, usize)> {
        let Purpose::Client { rules, .. } = &self.purpose else { return None };
        let max = rules.max_of_client()?;
        match self.dialogue.clone().advance(seen).1 {
            Answer::Header(Some(client)) if self.allows(client) => Some((client, max)),
            _ => None,
        }
    }

    fn allows(&self, client: SocketAddr) -> bool {
        match &self.purpose {
            Purpose::Client { rules, .. } => rules.allows(client.ip()),
            Purpose::Target { .. } => true,
        }
    }

    /// Denies the client that the PROXY header names.
    pub(super) fn deny_client(
        self,
        client: SocketAddr,
        fault: Fault,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        let words = match fault {
            Fault::ClientLimit => {
                format!("the client {} has max_per_client sockets open", client.ip())
            }
            _ => format!("the ingress rules deny the client {}", client.ip()),
        };
        let part = ProxyPart::Answered(words.into());
        self.fail_with(fault, Err(fault), part, Release::Reset, now, actions)
    }

    /// Continues with the target, or with the client that a PROXY header names. `is_followed` says that bytes of either
    /// are unread already.
    fn accepted(
        self,
        client: Option<SocketAddr>,
        is_followed: bool,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        if self.next_is_client() && is_followed && !planted!(TrustsPlaintext) {
            // A server has to wait for the ClientHello.
            let fault = Fault::UnreadPlaintext;
            let words = match self.purpose {
                Purpose::Target { .. } => EARLY_PLAINTEXT,
                Purpose::Client { .. } => EARLY_PLAINTEXT_OF_CLIENT,
            };
            let part = ProxyPart::Answered(words.into());
            return self.fail_with(fault, Err(fault), part, Release::Close, now, actions);
        }
        let took = self.purpose.spent().proxy + self.elapsed(now);
        actions.preamble = Some(PreambleDone { took, client });
        match self.setup {
            None => open(self.pipe, self.read_intent, actions),
            Some(setup) => {
                let outer = self.pipe.tls;
                Handshaking::begin(setup, outer, self.timer, self.read_intent, now, actions)
            }
        }
    }

    fn refused(mut self, refusal: Refusal, now: Instant, actions: &mut Actions) -> State {
        let took = self.elapsed(now);
        if let Purpose::Target { mut routing, again } = self.purpose {
            let tries_next = routing.on_refused(refusal.reply, again.is_some(), now);
            if let (true, Some((proxy, next_id))) = (tries_next, again) {
                routing.keep_refusal(refusal);
                routing.spend(Timings { proxy: took, ..Timings::default() });
                // A thread that waits for this wire has to wait for the next one.
                actions.wake.readable = true;
                let Preamble { pipe, timer, read_intent, setup, .. } = self;
                if let Some(mut tls) = pipe.tls {
                    actions.transmit = tls.close_notify();
                    routing.keep_ended(tls.into_summary());
                }
                actions.shutdown_write = true;
                actions.release_wire(Release::Linger);
                let again = ProxyAgain { routing, proxy, next_id, timer, read_intent, setup };
                return State::connecting_again(again, now, actions);
            }
            self.purpose = Purpose::Target { routing, again };
        }
        actions.shutdown_write = true;
        let fault = Fault::Proxy(refusal.reply);
        let part = ProxyPart::Answered(refusal.words);
        self.fail_with(fault, Err(fault), part, Release::Linger, now, actions)
    }

    fn time_out(self, now: Instant, actions: &mut Actions) -> State {
        let kind = self.timer_kind();
        let words = match (&self.purpose, self.stage) {
            (Purpose::Client { .. }, _) => kind.message(),
            (Purpose::Target { .. }, Stage::Handshake) if self.is_unanswered() => SILENT_HANDSHAKE,
            (Purpose::Target { .. }, Stage::Handshake) => {
                "did not complete the TLS handshake in time"
            }
            (Purpose::Target { .. }, Stage::Dialogue) => "did not answer in time",
            (Purpose::Target { .. }, Stage::Accepted) => {
                "accepted, but completed no record behind its answer in time"
            }
        };
        let fault = Fault::TimedOut(kind);
        let part = ProxyPart::Answered(words.into());
        self.fail_with(fault, Err(fault), part, Release::Close, now, actions)
    }

    /// Handles the proxy's EOF.
    pub(super) fn end(self, now: Instant, actions: &mut Actions) -> State {
        let reply = ProxyReply::Disconnected;
        let words = match self.purpose {
            Purpose::Target { .. } => reply.words(),
            Purpose::Client { .. } => {
                "the connection ended before the PROXY header was complete".into()
            }
        };
        let part = ProxyPart::Answered(words.into());
        let fault = Fault::Proxy(reply);
        self.fail_with(fault, Err(fault), part, Release::Close, now, actions)
    }

    /// Handles a failure of the wire.
    pub(super) fn fail(self, fault: Fault, now: Instant, actions: &mut Actions) -> State {
        match fault {
            Fault::Reset(_) | Fault::ResetAfterEnd(_) => self.end(now, actions),
            fault => {
                let part = match self.purpose {
                    Purpose::Target { .. } => ProxyPart::Unreachable,
                    Purpose::Client { .. } => ProxyPart::None,
                };
                self.fail_with(fault, Err(fault), part, Release::Close, now, actions)
            }
        }
    }

    fn connect_failed(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        release: Release,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        self.fail_with(fault, outcome, ProxyPart::None, release, now, actions)
    }

    fn fail_with(
        self,
        fault: Fault,
        outcome: Result<(), Fault>,
        proxy: ProxyPart,
        release: Release,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        self.fail_with_summary(fault, outcome, proxy, release, Summary::default(), now, actions)
    }

    #[expect(clippy::too_many_arguments, reason = "each way to fail sets some of them")]
    fn fail_with_summary(
        mut self,
        fault: Fault,
        outcome: Result<(), Fault>,
        proxy: ProxyPart,
        release: Release,
        mut summary: Summary,
        now: Instant,
        actions: &mut Actions,
    ) -> State {
        if let Some(mut tls) = self.pipe.tls.take() {
            // An orderly end, as far as the proxy still reads.
            actions.transmit |= release != Release::Reset && tls.close_notify();
            summary = tls.into_summary();
        }
        summary.discard_setup(self.setup.take());
        actions.release_wire(release);
        let took = self.elapsed(now);
        let mut timings = self.purpose.spent();
        timings.proxy += took;
        let attempts = match self.purpose {
            Purpose::Target { routing, .. } => routing.into_failed_with(fault, now),
            Purpose::Client { .. } => Vec::new(),
        };
        let failed = ConnectFailed {
            fault,
            outcome,
            step: Some(Step::Proxy),
            timings,
            attempts,
            summary: Some(Box::new(summary)),
            proxy,
            announced: true,
        };
        announce_connect_failed(failed, actions)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started_at)
    }
}
