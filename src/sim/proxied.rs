//! Scenarios through an `https` proxy: its settings and the steps that concern it, decoded from bytes.

use std::time::Duration;

use super::scenario::{ByteSource, ScenarioKind, ServerSetup, Step};
use super::targets::{LookupPart, Names, address};
use super::tls;
use crate::machine::{Config, Route, Target};
use crate::proxy::Proxy;

/// The target behind the proxy.
pub(super) const TARGET: &str = "target.test:443";

/// The configuration of an `https` proxy, and of the machine's session with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxySetup {
    /// The TLS of the proxy. The target has its own.
    pub(super) tls: ServerSetup,
    /// The answers on the first connection, and on all later ones.
    answers: [u8; 2],
    pub(super) fault: ProxyFault,
    /// Whether the proxy encrypts at once what it has. If not, a step says how much goes into a record.
    pub(super) is_prompt: bool,
    /// Whether the proxy ends the connection after a refusal.
    pub(super) ends_after_refusal: bool,
    /// Whether the machine resolves the target's name, and dials the proxy again for another address.
    pub(super) resolves_locally: bool,
}

/// What a proxy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyFault {
    None,
    /// It ends its session as soon as the handshake is over.
    EndsAfterHandshake,
    /// It ends its session right behind its answer.
    EndsBehindAnswer,
    /// It answers as soon as it can send, whatever the request.
    AnswersEarly,
    /// It receives nothing.
    Silent,
}

/// An answer to the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProxyAnswer {
    pub(super) bytes: &'static [u8],
    pub(super) meaning: Meaning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Accepts,
    /// It refuses with this status.
    Refuses(u16),
    Malformed,
    /// The answer never ends.
    Unfinished,
}

/// The answers. The first three accept, and are the most frequent.
const ANSWERS: [ProxyAnswer; 8] = [
    ProxyAnswer { bytes: b"HTTP/1.1 200 OK\r\n\r\n", meaning: Meaning::Accepts },
    ProxyAnswer {
        bytes: b"HTTP/1.1 200 Connection established\r\nVia: 1.1 sim\r\nContent-Length: 5\r\n\r\n",
        meaning: Meaning::Accepts,
    },
    ProxyAnswer {
        bytes: b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 299\n\n",
        meaning: Meaning::Accepts,
    },
    ProxyAnswer { bytes: b"HTTP/1.1 403 Forbidden\r\n\r\nGo away", meaning: Meaning::Refuses(403) },
    ProxyAnswer {
        bytes: b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Basic\r\n\r\n",
        meaning: Meaning::Refuses(407),
    },
    ProxyAnswer { bytes: b"HTTP/1.1 502 Unreachable\r\n\r\n", meaning: Meaning::Refuses(502) },
    ProxyAnswer { bytes: b"\x05\x00\x05\x00\x00\x01", meaning: Meaning::Malformed },
    ProxyAnswer { bytes: b"HTTP/1.1 2", meaning: Meaning::Unfinished },
];

/// The choice of the answer 502.
const UNREACHABLE: u8 = 29;

impl ScenarioKind {
    /// Returns whether an `https` proxy is between the machine and its peer.
    pub(super) fn is_proxied(self) -> bool {
        match self {
            ScenarioKind::ToProxy | ScenarioKind::Proxied | ScenarioKind::ProxiedUpgrade => true,
            ScenarioKind::Plain
            | ScenarioKind::Secure
            | ScenarioKind::Upgrade
            | ScenarioKind::Pair
            | ScenarioKind::Serve
            | ScenarioKind::ServeUpgrade => false,
        }
    }

    /// Returns whether the machine may be upgraded to TLS with its peer.
    pub(super) fn may_upgrade(self) -> bool {
        match self {
            ScenarioKind::Upgrade | ScenarioKind::ServeUpgrade | ScenarioKind::ProxiedUpgrade => {
                true
            }
            ScenarioKind::Plain
            | ScenarioKind::Secure
            | ScenarioKind::Pair
            | ScenarioKind::Serve
            | ScenarioKind::ToProxy
            | ScenarioKind::Proxied => false,
        }
    }
}

impl ProxySetup {
    pub(super) fn decode(
        violent: bool,
        server: ServerSetup,
        source: &mut ByteSource<'_>,
    ) -> ProxySetup {
        let (flags, more_flags) = (source.byte(), source.byte());
        let resolves_locally = flags & 192 == 192;
        let answers = match source.byte() % 32 {
            // The proxy cannot reach the first address.
            0..=9 if resolves_locally => [UNREACHABLE, source.byte() % 32],
            first => [first, source.byte() % 32],
        };
        ProxySetup {
            tls: ServerSetup {
                tls13: flags & 1 == 0,
                short_records: flags & 6 == 6,
                require_close_notify: server.require_close_notify,
                foreign: flags & 24 == 24,
                serves: false,
                go_ahead: false,
            },
            answers,
            fault: match more_flags % 16 {
                0 if violent => ProxyFault::EndsAfterHandshake,
                1 if violent => ProxyFault::EndsBehindAnswer,
                2 if violent => ProxyFault::AnswersEarly,
                3 if violent => ProxyFault::Silent,
                _ => ProxyFault::None,
            },
            is_prompt: flags & 32 == 0,
            ends_after_refusal: more_flags & 16 == 0,
            resolves_locally,
        }
    }

    /// Changes the names of a machine so that they suit its proxy.
    pub(super) fn adapt(&self, names: &mut Names) {
        // The rules judge no address of a proxy.
        names.denied = 0;
        if self.resolves_locally {
            if names.answers.is_empty() {
                names.answers.push(LookupPart { after: Duration::ZERO, first: 1, mask: 0x0E });
            }
            names.ends = names.ends.or(Some(Ok(Duration::ZERO)));
        }
    }

    /// Sends a machine through the proxy.
    pub(super) fn apply(&self, config: &mut Config) {
        if self.resolves_locally {
            // The lookup is that of the target.
            config.target = Target::Address(address(0));
        }
        let proxy = Proxy::http(address(0)).expect("the address is valid");
        let proxy = if self.resolves_locally { proxy.resolve_locally() } else { proxy };
        let target = TARGET.parse().expect("the address is valid");
        let route = Route::new(&proxy, &target).expect("the proxy can get the name");
        config.route = Some(route.secured(tls::setup(self.tls)));
    }

    /// Returns the answer to the request on a connection; `earlier` is the number of those before.
    pub(super) fn answer(&self, earlier: usize) -> ProxyAnswer {
        let choice = usize::from(self.answers[earlier.min(1)]);
        match choice {
            0..=26 => ANSWERS[choice % 3],
            _ => ANSWERS[choice - 24],
        }
    }
}

impl Step {
    /// Decodes a step that only scenarios with a proxy have, or that is more frequent there. Returns `None` for other
    /// operations.
    pub(super) fn decode_proxied(
        operation: u8,
        violent: bool,
        source: &mut ByteSource<'_>,
    ) -> Option<Step> {
        Some(match operation & 0x7F {
            16..=19 if violent => match operation & 0x80 {
                0 => Step::ProxyEnd { behind: Some(source.size()) },
                _ => Step::ProxyEnd { behind: None },
            },
            41 if violent => Step::ProxyFin,
            82 | 83 | 90 | 91 => Step::ProxyPass(source.size()),
            96 if violent => Step::Inject(source.size()),
            97 => Step::ProxyNewKeys,
            108..=110 if violent => Step::Corrupt {
                from: usize::from(operation >> 7),
                at: source.size() - 1,
                bit: source.byte() % 8,
            },
            _ => return None,
        })
    }
}
