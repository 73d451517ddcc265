//! Options that streams and listeners of `std` have.

use std::fmt::DebugStruct;
use std::io;

use socket2::SockRef;

use super::Descriptor;

impl Descriptor {
    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        SockRef::from(self).set_tcp_nodelay(on)
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        SockRef::from(self).tcp_nodelay()
    }

    /// Sets the time to live, or the hop limit of IPv6.
    pub(crate) fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let socket = SockRef::from(self);
        if !socket.local_addr()?.is_ipv6() {
            return socket.set_ttl_v4(ttl);
        }
        // For the IPv4 clients of a listener. Some systems refuse the option on an IPv6 socket.
        let _ = socket.set_ttl_v4(ttl);
        socket.set_unicast_hops_v6(ttl)
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        let socket = SockRef::from(self);
        if socket.local_addr()?.is_ipv6() { socket.unicast_hops_v6() } else { socket.ttl_v4() }
    }

    /// Adds the number to the output of a `Debug`, under the name that `std` uses.
    pub(crate) fn describe<'a, 'b, 'c>(
        &self,
        shown: &'c mut DebugStruct<'a, 'b>,
    ) -> &'c mut DebugStruct<'a, 'b> {
        #[cfg(unix)]
        shown.field("fd", &std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(self)));
        #[cfg(windows)]
        shown.field(
            "socket",
            &std::os::windows::io::AsRawSocket::as_raw_socket(
                &std::os::windows::io::AsSocket::as_socket(self),
            ),
        );
        shown
    }
}
