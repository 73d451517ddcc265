//! Name lookups on thread pools, because resolvers block.
//!
//! There are four pools, so that lookups of one kind never wait for another kind. The kinds are names that the system
//! asks a server for, names that it knows locally, the program's resolvers, and lookups that resolvers make themselves.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::hosts_file;
use super::thread_pool::{self, Limits, SubmitResult, Task, ThreadPool};
use crate::driver::connection::Connection;
use crate::driver::event_loop::LoopHandle;
use crate::driver::sys::errno::is_resource_exhaustion;
use crate::driver::sys::log::log_debug;
use crate::error::{Fault, LookupError};
use crate::panic::catch_panic;

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
const LOCAL_PER_SHARE: usize = 4;

/// The documentation of [`ConnectorBuilder::max_lookups`](crate::ConnectorBuilder::max_lookups) states the sum.
const _: () = assert!(SYSTEM_THREADS + CUSTOM_THREADS + NESTED_THREADS + LOCAL_THREADS == 256);

#[derive(Debug)]
pub(crate) struct ResolverPool {
    system: ThreadPool,
    custom: ThreadPool,
    nested: ThreadPool,
    local: ThreadPool,
}

impl ResolverPool {
    pub(crate) fn new() -> Self {
        // The resolver that waits for a nested lookup already uses up a thread of its share.
        let nested = Limits {
            threads: NESTED_THREADS,
            reserved: 0,
            per_share: Some(NESTED_THREADS),
            core_threads: NESTED_THREADS,
        };
        let local = Limits { per_share: Some(LOCAL_PER_SHARE), ..Limits::threads(LOCAL_THREADS) };
        ResolverPool {
            system: ThreadPool::new(Limits::threads(SYSTEM_THREADS)),
            custom: ThreadPool::new(Limits::threads(CUSTOM_THREADS)),
            nested: ThreadPool::new(nested),
            local: ThreadPool::new(local),
        }
    }

    /// Submits a socket's lookup. The error is for the socket, and says why the lookup cannot be made.
    pub(crate) fn submit(
        &'static self,
        connection: &Arc<Connection>,
        now: Instant,
    ) -> Result<SubmitResult, LookupError> {
        let socket: Weak<dyn Task> = Arc::downgrade(connection) as Weak<dyn Task>;
        let share = connection.registry().lookups();
        match connection.lookup_kind() {
            // The thread that will wait for the result is itself a pool thread, so this lookup must not wait for one.
            LookupKind::Nested => {
                self.nested.submit_now(share, socket, now).map_err(|_| nested_limit_error())
            }
            LookupKind::Custom => Ok(self.custom.submit(share, socket, now)),
            LookupKind::System => Ok(match self.system.submit_now(share, socket, now) {
                Ok(submitted) => submitted,
                Err(socket) if hosts_file::is_local(connection.requested().hostname()) => {
                    self.local.submit(share, socket, now)
                }
                Err(socket) => self.system.submit(share, socket, now),
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

impl Task for Connection {
    fn is_wanted(&self) -> bool {
        self.is_connecting()
    }

    fn run(self: Arc<Self>) {
        resolve(&self);
    }
}

/// Runs a lookup. This calls and drops the program's code and values, which is safe on a pool thread because no other
/// caller waits for it.
fn resolve(connection: &Arc<Connection>) {
    let requested = connection.requested();
    let (hostname, port) = (requested.hostname(), requested.port());
    let answer = catch_panic(|| {
        let answer = match connection.start_lookup() {
            None => resolve_with_system(hostname, port),
            Some(resolver) => resolver
                .resolve(hostname)
                .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        };
        answer.map_err(|error| (fault_from_lookup(&error), LookupError::new(error)))
    });
    let answer = answer.unwrap_or_else(|| {
        let error = io::Error::other("the resolver panicked");
        Err((Fault::Resolve, LookupError::new(error)))
    });
    if !connection.is_connecting() {
        log_debug(format_args!("the lookup of {hostname} finished after its socket had closed"));
    }
    catch_panic(|| connection.fail_on_panic(|| connection.handle_resolved(answer)));
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

/// Looks up a name. Retries once if a descriptor was missing and closing the lingering wires freed one.
fn resolve_with_system(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = system::lookup(hostname, port);
    match &answer {
        Err(error) if exhaustion_code(error).is_some() => match LoopHandle::get() {
            Ok(loop_handle) if loop_handle.linger_queue().close_all() => {
                system::lookup(hostname, port)
            }
            Ok(_) | Err(_) => answer,
        },
        _ => answer,
    }
}

/// Lookups by `getaddrinfo`, with its error codes. std discards the codes, and its error texts depend on the program's
/// locale.
#[cfg(any(
    windows,
    target_vendor = "apple",
    target_os = "android",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
))]
mod system {
    use std::io;
    use std::net::SocketAddr;

    use dns_lookup::{AddrInfoHints, LookupError, LookupErrorKind, SockType, getaddrinfo};

    pub(super) fn lookup(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // The same hints as std's.
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let answer = getaddrinfo(Some(hostname), None, Some(hints)).map_err(to_io_error)?;
        // The answer may include families other than IP.
        let addresses = answer.filter_map(|one| Some(one.ok()?.sockaddr));
        Ok(addresses
            .map(|mut address| {
                address.set_port(port);
                address
            })
            .collect())
    }

    /// Maps a lookup error to an error kind: `NotFound` if the name or its addresses do not exist, `WouldBlock` if the
    /// failure is temporary, otherwise as std maps it.
    fn to_io_error(error: LookupError) -> io::Error {
        match error.kind() {
            LookupErrorKind::System => return system_to_io_error(error),
            LookupErrorKind::Memory => return out_of_memory(error),
            _ => {}
        }
        if let Some(exhaustion) = descriptor_exhaustion() {
            return exhaustion;
        }
        match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => {
                io::Error::new(io::ErrorKind::NotFound, error)
            }
            LookupErrorKind::Again => io::Error::new(io::ErrorKind::WouldBlock, error),
            _ => error.into(),
        }
    }

    fn system_to_io_error(error: LookupError) -> io::Error {
        let error = io::Error::from(error);
        // A file was not found, not a name.
        if error.kind() == io::ErrorKind::NotFound { io::Error::other(error) } else { error }
    }

    #[cfg(unix)]
    fn out_of_memory(_: LookupError) -> io::Error {
        rustix::io::Errno::NOMEM.into()
    }

    /// Keeps the error, which already has a system error code.
    #[cfg(not(unix))]
    fn out_of_memory(error: LookupError) -> io::Error {
        error.into()
    }

    /// Returns an error if this process or the system is out of descriptors. The resolver then opens neither the hosts
    /// file nor a socket. Its error may say that no server answers or that there is no such name, depending on the
    /// system.
    fn descriptor_exhaustion() -> Option<io::Error> {
        let root = if cfg!(unix) { std::fs::File::open("/") } else { return None };
        root.err().filter(|error| error.raw_os_error().is_some_and(super::is_resource_exhaustion))
    }
}

/// Lookups by std, whose errors have a text and no kind.
#[cfg(not(any(
    windows,
    target_vendor = "apple",
    target_os = "android",
    target_os = "freebsd",
    target_os = "illumos",
    target_os = "linux",
    target_os = "netbsd",
    target_os = "openbsd",
    target_os = "solaris",
)))]
mod system {
    use std::io;
    use std::net::{SocketAddr, ToSocketAddrs};

    pub(super) fn lookup(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (hostname, port).to_socket_addrs().map(Iterator::collect)
    }
}
