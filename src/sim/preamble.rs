//! Dialogues with proxies that answer anything, in any pieces, and accepted connections that begin with any PROXY header.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::rules::{CheckResult, rule};
use super::scenario::ByteSource;
use crate::egress::IngressRules;
use crate::error::{Fault, ProxyReply};
use crate::machine::{
    Actions, Background, Config, Endpoints, Input, Machine, RecvEvent, Release, Route, Target,
};
use crate::proxy::Proxy;

/// The maximum number of bytes of an answer: 16 KiB are read at most.
const MAX_ANSWER: usize = 16 * 1024;
/// The maximum number of bytes of a PROXY header.
const MAX_HEADER: usize = 4 * 1024;
/// The maximum length of the words about an answer, in bytes. A reason has at most 120 characters, each escaped.
const MAX_WORDS: usize = 2048;
/// The words about an answer that came before its question.
const EARLY: &str = "answered before it was asked";
/// A part of the credentials, which no text may contain.
const SECRET: &str = "s3cret";
/// What no text may repeat: parts of [`SECRET`], as it is and as HTTP Basic encodes it.
const SECRETS: [&str; 3] = ["s3cr", "cret", "czNj"];

/// Answers that are valid, to be changed.
const ANSWERS: [&[u8]; 12] = [
    b"HTTP/1.1 400 ",
    b"\x05\x02\x01",
    b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n220 ready\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299\n\n2",
    b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
    b"\x05\x00\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34220 ready\r\n",
    b"\x05\x02\x01\x00\x05\x00\x00\x03\x05relay\x12\x34",
    b"\x05\x02\x01\x01",
    b"\x05\x00\x05\x04\x00\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x34",
    b"\x00\x5a\x12\x34\x7f\x00\x00\x01220 ready\r\n",
    b"\x00\x5b\x12\x34\x7f\x00\x00\x01",
    b"",
];

/// PROXY headers that are valid, to be changed.
const HEADERS: [&[u8]; 8] = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r\n220",
    b"PROXY TCP4 192.0.2.66 198.51.100.1 1 2\r\n",
    b"PROXY TCP6 2001:db8::1 ::1 65535 0\r\n\x16\x03\x01",
    b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x7f\0\0\x01\0\x01\0\x02\x04\0\x00220",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x42\x7f\0\0\x01\0\x01\0\x02",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET",
    b"",
];
/// The client that the rules deny.
const DENIED: &str = "192.0.2.66";

pub(super) struct PreambleScenario {
    /// The way through a proxy. `None` accepts a connection that begins with a PROXY header.
    route: Option<Route>,
    /// What the proxy sends, and the target after it.
    wire: Vec<u8>,
    /// Whether the proxy sends back all that it gets, after that.
    echoes: bool,
}

/// How a dialogue ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The socket is open after this number of bytes, with the client that a header named.
    Open(usize, Option<SocketAddr>),
    Refused(ProxyReply),
    /// The proxy answered before it was asked, which shows only if both are in sight together.
    Early,
    /// The rules deny the client, or it has too many sockets.
    Denied(Fault),
}

