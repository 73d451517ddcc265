//! Whether this process is a forked child of the one in which the crate was first used.
//!
//! A child has the parent's descriptors but not the parent's loop thread, and what it did on a
//! connection would be done to the parent's. So it does nothing, and says so.

use crate::error::{Error, ErrorKind, Result};

/// Fails in a forked child.
pub(crate) fn check() -> Result<()> {
    if in_child() { Err(refused()) } else { Ok(()) }
}

#[cold]
fn refused() -> Error {
    Error::with_message(
        ErrorKind::InvalidState,
        "this process was forked from the one that owns the socket: open sockets after the fork",
    )
}

#[cfg(unix)]
pub(crate) use self::unix::in_child;

/// There is no fork.
#[cfg(not(unix))]
pub(crate) fn in_child() -> bool {
    false
}

#[cfg(unix)]
mod unix {
    use std::sync::OnceLock;

    static MARK: OnceLock<Mark> = OnceLock::new();

    /// The first call makes the mark, and so has to come before any fork that matters: it comes with
    /// the first socket.
    pub(crate) fn in_child() -> bool {
        MARK.get_or_init(Mark::new).is_foreign()
    }

    #[cold]
    fn is_another(process: u32) -> bool {
        process != std::process::id()
    }

    #[derive(Debug)]
    enum Mark {
        /// What a handler in the child changes.
        Handler(forkguard::atfork::Guard),
        /// The process in which it was made, where no handler could be set.
        Process(u32),
    }

    impl Mark {
        fn new() -> Self {
            match forkguard::atfork::Guard::try_new() {
                Ok(guard) => Mark::Handler(guard),
                Err(_) => Mark::Process(std::process::id()),
            }
        }

        fn is_foreign(&self) -> bool {
            match self {
                // A guard tells a fork once; its copy keeps this one from having told.
                Mark::Handler(guard) => guard.clone().detected_fork(),
                Mark::Process(id) => is_another(*id),
            }
        }
    }
}
