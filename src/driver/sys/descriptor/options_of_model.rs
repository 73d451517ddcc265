//! The model has no descriptors, and so no options.

use std::fmt::DebugStruct;
use std::io;

use super::Descriptor;

#[expect(clippy::unused_self, reason = "the same signatures as outside the model")]
impl Descriptor {
    pub(crate) fn set_nodelay(&self, _on: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn nodelay(&self) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn set_ttl(&self, _ttl: u32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn ttl(&self) -> io::Result<u32> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn describe<'a, 'b, 'c>(
        &self,
        shown: &'c mut DebugStruct<'a, 'b>,
    ) -> &'c mut DebugStruct<'a, 'b> {
        shown
    }
}
