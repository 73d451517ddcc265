//! The lookup of a socket's name, as a job for the resolver pools.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::{Connection, ConnectionState, LookupProgress};
use crate::address::SocketAddress;
use crate::driver::connect::resolver_pool::{
    LookupAnswer, LookupJob, LookupKind, ResolverChoice, ResolverPool,
};
use crate::driver::connect::thread_pool::{LookupQuota, SubmitResult};
use crate::driver::event_loop::{Command, LoopHandle, Urgency};
use crate::driver::sys::clock;
use crate::driver::sys::log::log_debug;
use crate::error::Fault;
use crate::info::Phase;
use crate::machine::Input;

/// A requested lookup.
#[derive(Debug)]
pub(crate) enum LookupRequest {
    /// The program has given these addresses.
    Given(Vec<SocketAddr>),
    /// A thread of this kind looks up the name.
    Submit(LookupKind, Arc<LookupQuota>),
}

impl ConnectionState {
    /// Returns how to look up the name that the machine wants.
    pub(crate) fn lookup_request(&mut self) -> Option<LookupRequest> {
        let establishing = self.establishing_mut()?;
        if let Some(addresses) = establishing.addresses.take() {
            return Some(LookupRequest::Given(addresses));
        }
        // There may have been a lookup before, for the target behind a proxy.
        establishing.lookup = LookupProgress::Queued;
        let kind = if establishing.is_nested {
            LookupKind::Nested
        } else if establishing.resolver.is_some() {
            LookupKind::Custom
        } else {
            LookupKind::System
        };
        Some(LookupRequest::Submit(kind, Arc::clone(establishing.lookup_quota.as_ref()?)))
    }
}

impl Connection {
    pub(crate) fn look_up(self: &Arc<Self>, request: LookupRequest) {
        let (kind, quota) = match request {
            LookupRequest::Given(addresses) => {
                self.handle_resolved(Ok(addresses));
                return;
            }
            LookupRequest::Submit(kind, quota) => (kind, quota),
        };
        let submitted = match LoopHandle::get() {
            Ok(loop_handle) => match ResolverPool::get().submit(self, kind, &quota, clock::now()) {
                Ok(SubmitResult::Started) => return,
                Ok(SubmitResult::Queued) => {
                    return loop_handle.post(Command::CheckStalled(check_stalled), Urgency::Soon);
                }
                Ok(SubmitResult::Failed(fault)) => fault,
                Err(refused) => {
                    self.handle_resolved(Err((Fault::Resolve, refused)));
                    return;
                }
            },
            Err(fault) => fault,
        };
        // The lookup could not even start.
        let state = self.state();
        drop(self.handle_input(state, Input::Resolved(Err(submitted))));
    }

    /// Returns whether the socket had closed before.
    fn handle_resolved(self: &Arc<Self>, answer: LookupAnswer) -> bool {
        let mut state = self.state();
        let is_late = state.machine.phase() != Phase::Connecting;
        let mut late = None;
        match answer {
            Ok(addresses) => state = self.handle_input(state, Input::Resolved(Ok(&addresses))),
            Err((fault, lookup_error)) => {
                match &mut state.establishing {
                    Some(establishing) => establishing.lookup_error = Some(lookup_error),
                    None => late = Some(lookup_error),
                }
                state = self.handle_input(state, Input::Resolved(Err(fault)));
            }
        }
        drop(state);
        // The user's error, which nothing waits for any more.
        drop(late);
        is_late
    }
}

fn check_stalled(now: Instant) -> bool {
    ResolverPool::get().spawn_if_stalled(now)
}

impl LookupJob for Connection {
    fn is_wanted(&self) -> bool {
        // Under the lock of the pool, where a socket that panicked must not be failed.
        self.state_after_call().machine.phase() == Phase::Connecting
    }

    fn name(&self) -> Cow<'_, SocketAddress> {
        let state = self.state_after_call();
        let proxy =
            state.establishing.as_ref().and_then(|establishing| establishing.proxy.as_ref());
        match proxy {
            Some(proxy) if !state.machine.resolves_target() => Cow::Owned(proxy.address().clone()),
            Some(_) | None => Cow::Borrowed(self.requested().as_socket_address()),
        }
    }

    fn start(&self) -> Option<ResolverChoice> {
        let mut state = self.state();
        if state.machine.phase() != Phase::Connecting {
            return None;
        }
        // The name of a proxy may have to be looked up after that of the target.
        let is_last = !state.machine.resolves_target();
        let establishing = state.establishing_mut()?;
        establishing.lookup = LookupProgress::Started;
        let resolver = match is_last {
            true => establishing.resolver.take(),
            false => establishing.resolver.clone(),
        };
        Some(match resolver {
            Some(resolver) => ResolverChoice::Custom(resolver),
            None => ResolverChoice::System,
        })
    }

    fn free_descriptors(&self) -> bool {
        LoopHandle::get().is_ok_and(|loop_handle| loop_handle.linger_queue().close_all())
    }

    fn complete(self: Arc<Self>, answer: LookupAnswer) {
        if self.fail_on_panic(|| self.handle_resolved(answer)) {
            let hostname = self.requested().as_socket_address().hostname();
            log_debug(format_args!("a lookup for {hostname} finished after its socket had closed"));
        }
    }
}
