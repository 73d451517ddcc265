//! The options of a listening socket.

use crate::options::TcpOptions;

/// Options of a listening socket.
#[derive(Clone, Debug)]
#[cfg_attr(sockeye_shuttle, expect(dead_code, reason = "the model has no options"))]
pub(crate) struct BindOptions {
    pub(crate) backlog: u32,
    pub(crate) reuse_port: bool,
    pub(crate) only_v6: bool,
    /// Options that accepted connections inherit.
    pub(crate) tcp: TcpOptions,
    /// Options of the path of a Unix-domain socket.
    #[cfg_attr(
        any(not(unix), sockeye_shuttle),
        allow(dead_code, reason = "this system has no Unix-domain sockets")
    )]
    pub(crate) path: PathOptions,
}

/// Options of the path of a listener.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    any(not(unix), sockeye_shuttle),
    allow(dead_code, reason = "this system has no Unix-domain sockets")
)]
pub(crate) struct PathOptions {
    /// Whether to replace a path that refuses connections.
    pub(crate) replace_stale: bool,
    /// The permissions; `None` leaves them to the umask.
    pub(crate) mode: Option<u32>,
}