impl PreambleScenario {
    pub(super) fn new(source: &mut ByteSource<'_>) -> Self {
        let flags = source.byte();
        let address = SocketAddr::from(([192, 0, 2, 1], 1080));
        let proxy = match flags % 3 {
            0 => Proxy::http(address),
            1 => Proxy::socks5(address),
            _ => Proxy::socks4a(address),
        };
        let password = if flags % 3 == 2 { "" } else { SECRET };
        let proxy = match flags & 8 {
            0 => proxy,
            _ => proxy.and_then(|proxy| proxy.credentials(SECRET, password)),
        };
        let proxy = match (flags & 64, flags % 3) {
            (64, 0) => proxy.and_then(|proxy| proxy.header("X-Key", SECRET)),
            _ => proxy,
        };
        let target = if flags & 16 == 0 { "target.test:443" } else { "198.51.100.1:443" };
        let target = target.parse().expect("the address is valid");
        let route = proxy.and_then(|proxy| Route::new(&proxy, &target));
        let is_header = flags & 128 != 0;
        let originals: &[&[u8]] = if is_header { &HEADERS } else { &ANSWERS };
        let mut wire = originals[usize::from(source.byte()) % originals.len()].to_vec();
        for _ in 0..source.byte() % 4 {
            let (place, byte) = (usize::from(source.byte()), source.byte());
            if let Some(at) = place.checked_rem(wire.len()) {
                wire[at] = byte;
            }
        }
        let more = usize::from(source.byte());
        wire.extend((0..more).map(|_| source.byte()));
        let route = route.expect("the settings are valid");
        let route = Some(route).filter(|_| !is_header);
        PreambleScenario { route, wire, echoes: flags & 32 != 0 }
    }

    /// Delivers the answer in one piece, byte by byte, and in pieces from `source`. All must have the same result.
    pub(super) fn run(&self, mut source: ByteSource<'_>) -> CheckResult {
        let whole = self.play(|| usize::MAX)?;
        let bytewise = self.play(|| 1)?;
        let pieces = self.play(|| usize::from(source.byte() % 16) + 1)?;
        rule(bytewise != End::Early, "one byte is followed by nothing")?;
        let agrees = |end| end == bytewise || end == End::Early;
        rule(agrees(whole) && agrees(pieces), "the pieces of an answer change no result")
    }

    #[expect(clippy::disallowed_methods, reason = "the start of virtual time")]
    fn play(&self, mut piece: impl FnMut() -> usize) -> Result<End, &'static str> {
        let mut now = Instant::now();
        let proxy = SocketAddr::from(([192, 0, 2, 1], 1080));
        let config = Config {
            route: self.route.clone(),
            header_rules: self.route.is_none().then(rules),
            connect_timeout: None,
            ..Config::new(Target::Address(proxy))
        };
        let mut machine = match self.route {
            Some(_) => self.dial(config, proxy, now)?,
            None => {
                let mut machine = Machine::established(config, now);
                let actions = machine.start(now);
                rule(actions.drive_recv && !actions.wake.opened, "a header comes first")?;
                machine
            }
        };
        let mut rest: VecDeque<u8> = self.wire.iter().copied().collect();
        let mut sent = String::new();
        self.send_all(&mut machine, &mut rest, &mut sent)?;
        let (mut in_sight, mut consumed) = (Vec::new(), 0);
        loop {
            now += Duration::from_millis(1);
            rule(machine.background() == Background::Preamble, "an unfinished preamble stays one")?;
            let permit = machine.begin_background_recv().ok_or("a preamble wants an answer")?;
            if in_sight.is_empty() {
                let next = piece().min(rest.len());
                in_sight.extend(rest.drain(..next));
            }
            let actions = if in_sight.is_empty() {
                machine.handle_recv_event(permit, RecvEvent::Eof, now)
            } else {
                let own = machine.preamble_len(&in_sight);
                let counted = machine.counted_client(&in_sight);
                let actions = match counted.filter(|(client, _)| client.port() % 2 == 0) {
                    // It has a socket already.
                    Some((client, _)) => machine.deny_client(permit, client, now),
                    None => {
                        let (same, actions) = machine.handle_preamble(permit, &in_sight, now);
                        rule(own == same, "a length is announced as it is")?;
                        let named = actions.preamble.and_then(|done| done.client);
                        rule(named == counted.map(|it| it.0), "an allowed client is counted")?;
                        actions
                    }
                };
                rule((1..=in_sight.len()).contains(&own), "a part of what is seen belongs to it")?;
                rule(counted.is_none_or(|(_, max)| max == 1), "the limit is that of the rules")?;
                in_sight.drain(..own);
                let is_asked = in_sight.is_empty() || !machine.has_unsent();
                rule(is_asked, "what is in sight before a message is no answer to it")?;
                consumed += own;
                actions
            };
            let max = if self.route.is_some() { MAX_ANSWER + 1 } else { MAX_HEADER };
            rule(consumed <= max, "a preamble is bounded")?;
            if let Some(end) = end_of(&machine, &actions, consumed, &sent)? {
                return Ok(end);
            }
            self.send_all(&mut machine, &mut rest, &mut sent)?;
        }
    }

    /// Connects to the proxy.
    fn dial(
        &self,
        config: Config,
        proxy: SocketAddr,
        now: Instant,
    ) -> Result<Machine, &'static str> {
        let mut machine = Machine::new(config, now);
        let attempt = machine.start(now).attempt.ok_or("the proxy is dialled")?;
        let result = Ok(Endpoints::new(proxy, None));
        let actions = machine.handle(Input::Attempted { id: attempt.id, result }, now);
        rule(actions.transmit && !actions.wake.opened, "a request comes first")?;
        Ok(machine)
    }

    /// Sends what is queued, and appends it to `sent`. An echo appears at the end of `rest`.
    fn send_all(
        &self,
        machine: &mut Machine,
        rest: &mut VecDeque<u8>,
        sent: &mut String,
    ) -> CheckResult {
        while let Some(mut transmit) = machine.next_transmit() {
            let waits = machine.begin_background_recv().is_none();
            rule(waits, "no answer is read before the request is sent")?;
            if self.echoes {
                rest.extend(transmit.bytes());
            }
            sent.push_str(&String::from_utf8_lossy(transmit.bytes()));
            let bytes = transmit.bytes().len();
            transmit.sent(bytes);
            drop(machine.transmit_done(&mut transmit));
        }
        rule(!machine.has_unsent(), "everything is sent")
    }
}

