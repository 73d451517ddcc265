//! The TCP settings of a socket, and the ranges of their values.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::BlockingReceive;
use crate::error::{Error, Result};

/// Range of a user timeout on Linux, where it is an `int` of milliseconds.
const USER_TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_millis(i32::MAX as u64);

/// Maximum length of an interface's name on Linux, in bytes. The kernel cuts off longer names, and could then find
/// another interface.
const MAX_DEVICE_NAME: usize = 15;

/// Highest DSCP: it has 6 bits.
const MAX_DSCP: u8 = 63;

const LINUX: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// Range of the limit of one spin.
const BUSY_POLLS: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_millis(10);

/// TCP settings, applied before the connection attempt.
#[derive(Clone)]
pub struct TcpOptions {
    /// `None` if the program has not chosen.
    pub(crate) nodelay: Option<bool>,
    pub(crate) bind: Option<SocketAddr>,
    /// Options are moved several times for each connection, so what few programs set is elsewhere.
    pub(super) rare: Option<Box<RareTcpOptions>>,
}

/// TCP settings that few programs change.
#[derive(Clone, Debug)]
pub(crate) struct RareTcpOptions {
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) user_timeout: Option<Duration>,
    pub(crate) recv_buffer_size: Option<usize>,
    pub(crate) send_buffer_size: Option<usize>,
    pub(crate) multipath: bool,
    pub(crate) bind_device: Option<Box<str>>,
    pub(crate) mark: Option<u32>,
    pub(crate) dscp: Option<u8>,
    pub(crate) busy_poll: Option<Duration>,
    pub(crate) blocking_receive: BlockingReceive,
}

impl RareTcpOptions {
    const DEFAULTS: RareTcpOptions = RareTcpOptions {
        keepalive: None,
        user_timeout: None,
        recv_buffer_size: None,
        send_buffer_size: None,
        multipath: false,
        bind_device: None,
        mark: None,
        dscp: None,
        busy_poll: None,
        blocking_receive: BlockingReceive::OneThread,
    };
}

impl TcpOptions {
    /// Returns the defaults: `TCP_NODELAY` is set, and everything else is left to the operating system.
    #[must_use]
    pub fn new() -> Self {
        TcpOptions { nodelay: None, bind: None, rare: None }
    }

