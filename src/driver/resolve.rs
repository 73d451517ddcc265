//! Name lookups, on pools of threads, because resolvers block.
//!
//! There are four pools, so that none of these waits for another: names that the system asks a server for, names
//! that it knows by itself, resolvers of the program, and lookups that resolvers themselves make.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::errno::is_want;
use super::pool::{self, Limits, Pool, Submitted, Task};
use super::shared::Shared;
use super::{Driver, harmless, hosts, say};
use crate::error::{Fault, Unresolved};

/// Threads that wait for the system's resolver.
const SYSTEM_THREADS: usize = 112;
/// Threads that run resolvers of the program.
const OWN_THREADS: usize = 64;
/// Threads for the lookups of a resolver that connects by name itself. As many as run resolvers, so that each of
/// those can make one.
const NESTED_THREADS: usize = 64;
/// Threads for names that need no server.
const LOCAL_THREADS: usize = 16;
/// Such names of one connector at once: one below `localhost` may be asked of a server after all, and hang.
const LOCAL_PER_SHARE: usize = 4;

/// As the documentation of [`ConnectorBuilder::max_lookups`](crate::ConnectorBuilder::max_lookups) says.
const _: () = assert!(SYSTEM_THREADS + OWN_THREADS + NESTED_THREADS + LOCAL_THREADS == 256);

#[derive(Debug)]
pub(super) struct Names {
    system: Pool,
    own: Pool,
    nested: Pool,
    local: Pool,
}

impl Names {
    pub(super) fn new() -> Self {
        // A resolver that waits for one of these has a thread already, which counts.
        let nested = Limits {
            threads: NESTED_THREADS,
            reserved: 0,
            per_share: Some(NESTED_THREADS),
            at_once: NESTED_THREADS,
        };
        let local = Limits { per_share: Some(LOCAL_PER_SHARE), ..Limits::threads(LOCAL_THREADS) };
        Names {
            system: Pool::new(Limits::threads(SYSTEM_THREADS)),
            own: Pool::new(Limits::threads(OWN_THREADS)),
            nested: Pool::new(nested),
            local: Pool::new(local),
        }
    }

    /// Hands a lookup in. An answer that says why it can't be made is for the socket.
    pub(super) fn submit(
        &'static self,
        shared: &Arc<Shared>,
        now: Instant,
    ) -> Result<Submitted, Unresolved> {
        let socket: Weak<dyn Task> = Arc::downgrade(shared) as Weak<dyn Task>;
        let share = shared.roster().lookups();
        match shared.lookup_kind() {
            // The thread that will wait for it has a thread of a pool, so it must not wait for one in turn.
            LookupKind::Nested => {
                self.nested.submit_now(share, socket, now).map_err(|_| exhausted())
            }
            LookupKind::Own => Ok(self.own.submit(share, socket, now)),
            LookupKind::System => Ok(match self.system.submit_now(share, socket, now) {
                Ok(submitted) => submitted,
                Err(socket) if hosts::is_local(shared.requested().hostname()) => {
                    self.local.submit(share, socket, now)
                }
                Err(socket) => self.system.submit(share, socket, now),
            }),
        }
    }

    /// Looks after the lookups that wait; returns whether there are any.
    pub(super) fn tend(&'static self, now: Instant) -> bool {
        // None of them may be left out.
        let waits = [&self.system, &self.own, &self.nested, &self.local].map(|it| it.tend(now));
        waits.contains(&true)
    }
}

/// Which pool a lookup belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookupKind {
    /// By the system's resolver.
    System,
    /// By a resolver of the program.
    Own,
    /// Asked for by a resolver, or by other code that runs on a pool's thread.
    Nested,
}

/// Returns whether a socket that is opened now has a [nested](LookupKind::Nested) lookup.
pub(super) fn is_nested() -> bool {
    pool::is_worker()
}

fn exhausted() -> Unresolved {
    let text = "as many lookups as there may be were made by resolvers themselves";
    Unresolved::new(io::Error::new(io::ErrorKind::ResourceBusy, text))
}

impl Task for Shared {
    fn is_wanted(&self) -> bool {
        self.is_connecting()
    }

    fn run(self: Arc<Self>) {
        look_up(&self);
    }
}

/// Code and values of the program are called and dropped here, on a thread that others don't wait for.
fn look_up(shared: &Arc<Shared>) {
    let requested = shared.requested();
    let (hostname, port) = (requested.hostname(), requested.port());
    let answer = harmless(|| {
        let answer = match shared.begin_lookup() {
            None => ask_system(hostname, port),
            Some(resolver) => resolver
                .resolve(hostname)
                .map(|ips| ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
        };
        answer.map_err(|error| (fault(&error), Unresolved::new(error)))
    });
    let answer = answer.unwrap_or_else(|| {
        let error = io::Error::other("the resolver panicked");
        Err((Fault::Resolve, Unresolved::new(error)))
    });
    if !shared.is_connecting() {
        say(format_args!("the lookup of {hostname} ended after its socket"));
    }
    harmless(|| shared.fail_on_panic(|| shared.resolved(answer)));
}

/// A lookup that fails for want of something on this side says nothing of the name.
fn fault(error: &io::Error) -> Fault {
    match shortage(error) {
        Some(code) => Fault::Io(code),
        None => Fault::Resolve,
    }
}

/// What this process or the system was short of, as a code of the system, if that is why something failed.
fn shortage(error: &io::Error) -> Option<i32> {
    /// An error may have itself for its source.
    const MAX_DEPTH: usize = 8;
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    for _ in 0..MAX_DEPTH {
        let error = next?;
        next = match error.downcast_ref::<io::Error>() {
            Some(error) => {
                if let Some(code) = error.raw_os_error().filter(|code| is_want(*code)) {
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
fn ask_system(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let answer = system::ask(hostname, port);
    match &answer {
        Err(error) if shortage(error).is_some() => match Driver::running() {
            Ok(driver) if driver.lingering().shed() => system::ask(hostname, port),
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

    pub(super) fn ask(hostname: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        // As std asks.
        let hints = AddrInfoHints { socktype: SockType::Stream.into(), ..AddrInfoHints::default() };
        let answer = getaddrinfo(Some(hostname), None, Some(hints)).map_err(explain)?;
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
    fn explain(error: LookupError) -> io::Error {
        match error.kind() {
            LookupErrorKind::System => return explain_system(error),
            LookupErrorKind::Memory => return out_of_memory(error),
            _ => {}
        }
        if let Some(shortage) = descriptor_shortage() {
            return shortage;
        }
        match error.kind() {
            LookupErrorKind::NoName | LookupErrorKind::NoData => {
                io::Error::new(io::ErrorKind::NotFound, error)
            }
            LookupErrorKind::Again => io::Error::new(io::ErrorKind::WouldBlock, error),
            _ => error.into(),
        }
    }

    fn explain_system(error: LookupError) -> io::Error {
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
    fn descriptor_shortage() -> Option<io::Error> {
        let root = if cfg!(unix) { std::fs::File::open("/") } else { return None };
        root.err().filter(|error| error.raw_os_error().is_some_and(super::is_want))
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
