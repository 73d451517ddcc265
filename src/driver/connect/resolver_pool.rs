//! Name lookups on thread pools, because resolvers block.
//!
//! There are four pools, so that lookups of one kind never wait for another kind. The kinds are names that the system
//! asks a server for, names that it knows locally, the program's resolvers, and lookups that resolvers make themselves.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::hosts_file;
use super::thread_pool::{self, Limits, LookupQuota, SubmitResult, Task, ThreadPool};
use crate::address::SocketAddress;
use crate::driver::sys::errno::is_resource_exhaustion;
use crate::driver::sys::lookup::lookup;
use crate::error::{Fault, LookupError};
use crate::panic::catch_panic;
use crate::process::PerProcess;
use crate::resolver::Resolver;

/// The maximum number of threads for lookups by the system's resolver.
const SYSTEM_THREADS: usize = 112;
/// The maximum number of threads that run the program's resolvers.
const CUSTOM_THREADS: usize = 64;
/// The maximum number of threads for lookups that a resolver makes when it connects by name. There are as many as
/// [`CUSTOM_THREADS`], so that every running resolver can make one.
const NESTED_THREADS: usize = 64;
/// The maximum number of threads for names that need no server.
const LOCAL_THREADS: usize = 16;
/// The maximum number of local names that one connector looks up at once. A name below `localhost` may reach a server
/// after all, and hang.
const LOCAL_PER_QUOTA: usize = 4;

/// The documentation of [`ConnectorBuilder::max_lookups`](crate::ConnectorBuilder::max_lookups) states the sum.
const _: () = assert!(SYSTEM_THREADS + CUSTOM_THREADS + NESTED_THREADS + LOCAL_THREADS == 256);

/// A name lookup, as the pools see it.
pub(crate) trait LookupJob: Send + Sync + 'static {
    /// Returns whether a caller still waits for the answer. A pool may call this under its lock.
    fn is_wanted(&self) -> bool;
    /// Returns the name and the port.
    fn name(&self) -> Cow<'_, SocketAddress>;
    /// Records that a thread starts the lookup. Returns the resolver to ask, or `None` if no caller waits any more.
    fn start(&self) -> Option<ResolverChoice>;
    /// Closes descriptors that can be spared. Returns whether there were any.
    fn free_descriptors(&self) -> bool;
    /// Handles the answer.
    fn complete(self: Arc<Self>, answer: LookupAnswer);
}

/// The resolver of one lookup.
pub(crate) enum ResolverChoice {
    System,
    Custom(Arc<dyn Resolver>),
}

/// The answer of a lookup, or the reason why there is none.
pub(crate) type LookupAnswer = Result<Vec<SocketAddr>, (Fault, LookupError)>;

/// The four pools of this process.
#[derive(Debug)]
pub(crate) struct ResolverPool {
    system: ThreadPool,
    custom: ThreadPool,
    nested: ThreadPool,
    local: ThreadPool,
}

impl ResolverPool {
    fn new() -> Self {
        // The resolver that waits for a nested lookup already uses up a thread of its quota.
        let nested = Limits {
            threads: NESTED_THREADS,
            reserved: 0,
            per_quota: Some(NESTED_THREADS),
            core_threads: NESTED_THREADS,
        };
        let local = Limits { per_quota: Some(LOCAL_PER_QUOTA), ..Limits::threads(LOCAL_THREADS) };
        ResolverPool {
            system: ThreadPool::new(Limits::threads(SYSTEM_THREADS)),
            custom: ThreadPool::new(Limits::threads(CUSTOM_THREADS)),
            nested: ThreadPool::new(nested),
            local: ThreadPool::new(local),
        }
    }

