//! The trait of tungstenite 0.30 that its `client_tls` needs (feature `tungstenite-0_30`).

use std::io;

use ::tungstenite::stream::NoDelay;

use crate::socket::Socket;

/// Sets [`nodelay`](Socket::set_nodelay), which is on at first.
impl NoDelay for Socket {
    fn set_nodelay(&mut self, nodelay: bool) -> io::Result<()> {
        Ok(Socket::set_nodelay(self, nodelay)?)
    }
}
