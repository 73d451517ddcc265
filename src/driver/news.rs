//! What is logged of a socket: at `debug` how its state changes, at `trace` the steps towards a connection and
//! to its end. Nothing is logged for each read or write, and never anything of what passes.
//!
//! It is gathered under the lock and logged without it, as a logger is the user's: it may use sockets, but not
//! wait for the end of the very one that it hears of, unless it hears of it from the loop.

use std::net::SocketAddr;

use log::{Level, LevelFilter};

use super::deeds::Deeds;
use super::logs;
use super::shared::Core;
use crate::address::SocketAddress;
use crate::error::Error;
use crate::machine::Refusal;
use crate::tls::TlsVersion;

#[derive(Debug, Default)]
pub(super) struct News {
    resolves: bool,
    dials: Option<SocketAddr>,
    open: Option<Opened>,
    ends_writing: bool,
    over: Option<Over>,
}

#[derive(Debug)]
struct Opened {
    remote: Option<SocketAddr>,
    tls: Option<TlsVersion>,
}

#[derive(Debug)]
enum Over {
    Unopened(Error),
    Closed,
    Upgraded,
    Detached,
    Failed(Error),
}

impl News {
    pub(super) fn tell(&self, requested: &SocketAddress) {
        let say = |level, text: std::fmt::Arguments<'_>| {
            logs::say(level, format_args!("{requested}: {text}"));
        };
        if self.resolves {
            say(Level::Trace, format_args!("looking up the name"));
        }
        if let Some(address) = self.dials {
            say(Level::Trace, format_args!("dialling {address}"));
        }
        match &self.open {
            Some(Opened { remote: Some(remote), tls: Some(tls) }) => {
                say(Level::Debug, format_args!("open to {remote}, by {tls}"));
            }
            Some(Opened { remote: Some(remote), tls: None }) => {
                say(Level::Debug, format_args!("open to {remote}"));
            }
            Some(Opened { remote: None, .. }) | None => {}
        }
        if self.ends_writing {
            say(Level::Trace, format_args!("this side has ended"));
        }
        match &self.over {
            Some(Over::Unopened(error)) => say(Level::Debug, format_args!("not opened: {error}")),
            Some(Over::Failed(error)) => say(Level::Debug, format_args!("failed: {error}")),
            Some(Over::Closed) => say(Level::Debug, format_args!("closed")),
            Some(Over::Upgraded) => say(Level::Debug, format_args!("upgraded to TLS")),
            Some(Over::Detached) => say(Level::Debug, format_args!("detached")),
            None => {}
        }
    }
}

impl Core {
    /// Mostly nobody wants to know.
    pub(super) fn news(&self, deeds: &Deeds, looks_up: bool) -> Option<News> {
        if log::max_level() < LevelFilter::Debug {
            return None;
        }
        let opened = self.machine.opened();
        let open = (deeds.opened && opened == Some(Ok(()))).then(|| Opened {
            remote: self.facts.as_ref().and_then(|facts| facts.endpoints().known_remote()),
            tls: self.machine.agreed().map(|agreed| agreed.tls.version()),
        });
        let over = match (deeds.closed, opened, self.machine.outcome()) {
            (false, ..) | (true, _, None) => None,
            (true, Some(Err(fault)), _) => Some(Over::Unopened(self.error_for(fault))),
            (true, _, Some(Err(fault))) => Some(Over::Failed(self.error_for(fault))),
            (true, _, Some(Ok(()))) => match self.machine.refuses_upgrade() {
                Some(Refusal::Upgraded) if self.error.is_some() => Some(Over::Detached),
                Some(Refusal::Upgraded) => Some(Over::Upgraded),
                Some(_) | None => Some(Over::Closed),
            },
        };
        Some(News {
            resolves: deeds.resolve && looks_up,
            dials: deeds.attempt.map(|(_, address)| address),
            open,
            ends_writing: deeds.shutdown_write,
            over,
        })
    }
}
