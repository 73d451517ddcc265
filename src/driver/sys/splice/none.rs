//! No moves inside the kernel.

use std::convert::Infallible;
use std::io;

use crate::driver::sys::wire::Wire;

/// A pipe, which cannot be made.
#[derive(Debug)]
pub(crate) struct Pipe(Infallible);

impl Pipe {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn receive(&self, _wire: &Wire) -> io::Result<usize> {
        match self.0 {}
    }

    pub(crate) fn send(&self, _wire: &Wire, _len: usize) -> io::Result<usize> {
        match self.0 {}
    }
}

/// Does nothing, because no call raises the signal.
#[derive(Debug)]
pub(crate) struct BlockedSigpipe(());

impl BlockedSigpipe {
    #[expect(clippy::unnecessary_wraps, reason = "the same signature as on Linux")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(BlockedSigpipe(()))
    }
}