    /// Sets `TCP_NODELAY`, which sends small segments at once. Default `true`.
    #[must_use]
    #[doc(alias("TCP_NODELAY", "setNoDelay"))]
    pub fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = Some(on);
        self
    }

    /// Probes an idle connection (`SO_KEEPALIVE`). Default: no probes. If the peer does not answer the probes, the
    /// connection ends with [`Lost`](crate::ErrorKind::Lost).
    #[must_use]
    #[doc(alias("SO_KEEPALIVE", "setKeepAlive"))]
    pub fn keepalive(mut self, keepalive: Keepalive) -> Self {
        self.rare_mut().keepalive = Some(keepalive);
        self
    }

    /// Limits how long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482). The connection then ends with
    /// [`Lost`](crate::ErrorKind::Lost). From 1 ms to 2,147,483,647 ms (24.8 days); fractions of a millisecond are
    /// dropped. Default: left to the operating system. Linux only: elsewhere [`connect_with`](crate::connect_with)
    /// fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    #[must_use]
    #[doc(alias("TCP_USER_TIMEOUT"))]
    pub fn user_timeout(mut self, limit: Duration) -> Self {
        self.rare_mut().user_timeout = Some(limit);
        self
    }

    /// Sets the local address and port to connect from. Addresses of the other family are skipped. With a port other
    /// than 0, attempts run one after another. Default: chosen by the kernel.
    ///
    /// With port 0 the kernel chooses the port. Linux does so on connect (`IP_BIND_ADDRESS_NO_PORT`), so connections
    /// to different peers can share a port. Other systems choose it earlier, and no two bound connections of this
    /// address can then share a port. There are only about 16,000 to 28,000 ports.
    #[must_use]
    pub fn bind(mut self, local: SocketAddr) -> Self {
        self.bind = Some(local);
        self
    }

    /// Sets the size of the kernel's receive buffer (`SO_RCVBUF`), from 1 to 2,147,483,647 bytes. Default: left to
    /// the operating system, which grows it as needed.
    ///
    /// Linux doubles the value, and caps it at `net.core.rmem_max`. BSD systems and macOS refuse more than
    /// `kern.ipc.maxsockbuf`, and the connection fails with [`Io`](crate::ErrorKind::Io).
    #[must_use]
    #[doc(alias("SO_RCVBUF"))]
    pub fn recv_buffer_size(mut self, bytes: usize) -> Self {
        self.rare_mut().recv_buffer_size = Some(bytes);
        self
    }

    /// Sets the size of the kernel's send buffer (`SO_SNDBUF`), from 1 to 2,147,483,647 bytes. Limited like
    /// [`recv_buffer_size`](Self::recv_buffer_size), on Linux by `net.core.wmem_max`. Default: left to the operating
    /// system, which grows it as needed.
    #[must_use]
    #[doc(alias("SO_SNDBUF"))]
    pub fn send_buffer_size(mut self, bytes: usize) -> Self {
        self.rare_mut().send_buffer_size = Some(bytes);
        self
    }

    /// Uses Multipath TCP (RFC 8684) if the system and the peer support it, and TCP otherwise. Default `false`. Linux
    /// only: elsewhere [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// The system does not support it if it is turned off (`net.mptcp.enabled`), or if Multipath TCP of its version
    /// lacks another option that is set. Such a socket uses TCP.
    ///
    /// ```
    /// # #[cfg(target_os = "linux")] {
    /// use sockeye::{ListenOptions, SocketOptions, TcpOptions};
    ///
    /// let options = SocketOptions::new().tcp(TcpOptions::new().multipath(true));
    /// let listener = sockeye::listen_with("127.0.0.1:0", ListenOptions::new().socket(options.clone()))?;
    /// let address = listener.local_address().unwrap();
    ///
    /// let client = sockeye::connect_with(address, options)?;
    /// client.opened()?;
    /// # listener.accept()?.opened()?;
    /// # }
    /// # Ok::<(), sockeye::Error>(())
    /// ```
    #[must_use]
    #[doc(alias("MPTCP", "IPPROTO_MPTCP", "SetMultipathTCP"))]
    pub fn multipath(mut self, on: bool) -> Self {
        self.rare_mut().multipath = on;
        self
    }

    /// Sends and receives only through the network interface with this name, such as `eth0` (`SO_BINDTODEVICE`; on
    /// macOS `IP_BOUND_IF`). From 1 to 15 bytes. Default: the routing tables choose. Linux and Apple's systems:
    /// elsewhere [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// If there is no such interface, the connection fails with [`Io`](crate::ErrorKind::Io).
    #[must_use]
    #[doc(alias("SO_BINDTODEVICE", "IP_BOUND_IF", "interface"))]
    pub fn bind_device(mut self, name: &str) -> Self {
        self.rare_mut().bind_device = Some(name.into());
        self
    }

    /// Sets the mark of packets, for routing rules and packet filters (`SO_MARK`). Default: none. Linux only: elsewhere
    /// [`connect_with`](crate::connect_with) fails with [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// It needs the capability `CAP_NET_ADMIN`, or `CAP_NET_RAW` since Linux 5.17. Without, the connection fails with
    /// [`Io`](crate::ErrorKind::Io).
    #[must_use]
    #[doc(alias("SO_MARK", "fwmark"))]
    pub fn mark(mut self, mark: u32) -> Self {
        self.rare_mut().mark = Some(mark);
        self
    }

    /// Sets the DSCP of packets (RFC 2474; `IP_TOS` and `IPV6_TCLASS`), from 0 to 63. Default: left to the operating
    /// system, which uses 0. On Windows and Solaris [`connect_with`](crate::connect_with) fails with
    /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions).
    ///
    /// A listener on `[::]` sets it for IPv4 clients only on Linux.
    #[must_use]
    #[doc(alias("IP_TOS", "IPV6_TCLASS", "DiffServ", "traffic class"))]
    pub fn dscp(mut self, value: u8) -> Self {
        self.rare_mut().dscp = Some(value);
        self
    }

    /// Spins before it waits: a read that finds nothing retries on its own thread for up to `limit`, from 1 µs to 10 ms.
    /// Default: no spinning. Fractions of a microsecond are dropped.
    ///
    /// Spinning occupies a processor, so the program should have one to spare. After 8 unsuccessful spins in a row the
    /// socket waits without spinning, until data arrives within `limit` again. If spins keep failing, that has to happen
    /// more often each time. [`close`](crate::Socket::close), [`abort`](crate::Socket::abort) and deadlines end a spin within
    /// one try, about a microsecond. `SO_BUSY_POLL` is not set: it needs a privilege, and helps only with network cards
    /// that support it. Use [`Socket::descriptor`](crate::Socket::descriptor) to set it.
    ///
    /// [`Socket::set_busy_poll`](crate::Socket::set_busy_poll) changes it later.
    #[must_use]
    #[doc(alias("SO_BUSY_POLL", "spin"))]
    pub fn busy_poll(mut self, limit: Duration) -> Self {
        self.rare_mut().busy_poll = Some(limit);
        self
    }

    /// Sets whether a read in a fast dialogue may wait in the receive itself. Default [`BlockingReceive::OneThread`]. Has no
    /// effect except on Linux and Android.
    ///
    /// After 16 waits of less than 2 ms each, such a read makes one system call instead of two, which saves about 5 % of a
    /// round trip. [`close`](crate::Socket::close), [`abort`](crate::Socket::abort) and a new deadline of another thread
    /// end that wait up to 20 ms late. Every other wait they end at once.
    #[must_use]
    pub fn blocking_receive(mut self, when: BlockingReceive) -> Self {
        self.rare_mut().blocking_receive = when;
        self
    }

    /// Returns the settings that few programs change.
    pub(crate) fn rare(&self) -> &RareTcpOptions {
        self.rare.as_deref().unwrap_or(&RareTcpOptions::DEFAULTS)
    }

    fn rare_mut(&mut self) -> &mut RareTcpOptions {
        self.rare.get_or_insert_with(|| Box::new(RareTcpOptions::DEFAULTS))
    }

    /// Returns whether `TCP_NODELAY` is to be set.
    pub(crate) fn sets_nodelay(&self) -> bool {
        self.nodelay.unwrap_or(true)
    }

    pub(super) fn check(&self) -> Result<()> {
        let Some(rare) = &self.rare else { return Ok(()) };
        if let Some(keepalive) = rare.keepalive {
            keepalive.check()?;
        }
        if let Some(limit) = rare.user_timeout {
            check_support("user_timeout", LINUX)?;
            if !USER_TIMEOUTS.contains(&limit) {
                let range = "1 ms to 2147483647 ms (24.8 days)";
                return Err(Error::invalid_options(format!(
                    "user_timeout {limit:?} is not in {range}"
                )));
            }
        }
        check_busy_poll(rare.busy_poll)?;
        check_size("recv_buffer_size", rare.recv_buffer_size)?;
        check_size("send_buffer_size", rare.send_buffer_size)?;
        if rare.multipath {
            check_support("multipath", cfg!(target_os = "linux"))?;
        }
        if let Some(name) = &rare.bind_device {
            check_support("bind_device", LINUX || cfg!(target_vendor = "apple"))?;
            check_device(name)?;
        }
        if rare.mark.is_some() {
            check_support("mark", LINUX)?;
        }
        if let Some(value) = rare.dscp {
            check_support(
                "dscp",
                cfg!(unix) && !cfg!(any(target_os = "solaris", target_os = "illumos")),
            )?;
            if value > MAX_DSCP {
                return Err(Error::invalid_options(format!("dscp {value} is not in 0 to 63")));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TcpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TcpOptions { nodelay, bind, rare: _ } = self;
        let RareTcpOptions {
            keepalive,
            user_timeout,
            recv_buffer_size,
            send_buffer_size,
            multipath,
            bind_device,
            mark,
            dscp,
            busy_poll,
            blocking_receive,
        } = self.rare();
        f.debug_struct("TcpOptions")
            .field("nodelay", nodelay)
            .field("keepalive", keepalive)
            .field("user_timeout", user_timeout)
            .field("bind", bind)
            .field("recv_buffer_size", recv_buffer_size)
            .field("send_buffer_size", send_buffer_size)
            .field("multipath", multipath)
            .field("bind_device", bind_device)
            .field("mark", mark)
            .field("dscp", dscp)
            .field("busy_poll", busy_poll)
            .field("blocking_receive", blocking_receive)
            .finish()
    }
}

impl Default for TcpOptions {
    fn default() -> Self {
        TcpOptions::new()
    }
}

fn check_support(name: &str, is_supported: bool) -> Result<()> {
    if is_supported {
        return Ok(());
    }
    Err(Error::invalid_options(format!("this operating system does not support {name}")))
}

fn check_device(name: &str) -> Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > MAX_DEVICE_NAME {
        "has more than 15 bytes"
    } else if name.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
        "has a character that no interface's name can have"
    } else {
        return Ok(());
    };
    Err(Error::invalid_options(format!("bind_device {name:?} {problem}")))
}

