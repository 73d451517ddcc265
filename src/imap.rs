//! The trait of imap 3 that IDLE needs (feature `imap-3`).

use std::time::Duration;

use ::imap::extensions::idle::SetReadTimeout;

use crate::error::Error;
use crate::socket::Socket;

/// Sets the [read timeout](Socket::set_read_timeout), so that IDLE can send a keepalive while the server is silent.
///
/// ```no_run
/// use imap::extensions::idle::stop_on_any;
/// use sockeye::{SecureTransport, SocketOptions};
///
/// let options = SocketOptions::new().secure_transport(SecureTransport::On);
/// let socket = sockeye::connect_with("imap.example.com:993", options)?;
/// let mut client = imap::Client::new(socket);
/// client.read_greeting()?;
/// let mut session = client.login("salmon", "secret").map_err(|(error, _)| error)?;
/// session.select("INBOX")?;
/// session.idle().wait_while(stop_on_any)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl SetReadTimeout for Socket {
    fn set_read_timeout(&mut self, timeout: Option<Duration>) -> ::imap::Result<()> {
        let set = Socket::set_read_timeout(self, timeout);
        set.map_err(|error: Error| ::imap::Error::Io(error.into()))
    }
}