/// Deny [`DENIED`], and limit each client to one socket.
fn rules() -> Arc<IngressRules> {
    let rules = IngressRules::allow_all().deny_net(DENIED).expect("the net is valid");
    Arc::new(rules.max_per_client(1))
}

fn end_of(
    machine: &Machine,
    actions: &Actions,
    consumed: usize,
    sent: &str,
) -> Result<Option<End>, &'static str> {
    match machine.opened() {
        None => {
            rule(!actions.wake.opened && actions.release.is_none(), "nothing has ended")?;
            Ok(None)
        }
        Some(Ok(())) => {
            let done = actions.preamble.filter(|_| actions.wake.opened);
            let client = done.ok_or("the end is reported")?.client;
            let denied: IpAddr = DENIED.parse().expect("the address is valid");
            rule(client.is_none_or(|it| it.ip() != denied), "no denied client gets in")?;
            Ok(Some(End::Open(consumed, client)))
        }
        Some(Err(fault @ (Fault::ClientDenied | Fault::ClientLimit))) => {
            let resets = actions.release == Some(Release::Reset);
            rule(actions.wake.opened && resets, "a denied client is reset")?;
            Ok(Some(End::Denied(fault)))
        }
        Some(Err(Fault::Proxy(reply))) => {
            rule(actions.wake.opened && actions.release.is_some(), "a refusal ends the socket")?;
            let words = machine.proxy_answer().ok_or("a refusal has words")?;
            rule(words.len() <= MAX_WORDS, "the words about an answer are bounded")?;
            rule(!words.chars().any(char::is_control), "the words about an answer are escaped")?;
            // A proxy that hits on a part that it never got repeats nothing.
            let repeats = SECRETS.iter().any(|part| sent.contains(part) && words.contains(part));
            rule(!repeats, "no text has credentials")?;
            Ok(Some(match words {
                EARLY => End::Early,
                _ => End::Refused(reply),
            }))
        }
        Some(Err(_)) => Err("only the proxy's answer fails the socket"),
    }
}
