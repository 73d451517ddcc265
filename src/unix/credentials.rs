//! The credentials of a peer.

/// The process at the other end of a Unix-domain connection, when the connection was made. For a client, that is the
/// process that called listen(2).
///
/// The process may have passed its descriptor on since, or may have changed its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerCredentials {
    /// The effective user ID.
    pub uid: u32,
    /// The effective group ID.
    pub gid: u32,
    /// The process ID, on Linux. `None` elsewhere, and for a process in a PID namespace that this process cannot see.
    /// The number may be reused after that process has ended.
    pub pid: Option<i32>,
}

impl PeerCredentials {
    #[cfg(unix)]
    pub(crate) fn new(uid: u32, gid: u32, pid: Option<i32>) -> Self {
        PeerCredentials { uid, gid, pid }
    }
}
