//! `BlockingReceive`: which reads may wait in the receive itself.

/// When a read in a fast dialogue may wait in the receive itself, where no other thread can end the wait at once: see
/// [`TcpOptions::blocking_receive`](crate::TcpOptions::blocking_receive).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BlockingReceive {
    /// As long as one thread alone has used the socket. Reads, writes, `opened`, `closed` and new limits are uses, and so is
    /// `connect`, but not `accept`: servers often accept on one thread and serve on another.
    #[default]
    OneThread,
    /// Always. For programs that can wait 20 ms for the end of a read.
    Always,
    /// Never. For programs whose other threads end reads, and have not used the socket before.
    Never,
}
