//! The log records of a socket. Changes of state are logged at `debug`, and the steps of connecting and closing at
//! `trace`. Single reads and writes are not logged, and payloads never.
//!
//! Records are collected under the lock and logged without it, because the logger is user code. A logger may use
//! sockets. It must not wait for the end of the socket that a record is about, except on the event loop, where such a
//! wait fails.

use std::net::SocketAddr;

use log::{Level, LevelFilter};

use super::ConnectionState;
use crate::driver::sys::log::log_at;
use crate::error::Error;
use crate::machine::{Actions, UpgradeError};
use crate::tls::TlsVersion;
use crate::unix::Requested;

#[derive(Debug, Default)]
pub(crate) struct LogEvent {
    lookup: bool,
    /// The attempt that starts, with its address if that is not the requested one.
    attempt: Option<Option<SocketAddr>>,
    opened: Option<OpenedEvent>,
    fin_sent: bool,
    ended: Option<EndReason>,
}

#[derive(Debug)]
struct OpenedEvent {
    remote: Option<SocketAddr>,
    proxy: Option<SocketAddr>,
    tls: Option<TlsVersion>,
}

#[derive(Debug)]
enum EndReason {
    ConnectFailed(Error),
    Closed,
    Upgraded,
    Detached,
    Failed(Error),
}

impl LogEvent {
    pub(crate) fn log(&self, requested: &Requested) {
        let log = |level, text: std::fmt::Arguments<'_>| {
            log_at(level, format_args!("{requested}: {text}"));
        };
        if self.lookup {
            log(Level::Trace, format_args!("looking up the name"));
        }
        match self.attempt {
            Some(Some(address)) => log(Level::Trace, format_args!("dialling {address}")),
            Some(None) => log(Level::Trace, format_args!("dialling")),
            None => {}
        }
        match &self.opened {
            Some(OpenedEvent { remote: Some(remote), tls: Some(tls), .. }) => {
                log(Level::Debug, format_args!("open to {remote}, using {tls}"));
            }
            Some(OpenedEvent { remote: Some(remote), tls: None, .. }) => {
                log(Level::Debug, format_args!("open to {remote}"));
            }
            Some(OpenedEvent { remote: None, proxy: Some(proxy), tls: Some(tls) }) => {
                log(Level::Debug, format_args!("open through the proxy {proxy}, using {tls}"));
            }
            Some(OpenedEvent { remote: None, proxy: Some(proxy), tls: None }) => {
                log(Level::Debug, format_args!("open through the proxy {proxy}"));
            }
            Some(OpenedEvent { remote: None, proxy: None, tls: Some(tls) })
                if requested.is_unix() =>
            {
                log(Level::Debug, format_args!("open, using {tls}"));
            }
            Some(OpenedEvent { remote: None, proxy: None, tls: None }) if requested.is_unix() => {
                log(Level::Debug, format_args!("open"));
            }
            Some(OpenedEvent { remote: None, proxy: None, .. }) | None => {}
        }
        if self.fin_sent {
            log(Level::Trace, format_args!("sent FIN"));
        }
        match &self.ended {
            Some(EndReason::ConnectFailed(error)) => {
                log(Level::Debug, format_args!("failed to open: {error}"))
            }
            Some(EndReason::Failed(error)) => log(Level::Debug, format_args!("failed: {error}")),
            Some(EndReason::Closed) => log(Level::Debug, format_args!("closed")),
            Some(EndReason::Upgraded) => log(Level::Debug, format_args!("upgraded to TLS")),
            Some(EndReason::Detached) => log(Level::Debug, format_args!("detached")),
            None => {}
        }
    }
}

impl ConnectionState {
    /// Returns the record to log. Usually logging is off and there is none.
    pub(crate) fn log_event(&self, actions: &Actions, is_lookup: bool) -> Option<Box<LogEvent>> {
        if log::max_level() < LevelFilter::Debug {
            return None;
        }
        let opened = self.machine.opened();
        let opened_event = (actions.wake.opened && opened == Some(Ok(()))).then(|| OpenedEvent {
            remote: self.info.as_ref().and_then(|info| info.endpoints().remote),
            proxy: self.info.as_ref().and_then(|info| info.proxy()),
            tls: self.machine.negotiated().map(|negotiated| negotiated.tls.version()),
        });
        let ended = match (actions.wake.closed, opened, self.machine.outcome()) {
            (false, ..) | (true, _, None) => None,
            (true, Some(Err(fault)), _) => Some(EndReason::ConnectFailed(self.error_for(fault))),
            (true, _, Some(Err(fault))) => Some(EndReason::Failed(self.error_for(fault))),
            (true, _, Some(Ok(()))) => match self.machine.upgrade_error() {
                Some(UpgradeError::Upgraded) => Some(EndReason::Upgraded),
                Some(UpgradeError::Detached) => Some(EndReason::Detached),
                Some(_) | None => Some(EndReason::Closed),
            },
        };
        Some(Box::new(LogEvent {
            lookup: actions.resolve && is_lookup,
            attempt: actions.attempt.map(|attempt| attempt.address),
            opened: opened_event,
            fin_sent: actions.shutdown_write,
            ended,
        }))
    }
}
