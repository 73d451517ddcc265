//! Builds the message of a failed connection, which contains each reason and each address once.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use super::fault::{FailedAttempt, Fault};
use super::kind::ErrorKind;

/// The message of the Workers platform for every refusal except that of port 25.
pub(crate) const DENIED_MESSAGE: &str =
    "proxy request failed, cannot connect to the specified address";

/// The explanation of a denial by the egress rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DenialText {
    /// The rule that decided, in plain words.
    pub(crate) reason: String,
    /// The message that the Workers platform documents.
    pub(crate) platform_message: &'static str,
}

impl fmt::Display for DenialText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.platform_message)
    }
}

/// Maximum number of addresses or denials in a message. [`Error::attempts`](super::Error::attempts) has all of them.
const MAX_LISTED: usize = 4;

/// Returns the message for a denied host, port or address. It begins with the rule's reason.
pub(super) fn denied(
    reason: &dyn fmt::Display,
    platform_message: &str,
    requested: &dyn fmt::Display,
) -> String {
    format!("{reason}: {platform_message} ({requested})")
}

/// What a failure has to do with the proxy of the connection.
#[derive(Clone, Copy)]
pub(crate) enum ProxyBlame<'a> {
    /// The proxy could not be reached.
    Unreachable(&'a dyn fmt::Display),
    /// The proxy's answer, in words.
    Answer(&'a dyn fmt::Display, &'a str),
    /// The PROXY header of an accepted connection, in words.
    Header(&'a str),
}

/// Returns the message for a connection that never opened. `denials` explains those attempts that the rules denied.
pub(super) fn connect_failed(
    fault: Fault,
    requested: &dyn fmt::Display,
    proxy: Option<ProxyBlame<'_>>,
    failed: &[FailedAttempt],
    denials: &[Option<DenialText>],
) -> String {
    let mut requested = requested.to_string();
    let concerns_proxy = matches!(proxy, Some(ProxyBlame::Unreachable(_)));
    let mut reasons = Reasons::new(failed, denials, concerns_proxy);
    if fault.kind() == ErrorKind::Denied && !reasons.denials.is_empty() {
        let platform_message = reasons.denials[0].platform_message;
        let denials = List(&reasons.denials, "; ", reason_of);
        return denied(&denials, platform_message, &requested);
    }
    let mut message = format!("cannot connect to {requested}");
    match proxy {
        Some(ProxyBlame::Header(words)) => {
            return format!("cannot accept the connection from {requested}: {words}");
        }
        Some(ProxyBlame::Answer(proxy, words)) => {
            message.push_str(&format!(": proxy {proxy} {words}"));
            return message;
        }
        Some(ProxyBlame::Unreachable(proxy)) => {
            message.push_str(&format!(": cannot reach proxy {proxy}"));
            // The attempts are to addresses of the proxy.
            requested = proxy.to_string();
        }
        None => {}
    }
    let mut separator = ": ";
    // The reasons of attempts are more specific than "the connection failed" or a denial.
    let general = fault.kind() == ErrorKind::Connect || fault.is_denial();
    if failed.is_empty() || !general {
        reasons.first(fault.reason());
    }
    for (reason, addresses) in &reasons.groups {
        message.push_str(separator);
        message.push_str(reason);
        let others: Vec<_> =
            addresses.iter().filter(|address| address.to_string() != requested).collect();
        if !others.is_empty() {
            let addresses = List(&others, ", ", |address: &&SocketAddr| **address);
            message.push_str(&format!(" ({addresses})"));
        }
        separator = "; ";
    }
    if let Some(denial) = reasons.denials.first() {
        let denials = List(&reasons.denials, "; ", reason_of);
        message.push_str(&format!("{separator}{denials}: {}", denial.platform_message));
    }
    message
}

fn reason_of<'a>(denial: &'a &DenialText) -> &'a str {
    &denial.reason
}

/// Reasons why attempts failed.
struct Reasons<'a> {
    /// Each reason, with the addresses that failed for it.
    groups: Vec<(Cow<'static, str>, Vec<SocketAddr>)>,
    /// Each denial once.
    denials: Vec<&'a DenialText>,
}

impl<'a> Reasons<'a> {
    /// With `concerns_proxy`, leaves out addresses of the target: the rules about nets judge no address of a proxy, and
    /// a proxy answers only for a target.
    fn new(
        failed: &[FailedAttempt],
        denials: &'a [Option<DenialText>],
        concerns_proxy: bool,
    ) -> Self {
        let mut reasons = Reasons { groups: Vec::new(), denials: Vec::new() };
        for (attempt, denial) in failed.iter().zip(denials) {
            if concerns_proxy && matches!(attempt.fault, Fault::Proxy(_) | Fault::Denied) {
                continue;
            }
            match denial {
                Some(denial) if reasons.denials.contains(&denial) => {}
                Some(denial) => reasons.denials.push(denial),
                None => {
                    let reason = attempt.fault.reason();
                    match reasons.groups.iter_mut().find(|group| group.0 == reason) {
                        Some(group) => group.1.push(attempt.address),
                        None => reasons.groups.push((reason, vec![attempt.address])),
                    }
                }
            }
        }
        reasons
    }

    /// Moves the reason of the whole connection to the front.
    fn first(&mut self, reason: Cow<'static, str>) {
        match self.groups.iter().position(|group| group.0 == reason) {
            Some(place) => self.groups[..=place].rotate_right(1),
            None => self.groups.insert(0, (reason, Vec::new())),
        }
    }
}

/// Displays the first items of a list, and the number of further ones.
struct List<'a, T, F>(&'a [T], &'static str, F);

impl<'a, T, D: fmt::Display, F: Fn(&'a T) -> D> fmt::Display for List<'a, T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let List(items, separator, shown) = self;
        for (place, item) in items.iter().take(MAX_LISTED).enumerate() {
            let separator = if place == 0 { "" } else { separator };
            write!(f, "{separator}{}", shown(item))?;
        }
        match items.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
