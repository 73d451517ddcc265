//! The addresses of a target behind a proxy: judged by the egress rules, and tried one after another.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::super::dialogue::{Dialogue, Refusal};
use super::super::happy_eyeballs::{MAX_CHECKED, MAX_DENIED};
use super::super::route::Route;
use super::super::tls::Summary;
use super::super::{Config, FailedAttempt, Fault, ProxyReply};
use crate::egress::EgressRules;
use crate::timings::Timings;
use crate::tls::TlsSetup;

/// The maximum number of addresses of one target that are tried through a proxy.
const MAX_TARGETS: usize = 4;

/// The way to a target through a proxy, from the start to the proxy's answer.
#[derive(Debug)]
pub(super) struct Routing {
    route: Route,
    egress: Option<Arc<EgressRules>>,
    bind: Option<SocketAddr>,
    addresses: Addresses,
    /// The last refusal after which the proxy was dialled again.
    refusal: Option<Refusal>,
    /// The addresses that were denied or tried.
    failed: Vec<FailedAttempt>,
    /// The start of the lookup, or of the current connection to the proxy.
    started_at: Option<Instant>,
    /// The time that earlier steps took.
    spent: Timings,
    /// The remains of TLS on the last connection to the proxy.
    ended: Option<Box<Summary>>,
}

#[derive(Debug)]
enum Addresses {
    /// The proxy gets the name.
    None,
    /// The lookup is pending; these were found so far.
    LookingUp(Vec<SocketAddr>),
    /// The address that the proxy gets, and those to try after it.
    Known(SocketAddr, VecDeque<SocketAddr>),
    /// The last one was denied.
    Denied,
}

impl Routing {
    pub(super) fn new(config: &Config, route: Route) -> Self {
        let addresses = match (route.has_lookup(), route.literal()) {
            (true, _) => Addresses::LookingUp(Vec::new()),
            (false, Some(literal)) => Addresses::Known(literal, VecDeque::new()),
            (false, None) => Addresses::None,
        };
        Routing {
            route,
            egress: config.egress.clone(),
            bind: config.bind,
            addresses,
            refusal: None,
            failed: Vec::new(),
            started_at: None,
            spent: Timings::default(),
            ended: None,
        }
    }

    /// Returns the setup for TLS with the proxy.
    pub(super) fn proxy_setup(&self) -> Option<TlsSetup> {
        self.route.proxy_setup().cloned()
    }

    pub(super) fn runs_foreign_code(&self) -> bool {
        self.route.proxy_setup().is_some_and(TlsSetup::runs_foreign_code)
    }

    /// Keeps the remains of TLS on a connection to the proxy, of which another one follows.
    pub(super) fn keep_ended(&mut self, summary: Summary) {
        self.ended = Some(Box::new(summary));
    }

    pub(super) fn ended_mut(&mut self) -> Option<&mut Summary> {
        self.ended.as_deref_mut()
    }

    pub(super) fn is_started(&self) -> bool {
        self.started_at.is_some()
    }

    /// Begins. Returns whether the target is to be looked up first.
    pub(super) fn start(&mut self, now: Instant) -> Result<bool, Fault> {
        self.started_at = Some(now);
        match self.addresses {
            Addresses::LookingUp(_) => Ok(true),
            Addresses::Known(literal, _) => {
                self.judge(literal)?;
                Ok(false)
            }
            Addresses::None | Addresses::Denied => Ok(false),
        }
    }

    /// Returns whether the target is being looked up.
    pub(super) fn is_looking_up(&self) -> bool {
        matches!(self.addresses, Addresses::LookingUp(_))
    }

    /// Adds addresses from the resolver; `last` says that no more follow. Returns whether the proxy can be dialled.
    pub(super) fn on_resolved(
        &mut self,
        answer: Result<&[SocketAddr], Fault>,
        last: bool,
        now: Instant,
    ) -> Result<bool, Fault> {
        let Addresses::LookingUp(found) = &mut self.addresses else { return Ok(false) };
        match answer {
            Ok(addresses) => {
                let room = MAX_CHECKED.saturating_sub(found.len());
                found.extend(addresses.iter().take(room));
            }
            Err(fault) if found.is_empty() => return Err(fault),
            Err(_) => {}
        }
        if !last {
            return Ok(false);
        }
        let found = std::mem::take(found);
        if found.is_empty() {
            return Err(Fault::NoAddress);
        }
        let supported: Vec<_> = found.into_iter().filter(|it| self.route.supports(*it)).collect();
        let mut denied = None;
        let mut allowed = VecDeque::new();
        for address in alternate(&supported) {
            if allowed.len() == MAX_TARGETS {
                break;
            }
            match self.judge(address) {
                Ok(()) => allowed.push_back(address),
                Err(fault) => denied = denied.or(Some(fault)),
            }
        }
        match (allowed.pop_front(), denied) {
            (Some(first), _) => {
                self.spent = self.spent.plus(self.lookup_time(now));
                self.addresses = Addresses::Known(first, allowed);
                self.started_at = Some(now);
            }
            (None, Some(fault)) => return Err(fault),
            (None, None) => return Err(Fault::NoAddressForProxy),
        }
        Ok(true)
    }

