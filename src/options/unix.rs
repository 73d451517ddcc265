//! The options that a Unix-domain socket accepts.

use super::secure_transport::check_server_name;
use super::tcp::RareTcpOptions;
use super::{SecureTransport, SocketOptions, TcpOptions, TlsSide};
use crate::error::{Error, Result};

impl SocketOptions {
    /// Refuses options that a Unix-domain socket does not have, and a TLS client without the name to verify.
    pub(crate) fn check_unix(&self) -> Result<()> {
        self.tcp.check_unix()?;
        match self.secure_transport {
            SecureTransport::Off => Ok(()),
            SecureTransport::On | SecureTransport::StartTls => self.tls_side().check_unix(),
        }
    }
}

impl TlsSide {
    /// Refuses a client without the name to verify.
    fn check_unix(&self) -> Result<()> {
        match self {
            TlsSide::Client(tls) => check_server_name(tls),
            TlsSide::Server(_) => Ok(()),
        }
    }
}

impl TcpOptions {
    /// Refuses options that a Unix-domain socket does not have. The pattern lists every option, so that a new one is
    /// not forgotten.
    fn check_unix(&self) -> Result<()> {
        let TcpOptions { nodelay, bind, rare: _ } = self;
        let RareTcpOptions {
            keepalive,
            user_timeout,
            recv_buffer_size: _,
            send_buffer_size: _,
            multipath,
            bind_device,
            mark,
            dscp,
            busy_poll: _,
            blocking_receive: _,
        } = self.rare();
        let set = [
            ("nodelay", nodelay.is_some()),
            ("keepalive", keepalive.is_some()),
            ("user_timeout", user_timeout.is_some()),
            ("bind", bind.is_some()),
            ("multipath", *multipath),
            ("bind_device", bind_device.is_some()),
            ("mark", mark.is_some()),
            ("dscp", dscp.is_some()),
        ];
        match set.into_iter().find(|(_, is_set)| *is_set) {
            Some((name, _)) => Err(Error::invalid_options(format!(
                "{name} is set, which a Unix-domain socket does not have"
            ))),
            None => Ok(()),
        }
    }
}
