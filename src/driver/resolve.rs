//! Name lookups, on pools of threads, because resolvers block.
//!
//! There are four pools, so that none of these waits for another: names that the system asks a server for, names
//! that it knows by itself, resolvers of the program, and lookups that resolvers themselves make.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::errno::is_resource_exhaustion;
use super::pool::{self, Limits, SubmitResult, Task, ThreadPool};
use super::shared::Connection;
use super::{LoopHandle, catch_panic, hosts, log_debug};
use crate::error::{Fault, Unresolved};

/// Threads that wait for the system's resolver.
const SYSTEM_THREADS: usize = 112;
/// Threads that run resolvers of the program.
const CUSTOM_THREADS: usize = 64;
/// Threads for the lookups of a resolver that connects by name itself. As many as run resolvers, so that each of
/// those can make one.
const NESTED_THREADS: usize = 64;
/// Threads for names that need no server.
const LOCAL_THREADS: usize = 16;
/// Such names of one connector at once: one below `localhost` may be asked of a server after all, and hang.
const LOCAL_PER_SHARE: usize = 4;

/// As the documentation of [`ConnectorBuilder::max_lookups`](crate::ConnectorBuilder::max_lookups) says.
const _: () = assert!(SYSTEM_THREADS + CUSTOM_THREADS + NESTED_THREADS + LOCAL_THREADS == 256);

#[derive(Debug)]
pub(super) struct ResolverPool {
    system: ThreadPool,
    custom: ThreadPool,
    nested: ThreadPool,
    local: ThreadPool,
}

impl ResolverPool {
    pub(super) fn new() -> Self {
        // A resolver that waits for one of these has a thread already, which counts.
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

    /// Hands a lookup in. An answer that says why it can't be made is for the socket.
    pub(super) fn submit(
        &'static self,
        connection: &Arc<Connection>,
        now: Instant,
    ) -> Result<SubmitResult, Unresolved> {
        let socket: Weak<dyn Task> = Arc::downgrade(connection) as Weak<dyn Task>;
        let share = connection.registry().lookups();
        match connection.lookup_kind() {
            // The thread that will wait for it has a thread of a pool, so it must not wait for one in turn.
            LookupKind::Nested => {
                self.nested.submit_now(share, socket, now).map_err(|_| nested_limit_error())
            }
            LookupKind::Custom => Ok(self.custom.submit(share, socket, now)),
            LookupKind::System => Ok(match self.system.submit_now(share, socket, now) {
                Ok(submitted) => submitted,
                Err(socket) if hosts::is_local(connection.requested().hostname()) => {
                    self.local.submit(share, socket, now)
                }
                Err(socket) => self.system.submit(share, socket, now),
            }),
        }
    }

    /// Looks after the lookups that wait; returns whether there are any.
    pub(super) fn spawn_if_stalled(&'static self, now: Instant) -> bool {
        // None of them may be left out.
        let waits = [&self.system, &self.custom, &self.nested, &self.local]
            .map(|it| it.spawn_if_stalled(now));
        waits.contains(&true)
    }
}

/// Which pool a lookup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupKind {
    /// By the system's resolver.
    System,
    /// By a resolver of the program.
    Custom,
    /// Asked for by a resolver, or by other code that runs on a pool's thread.
    Nested,
}

/// Returns whether a socket that is opened now has a [nested](LookupKind::Nested) lookup.
pub(super) fn is_nested() -> bool {
    pool::is_worker()
}

fn nested_limit_error() -> Unresolved {
    let text = "as many lookups as there may be were made by resolvers themselves";
    Unresolved::new(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

impl Task for Connection {
    fn is_wanted(&self) -> bool {
        self.is_connecting()
    }

    fn run(self: Arc<Self>) {
        resolve(&self);
    }
}

/// Code and values of the program are called and dropped here, on a thread that others don't wait for.
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
        answer.map_err(|error| (fault_from_lookup(&error), Unresolved::new(error)))
    });
    let answer = answer.unwrap_or_else(|| {
        let error = io::Error::other("the resolver panicked");
        Err((Fault::Resolve, Unresolved::new(error)))
    });
    if !connection.is_connecting() {
        log_debug(format_args!("the lookup of {hostname} ended after its socket"));
    }
    catch_panic(|| connection.fail_on_panic(|| connection.handle_resolved(answer)));
}

/// A lookup that fails for want of something on this side says nothing of the name.
fn fault_from_lookup(error: &io::Error) -> Fault {
    match exhaustion_code(error) {
        Some(code) => Fault::Io(code),
        None => Fault::Resolve,
    }
}

/// What this process or the system was short of, as a code of the system, if that is why something failed.
fn exhaustion_code(error: &io::Error) -> Option<i32> {
    /// An error may have itself for its source.
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

/// Asks once more if a descriptor was missing and wires that linger give theirs.
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

/// By the codes of `getaddrinfo`, which std keeps to itself: its errors have a text only, in the language of the
/// program's locale.
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
        // As std asks.
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let answer = getaddrinfo(Some(hostname), None, Some(hints)).map_err(to_io_error)?;
        // Of other families than IP there may be addresses too.
        let addresses = answer.filter_map(|one| Some(one.ok()?.sockaddr));
        Ok(addresses
            .map(|mut address| {
                address.set_port(port);
                address
            })
            .collect())
    }

    /// Gives an error the kind that says what is known: that there is no such name or no address of it, that the
    /// failure passes, or neither.
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
        // It is a file that does not exist, and not a name.
        if error.kind() == io::ErrorKind::NotFound { io::Error::other(error) } else { error }
    }

    #[cfg(unix)]
    fn out_of_memory(_: LookupError) -> io::Error {
        rustix::io::Errno::NOMEM.into()
    }

    /// It has a code of the system.
    #[cfg(not(unix))]
    fn out_of_memory(error: LookupError) -> io::Error {
        error.into()
    }

    /// Without a descriptor there is no hosts file and no socket to ask through. Which error that gives depends on
    /// the system, and may be that no server answers or that there is no such name.
    fn descriptor_exhaustion() -> Option<io::Error> {
        let root = if cfg!(unix) { std::fs::File::open("/") } else { return None };
        root.err().filter(|error| error.raw_os_error().is_some_and(super::is_resource_exhaustion))
    }
}

/// What std tells has a text and no kind.
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

    pub(super) fn ask(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (hostname, port).to_socket_addrs().map(Iterator::collect)
    }
}