    /// Begins the dialogue for the current address. Returns it and its first bytes.
    pub(super) fn dialogue(&self) -> (Dialogue, Vec<u8>) {
        self.route.dialogue(self.current())
    }

    /// Handles the refusal of the current address. Returns whether another one is to be tried, if the proxy
    /// `can_be_dialled` again.
    pub(super) fn on_refused(
        &mut self,
        reply: ProxyReply,
        can_be_dialled: bool,
        now: Instant,
    ) -> bool {
        let elapsed = self.since_start(now);
        let Addresses::Known(current, rest) = &mut self.addresses else { return false };
        if !self.route.has_lookup() {
            return false;
        }
        let fault = Fault::Proxy(reply);
        self.failed.push(FailedAttempt { address: *current, fault, elapsed });
        match rest.pop_front() {
            Some(next) if can_be_dialled && says_unreachable(reply) => {
                *current = next;
                self.started_at = Some(now);
                true
            }
            Some(_) | None => {
                self.addresses = Addresses::None;
                false
            }
        }
    }

    /// Records that the current address is denied. Returns whether another one follows, if it `may_follow`.
    pub(super) fn deny_current(&mut self, fault: Fault, may_follow: bool) -> bool {
        let Addresses::Known(current, rest) = &mut self.addresses else { return false };
        let elapsed = Default::default();
        self.failed.push(FailedAttempt { address: *current, fault, elapsed });
        match rest.pop_front().filter(|_| may_follow) {
            Some(next) => *current = next,
            None => self.addresses = Addresses::Denied,
        }
        !self.is_denied()
    }

    /// Keeps a refusal, for the case that all further addresses are denied.
    pub(super) fn keep_refusal(&mut self, refusal: Refusal) {
        self.refusal = Some(refusal);
    }

    pub(super) fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self.addresses, Addresses::Denied)
    }

    /// Returns whether the proxy may be dialled more than once. A fixed port serves one connection at a time, and the
    /// first one has not ended when the next begins.
    pub(super) fn may_dial_again(&self) -> bool {
        self.bind.is_none_or(|bind| bind.port() == 0)
    }

    /// Adds the time that connecting to the proxy, or the dialogue, took.
    pub(super) fn spend(&mut self, more: Timings) {
        self.spent = self.spent.plus(more);
    }

    /// Returns the time that all steps took.
    pub(super) fn spent(&self) -> Timings {
        self.spent
    }

    pub(super) fn bind(&self) -> Option<SocketAddr> {
        self.bind
    }

    pub(super) fn egress(&self) -> Option<Arc<EgressRules>> {
        self.egress.clone()
    }

    /// Returns the address that the proxy gets in place of the name, or is about to get.
    pub(super) fn current(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Known(current, _) => Some(current),
            Addresses::None | Addresses::LookingUp(_) | Addresses::Denied => None,
        }
    }

    /// Returns the time since the lookup began.
    pub(super) fn lookup_time(&self, now: Instant) -> Timings {
        Timings { resolve: self.since_start(now), ..Timings::default() }
    }

    pub(super) fn into_failed(self) -> Vec<FailedAttempt> {
        self.failed
    }

    /// Like [`into_failed`](Self::into_failed), when the dialogue for the current address fails.
    pub(super) fn into_failed_with(mut self, fault: Fault, now: Instant) -> Vec<FailedAttempt> {
        if let (true, Addresses::Known(address, _)) = (self.route.has_lookup(), &self.addresses) {
            let (address, elapsed) = (*address, self.since_start(now));
            self.failed.push(FailedAttempt { address, fault, elapsed });
        }
        self.failed
    }

    fn since_start(&self, now: Instant) -> std::time::Duration {
        self.started_at.map_or_else(Default::default, |at| now.saturating_duration_since(at))
    }

    /// Checks whether the proxy may get an address. Records an address that is denied.
    fn judge(&mut self, address: SocketAddr) -> Result<(), Fault> {
        let judged = self.egress.as_ref().map_or(Ok(()), |rules| rules.check(address));
        judged.inspect_err(|&fault| {
            if self.failed.len() < MAX_DENIED {
                let elapsed = Default::default();
                self.failed.push(FailedAttempt { address, fault, elapsed });
            }
        })
    }
}

/// Returns the addresses with alternating families, beginning with that of the first one (RFC 8305, section 4), each
/// once.
fn alternate(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let Some(first) = addresses.first() else { return Vec::new() };
    let of = |is_first: bool| {
        let family = move |it: &&SocketAddr| (it.is_ipv4() == first.is_ipv4()) == is_first;
        addresses.iter().filter(family)
    };
    let (mut own, mut other) = (of(true), of(false));
    let mut ordered = Vec::new();
    loop {
        let pair = [own.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        for address in pair.into_iter().flatten() {
            if !ordered.contains(address) {
                ordered.push(*address);
            }
        }
    }
}

/// Returns whether a reply says that the proxy cannot reach the address, so that another one may work.
fn says_unreachable(reply: ProxyReply) -> bool {
    matches!(
        reply,
        ProxyReply::Http(500 | 502..=504)
            | ProxyReply::Socks5(1 | 3..=6 | 8)
            | ProxyReply::Socks4(91)
    )
}