pub(crate) fn check_busy_poll(limit: Option<Duration>) -> Result<()> {
    match limit {
        Some(limit) if !BUSY_POLLS.contains(&limit) => {
            Err(Error::invalid_options(format!("busy_poll {limit:?} is not in 1 µs to 10 ms")))
        }
        _ => Ok(()),
    }
}

fn check_size(name: &str, bytes: Option<usize>) -> Result<()> {
    match bytes {
        Some(bytes) if bytes == 0 || i32::try_from(bytes).is_err() => {
            Err(Error::invalid_options(format!("{name} {bytes} is not in 1 to 2147483647 bytes")))
        }
        _ => Ok(()),
    }
}

/// Keepalive probing (RFC 1122, section 4.2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe: 1 s to 32,767 s; fractions of a second are rounded up.
    pub idle: Duration,
    /// Time between probes: 1 s to 32,767 s; fractions of a second are rounded up.
    pub interval: Duration,
    /// Number of unanswered probes after which the connection is lost: 1 to 127.
    pub retries: u32,
}

impl Keepalive {
    fn check(self) -> Result<()> {
        for (name, time) in [("idle", self.idle), ("interval", self.interval)] {
            if time < Duration::from_secs(1) || time > Duration::from_secs(32_767) {
                return Err(Error::invalid_options(format!(
                    "keepalive {name} {time:?} is not in 1 s to 32767 s"
                )));
            }
        }
        match self.retries {
            1..=127 => Ok(()),
            retries => Err(Error::invalid_options(format!(
                "keepalive retries {retries} is not in 1 to 127"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn invalid_values_are_refused_by_name() {
        let zero = Duration::ZERO;
        let keepalive = Keepalive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            retries: 3,
        };
        check(TcpOptions::new().recv_buffer_size(0), "recv_buffer_size");
        check(TcpOptions::new().send_buffer_size(usize::MAX), "send_buffer_size");
        check(TcpOptions::new().user_timeout(zero), "user_timeout");
        check(TcpOptions::new().keepalive(Keepalive { retries: 0, ..keepalive }), "retries");
        check(TcpOptions::new().keepalive(Keepalive { idle: zero, ..keepalive }), "idle");
        check(
            TcpOptions::new().keepalive(Keepalive { interval: Duration::MAX, ..keepalive }),
            "interval",
        );
        assert!(TcpOptions::new().keepalive(keepalive).check().is_ok());
    }

    /// Checks values just outside each range. A test with sockets checks that the kernel accepts the ends.
    #[test]
    fn a_value_just_beyond_its_range_is_refused() {
        let second = Duration::from_secs(1);
        let nano = Duration::from_nanos(1);
        if cfg!(any(target_os = "linux", target_os = "android")) {
            let most = Duration::from_millis(2_147_483_647);
            for limit in [Duration::from_millis(1), most] {
                TcpOptions::new().user_timeout(limit).check().unwrap();
            }
            for limit in [Duration::from_millis(1) - nano, most + nano, 30 * 86_400 * second] {
                check(TcpOptions::new().user_timeout(limit), "user_timeout");
            }
        }
        let (least, most) = (Duration::from_micros(1), Duration::from_millis(10));
        for limit in [least, most] {
            TcpOptions::new().busy_poll(limit).check().unwrap();
        }
        for limit in [Duration::ZERO, least - nano, most + nano] {
            check(TcpOptions::new().busy_poll(limit), "busy_poll");
        }
        for bytes in [0, 1 << 31, usize::MAX] {
            check(TcpOptions::new().recv_buffer_size(bytes), "recv_buffer_size");
            check(TcpOptions::new().send_buffer_size(bytes), "send_buffer_size");
        }
        let good = Keepalive { idle: second, interval: second, retries: 1 };
        for time in [second - nano, 32_767 * second + nano] {
            check(TcpOptions::new().keepalive(Keepalive { idle: time, ..good }), "idle");
            check(TcpOptions::new().keepalive(Keepalive { interval: time, ..good }), "interval");
        }
        for retries in [0, 128, u32::MAX] {
            check(TcpOptions::new().keepalive(Keepalive { retries, ..good }), "retries");
        }
    }

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        if !LINUX && !cfg!(target_vendor = "apple") {
            return check(TcpOptions::new().bind_device("lo"), "does not support bind_device");
        }
        for name in ["lo", "eth0.100", "abcdefghijklmno", "ä"] {
            TcpOptions::new().bind_device(name).check().unwrap();
        }
        for name in ["", "abcdefghijklmnop", "a/b", "a b", "a\0", "a\n"] {
            check(TcpOptions::new().bind_device(name), &format!("bind_device {name:?}"));
        }
    }

    #[test]
    fn marks_and_multipath_are_for_linux_and_a_dscp_has_six_bits() {
        for mark in [0, u32::MAX] {
            let options = TcpOptions::new().mark(mark);
            match LINUX {
                true => options.check().unwrap(),
                false => check(options, "does not support mark"),
            }
        }
        match cfg!(target_os = "linux") {
            true => TcpOptions::new().multipath(true).check().unwrap(),
            false => check(TcpOptions::new().multipath(true), "does not support multipath"),
        }
        TcpOptions::new().multipath(false).check().unwrap();
        if cfg!(windows) {
            return check(TcpOptions::new().dscp(0), "does not support dscp");
        }
        for value in [0, 46, 63] {
            TcpOptions::new().dscp(value).check().unwrap();
        }
        for value in [64, 255] {
            check(TcpOptions::new().dscp(value), "dscp");
        }
    }

    fn check(options: TcpOptions, names: &str) {
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(names), "{error}");
    }
}