    /// Returns the pools of this process.
    pub(crate) fn get() -> &'static ResolverPool {
        static POOL: PerProcess<ResolverPool> = PerProcess::new();
        POOL.get(|_| ResolverPool::new())
    }

    /// Submits a lookup. The error is for the job, and says why the lookup cannot be made.
    pub(crate) fn submit<J: LookupJob>(
        &'static self,
        job: &Arc<J>,
        kind: LookupKind,
        quota: &Arc<LookupQuota>,
        now: Instant,
    ) -> Result<SubmitResult, LookupError> {
        let task = Arc::downgrade(job) as Weak<dyn Task>;
        match kind {
            // The thread that will wait for the result is itself a pool thread, so this lookup must not wait for one.
            LookupKind::Nested => {
                self.nested.submit_now(quota, task, now).map_err(|_| nested_limit_error())
            }
            LookupKind::Custom => Ok(self.custom.submit(quota, task, now)),
            LookupKind::System => Ok(match self.system.submit_now(quota, task, now) {
                Ok(submitted) => submitted,
                Err(task) if hosts_file::is_local(job.name().hostname()) => {
                    self.local.submit(quota, task, now)
                }
                Err(task) => self.system.submit(quota, task, now),
            }),
        }
    }

    /// Starts threads for stalled lookups. Returns whether any lookup waits.
    pub(crate) fn spawn_if_stalled(&'static self, now: Instant) -> bool {
        // Every pool must be visited, so this does not short-circuit.
        let waits = [&self.system, &self.custom, &self.nested, &self.local]
            .map(|it| it.spawn_if_stalled(now));
        waits.contains(&true)
    }
}

/// The kind of a lookup, which decides on its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupKind {
    /// A lookup by the system's resolver.
    System,
    /// A lookup by the program's resolver.
    Custom,
    /// A lookup made by a resolver, or by other code that runs on a pool thread.
    Nested,
}

/// Returns whether a socket that this thread opens has a [nested](LookupKind::Nested) lookup.
pub(crate) fn is_nested() -> bool {
    thread_pool::is_worker()
}

fn nested_limit_error() -> LookupError {
    let text =
        "cannot look up the name: the maximum number of lookups was made by resolvers themselves";
    LookupError::new(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

impl<J: LookupJob> Task for J {
    fn is_wanted(&self) -> bool {
        LookupJob::is_wanted(self)
    }

    fn run(self: Arc<Self>) {
        resolve(self);
    }
}

/// Runs a lookup. This calls and drops the program's code and values, which is safe on a pool thread because no other
/// caller waits for it.
fn resolve<J: LookupJob>(job: Arc<J>) {
    let Some(Some(resolver)) = catch_panic(|| job.start()) else { return };
    let answer = catch_panic(|| {
        let name = job.name();
        let (hostname, port) = (name.hostname(), name.port());
        let answer = match resolver {
            ResolverChoice::System => resolve_with_system(&*job),
            ResolverChoice::Custom(resolver) => resolver
                .resolve(hostname)
                .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        };
        answer.map_err(|error| (fault_from_lookup(&error), LookupError::new(error)))
    });
    let answer = answer.unwrap_or_else(|| {
        let error = io::Error::other("the resolver panicked");
        Err((Fault::Resolve, LookupError::new(error)))
    });
    catch_panic(|| job.complete(answer));
}

/// Returns the fault for a failed lookup. If this side lacks a resource, the fault is `Io` and does not blame the name.
fn fault_from_lookup(error: &io::Error) -> Fault {
    match exhaustion_code(error) {
        Some(code) => Fault::Io(code),
        None => Fault::Resolve,
    }
}

/// Returns the errno of a missing resource, if that is why an operation failed.
fn exhaustion_code(error: &io::Error) -> Option<i32> {
    /// The maximum length of the source chain to follow, because an error may be its own source.
    const MAX_DEPTH: usize = 8;
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    for _ in 0..MAX_DEPTH {
        let error = next?;
        next = match error.downcast_ref::<io::Error>() {
            Some(error) => {
                if let Some(code) =
                    error.raw_os_error().filter(|code| is_resource_exhaustion(*code))
                {
                    return Some(code);
                }
                error.get_ref().map(|inner| inner as _)
            }
            None => error.source(),
        };
    }
    None
}

/// Looks up a name. Retries once if a descriptor was missing and the job has freed one.
fn resolve_with_system(job: &impl LookupJob) -> io::Result<Vec<SocketAddr>> {
    let name = job.name();
    let (hostname, port) = (name.hostname(), name.port());
    let answer = lookup(hostname, port);
    match &answer {
        Err(error) if exhaustion_code(error).is_some() && job.free_descriptors() => {
            lookup(hostname, port)
        }
        _ => answer,
    }
}
